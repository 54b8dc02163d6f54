//! Plain CGI programs: `exec.protocol = cgi`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use nix::sys::signal::Signal;

use crate::support::fastcgi::{KEEP_CONN, Request};
use crate::support::load::Load;
use crate::support::process::{self, Process};
use crate::support::setup::Setup;
use crate::support::wait::until;

use super::host::{Host, POOL, Program};
use super::suite::{self, cases};
use super::transfer::{get, is_cut_off, transfer, upload};

const PROGRAM: Program = Program::Cgi;
const ONE: &str = "pm = static\npm.max_children = 1\n";

cases!(
    PROGRAM;
    proxy_is_dropped,
    post_bodies,
    large_bodies,
    all_is_sent_before_anything_is_read,
    complaints,
);

/// A folder of scripts in a pool of one worker.
fn folder() -> Host {
    let setup = Setup::new();
    let scripts = [
        (
            "cgi/hello",
            "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\nhello %s%s from %s' \"$SCRIPT_NAME\" \"$PATH_INFO\" \"$(pwd)\"\n",
            0o755,
        ),
        (
            "cgi/below/hello.pl",
            "#!/usr/bin/perl\nprint \"Content-Type: text/plain\\r\\n\\r\\nhello $ENV{SCRIPT_NAME}\";\n",
            0o755,
        ),
        ("cgi/text", "no script", 0o644),
        ("cgi/no-interpreter", "#!/no/such/interpreter\n", 0o755),
        (
            "secret/hello",
            "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\nsecret'\n",
            0o755,
        ),
    ];
    for (name, text, mode) in scripts {
        let script = setup.folder.write(name, text);
        fs::set_permissions(script, Permissions::from_mode(mode)).expect("its mode can be set");
    }
    symlink("../secret/hello", setup.folder.path("cgi/outward")).expect("a link can be made");
    Host::of(
        setup,
        &format!("exec = @DIR@/cgi/\nexec.protocol = cgi\n{ONE}"),
    )
}

#[test]
fn a_folder_of_scripts() {
    let host = folder();
    let root = host.daemon.folder.root().display().to_string();
    assert_eq!(
        host.page("/cgi/hello"),
        format!("hello /cgi/hello from {root}/cgi")
    );
    for (path, status) in [
        ("/cgi/none", 404),
        ("/cgi/text", 403),
        ("/cgi/below", 403),
        ("/cgi/outward", 404),
        ("/", 404),
    ] {
        assert_eq!(host.status(path), status, "{path}");
    }
    host.daemon.wait_for_workers(POOL, 1);
    assert_eq!(host.status("/cgi/no-interpreter"), 500);
    host.daemon
        .wait_for_line("cgi/no-interpreter*No such file or directory");

    // The kernel's bound on one variable is 128 KiB.
    let large = Request::get("/")
        .with("SCRIPT_FILENAME", &format!("{root}/cgi/hello"))
        .with("HTTP_COOKIE", &"x".repeat(140_000));
    let answer = host.address().ask(&large).expect("the pool answers");
    assert_eq!(answer.status, 431);
    host.daemon
        .wait_for_line("cannot execute */cgi/hello: a parameter of the request");

    // As fcgiwrap: without SCRIPT_FILENAME, what follows the script is PATH_INFO.
    let ask = |name: &str| {
        let request = Request::get("/")
            .with("DOCUMENT_ROOT", &format!("{root}/cgi"))
            .with("SCRIPT_NAME", name);
        host.address().ask(&request).expect("the pool answers")
    };
    assert_eq!(
        ask("/hello/a/b").text(),
        format!("hello /hello/a/b from {root}/cgi")
    );
    assert_eq!(ask("/below/hello.pl/x").text(), "hello /below/hello.pl");
    assert_eq!(ask("/../secret/hello").status, 403);
    let outside = Request::get("/").with("SCRIPT_FILENAME", &format!("{root}/secret/hello"));
    assert_eq!(
        host.address()
            .ask(&outside)
            .expect("the pool answers")
            .status,
        404
    );
}

