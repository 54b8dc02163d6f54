//! The pages about a pool: its status and its sign of life, beside php-fpm's own.

use std::io::Write;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{Address, Answer, KEEP_CONN, Request};
use crate::support::php_fpm::PhpFpm;
use crate::support::setup::{PROBE, Setup};
use crate::support::wait::until;

const PAGES: &str = "pm.status_path = /status\nping.path = /ping\nping.response = here I am\n";
const ONE: &str = "pm = static\npm.max_children = 1\n";

/// All formats, short and full, and what does not quite name one.
const QUERIES: [&str; 18] = [
    "",
    "full",
    "json",
    "json&full",
    "xml",
    "xml&full",
    "html",
    "html&full",
    "openmetrics",
    "openmetrics&full",
    "foo&html=1&xml",
    "openmetrics&json&xml",
    "openmetrics&json",
    "&&json=0",
    "jsonx",
    "a=json",
    "JSON",
    "full=0&xjson",
];

/// What php-fpm matches, and what `cgi-fcgi` is called with in health checks.
fn page(path: &str, query: &str) -> Request {
    let uri = if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    };
    Request::get(&uri)
        .with("SCRIPT_NAME", path)
        .with("SCRIPT_FILENAME", path)
        .with("PATH_INFO", "")
}

fn status(address: &Address, query: &str) -> Answer {
    address
        .ask(&page("/status", query))
        .expect("the pool answers")
}

/// One number of the plain status.
#[track_caller]
fn field(address: &Address, name: &str) -> u64 {
    let text = status(address, "").text();
    plain_lines(&text)
        .into_iter()
        .find(|(key, _)| key == name)
        .unwrap_or_else(|| panic!("no {name} in {text}"))
        .1
        .parse()
        .expect("it is a number")
}

type Fields = Vec<(String, String)>;

fn plain_lines(text: &str) -> Fields {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect()
}

/// The fields of a page in their order: the pool's, then each worker's.
fn fields(content_type: &str, text: &str) -> Vec<Fields> {
    let between = |text: &str, start: &str, end: &str| -> Vec<String> {
        text.split(start)
            .skip(1)
            .filter_map(|rest| rest.split(end).next())
            .map(str::to_owned)
            .collect()
    };
    match content_type.split(';').next().unwrap_or_default() {
        "text/plain" => text
            .split("\n************************\n")
            .map(plain_lines)
            .collect(),
        "application/json" => text
            .split(['{', '['])
            .filter(|part| !part.is_empty())
            .map(|part| {
                let part = part.split(['}', ']']).next().unwrap_or_default();
                part.trim_end_matches(", \"processes\":")
                    .split(",\"")
                    .filter_map(|pair| pair.split_once("\":"))
                    .map(|(key, value)| {
                        (
                            key.trim_matches('"').to_owned(),
                            value.trim_matches('"').replace("\\/", "/"),
                        )
                    })
                    .collect()
            })
            .collect(),
        "text/xml" => text
            .split("<process>")
            .map(|part| {
                between(part, "<", "</")
                    .iter()
                    .filter_map(|element| element.split_once('>'))
                    .filter(|(key, _)| !key.starts_with(['/', '?']) && !key.is_empty())
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .filter(|(key, _)| key != "status" && key != "processes")
                    .collect()
            })
            .collect(),
        "text/html" => {
            let mut tables = text.split("<table border=\"1\">");
            let mut all: Vec<Fields> = Vec::new();
            let pool = tables.next().unwrap_or_default();
            let heads = between(pool, "<th>", "</th>");
            all.push(
                heads
                    .into_iter()
                    .zip(between(pool, "<td>", "</td>"))
                    .collect(),
            );
            if let Some(table) = tables.next() {
                let heads = between(table, "<th>", "</th>");
                for row in table.split("<tr><td>").skip(1) {
                    let cells = between(&format!("<td>{row}"), "<td>", "</td>");
                    all.push(heads.iter().cloned().zip(cells).collect());
                }
            }
            all
        }
        "application/openmetrics-text" => vec![
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(|line| line.split_once(' '))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        ],
        other => panic!("a page of type {other}"),
    }
}

fn content_type(answer: &Answer) -> &str {
    let is = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("content-type");
    &answer.headers.iter().find(is).expect("a type").1
}

