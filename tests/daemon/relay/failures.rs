//! What becomes of requests, connections and workers when a program fails.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{PROGRAM, begun, has_begun, one_worker, page, pool, programs};
use crate::support::fastcgi::{Address, KEEP_CONN, Request};
use crate::support::setup::free_port;
use crate::support::wait::until;

/// Whether it is ready or not does not say that it has accepted.
#[test]
fn a_program_that_ends_before_it_accepts_is_not_started_again_for_a_request() {
    let lines = "exec.ready = connect";
    let daemon = pool(1, "sleep 0.3 exit 3", lines).start();
    let answer = daemon.address("program").get("/pid");
    assert_eq!(answer.expect("the pool answers").status, 502);
    daemon.wait_for_line("the program * exited with code 3 right after its start");
}

/// A program may leave the last bytes of a request unread and have begun it all the same: libfcgi reads 8192 at a time.
#[test]
fn a_request_that_kills_the_program_is_not_sent_again() {
    let (daemon, address) = one_worker("");
    let mut kept = address.connect().expect("the pool listens");
    let path = "/die?signal=9";
    let request = |length: usize| Request::get(path).with("HTTP_LONG", &"v".repeat(length));
    // BEGIN, the header of the parameters and their end.
    let around = 16 + 8 + 8;
    let rest = 8192 - around - request(1000).pairs().len();
    let request = request(1000 + rest);
    assert_eq!(around + request.pairs().len(), 8192);
    for (request, status) in [(Request::get("/slow?s=0.1"), 200), (request, 502)] {
        kept.send(&request.bytes(1, KEEP_CONN)).expect("it is open");
        assert_eq!(kept.answer().expect("the pool answers").status, status);
    }
    page(&address, "/pid");
    has_begun(&daemon, &format!("GET {path}"), 1);
}

/// It leaves what it keeps to the worker that comes after it.
#[test]
fn a_worker_that_leaves_because_of_its_program_parts_with_its_connection() {
    let (daemon, address) = one_worker("");
    let mut kept = address.connect().expect("the pool listens");
    let request = Request::get("/pid").bytes(1, KEEP_CONN);
    kept.send(&request).expect("it is open");
    kept.answer().expect("the pool answers");
    daemon.folder.write("program.py", "raise SystemExit(3)");
    programs(&daemon)[0].signal(Signal::SIGKILL);
    daemon.wait_for_line("* exited with code 3 before it accepted a connection");
    daemon.folder.write("program.py", PROGRAM);
    kept.send(&request).expect("it is open");
    assert_eq!(kept.answer().expect("the pool answers").status, 200);
}

#[test]
fn a_worker_that_is_told_to_leave_starts_no_program() {
    let (mut daemon, address) = one_worker("");
    page(&address, "/pid");
    let worker = daemon.workers("program").swap_remove(0);
    worker.signal(Signal::SIGSTOP);
    programs(&daemon)[0].signal(Signal::SIGKILL);
    daemon.signal(Signal::SIGQUIT);
    daemon.wait_for_line("Finishing ...");
    // The master never waits within a turn: when it sleeps it has told its worker.
    let stat = format!("/proc/{}/stat", daemon.pid());
    until("the master has told its worker", || {
        let stat = fs::read_to_string(&stat).expect("it waits for its worker");
        stat.rsplit_once(") ")
            .is_some_and(|(_, fields)| fields.starts_with('S'))
    });
    worker.signal(Signal::SIGCONT);
    assert!(daemon.wait_for_end().success());
    assert_eq!(daemon.lines_like("has started program").len(), 1);
}

/// One that shuts its listening socket down and lives on.
#[test]
fn a_program_that_cannot_be_connected_to_is_replaced_with_its_worker() {
    let (daemon, address) = one_worker("");
    page(&address, "/shut");
    daemon.wait_for_line("said into stdout: \"accepts no more\"");
    assert_eq!(address.get("/pid").expect("the pool answers").status, 502);
    daemon.wait_for_line("the program cannot be connected to: *");
    until("another worker answers", || {
        address.get("/pid").expect("the pool answers").status == 200
    });
}

#[test]
fn a_program_that_sends_nothing_without_end_hides_nobody() {
    let (daemon, address) = one_worker("");
    let mut connection = address.connect().expect("the pool listens");
    connection
        .send(&Request::get("/prattle").bytes(1, 0))
        .expect("it is open");
    has_begun(&daemon, "GET /prattle", 1);
    let from = Instant::now();
    drop(connection);
    page(&address, "/pid");
    assert!(from.elapsed() < Duration::from_secs(6));
}

/// Also while the program takes no more of the body: over TCP the end of the connection is all that there is to see.
#[test]
fn a_web_server_that_leaves_before_the_end_of_the_body_is_noticed() {
    let port = free_port();
    let daemon = pool(1, "", &format!("listen = 127.0.0.1:{port}")).start();
    let address = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let mut connection = address.connect().expect("the pool listens");
    let request = Request::post("/slow?s=50", &[b'x'; 240_000]).bytes(1, 0);
    connection
        .send(&request[..request.len() - 8])
        .expect("it is open");
    until("it has begun", || begun(&daemon, "POST /slow?s=50") == 1);
    drop(connection);
    daemon.wait_for_line("has not come back * s after its request was given up; it is ended");
}
