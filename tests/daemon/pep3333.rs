//! PEP 3333 to the letter, and what web servers make of it: the pitfalls, each as a case.

mod answer;
mod body;
mod ends;
mod environ;
mod paths;
mod remembered;

use std::io::ErrorKind;

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{
    Address, Answer, BEGIN_REQUEST, END_REQUEST, KEEP_CONN, PARAMS, RESPONDER, Request, STDIN,
    STDOUT, begin, record,
};
use crate::support::setup::{Setup, free_port};
use crate::support::wait::until;

/// Every path is a function of this file.
const PITFALLS: &str = include_str!("apps/pitfalls.py");

fn start_with(lines: &str) -> (Daemon, Address) {
    let setup = Setup::new();
    setup.folder.writable("state");
    let lines = format!(
        "pm = static\npm.max_children = 1\ncatch_workers_output = yes\nenv[STATE] = @DIR@/state\n{lines}"
    );
    let daemon = setup.wsgi("pitfalls", PITFALLS, &lines).start();
    let address = daemon.address("pitfalls");
    (daemon, address)
}

fn start() -> (Daemon, Address) {
    start_with("")
}

#[track_caller]
fn get(address: &Address, path: &str) -> Answer {
    address.get(path).expect("the pool answers")
}

#[track_caller]
fn text(address: &Address, path: &str) -> String {
    get(address, path).text()
}

#[track_caller]
fn ask(address: &Address, request: &Request) -> Answer {
    address.ask(request).expect("the pool answers")
}

fn header<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    answer
        .headers
        .iter()
        .filter(|header| header.0.eq_ignore_ascii_case(name))
        .map(|header| header.1.as_str())
        .collect()
}

/// Sends a request and expects the connection to end without an end of the request; what came before is returned.
#[track_caller]
fn broken_off(address: &Address, request: &Request, flags: u8) -> Vec<u8> {
    let mut connection = address.connect().expect("the pool listens");
    connection
        .send(&request.bytes(1, flags))
        .expect("it is open");
    let mut stdout = Vec::new();
    loop {
        match connection.record() {
            Ok(record) => {
                assert_ne!(record.kind, END_REQUEST, "it ends as if it were whole");
                assert!(
                    record.kind != STDOUT || !record.content.is_empty(),
                    "its output ends as if it were whole"
                );
                stdout.extend(record.content);
            }
            Err(error) => {
                let ends = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
                assert!(ends.contains(&error.kind()), "{error}");
                return stdout;
            }
        }
    }
}

/// The value that the application sees, as Python writes it.
fn value<'a>(environ: &'a str, name: &str) -> Option<&'a str> {
    environ
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

fn blocks(query: &str, status: &str, length: Option<&str>, method: &str) -> Request {
    let request = Request::get(&format!("/blocks?{query}"))
        .with("HTTP_STATUS", status)
        .with("REQUEST_METHOD", method);
    match length {
        Some(length) => request.with("HTTP_LENGTH", length),
        None => request,
    }
}