/// Fields whose values depend on the time, the machine, or how an interpreter of PHP resolves scripts; and the episodes
/// in which all workers were busy, which php-fpm does not count for a static pool. Its master looks at the queue once a
/// second, and may find the next client of a busy machine in it.
const VARYING: [&str; 24] = [
    "listen queue",
    "max listen queue",
    "listen-queue",
    "max-listen-queue",
    "phpfpm_listen_queue",
    "phpfpm_max_listen_queue",
    "max children reached",
    "max-children-reached",
    "phpfpm_max_children_reached",
    "start time",
    "start since",
    "start-time",
    "start-since",
    "pid",
    "request duration",
    "request-duration",
    "script",
    "last request cpu",
    "last-request-cpu",
    "last request memory",
    "last-request-memory",
    "phpfpm_start_since",
    "listen queue len",
    "listen-queue-len",
];

#[test]
fn every_format_is_as_php_fpm_writes_it() {
    let theirs = PhpFpm::start(&format!("{ONE}{PAGES}"));
    let ours = Setup::new()
        .pool("www", &format!("app = hello\n{ONE}{PAGES}"))
        .start();
    for query in QUERIES {
        let [expected, seen] = [&theirs.address, &ours.address("www")].map(|at| status(at, query));
        assert_eq!(seen.status, 200);
        assert_eq!(seen.headers, expected.headers, "?{query}");
        let [expected, seen] =
            [&expected, &seen].map(|answer| fields(content_type(answer), &answer.text()));
        assert_eq!(seen.len(), expected.len(), "?{query}: {seen:?}");
        for (expected, seen) in expected.iter().zip(&seen) {
            assert!(
                expected.len() >= 12 && seen.len() > expected.len(),
                "?{query}: {seen:?}"
            );
            for ((key, value), (our_key, our_value)) in expected.iter().zip(seen) {
                assert_eq!(our_key, key, "?{query}");
                if !VARYING.contains(&key.as_str()) {
                    assert_eq!(our_value, value, "?{query}: {key}");
                }
            }
        }
    }
    // php-fpm calls a page of any format HTML when only its head is asked for; here it is what it would be.
    for query in QUERIES {
        let request = page("/status", query).with("REQUEST_METHOD", "HEAD");
        let address = ours.address("www");
        let head = address.ask(&request).expect("the pool answers");
        let whole = status(&address, query);
        assert_eq!((head.status, &head.headers), (200, &whole.headers));
        assert_eq!(head.body, b"", "?{query}");
    }
}

#[test]
fn the_sign_of_life_is_as_php_fpm_gives_it() {
    let theirs = PhpFpm::start(&format!("{ONE}{PAGES}"));
    let ours = Setup::new()
        .pool("www", &format!("app = hello\n{ONE}{PAGES}"))
        .start();
    for method in ["GET", "HEAD", "POST"] {
        for path in ["/ping", "/ping?a=b", "/ping/", "/PING", "/pin", "/x/ping"] {
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            let request = page(path, query).with("REQUEST_METHOD", method);
            let expected = theirs.address.ask(&request).expect("php-fpm answers");
            let seen = ours.address("www").ask(&request).expect("the pool answers");
            if expected.status == 200 {
                assert_eq!(seen.headers, expected.headers, "{method} {path}");
                assert_eq!(seen.body, expected.body, "{method} {path}");
            } else {
                assert!(
                    seen.text().contains("It works") || method == "HEAD",
                    "{method} {path}"
                );
            }
        }
    }
}

