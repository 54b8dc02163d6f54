//! People who use the site all the time: each logs in, changes something, reads it back, logs out, and begins anew.
//!
//! All that a visitor sees has to be its own and of now. The one thing that may go wrong is a change that was under way
//! on the host that was lost: then the visitor is told so, and does not know whether it was made.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::http::{Browser, Page};

/// How long a visitor looks at a page.
const LOOKS_FOR: Duration = Duration::from_millis(10);

/// One request as its visitor saw it.
#[derive(Clone, Debug)]
pub struct Visit {
    pub begun: Instant,
    pub ended: Instant,
    pub method: &'static str,
    #[expect(dead_code, reason = "told when a case fails")]
    pub path: &'static str,
    pub status: u16,
    /// The addresses of the hosts that nginx has asked, in order.
    pub hosts: Vec<String>,
}

impl Visit {
    pub fn has_failed(&self) -> bool {
        self.status >= 500
    }

    /// The host that has answered, or that was the last one not to.
    pub fn host(&self) -> &str {
        self.hosts.last().map_or("none", String::as_str)
    }
}

type Ledger = Arc<Mutex<Vec<Visit>>>;

#[derive(Debug)]
pub struct Visitors {
    stop: Arc<AtomicBool>,
    ledger: Ledger,
    visitors: Vec<JoinHandle<Result<Vec<String>, String>>>,
}

impl Visitors {
    /// So many visitors of the site at this port, on the machine that this thread is on.
    pub fn start(count: usize, port: u16) -> Visitors {
        let stop = Arc::new(AtomicBool::new(false));
        let ledger = Ledger::default();
        let visitors = (0..count).map(|number| {
            let (stop, ledger) = (Arc::clone(&stop), Arc::clone(&ledger));
            let mut visitor = Visitor {
                name: format!("visitor-{number}"),
                port,
                ledger,
                written: Vec::new(),
            };
            thread::spawn(move || {
                for round in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    visitor
                        .round(round)
                        .map_err(|wrong| format!("{}, round {round}: {wrong}", visitor.name))?;
                }
                Ok(visitor.written)
            })
        });
        let visitors = visitors.collect();
        Visitors {
            stop,
            ledger,
            visitors,
        }
    }

    /// All requests that have ended.
    pub fn visits(&self) -> Vec<Visit> {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.clone()
    }

    /// Lets every visitor finish its round, and has all requests looked at. What was written into the guestbook and told to
    /// be stored.
    #[track_caller]
    pub fn stop(self, look: impl FnOnce(&[Visit])) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let seen: Vec<Result<Vec<String>, String>> = self
            .visitors
            .into_iter()
            .map(|visitor| visitor.join().expect("a visitor does not panic"))
            .collect();
        look(&self.ledger.lock().unwrap_or_else(PoisonError::into_inner));
        let wrong: Vec<_> = seen.iter().filter_map(|seen| seen.as_ref().err()).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        seen.into_iter().flatten().flatten().collect()
    }
}

struct Visitor {
    name: String,
    port: u16,
    ledger: Ledger,
    written: Vec<String>,
}

impl Visitor {
    /// What is wrong, if anything is.
    fn round(&mut self, round: usize) -> Result<(), String> {
        let mut browser = Browser::new(self.port);
        self.get(&mut browser, "/login/")?;
        let name = self.name.clone();
        let login = [("username", name.as_str()), ("password", "any")];
        if !self.post(&mut browser, "/login/", &login)? {
            return Ok(());
        }
        let mut known = vec![String::new()];
        for change in 0..3 {
            let note = format!("{name} {round} {change}");
            if self.post(&mut browser, "/note", &[("text", &note)])? {
                known = vec![note];
            } else {
                known.push(note);
            }
            let page = self.get(&mut browser, "/note")?;
            let [user, seen] = two_lines(&page);
            if user != name || !known.iter().any(|note| note == seen) {
                return Err(format!(
                    "the session is {user:?}'s, with {seen:?}, not {known:?}"
                ));
            }
            known = vec![seen.to_owned()];
        }
        let text = format!("{name} {round}");
        if self.post(
            &mut browser,
            "/guestbook/",
            &[("name", "x"), ("text", &text)],
        )? {
            self.written.push(text);
        }
        let is_out = self.post(&mut browser, "/logout/", &[])?;
        let page = self.get(&mut browser, "/note")?;
        let [user, _] = two_lines(&page);
        if is_out && !user.is_empty() {
            return Err(format!("logged out, and still {user:?}"));
        }
        Ok(())
    }

    /// A page, which has to come: what only looks, nginx asks the other host for.
    fn get(&self, browser: &mut Browser, path: &'static str) -> Result<Page, String> {
        let page = self.visit("GET", path, |path| browser.get(path))?;
        match page.status {
            200 => Ok(page),
            status => Err(format!("GET {path}: status {status}: {}", page.body)),
        }
    }

    /// Whether the change was made, as far as the visitor is told.
    fn post(
        &self,
        browser: &mut Browser,
        path: &'static str,
        form: &[(&str, &str)],
    ) -> Result<bool, String> {
        let page = self.visit("POST", path, |path| browser.post(path, form))?;
        match page.status {
            200 | 302 => Ok(true),
            502 | 504 => Ok(false),
            status => Err(format!("POST {path}: status {status}: {}", page.body)),
        }
    }

    fn visit(
        &self,
        method: &'static str,
        path: &'static str,
        ask: impl FnOnce(&str) -> std::io::Result<Page>,
    ) -> Result<Page, String> {
        thread::sleep(LOOKS_FOR);
        let begun = Instant::now();
        let page = ask(path).map_err(|error| format!("{method} {path}: {error}"))?;
        let hosts = page.header("X-Hosts").unwrap_or_default();
        let visit = Visit {
            begun,
            ended: Instant::now(),
            method,
            path,
            status: page.status,
            hosts: hosts.split(", ").map(str::to_owned).collect(),
        };
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.push(visit);
        Ok(page)
    }
}

fn two_lines(page: &Page) -> [&str; 2] {
    let mut lines = page.body.lines();
    [(); 2].map(|()| lines.next().unwrap_or_default())
}
