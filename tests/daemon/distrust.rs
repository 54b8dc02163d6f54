//! What an application can do to the master, which trusts none: it runs as the pool's user, with its worker's channel.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;

use nix::sys::signal::Signal;

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{KEEP_CONN, Request};
use crate::support::setup::{Setup, is_root};
use crate::support::wait::{PATIENCE, until, until_some};

/// Each path but `/pid` does harm.
const HOSTILE: &str = r#"
import os, signal, socket, struct

def channels():
    for name in os.listdir("/proc/self/fd"):
        try:
            end = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        if end.type == socket.SOCK_SEQPACKET:
            yield end

def channel():
    return next(channels())

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/real-time":
        os.kill(os.getpid(), signal.SIGRTMIN + 1)
    if path == "/killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if path == "/nonsense":
        channel().send(b"\xff")
        signal.pause()
    if path == "/parking":
        for end in channels():
            end.shutdown(socket.SHUT_WR)
    if path == "/linger":
        end = socket.create_connection(("127.0.0.1", int(environ["QUERY_STRING"])))
        end.setblocking(False)
        try:
            while True:
                end.send(bytes(100000))
        except BlockingIOError:
            pass
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
        for way in channels():
            try:
                socket.send_fds(way, [b"\x06"], [end.fileno()])
            except PermissionError:
                # A kernel that lets the master take no descriptors there.
                pass
        end.close()
    if path == "/started":
        pid = int(environ["QUERY_STRING"])
        channel().send(b"\x0a" + pid.to_bytes(8, "little"))
        os._exit(1)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"#;

const ONE: &str = "pm = static\npm.max_children = 1";

/// Asks for a page that the worker does not survive, and waits until another one answers.
fn replaced_after(daemon: &Daemon, path: &str) -> i32 {
    let address = daemon.address("hostile");
    let before = address.worker_pid();
    assert!(address.get(path).is_err(), "its worker survives {path}");
    until_some("another worker answers", PATIENCE, || {
        let page = address.get("/pid").ok()?.text();
        page.parse().ok().filter(|&pid: &i32| pid != before)
    });
    before
}

#[test]
fn a_death_by_a_real_time_signal_is_heard_of() {
    let mut daemon = Setup::new().wsgi("hostile", HOSTILE, ONE).start();
    let dead = replaced_after(&daemon, "/real-time");
    daemon.wait_for_line(&format!(
        "WARNING: [pool hostile] child {dead} exited on signal 35 after"
    ));
    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
}

#[test]
fn who_sends_nonsense_is_killed_and_replaced() {
    let daemon = Setup::new().wsgi("hostile", HOSTILE, ONE).start();
    let dead = replaced_after(&daemon, "/nonsense");
    daemon.wait_for_line(&format!(
        "WARNING: [pool hostile] child {dead} sends what makes no sense, killing it"
    ));
    daemon.wait_for_line(&format!("child {dead} exited on signal 9 (SIGKILL) after"));
}

/// The close of a connection can wait for its peer, if whoever had it wants that.
#[test]
fn a_connection_that_nobody_asked_for_does_not_keep_the_master() {
    let daemon = Setup::new().wsgi("hostile", HOSTILE, ONE).start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let port = listener.local_addr().expect("it is bound").port();
    let address = daemon.address("hostile");
    let answer = address.get(&format!("/linger?{port}"));
    assert_eq!(answer.expect("the pool answers").status, 200);
    replaced_after(&daemon, "/nonsense");
}

