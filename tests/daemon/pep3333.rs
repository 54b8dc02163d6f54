//! PEP 3333 to the letter, and what web servers make of it: the pitfalls, each as a case.

use std::io::ErrorKind;

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{
    Address, Answer, BEGIN_REQUEST, END_REQUEST, KEEP_CONN, PARAMS, RESPONDER, Request, STDIN,
    STDOUT, begin, record,
};
use crate::support::setup::Setup;
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

#[test]
fn values_are_bytes_as_latin1() {
    let (_daemon, address) = start();
    let request = Request::get("/environ/caf\u{e9}").with("HTTP_X", "\u{2603}\u{1}");
    let environ = ask(&address, &request).text();
    assert_eq!(
        value(&environ, "PATH_INFO"),
        Some(r"'/environ/caf\xc3\xa9'")
    );
    assert_eq!(value(&environ, "HTTP_X"), Some(r"'\xe2\x98\x83\x01'"));
}

#[test]
fn what_must_not_reach_the_application_does_not() {
    let (_daemon, address) = start();
    let request = Request::post("/environ", b"1234")
        .with("HTTP_PROXY", "http://evil.example")
        .with("HTTP_CONTENT_LENGTH", "99")
        .with("HTTP_CONTENT_TYPE", "text/evil")
        .with("HTTP_TRANSFER_ENCODING", "chunked")
        .with("wsgi.url_scheme", "evil")
        .with("HTTP_X_FORWARDED_PROTO", "https");
    let environ = ask(&address, &request).text();
    for name in [
        "HTTP_PROXY",
        "HTTP_CONTENT_LENGTH",
        "HTTP_CONTENT_TYPE",
        "HTTP_TRANSFER_ENCODING",
    ] {
        assert_eq!(value(&environ, name), None, "{environ}");
    }
    assert_eq!(value(&environ, "CONTENT_LENGTH"), Some("'4'"));
    assert_eq!(value(&environ, "wsgi.url_scheme"), Some("'http'"));
    assert_eq!(value(&environ, "RAW_URI"), Some("'/environ'"));
}

#[test]
fn a_nul_in_the_path_is_a_bad_request() {
    let (_daemon, address) = start();
    for (name, path) in [("PATH_INFO", "/environ/a\0b"), ("SCRIPT_NAME", "/a\0")] {
        let request = Request::get("/environ").with(name, path);
        let answer = ask(&address, &request);
        assert_eq!(answer.status, 400, "{name}");
        let head = ask(&address, &request.with("REQUEST_METHOD", "HEAD"));
        assert_eq!((head.status, head.text().as_str()), (400, ""));
        assert_eq!(
            header(&head, "Content-Length"),
            [answer.body.len().to_string()]
        );
    }
    assert_eq!(get(&address, "/environ").status, 200);
}

#[test]
fn a_bare_request_gets_what_every_environment_has() {
    let (_daemon, address) = start();
    let bare = |params: &[(&str, &str)]| Request {
        params: params
            .iter()
            .map(|pair| (pair.0.into(), pair.1.into()))
            .collect(),
        body: Vec::new(),
    };
    assert_eq!(
        ask(&address, &bare(&[("PATH_INFO", "/valid")])).text(),
        "valid"
    );
    let empty = [
        ("PATH_INFO", "/environ"),
        ("REQUEST_METHOD", ""),
        ("SERVER_NAME", ""),
        ("SERVER_PORT", ""),
        ("SERVER_PROTOCOL", ""),
        ("HTTPS", "on"),
    ];
    let environ = ask(&address, &bare(&empty)).text();
    assert_eq!(value(&environ, "REQUEST_METHOD"), Some("'GET'"));
    assert_eq!(value(&environ, "SERVER_NAME"), Some("'localhost'"));
    assert_eq!(value(&environ, "SERVER_PORT"), Some("'443'"));
    assert_eq!(value(&environ, "SERVER_PROTOCOL"), Some("'HTTP/1.0'"));
    assert_eq!(value(&environ, "wsgi.url_scheme"), Some("'https'"));
    assert_eq!(value(&environ, "CONTENT_LENGTH"), None);
}

