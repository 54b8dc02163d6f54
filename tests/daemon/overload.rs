//! More requests than a pool has workers for.

use std::io;
use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{Address, Answer, Connection, KEEP_CONN, Request};
use crate::support::process::below;
use crate::support::setup::{PROBE, Setup, free_port};
use crate::support::wait::until;

/// Well below what the workers hold the others up for.
const AT_ONCE: Duration = Duration::from_secs(2);

fn send(address: &Address, request: &Request, flags: u8) -> Connection {
    let mut connection = address.connect().expect("the pool listens");
    connection
        .send(&request.bytes(1, flags))
        .expect("there is room");
    connection
}

/// Keeps all workers busy for that long.
fn occupy(daemon: &Daemon, address: &Address, workers: usize, ms: u32) -> Vec<Connection> {
    let held = || daemon.lines_like("said into stderr: \"held\"").len();
    let before = held();
    let request = Request::get(&format!("/hold?ms={ms}"));
    let busy = (0..workers).map(|_| send(address, &request, 0)).collect();
    until("all workers are busy", || held() == before + workers);
    busy
}

#[track_caller]
fn is_refused(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    let retry = ("Retry-After".to_owned(), "5".to_owned());
    assert!(answer.headers.contains(&retry), "{:?}", answer.headers);
}

#[track_caller]
fn all_answered(connections: Vec<Connection>) {
    for mut connection in connections {
        assert_eq!(connection.answer().expect("an answer").status, 200);
    }
}

/// Those who have waited longest are told first, and as many as may go on waiting.
#[test]
fn who_is_too_many_is_told_at_once() {
    let port = free_port();
    let (unix, tcp) = ("@DIR@/probe.sock", format!("127.0.0.1:{port}"));
    let dynamic =
        "dynamic\npm.start_servers = 1\npm.min_spare_servers = 1\npm.max_spare_servers = 2";
    for (listen, manager) in [
        (unix, "static"),
        (&tcp, "static"),
        (unix, dynamic),
        (unix, "ondemand"),
    ] {
        let pool =
            format!("listen = {listen}\npm = {manager}\npm.max_children = 2\npm.max_queue = 3");
        let daemon = Setup::new().wsgi("probe", PROBE, &pool).start();
        let address = if listen == unix {
            daemon.address("probe")
        } else {
            Address::Tcp(([127, 0, 0, 1], port).into())
        };
        let busy = occupy(&daemon, &address, 2, 3000);
        let mut waiting: Vec<_> = (0..8)
            .map(|_| send(&address, &Request::get("/pid"), 0))
            .collect();
        let begun = Instant::now();
        let served = waiting.split_off(5);
        for connection in &mut waiting {
            is_refused(&connection.answer().expect("an answer comes"));
        }
        let took = begun.elapsed();
        assert!(took < AT_ONCE, "{manager} {listen}: {took:?}");
        all_answered(busy);
        all_answered(served);
        daemon.wait_for_line("NOTICE: [pool probe] all workers were busy for * seconds; at most * connections waited, one of them for * seconds, and 5 were turned away");
    }
}

#[test]
fn an_upload_is_told_as_well_and_a_kept_connection_is_left_to_the_workers() {
    let daemon = Setup::new()
        .wsgi(
            "probe",
            PROBE,
            "pm = static\npm.max_children = 1\npm.max_queue = 0\npm.status_listen = @DIR@/status.sock",
        )
        .start();
    let address = daemon.address("probe");
    let busy = occupy(&daemon, &address, 1, 1500);
    let mut kept = send(&address, &Request::get("/pid"), KEEP_CONN);
    let mut upload = address.connect().expect("the pool listens");
    // More than the socket holds: it has to be read.
    let body = vec![b'x'; 3 << 20];
    upload
        .send(&Request::post("/echo", &body).bytes(1, 0))
        .expect("it is read");
    is_refused(&upload.answer().expect("an answer comes"));
    is_refused(&kept.answer().expect("an answer comes"));
    all_answered(busy);
    kept.send(&Request::get("/pid").bytes(1, KEEP_CONN))
        .expect("it is open");
    let answer = kept.answer().expect("the worker answers");
    let pid: i32 = answer.text().trim().parse().expect("a pid");
    assert!(daemon.worker_pids("probe").contains(&pid));
    let status = Address::Unix(daemon.folder.path("status.sock"));
    let page = Request::get("/?json").with("SCRIPT_NAME", "/");
    let text = status.ask(&page).expect("the service answers").text();
    assert!(text.contains("\"rejected conn\":2,"), "{text}");
}

/// The one who turns them away is needed, so it comes back when it dies.
#[test]
fn who_turns_away_is_started_anew_when_it_dies() {
    let daemon = Setup::new()
        .wsgi(
            "probe",
            PROBE,
            "pm = static\npm.max_children = 1\npm.max_queue = 0",
        )
        .start();
    let address = daemon.address("probe");
    let busy = occupy(&daemon, &address, 1, 3000);
    is_refused(&address.get("/pid").expect("an answer comes"));
    let service = || {
        let all = below(daemon.pid());
        all.into_iter()
            .find(|process| process.title == "preforkd: status service")
    };
    let first = service().expect("there is one");
    first.signal(nix::sys::signal::Signal::SIGKILL);
    until("another one is there", || {
        service().is_some_and(|now| now.pid != first.pid)
    });
    is_refused(&address.get("/pid").expect("an answer comes"));
    all_answered(busy);
}

/// Nobody is there any more to get the answer.
#[test]
fn who_has_left_before_his_turn_is_not_served() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 1")
        .start();
    let address = daemon.address("probe");
    let busy = occupy(&daemon, &address, 1, 1000);
    let served = Request::get("/served");
    for _ in 0..5 {
        drop(send(&address, &served, 0));
    }
    let mut patient = send(&address, &served, 0);
    // One who has only ended his side still wants his answer.
    let mut half = send(&address, &served, 0);
    half.finish_sending().expect("it is open");
    all_answered(busy);
    let count = |answer: io::Result<Answer>| {
        let text = answer.expect("an answer").text();
        let (_, count) = text.trim().split_once(' ').expect("a pid and a count");
        count.parse::<u32>().expect("a number")
    };
    assert_eq!((count(patient.answer()), count(half.answer())), (2, 3));
}
