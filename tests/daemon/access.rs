//! The access log: what php-fpm writes, without its flaws.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{Address, KEEP_CONN, Request};
use crate::support::load::Load;
use crate::support::php_fpm::PhpFpm;
use crate::support::setup::{Folder, PROBE, Setup, free_port};
use crate::support::wait::until;

/// Answers what the script of [`PHP`] answers.
const APPLICATION: &str = r#"
def application(environ, start_response):
    start_response("200 OK", [("X-A", "b"), ("Content-type", "text/html; charset=UTF-8"), ("x-spaced", "c d ")])
    return [b"hi\n"]
"#;

const PHP: &str = "<?php header('X-A: b'); header('x-spaced: c d '); ?>hi\n";

/// All that does not differ from one request to the next.
const FORMAT: &str = r#"R=%R u=%u m=%m r=%r Q=%Q q=%q s=%s f=%f l=%l n=%n h=%{HTTP_HOST}e e=[%{EMPTY}e] no=%{NO}e a=%{X-A}o ct=%{Content-type}o sp=[%{x-spaced}o] no=%{X-No}o %%"#;

const WHEN: &str = "when=%t %T %{%Y-%m-%d}t %{%H}T";

fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits until a log has so many lines, and returns them.
#[track_caller]
fn wait_for(file: &Path, count: usize) -> Vec<String> {
    until(&format!("{} has {count} lines", file.display()), || {
        lines(file).len() >= count
    });
    let lines = lines(file);
    assert_eq!(lines.len(), count, "{lines:?}");
    lines
}

/// Requests as web servers send them to php-fpm, for the script at `file`.
fn requests(file: &Path) -> Vec<Request> {
    let plain = Request {
        params: Vec::new(),
        body: Vec::new(),
    }
    .with("REQUEST_METHOD", "GET")
    .with("SCRIPT_FILENAME", &file.display().to_string())
    .with("SCRIPT_NAME", "/page.php")
    .with("REQUEST_URI", "/page.php");
    vec![
        plain.clone(),
        plain
            .clone()
            .with("QUERY_STRING", "x=1&y=é")
            .with("REQUEST_URI", "/page.php?x=1&y=é")
            .with("HTTP_HOST", "example.com")
            .with("EMPTY", ""),
        // A front controller.
        plain.clone().with("REQUEST_URI", "/some/path?x"),
        Request {
            body: b"hello".to_vec(),
            ..plain.clone()
        }
        .with("REQUEST_METHOD", "POST")
        .with("CONTENT_TYPE", "text/plain")
        .with("CONTENT_LENGTH", "5"),
        plain.clone().with("REQUEST_METHOD", "HEAD"),
        plain
            .clone()
            .with("HTTP_AUTHORIZATION", "Basic Ym9iOnNlY3JldA=="),
        plain.with("HTTP_AUTHORIZATION", "Digest username=\"bob\""),
    ]
}

