//! The status service: it answers for pools on `pm.status_listen`, whatever their workers do.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::unistd::{Uid, User};

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{Address, Answer, KEEP_CONN, Request, begin};
use crate::support::load::Load;
use crate::support::php_fpm::PhpFpm;
use crate::support::process::Process;
use crate::support::setup::{PROBE, Setup, free_port};
use crate::support::wait::until;

const ONE: &str = "pm = static\npm.max_children = 1\n";
const STATUS: &str = "pm.status_listen = @DIR@/status.sock\n";

fn service_address(daemon: &Daemon) -> Address {
    Address::Unix(daemon.folder.path("status.sock"))
}

fn page(path: &str) -> Request {
    Request::get(path)
        .with("SCRIPT_NAME", path.split('?').next().unwrap_or_default())
        .with("PATH_INFO", "")
}

fn ask(address: &Address, path: &str) -> Answer {
    address.ask(&page(path)).expect("the service answers")
}

/// A field of the plain status.
#[track_caller]
fn field(answer: &Answer, name: &str) -> String {
    let text = answer.text();
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no {name} in {text}"))
        .trim()
        .to_owned()
}

/// The process, once it runs.
#[track_caller]
fn service(daemon: &Daemon) -> Process {
    let mut found = None;
    until("there is one status service", || {
        let services = daemon.titled("preforkd: status service");
        found = services.first().cloned();
        services.len() == 1
    });
    found.expect("it was found")
}

#[test]
fn answers_when_every_worker_is_busy_and_tells_the_queue_of_a_unix_socket() {
    let daemon = Setup::new()
        .wsgi("site", PROBE, &format!("{ONE}{STATUS}ping.path = /ping"))
        .start();
    let address = service_address(&daemon);
    until("the worker is there", || {
        field(&ask(&address, "/"), "idle processes") == "1"
    });
    let mut waiting: Vec<_> = (0..4)
        .map(|_| daemon.address("site").connect().expect("the pool listens"))
        .collect();
    for connection in &mut waiting {
        let request = Request::get("/hold?ms=1500").bytes(1, 0);
        connection.send(&request).expect("there is room");
        if daemon.lines_like("held").is_empty() {
            daemon.wait_for_line("*held");
        }
    }
    let status = ask(&address, "/?full");
    let numbers = [
        "listen queue",
        "idle processes",
        "active processes",
        "max children",
    ]
    .map(|name| field(&status, name));
    assert_eq!(numbers, ["3", "0", "1", "1"], "{}", status.text());
    assert!(
        field(&status, "listen queue len")
            .parse::<u32>()
            .expect("a number")
            >= 3
    );
    assert_eq!(field(&status, "state"), "Running");
    assert_eq!(field(&status, "request URI"), "/hold?ms=1500");
    assert_eq!(ask(&address, "/ping").text(), "pong");
    until("the pool is known to be saturated", || {
        let status = ask(&address, "/");
        field(&status, "max listen queue") == "3"
            && field(&status, "max children reached") == "1"
            && field(&status, "saturation time") != "0.000"
    });
}

#[test]
fn other_paths_are_not_found_as_in_php_fpm() {
    let port = free_port();
    let theirs = PhpFpm::start(&format!("{ONE}pm.status_listen = 127.0.0.1:{port}\n"));
    let ours = Setup::new()
        .pool("www", &format!("app = hello\n{ONE}{STATUS}"))
        .start();
    service(&ours);
    let their_address = Address::Tcp((Ipv4Addr::LOCALHOST, port).into());
    for path in ["/other", "/ping", "/status"] {
        let request = page(path).with("SCRIPT_FILENAME", path);
        let expected = their_address.ask(&request).expect("php-fpm answers");
        let seen = service_address(&ours)
            .ask(&request)
            .expect("the service answers");
        assert_eq!(expected.status, 404);
        assert_eq!(
            (seen.status, &seen.headers, seen.text()),
            (expected.status, &expected.headers, expected.text())
        );
    }
    for query in ["", "json", "xml", "html", "openmetrics"] {
        let request = page(&format!("/?{query}")).with("SCRIPT_FILENAME", "/");
        let expected = their_address.ask(&request).expect("php-fpm answers");
        let seen = service_address(&ours)
            .ask(&request)
            .expect("the service answers");
        assert_eq!((seen.status, &seen.headers), (200, &expected.headers));
    }
    // The pool's own / stays the application's.
    let text = ours
        .address("www")
        .get("/")
        .expect("the pool answers")
        .text();
    assert!(text.contains("It works"), "{text}");
    drop(theirs);
}

