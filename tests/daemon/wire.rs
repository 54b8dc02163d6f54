//! What comes over the wire: every legal form is read, everything else costs its sender the connection and nobody else
//! anything.

use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{
    ABORT_REQUEST, Address, BEGIN_REQUEST, END_REQUEST, GET_VALUES, GET_VALUES_RESULT, KEEP_CONN,
    PARAMS, RESPONDER, Request, STDIN, UNKNOWN_TYPE, begin, long_length, record,
};
use crate::support::setup::{PROBE, Setup, free_port};

const TWO: &str = "app = hello\npm = static\npm.max_children = 2";

fn hello(workers: usize) -> (Daemon, Address) {
    let setup = Setup::new().global("log_level = debug");
    let daemon = setup
        .pool(
            "hello",
            &format!("app = hello\npm = static\npm.max_children = {workers}"),
        )
        .start();
    daemon.wait_for_workers("hello", workers);
    let address = daemon.address("hello");
    (daemon, address)
}

/// The bytes, sent to a pool of one worker, end the connection; the worker goes on.
#[track_caller]
fn costs_the_connection(bytes: &[u8]) {
    let (daemon, address) = hello(1);
    let before = daemon.worker_pids("hello");
    let mut connection = address.connect().expect("the pool listens");
    connection.send(bytes).expect("it is open");
    connection.expect_end().expect("the connection ends");
    assert_eq!(address.get("/").expect("the pool answers").status, 200);
    assert_eq!(daemon.worker_pids("hello"), before);
}

#[test]
fn a_request_may_be_split_at_every_byte() {
    let (_daemon, address) = hello(1);
    let bytes = Request::get("/split").bytes(1, KEEP_CONN);
    let mut connection = address.connect().expect("the pool listens");
    for at in 1..bytes.len() {
        connection.send(&bytes[..at]).expect("it is open");
        connection.send(&bytes[at..]).expect("it is open");
        let answer = connection.answer().expect("the pool answers");
        assert_eq!(answer.status, 200, "split at {at}");
        assert!(answer.text().contains("/split"), "split at {at}");
    }
}

#[test]
fn pairs_may_span_records_of_any_size_with_any_padding() {
    let (_daemon, address) = hello(1);
    let long = "long ".repeat(5_000);
    let request = Request::get("/").with("HTTP_X_LONG", &long);
    for (size, padding) in [
        (1, 0),
        (2, 7),
        (3, 255),
        (127, 1),
        (8_184, 8),
        (65_535, 255),
    ] {
        let mut connection = address.connect().expect("the pool listens");
        connection
            .send(&request.bytes_split(1, 0, size, padding))
            .expect("it is open");
        let answer = connection.answer().expect("the pool answers");
        assert_eq!(answer.status, 200, "records of {size} bytes");
        assert!(answer.text().contains(&long), "records of {size} bytes");
    }
}

#[test]
fn short_names_may_have_long_lengths() {
    let (_daemon, address) = hello(1);
    let mut pairs = Request::get("/").pairs();
    pairs.extend(long_length("HTTP_X".len()));
    pairs.extend(long_length("a value".len()));
    pairs.extend(b"HTTP_Xa value");
    let records = [
        begin(1, RESPONDER, 0),
        record(PARAMS, 1, &pairs, 0),
        record(PARAMS, 1, b"", 0),
        record(STDIN, 1, b"", 0),
    ];
    let mut connection = address.connect().expect("the pool listens");
    connection.send(&records.concat()).expect("it is open");
    let text = connection.answer().expect("the pool answers").text();
    assert!(
        text.contains("HTTP_X") && text.contains("a value"),
        "{text}"
    );
}

#[test]
fn get_values_tells_the_pools_limits() {
    let (_daemon, address) = hello(2);
    let mut asked = Vec::new();
    for name in [
        "FCGI_MAX_CONNS",
        "FCGI_MAX_REQS",
        "FCGI_MPXS_CONNS",
        "FCGI_NONSENSE",
    ] {
        asked.extend([u8::try_from(name.len()).expect("a short name"), 0]);
        asked.extend(name.bytes());
    }
    let mut connection = address.connect().expect("the pool listens");
    connection
        .send(&record(GET_VALUES, 0, &asked, 0))
        .expect("it is open");
    let answer = connection.record().expect("the pool answers");
    assert_eq!((answer.kind, answer.id), (GET_VALUES_RESULT, 0));
    let content = String::from_utf8_lossy(&answer.content);
    for pair in ["FCGI_MAX_CONNS2", "FCGI_MAX_REQS2", "FCGI_MPXS_CONNS0"] {
        assert!(content.contains(pair), "no {pair} in {content:?}");
    }
    assert!(!content.contains("NONSENSE"));
}

