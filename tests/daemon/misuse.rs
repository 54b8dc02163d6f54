//! An application that misuses each rule of WSGI: the log has one line that names its mistake, and nothing of it comes
//! over the wire that a web server could take for something else.

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{Address, END_REQUEST, Request, STDOUT};
use crate::support::http::Browser;
use crate::support::nginx::Nginx;
use crate::support::setup::Setup;
use crate::support::wait::until;

const MISUSE: &str = include_str!("apps/misuse.py");

fn start() -> (Daemon, Address) {
    let setup = Setup::new();
    setup.folder.write("run/.made", "");
    let lines = "listen = @DIR@/run/tour.sock\npm = static\npm.max_children = 1\ncatch_workers_output = yes";
    let daemon = setup.wsgi("misuse", MISUSE, lines).start();
    let address = Address::Unix(daemon.folder.path("run/tour.sock"));
    (daemon, address)
}

/// Before anything has been sent: the mistake, and how its line of the log begins after the request.
const EARLY: &[(&str, &str)] = &[
    ("status-number", "TypeError: the status is int, and not str"),
    (
        "status-bytes",
        "TypeError: the status is bytes, and not str",
    ),
    (
        "status-none",
        "TypeError: the status is NoneType, and not str",
    ),
    (
        "status-empty",
        "ValueError: the status \"\" is not three digits",
    ),
    (
        "status-short",
        "ValueError: the status \"20\" is not three digits",
    ),
    (
        "status-long",
        "ValueError: the status \"2000 OK\" is not three digits",
    ),
    (
        "status-words",
        "ValueError: the status \"OK\" is not three digits",
    ),
    (
        "status-low",
        "ValueError: the status \"099 Too Low\" is not three digits",
    ),
    (
        "status-crlf",
        "ValueError: the status \"200 OK\\r\\nX-Injected: yes\" has the control character 0x0d",
    ),
    (
        "status-lf",
        "ValueError: the status \"200 OK\\nX-Injected: yes\" has the control character 0x0a",
    ),
    (
        "status-end",
        "ValueError: the status \"200 OK\\r\\n\" has the control character 0x0d",
    ),
    (
        "status-nul",
        "ValueError: the status \"200 O\\x00K\" has the control character 0x00",
    ),
    (
        "status-wide",
        "ValueError: the status has characters that are not Latin-1",
    ),
    (
        "status-surrogate",
        "ValueError: the status has characters that are not Latin-1",
    ),
    (
        "headers-none",
        "TypeError: the headers are not a list of tuples",
    ),
    (
        "headers-tuple",
        "TypeError: the headers are not a list of tuples",
    ),
    (
        "headers-dict",
        "TypeError: the headers are not a list of tuples",
    ),
    (
        "headers-iterator",
        "TypeError: the headers are not a list of tuples",
    ),
    (
        "pair-list",
        "TypeError: a header is not a tuple of two strings",
    ),
    (
        "pair-text",
        "TypeError: a header is not a tuple of two strings",
    ),
    (
        "pair-short",
        "TypeError: a header is not a tuple of two strings",
    ),
    (
        "pair-long",
        "TypeError: a header is not a tuple of two strings",
    ),
    (
        "name-number",
        "TypeError: the name of a header is int, and not str",
    ),
    (
        "name-bytes",
        "TypeError: the name of a header is bytes, and not str",
    ),
    ("name-empty", "ValueError: \"\" is no name for a header"),
    ("name-blank", "ValueError: \"A B\" is no name for a header"),
    ("name-colon", "ValueError: \"A:\" is no name for a header"),
    (
        "name-crlf",
        "ValueError: \"A: b\\r\\nX-Injected\" is no name for a header",
    ),
    (
        "name-lf",
        "ValueError: \"A\\nX-Injected\" is no name for a header",
    ),
    ("name-nul", "ValueError: \"A\\x00\" is no name for a header"),
    (
        "name-wide",
        "ValueError: the name of a header has characters that are not Latin-1",
    ),
    (
        "name-latin",
        "ValueError: \"caf\\xe9\" is no name for a header",
    ),
    (
        "value-none",
        "TypeError: the value of a header is NoneType, and not str",
    ),
    (
        "value-number",
        "TypeError: the value of a header is int, and not str",
    ),
    (
        "value-bytes",
        "TypeError: the value of a header is bytes, and not str",
    ),
    (
        "value-crlf",
        "ValueError: the header \"A\" has the control character 0x0d",
    ),
    (
        "value-lf",
        "ValueError: the header \"A\" has the control character 0x0a",
    ),
    (
        "value-cr",
        "ValueError: the header \"A\" has the control character 0x0d",
    ),
    (
        "value-folded",
        "ValueError: the header \"A\" has the control character 0x0d",
    ),
    (
        "value-body",
        "ValueError: the header \"A\" has the control character 0x0d",
    ),
    (
        "value-nul",
        "ValueError: the header \"A\" has the control character 0x00",
    ),
    (
        "value-escape",
        "ValueError: the header \"A\" has the control character 0x1b",
    ),
    (
        "value-delete",
        "ValueError: the header \"A\" has the control character 0x7f",
    ),
    (
        "value-wide",
        "ValueError: the value of a header has characters that are not Latin-1",
    ),
    (
        "value-surrogate",
        "ValueError: the value of a header has characters that are not Latin-1",
    ),
    (
        "value-cookie",
        "ValueError: the header \"Set-Cookie\" has the control character 0x0d",
    ),
    (
        "value-place",
        "ValueError: the header \"Location\" has the control character 0x0d",
    ),
    (
        "status-header",
        "ValueError: the status is given as the first argument, and not as a header",
    ),
    (
        "length-words",
        "ValueError: the Content-Length \"ten\" is no length",
    ),
    (
        "length-negative",
        "ValueError: the Content-Length \"-1\" is no length",
    ),
    (
        "length-plus",
        "ValueError: the Content-Length \"+1\" is no length",
    ),
    (
        "length-blank",
        "ValueError: the Content-Length \" 1\" is no length",
    ),
    (
        "length-empty",
        "ValueError: the Content-Length \"\" is no length",
    ),
    (
        "length-hex",
        "ValueError: the Content-Length \"0x10\" is no length",
    ),
    (
        "length-list",
        "ValueError: the Content-Length \"10, 10\" is no length",
    ),
    (
        "length-huge",
        "ValueError: the Content-Length \"999999999999999999999999999999\" is no length",
    ),
    (
        "length-number",
        "TypeError: the value of a header is int, and not str",
    ),
    ("length-two", "ValueError: two Content-Lengths, 1 and 2"),
    (
        "body-none",
        "TypeError: the application returned NoneType instead of an iterable of bytes",
    ),
    ("body-number", "TypeError: 'int' object is not iterable"),
    (
        "body-text",
        "TypeError: the application returned str instead of an iterable of bytes",
    ),
    (
        "body-bytes",
        "TypeError: the application returned bytes instead of an iterable of bytes",
    ),
    (
        "block-text",
        "TypeError: the body of an answer is made of bytes, and not of str",
    ),
    (
        "block-none",
        "TypeError: the body of an answer is made of bytes, and not of NoneType",
    ),
    (
        "block-number",
        "TypeError: the body of an answer is made of bytes, and not of int",
    ),
    (
        "block-bytearray",
        "TypeError: the body of an answer is made of bytes, and not of bytearray",
    ),
    (
        "block-view",
        "TypeError: the body of an answer is made of bytes, and not of memoryview",
    ),
    (
        "block-streamed-text",
        "TypeError: the body of an answer is made of bytes, and not of str",
    ),
    (
        "too-little",
        "the body is 94 bytes shorter than its Content-Length",
    ),
    (
        "nothing",
        "the body is 99 bytes shorter than its Content-Length",
    ),
    ("no-head", "start_response was not called before"),
    ("no-head-nor-body", "start_response was not called before"),
    ("late-head", "start_response was not called before"),
    (
        "two-heads",
        "AssertionError: start_response was called a second time",
    ),
    (
        "exc-info-text",
        "TypeError: exc_info is not a tuple of three",
    ),
    (
        "exc-info-short",
        "TypeError: exc_info is not a tuple of three",
    ),
    (
        "exc-info-exception",
        "TypeError: exc_info is not a tuple of three",
    ),
    ("named-arguments", "TypeError: "),
    ("no-headers", "TypeError: "),
    (
        "write-text",
        "TypeError: the body of an answer is made of bytes, and not of str",
    ),
    (
        "write-none",
        "TypeError: the body of an answer is made of bytes, and not of NoneType",
    ),
    (
        "takes-no-start-response",
        "TypeError: takes_no_start_response() takes 1 positional argument",
    ),
    (
        "returns-a-class",
        "TypeError: 'type' object is not iterable",
    ),
    ("exits", "SystemExit: X-Injected"),
    (
        "raises-lines",
        "LookupError: one line\\x0aGET /forged: the application is fine\\x0d\\x1b[2J",
    ),
    ("raises-what-cannot-be-told", "Mute"),
    ("reads-into-nothing", "TypeError: "),
    ("reads-text", "TypeError: "),
];

