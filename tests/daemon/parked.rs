//! Kept connections that their worker has to part with stay open, and whoever is there answers what comes on them.

use std::fs;
use std::thread;

use nix::sys::signal::Signal;

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{Address, Connection, KEEP_CONN, Request};
use crate::support::setup::{PROBE, Setup};
use crate::support::wait::until;

/// A connection on which a page has been asked for, and the worker that answered.
fn keep(address: &Address) -> (Connection, String) {
    let mut kept = address.connect().expect("the pool listens");
    let pid = ask(&mut kept);
    (kept, pid)
}

#[track_caller]
fn ask(kept: &mut Connection) -> String {
    kept.send(&Request::get("/pid").bytes(1, KEEP_CONN))
        .expect("it is open");
    let answer = kept.answer().expect("the pool answers");
    answer.text().trim().to_owned()
}

fn probe(lines: &str) -> (Daemon, Address) {
    let daemon = Setup::new().wsgi("probe", PROBE, lines).start();
    let address = daemon.address("probe");
    (daemon, address)
}

/// Changes the configuration.
fn edit(daemon: &Daemon, from: &str, to: &str) {
    let path = daemon.folder.path("preforkd.conf");
    let before = fs::read_to_string(&path).expect("it was written");
    assert!(before.contains(from), "{before}");
    fs::write(path, before.replace(from, to)).expect("it can be written");
}

#[track_caller]
fn wait_for_end_of(daemon: &Daemon, pid: &str) {
    until("the worker has left", || {
        let workers = daemon.worker_pids("probe");
        workers.iter().all(|worker| worker.to_string() != pid)
    });
}

#[test]
fn more_connections_are_kept_than_there_are_workers() {
    let (_daemon, address) = probe("pm = static\npm.max_children = 2");
    let mut kept: Vec<Connection> = (0..20).map(|_| keep(&address).0).collect();
    for _ in 0..3 {
        for connection in &mut kept {
            ask(connection);
        }
    }
    // All at once.
    for connection in &mut kept {
        connection
            .send(&Request::get("/pid").bytes(1, KEEP_CONN))
            .expect("it is open");
    }
    for connection in &mut kept {
        assert_eq!(connection.answer().expect("the pool answers").status, 200);
    }
}

#[test]
fn the_connection_of_a_worker_that_is_recycled_is_kept() {
    let (daemon, address) = probe("pm = static\npm.max_children = 2\npm.max_requests = 1");
    let (mut kept, mut pid) = keep(&address);
    for _ in 0..5 {
        wait_for_end_of(&daemon, &pid);
        let before = std::mem::replace(&mut pid, ask(&mut kept));
        assert_ne!(pid, before);
    }
}

#[test]
fn connections_are_kept_over_a_reload() {
    let (daemon, address) = probe("pm = static\npm.max_children = 2");
    let mut kept: Vec<(Connection, String)> = (0..6).map(|_| keep(&address)).collect();
    let old = daemon.worker_pids("probe");
    daemon.signal(Signal::SIGUSR2);
    until("the old workers have left", || {
        let now = daemon.worker_pids("probe");
        now.iter().all(|pid| !old.contains(pid))
    });
    for (connection, pid) in &mut kept {
        assert_ne!(ask(connection), *pid);
    }
}

#[test]
fn a_request_on_a_kept_connection_brings_a_worker_where_there_is_none() {
    let (daemon, address) =
        probe("pm = ondemand\npm.max_children = 2\npm.process_idle_timeout = 1s");
    let (mut kept, _) = keep(&address);
    daemon.wait_for_workers("probe", 0);
    ask(&mut kept);
}

/// The connections that the master has are those of kept ones: it hands one on when a request has come.
fn descriptors(daemon: &Daemon) -> usize {
    let path = format!("/proc/{}/fd", daemon.pid());
    let open = fs::read_dir(path).expect("the master is there");
    open.count()
}

#[test]
fn requests_on_kept_connections_that_wait_are_answered_before_everything_ends() {
    let (mut daemon, address) = probe("pm = static\npm.max_children = 1");
    daemon.wait_for_workers("probe", 1);
    let before = descriptors(&daemon);
    let mut kept: Vec<Connection> = (0..5).map(|_| keep(&address).0).collect();
    let held = thread::spawn({
        let address = address.clone();
        move || address.get("/hold?ms=1000").expect("it is answered").status
    });
    daemon.wait_for_line("*said into stderr: \"held\"*");
    until("the master has the connections", || {
        descriptors(&daemon) == before + kept.len()
    });
    for connection in &mut kept {
        connection
            .send(&Request::get("/pid").bytes(1, KEEP_CONN))
            .expect("it is open");
    }
    until("the requests wait for the worker", || {
        descriptors(&daemon) == before
    });
    daemon.signal(Signal::SIGQUIT);
    for connection in &mut kept {
        assert_eq!(connection.answer().expect("it is answered").status, 200);
    }
    assert_eq!(held.join().expect("the client does not panic"), 200);
    assert_eq!(daemon.wait_for_end().code(), Some(0));
}

/// One worker that holds a request, connections kept on which nothing comes, and as many on which a request waits.
struct Occupied {
    daemon: Daemon,
    held: thread::JoinHandle<u16>,
    quiet: Vec<Connection>,
    waiting: Vec<Connection>,
    /// On connections that nobody has accepted.
    new: Vec<Connection>,
}