/// The lines that php-fpm and the daemon write of the same requests.
fn both(format: &str, tcp: bool) -> (Vec<String>, Vec<String>) {
    let pool = format!(
        "pm = static\npm.max_children = 1\naccess.log = @DIR@/access.log\naccess.format = '{format}'\n"
    );
    let tcp = || tcp.then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
    let folder = Folder::new();
    let script = folder.write("page.php", PHP);
    let address = match tcp() {
        Some(address) => Address::Tcp(address),
        None => Address::Unix(folder.path("php.sock")),
    };
    let php = PhpFpm::start_on(folder, address, &pool);
    let ours = tcp();
    let listen = ours.map_or(String::new(), |address| format!("listen = {address}"));
    let daemon = Setup::new()
        .wsgi("www", APPLICATION, &format!("{pool}{listen}"))
        .start();
    let ours = ours.map_or_else(|| daemon.address("www"), Address::Tcp);
    let requests = requests(&script);
    for request in &requests {
        for address in [&php.address, &ours] {
            let answer = address.ask(request).expect("it answers");
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    let written = |folder: &Folder| wait_for(&folder.path("access.log"), requests.len());
    (written(&php.folder), written(&daemon.folder))
}

#[test]
fn lines_are_those_of_php_fpm() {
    for tcp in [false, true] {
        let (theirs, ours) = both(FORMAT, tcp);
        assert_eq!(ours, theirs);
    }
}

/// Without `access.format`, and with times and costs, the shape is the same.
#[test]
fn times_and_costs_have_the_form_of_php_fpm() {
    let costs = "%d %{milli}d %{micro}d %C %{user}C %{system}C %M %{kilo}M %{mega}M %p %P";
    let shape = |line: &String| {
        line.split(|c: char| c.is_ascii_digit())
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("0")
    };
    for format in [WHEN, costs, r#"%R - %u %t "%m %r" %s"#] {
        let (theirs, ours) = both(format, false);
        let [theirs, ours] =
            [theirs, ours].map(|lines| lines.iter().map(shape).collect::<Vec<_>>());
        assert_eq!(ours, theirs, "{format}");
    }
}

#[test]
fn without_a_format_it_is_php_fpms() {
    let daemon = Setup::new()
        .pool(
            "hello",
            "app = hello\npm = static\npm.max_children = 1\naccess.log = @DIR@/$pool.access",
        )
        .start();
    daemon.address("hello").get("/a/b?c=d").expect("it answers");
    let log = daemon.folder.path("hello.access");
    let line = wait_for(&log, 1).remove(0);
    let (head, tail) = line
        .split_once(" +")
        .or_else(|| line.split_once(" -0"))
        .expect("an offset");
    assert!(head.starts_with("- -  "), "{line}");
    assert!(tail.ends_with(" \"GET /a/b\" 200"), "{line}");
    let metadata = fs::metadata(&log).expect("it is there");
    assert_eq!(metadata.mode() & 0o777, 0o600);
    assert_eq!(metadata.uid(), Uid::effective().as_raw());
}

#[test]
fn each_request_on_a_kept_connection_has_its_line() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 1\naccess.log = @DIR@/access.log\naccess.format = '%r %s'")
        .start();
    let mut connection = daemon.address("probe").connect().expect("it listens");
    for path in ["/pid", "/no", "/raise", "/large?kib=200"] {
        let request = Request::get(path);
        connection
            .send(&request.bytes(1, KEEP_CONN))
            .expect("it takes it");
        connection.answer().expect("it answers");
    }
    let log = daemon.folder.path("access.log");
    assert_eq!(
        wait_for(&log, 4),
        ["/pid 200", "/no 404", "/raise 500", "/large 200"]
    );
    daemon
        .address("probe")
        .get("/raise-late")
        .expect_err("it is cut");
    assert_eq!(wait_for(&log, 5)[4], "/raise-late 200");
}

#[test]
fn what_is_asked_all_the_time_can_be_left_out() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 1\naccess.log = @DIR@/access.log\naccess.format = '%m %r%Q%q %s'\naccess.suppress_path[] = /pid\naccess.suppress_path[] = /no")
        .start();
    let address = daemon.address("probe");
    let requests = [
        (Request::get("/pid"), None),
        (Request::get("/pid").with("REQUEST_METHOD", "HEAD"), None),
        (Request::get("/pid?x"), Some("GET /pid?x 200")),
        (Request::get("/no"), Some("GET /no 404")),
        (Request::get("/served"), Some("GET /served 200")),
        (Request::post("/pid", b"body"), Some("POST /pid 200")),
        (
            Request::get("/pid")
                .with("CONTENT_LENGTH", "2")
                .with("REQUEST_METHOD", "GET"),
            Some("GET /pid 200"),
        ),
    ];
    for (request, _) in &requests {
        let mut request = request.clone();
        if request
            .params
            .iter()
            .any(|(name, value)| name == "CONTENT_LENGTH" && value == "2")
        {
            request.body = b"hi".to_vec();
        }
        address.ask(&request).expect("it answers");
    }
    let expected: Vec<&str> = requests.iter().filter_map(|(_, line)| *line).collect();
    assert_eq!(
        wait_for(&daemon.folder.path("access.log"), expected.len()),
        expected
    );
}

