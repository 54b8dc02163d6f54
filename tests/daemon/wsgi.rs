//! Requests and answers of Python applications, each checked against PEP 3333 by the standard library's validator.

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{Address, KEEP_CONN, Request};
use crate::support::setup::{PROBE, Setup};

fn probe() -> (Daemon, Address) {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 1")
        .start();
    let address = daemon.address("probe");
    (daemon, address)
}

/// SHA-256 by the program of that name, so that the application's answer is checked by somebody else's.
fn digest(bytes: &[u8]) -> String {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sha256sum runs");
    child
        .stdin
        .take()
        .expect("it is piped")
        .write_all(bytes)
        .expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout)
        .split(' ')
        .next()
        .expect("a digest")
        .to_owned()
}

#[test]
fn bodies_arrive_whole() {
    let (_daemon, address) = probe();
    for length in [0_usize, 1, 8_192, 65_535, 65_536, 3_000_000] {
        let body: Vec<u8> = (0..length)
            .map(|at| u8::try_from(at % 251).expect("below 251"))
            .collect();
        let answer = address
            .ask(&Request::post("/echo", &body))
            .expect("the pool answers");
        assert_eq!(answer.text().trim(), format!("{length} {}", digest(&body)));
    }
}

#[test]
fn a_body_the_application_does_not_read_does_not_disturb_the_next_request() {
    let (_daemon, address) = probe();
    let mut connection = address.connect().expect("the pool listens");
    connection
        .send(&Request::post("/pid", &[b'x'; 20_000]).bytes(1, KEEP_CONN))
        .expect("it is open");
    let first = connection.answer().expect("the pool answers");
    connection
        .send(&Request::get("/pid").bytes(1, KEEP_CONN))
        .expect("it is open");
    let second = connection.answer().expect("the pool answers");
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(first.text(), second.text());
}

#[test]
fn bytes_beyond_the_declared_length_are_not_shown() {
    let (_daemon, address) = probe();
    let request = Request::post("/echo", b"0123456789").with("CONTENT_LENGTH", "4");
    let answer = address.ask(&request).expect("the pool answers");
    assert_eq!(answer.text().trim(), format!("4 {}", digest(b"0123")));
}

#[test]
fn a_body_without_a_declared_length_arrives() {
    let (_daemon, address) = probe();
    for length in ["", "-1"] {
        let request = Request::post("/echo", b"of unknown length").with("CONTENT_LENGTH", length);
        let answer = address.ask(&request).expect("the pool answers");
        assert_eq!(
            answer.text().trim(),
            format!("17 {}", digest(b"of unknown length")),
            "CONTENT_LENGTH={length:?}"
        );
    }
}

#[test]
fn large_answers_arrive_whole() {
    let (_daemon, address) = probe();
    let answer = address.get("/large?kib=4096").expect("the pool answers");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body.len(), 4096 * 1024);
    assert!(answer.body.iter().all(|byte| *byte == b'x'));
}

/// A web server that writes the whole body before it reads anything, and an application that answers as it reads.
#[test]
fn answering_while_the_body_still_comes_does_not_lock_up() {
    let echo = "def application(environ, start_response):\n    \
                    write = start_response('200 OK', [('Content-Type', 'application/octet-stream')])\n    \
                    body = environ['wsgi.input']\n    \
                    while part := body.read(4096):\n        \
                        write(part)\n    \
                    return []\n";
    let daemon = Setup::new()
        .wsgi("echo", echo, "pm = static\npm.max_children = 1")
        .start();
    let body: Vec<u8> = (0..5_000_000_usize)
        .map(|at| u8::try_from(at % 253).expect("below 253"))
        .collect();
    let answer = daemon
        .address("echo")
        .ask(&Request::post("/", &body))
        .expect("the pool answers");
    assert!(answer.body == body, "{} bytes came back", answer.body.len());
}

#[test]
fn head_gets_the_head_only() {
    let (_daemon, address) = probe();
    let answer = address
        .ask(&Request::get("/pid").with("REQUEST_METHOD", "HEAD"))
        .expect("the pool answers");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), "");
}

/// nginx's stock parameters put the whole path into SCRIPT_NAME and send no PATH_INFO.
#[test]
fn stock_parameters_are_understood() {
    let (_daemon, address) = probe();
    let mut request = Request::get("/pid").with("SCRIPT_NAME", "/pid");
    request.params.retain(|(name, _)| name != "PATH_INFO");
    assert_eq!(address.ask(&request).expect("the pool answers").status, 200);
}

/// Web servers send what a person overrides after what they override.
#[test]
fn the_last_of_two_pairs_of_one_name_wins() {
    let (_daemon, address) = probe();
    let mut request = Request::get("/environ");
    for colour in ["red", "blue"] {
        request.params.push(("COLOUR".into(), colour.into()));
    }
    let text = address.ask(&request).expect("the pool answers").text();
    assert!(
        text.contains("COLOUR=blue") && !text.contains("COLOUR=red"),
        "{text}"
    );
}

#[test]
fn a_mount_is_cut_off_at_a_segment() {
    let daemon = Setup::new()
        .wsgi(
            "probe",
            PROBE,
            "pm = static\npm.max_children = 1\nmount = /app",
        )
        .start();
    let address = daemon.address("probe");
    let text = address
        .get("/app/environ")
        .expect("the pool answers")
        .text();
    let has = |line: &str| text.lines().any(|known| known == line);
    assert!(
        has("SCRIPT_NAME=/app") && has("PATH_INFO=/environ"),
        "{text}"
    );
}

#[test]
fn warm_up_requests_are_served_by_the_mold() {
    let counted = format!(
        "{PROBE}\nwarmed = []\ndef warm(environ, start_response):\n    warmed.append(environ['PATH_INFO'])\n    \
                           start_response('200 OK', [('Content-Type', 'text/plain')])\n    return [','.join(warmed).encode()]\n\
                           application = validator(warm)\n"
    );
    let pool = "pm = static\npm.max_children = 1\nwsgi.warmup[] = /a\nwsgi.warmup[] = /b";
    let daemon = Setup::new().wsgi("warm", &counted, pool).start();
    assert_eq!(
        daemon
            .address("warm")
            .get("/c")
            .expect("the pool answers")
            .text(),
        "/a,/b,/c"
    );
}

/// An application that tells to its log what is warmed up, and answers `/bad` with 400.
const TOLD: &str = "import sys\n\
    def application(environ, start_response):\n    \
        print('asked for', ascii((environ['PATH_INFO'], environ['REQUEST_URI'], environ['QUERY_STRING'])), file=sys.stderr)\n    \
        start_response('400 Bad Request' if environ['PATH_INFO'] == '/bad' else '302 Found', [])\n    \
        return []\n";

#[test]
fn paths_to_warm_up_are_decoded() {
    let pool = "pm = static\npm.max_children = 1\nwsgi.warmup[] = /caf%C3%a9%2/%?x=%20";
    let daemon = Setup::new().wsgi("told", TOLD, pool).start();
    daemon.wait_for_line("asked for ('/caf\\xc3\\xa9%2/%', '/caf%C3%a9%2/%?x=%20', 'x=%20')");
    assert_eq!(daemon.lines_like("to warm up"), [""; 0]);
}

#[test]
fn a_warm_up_that_is_refused_is_told() {
    let pool = "pm = static\npm.max_children = 1\nwsgi.warmup[] = /bad";
    let daemon = Setup::new().wsgi("told", TOLD, pool).start();
    daemon.wait_for_line("the request for /bad to warm up was answered 400 Bad Request");
}