fn occupied() -> Occupied {
    let (daemon, address) = probe("pm = static\npm.max_children = 1");
    daemon.wait_for_workers("probe", 1);
    let before = descriptors(&daemon);
    let mut waiting: Vec<Connection> = (0..5).map(|_| keep(&address).0).collect();
    let quiet: Vec<Connection> = (0..5).map(|_| keep(&address).0).collect();
    let held = thread::spawn({
        let address = address.clone();
        move || {
            let answer = address.get("/hold?ms=3000").expect("it is answered");
            answer.status
        }
    });
    daemon.wait_for_line("*said into stderr: \"held\"*");
    until("the master has the connections", || {
        descriptors(&daemon) == before + quiet.len() + waiting.len()
    });
    let request = Request::get("/pid").bytes(1, KEEP_CONN);
    for connection in &mut waiting {
        connection.send(&request).expect("it is open");
    }
    until("the requests wait for the worker", || {
        descriptors(&daemon) == before + quiet.len()
    });
    let new = (0..3).map(|_| {
        let mut connection = address.connect().expect("the pool listens");
        connection.send(&request).expect("it is open");
        connection
    });
    Occupied {
        new: new.collect(),
        daemon,
        held,
        quiet,
        waiting,
    }
}

impl Occupied {
    /// Nobody comes after the worker.
    #[track_caller]
    fn comes_to_its_end(self) -> Daemon {
        for mut connection in self.quiet {
            connection.expect_end().expect("it is closed");
        }
        assert!(!self.held.is_finished(), "nobody has waited for the worker");
        for mut connection in self.waiting.into_iter().chain(self.new) {
            assert_eq!(connection.answer().expect("it is answered").status, 200);
            connection.expect_end().expect("it is closed");
        }
        assert_eq!(self.held.join().expect("the client does not panic"), 200);
        self.daemon
    }
}

/// The web server is to look for somebody else, instead of sending what nobody answers.
#[test]
fn kept_connections_are_closed_at_once_when_everything_ends() {
    let occupied = occupied();
    occupied.daemon.signal(Signal::SIGQUIT);
    let mut daemon = occupied.comes_to_its_end();
    assert_eq!(daemon.wait_for_end().code(), Some(0));
}

#[test]
fn those_of_an_older_generation_are_closed_as_well_when_everything_ends() {
    let (mut daemon, address) = probe("pm = static\npm.max_children = 2");
    daemon.wait_for_workers("probe", 2);
    let mut held = ["/hold?ms=1500", "/hold?ms=4000"].map(|path| {
        let mut connection = address.connect().expect("the pool listens");
        let request = Request::get(path).bytes(1, KEEP_CONN);
        connection.send(&request).expect("it is open");
        connection
    });
    until("both workers hold a request", || {
        daemon.lines_like("*said into stderr: \"held\"*").len() == 2
    });
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("*generation 2 has taken over");
    daemon.signal(Signal::SIGQUIT);
    let [short, long] = &mut held;
    assert_eq!(short.answer().expect("it is answered").status, 200);
    short.expect_end().expect("it is closed");
    // Not by the end of the other one.
    daemon.wait_for_workers("probe", 1);
    assert_eq!(long.answer().expect("it is answered").status, 200);
    assert_eq!(daemon.wait_for_end().code(), Some(0));
}

#[test]
fn a_pool_that_leaves_its_address_answers_who_waits_there() {
    let occupied = occupied();
    edit(&occupied.daemon, "/probe.sock", "/elsewhere.sock");
    let before = occupied.daemon.address("probe");
    occupied.daemon.signal(Signal::SIGUSR2);
    until("nobody else is let in", || before.connect().is_err());
    let daemon = occupied.comes_to_its_end();
    keep(&daemon.address("elsewhere"));
}

#[test]
fn kept_connections_go_with_their_address_to_another_pool() {
    let (daemon, address) = probe("pm = static\npm.max_children = 2");
    let mut kept: Vec<Connection> = (0..6).map(|_| keep(&address).0).collect();
    edit(&daemon, "[probe]", "[other]");
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("*pool other] generation 1 has taken over");
    daemon.wait_for_workers("probe", 0);
    let others = daemon.worker_pids("other");
    for connection in &mut kept {
        let pid: i32 = ask(connection).parse().expect("a pid");
        assert!(others.contains(&pid), "{pid} {others:?}");
    }
}

#[test]
fn what_nobody_keeps_any_more_is_let_go_and_not_all_is_kept() {
    let (daemon, address) = probe("pm = static\npm.max_children = 1");
    let descriptors = || descriptors(&daemon);
    daemon.wait_for_workers("probe", 1);
    let before = descriptors();
    let mut kept: Vec<Connection> = (0..250).map(|_| keep(&address).0).collect();
    until("the master has what the worker parted with", || {
        (before + 150..before + 230).contains(&descriptors())
    });
    kept[0].expect_end().expect("the oldest is closed");
    ask(&mut kept[249]);
    ask(&mut kept[200]);
    drop(kept);
    until("the master has let go of what has ended", || {
        descriptors() <= before
    });
}
