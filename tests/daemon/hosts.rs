//! One site on two hosts, behind one nginx, with one PostgreSQL and one memcached: a host is lost under load, or taken
//! out, and comes back.
//!
//! The machines are network namespaces of the case's own ([`network`]); what runs on them is the recipe of
//! packaging/docs/two-hosts.md ([`stage`]), and who uses the site sees to it that nothing is lost ([`visitors`]).

mod network;
mod stage;
mod visitors;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::support::http::Browser;
use crate::support::setup::is_root;
use crate::support::wait::until;
use stage::Stage;
use visitors::{Visit, Visitors};

const VISITORS: usize = 6;

/// Requests that show where the load goes.
const MANY: usize = 60;

/// Runs a case on a thread that may move from machine to machine.
fn on_own_thread(case: impl FnOnce() + Send + 'static) {
    if !is_root() {
        return;
    }
    if let Err(panic) = thread::spawn(case).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Waits until so many requests that began after `from` were answered, and returns them.
#[track_caller]
fn answered_since(visitors: &Visitors, from: Instant, count: usize) -> Vec<Visit> {
    let mut since = Vec::new();
    until(&format!("{count} requests are answered"), || {
        since = visitors.visits();
        since.retain(|visit| visit.begun >= from && !visit.has_failed());
        since.len() >= count
    });
    since
}

/// Waits until each host answers its part: at least a quarter of what is asked from then on.
#[track_caller]
fn both_answer(stage: &Stage, visitors: &Visitors) {
    until("both hosts have their part", || {
        let since = answered_since(visitors, Instant::now(), MANY);
        stage.hosts.iter().all(|host| {
            let own = since.iter().filter(|visit| visit.host() == host.address);
            own.count() * 4 >= since.len()
        })
    });
}

/// Waits until the first host answers all that is asked from then on.
#[track_caller]
fn first_answers_alone(stage: &Stage, visitors: &Visitors) {
    let first = stage.hosts[0].address;
    until("the first host answers alone", || {
        let since = answered_since(visitors, Instant::now(), MANY);
        since.iter().all(|visit| visit.hosts == [first])
    });
}

/// Ends the visits: nobody has lost a session, and what was stored is what visitors were told, each entry once. Whatever
/// has failed was a change that was on its way to the second host at one of these times, and no other host was asked.
#[track_caller]
fn nothing_else_is_lost(stage: &Stage, visitors: Visitors, times: &[[Instant; 2]]) {
    let written = visitors.stop(|visits| {
        for visit in visits.iter().filter(|visit| visit.has_failed()) {
            let is_excused = visit.method == "POST"
                && visit.hosts == [stage.hosts[1].address]
                && times
                    .iter()
                    .any(|[lost, back]| visit.ended > *lost && visit.begun < *back);
            assert!(is_excused, "{visit:?}");
        }
    });
    let stored = stage.network.on("store", || {
        stage.postgres.query("SELECT text FROM tour_entry")
    });
    for text in written {
        let count = stored.lines().filter(|line| *line == text).count();
        assert_eq!(count, 1, "'{text}' is stored {count} times");
    }
}

/// Asks for a page that does not end, and reads no more than its begin.
fn stuck_reader(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("nginx listens");
    stream
        .write_all(b"GET /endless HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        .expect("it reads");
    stream.read_exact(&mut [0; 100]).expect("the page begins");
    stream
}

#[test]
fn a_host_is_cut_off_and_comes_back() {
    on_own_thread(|| {
        let stage = Stage::start("cache");
        let [first, second] = &stage.hosts;
        let port = stage.nginx.port;
        let visitors = Visitors::start(VISITORS, port);
        both_answer(&stage, &visitors);
        let readers = [(); 6].map(|()| stuck_reader(port));
        for host in &stage.hosts {
            until("workers of both wait for who reads", || {
                stage.status(host, "active processes") > 0
            });
        }
        let looks =
            [(); 6].map(|()| thread::spawn(move || Browser::new(port).get("/slow?ms=1000")));

        assert!(stage.established(second.name, second) > 0);
        let lost = Instant::now();
        stage.network.cut_off(second.name);
        // Who waits for a page that the lost host was making gets it from the other.
        for look in looks {
            let page = look
                .join()
                .expect("it does not panic")
                .expect("nginx answers");
            assert_eq!(page.status, 200, "{}", page.body);
        }
        first_answers_alone(&stage, &visitors);
        // Pages that nobody takes, a database that does not answer, connections to nobody: none of it stays.
        until("its workers are free", || {
            stage.status(second, "active processes") == 0
        });
        until("its connections are gone, on both sides", || {
            stage.established(second.name, second) + stage.established("front", second) == 0
        });
        let line =
            "WARNING: [pool site] child *: the web server is out of reach: Connection timed out";
        second.daemon.wait_for_line(line);
        assert!(
            stage.status(first, "active processes") > 0,
            "its readers wait"
        );
        drop(readers);

        let back = Instant::now();
        stage.network.join(second.name);
        both_answer(&stage, &visitors);
        nothing_else_is_lost(&stage, visitors, &[[lost, back]]);
    });
}

#[test]
fn a_host_is_taken_out_or_dies_and_comes_back() {
    on_own_thread(|| {
        let mut stage = Stage::start("db");
        let visitors = Visitors::start(VISITORS, stage.nginx.port);
        both_answer(&stage, &visitors);

        stage.take_out_second(true);
        first_answers_alone(&stage, &visitors);
        let ended = stage.hosts[1].daemon.stop(Signal::SIGQUIT);
        assert!(ended.success(), "{ended}");
        stage.revive_second();
        stage.take_out_second(false);
        both_answer(&stage, &visitors);

        let lost = Instant::now();
        stage.kill_second();
        first_answers_alone(&stage, &visitors);
        let back = Instant::now();
        stage.revive_second();
        both_answer(&stage, &visitors);
        nothing_else_is_lost(&stage, visitors, &[[lost, back]]);
    });
}