#[test]
fn the_scheme_is_what_the_web_server_says() {
    let (_daemon, address) = start();
    for (name, said, scheme) in [
        ("HTTPS", "on", "https"),
        ("HTTPS", "ON", "https"),
        ("HTTPS", "1", "https"),
        ("HTTPS", "True", "https"),
        ("HTTPS", "off", "http"),
        ("HTTPS", "", "http"),
        ("REQUEST_SCHEME", "https", "https"),
        ("REQUEST_SCHEME", "http", "http"),
    ] {
        let flags = ask(&address, &Request::get("/flags").with(name, said)).text();
        assert_eq!(
            flags,
            format!("False False False {scheme}"),
            "{name}={said}"
        );
    }
}

#[test]
fn a_pool_of_several_is_multiprocess_whatever_their_number_is_now() {
    let setup = Setup::new();
    let lines = "pm = ondemand\npm.max_children = 2";
    let daemon = setup.wsgi("pitfalls", PITFALLS, lines).start();
    assert_eq!(
        text(&daemon.address("pitfalls"), "/flags"),
        "True False False http"
    );
}

#[track_caller]
fn paths(address: &Address, script_name: &str, path_info: Option<&str>) -> (u16, String) {
    let mut request = Request::get("/")
        .with("SCRIPT_NAME", script_name)
        .with("HTTP_WHOLE_PATH", "1");
    request.params.retain(|(name, _)| name != "PATH_INFO");
    if let Some(path_info) = path_info {
        request.params.push(("PATH_INFO".into(), path_info.into()));
    }
    let answer = ask(address, &request);
    (answer.status, answer.text())
}

#[test]
fn paths_are_found_out() {
    let (_daemon, address) = start();
    for (script_name, path_info, expected) in [
        // nginx as it comes, HAProxy, Apache
        ("/a/b", None, "('', '/a/b')"),
        ("/a/b/", Some(""), "('', '/a/b/')"),
        ("/", None, "('', '/')"),
        // lighttpd, as far as it can be known
        ("/a", Some("/b"), "('/a', '/b')"),
        // Caddy, H2O
        ("", Some("/a/b"), "('', '/a/b')"),
        ("", None, "('', '')"),
        // Slashes where two parts meet
        ("/app/", Some("/x"), "('/app', '/x')"),
        ("/", Some("/x"), "('', '/x')"),
        ("", Some("//evil.example/"), "('', '/evil.example/')"),
        ("//evil.example", None, "('', '/evil.example')"),
        ("/app", Some("/"), "('/app', '/')"),
    ] {
        let got = paths(&address, script_name, path_info);
        assert_eq!(got, (200, expected.into()), "{script_name:?} {path_info:?}");
    }
}

#[test]
fn paths_below_a_prefix() {
    let (_daemon, address) = start_with("mount = /app");
    for (script_name, path_info, expected) in [
        ("/app/b", None, "('/app', '/b')"),
        ("", Some("/app/b"), "('/app', '/b')"),
        ("/app", Some("/b"), "('/app', '/b')"),
        ("/app/", Some("/b"), "('/app', '/b')"),
        ("/app", None, "('/app', '')"),
        ("", Some("/app/"), "('/app', '/')"),
        ("/app//b", None, "('/app', '/b')"),
        ("/app", Some("/app/b"), "('/app', '/app/b')"),
    ] {
        let got = paths(&address, script_name, path_info);
        assert_eq!(got, (200, expected.into()), "{script_name:?} {path_info:?}");
    }
    for (script_name, path_info) in [
        ("/application", None),
        ("", Some("/ap")),
        ("/a", Some("/pp")),
        ("", Some("/")),
        ("", None),
    ] {
        let (status, _) = paths(&address, script_name, path_info);
        assert_eq!(status, 404, "{script_name:?} {path_info:?}");
    }
}

