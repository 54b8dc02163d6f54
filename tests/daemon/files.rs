//! Answers that are files (`wsgi.file_wrapper`): the kernel sends what is an ordinary file, everything else is read.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{
    ABORT_REQUEST, Address, Answer, Connection, END_REQUEST, KEEP_CONN, PARAMS, RESPONDER, Request,
    STDIN, STDOUT, UNKNOWN_TYPE, begin, record,
};
use crate::support::setup::{Setup, free_port};
use crate::support::wait::until;

const FILES: &str = include_str!("apps/files.py");

/// More than sockets keep on their way.
const LARGE: usize = 20_000_000;

fn start_with(lines: &str) -> (Daemon, Address) {
    let setup = Setup::new();
    setup.folder.writable("state");
    let lines = format!("pm = static\npm.max_children = 1\nenv[STATE] = @DIR@/state\n{lines}");
    let daemon = setup.wsgi("files", FILES, &lines).start();
    let address = daemon.address("files");
    (daemon, address)
}

fn start() -> (Daemon, Address) {
    start_with("")
}

/// The byte at n is n modulo 251.
fn pattern(length: usize) -> Vec<u8> {
    (0..251_u8).cycle().take(length).collect()
}

fn keep(daemon: &Daemon, name: &str, content: &[u8]) {
    std::fs::write(daemon.folder.path("state").join(name), content).expect("it can be written");
}

#[track_caller]
fn get(address: &Address, path: &str) -> Answer {
    address.get(path).expect("the pool answers")
}

fn length(answer: &Answer) -> Option<&str> {
    let header = answer
        .headers
        .iter()
        .find(|header| header.0 == "Content-Length");
    header.map(|header| header.1.as_str())
}

/// Reads what comes up to the connection's end, which is not that of an answer; returns the bytes of the body.
#[track_caller]
fn broken_off(connection: &mut Connection) -> usize {
    let mut got = 0;
    loop {
        match connection.record() {
            Ok(record) => {
                assert_eq!(record.kind, STDOUT, "nothing else comes");
                assert!(!record.content.is_empty(), "it ends as if it were whole");
                got += record.content.len();
            }
            Err(error) => {
                let ends = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
                assert!(ends.contains(&error.kind()), "{error}");
                return got;
            }
        }
    }
}

#[track_caller]
fn ask(address: &Address, path: &str) -> Connection {
    let mut connection = address.connect().expect("the pool listens");
    connection
        .send(&Request::get(path).bytes(1, 0))
        .expect("it is open");
    connection
}

#[test]
fn a_file_arrives_whole_and_is_closed() {
    let port = free_port();
    let setup = Setup::new();
    let state = setup.folder.writable("state");
    let lines = "pm = static\npm.max_children = 1\nenv[STATE] = @DIR@/state";
    let daemon = setup
        .wsgi("unix", FILES, lines)
        .wsgi("tcp", FILES, &format!("listen = 127.0.0.1:{port}\n{lines}"))
        .start();
    let tcp = Address::Tcp(([127, 0, 0, 1], port).into());
    for length_of_file in [
        0, 1, 8_192, 32_768, 32_769, 61_440, 61_441, 65_536, 3_000_001,
    ] {
        let content = pattern(length_of_file);
        std::fs::write(state.join("file"), &content).expect("it can be written");
        for address in [&daemon.address("unix"), &tcp] {
            for kind in ["plain", "raw", "changing"] {
                let answer = get(address, &format!("/{kind}/file"));
                assert!(answer.body == content, "{kind}, {length_of_file}");
                let told = get(address, "/told").text();
                // Python has read none of it: that would have moved the position.
                assert_eq!(told, format!("{kind} 0"), "{length_of_file}");
                if length_of_file > 0 {
                    assert_eq!(length(&answer), Some(&*length_of_file.to_string()));
                }
            }
        }
    }
}

