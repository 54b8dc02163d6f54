//! Requests that take long: the slow log, and the end of those that take too long.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{Address, Request};
use crate::support::php_fpm::PhpFpm;
use crate::support::setup::{Folder, Setup};
use crate::support::wait::until;

/// Holds the worker in several ways, and tells whether anything disturbed it.
const APPLICATION: &str = r#"
import ctypes, os, select, threading, time
from urllib.parse import parse_qs

libc = ctypes.PyDLL(None)  # keeps the interpreter's lock
libc.usleep.argtypes = [ctypes.c_uint]

def caught():
    # The signals with a handler, as a set of bits; those from 32 on are the C library's own, once there are threads.
    lines = open("/proc/self/status").read().splitlines()
    return next(line.split()[1][-8:] for line in lines if line.startswith("SigCgt:"))

class Closes:
    def __init__(self, seconds): self.seconds = seconds
    def __iter__(self): return iter([b"answered\n"])
    def close(self): time.sleep(self.seconds)

def sleeps(seconds):
    begun = time.monotonic()
    time.sleep(seconds)
    return time.monotonic() - begun

def waits(seconds):
    # An interrupted call comes back early, with EINTR.
    reader, writer = os.pipe()
    begun = time.monotonic()
    assert libc_poll(reader, seconds) == 0
    os.close(reader); os.close(writer)
    return time.monotonic() - begun

class Pollfd(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short)]

def libc_poll(fd, seconds):
    one = Pollfd(fd, select.POLLIN, 0)
    return ctypes.CDLL(None, use_errno=True).poll(ctypes.byref(one), 1, int(seconds * 1000))

def keeps(seconds):
    threading.Thread(target=time.sleep, args=(seconds,), daemon=True).start()
    libc.usleep(int(seconds * 1e6))
    return seconds

def counts(seconds):
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        number += 1
    return seconds

def digs(seconds, depth=60):
    return digs(seconds, depth - 1) if depth else sleeps(seconds)

def application(environ, start_response):
    seconds = float(parse_qs(environ["QUERY_STRING"]).get("s", ["0"])[0])
    start_response("200 OK", [("Content-Type", "text/plain")])
    path = environ["PATH_INFO"]
    if path == "/closes":
        return Closes(seconds)
    if path == "/pid":
        return [str(os.getpid()).encode()]
    if path == "/signals":
        return [caught().encode()]
    way = {"/sleeps": sleeps, "/waits": waits, "/keeps": keeps, "/counts": counts, "/digs": digs}[path]
    return [str(way(seconds)).encode()]
"#;

const POOL: &str = "pm = static\npm.max_children = 1\n";
const SLOW: &str = "slowlog = @DIR@/slow.log\nrequest_slowlog_timeout = 1s\n";

fn start(lines: &str) -> Daemon {
    let daemon = Setup::new()
        .wsgi("www", APPLICATION, &format!("{POOL}{lines}"))
        .start();
    daemon.wait_for_workers("www", 1);
    daemon
}

/// The entries of a slow log: each without the empty line before it.
fn entries(log: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let entries = text.split("\n\n").map(|entry| {
        let lines = entry.lines().filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect::<Vec<_>>()
    });
    entries.filter(|entry| !entry.is_empty()).collect()
}

#[track_caller]
fn wait_for(log: &Path, count: usize) -> Vec<Vec<String>> {
    until(&format!("there are {count} entries"), || {
        entries(log).len() >= count
    });
    let entries = entries(log);
    assert_eq!(entries.len(), count, "{entries:?}");
    entries
}

/// The functions of a stack, the innermost first.
fn functions(entry: &[String]) -> Vec<&str> {
    let calls = entry.iter().filter(|line| line.starts_with("[0x"));
    calls
        .filter_map(|line| line.split_once("] ")?.1.split_once("()"))
        .map(|(function, _)| function)
        .collect()
}

#[test]
fn the_stack_of_a_slow_request_is_told_and_nothing_disturbed() {
    let daemon = start(SLOW);
    let log = daemon.folder.path("slow.log");
    let address = daemon.address("www");
    address.get("/pid").expect("a fast one");
    for (number, way) in (1..).zip(["sleeps", "waits", "counts"]) {
        let request = Request::get(&format!("/{way}?s=2"))
            .with("SCRIPT_FILENAME", "/srv/site.py")
            .with("HTTP_X", "y");
        let answer = address.ask(&request).expect("it answers");
        let held: f64 = answer.text().parse().expect("how long it was held");
        assert!((1.999..9.0).contains(&held), "{way} took {held} s");
        let entry = &wait_for(&log, number)[number - 1];
        let pid = daemon.worker_pids("www")[0];
        assert!(
            entry[0].starts_with('[') && entry[0].ends_with(&format!("]  [pool www] pid {pid}")),
            "{entry:?}"
        );
        assert_eq!(entry[1], "script_filename = /srv/site.py");
        assert_eq!(entry[2], format!("request = \"GET /{way}?s=2\""));
        assert_eq!(functions(entry).last(), Some(&"application"), "{entry:?}");
        assert!(functions(entry).contains(&way), "{entry:?}");
        assert!(entry[3].contains(".py:"), "{entry:?}");
        daemon.wait_for_line(&format!(
            "WARNING: [pool www] child {pid}, script '/srv/site.py' (request: \"GET /{way}?s=2\") executing too slow (1.*sec), logging"
        ));
    }
}