#[test]
fn one_program_with_arguments() {
    let setup = Setup::new();
    let exec = PROGRAM.install(&setup.folder);
    let lines = format!("exec = {exec} one two\nexec.protocol = cgi\nenv[COLOUR] = blue\n{ONE}");
    let host = Host::of(setup, &lines);
    let page = host.page("/environment");
    let root = host.daemon.folder.root().display();
    for line in [
        "COLOUR=blue\n",
        "GATEWAY_INTERFACE=CGI/1.1\n",
        "REQUEST_METHOD=GET\n",
        "arguments: ['one', 'two']",
    ] {
        assert!(page.contains(line), "no {line} in:\n{page}");
    }
    assert!(
        page.contains(&format!("working directory: {root}")),
        "{page}"
    );
    // The last is the listing's own.
    assert!(page.contains("descriptors: ['0', '1', '2', '3']"), "{page}");
    assert_eq!(host.status("/teapot"), 418);
    let head = transfer(
        host.nginx.port,
        "HEAD",
        "/show",
        "",
        &mut std::io::empty(),
        0,
    )
    .expect("nginx answers");
    assert_eq!((head.status, head.length), (200, 0));
}

/// Each request has its process, and none is left.
#[test]
fn a_process_for_each_request() {
    let host = Host::start(PROGRAM, "pm = static\npm.max_children = 2");
    let mut connection = host.address().connect().expect("the pool listens");
    let mut seen = Vec::new();
    for _ in 0..5 {
        connection
            .send(&Request::get("/pid").bytes(1, KEEP_CONN))
            .expect("it is open");
        seen.push(connection.answer().expect("the pool answers").text());
    }
    seen.dedup();
    assert_eq!(seen.len(), 5, "{seen:?}");
    assert_eq!(host.programs(), []);
}

#[test]
fn what_is_no_answer_is_502_and_told() {
    let host = Host::start(PROGRAM, ONE);
    for (page, told) in [
        ("crash", "exited on signal 11"),
        ("exit?status=7", "exited with code 7"),
        ("exit", "exited with code 0"),
        (
            "no-headers",
            "exited with code 3*does not begin with headers",
        ),
        ("nph", "exited with code 0*NPH"),
        ("endless-headers", "more than 64 kB"),
    ] {
        assert_eq!(host.status(&format!("/{page}")), 502, "{page}");
        host.daemon.wait_for_line(&format!("probe.py*{told}"));
    }
    for page in ["halfway", "short"] {
        assert!(
            is_cut_off(host.nginx.port, &format!("/kept/{page}")),
            "{page}"
        );
        host.address()
            .ask(&Request::get(&format!("/{page}")))
            .expect_err("the answer has no end");
    }
    let sloppy = host
        .address()
        .ask(&Request::get("/sloppy"))
        .expect("the pool answers");
    assert_eq!(
        (
            sloppy.status,
            sloppy.text().as_str(),
            sloppy.application_status
        ),
        (200, "sloppy", 1)
    );
}

/// Whatever is not read, or is read late, holds nobody up.
#[test]
fn no_order_of_reading_and_writing_is_a_deadlock() {
    let host = Host::start(PROGRAM, ONE);
    for (page, text) in [("deaf", "deaf"), ("closes", "closed")] {
        for path in ["", "/kept", "/stream"] {
            let answer = upload(host.nginx.port, &format!("{path}/{page}"), 3_000_000);
            let answer = answer.expect("nginx answers");
            assert_eq!((answer.status, answer.text().as_str()), (200, text));
        }
    }
    let late = Request::post("/late-complaint", &[b'x'; 3_000_000]);
    let late = host.address().ask(&late).expect("the pool answers");
    assert_eq!(late.text(), "answered");
    host.daemon.wait_for_line("closed, and done");
}

/// A script's own children neither hold up its answer nor, when it is ended, outlive it.
#[test]
fn children_of_a_script() {
    let host = Host::start(PROGRAM, &format!("{ONE}request_terminate_timeout = 2s"));
    let page = host.page("/leaves-a-child");
    assert!(page.starts_with("its parent: "), "{page}");

    // Nobody is its child's parent now but the master, which adopts all.
    let left = process::below(host.daemon.pid());
    let left: Vec<&Process> = left
        .iter()
        .filter(|process| process.title.contains("probe.py"))
        .collect();
    left.iter()
        .for_each(|process| process.signal(Signal::SIGKILL));

    let mut connection = host.address().connect().expect("the pool listens");
    connection
        .send(&Request::get("/hangs-with-a-child").bytes(1, 0))
        .expect("it is open");
    host.daemon.wait_for_line("hangs");
    let both = host.programs();
    assert_eq!(both.len(), 2, "{both:?}");
    let answer = connection.answer();
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 504));
    until("the script and its child have ended", || {
        both.iter().all(|process| !process.runs())
    });
    host.page("/pid");

    // A web server that leaves.
    let mut connection = host.address().connect().expect("the pool listens");
    connection
        .send(&Request::get("/hangs-with-a-child").bytes(1, 0))
        .expect("it is open");
    until("both run", || host.programs().len() == 2);
    let both = host.programs();
    drop(connection);
    until("the script and its child have ended", || {
        both.iter().all(|process| !process.runs())
    });
    host.page("/pid");
}

