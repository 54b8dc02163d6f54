//! The built-in application on every kind of address.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{Address, KEEP_CONN, Request};
use crate::support::setup::{Setup, free_port};

const HELLO: &str = "app = hello\npm = static\npm.max_children = 2";

/// The page shows what was asked and who answers.
#[track_caller]
fn shows_the_request(daemon: &Daemon, address: &Address) {
    let answer = address
        .get("/some/page?colour=blue")
        .expect("the pool answers");
    let text = answer.text();
    assert_eq!(
        (
            answer.status,
            answer.application_status,
            answer.protocol_status
        ),
        (200, 0, 0),
        "{text}"
    );
    for word in [
        "REQUEST_URI",
        "/some/page?colour=blue",
        "REQUEST_METHOD",
        "REMOTE_ADDR",
    ] {
        assert!(text.contains(word), "no {word} in:\n{text}");
    }
    let pids = daemon.worker_pids("hello");
    assert!(
        pids.iter().any(|pid| text.contains(&pid.to_string())),
        "none of {pids:?} in:\n{text}"
    );
}

#[test]
fn answers_on_a_unix_socket() {
    let daemon = Setup::new().pool("hello", HELLO).start();
    daemon.wait_for_workers("hello", 2);
    shows_the_request(&daemon, &daemon.address("hello"));
}

#[test]
fn answers_on_an_ipv4_address() {
    let port = free_port();
    let daemon = Setup::new()
        .pool("hello", &format!("listen = 127.0.0.1:{port}\n{HELLO}"))
        .start();
    daemon.wait_for_workers("hello", 2);
    shows_the_request(&daemon, &Address::Tcp((Ipv4Addr::LOCALHOST, port).into()));
}

#[test]
fn answers_on_an_ipv6_address() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("this machine has no IPv6 loopback address: nothing is tested");
        return;
    }
    let port = free_port();
    let daemon = Setup::new()
        .pool("hello", &format!("listen = [::1]:{port}\n{HELLO}"))
        .start();
    daemon.wait_for_workers("hello", 2);
    shows_the_request(
        &daemon,
        &Address::Tcp(SocketAddr::from((Ipv6Addr::LOCALHOST, port))),
    );
}

#[test]
fn escapes_what_it_shows() {
    let daemon = Setup::new().pool("hello", HELLO).start();
    let request = Request::get("/").with("QUERY_STRING", "<script>alert(1)</script>");
    let answer = daemon
        .address("hello")
        .ask(&request)
        .expect("the pool answers");
    assert_eq!(answer.status, 200);
    let is_html = answer
        .headers
        .iter()
        .any(|(name, value)| name.eq_ignore_ascii_case("content-type") && value.contains("html"));
    assert!(
        !is_html || !answer.text().contains("<script>alert"),
        "{}",
        answer.text()
    );
}

#[test]
fn a_kept_connection_serves_many_requests() {
    let daemon = Setup::new().pool("hello", HELLO).start();
    let mut connection = daemon.address("hello").connect().expect("the pool listens");
    for number in 1..=20 {
        connection
            .send(&Request::get(&format!("/{number}")).bytes(number, KEEP_CONN))
            .expect("it is open");
        let answer = connection.answer().expect("the pool answers");
        assert_eq!((answer.id, answer.status), (number, 200));
        assert!(answer.text().contains(&format!("/{number}")));
    }
    connection
        .send(&Request::get("/last").bytes(1, 0))
        .expect("it is open");
    assert_eq!(connection.answer().expect("the pool answers").status, 200);
    connection
        .expect_end()
        .expect("without the flag, the pool closes");
}

/// Two workers, two connections kept by their clients: a third client is served nonetheless.
#[test]
fn kept_connections_pin_no_worker() {
    let daemon = Setup::new().pool("hello", HELLO).start();
    let address = daemon.address("hello");
    let mut kept: Vec<_> = (0..4)
        .map(|_| address.connect().expect("the pool listens"))
        .collect();
    for connection in &mut kept {
        connection
            .send(&Request::get("/kept").bytes(1, KEEP_CONN))
            .expect("it is open");
        assert_eq!(connection.answer().expect("the pool answers").status, 200);
    }
    for _ in 0..10 {
        assert_eq!(address.get("/new").expect("the pool answers").status, 200);
    }
}