#[test]
fn paths_of_an_application_at_the_root() {
    let (_daemon, address) = start_with("mount = /");
    for (script_name, path_info, expected) in [
        ("/a", Some("/b/c"), "('', '/a/b/c')"),
        ("/a/b", None, "('', '/a/b')"),
        ("/", Some("/b"), "('', '/b')"),
    ] {
        let got = paths(&address, script_name, path_info);
        assert_eq!(got, (200, expected.into()), "{script_name:?} {path_info:?}");
    }
}

/// What is remembered from request to request must never show in another one.
#[test]
fn environments_do_not_mix() {
    let (_daemon, address) = start();
    let mut connection = address.connect().expect("the pool listens");
    let mut random = 1_u32;
    let mut draw = |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 16) % below
    };
    for round in 0..400 {
        let mut request = Request::get("/environ");
        let count = if draw(10) == 0 { 150 } else { draw(8) };
        for _ in 0..count {
            let name = match draw(12) {
                0 => format!("LONG_{}", "N".repeat(200)),
                number => format!("VAR_{number}_{}", draw(count.max(4))),
            };
            let value = match draw(6) {
                0 => "v".repeat(600 + draw(3) as usize),
                1 => String::new(),
                number => format!("{}", number * draw(3)),
            };
            request.params.push((name, value));
        }
        if draw(3) == 0 {
            request.params.rotate_left(5);
        }
        let flags = KEEP_CONN;
        connection
            .send(&request.bytes(1, flags))
            .expect("it is open");
        let environ = connection.answer().expect("the pool answers").text();
        let mut expected = std::collections::BTreeMap::new();
        for (name, value) in &request.params {
            expected.insert(name.as_str(), format!("'{value}'"));
        }
        let got: std::collections::BTreeMap<_, _> = environ
            .lines()
            .filter_map(|line| line.split_once('='))
            .filter(|pair| !pair.0.starts_with("wsgi.") && pair.0 != "RAW_URI")
            .map(|(name, value)| (name, value.to_owned()))
            .collect();
        assert_eq!(got, expected, "request {round}");
    }
    for _ in 0..2 {
        assert_eq!(text(&address, "/forget"), "clean localhost");
    }
}