/// When the beginning has been sent.
const MIDDLE: &[(&str, &str)] = &[
    (
        "later-text",
        "TypeError: the body of an answer is made of bytes, and not of str",
    ),
    (
        "later-none",
        "TypeError: the body of an answer is made of bytes, and not of NoneType",
    ),
    (
        "later-head",
        "AssertionError: start_response was called a second time",
    ),
    ("later-exception", "LookupError: late"),
    (
        "streams-too-little",
        "the body is 94 bytes shorter than its Content-Length",
    ),
];

/// When all of it has been sent, which is the word `whole`.
const LATE: &[(&str, &str)] = &[
    ("too-much", "the body is longer than its Content-Length"),
    (
        "writes-after-the-end",
        "closing the answer raised ValueError: a block was written after the end of the body",
    ),
    (
        "starts-after-the-end",
        "closing the answer raised AssertionError: start_response was called a second time",
    ),
    (
        "raises-in-close",
        "closing the answer raised IndexError: list index out of range",
    ),
];

/// The log's lines that name the request: one for each time that it was asked, and all with the mistake.
#[track_caller]
fn told(daemon: &Daemon, name: &str, mistake: &str, times: usize) {
    let about = format!("GET /{name}: ");
    until(&format!("the log tells of {name}"), || {
        daemon.lines_like(&about).len() >= times
    });
    let lines = daemon.lines_like(&about);
    assert_eq!(lines.len(), times, "{lines:?}");
    for line in lines {
        assert!(line.contains(mistake), "{name}: not {mistake:?}: {line}");
    }
}