/// Nobody waits for what a script does when its answer is whole, but its worker.
#[test]
fn the_next_request_on_a_kept_connection_does_not_wait() {
    let host = Host::start(PROGRAM, "pm = static\npm.max_children = 2");
    let file = host.daemon.folder.write("busy", "");
    let mut kept = host.address().connect().expect("the pool listens");
    let first = format!("/goes-on?file={}", file.display());
    for (path, text) in [(first.as_str(), "closed"), ("/show", "")] {
        kept.send(&Request::get(path).bytes(1, KEEP_CONN))
            .expect("it is open");
        let answer = kept.answer().expect("the pool answers");
        assert_eq!(answer.status, 200);
        assert!(answer.text().starts_with(text), "{}", answer.text());
    }
    assert_eq!(host.daemon.lines_like("closed, and done").len(), 0);
    fs::remove_file(file).expect("it is there");
    host.daemon.wait_for_line("closed, and done");
}

/// Nor does a process that talks without end keep a request, or the worker of one.
#[test]
fn noise_keeps_no_request() {
    let host = Host::start(PROGRAM, &format!("{ONE}request_terminate_timeout = 2s"));
    let file = host.daemon.folder.write("busy", "");
    let noisy = format!("/leaves-noise?file={}", file.display());
    for _ in 0..4 {
        let answer = host.address().ask(&Request::get(&noisy));
        let answer = answer.expect("the pool answers");
        assert_eq!(answer.text(), "answered");
    }
    fs::remove_file(file).expect("it is there");
    until("nobody is left to make it", || {
        process::below(host.daemon.pid())
            .iter()
            .all(|process| !process.title.contains("probe.py"))
    });
}

#[test]
fn no_script_outlives_its_worker() {
    let host = Host::start(PROGRAM, ONE);
    let mut connection = host.address().connect().expect("the pool listens");
    connection
        .send(&Request::get("/hangs-with-a-child").bytes(1, 0))
        .expect("it is open");
    host.daemon.wait_for_line("hangs");
    let both = host.programs();
    assert_eq!(both.len(), 2, "{both:?}");
    host.workers()[0].signal(Signal::SIGKILL);
    until("the script and its child have ended", || {
        both.iter().all(|process| !process.runs())
    });
    host.page("/pid");
}

#[test]
fn recycling_and_reload_lose_nothing() {
    let host = Host::start(
        PROGRAM,
        "pm = static\npm.max_children = 3\npm.max_requests = 10",
    );
    host.daemon.wait_for_workers(POOL, 3);
    let before = host.workers();
    let load = Load::start(&host.address(), 4, "/slow?ms=5");
    until("every worker has been replaced", || {
        before.iter().all(|worker| !worker.runs())
    });
    let before = host.workers();
    host.daemon.signal(Signal::SIGUSR2);
    until("the reload has replaced every worker", || {
        before.iter().all(|worker| !worker.runs())
    });
    let outcome = load.stop();
    assert!(
        outcome.failures.is_empty(),
        "{:?} and {} served",
        outcome.failures,
        outcome.served
    );
}

#[test]
fn a_slow_script_is_ended_at_the_timeout() {
    let host = Host::start(PROGRAM, &format!("{ONE}request_terminate_timeout = 1s"));
    let late = suite::request(PROGRAM, &host, "/exit?status=0");
    assert_eq!(
        host.address().ask(&late).expect("the pool answers").status,
        502
    );
    let slow = get(host.nginx.port, "/kept/slow?ms=60000").expect("nginx answers");
    assert!(slow.status == 504 || !slow.is_whole, "{}", slow.head);
    host.daemon.wait_for_line("timed out");
    until("no script runs", || host.programs().is_empty());
    host.page("/pid");
}
