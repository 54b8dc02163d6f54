//! A program that does what it should not: each time that request alone fails, and the pool goes on.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::fastcgi::{END_REQUEST, KEEP_CONN, Request, STDERR};
use crate::support::setup::Setup;
use crate::support::wait::until;

use super::host::{Host, POOL, Program};
use super::suite::cases;
use super::transfer::{get, upload};

const PROGRAM: Program = Program::Hostile;
const ONE: &str = "pm = static\npm.max_children = 1\n";

cases!(PROGRAM; all_is_sent_before_anything_is_read);

/// A worker answers the next request, whatever became of the one before.
#[track_caller]
fn goes_on(host: &Host, after: &str) {
    let page = host.page("/pid");
    assert!(page.parse::<i32>().is_ok(), "after {after}: {page}");
}

#[test]
fn a_broken_answer_is_502_or_cut_off() {
    let host = Host::start(PROGRAM, ONE);
    for page in [
        "nothing",
        "half-a-header",
        "exit",
        "exit-with-a-body",
        "version",
        "unknown-type",
        "unknown-id",
        "http",
        "refuses",
        "no-headers",
        "empty",
    ] {
        for path in ["", "/kept", "/stream"] {
            let answer = get(host.nginx.port, &format!("{path}/{page}")).expect("nginx answers");
            assert_eq!(answer.status, 502, "{path}/{page}: {}", answer.text());
            goes_on(&host, page);
        }
    }
    for page in ["half-a-record", "half-an-answer", "no-end", "short-end"] {
        let answer = get(host.nginx.port, &format!("/kept/{page}")).expect("nginx answers");
        assert!(
            answer.status == 502 || !answer.is_whole,
            "{page}: {} {}",
            answer.head,
            answer.length
        );
        let request = Request::get(&format!("/{page}"));
        if let Ok(answer) = host.address().ask(&request) {
            assert_eq!(answer.status, 502, "{page}: {}", answer.text());
        }
        goes_on(&host, page);
    }
}

/// With a body that the program does not read to its end.
#[test]
fn an_end_before_the_body_has_been_read() {
    let host = Host::start(PROGRAM, ONE);
    for page in ["exit-with-a-body", "exit"] {
        for path in ["", "/stream"] {
            let answer = upload(host.nginx.port, &format!("{path}/{page}"), 3_000_000)
                .expect("nginx answers");
            assert_eq!(answer.status, 502, "{page}: {}", answer.text());
            goes_on(&host, page);
        }
    }
    for path in ["", "/kept", "/stream"] {
        let early = upload(host.nginx.port, &format!("{path}/early"), 3_000_000);
        let early = early.expect("nginx answers");
        assert_eq!((early.status, early.text().as_str()), (200, "early"));
        goes_on(&host, "an early answer");
    }
}

/// The answer comes at once, and the program is of no more use to anybody; the next request has to wait for its end.
#[test]
fn an_answer_of_a_program_that_then_hangs() {
    let host = Host::start(PROGRAM, &format!("{ONE}request_terminate_timeout = 2s"));
    for path in ["/early-and-deaf", "/stream/early-and-deaf"] {
        let early = upload(host.nginx.port, path, 3_000_000).expect("nginx answers");
        assert_eq!((early.status, early.text().as_str()), (200, "early"));
        until("there is another program", || host.status("/pid") == 200);
    }
}

#[test]
fn the_exit_status_and_the_last_words_are_told() {
    let host = Host::start(PROGRAM, ONE);
    assert_eq!(host.status("/exit"), 502);
    host.daemon.wait_for_line(&format!("[pool {POOL}]*7"));
    host.daemon.wait_for_line("about to exit");
}

/// What is allowed, although no library does it.
#[test]
fn odd_answers_are_passed_on() {
    let host = Host::start(PROGRAM, ONE);
    for path in ["", "/kept", "/stream"] {
        assert_eq!(host.page(&format!("{path}/two-ends")), "two ends");
        goes_on(&host, "two ends");
    }
    assert_eq!(host.page("/tiny-records").len(), 4000);
    assert_eq!(host.page("/drip"), "");
}

/// Bytes after an answer are no part of the next one, neither on the program's connection nor on the web server's.
#[test]
fn what_comes_after_an_answer_is_nobodys() {
    let host = Host::start(PROGRAM, ONE);
    let mut connection = host.address().connect().expect("the pool listens");
    for _ in 0..10 {
        connection
            .send(&Request::get("/more-than-said").bytes(1, KEEP_CONN))
            .expect("it is open");
        let answer = connection.answer().expect("the pool answers");
        assert_eq!(answer.text(), "first");
        connection
            .send(&Request::get("/pid").bytes(1, KEEP_CONN))
            .expect("it is open");
        let text = connection.answer().expect("the pool answers").text();
        assert!(text.parse::<i32>().is_ok(), "{text}");
    }
}