/// The pages about the pool itself have lines like any other.
#[test]
fn signs_of_life_are_logged_unless_they_are_left_out() {
    for (suppress, expected) in [
        ("", vec!["/ping 200", "/ 200"]),
        ("access.suppress_path[] = /ping", vec!["/ 200"]),
    ] {
        let daemon = Setup::new()
            .pool("hello", &format!("app = hello\npm = static\npm.max_children = 1\nping.path = /ping\naccess.log = @DIR@/access.log\naccess.format = '%r %s'\n{suppress}"))
            .start();
        for path in ["/ping", "/"] {
            daemon.address("hello").get(path).expect("it answers");
        }
        let log = daemon.folder.path("access.log");
        assert_eq!(wait_for(&log, expected.len()), expected);
    }
}

/// In a container the lines go where the daemon's own go.
#[test]
fn lines_can_go_to_standard_error() {
    let daemon = Setup::new()
        .pool("hello", "app = hello\npm = static\npm.max_children = 1\naccess.log = /proc/self/fd/2\naccess.format = 'access: %r %s'")
        .start();
    daemon.address("hello").get("/x").expect("it answers");
    let line = daemon.wait_for_line("access: ");
    assert_eq!(line, "access: /x 200");
}

#[test]
fn no_value_forges_a_line_and_json_is_json() {
    let nasty = "a\nb\r\"c\\d\t\u{1b}[31m\u{7f}é";
    for (format, check) in [
        (
            "json",
            "line['method'] == 'GET' and line['uri'] == '/x?' + nasty and line['status'] == 200 and line['pool'] == 'hello' and line['remote'] == '-' and line['duration'] < 9",
        ),
        (
            r#"{"q":"%q","host":"%{HTTP_HOST}e"}"#,
            "line == {'q': nasty, 'host': nasty}",
        ),
    ] {
        let daemon = Setup::new()
            .pool("hello", &format!("app = hello\npm = static\npm.max_children = 1\naccess.log = @DIR@/access.log\naccess.format = '{format}'"))
            .start();
        let request = Request::get("/x")
            .with("QUERY_STRING", nasty)
            .with("HTTP_HOST", nasty);
        daemon.address("hello").ask(&request).expect("it answers");
        let log = daemon.folder.path("access.log");
        wait_for(&log, 1);
        let program = format!(
            "import json, sys\nnasty = sys.argv[2]\n[line] = [json.loads(line) for line in open(sys.argv[1], newline='\\n')]\nassert {check}, line"
        );
        let status = Command::new("/usr/bin/python3")
            .args(["-c", &program])
            .arg(&log)
            .arg(nasty)
            .status()
            .expect("python3 is installed");
        assert!(status.success(), "{:?}", lines(&log));
    }
}

fn rotate(daemon: &Daemon, to: &str) {
    let log = daemon.folder.path("access.log");
    fs::rename(&log, daemon.folder.path(to)).expect("root may rename it");
    daemon.signal(Signal::SIGUSR1);
    until("it is there again", || log.exists());
}