/// Requests on one connection, each a change of the one before that has a way of its own through what is remembered.
#[test]
fn environments_follow_each_change() {
    let (_daemon, address) = start();
    let mut connection = address.connect().expect("the pool listens");
    let base = || {
        Request::get("/environ")
            .with("HTTP_A", "a")
            .with("HTTP_B", "b")
    };
    let twice = |first: &str, second: &str| {
        let mut request = base();
        request
            .params
            .insert(3, ("HTTP_TWICE".into(), first.into()));
        request.params.push(("HTTP_TWICE".into(), second.into()));
        request
    };
    let inserted = |at: usize| {
        let mut request = base();
        request.params.insert(at, ("HTTP_NEW".into(), "new".into()));
        request
    };
    let nul = base().with("PATH_INFO", "/environ/\0");
    let large = base().with("HTTP_LARGE", &"x".repeat(20_000));
    let https = base().with("HTTPS", "on").with("SERVER_PORT", "");
    let nameless = |name: &str| base().with(name, "");
    // Taken for a pair's two lengths, what the longer value is longer by is 32 and 40: what the pair behind it has in all.
    let long = |a: &str, end: &str| {
        let request = base().with("HTTP_A", a);
        request.with("HTTP_B", &("x".repeat(40) + end + &"x".repeat(23)))
    };
    let requests = [
        base(),
        base(),
        twice("1", "2"),
        twice("1", "3"),
        twice("4", "3"),
        twice("5", "6"),
        base().with("HTTP_B", "other"),
        nul.clone(),
        base().with("HTTP_B", "yet another"),
        nul.clone(),
        nul,
        base().with("HTTP_B", "yet another"),
        inserted(5),
        inserted(20),
        inserted(0),
        base(),
        large.clone(),
        large,
        base(),
        https.clone(),
        https.with("HTTPS", ""),
        nameless("SERVER_NAME"),
        nameless("SERVER_PROTOCOL"),
        nameless("REQUEST_METHOD"),
        base().with("REQUEST_METHOD", "HEAD"),
        base(),
        // Whoever goes on with the lengths of the request before finds a pair of other lengths in the longer value.
        inserted(0),
        long("a", "1"),
        long("a (", "1"),
        long("a (", "2"),
    ];
    for (number, request) in requests.iter().enumerate() {
        connection
            .send(&request.bytes(1, KEEP_CONN))
            .expect("it is open");
        let answer = connection.answer().expect("the pool answers");
        let last: std::collections::BTreeMap<&str, &str> = request
            .params
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        if last["PATH_INFO"].contains('\0') {
            assert_eq!(answer.status, 400, "request {number}");
            continue;
        }
        let environ = answer.text();
        if last["REQUEST_METHOD"] == "HEAD" {
            assert_eq!(environ, "", "request {number}");
            continue;
        }
        let is_https = last.get("HTTPS") == Some(&"on");
        for (name, given) in last {
            let expected = match (name, given) {
                ("REQUEST_METHOD", "") => "GET",
                ("SERVER_NAME", "") => "localhost",
                ("SERVER_PROTOCOL", "") => "HTTP/1.0",
                ("SERVER_PORT", "") if is_https => "443",
                ("SERVER_PORT", "") => "80",
                _ => given,
            };
            assert_eq!(
                value(&environ, name),
                Some(format!("'{expected}'").as_str()),
                "request {number}: {name}"
            );
        }
        let scheme = if is_https { "'https'" } else { "'http'" };
        assert_eq!(value(&environ, "wsgi.url_scheme"), Some(scheme));
        for name in ["HTTP_TWICE", "HTTP_NEW", "HTTP_LARGE"] {
            let is_given = request.params.iter().any(|pair| pair.0 == name);
            assert_eq!(
                value(&environ, name).is_some(),
                is_given,
                "request {number}: {name}"
            );
        }
    }
}

#[test]
fn a_large_body_is_in_memory_but_once() {
    const LENGTH: usize = 32 << 20;
    let (_daemon, address) = start();
    let answer = ask(
        &address,
        &Request::post("/reading_at_once", &vec![b'x'; LENGTH]),
    )
    .text();
    let (length, memory) = answer.split_once(' ').expect("two numbers");
    assert_eq!(length, LENGTH.to_string());
    let memory: usize = memory.parse().expect("a number");
    assert!(
        memory < LENGTH / 2 * 3,
        "{memory} bytes of memory for {LENGTH} of the body"
    );
}

#[test]
fn the_body_is_a_file() {
    let (_daemon, address) = start();
    let texts = [
        "",
        "one line",
        "one\ntwo\nthree",
        "\n\nafter two empty ones\n",
        &"long line without an end ".repeat(2000),
        &"many\nshort\nlines\n".repeat(3000),
    ];
    for text in texts {
        for number in 0.. {
            // The application compares with the same text in a header.
            let request = Request::post("/reading", text.as_bytes())
                .with("QUERY_STRING", &number.to_string())
                .with("HTTP_BODY", &text.replace('\n', "|"));
            let mut answers = vec![ask(&address, &request)];
            // The same without a declared length.
            answers.push(ask(&address, &request.with("CONTENT_LENGTH", "")));
            if answers[0].text() == "no more" {
                break;
            }
            for answer in answers {
                assert_eq!(answer.text(), "right", "{number} {}", text.len());
            }
        }
    }
}

#[test]
fn the_body_can_be_read_after_start_response() {
    let (_daemon, address) = start();
    let answer = ask(&address, &Request::post("/read_late", b"the body"));
    assert_eq!(answer.text(), "got the body");
}

#[test]
fn lengths_that_make_no_sense_are_as_none() {
    let (_daemon, address) = start();
    for length in ["-1", "", "abc", "+8", " 8", "8 ", "99999999999999999999999"] {
        let request = Request::post("/read_late", b"the body").with("CONTENT_LENGTH", length);
        assert_eq!(ask(&address, &request).text(), "got the body", "{length:?}");
    }
    let none = Request::post("/environ", b"").with("CONTENT_LENGTH", "-1");
    assert_eq!(
        value(&ask(&address, &none).text(), "CONTENT_LENGTH"),
        Some("''")
    );
}