#[test]
fn mistakes_before_the_answer_are_errors_of_the_server() {
    let (daemon, address) = start();
    let nginx = Nginx::start(&daemon.folder);
    let mut browser = Browser::new(nginx.port);
    let worker = address.worker_pid();
    for (name, mistake) in EARLY {
        let answer = address.get(&format!("/{name}")).expect("the pool answers");
        assert_eq!(answer.status, 500, "{name}: {answer:?}");
        let seen = format!("{answer:?}");
        assert!(!seen.contains("X-Injected"), "{name}: {seen}");
        let page = browser.get(&format!("/{name}")).expect("nginx answers");
        assert_eq!(page.status, 500, "{name}: {page:?}");
        assert!(
            !format!("{page:?}").contains("X-Injected"),
            "{name}: {page:?}"
        );
        // Everybody asks twice: nothing of a mistake is left for the next request.
        told(&daemon, name, mistake, 2);
    }
    assert_eq!(address.worker_pid(), worker);
}

#[test]
fn mistakes_in_the_answer_break_it_off() {
    let (daemon, address) = start();
    for (name, mistake) in MIDDLE {
        let mut connection = address.connect().expect("the pool listens");
        connection
            .send(&Request::get(&format!("/{name}")).bytes(1, 0))
            .expect("it is open");
        let mut stdout = Vec::new();
        while let Ok(record) = connection.record() {
            assert_ne!(record.kind, END_REQUEST, "{name} ends as if it were whole");
            assert!(
                record.kind == STDOUT && !record.content.is_empty(),
                "{name}: {record:?}"
            );
            stdout.extend(record.content);
        }
        assert!(stdout.ends_with(b"\r\n\r\nbegun"), "{name}: {stdout:?}");
        told(&daemon, name, mistake, 1);
    }
}

#[test]
fn mistakes_after_the_answer_harm_nobody() {
    let (daemon, address) = start();
    let worker = address.worker_pid();
    for (name, mistake) in LATE {
        let answer = address.get(&format!("/{name}")).expect("the pool answers");
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "whole"),
            "{name}"
        );
        told(&daemon, name, mistake, 1);
    }
    assert_eq!(address.worker_pid(), worker);
}

/// A string is what it holds, whatever its class says of it.
#[test]
fn classes_of_strings_change_nothing() {
    let (_daemon, address) = start();
    for name in ["sly-value", "sly-status"] {
        let answer = address.get(&format!("/{name}")).expect("the pool answers");
        assert_eq!(
            (
                answer.status,
                answer.headers.iter().any(|header| header.0 == "X-Injected")
            ),
            (200, false)
        );
    }
}

/// No mistake is tried that nobody looks at.
#[test]
fn all_mistakes_are_looked_at() {
    let begin = MISUSE.find("\nMISTAKES = {").expect("they are listed");
    let listed = MISUSE[begin..]
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\": "));
    for (name, _) in listed {
        let tables = [EARLY, MIDDLE, LATE];
        let known = tables
            .iter()
            .any(|table| table.iter().any(|row| row.0 == name));
        assert!(known || name.starts_with("sly-"), "{name} is in no table");
    }
}
