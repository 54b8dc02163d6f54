//! Connections that are kept: they hold no worker, keep nobody else waiting, and lose no request.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{
    ABORT_REQUEST, Address, Connection, END_REQUEST, GET_VALUES, GET_VALUES_RESULT, KEEP_CONN,
    PARAMS, RESPONDER, Request, STDIN, STDOUT, begin, record,
};
use crate::support::setup::{PROBE, Setup};
use crate::support::wait::until;

/// Well below the 10 s for which a worker waits for the rest of a request, and the 5 s for its first byte.
const AT_ONCE: Duration = Duration::from_secs(3);

fn one_worker() -> (Daemon, Address) {
    let daemon = Setup::new()
        .global("log_level = debug")
        .pool("hello", "app = hello\npm = static\npm.max_children = 1")
        .start();
    daemon.wait_for_workers("hello", 1);
    let address = daemon.address("hello");
    (daemon, address)
}

/// A request of somebody else's is answered although this connection is open.
#[track_caller]
fn leaves_the_worker_to_others(address: &Address) {
    let begun = Instant::now();
    assert_eq!(address.get("/").expect("the pool answers").status, 200);
    assert!(begun.elapsed() < AT_ONCE, "after {:?}", begun.elapsed());
}

#[track_caller]
fn keep(address: &Address, path: &str) -> (Connection, String) {
    let mut kept = address.connect().expect("the pool listens");
    let page = ask(&mut kept, path);
    (kept, page)
}

#[track_caller]
fn ask(kept: &mut Connection, path: &str) -> String {
    kept.send(&Request::get(path).bytes(1, KEEP_CONN))
        .expect("it is open");
    kept.answer().expect("the pool answers").text()
}

#[test]
fn padding_after_a_request_is_not_the_next_one() {
    let (_daemon, address) = one_worker();
    let mut kept = address.connect().expect("the pool listens");
    let mut bytes = Request::get("/").bytes(1, KEEP_CONN);
    bytes.truncate(bytes.len() - record(STDIN, 1, b"", 0).len());
    bytes.extend(record(STDIN, 1, b"", 5));
    kept.send(&bytes).expect("it is open");
    assert_eq!(kept.answer().expect("the pool answers").status, 200);
    leaves_the_worker_to_others(&address);
}

#[test]
fn a_connection_that_only_asks_for_values_holds_no_worker() {
    let (_daemon, address) = one_worker();
    let mut asking = address.connect().expect("the pool listens");
    for _ in 0..2 {
        asking
            .send(&record(GET_VALUES, 0, b"\x0e\0FCGI_MAX_CONNS", 1))
            .expect("it is open");
        let answer = asking.record().expect("the pool answers");
        assert_eq!(answer.kind, GET_VALUES_RESULT);
    }
    assert!(ask(&mut asking, "/after").contains("/after"));
    asking
        .send(&record(GET_VALUES, 0, b"", 0))
        .expect("it is open");
    asking.record().expect("the pool answers");
    leaves_the_worker_to_others(&address);
}

#[test]
fn a_request_given_up_in_its_parameters_holds_no_worker() {
    let (_daemon, address) = one_worker();
    let mut giving_up = address.connect().expect("the pool listens");
    let records = [
        begin(1, RESPONDER, KEEP_CONN),
        record(PARAMS, 1, b"\x01\x01A", 0),
        record(ABORT_REQUEST, 1, b"", 0),
    ];
    giving_up.send(&records.concat()).expect("it is open");
    leaves_the_worker_to_others(&address);
    // The specification, 5.4.
    let end = giving_up.record().expect("it is answered");
    assert_eq!((end.kind, end.id), (STDOUT, 1));
    let end = giving_up.record().expect("it is answered");
    assert_eq!((end.kind, end.id), (END_REQUEST, 1));
    assert!(ask(&mut giving_up, "/after").contains("/after"));
}

/// The answer is complete, but not the body that nobody read: what comes there is answered before the next request.
#[test]
fn a_second_request_in_a_body_that_nobody_reads_is_refused() {
    let (_daemon, address) = one_worker();
    let mut kept = address.connect().expect("the pool listens");
    let end = record(STDIN, 1, b"", 0);
    let mut bytes = Request::post("/", b"some").bytes(1, KEEP_CONN);
    bytes.truncate(bytes.len() - end.len());
    kept.send(&bytes).expect("it is open");
    assert_eq!(kept.answer().expect("the pool answers").status, 200);
    kept.send(&[begin(2, RESPONDER, KEEP_CONN), end].concat())
        .expect("it is open");
    let refusal = kept.record().expect("the pool answers");
    assert_eq!(
        (refusal.kind, refusal.id, refusal.content[4]),
        (END_REQUEST, 2, 1),
        "FCGI_CANT_MPX_CONN"
    );
    assert!(ask(&mut kept, "/next").contains("/next"));
}