#[test]
fn an_unknown_management_record_is_named_unknown() {
    let (_daemon, address) = hello(1);
    let mut connection = address.connect().expect("the pool listens");
    connection
        .send(&record(77, 0, b"what is this", 4))
        .expect("it is open");
    let answer = connection.record().expect("the pool answers");
    assert_eq!((answer.kind, answer.content[0]), (UNKNOWN_TYPE, 77));
}

#[test]
fn an_unknown_role_is_refused() {
    let (_daemon, address) = hello(1);
    let mut connection = address.connect().expect("the pool listens");
    let mut bytes = Request::get("/").bytes(1, 0);
    bytes[9] = 2;
    connection.send(&bytes).expect("it is open");
    let answer = connection.answer().expect("the pool answers");
    assert_eq!(answer.protocol_status, 3, "FCGI_UNKNOWN_ROLE");
    assert_eq!(address.get("/").expect("the pool answers").status, 200);
}

#[test]
fn a_second_request_beside_the_first_is_refused() {
    let (_daemon, address) = hello(1);
    let mut connection = address.connect().expect("the pool listens");
    // Between two records of the first one's parameters.
    let first = Request::get("/first").bytes_split(1, KEEP_CONN, 50, 0);
    let middle = begin(1, RESPONDER, 0).len() + record(PARAMS, 1, &[0; 50], 0).len();
    let second = begin(2, RESPONDER, KEEP_CONN);
    connection
        .send(&[&first[..middle], &second].concat())
        .expect("it is open");
    let refusal = connection.record().expect("the pool answers");
    assert_eq!(
        (refusal.kind, refusal.id, refusal.content[4]),
        (END_REQUEST, 2, 1),
        "FCGI_CANT_MPX_CONN"
    );
    connection.send(&first[middle..]).expect("it is open");
    let answer = connection.answer().expect("the pool answers");
    assert_eq!((answer.id, answer.status), (1, 200));
}

#[test]
fn another_version_costs_the_connection() {
    let mut bytes = Request::get("/").bytes(1, 0);
    bytes[0] = 2;
    costs_the_connection(&bytes);
}

#[test]
fn a_length_beyond_reason_costs_the_connection() {
    let mut pairs = Vec::new();
    pairs.extend(0xFFFF_FFFF_u32.to_be_bytes());
    pairs.extend(0xFFFF_FFFF_u32.to_be_bytes());
    pairs.extend([b'x'; 100]);
    costs_the_connection(&[begin(1, RESPONDER, 0), record(PARAMS, 1, &pairs, 0)].concat());
}

#[test]
fn pairs_that_end_in_the_middle_cost_the_connection() {
    let pairs = Request::get("/").pairs();
    let records = [
        begin(1, RESPONDER, 0),
        record(PARAMS, 1, &pairs[..pairs.len() - 3], 0),
        record(PARAMS, 1, b"", 0),
        record(STDIN, 1, b"", 0),
    ];
    costs_the_connection(&records.concat());
}

#[test]
fn a_begin_that_is_too_short_costs_the_connection() {
    costs_the_connection(&record(BEGIN_REQUEST, 1, &[0], 0));
}