/// Neither idle workers nor busy ones are replaced, and none writes to the old file once the new one is there.
#[test]
fn rotation_loses_no_line_and_no_worker() {
    let pool = "pm = dynamic\npm.max_children = 4\npm.start_servers = 2\npm.min_spare_servers = 1\npm.max_spare_servers = 4\naccess.log = @DIR@/access.log\naccess.format = '%r%Q%q'";
    for hello in [false, true] {
        let daemon = if hello {
            Setup::new()
                .pool("probe", &format!("app = hello\n{pool}"))
                .start()
        } else {
            Setup::new().wsgi("probe", PROBE, pool).start()
        };
        daemon.wait_for_workers("probe", 2);
        let before = daemon.worker_pids("probe");
        let address = daemon.address("probe");
        let held = (!hello).then(|| {
            let address = address.clone();
            let held = thread::spawn(move || address.get("/hold?ms=1500"));
            daemon.wait_for_line("said into stderr: \"held\"");
            held
        });
        address.get("/pid?1").expect("it answers");
        wait_for(&daemon.folder.path("access.log"), 1);
        rotate(&daemon, "access.log.1");
        daemon.wait_for_line("NOTICE: access log file re-opened");
        address.get("/pid?2").expect("it answers");
        let mut expected = vec!["/pid?2"];
        if let Some(held) = held {
            held.join().expect("it does not panic").expect("it answers");
            expected.push("/hold?ms=1500");
        }
        assert_eq!(
            wait_for(&daemon.folder.path("access.log"), expected.len()),
            expected
        );
        assert_eq!(lines(&daemon.folder.path("access.log.1")), ["/pid?1"]);
        let after = daemon.worker_pids("probe");
        assert!(
            before.iter().all(|pid| after.contains(pid)),
            "{before:?} {after:?}"
        );
        // Workers that begin now have the new file as well.
        for pid in daemon.workers("probe") {
            pid.signal(Signal::SIGKILL);
        }
        until("there are others", || {
            let now = daemon.worker_pids("probe");
            !now.is_empty() && now.iter().all(|pid| !after.contains(pid))
        });
        address.get("/pid?3").expect("it answers");
        expected.push("/pid?3");
        assert_eq!(
            wait_for(&daemon.folder.path("access.log"), expected.len()),
            expected
        );
    }
}

#[test]
fn rotation_under_load_loses_no_line() {
    let daemon = Setup::new()
        .wsgi(
            "probe",
            PROBE,
            "pm = static\npm.max_children = 3\naccess.log = @DIR@/access.log\naccess.format = '%r'",
        )
        .start();
    daemon.wait_for_workers("probe", 3);
    let pids = daemon.worker_pids("probe");
    let load = Load::start(&daemon.address("probe"), 3, "/pid");
    for number in 1..=8 {
        rotate(&daemon, &format!("access.log.{number}"));
        until("somebody has written to it", || {
            !lines(&daemon.folder.path("access.log")).is_empty()
        });
    }
    let outcome = load.stop();
    assert_eq!(outcome.failures, Vec::<String>::new());
    let files = (1..=8).map(|number| format!("access.log.{number}"));
    let files: Vec<String> = files.chain(["access.log".to_owned()]).collect();
    let written = || {
        files
            .iter()
            .flat_map(|file| lines(&daemon.folder.path(file)))
    };
    until("each request has its line", || {
        written().count() >= outcome.served
    });
    assert_eq!(written().count(), outcome.served);
    assert!(written().all(|line| line == "/pid"));
    assert_eq!(daemon.worker_pids("probe"), pids);
}

/// The lines are a matter of the log alone: who reads it slowly, or not at all, costs lines and nothing else.
#[test]
fn a_pipe_that_nobody_reads_holds_no_request_up() {
    let setup = Setup::new().pool(
        "hello",
        "app = hello\npm = static\npm.max_children = 1\naccess.log = @DIR@/pipe\naccess.format = '%r%Q%q'",
    );
    let pipe = setup.folder.path("pipe");
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe can be made");
    let mut reader = fs::OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(&pipe)
        .expect("it can be opened");
    let daemon = setup.start();
    let long = "x".repeat(1000);
    for number in 0..100 {
        let path = format!("/{number}?{long}");
        daemon.address("hello").get(&path).expect("it answers");
    }
    let mut read = vec![0; 200_000];
    let count = reader.read(&mut read).expect("lines are in it");
    let text = String::from_utf8_lossy(&read[..count]);
    let whole = text.lines().enumerate();
    assert!(whole.clone().count() > 10 && whole.clone().count() < 100);
    for (number, line) in whole {
        assert_eq!(line, format!("/{number}?{long}"));
    }
}

#[test]
fn a_log_that_cannot_be_opened_is_told_at_start() {
    let setup = Setup::new().pool(
        "hello",
        "app = hello\npm = static\npm.max_children = 1\naccess.log = @DIR@/gone/access.log",
    );
    let (status, _daemon) = setup.refused();
    assert_eq!(status.code(), Some(78));
}
