//! What an application can do to the master, which trusts none: it runs as the pool's user, with its worker's channel.

use std::collections::BTreeSet;
use std::fs;
use std::thread;

use nix::sys::signal::Signal;

use crate::support::daemon::Daemon;
use crate::support::setup::{Setup, is_root};
use crate::support::wait::{PATIENCE, until, until_some};

/// Each path but `/pid` does harm.
const HOSTILE: &str = r#"
import os, signal, socket

def channel():
    for name in os.listdir("/proc/self/fd"):
        try:
            end = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        if end.type == socket.SOCK_SEQPACKET:
            return end

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/real-time":
        os.kill(os.getpid(), signal.SIGRTMIN + 1)
    if path == "/killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if path == "/nonsense":
        channel().send(b"\xff")
        signal.pause()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"#;

const ONE: &str = "pm = static\npm.max_children = 1";

/// Asks for a page that the worker does not survive, and waits until another one answers.
fn replaced_after(daemon: &Daemon, path: &str) -> i32 {
    let address = daemon.address("hostile");
    let before = address.worker_pid();
    assert!(address.get(path).is_err(), "its worker survives {path}");
    until_some("another worker answers", PATIENCE, || {
        let page = address.get("/pid").ok()?.text();
        page.parse().ok().filter(|&pid: &i32| pid != before)
    });
    before
}

#[test]
fn a_death_by_a_real_time_signal_is_heard_of() {
    let mut daemon = Setup::new().wsgi("hostile", HOSTILE, ONE).start();
    let dead = replaced_after(&daemon, "/real-time");
    daemon.wait_for_line(&format!(
        "WARNING: [pool hostile] child {dead} exited on signal 35 after"
    ));
    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
}

#[test]
fn who_sends_nonsense_is_killed_and_replaced() {
    let daemon = Setup::new().wsgi("hostile", HOSTILE, ONE).start();
    let dead = replaced_after(&daemon, "/nonsense");
    daemon.wait_for_line(&format!(
        "WARNING: [pool hostile] child {dead} sends what makes no sense, killing it"
    ));
    daemon.wait_for_line(&format!("child {dead} exited on signal 9 (SIGKILL) after"));
}

/// A mold that is a reaper of orphans itself has its workers for children: the master does not hear of their deaths, and
/// must not signal what may be somebody else by then.
#[test]
fn workers_that_are_not_the_masters_children_are_let_go() {
    let reaper = "import ctypes\nPR_SET_CHILD_SUBREAPER = 36\nctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)\n";
    let mut daemon = Setup::new()
        .wsgi("hostile", &format!("{reaper}{HOSTILE}"), ONE)
        .start();
    let dead = replaced_after(&daemon, "/killed");
    daemon.wait_for_line(&format!(
        "WARNING: [pool hostile] child {dead} is not a child of this daemon, letting go of it"
    ));
    let address = daemon.address("hostile");
    let in_flight = thread::spawn(move || address.get("/pid"));
    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
    // Whether it got an answer is the worker's affair; that the daemon ended is what counts.
    let _ = in_flight.join().expect("the client does not panic");
}

/// The scoreboards that a process has mapped: their inodes, and whether it can write to them.
fn boards(pid: i32) -> BTreeSet<(String, bool)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("root may read it");
    let boards = maps
        .lines()
        .filter(|map| map.contains("preforkd-scoreboard"));
    let words = boards.map(|map| map.split_whitespace().collect::<Vec<_>>());
    words
        .map(|words| (words[4].to_owned(), words[1].contains('w')))
        .collect()
}

/// The master has the boards of all pools. What it forks has its own alone, and who only shows them cannot write.
#[test]
fn no_process_can_write_over_the_scoreboard_of_another_pool() {
    if !is_root() {
        return;
    }
    let pool =
        |name: &str| format!("app = hello\n{ONE}\npm.status_listen = @DIR@/{name}-status.sock");
    let daemon = Setup::new()
        .pool("one", &pool("one"))
        .pool("other", &pool("other"))
        .start();
    let mut of_workers = BTreeSet::new();
    for name in ["one", "other"] {
        let answer = daemon.address(name).get("/").expect("the pool answers");
        assert_eq!(answer.status, 200);
        let of_worker = boards(daemon.worker_pids(name)[0]);
        assert_eq!(of_worker.len(), 1, "{of_worker:?}");
        of_workers.extend(of_worker);
    }
    assert_eq!(boards(daemon.pid()), of_workers);
    let mut service = Vec::new();
    until("the status service has the boards", || {
        service = daemon.titled("preforkd: status service");
        service
            .first()
            .is_some_and(|service| boards(service.pid).len() == 2)
    });
    let shown: BTreeSet<_> = of_workers
        .into_iter()
        .map(|(inode, _)| (inode, false))
        .collect();
    assert_eq!(boards(service[0].pid), shown);
}
