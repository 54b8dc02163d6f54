//! Programs that are forked, and handle their connection as no library does.

use nix::sys::signal::Signal;

use crate::support::fastcgi::Request;
use crate::support::wait::until;

use super::host::{Host, POOL, Program};

const PROGRAM: Program = Program::MoldedBare;
const ONE: &str = "pm = static\npm.max_children = 1";

/// A request that the program does not answer is 502, and the log says why.
#[test]
fn what_is_not_answered_is_told() {
    let host = Host::start(PROGRAM, ONE);
    for (page, why) in [
        ("/silent", "has closed its connection before it answered"),
        ("/exit", "has ended before it answered"),
    ] {
        for path in [page.to_owned(), format!("/kept{page}")] {
            assert_eq!(host.status(&path), 502);
            let line =
                format!("[pool {POOL}] child *: the program {why}, at the request \"GET {path}\"");
            host.daemon.wait_for_line(&line);
            host.page("/pid");
        }
    }
    assert_eq!(host.daemon.lines_like("at the request").len(), 4);
}

/// php-cgi closes a connection whose parameters are too many for it.
#[test]
fn what_php_does_not_read_is_told() {
    let host = Host::start(Program::Php, ONE);
    let request = Request::get("/pid").with("HTTP_COOKIE", &"x".repeat(70_000));
    let answer = host.address().ask(&request).expect("the pool answers");
    assert_eq!(answer.status, 502);
    host.daemon.wait_for_line(
        "the program has closed its connection before it had read the request, at the request \"GET /pid\"",
    );
    host.page("/pid");
}

/// What a program writes past the functions that the worker knows of is an error, and not lost.
#[test]
fn what_gets_past_is_an_error() {
    let host = Host::start(PROGRAM, ONE);
    for _ in 0..6 {
        assert_eq!(host.status("/stream-of-the-library"), 502);
    }
    host.page("/pid");
}

/// A child that has the worker's memory until it executes another program closes nothing of the worker's.
#[test]
fn a_child_that_shares_memory_ends_no_connection() {
    let host = Host::start(PROGRAM, ONE);
    let pid = host.page("/pid");
    for path in ["/vfork", "/kept/vfork", "/stream/vfork"] {
        assert_eq!(host.page(path), pid);
        assert_eq!(host.page(path), pid);
    }
}

/// A child that goes on does not keep the connection open that its parent has answered on.
#[test]
fn a_child_keeps_no_connection_open() {
    let host = Host::start(PROGRAM, ONE);
    let mut connection = host.address().connect().expect("the pool listens");
    let request = Request::get("/child").bytes(1, 0);
    connection.send(&request).expect("it is taken");
    assert_eq!(connection.answer().expect("it is whole").status, 200);
    connection.expect_end().expect("it ends");
    host.page("/pid");
}

/// No bytes may be at no address.
#[test]
fn nothing_is_written_from_nowhere() {
    let host = Host::start(PROGRAM, ONE);
    assert_eq!(host.page("/nothing"), host.page("/pid"));
}

/// A timer that the program has set before its first accept ends no mold.
#[test]
fn a_mold_outlives_a_timer() {
    let host = Host::start_with(PROGRAM, "ticks", ONE);
    let program = host.wait_for_programs(1).remove(0);
    program.signal(Signal::SIGKILL);
    until("it is gone", || !program.runs());
    host.page("/pid");
    assert_eq!(host.molds().len(), 1);
}

/// Programs read and write their connection by the functions that they like.
#[test]
fn each_way_to_read_and_write_will_do() {
    for way in ["", "fortify", "message", "events"] {
        let host = Host::start_with(PROGRAM, way, ONE);
        for path in ["/pid", "/kept/pid", "/kept/pid", "/stream/pid"] {
            assert_eq!(host.page(path), host.page("/pid"), "{way}");
        }
    }
}

/// A program that sets SIGTERM at a request ends of it as any worker does.
#[test]
fn a_handler_keeps_no_worker() {
    let host = Host::start(PROGRAM, ONE);
    host.page("/sigterm");
    let worker = host.workers().remove(0);
    worker.signal(Signal::SIGTERM);
    until("it has ended", || !worker.runs());
}