#[test]
fn whatever_is_wrapped_gives_what_its_read_gives() {
    let (daemon, address) = start();
    let content = b"the file's content ".repeat(10_000);
    keep(&daemon, "file", &content);
    let compressed = std::process::Command::new("gzip")
        .arg("-k")
        .arg(daemon.folder.path("state/file"))
        .status();
    assert!(compressed.expect("gzip runs").success());
    let shouted = content.to_ascii_uppercase();
    for (path, expected) in [
        ("plain/file", &content[..]),
        ("raw/file", &content),
        ("changing/file", &content),
        ("begun/file", &content[1..]),
        ("proxy/file", &content),
        ("plain/file?from=7", &content[7..]),
        ("plain/file?from=190000", b""),
        ("plain/file?from=999999", b""),
        ("compressed/file.gz", &content),
        ("shouting/file", &shouted),
        ("translated/file", &shouted),
        ("memory/file", &content),
        ("reading/file", &content),
        ("numbered/file", &content),
        ("pipe/file", &content),
        ("socket/file", &content),
        ("kernel/file", b"Linux\n"),
    ] {
        let answer = get(&address, &format!("/{path}"));
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body == expected, "{path}: {}", answer.text());
    }
    let seeks = get(&address, "/seeks").text();
    assert_eq!(seeks, "(True, 3, 3, [b'34'], False)");
    for (path, mistake) in [
        ("text", "is made of bytes, and not of str"),
        ("closed", "of closed file"),
        ("written", "not open for reading"),
        ("nothing", "no attribute 'read'"),
    ] {
        assert_eq!(
            get(&address, &format!("/{path}/file")).status,
            500,
            "{path}"
        );
        daemon.wait_for_line(mistake);
    }
}

#[test]
fn a_part_of_a_file_is_sent() {
    let (daemon, address) = start();
    let content = pattern(500_000);
    keep(&daemon, "file", &content);
    for kind in ["plain", "memory"] {
        for (from, long) in [
            (0, 500_000),
            (1, 7),
            (65_000, 100_000),
            (499_999, 1),
            (9, 0),
        ] {
            let path = format!("/{kind}/file?from={from}&length={long}&status=206");
            let answer = get(&address, &path);
            assert_eq!(
                (answer.status, length(&answer)),
                (206, Some(&*long.to_string()))
            );
            assert!(answer.body == content[from..from + long], "{path}");
        }
        for (method, status, declared) in [
            ("HEAD", "200", Some("500000").filter(|_| kind == "plain")),
            ("GET", "304", None),
            ("GET", "204", None),
        ] {
            let request = Request::get(&format!("/{kind}/file?status={status}"));
            let answer = address.ask(&request.with("REQUEST_METHOD", method));
            let answer = answer.expect("the pool answers");
            assert_eq!(
                (length(&answer), answer.body.len()),
                (declared, 0),
                "{method}"
            );
        }
        // More than there is, of which the plain file's length is known.
        let path = format!("/{kind}/file?from=400000&length=100001");
        if kind == "plain" {
            assert_eq!(get(&address, &path).status, 500);
        } else {
            assert!(broken_off(&mut ask(&address, &path)) >= 100_000);
        }
        daemon.wait_for_line(&format!("GET {path}: the body is 1 bytes shorter than its"));
    }
    // What a file has beyond the declared length is no mistake.
    assert_eq!(daemon.lines_like("longer"), [""; 0]);
}

#[test]
fn files_over_two_and_four_gigabytes() {
    let (daemon, address) = start();
    let file = File::create(daemon.folder.path("state/file")).expect("it can be made");
    let mark = pattern(300_000);
    for at in [1_u64 << 31, 1 << 32] {
        let from = at - 150_000;
        file.write_all_at(&mark, from).expect("there is room");
    }
    file.set_len((1 << 32) + 1_000_000).expect("it is sparse");
    for at in [1_u64 << 31, 1 << 32] {
        let from = at - 150_000;
        let answer = get(&address, &format!("/plain/file?from={from}&length=300000"));
        assert!(answer.body == mark, "{from}");
    }
    let rest = get(&address, &format!("/plain/file?from={}", 1_u64 << 32));
    assert_eq!(rest.body.len(), 1_000_000);

    let all = (1_u64 << 32) + 1_000_000;
    let mut connection = ask(&address, "/plain/file");
    let first = connection.record().expect("the answer begins");
    let head = String::from_utf8_lossy(&first.content).into_owned();
    assert!(
        head.contains(&format!("Content-Length: {all}\r\n")),
        "{head}"
    );
    drop(connection);
    assert_eq!(get(&address, "/told").text(), "plain 0");
}

#[test]
fn a_file_that_becomes_shorter_is_not_passed_off_as_whole() {
    let (daemon, address) = start();
    for (left, flags) in [(5_000_000, 0), (5_000_000, KEEP_CONN), (0, 0)] {
        keep(&daemon, "file", &pattern(LARGE));
        let mut connection = address.connect().expect("the pool listens");
        connection
            .send(&Request::get("/plain/file").bytes(1, flags))
            .expect("it is open");
        connection.record().expect("the answer begins");
        let file = File::options()
            .write(true)
            .open(daemon.folder.path("state/file"))
            .expect("it is there");
        file.set_len(left).expect("it can be cut");
        let got = broken_off(&mut connection);
        assert!(got < LARGE, "{got}");
        assert_eq!(get(&address, "/told").text(), "plain 0");
    }
    daemon.wait_for_line(
        "GET /plain/file: the file that is sent cannot be read to its end: it has become shorter",
    );
}