#[test]
fn can_do_nothing_but_answer() {
    let daemon = Setup::new()
        .pool(
            "www",
            &format!("app = hello\n{ONE}{STATUS}listen.mode = 0640\n"),
        )
        .start();
    let service = service(&daemon);
    assert_eq!(
        ask(&service_address(&daemon), "/").status,
        200,
        "it is at work"
    );
    let status = fs::read_to_string(format!("/proc/{}/status", service.pid)).expect("it runs");
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default()
            .split_whitespace()
            .next()
            .unwrap_or_default()
    };
    assert_eq!(line("NoNewPrivs:"), "1");
    if Uid::effective().is_root() {
        let nobody = User::from_name("nobody")
            .expect("a look-up")
            .expect("a user");
        assert_eq!(line("Uid:"), nobody.uid.to_string());
        assert_eq!(line("CapEff:"), "0000000000000000");
    } else {
        eprintln!("not root: the service is not another user than the daemon");
    }
    for entry in fs::read_dir(format!("/proc/{}/fd", service.pid)).expect("it runs") {
        let target = fs::read_link(entry.expect("an entry").path()).unwrap_or_default();
        let target = target.display().to_string();
        let is_harmless = ["socket:", "pipe:", "/dev/null", "anon_inode:[event"]
            .iter()
            .any(|start| target.starts_with(start));
        assert!(is_harmless || target.is_empty(), "it holds {target}");
    }
    let metadata = |name: &str| fs::metadata(daemon.folder.path(name)).expect("a socket");
    let [pool, service] = ["www.sock", "status.sock"].map(metadata);
    assert_eq!(service.permissions().mode() & 0o777, 0o640);
    assert_eq!((service.uid(), service.gid()), (pool.uid(), pool.gid()));
}

#[test]
fn is_started_anew_when_it_dies_and_ends_with_the_daemon() {
    let mut daemon = Setup::new()
        .pool("www", &format!("app = hello\n{ONE}{STATUS}"))
        .start();
    let first = service(&daemon);
    first.signal(Signal::SIGKILL);
    daemon.wait_for_line("the status service, *, exited on signal 9 (SIGKILL)");
    until("another answers", || {
        let second = service(&daemon);
        second.pid != first.pid && ask(&service_address(&daemon), "/").status == 200
    });
    let second = service(&daemon);
    daemon.stop(Signal::SIGQUIT);
    assert!(!second.runs());
    assert!(!daemon.folder.path("status.sock").exists());
}

#[test]
fn leaves_when_the_master_is_killed() {
    let mut daemon = Setup::new()
        .pool("www", &format!("app = hello\n{ONE}{STATUS}"))
        .start();
    let service = service(&daemon);
    daemon.stop(Signal::SIGKILL);
    until("it has left", || !service.runs());
}

#[test]
fn hundreds_of_slow_clients_keep_nobody_waiting() {
    let daemon = Setup::new()
        .pool(
            "www",
            &format!("app = hello\n{ONE}{STATUS}listen.backlog = 2000\n"),
        )
        .start_alone();
    service(&daemon);
    let address = service_address(&daemon);
    let whole = page("/?full").bytes(1, KEEP_CONN);
    let slow: Vec<_> = (0..700)
        .map(|number| {
            let mut connection = address.connect().expect("it listens");
            // Asking for more than it ever reads, stopped in its header, silent.
            let _ = match number % 30 {
                0 => connection.send(&whole.repeat(300)),
                1..15 => connection.send(&whole[..20]),
                _ => Ok(()),
            };
            connection
        })
        .collect();
    for number in 0..20 {
        // It comes just before the one that asks, and is given up after five seconds. Who waited for it, or for any of
        // those before it, would be answered after its end.
        let silent = address.connect().expect("it listens");
        assert_eq!(ask(&address, "/").status, 200);
        assert!(silent.is_open(), "{number}: the slow ones were waited for");
    }
    drop(slow);
}