#[test]
fn a_body_that_ends_too_early_is_an_error() {
    let (daemon, address) = start();
    let request = Request::post("/short", b"1234").with("CONTENT_LENGTH", "10");
    let answer = ask(&address, &request);
    assert_eq!(answer.text(), "ConnectionResetError ConnectionResetError");

    // The client leaves in the middle.
    let told = daemon.folder.path("state/short");
    std::fs::remove_file(&told).expect("the application wrote it");
    let mut connection = address.connect().expect("the pool listens");
    let bytes = [
        begin(1, RESPONDER, 0),
        record(PARAMS, 1, &request.pairs(), 0),
        record(PARAMS, 1, b"", 0),
        record(STDIN, 1, b"1234", 0),
    ];
    connection.send(&bytes.concat()).expect("it is open");
    drop(connection);
    until("the application is told", || {
        std::fs::read_to_string(&told)
            .is_ok_and(|told| told == "ConnectionResetError ConnectionResetError")
    });
    assert_eq!(get(&address, "/flags").status, 200);
}

#[test]
fn a_body_beyond_its_length_stays_away_from_the_next_request() {
    let (_daemon, address) = start();
    let mut connection = address.connect().expect("the pool listens");
    let mut body = b"1234".to_vec();
    body.extend(Request::get("/raising").bytes(1, KEEP_CONN));
    let request = Request::post("/unread", &body).with("CONTENT_LENGTH", "4");
    for _ in 0..3 {
        connection
            .send(&request.bytes(1, KEEP_CONN))
            .expect("it is open");
        assert_eq!(
            connection.answer().expect("the pool answers").text(),
            "1234"
        );
    }
}

#[test]
fn objects_of_an_ended_request_are_of_no_use() {
    let (_daemon, address) = start();
    let mut connection = address.connect().expect("the pool listens");
    for (request, expected) in [
        (Request::post("/keep", b"old body"), "kept"),
        (Request::get("/keep_functions"), "kept"),
        (Request::post("/use_kept", b"new body"), "4 new body"),
    ] {
        connection
            .send(&request.bytes(1, KEEP_CONN))
            .expect("it is open");
        assert_eq!(
            connection.answer().expect("the pool answers").text(),
            expected
        );
    }
}

#[test]
fn a_second_thread_is_refused_and_not_locked_out() {
    let (daemon, address) = start();
    let mut connection = address.connect().expect("the pool listens");
    let request = Request::post("/two_threads", b"").with("CONTENT_LENGTH", "8");
    let head = [
        begin(1, RESPONDER, 0),
        record(PARAMS, 1, &request.pairs(), 0),
        record(PARAMS, 1, b"", 0),
    ];
    connection.send(&head.concat()).expect("it is open");
    let refused = daemon.folder.path("state/refused");
    until("the second thread is refused", || refused.exists());
    let body = [record(STDIN, 1, b"the body", 0), record(STDIN, 1, b"", 0)];
    connection.send(&body.concat()).expect("it is open");
    let answer = connection.answer().expect("the pool answers");
    assert_eq!(answer.text(), "True 8");
}

#[test]
fn start_response_counts_until_something_is_sent() {
    let (_daemon, address) = start();
    assert_eq!(text(&address, "/twice"), "refused");
    let replaced = get(&address, "/replaced");
    assert_eq!((replaced.status, replaced.text()), (503, "replaced".into()));
    assert_eq!(header(&replaced, "X-First"), [""; 0]);
    let late = get(&address, "/too_late");
    assert_eq!(
        (late.status, late.text()),
        (200, "begun\nraised 'the reason'".into())
    );
    assert_eq!(
        text(&address, "/empty_exc_info"),
        "begun\nexc_info holds no exception"
    );
    let late = get(&address, "/late_head");
    assert_eq!((late.status, late.text()), (202, "body".into()));
    assert_eq!(text(&address, "/writing"), "one two three four five");
}