/// A path comes as `SCRIPT_NAME`, as `PATH_INFO`, or in both, as the web server is configured.
#[test]
fn pages_are_found_however_a_web_server_sends_the_path() {
    let daemon = Setup::new()
        .wsgi("site", PROBE, &format!("{ONE}{PAGES}"))
        .start();
    let address = daemon.address("site");
    for (script, info) in [("/ping", ""), ("", "/ping"), ("/ping", "/ping")] {
        let request = Request::get("/ping")
            .with("SCRIPT_NAME", script)
            .with("PATH_INFO", info);
        assert_eq!(
            address.ask(&request).expect("an answer").text(),
            "here I am"
        );
    }
    let pid = address.get("/pid").expect("the application answers").text();
    assert_eq!(pid.trim(), daemon.worker_pids("site")[0].to_string());
    for path in ["/ping/", "/status/x"] {
        let answer = address.get(path).expect("the application answers");
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
}

#[test]
fn without_directives_every_path_is_the_application_s() {
    let daemon = Setup::new().wsgi("site", PROBE, ONE).start();
    for path in ["/status", "/ping", "/"] {
        let answer = daemon
            .address("site")
            .ask(&page(path, ""))
            .expect("an answer");
        assert!(
            !answer.text().contains("process manager"),
            "{}",
            answer.text()
        );
        assert_ne!(answer.text(), "pong");
    }
}

/// Values that a client chooses cannot break a page: each format is read by a parser that is not ours.
#[test]
fn hostile_requests_break_no_page() {
    let lines = format!("app = hello\n{ONE}pm.status_listen = @DIR@/status.sock\n");
    let daemon = Setup::new().pool("www", &lines).start();
    let service = Address::Unix(daemon.folder.path("status.sock"));
    let hostile = "/<b>&\"'\\\u{1}\n\t\u{7f}\u{2028}]]>%00é{}";
    let long = format!("/{}", "é<".repeat(2000));
    for uri in [hostile, &long] {
        let request = Request::get("/x")
            .with("REQUEST_URI", uri)
            .with("REQUEST_METHOD", "<GET\n")
            .with("REMOTE_USER", "\"\n")
            .with("SCRIPT_FILENAME", "/srv/\u{1b}[31m</script>");
        let answer = daemon.address("www").ask(&request).expect("an answer");
        assert_eq!(answer.status, 200);
        let shown = |query: &str, method: &str| {
            let text = service
                .ask(&page("/", query))
                .expect("the service answers")
                .text();
            assert!(text.contains(method), "{text}");
            text
        };
        parsed(
            "import json,sys; json.load(sys.stdin)",
            &shown("json&full", "\"\\u003cGET\\u000a\""),
        );
        parsed(
            "import xml.dom.minidom,sys; xml.dom.minidom.parse(sys.stdin)",
            &shown("xml&full", ">&lt;GET\\x0a<"),
        );
        let html = shown("html&full", ">&lt;GET\\x0a<");
        let document = html.split_once("\">\n<html").expect("a document").1;
        parsed(
            "import xml.dom.minidom,sys; xml.dom.minidom.parse(sys.stdin)",
            &format!("<html{document}"),
        );
        let plain = shown("full", "<GET\\x0a\n");
        let is_field = |line: &str| line.find(':').is_some_and(|colon| colon < 22);
        assert!(
            plain
                .lines()
                .all(|line| line.is_empty() || line.starts_with('*') || is_field(line)),
            "{plain}"
        );
    }
}

/// Runs a Python program that reads `text` and fails if it cannot.
#[track_caller]
fn parsed(program: &str, text: &str) {
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", program])
        .env("PYTHONIOENCODING", "utf-8")
        .stdin(Stdio::piped())
        .spawn()
        .expect("Python runs");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    assert!(
        child.wait().expect("it ends").success(),
        "{program}: {text}"
    );
}

fn counts(daemon: &Daemon) -> [u64; 4] {
    let text = status(&daemon.address("www"), "").text();
    let lines = plain_lines(&text);
    [
        "accepted conn",
        "idle processes",
        "active processes",
        "total processes",
    ]
    .map(|name| {
        let (_, value) = lines
            .iter()
            .find(|(key, _)| key == name)
            .expect("it is there");
        value.parse().expect("a number")
    })
}

/// Counts come from what workers are doing: a crash, kept connections and a worker's end leave them right.
#[test]
fn counts_stay_right_whatever_happens_to_workers() {
    let daemon = Setup::new()
        .pool(
            "www",
            &format!("app = hello\npm = static\npm.max_children = 3\npm.max_requests = 4\n{PAGES}"),
        )
        .start();
    let address = daemon.address("www");
    daemon.wait_for_workers("www", 3);
    until("all have come up", || {
        let [_, idle, active, total] = counts(&daemon);
        (idle, active, total) == (2, 1, 3)
    });
    let [before, ..] = counts(&daemon);
    for number in 1..=20 {
        assert_eq!(address.get("/x").expect("an answer").status, 200);
        let [accepted, ..] = counts(&daemon);
        assert_eq!(
            accepted,
            before + 2 * number,
            "workers end after four requests each"
        );
    }
    let mut kept: Vec<_> = (0..2)
        .map(|_| address.connect().expect("the pool listens"))
        .collect();
    for connection in &mut kept {
        connection
            .send(&Request::get("/kept").bytes(1, KEEP_CONN))
            .expect("it is open");
        connection.answer().expect("an answer");
    }
    until("kept connections count as idle", || {
        let [_, idle, active, total] = counts(&daemon);
        (idle, active, total) == (2, 1, 3)
    });
    let [before, ..] = counts(&daemon);
    for worker in daemon.workers("www") {
        worker.signal(Signal::SIGKILL);
    }
    until("new ones have come up", || {
        let [accepted, idle, active, total] = counts(&daemon);
        assert!(accepted > before, "{accepted} after {before}");
        (idle, active, total) == (2, 1, 3)
    });
    assert!(field(&address, "max active processes") <= 3);
}