fn blocks_sigpipe(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let mask = u64::from_str_radix(mask.expect("it has a mask").trim(), 16);
    mask.expect("a number") & (1 << 12) != 0
}

#[test]
fn a_client_that_leaves_ends_nobody_else() {
    let (daemon, address) = start();
    keep(&daemon, "file", &pattern(LARGE));
    let before = daemon.worker_pids("files");
    for path in ["/plain/file", "/plain/file?pipe"] {
        let mut connection = ask(&address, path);
        connection.record().expect("the answer begins");
        // Whether the kernel would send it depends on where the client leaves.
        assert!(blocks_sigpipe(before[0]));
        drop(connection);
        assert_eq!(get(&address, "/told").text(), "plain 0");
        assert!(!blocks_sigpipe(before[0]));
    }
    // The web server gives it up and keeps the connection.
    let mut connection = address.connect().expect("the pool listens");
    connection
        .send(&Request::get("/plain/file").bytes(1, KEEP_CONN))
        .expect("it is open");
    connection.record().expect("the answer begins");
    connection
        .send(&record(ABORT_REQUEST, 1, b"", 0))
        .expect("it is open");
    let mut got = 0;
    while let Ok(record) = connection.record()
        && record.kind == STDOUT
    {
        got += record.content.len();
    }
    assert!(got < LARGE);
    assert_eq!(daemon.worker_pids("files"), before);
    assert_eq!(daemon.lines_like("Traceback"), [""; 0]);
    assert_eq!(daemon.lines_like("cannot be read"), [""; 0]);
}

#[test]
fn a_slow_client_gets_all_of_it_and_other_threads_go_on() {
    let (daemon, address) = start();
    let content = pattern(LARGE);
    keep(&daemon, "file", &content);
    let mut connection = ask(&address, "/plain/file?thread");
    let counted = daemon.folder.path("state/counted");
    for _ in 0..3 {
        until("another thread runs", || counted.exists());
        std::fs::remove_file(&counted).expect("it is there");
    }
    keep(&daemon, "enough", b"");
    let answer = connection.answer().expect("the pool answers");
    assert!(answer.body == content);
}

#[test]
fn a_file_that_takes_too_long_is_broken_off() {
    let (daemon, address) = start_with("request_terminate_timeout = 1s");
    keep(&daemon, "file", &pattern(LARGE));
    let mut connection = ask(&address, "/plain/file");
    daemon.wait_for_line("execution timed out");
    assert!(broken_off(&mut connection) < LARGE);
    assert_eq!(get(&address, "/told").status, 200);
}

/// A web server that writes the whole body before it reads anything, and asks things meanwhile: no answer to that comes
/// between a header and its content.
#[test]
fn a_body_is_taken_while_a_file_is_sent() {
    let (daemon, address) = start();
    let content = pattern(LARGE);
    keep(&daemon, "file", &content);
    let request = Request::post("/plain/file", b"").with("CONTENT_LENGTH", "3000000");
    let mut connection = address.connect().expect("the pool listens");
    let head = [
        begin(1, RESPONDER, 0),
        record(PARAMS, 1, &request.pairs(), 0),
        record(PARAMS, 1, b"", 0),
    ];
    connection.send(&head.concat()).expect("it is open");
    let piece = [record(STDIN, 1, &[b'x'; 30_000], 0), record(77, 0, b"", 0)].concat();
    for _ in 0..100 {
        connection.send(&piece).expect("it is taken");
    }
    connection
        .send(&record(STDIN, 1, b"", 0))
        .expect("it is taken");
    let (mut body, mut replies) = (Vec::new(), 0);
    loop {
        let record = connection.record().expect("the answer is well-formed");
        match record.kind {
            STDOUT => body.extend(record.content),
            UNKNOWN_TYPE => replies += 1,
            END_REQUEST => break,
            other => panic!("a record of type {other}"),
        }
    }
    assert_eq!(replies, 100);
    assert!(body.ends_with(&content), "{}", body.len());
}

/// Where the kernel does not do it, the file is copied.
#[test]
fn a_kernel_that_refuses_is_done_without() {
    let (daemon, address) = start();
    let content = pattern(LARGE);
    keep(&daemon, "file", &content);
    for _ in 0..2 {
        let answer = get(&address, "/plain/file?refuse");
        assert!(answer.body == content, "{}", answer.body.len());
    }
    assert_eq!(get(&address, "/told").text(), "plain 0");
}