#[test]
fn a_web_page_request_costs_the_connection() {
    costs_the_connection(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
}

#[test]
fn parameters_without_end_cost_the_connection() {
    let (daemon, address) = hello(1);
    let before = daemon.worker_pids("hello");
    let mut connection = address.connect().expect("the pool listens");
    let value = "v".repeat(60_000);
    let pairs = Request {
        params: vec![("HTTP_X".into(), value)],
        body: Vec::new(),
    }
    .pairs();
    let mut sent = connection.send(&begin(1, RESPONDER, 0));
    let mut records = 0;
    while sent.is_ok() {
        sent = connection.send(&record(PARAMS, 1, &pairs, 0));
        records += 1;
        assert!(records < 10_000, "600 MB of parameters were taken");
    }
    assert_eq!(address.get("/").expect("the pool answers").status, 200);
    assert_eq!(daemon.worker_pids("hello"), before);
}

/// Random bytes, and right requests with random bytes in them: whatever happens to those connections, the workers stay.
#[test]
fn noise_harms_no_worker() {
    let lines = "pm = static\npm.max_children = 2";
    let daemon = Setup::new()
        .pool("hello", TWO)
        .wsgi("probe", PROBE, lines)
        .start();
    for pool in ["hello", "probe"] {
        daemon.wait_for_workers(pool, 2);
        make_noise(&daemon, pool);
    }
}

fn make_noise(daemon: &Daemon, pool: &str) {
    let address = daemon.address(pool);
    let before = daemon.worker_pids(pool);
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    for round in 0..300 {
        let mut bytes = Request::post("/echo", b"some body").bytes(1, 0);
        if round % 3 == 0 {
            bytes = (0..random(200))
                .map(|_| u8::try_from(random(256)).expect("a byte"))
                .collect();
        } else {
            for _ in 0..=random(4) {
                let at = random(bytes.len());
                bytes[at] = u8::try_from(random(256)).expect("a byte");
            }
        }
        let mut connection = address.connect().expect("the pool listens");
        // The pool may close while this is still sending.
        let _ = connection.send(&bytes);
        let _ = connection.finish_sending();
        connection.set_timeout(Duration::from_secs(15));
        while connection.record().is_ok() {}
    }
    assert_eq!(address.get("/pid").expect("the pool answers").status, 200);
    assert_eq!(daemon.worker_pids(pool), before);
}

#[test]
fn a_silent_client_holds_no_worker() {
    let (daemon, address) = hello(1);
    let before = daemon.worker_pids("hello");
    let mut silent = address.connect().expect("the pool listens");
    let begun = Instant::now();
    assert_eq!(address.get("/").expect("the pool answers").status, 200);
    silent.expect_end().expect("the silent connection ends");
    assert!(
        begun.elapsed() < Duration::from_secs(12),
        "it took {:?}",
        begun.elapsed()
    );
    assert_eq!(daemon.worker_pids("hello"), before);
}

#[test]
fn half_a_header_holds_no_worker() {
    let (daemon, address) = hello(1);
    let before = daemon.worker_pids("hello");
    let mut half = address.connect().expect("the pool listens");
    half.send(&Request::get("/").bytes(1, 0)[..4])
        .expect("it is open");
    let begun = Instant::now();
    assert_eq!(address.get("/").expect("the pool answers").status, 200);
    half.expect_end()
        .expect("the half request's connection ends");
    assert!(
        begun.elapsed() < Duration::from_secs(18),
        "it took {:?}",
        begun.elapsed()
    );
    assert_eq!(daemon.worker_pids("hello"), before);
}

#[test]
fn half_a_header_is_noted() {
    let (daemon, address) = hello(1);
    let mut half = address.connect().expect("the pool listens");
    half.send(&Request::get("/").bytes(1, 0)[..4])
        .expect("it is open");
    drop(half);
    daemon.wait_for_line("DEBUG: *[pool hello] child *: connection dropped: malformed request: it ends in the middle of its header");
}

/// The time of a request does not run before the request has begun.
#[test]
fn a_silent_client_is_not_a_request_over_its_time() {
    let setup = Setup::new().pool(
        "hello",
        "app = hello\npm = static\npm.max_children = 1\nrequest_terminate_timeout = 1s",
    );
    let daemon = setup.start();
    daemon.wait_for_workers("hello", 1);
    let before = daemon.worker_pids("hello");
    let mut silent = daemon.address("hello").connect().expect("it listens");
    silent.expect_end().expect("the silent connection ends");
    assert_eq!(daemon.worker_pids("hello"), before);
}

/// A web server may end its side of the connection with its request.
#[test]
fn a_half_closed_connection_gets_its_whole_answer() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 1")
        .start();
    let mut half = daemon.address("probe").connect().expect("the pool listens");
    half.send(&Request::get("/large?kib=300").bytes(1, 0))
        .expect("it is open");
    half.finish_sending().expect("it is open");
    let answer = half.answer().expect("the pool answers");
    assert_eq!(answer.body.len(), 300 * 1024);
}

