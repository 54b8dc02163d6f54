//! The real Django site behind the real nginx.

use std::collections::HashSet;
use std::thread;

use nix::sys::signal::Signal;

use crate::support::daemon::Daemon;
use crate::support::http::{Browser, Page};
use crate::support::nginx::Nginx;
use crate::support::process::Process;
use crate::support::setup::{PROBE, Setup};
use crate::support::site::{PASSWORD, Site};
use crate::support::wait::until;

const POOL: &str = "pm = dynamic\npm.max_children = 32\npm.start_servers = 4\npm.min_spare_servers = 3\npm.max_spare_servers = 8";

#[track_caller]
fn get(browser: &mut Browser, path: &str) -> Page {
    let page = browser.get(path).expect("the site answers");
    assert_eq!(page.status, 200, "{path}: {}", page.body);
    page
}

/// The pid at the foot of a page.
#[track_caller]
fn made_by(page: &Page) -> i32 {
    let (_, after) = page
        .body
        .split_once("Made by worker <b>")
        .expect("the foot names the worker");
    after
        .split('<')
        .next()
        .and_then(|pid| pid.parse().ok())
        .expect("a pid")
}

#[test]
fn the_built_in_page_behind_nginx() {
    let setup = Setup::new().pool(
        "hello",
        "listen = @DIR@/run/tour.sock\napp = hello\npm = static\npm.max_children = 2",
    );
    setup.folder.write("run/.made", "");
    let daemon = setup.start();
    let nginx = Nginx::start(&daemon.folder);
    let page = get(&mut Browser::new(nginx.port), "/a/b?c=d");
    assert!(page.body.contains("/a/b?c=d"), "{}", page.body);
    drop(nginx);
}

#[test]
fn pages_and_forms() {
    let site = Site::start(POOL);
    let mut browser = site.browser();
    assert!(get(&mut browser, "/").body.contains("It works"));
    assert_eq!(
        browser.get("/nowhere").expect("the site answers").status,
        404
    );

    get(&mut browser, "/guestbook/");
    for number in 1..=10 {
        let text = format!("line {number}: größer & schöner <b>");
        let stored = browser
            .post("/guestbook/", &[("name", "Ada"), ("text", &text)])
            .expect("the site answers");
        assert_eq!(
            (stored.status, stored.header("location")),
            (302, Some("/guestbook/")),
            "{}",
            stored.body
        );
    }
    let page = get(&mut browser, "/guestbook/");
    for number in 1..=10 {
        assert!(
            page.body
                .contains(&format!("line {number}: größer &amp; schöner &lt;b&gt;")),
            "{}",
            page.body
        );
    }
    let refused = browser
        .post("/guestbook/", &[("name", "Ada"), ("text", "")])
        .expect("the site answers");
    assert!(refused.body.contains("This field is required."));
    let forged = Browser::new(site.nginx.port)
        .post("/guestbook/", &[("name", "x"), ("text", "y")])
        .expect("the site answers");
    assert_eq!(forged.status, 403);
}

/// A login and a session hold, whichever worker answers.
#[test]
fn login_and_session_over_several_workers() {
    let site = Site::start("pm = static\npm.max_children = 4");
    site.daemon.wait_for_workers("tour", 4);
    let mut browser = site.browser();
    let turned_away = browser.get("/account/").expect("the site answers");
    assert_eq!(
        (turned_away.status, turned_away.header("location")),
        (302, Some("/login/?next=/account/"))
    );
    get(&mut browser, "/login/");
    let wrong = browser
        .post("/login/", &[("username", "demo"), ("password", "guess")])
        .expect("the site answers");
    assert_eq!(wrong.status, 200);
    let right = browser
        .post("/login/", &[("username", "demo"), ("password", PASSWORD)])
        .expect("the site answers");
    assert_eq!(
        (right.status, right.header("location")),
        (302, Some("/account/")),
        "{}",
        right.body
    );

    // Load gathers on the first idle worker: others answer while it is held.
    let mut workers = HashSet::new();
    let mut views = 0;
    until("several workers have answered", || {
        let mut other = site.browser();
        let held = thread::spawn(move || other.get("/slow?ms=100"));
        while !held.is_finished() {
            views += 1;
            let page = get(&mut browser, "/counter/");
            assert!(
                page.body.contains(&format!("id=\"views\">{views}<")),
                "{}",
                page.body
            );
            let page = get(&mut browser, "/account/");
            assert!(page.body.contains("Hello, demo"), "{}", page.body);
            workers.insert(made_by(&page));
        }
        held.join()
            .expect("the client does not panic")
            .expect("the site answers");
        workers.len() >= 2
    });
    let out = browser.post("/logout/", &[]).expect("the site answers");
    assert_eq!(out.status, 302);
    assert_eq!(
        browser.get("/account/").expect("the site answers").status,
        302
    );
}