/// The kernel wakes one worker for a new connection. If that one finds a request on its kept connection at the same
/// moment, another worker comes.
#[test]
fn a_new_connection_does_not_wait_for_a_kept_one() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 2")
        .start_alone();
    daemon.wait_for_workers("probe", 2);
    let address = daemon.address("probe");
    let slow = Request::get("/slow?ms=600").bytes(1, KEEP_CONN);
    let quick = Request::get("/pid").bytes(1, 0);
    for round in 0..12 {
        // The worker that kept first is the first to be woken.
        let (mut first, one) = keep(&address, "/pid");
        let (_second, other) = keep(&address, "/pid");
        if one == other {
            continue;
        }
        let mut new = address.connect().expect("the pool listens");
        first.send(&slow).expect("it is open");
        let begun = Instant::now();
        new.send(&quick).expect("it is open");
        new.answer().expect("the pool answers");
        let waited = begun.elapsed();
        assert!(waited < Duration::from_millis(400), "{round}: {waited:?}");
        first.answer().expect("the pool answers");
    }
}

/// Reads a request to its end before it takes its time: what comes on the connection then is left there.
const READING: &str = r#"
import os, sys, time

def application(environ, start_response):
    environ["wsgi.input"].read()
    print("held", file=sys.stderr, flush=True)
    time.sleep(float(environ["QUERY_STRING"]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"#;

/// A request comes while the one before it is answered, and the worker is about to turn to a new connection.
#[test]
fn the_next_request_of_a_kept_connection_is_answered_before_a_new_one() {
    let daemon = Setup::new()
        .wsgi("probe", READING, "pm = static\npm.max_children = 1")
        .start();
    let address = daemon.address("probe");
    let (mut first, pid) = keep(&address, "/?0");
    let worker = Pid::from_raw(pid.trim().parse().expect("a pid"));
    // It finds both at once when it goes on.
    kill(worker, Signal::SIGSTOP).expect("it runs");
    until("it has stopped", || {
        fs::read_to_string(format!("/proc/{worker}/stat")).is_ok_and(|stat| stat.contains(") T "))
    });
    first
        .send(&Request::get("/?0.3").bytes(1, KEEP_CONN))
        .expect("it is open");
    let mut new = address.connect().expect("the pool listens");
    let quick = Request::get("/?0").bytes(1, KEEP_CONN);
    new.send(&quick).expect("it is open");
    kill(worker, Signal::SIGCONT).expect("it is there");
    until("the first is at work", || {
        daemon.lines_like("*held").len() == 2
    });
    first.send(&quick).expect("it is open");
    for connection in [&mut first, &mut new] {
        connection.answer().expect("the pool answers");
    }
    assert_eq!(first.answer().expect("the pool answers").text(), pid);
}

#[test]
fn a_worker_that_leaves_answers_what_it_alone_knows_of() {
    let (mut daemon, address) = one_worker();
    let bytes = Request::get("/first").bytes(1, KEEP_CONN);
    let mut first = address.connect().expect("the pool listens");
    first.send(&bytes[..30]).expect("it is open");
    daemon.wait_for_line("server reached pm.max_children");
    let mut second = address.connect().expect("the pool listens");
    second
        .send(&Request::get("/second").bytes(1, KEEP_CONN))
        .expect("it is open");
    daemon.signal(Signal::SIGQUIT);
    daemon.wait_for_line("Finishing");
    first.send(&bytes[30..]).expect("it is open");
    assert_eq!(first.answer().expect("the pool answers").status, 200);
    assert_eq!(second.answer().expect("the pool answers").status, 200);
    daemon.wait_for_end();
    assert_eq!(daemon.lines_like("exited with code 0").len(), 1);
}

/// Such a child holds copies of the worker's connections.
const FORKING: &str = r#"
import os, time

def application(environ, start_response):
    worker = os.getpid()
    if environ["PATH_INFO"].startswith("/fork") and os.fork() == 0:
        while os.getppid() == worker:
            time.sleep(0.1)
        os._exit(0)
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield str(os.getpid()).encode()
    if environ["PATH_INFO"] == "/fork-and-fail":
        raise LookupError("after the first part")
"#;

#[test]
fn a_child_of_the_application_keeps_no_worker_busy() {
    let daemon = Setup::new()
        .wsgi("forking", FORKING, "pm = static\npm.max_children = 1")
        .start();
    let address = daemon.address("forking");
    let (mut kept, pid) = keep(&address, "/");
    ask(&mut kept, "/fork");
    drop(kept);
    let before = processor_time(&pid);
    thread::sleep(Duration::from_secs(1));
    let used = processor_time(&pid) - before;
    assert!(used < 30, "{used} hundredths of a second");
    let (_next, same) = keep(&address, "/");
    assert_eq!(same, pid);
    leaves_the_worker_to_others(&address);
}

#[test]
fn a_child_of_the_application_does_not_keep_a_closed_connection_open() {
    let daemon = Setup::new()
        .wsgi("forking", FORKING, "pm = static\npm.max_children = 1")
        .start();
    let address = daemon.address("forking");
    let (mut kept, _) = keep(&address, "/fork");
    let mut failing = address.connect().expect("the pool listens");
    failing
        .send(&Request::get("/fork-and-fail").bytes(1, 0))
        .expect("it is open");
    let begun = Instant::now();
    while failing.record().is_ok() {}
    kept.send(b"This is no record.").expect("it is open");
    kept.expect_end().expect("nonsense ends it");
    assert!(begun.elapsed() < AT_ONCE, "after {:?}", begun.elapsed());
}

/// User and system time of a process, in clock ticks.
fn processor_time(pid: &str) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the worker is there");
    let (_, fields) = stat.rsplit_once(") ").expect("it has a name");
    let fields: Vec<&str> = fields.split(' ').collect();
    [fields[11], fields[12]]
        .iter()
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum()
}