#[test]
fn code_that_keeps_the_interpreters_lock_is_seen_too() {
    let daemon = start(SLOW);
    let answer = daemon.address("www").get("/keeps?s=4").expect("it answers");
    assert_eq!(answer.text(), "4.0");
    let entry = wait_for(&daemon.folder.path("slow.log"), 1).remove(0);
    assert_eq!(functions(&entry), ["keeps", "application"], "{entry:?}");
    // The thread that waited for the lock has gone; the next stack is read with it.
    let address = daemon.address("www");
    address.get("/sleeps?s=2").expect("it answers");
    let entry = wait_for(&daemon.folder.path("slow.log"), 2).remove(1);
    assert_eq!(functions(&entry), ["sleeps", "application"]);
}

/// Whatever the stack is read with, no handler of a signal is left behind for it.
#[test]
fn no_signal_is_taken_from_the_application() {
    let signals = |lines: &str| {
        let daemon = start(lines);
        let answer = daemon.address("www").get("/signals").expect("it answers");
        answer.text()
    };
    assert_eq!(signals(SLOW), signals(""));
}

#[test]
fn a_deep_stack_is_cut() {
    let daemon = start(&format!("{SLOW}request_slowlog_trace_depth = 5"));
    daemon.address("www").get("/digs?s=2").expect("it answers");
    let entry = wait_for(&daemon.folder.path("slow.log"), 1).remove(0);
    assert_eq!(
        functions(&entry),
        ["sleeps", "digs", "digs", "digs", "digs"]
    );
}

#[test]
fn slow_requests_are_counted() {
    let daemon = start(&format!("{SLOW}pm.status_path = /status"));
    let address = daemon.address("www");
    address.get("/sleeps?s=2").expect("it answers");
    let status = address.get("/status").expect("it answers").text();
    let line = status
        .lines()
        .find(|line| line.starts_with("slow requests:"));
    assert!(line.is_some_and(|line| line.ends_with(" 1")), "{status}");
}

#[test]
fn the_slow_log_is_opened_anew() {
    let daemon = start(SLOW);
    let log = daemon.folder.path("slow.log");
    let pids = daemon.worker_pids("www");
    fs::rename(&log, daemon.folder.path("slow.log.1")).expect("it was there from the start");
    daemon.signal(Signal::SIGUSR1);
    // A worker that is busy by then would take it up after its request.
    until("the worker has the new one", || {
        let open = fs::read_dir(format!("/proc/{}/fd", pids[0])).expect("it runs");
        open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
            .any(|file| file == log)
    });
    daemon
        .address("www")
        .get("/sleeps?s=2")
        .expect("it answers");
    wait_for(&log, 1);
    assert_eq!(daemon.worker_pids("www"), pids);
}

/// An entry as php-fpm writes it, our line of the request left out, and its numbers.
#[test]
fn an_entry_has_the_form_of_php_fpm() {
    let folder = Folder::new();
    let script = folder.write(
        "slow.php",
        "<?php\nfunction inner() { usleep(2500000); }\ninner();\n",
    );
    let address = Address::Unix(folder.path("php.sock"));
    let lines = format!("{POOL}{SLOW}");
    let php = PhpFpm::start_on(folder, address, &lines);
    let daemon = start(SLOW);
    let request = |path: &str| {
        Request::get(path)
            .with("SCRIPT_FILENAME", &script.display().to_string())
            .with("SCRIPT_NAME", path.split('?').next().expect("a path"))
            .with("PATH_INFO", "")
    };
    php.address
        .ask(&request("/slow.php?s=2.5"))
        .expect("it answers");
    daemon
        .address("www")
        .ask(&request("/sleeps?s=2.5"))
        .expect("it answers");
    let shape = |entry: &[String], from: usize| -> Vec<String> {
        let masked = |line: &String| {
            let line = line.replace(&script.display().to_string(), "SCRIPT");
            line.chars()
                .map(|c| if c.is_ascii_digit() { '0' } else { c })
                .collect()
        };
        let lines = entry.iter().map(masked).collect::<Vec<String>>();
        lines[..from].to_vec()
    };
    let theirs = wait_for(&php.folder.path("slow.log"), 1).remove(0);
    let mut ours = wait_for(&daemon.folder.path("slow.log"), 1).remove(0);
    assert_eq!(ours.remove(2), "request = \"GET /sleeps?s=2.5\"");
    let pid = |entry: &[String]| {
        entry[0]
            .rsplit(' ')
            .next()
            .map(str::to_owned)
            .expect("a pid")
    };
    let [their_pid, our_pid] = [pid(&theirs), pid(&ours)];
    assert_eq!(
        shape(&theirs, 2)[0].trim_end_matches('0'),
        shape(&ours, 2)[0].trim_end_matches('0')
    );
    assert_eq!(shape(&theirs, 2)[1], shape(&ours, 2)[1]);
    for line in [&theirs[2], &ours[2]] {
        let (number, rest) = line.split_once("] ").expect("a number in brackets");
        assert_eq!(number.len(), "[0x00007f80714141d0".len(), "{line}");
        let (_, place) = rest.split_once("() /").expect("a function and a file");
        let (_, number) = place.rsplit_once(':').expect("a line");
        assert!(number.parse::<u32>().is_ok(), "{line}");
    }
    // What the error log says differs in the pid, the script and the time alone.
    let theirs = php.log().into_iter().find(|line| line.contains("too slow"));
    let theirs = theirs.expect("php-fpm tells it").replace(&their_pid, "PID");
    let ours = daemon
        .wait_for_line("executing too slow")
        .replace(&our_pid, "PID");
    let after_stamp = |line: &str| {
        let (_, text) = line.split_once("] ").expect("a stamp");
        let (text, time) = text.split_once(" slow (").expect("how long it took");
        let (time, end) = time.split_once(' ').expect("a time");
        assert_eq!(
            (time.len(), time.as_bytes()[1]),
            ("1.243165".len(), b'.'),
            "{line}"
        );
        format!("{text} slow ({end}")
    };
    let theirs = after_stamp(&theirs).replace("slow.php", "sleeps");
    let ours = after_stamp(&ours).replace("slow.php", "sleeps");
    assert_eq!(ours, theirs);
}