#[test]
fn an_answer_without_a_head_is_the_applications_mistake() {
    let (daemon, address) = start();
    for path in ["/no_head", "/no_head_nor_body", "/head_after_body"] {
        assert_eq!(get(&address, path).status, 500, "{path}");
        daemon.wait_for_line(&format!("GET {path}: start_response was not called"));
    }
}

#[test]
fn a_bad_head_is_the_applications_mistake() {
    let (daemon, address) = start();
    let mut count = 0;
    loop {
        let path = format!("/bad_head?{count}");
        let answer = get(&address, &path);
        if answer.text() == "no more" {
            break;
        }
        assert_eq!(answer.status, 500, "{path}: {answer:?}");
        assert!(!answer.text().contains("sent"), "{path}: {answer:?}");
        daemon.wait_for_line(&format!("GET {path}: the application raised"));
        count += 1;
    }
    assert!(count > 30, "only {count} heads were tried");
    daemon.wait_for_line("ValueError: the header \"A\" has the control character 0x0d in it");
    daemon.wait_for_line("TypeError: the status is int, and not str");
    daemon.wait_for_line("pitfalls_app.py");
}

#[test]
fn a_good_head_arrives() {
    let (_daemon, address) = start();
    let mut connection = address.connect().expect("the pool listens");
    connection
        .send(&Request::get("/good_headers").bytes(1, 0))
        .expect("it is open");
    let first = connection.record().expect("the pool answers");
    assert_eq!(
        first.content,
        b"Status: 299 Odd Reason\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Latin: caf\xe9\r\nX-Tab: a\tb\r\n\
          X-Empty: \r\nContent-Length: 4\r\n\r\nbody"
    );
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

#[test]
fn lengths_are_declared_where_they_are_known() {
    let (_daemon, address) = start();
    for (query, status, declared, method, expected, body) in [
        ("list:one", "200 OK", None, "GET", Some("3"), "one"),
        ("tuple:one", "200", None, "GET", Some("3"), "one"),
        ("list:one,two", "200 OK", None, "GET", Some("6"), "onetwo"),
        ("list:", "200 OK", None, "GET", Some("0"), ""),
        ("iter:one", "200 OK", None, "GET", None, "one"),
        ("iter:,one,,two", "200 OK", None, "GET", None, "onetwo"),
        ("iter:one", "200 OK", Some("3"), "GET", Some("3"), "one"),
        // A HEAD has the head of the GET, as far as it is known.
        ("list:one", "200 OK", None, "HEAD", Some("3"), ""),
        ("list:", "200 OK", None, "HEAD", None, ""),
        ("list:", "200 OK", Some("99"), "HEAD", Some("99"), ""),
        ("iter:one", "200 OK", Some("3"), "HEAD", Some("3"), ""),
        ("iter:one,two", "200 OK", None, "HEAD", None, ""),
        // No body by definition.
        ("list:one", "204 No Content", None, "GET", None, ""),
        ("list:one", "204 No Content", Some("3"), "GET", None, ""),
        ("list:", "304 Not Modified", Some("3"), "GET", Some("3"), ""),
        ("list:one", "304 Not Modified", None, "GET", None, ""),
        ("iter:one", "103 Early Hints", Some("3"), "GET", None, ""),
        // Too much is cut off.
        (
            "list:one,two",
            "200 OK",
            Some("4"),
            "GET",
            Some("4"),
            "onet",
        ),
        ("iter:one,two", "200 OK", Some("3"), "GET", Some("3"), "one"),
        ("list:one", "200 OK", Some("0"), "GET", Some("0"), ""),
    ] {
        let answer = ask(&address, &blocks(query, status, declared, method));
        let what = format!("{query} {status} {declared:?} {method}: {answer:?}");
        assert_eq!(
            header(&answer, "Content-Length"),
            expected.into_iter().collect::<Vec<_>>(),
            "{what}"
        );
        assert_eq!(answer.text(), body, "{what}");
        assert_eq!(answer.status.to_string(), status[..3], "{what}");
    }
}

#[test]
fn a_body_longer_than_declared_is_told() {
    let (daemon, address) = start();
    let request = blocks("closing:one,two,three", "200 OK", Some("4"), "GET");
    assert_eq!(ask(&address, &request).text(), "onet");
    daemon.wait_for_line("GET /blocks?closing:one,two,three: the body is longer");
    assert_eq!(text(&address, "/closings"), "blocks");
    assert_eq!(text(&address, "/write_too_much"), "body");
    assert_eq!(text(&address, "/closings"), "refused");
}

#[test]
fn a_body_shorter_than_declared_is_not_passed_off_as_whole() {
    let (daemon, address) = start();
    let request = blocks("closing:one,two", "200 OK", Some("10"), "GET");
    for flags in [0, KEEP_CONN] {
        broken_off(&address, &request, flags);
    }
    daemon.wait_for_line("GET /blocks?closing:one,two: the body is 4 bytes shorter");
    assert_eq!(text(&address, "/closings"), "blocks,blocks");
}

#[test]
fn each_block_is_sent_before_the_next_is_asked_for() {
    let (daemon, address) = start();
    let mut connection = address.connect().expect("the pool listens");
    connection
        .send(&Request::get("/one_by_one").bytes(1, 0))
        .expect("it is open");
    for number in 0..3 {
        let record = connection.record().expect("the block comes");
        assert!(
            record.content.ends_with(format!("{number}\n").as_bytes()),
            "{record:?}"
        );
        daemon.folder.write(&format!("state/seen-{number}"), "");
    }
    assert_eq!(connection.record().expect("it ends").content, b"");
}

#[test]
fn the_answer_ends_with_its_declared_length() {
    let (daemon, address) = start();
    // The application goes on until the answer has come.
    assert_eq!(text(&address, "/ends_early"), "body");
    daemon.folder.write("state/answered", "");
    assert_eq!(get(&address, "/flags").status, 200);
}

#[test]
fn what_is_returned_must_be_blocks_of_bytes() {
    let (daemon, address) = start();
    for number in 0..8 {
        let path = format!("/returned?{number}");
        assert_eq!(get(&address, &path).status, 500, "{path}");
        daemon.wait_for_line(&format!("GET {path}: the application raised"));
    }
    daemon.wait_for_line("TypeError: the application returned bytes instead of an iterable");
    daemon.wait_for_line("TypeError: the body of an answer is made of bytes, and not of bytearray");
}

#[test]
fn a_wrapped_file_is_sent_from_its_position_and_closed() {
    let (daemon, address) = start();
    let content = format!("___{}", "file".repeat(60_000));
    daemon.folder.write("state/file", &content);
    assert!(get(&address, "/wrapped").body == content.as_bytes()[3..]);
    assert_eq!(text(&address, "/is_closed"), "True");
    let head = ask(
        &address,
        &Request::get("/wrapped").with("REQUEST_METHOD", "HEAD"),
    );
    assert_eq!(head.text(), "");
    assert_eq!(text(&address, "/is_closed"), "True");
}

#[test]
fn close_is_called_once_whatever_happens() {
    let (_daemon, address) = start();
    get(&address, "/blocks?closing:one,two");
    assert_eq!(text(&address, "/closings"), "blocks");
    ask(&address, &blocks("closing:one", "200 OK", None, "HEAD"));
    assert_eq!(text(&address, "/closings"), "blocks");
    ask(
        &address,
        &blocks("closing:one", "204 No Content", None, "GET"),
    );
    assert_eq!(text(&address, "/closings"), "blocks");
    assert_eq!(get(&address, "/raising_in_iteration?early").status, 500);
    assert_eq!(text(&address, "/closings"), "raising");
    assert_eq!(get(&address, "/raising_in_close").text(), "whole");
    assert_eq!(text(&address, "/closings"), "raising in close");
}

#[test]
fn whatever_an_application_raises_is_a_500() {
    let (daemon, address) = start();
    let worker = text(&address, "/pid");
    for number in 0..4 {
        let answer = get(&address, &format!("/raising?{number}"));
        assert_eq!(answer.status, 500, "{number}");
        assert!(!answer.text().contains("lost"), "{}", answer.text());
    }
    for line in [
        "GET /raising?0: the application raised",
        "LookupError: lost",
        "SystemExit: 3",
        "KeyboardInterrupt",
        "GeneratorExit",
        "in raising",
    ] {
        daemon.wait_for_line(line);
    }
    assert_eq!(text(&address, "/pid"), worker);
}

#[test]
fn an_exception_in_the_middle_breaks_the_answer_off() {
    let (daemon, address) = start();
    let worker = text(&address, "/pid");
    let request = Request::get("/raising_in_iteration?late");
    for flags in [0, KEEP_CONN] {
        let sent = broken_off(&address, &request, flags);
        assert!(sent.ends_with(b"first"));
    }
    daemon.wait_for_line("LookupError: in iteration");
    assert_eq!(text(&address, "/closings"), "raising,raising");
    assert_eq!(text(&address, "/pid"), worker);
}

#[test]
fn a_child_that_falls_out_of_the_application_ends_as_a_script_would() {
    let (daemon, address) = start();
    let worker = text(&address, "/pid");
    for (fall, status) in [
        ("returning", "0"),
        ("exiting", "0"),
        ("exiting_with_3", "3"),
        ("exiting_with_words", "1"),
        ("raising", "1"),
    ] {
        assert_eq!(
            text(&address, &format!("/forking?{fall}")),
            status,
            "{fall}"
        );
    }
    assert_eq!(text(&address, "/forking_in_iteration"), "first 0");
    assert_eq!(text(&address, "/forking_in_close"), "whole");
    assert_eq!(text(&address, "/closings"), "0");
    assert_eq!(text(&address, "/pid"), worker);
    assert_eq!(daemon.worker_pids("pitfalls").len(), 1);
    daemon.wait_for_line("stderr: \"the child's last words\"");
    daemon.wait_for_line("IndexError");
    assert_eq!(daemon.lines_like("SystemExit"), [""; 0]);
    assert_eq!(daemon.lines_like("Traceback").len(), 1);
}

#[test]
fn nobody_is_answered_who_has_left() {
    let (daemon, address) = start();
    for (path, noted) in [("/endless", "endless"), ("/writing_for_ever", "told")] {
        let mut connection = address.connect().expect("the pool listens");
        connection
            .send(&Request::get(path).bytes(1, 0))
            .expect("it is open");
        connection.record().expect("the answer begins");
        drop(connection);
        assert_eq!(text(&address, "/closings"), noted);
    }
    // A client that leaves is no failure of the application.
    assert_eq!(daemon.lines_like("Traceback"), [""; 0]);
}

#[test]
fn errors_are_in_the_log() {
    let (daemon, address) = start();
    let answer = get(&address, "/errors");
    assert_eq!(answer.stderr, b"");
    daemon.wait_for_line("written to wsgi.errors");
    daemon.wait_for_line("lines to wsgi.errors");
}

/// The web server gives the request up and keeps the connection.
#[test]
fn an_aborted_request_ends() {
    const ABORT_REQUEST: u8 = BEGIN_REQUEST + 1;
    let (_daemon, address) = start();
    let mut connection = address.connect().expect("the pool listens");
    let request = Request::post("/endless", b"").with("CONTENT_LENGTH", "5");
    let bytes = [
        begin(1, RESPONDER, KEEP_CONN),
        record(PARAMS, 1, &request.pairs(), 0),
        record(PARAMS, 1, b"", 0),
    ];
    connection.send(&bytes.concat()).expect("it is open");
    connection.record().expect("the answer begins");
    connection
        .send(&record(ABORT_REQUEST, 1, b"", 0))
        .expect("it is open");
    assert_eq!(text(&address, "/closings"), "endless");
}