/// Workers have one end of the channel for kept connections together.
#[test]
fn who_shuts_down_the_channel_for_kept_connections_harms_its_generation_alone() {
    let daemon = Setup::new().wsgi("hostile", HOSTILE, ONE).start();
    let address = daemon.address("hostile");
    let old = address.worker_pid();
    // Its channel to the master is gone as well.
    let _ = address.get("/parking");
    let gone = "WARNING: [pool hostile] a worker has shut down where kept connections wait, which are closed until the next reload";
    daemon.wait_for_line(gone);
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("NOTICE: [pool hostile] generation 2 has taken over");
    until("the old worker has left", || {
        let now = daemon.worker_pids("hostile");
        now.len() == 1 && !now.contains(&old)
    });
    let mut kept: Vec<_> = (0..4)
        .map(|_| address.connect().expect("the pool listens"))
        .collect();
    for _ in 0..2 {
        for connection in &mut kept {
            let request = Request::get("/pid").bytes(1, KEEP_CONN);
            connection.send(&request).expect("it is open");
            let answer = connection.answer().expect("the pool answers");
            assert_eq!(answer.status, 200);
        }
    }
    assert_eq!(daemon.lines_like(gone).len(), 1);
}

/// The master ends the program of a worker that has died, and has more rights than that.
#[test]
fn who_names_a_process_of_others_as_its_program_does_it_no_harm() {
    let daemon = Setup::new().wsgi("hostile", HOSTILE, ONE).start();
    let mut other = Command::new("/bin/cat")
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("there is a cat");
    let dead = replaced_after(&daemon, &format!("/started?{}", other.id()));
    daemon.wait_for_line(&format!(
        "WARNING: [pool hostile] child {dead} sends what makes no sense, killing it"
    ));
    drop(other.stdin.take());
    let end = other.wait().expect("it is a child");
    assert!(end.success(), "{end}");
}

/// A mold that is a reaper of orphans itself has its workers for children: the master does not hear of their deaths, and
/// must not signal what may be somebody else by then.
#[test]
fn workers_that_are_not_the_masters_children_are_let_go() {
    let reaper = "import ctypes\nPR_SET_CHILD_SUBREAPER = 36\nctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)\n";
    let mut daemon = Setup::new()
        .wsgi("hostile", &format!("{reaper}{HOSTILE}"), ONE)
        .start();
    let dead = replaced_after(&daemon, "/killed");
    daemon.wait_for_line(&format!(
        "WARNING: [pool hostile] child {dead} is not a child of this daemon, letting go of it"
    ));
    let address = daemon.address("hostile");
    let in_flight = thread::spawn(move || address.get("/pid"));
    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
    // Whether it got an answer is the worker's affair; that the daemon ended is what counts.
    let _ = in_flight.join().expect("the client does not panic");
}

/// The scoreboards that a process has mapped: their inodes, and whether it can write to them.
fn boards(pid: i32) -> BTreeSet<(String, bool)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("root may read it");
    let boards = maps
        .lines()
        .filter(|map| map.contains("preforkd-scoreboard"));
    let words = boards.map(|map| map.split_whitespace().collect::<Vec<_>>());
    words
        .map(|words| (words[4].to_owned(), words[1].contains('w')))
        .collect()
}

/// The master has the boards of all pools. What it forks has its own alone, and who only shows them cannot write.
#[test]
fn no_process_can_write_over_the_scoreboard_of_another_pool() {
    if !is_root() {
        return;
    }
    let pool =
        |name: &str| format!("app = hello\n{ONE}\npm.status_listen = @DIR@/{name}-status.sock");
    let daemon = Setup::new()
        .pool("one", &pool("one"))
        .pool("other", &pool("other"))
        .start();
    let mut of_workers = BTreeSet::new();
    for name in ["one", "other"] {
        let answer = daemon.address(name).get("/").expect("the pool answers");
        assert_eq!(answer.status, 200);
        let of_worker = boards(daemon.worker_pids(name)[0]);
        assert_eq!(of_worker.len(), 1, "{of_worker:?}");
        of_workers.extend(of_worker);
    }
    assert_eq!(boards(daemon.pid()), of_workers);
    let mut service = Vec::new();
    until("the status service has the boards", || {
        service = daemon.titled("preforkd: status service");
        service
            .first()
            .is_some_and(|service| boards(service.pid).len() == 2)
    });
    let shown: BTreeSet<_> = of_workers
        .into_iter()
        .map(|(inode, _)| (inode, false))
        .collect();
    assert_eq!(boards(service[0].pid), shown);
}