/// A request on a connection that the program closes without having read it is sent again, with its body.
#[test]
fn a_request_that_was_not_read_is_sent_again() {
    let host = Host::start(PROGRAM, ONE);
    for _ in 0..20 {
        assert_eq!(host.page("/turns-away"), "no more");
        let next = upload(host.nginx.port, "/pid", 100_000).expect("nginx answers");
        assert_eq!(next.status, 200, "{}", next.text());
    }
}

#[test]
fn endless_headers_end() {
    let host = Host::start(PROGRAM, ONE);
    let answer = get(host.nginx.port, "/endless-headers").expect("nginx answers");
    assert_eq!(answer.status, 502);
    goes_on(&host, "endless headers");
}

/// Standard error without measure reaches web server and log as far as they take it, and holds nobody up.
#[test]
fn a_flood_on_standard_error() {
    let host = Host::start(PROGRAM, ONE);
    assert_eq!(host.page("/stream/flood"), "flooded");
    host.daemon.wait_for_line("a line on descriptor 2");
    let mut connection = host.address().connect().expect("the pool listens");
    connection
        .send(&Request::get("/flood").bytes(1, 0))
        .expect("it is open");
    let mut heard = 0;
    loop {
        let record = connection.record().expect("the pool answers");
        match record.kind {
            STDERR => heard += record.content.len(),
            END_REQUEST => break,
            _ => {}
        }
    }
    assert!(heard > 0);
    goes_on(&host, "a flood");
}

/// One that reads nothing, answers nothing, or does not say that it is done, is ended at the timeout, although it
/// ignores SIGTERM.
#[test]
fn a_program_that_hangs_is_ended() {
    let host = Host::start(PROGRAM, &format!("{ONE}request_terminate_timeout = 1s"));
    for (page, length) in [
        ("unread", 0),
        ("unread", 10_000_000),
        ("no-end-and-open", 0),
    ] {
        let [before] = &host.wait_for_programs(1)[..] else {
            panic!("one program")
        };
        let answer =
            upload(host.nginx.port, &format!("/kept/{page}"), length).expect("nginx answers");
        assert!(
            answer.status == 504 || !answer.is_whole,
            "{page}: {}",
            answer.head
        );
        until("the program has ended", || !before.runs());
        goes_on(&host, page);
    }
}

/// The web server leaves; the program is not waited for any longer than it takes to see that.
#[test]
fn a_client_that_vanishes_frees_the_worker() {
    let host = Host::start(PROGRAM, ONE);
    let mut connection = host.address().connect().expect("the pool listens");
    connection
        .send(&Request::get("/unread").bytes(1, 0))
        .expect("it is open");
    until("the worker has the request", || connection.is_open());
    drop(connection);
    goes_on(&host, "a client that vanished");
}

/// Retired by a reload: the end of file and SIGTERM do nothing, SIGKILL does.
#[test]
fn one_that_ignores_sigterm_is_killed_at_the_deadline() {
    let host = Host::start(PROGRAM, "pm = static\npm.max_children = 2");
    let before = host.wait_for_programs(2);
    host.daemon.signal(Signal::SIGUSR2);
    until("the old programs have ended", || {
        before.iter().all(|program| !program.runs())
    });
    host.wait_for_programs(2);
    goes_on(&host, "the reload");

    let programs = host.programs();
    let mut host = host;
    let begun = Instant::now();
    assert_eq!(host.daemon.stop(Signal::SIGQUIT).code(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(12),
        "{:?}",
        begun.elapsed()
    );
    assert!(programs.iter().all(|program| !program.runs()));
}

/// A program that cannot serve is told of once, the status says so, and other pools go on.
#[test]
fn one_that_cannot_start_harms_nobody_else() {
    for (arguments, words) in [("exits", "there is nothing to do here"), ("closes", "")] {
        let setup = Setup::new();
        let exec = PROGRAM.install(&setup.folder);
        let lines = format!(
            "exec = {exec} {arguments}\nlisten = @DIR@/broken.sock\ncatch_workers_output = yes\n{ONE}"
        );
        let lines = format!("{lines}pm.start_timeout = 2s");
        let setup = setup.pool("broken", &lines);
        let host = Host::of(setup, &format!("app = hello\n{ONE}"));
        host.daemon.wait_for_line("[pool broken]*cannot start");
        host.daemon.wait_for_line(words);
        assert_eq!(host.status("/"), 200);
    }
}