#[test]
fn a_request_given_up_behind_its_body_ends() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 1")
        .start();
    let mut giving_up = daemon.address("probe").connect().expect("the pool listens");
    giving_up
        .send(&Request::get("/large?kib=2000000").bytes(1, KEEP_CONN))
        .expect("it is open");
    giving_up.record().expect("the pool answers");
    giving_up
        .send(&record(ABORT_REQUEST, 1, b"", 0))
        .expect("it is open");
    let mut sent = 0;
    loop {
        let record = giving_up.record().expect("it is told that it has ended");
        sent += record.content.len();
        if record.kind == END_REQUEST {
            break;
        }
    }
    assert!(sent < 2_000_000 << 10, "all of it was sent");
}

/// A web server that has given a request up goes on with the connection at once (specification, 5.4).
#[test]
fn a_request_given_up_costs_no_other_on_the_connection() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 1")
        .start();
    let address = daemon.address("probe");
    let worker = address.worker_pid();
    let mut connection = address.connect().expect("the pool listens");
    // It reads the body, it does not, and it has answered long before.
    for path in ["/echo", "/hold?ms=300", "/pid"] {
        let upload = Request::post(path, &[b'x'; 50_000]).bytes(1, KEEP_CONN);
        let end = record(STDIN, 1, b"", 0);
        let records = [
            &upload[..upload.len() - end.len()],
            &record(ABORT_REQUEST, 1, b"", 0),
            &Request::get("/pid").bytes(2, KEEP_CONN),
        ];
        connection.send(&records.concat()).expect("it is open");
        assert_eq!(connection.answer().expect("it has ended").id, 1, "{path}");
        let answer = connection.answer().expect("the pool answers");
        assert_eq!((answer.id, answer.status), (2, 200), "{path}");
        assert_eq!(answer.text().trim(), worker.to_string());
    }
}

/// Each is answered, and nothing is sent while the application waits for the body.
#[test]
fn management_records_in_a_body_cost_the_connection_before_they_cost_memory() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 1")
        .start();
    let address = daemon.address("probe");
    let worker = address.worker_pid();
    let end = record(STDIN, 1, b"", 0);
    let mut bytes = Request::post("/echo", b"body").bytes(1, 0);
    bytes.truncate(bytes.len() - record(STDIN, 1, b"body", 0).len() - end.len());
    let mut flooding = address.connect().expect("the pool listens");
    flooding.send(&bytes).expect("it is open");
    let flood = record(77, 0, b"", 0).repeat(1000);
    let mut count = 0;
    while flooding.send(&flood).is_ok() {
        count += 1;
        assert!(count < 1000, "a million records were taken");
    }
    assert_eq!(address.worker_pid(), worker);
}

/// An answer in pieces over TCP: no piece waits for the acknowledgement of the one before it.
#[test]
fn pieces_of_an_answer_follow_each_other_at_once_over_tcp() {
    let port = free_port();
    let lines = format!("listen = 127.0.0.1:{port}\npm = static\npm.max_children = 1");
    let daemon = Setup::new().wsgi("probe", PROBE, &lines).start_alone();
    daemon.wait_for_workers("probe", 1);
    let address = Address::Tcp(([127, 0, 0, 1], port).into());
    let mut kept = address.connect().expect("the pool listens");
    let request = Request::get("/large?kib=3").bytes(1, KEEP_CONN);
    let begun = Instant::now();
    for _ in 0..30 {
        kept.send(&request).expect("it is open");
        assert_eq!(kept.answer().expect("the pool answers").status, 200);
    }
    // Each would take 40 ms.
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(600), "it took {took:?}");
}

/// Others are served while slow clients are waited for.
#[test]
fn slow_clients_leave_the_other_workers_to_others() {
    let daemon = Setup::new().pool("hello", TWO).start();
    let address = daemon.address("hello");
    let mut slow = address.connect().expect("the pool listens");
    slow.send(&Request::get("/").bytes(1, 0)[..30])
        .expect("it is open");
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(address.get("/").expect("the pool answers").status, 200);
    }
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "it took {:?}",
        begun.elapsed()
    );
}

/// A client that vanishes in the middle of its body: the application's read fails, the worker goes on.
#[test]
fn a_vanished_client_costs_nobody_else_anything() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 1")
        .start();
    let address = daemon.address("probe");
    let worker = address.worker_pid();
    let bytes = Request::post("/echo", &[b'x'; 100_000]).bytes(1, 0);
    let mut vanishing = address.connect().expect("the pool listens");
    vanishing.send(&bytes[..50_000]).expect("it is open");
    drop(vanishing);
    assert_eq!(address.worker_pid(), worker);
}