#[test]
fn takes_requests_in_any_legal_form_and_survives_the_others() {
    let daemon = Setup::new()
        .pool("www", &format!("app = hello\n{ONE}{STATUS}"))
        .start();
    let before = service(&daemon);
    let address = service_address(&daemon);
    let mut kept = address.connect().expect("it listens");
    for size in [1, 3, 8, 1000] {
        let request = page("/?json").bytes_split(9, KEEP_CONN, size, 5);
        kept.send(&request).expect("it is open");
        let answer = kept.answer().expect("an answer");
        assert_eq!(
            (answer.id, answer.status),
            (9, 200),
            "records of {size} bytes"
        );
        assert!(answer.text().starts_with("{\"pool\":\"www\""));
    }
    let nonsense = [
        vec![1, 1, 0, 1, 0, 1, 0, 0, 0],
        vec![2, 1, 0, 1, 0, 8, 0, 0],
        [
            begin(1, 1, 0),
            crate::support::fastcgi::record(4, 1, &[0xff, 0xff, 0xff, 0xff, 1, 65], 0),
            crate::support::fastcgi::record(4, 1, b"", 0),
        ]
        .concat(),
    ];
    for bytes in nonsense {
        let mut connection = address.connect().expect("it listens");
        connection.send(&bytes).expect("there is room");
        connection.expect_end().expect("it is closed");
    }
    assert_eq!(service(&daemon).pid, before.pid, "it has survived");
}

#[test]
fn only_allowed_clients_are_answered() {
    let port = free_port();
    let daemon = Setup::new()
        .pool(
            "www",
            &format!(
                "app = hello\n{ONE}pm.status_listen = 127.0.0.1:{port}\nlisten.allowed_clients = 192.0.2.1\n"
            ),
        )
        .start();
    service(&daemon);
    let address = Address::Tcp((Ipv4Addr::LOCALHOST, port).into());
    let mut connection = address.connect().expect("it listens");
    connection.expect_end().expect("it is closed");
    daemon.wait_for_line("Connection disallowed: IP address '127.0.0.1' has been dropped.");
}

/// What php-fpm has no word for: memory and processor time of what ran last, and the slowest request of late.
#[test]
fn tells_what_requests_cost() {
    let spin = "import time\n\
                def application(environ, start_response):\n\
                \x20   until = time.process_time() + int(environ['QUERY_STRING'] or 0) / 1000\n\
                \x20   while time.process_time() < until:\n\
                \x20       pass\n\
                \x20   start_response('200 OK', [('Content-Length', '0')])\n\
                \x20   return []\n";
    let daemon = Setup::new()
        .wsgi("site", spin, &format!("{ONE}{STATUS}"))
        .start();
    let address = service_address(&daemon);
    let begun = Instant::now();
    for path in ["/fast?0", "/slow?120", "/fast?0", "/last?30"] {
        let request = Request::get(path).with("SCRIPT_FILENAME", "/srv/site");
        assert_eq!(
            daemon
                .address("site")
                .ask(&request)
                .expect("an answer")
                .status,
            200
        );
    }
    let took = begun.elapsed();
    until("the last one has ended", || {
        field(&ask(&address, "/?full"), "state") == "Idle"
    });
    let status = ask(&address, "/?full");
    let number = |name: &str| field(&status, name).parse::<f64>().expect("a number");
    assert_eq!(field(&status, "request URI"), "/last?30");
    assert_eq!(field(&status, "script"), "/srv/site");
    assert!((30_000.0..took.as_secs_f64() * 1e6).contains(&number("request duration")));
    assert!(
        (5.0..110.0).contains(&number("last request cpu")),
        "{}",
        status.text()
    );
    for name in ["last request memory", "memory peak", "private memory"] {
        assert!(
            (100_000.0..1e9).contains(&number(name)),
            "{name}: {}",
            status.text()
        );
    }
    assert_eq!(field(&status, "slowest URI"), "/slow?120");
    assert!(number("slowest duration") >= 120_000.0);
    assert_eq!(number("requests"), 4.0);
}