/// The built-in application has no stack worth telling; what its process waits for is told all the same.
#[test]
fn of_the_built_in_page_the_kernel_tells() {
    let daemon = Setup::new()
        .pool("hello", &format!("app = hello\n{POOL}{SLOW}"))
        .start();
    let mut request = Request::get("/");
    for number in 0..12 {
        // Each is shown as four characters.
        request = request.with(&format!("HTTP_X_{number}"), &"<".repeat(10_000));
    }
    let mut connection = daemon.address("hello").connect().expect("it listens");
    connection.send(&request.bytes(1, 0)).expect("it takes it");
    // Nobody reads the answer.
    let entry = wait_for(&daemon.folder.path("slow.log"), 1).remove(0);
    assert!(entry[3].starts_with("state = S"), "{entry:?}");
    drop(connection);
}

#[test]
fn a_request_that_takes_too_long_ends_with_its_stack() {
    for (way, depth) in [("sleeps", 2), ("keeps", 2), ("counts", 2)] {
        for slow in [true, false] {
            let slowlog = if slow {
                "slowlog = @DIR@/slow.log\n"
            } else {
                ""
            };
            let daemon = start(&format!("{slowlog}request_terminate_timeout = 1s"));
            let pid = daemon.worker_pids("www")[0];
            let begun = Instant::now();
            let request =
                Request::get(&format!("/{way}?s=30")).with("SCRIPT_FILENAME", "/srv/a.py");
            let answer = daemon.address("www").ask(&request).expect("it answers");
            assert_eq!(answer.status, 504);
            assert!(begun.elapsed() < Duration::from_secs(5));
            daemon.wait_for_line(&format!(
                "WARNING: [pool www] child {pid}, script '/srv/a.py' (request: \"GET /{way}?s=30\") execution timed out (1.*sec), terminating"
            ));
            daemon.wait_for_line(&format!("child {pid} exited on signal 15 (SIGTERM)"));
            if slow {
                let entry = wait_for(&daemon.folder.path("slow.log"), 1).remove(0);
                assert_eq!(functions(&entry).len(), depth, "{entry:?}");
            } else {
                daemon.wait_for_line(&format!(
                    "WARNING: [pool www] child {pid} was in: [0x0000000000000000] {way}() /*www_app.py:"
                ));
            }
            until("another has taken its place", || {
                daemon
                    .worker_pids("www")
                    .first()
                    .is_some_and(|&now| now != pid)
            });
            daemon.address("www").get("/pid").expect("it answers");
        }
    }
}

/// What an application does when its answer is complete delays nobody, and is let go on unless the pool says otherwise.
#[test]
fn an_answered_request_may_go_on() {
    for (track, survives) in [("no", true), ("yes", false)] {
        let daemon = start(&format!(
            "{SLOW}request_terminate_timeout = 2s\nrequest_terminate_timeout_track_finished = {track}"
        ));
        let pid = daemon.worker_pids("www")[0];
        let answer = daemon
            .address("www")
            .get("/closes?s=4")
            .expect("it answers");
        assert_eq!(answer.text(), "answered\n");
        let next = daemon.address("www").get("/pid").expect("it answers");
        assert_eq!(
            next.text() == pid.to_string(),
            survives,
            "track_finished = {track}"
        );
        let told = daemon.lines_like("execution timed out").len();
        assert_eq!(told, usize::from(!survives));
        assert_eq!(
            entries(&daemon.folder.path("slow.log")).is_empty(),
            survives
        );
    }
}