#[test]
fn a_burst_on_the_site_is_served_and_loses_nothing() {
    let site = Site::start(POOL);
    let visitors: Vec<_> = (0..30)
        .map(|number| {
            let mut browser = site.browser();
            thread::spawn(move || {
                let paths = ["/", "/guestbook/", "/slow?ms=200", "/counter/", "/login/"];
                for path in (0..10).map(|step| paths[(number + step) % paths.len()]) {
                    get(&mut browser, path);
                }
            })
        })
        .collect();
    for visitor in visitors {
        visitor.join().expect("every page is served");
    }
    assert!(site.daemon.workers("tour").len() <= 32);
}

/// The probe behind nginx, in a pool whose workers say when they begin to hold a page.
fn probe_behind_nginx(workers: usize) -> (Daemon, Nginx) {
    let pool = format!(
        "listen = @DIR@/run/tour.sock\npm = static\npm.max_children = {workers}\ncatch_workers_output = yes"
    );
    let setup = Setup::new().wsgi("probe", PROBE, &pool);
    setup.folder.write("run/.made", "");
    let daemon = setup.start();
    daemon.wait_for_workers("probe", workers);
    let nginx = Nginx::start(&daemon.folder);
    (daemon, nginx)
}

/// A worker that is killed costs its own page, which nginx shows as an error; all others are served.
#[test]
fn a_killed_worker_costs_one_page() {
    let (daemon, nginx) = probe_behind_nginx(3);
    let port = nginx.port;
    let held = thread::spawn(move || Browser::new(port).get("/hold?ms=10000"));
    let line = daemon.wait_for_line("[pool probe] child * said into stderr: \"held\"");
    let (_, after) = line
        .split_once("child ")
        .expect("the line names the worker");
    let victim = after
        .split(' ')
        .next()
        .and_then(|pid| pid.parse().ok())
        .and_then(Process::of);
    victim.expect("the worker runs").signal(Signal::SIGKILL);
    assert_eq!(
        held.join()
            .expect("the client does not panic")
            .expect("nginx answers")
            .status,
        502
    );
    for _ in 0..20 {
        get(&mut Browser::new(port), "/pid");
    }
    daemon.wait_for_workers("probe", 3);
}

/// The workers' list on the site itself agrees with what the test sees.
#[test]
fn the_site_shows_its_workers() {
    let site = Site::start("pm = static\npm.max_children = 3");
    site.daemon.wait_for_workers("tour", 3);
    let page = get(&mut site.browser(), "/workers/");
    for pid in site.daemon.worker_pids("tour") {
        assert!(
            page.body
                .contains(&format!("<td>{pid}</td><td>preforkd: pool tour</td>")),
            "{}",
            page.body
        );
    }
}

/// Stopping gracefully behind nginx: the page in flight is finished.
#[test]
fn quit_behind_nginx_finishes_the_page() {
    let (mut daemon, nginx) = probe_behind_nginx(2);
    let mut browser = Browser::new(nginx.port);
    let held = thread::spawn({
        let mut browser = browser.clone();
        move || browser.get("/hold?ms=1500")
    });
    daemon.wait_for_line("said into stderr: \"held\"");
    assert_eq!(daemon.stop(Signal::SIGQUIT).code(), Some(0));
    let page = held
        .join()
        .expect("the client does not panic")
        .expect("nginx answers");
    assert_eq!(page.status, 200, "{}", page.body);
    assert_eq!(browser.get("/pid").expect("nginx answers").status, 502);
}