#[test]
fn a_reload_changes_what_it_answers_for_and_leaves_no_gap() {
    let daemon = Setup::new()
        .pool("www", &format!("app = hello\n{ONE}{STATUS}"))
        .start();
    let address = service_address(&daemon);
    let before = service(&daemon);
    let load = Load::start(&address, 2, "/");
    let configuration = daemon.folder.path("preforkd.conf");
    let text = fs::read_to_string(&configuration).expect("it was written");
    let (global, www) = text.split_once("\n[www]").expect("the pool is there");
    let other = www
        .replace("www.sock", "other.sock")
        .replace("status.sock", "more.sock");
    fs::write(
        &configuration,
        format!("{global}\n[www]{www}ping.path = /ping\n[other]{other}"),
    )
    .expect("it can be written");
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("[pool www] generation 2 has taken over");
    until("another service runs alone", || {
        let services = daemon.titled("preforkd: status service");
        services.len() == 1 && services[0].pid != before.pid
    });
    assert_eq!(ask(&address, "/ping").text(), "pong");
    let status = ask(&address, "/");
    assert_eq!(field(&status, "generation"), "2");
    let more = Address::Unix(daemon.folder.path("more.sock"));
    assert_eq!(field(&ask(&more, "/"), "pool"), "other");
    let outcome = load.stop();
    assert_eq!(outcome.failures, Vec::<String>::new());
    assert!(outcome.served > 0);
    fs::write(
        &configuration,
        text.replace(STATUS.split('=').next().unwrap_or_default(), ";"),
    )
    .expect("it can be written");
    daemon.signal(Signal::SIGUSR2);
    until("nobody is left to answer", || {
        daemon.titled("preforkd: status service").is_empty()
    });
    until("its sockets are gone", || {
        ["status.sock", "more.sock"]
            .iter()
            .all(|name| !daemon.folder.path(name).exists())
    });
}

/// Runs `preforkd status` with these words. Returns its exit status, what it printed, and what it complained of.
fn command(daemon: &Daemon, words: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_preforkd"))
        .arg("status")
        .arg("-y")
        .arg(daemon.folder.path("preforkd.conf"))
        .args(words)
        .output()
        .expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("it ends by itself");
    (code, text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_command_line_shows_the_status() {
    let port = free_port();
    let daemon = Setup::new()
        .pool("one", &format!("app = hello\n{ONE}{STATUS}"))
        .pool(
            "two",
            &format!("app = hello\n{ONE}listen = {port}\npm.status_path = /state\n"),
        )
        .pool("none", &format!("app = hello\n{ONE}"))
        .start();
    service(&daemon);
    daemon.wait_for_workers("two", 1);
    let (code, shown, complaints) = command(&daemon, &[]);
    assert_eq!(code, 69, "{complaints}");
    let pools: Vec<&str> = shown
        .lines()
        .filter(|line| line.starts_with("pool: "))
        .collect();
    assert_eq!(pools.len(), 2, "{shown}");
    assert!(
        complaints.contains("[pool none] tells no status"),
        "{complaints}"
    );
    let (code, shown, complaints) = command(&daemon, &["two", "--full", "--json"]);
    assert_eq!((code, complaints.as_str()), (0, ""));
    assert!(shown.starts_with("{\"pool\":\"two\"") && shown.contains("\"processes\":[{"));
    let (code, shown, complaints) = command(&daemon, &["three"]);
    assert_eq!((code, shown.as_str()), (64, ""));
    assert!(
        complaints.contains("there is no pool three"),
        "{complaints}"
    );
}
