//! A site of Flask's, alone and behind nginx.

use std::process::{Command, Stdio};

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{Address, Answer, Request};
use crate::support::nginx::Nginx;
use crate::support::setup::Setup;

const SITE: &str = include_str!("apps/flask_site.py");

const LENGTH: usize = 3_000_000;

fn start(lines: &str) -> (Daemon, Address) {
    let setup = Setup::new();
    setup.folder.write("run/.made", "");
    let state = setup.folder.writable("state");
    std::fs::write(state.join("file.bin"), pattern()).expect("it can be written");
    let lines = format!(
        "listen = @DIR@/run/tour.sock\npm = static\npm.max_children = 2\nenv[STATE] = @DIR@/state\n\
         catch_workers_output = yes\n{lines}"
    );
    let daemon = setup.wsgi("shop", SITE, &lines).start();
    let address = Address::Unix(daemon.folder.path("run/tour.sock"));
    (daemon, address)
}

fn pattern() -> Vec<u8> {
    (0..251_u8).cycle().take(LENGTH).collect()
}

#[track_caller]
fn ask(address: &Address, request: &Request) -> Answer {
    address.ask(request).expect("the pool answers")
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let header = answer.headers.iter().find(|header| header.0 == name);
    header.map(|header| header.1.as_str())
}

/// What curl gets from nginx.
#[track_caller]
fn curl(nginx: &Nginx, path: &str, options: &[&str]) -> Vec<u8> {
    let output = Command::new("curl")
        .args(["-s", "-S", "--max-time", "20"])
        .args(options)
        .arg(format!("http://127.0.0.1:{}{path}", nginx.port))
        .stdin(Stdio::null())
        .output()
        .expect("curl is installed; tests/run.sh does it");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{path}: {told}");
    output.stdout
}

#[test]
fn parts_of_a_stream_arrive_one_by_one() {
    let (daemon, address) = start("");
    let mut connection = address.connect().expect("the pool listens");
    connection
        .send(&Request::get("/stream?name=it").bytes(1, 0))
        .expect("it is open");
    for number in 0..3 {
        let record = connection.record().expect("the part comes");
        let part = format!("{number} of it\n");
        assert!(record.content.ends_with(part.as_bytes()), "{record:?}");
        std::fs::write(daemon.folder.path(&format!("state/seen-{number}")), "")
            .expect("it can be written");
    }
    assert_eq!(connection.record().expect("it ends").content, b"");
}

#[test]
fn a_stream_that_nobody_reads_ends() {
    let (daemon, address) = start("pm.max_children = 1");
    for number in 0..3 {
        daemon.folder.write(&format!("state/seen-{number}"), "");
    }
    let mut connection = address.connect().expect("the pool listens");
    connection
        .send(&Request::get("/stream?name=left&endless=").bytes(1, 0))
        .expect("it is open");
    connection.record().expect("the answer begins");
    drop(connection);
    assert_eq!(ask(&address, &Request::get("/ended")).text(), "left");
}

#[test]
fn files_are_sent_whole_in_part_or_not_at_all() {
    let (_daemon, address) = start("");
    let content = pattern();
    let whole = ask(&address, &Request::get("/file/file.bin"));
    assert_eq!(header(&whole, "Content-Length"), Some("3000000"));
    assert!(whole.body == content);
    let tag = header(&whole, "ETag").expect("Flask gives one");

    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=1000000-1999999", 1_000_000, 2_000_000),
        ("bytes=-500", LENGTH - 500, LENGTH),
        ("bytes=2999990-", LENGTH - 10, LENGTH),
    ] {
        let request = Request::get("/file/file.bin").with("HTTP_RANGE", range);
        let part = ask(&address, &request);
        let told = format!("bytes {from}-{}/{LENGTH}", to - 1);
        assert_eq!(
            (part.status, header(&part, "Content-Range")),
            (206, Some(&*told))
        );
        assert!(part.body == content[from..to], "{range}");
    }
    let beyond = Request::get("/file/file.bin").with("HTTP_RANGE", "bytes=3000000-");
    assert_eq!(ask(&address, &beyond).status, 416);

    let known = Request::get("/file/file.bin").with("HTTP_IF_NONE_MATCH", tag);
    let answer = ask(&address, &known);
    assert_eq!((answer.status, answer.body.len()), (304, 0));
    let head = Request::get("/file/file.bin").with("REQUEST_METHOD", "HEAD");
    let answer = ask(&address, &head);
    assert_eq!(header(&answer, "Content-Length"), Some("3000000"));
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let memory = ask(&address, &Request::get("/memory"));
    assert_eq!(memory.text(), "from memory ".repeat(1000));
    assert_eq!(ask(&address, &Request::get("/file/none")).status, 500);
}

#[test]
fn errors_are_flasks_own() {
    let (daemon, address) = start("");
    for status in [400, 404, 413, 503] {
        let answer = ask(&address, &Request::get(&format!("/abort/{status}")));
        assert_eq!(answer.status, status);
    }
    assert_eq!(ask(&address, &Request::get("/raise")).status, 500);
    daemon.wait_for_line("LookupError: nothing to find here");
}

#[test]
fn a_site_below_a_prefix_knows_its_place() {
    let (_daemon, address) = start("mount = /shop");
    let answer = ask(&address, &Request::get("/shop/"));
    assert_eq!(answer.text(), "/shop/ http://localhost/shop/");
}

#[test]
fn a_site_behind_nginx() {
    let (daemon, _) = start("");
    let nginx = Nginx::start(&daemon.folder);
    let content = pattern();
    assert!(curl(&nginx, "/file/file.bin", &[]) == content);
    let part = curl(&nginx, "/file/file.bin", &["-r", "7-2000000"]);
    assert!(part == content[7..=2_000_000]);
    let upload = daemon.folder.path("upload").display().to_string();
    // nginx takes a megabyte unless it is told otherwise.
    const LENGTH: usize = 900_000;
    std::fs::write(&upload, vec![b'x'; LENGTH]).expect("it can be written");
    for chunked in [&[][..], &["-H", "Transfer-Encoding: chunked"]] {
        let file = format!("file=@{upload}");
        let form = [&["-F", "name=caf\u{e9}", "-F", &file][..], chunked].concat();
        let told = String::from_utf8(curl(&nginx, "/form", &form)).expect("JSON");
        assert_eq!(
            told.trim(),
            format!("{{\"length\":{LENGTH},\"name\":\"caf\\u00e9\",\"same\":true}}")
        );
    }
    let jar = daemon.folder.path("jar").display().to_string();
    for visit in 1..=6 {
        let told = curl(&nginx, "/visit", &["-b", &jar, "-c", &jar]);
        assert_eq!(told, visit.to_string().into_bytes());
    }
}
