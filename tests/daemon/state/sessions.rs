//! Many visitors, each with a session, while the workers that serve them come and go.
//!
//! Each logs in, changes what its session has, reads it back, and logs out, again and again. Every page must show its own
//! name and its own last note, whichever worker made it.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::Signal;

use crate::support::http::Browser;
use crate::support::site::Site;
use crate::support::stores::{Memcached, Postgres};
use crate::support::wait::until;

use super::{filled, memcached, postgresql, recipe, site};

const VISITORS: usize = 6;
const RELOADS: usize = 2;

/// Workers that are replaced after a few pages, each at another time.
const POOL: &str = "pm = static\npm.max_children = 5\npm.max_requests = 12";

/// A visitor and its browser.
#[derive(Debug)]
pub struct Visitor {
    name: String,
    browser: Browser,
    /// The workers that have answered.
    pub workers: HashSet<i32>,
}

impl Visitor {
    pub fn new(site: &Site, name: &str) -> Visitor {
        Visitor {
            name: name.to_owned(),
            browser: site.browser(),
            workers: HashSet::new(),
        }
    }

    #[track_caller]
    pub fn log_in(&mut self) {
        let form = self.browser.get("/login/").expect("the site answers");
        assert_eq!(form.status, 200, "{}: {}", self.name, form.body);
        let page = self
            .browser
            .post("/login/", &[("username", &self.name), ("password", "-")])
            .expect("the site answers");
        let to = page.header("location");
        assert_eq!((page.status, to), (302, Some("/account/")), "{}", page.body);
    }

    #[track_caller]
    pub fn log_out(&mut self) {
        let page = self.browser.post("/logout/", &[]);
        assert_eq!(page.expect("the site answers").status, 302, "{}", self.name);
    }

    /// Writes a note into the session.
    #[track_caller]
    pub fn write(&mut self, note: &str) {
        let page = self.browser.post("/note", &[("text", note)]);
        let page = page.expect("the site answers");
        self.expect(&page.body, page.status, &self.name.clone(), note);
    }

    /// The session still has this note.
    #[track_caller]
    pub fn read(&mut self, note: &str) {
        let page = self.browser.get("/note").expect("the site answers");
        self.expect(&page.body, page.status, &self.name.clone(), note);
    }

    /// Whether there is a session still.
    #[track_caller]
    pub fn is_logged_in(&mut self) -> bool {
        let page = self.browser.get("/account/").expect("the site answers");
        page.status == 200
    }

    /// There is no session any more.
    #[track_caller]
    pub fn is_forgotten(&mut self) {
        let page = self.browser.get("/note").expect("the site answers");
        self.expect(&page.body, page.status, "", "");
        let page = self.browser.get("/account/").expect("the site answers");
        assert_eq!(page.status, 302, "{}: {}", self.name, page.body);
    }

    #[track_caller]
    fn expect(&mut self, page: &str, status: u16, name: &str, note: &str) {
        let lines: Vec<&str> = page.split('\n').collect();
        assert!(
            matches!(lines[..], [has_name, has_note, _] if (has_name, has_note) == (name, note)),
            "{} with the note '{note}' is shown ({status}): {page}",
            self.name
        );
        self.workers
            .insert(lines[2].parse().expect("it is a worker's pid"));
    }

    /// One visit from login to logout. Whoever has copied the cookies before the logout still has the session after it if
    /// the session is nowhere else than `in_the_cookie`.
    fn visit(&mut self, round: usize, in_the_cookie: bool) {
        self.log_in();
        let mut note = String::new();
        for step in 0..4 {
            note = format!("{} in round {round}, step {step}", self.name);
            self.write(&note);
            self.read(&note);
        }
        let mut thief = Visitor {
            name: self.name.clone(),
            browser: self.browser.clone(),
            workers: HashSet::new(),
        };
        self.log_out();
        self.is_forgotten();
        if in_the_cookie {
            thief.read(&note);
        } else {
            thief.is_forgotten();
        }
    }
}

/// Tells the visitors that it is over, also when the case fails: they would go on for ever.
struct Bell<'a>(&'a AtomicBool);

impl Drop for Bell<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Not one session is lost or mixed up with these settings.
#[track_caller]
fn sessions_hold(settings: &str, in_the_cookie: bool) {
    let site = site(settings, POOL);
    let over = AtomicBool::new(false);
    let workers = Mutex::new(HashSet::new());
    thread::scope(|scope| {
        let bell = Bell(&over);
        let visitors: Vec<_> = (0..VISITORS)
            .map(|number| {
                let mut visitor = Visitor::new(&site, &format!("visitor-{number}"));
                let (over, workers) = (&over, &workers);
                scope.spawn(move || {
                    let mut round = 0;
                    while !over.load(Ordering::Relaxed) {
                        visitor.visit(round, in_the_cookie);
                        round += 1;
                        let mut workers = workers.lock().expect("nobody fails here");
                        workers.extend(visitor.workers.drain());
                    }
                })
            })
            .collect();
        let one_failed = || visitors.iter().any(|visitor| visitor.is_finished());
        for generation in 2..2 + RELOADS {
            let done = format!("NOTICE: [pool tour] generation {generation} has taken over");
            site.daemon.signal(Signal::SIGUSR2);
            site.daemon.wait_for_line(&done);
        }
        // As many as there are in all generations, and as many again that were replaced.
        until("workers are replaced", || {
            one_failed() || workers.lock().expect("nobody fails here").len() > 10 * (1 + RELOADS)
        });
        drop(bell);
        for visitor in visitors {
            visitor.join().expect("every page is as it should be");
        }
    });
    assert_eq!(site.daemon.lines_like("Traceback"), [""; 0]);
    assert_eq!(site.daemon.lines_like("Django"), [""; 0]);
}

#[test]
fn sessions_in_postgresql_hold() {
    let postgres = Postgres::start();
    sessions_hold(&postgresql(&postgres), false);
    let left = postgres.query("SELECT count(*) FROM django_session");
    assert_eq!(left, "0", "every visitor has logged out");
}

#[test]
fn sessions_in_sqlite_hold() {
    let recipe = recipe("backends.sqlite3");
    let name = "\"/srv/site/db.sqlite3\"";
    sessions_hold(&filled(&recipe, name, "STATE / 'db.sqlite3'"), false);
}

/// They are in one of the two, each session in its own, and in no database.
#[test]
fn sessions_in_two_memcacheds_hold() {
    let servers = [Memcached::start(), Memcached::start()];
    sessions_hold(&memcached("cache", &servers), false);
}

#[test]
fn sessions_in_signed_cookies_hold() {
    let engine = "SESSION_ENGINE = 'django.contrib.sessions.backends.signed_cookies'\n";
    sessions_hold(engine, true);
}
