//! Start and end: signals, sockets from a service manager, readiness told to it, addresses that are taken.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::daemon::{self, Daemon, Turn};
use crate::support::fastcgi::{Address, Request};
use crate::support::process::Process;
use crate::support::setup::{PROBE, Setup, free_port};
use crate::support::wait::{PATIENCE, until};

const HELLO: &str = "app = hello\npm = static\npm.max_children = 1";
const PROBE_POOL: &str = "pm = static\npm.max_children = 2\ncatch_workers_output = yes";

#[test]
fn start_and_stop_are_told_in_php_fpms_words() {
    let mut daemon = Setup::new()
        .global("pid = @DIR@/daemon.pid")
        .pool("hello", HELLO)
        .start();
    let pid = daemon.pid();
    let running = daemon.wait_for_line(&format!("NOTICE: fpm is running, pid {pid}"));
    // [23-Nov-2026 08:15:10] NOTICE: …
    let (stamp, _) = running.split_once("] ").expect("a time stamp in brackets");
    assert_eq!(stamp.len(), "[23-Nov-2026 08:15:10".len(), "{running}");
    assert_eq!(
        fs::read_to_string(daemon.folder.path("daemon.pid")).expect("a pid file"),
        pid.to_string()
    );
    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
    daemon.wait_for_line("NOTICE: Terminating ...");
    daemon.wait_for_line("NOTICE: exiting, bye-bye!");
    assert!(
        !daemon.folder.path("daemon.pid").exists(),
        "the pid file is left"
    );
}

#[test]
fn processes_have_titles() {
    let daemon = Setup::new().pool("hello", HELLO).start();
    daemon.wait_for_workers("hello", 1);
    let master = Process::of(daemon.pid()).expect("it runs");
    let configuration = daemon.folder.path("preforkd.conf");
    assert_eq!(
        master.title,
        format!("preforkd: master process ({})", configuration.display())
    );
}

/// With nothing to do the master sleeps: it has no clock that ticks.
#[test]
fn an_idle_master_does_not_wake() {
    let idle = "app = hello\npm.max_children = 4\npm.process_idle_timeout = 1s\n";
    let daemon = Setup::new()
        .pool("fixed", &format!("{idle}pm = static"))
        .pool("spare", &format!("{idle}pm = dynamic\npm.start_servers = 2\npm.min_spare_servers = 1\npm.max_spare_servers = 3"))
        .pool("none", &format!("{idle}pm = ondemand"))
        .start();
    daemon.wait_for_workers("fixed", 4);
    daemon.wait_for_workers("spare", 2);
    let sleeps = || {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it runs");
        let line = status
            .lines()
            .find(|line| line.starts_with("voluntary_ctxt_switches"));
        line.and_then(|line| line.split('\t').nth(1)?.parse::<u64>().ok())
            .expect("a number of times")
    };
    let mut before = (sleeps(), Instant::now());
    until("it sleeps for three seconds on end", || {
        let now = sleeps();
        if now != before.0 {
            before = (now, Instant::now());
        }
        before.1.elapsed() > Duration::from_secs(3)
    });
}

#[test]
fn quit_finishes_what_is_in_flight() {
    let mut daemon = Setup::new().wsgi("probe", PROBE, PROBE_POOL).start();
    daemon.wait_for_workers("probe", 2);
    let address = daemon.address("probe");
    let in_flight = thread::spawn({
        let address = address.clone();
        move || address.get("/hold?ms=1500")
    });
    daemon.wait_for_line("said into stderr: \"held\"");
    assert_eq!(daemon.stop(Signal::SIGQUIT).code(), Some(0));
    let answer = in_flight
        .join()
        .expect("the client does not panic")
        .expect("the request is finished");
    assert_eq!(answer.status, 200);
    daemon.wait_for_line("NOTICE: Finishing ...");
    daemon.wait_for_line("NOTICE: exiting, bye-bye!");
    assert!(address.connect().is_err(), "the pool still listens");
}

/// Who has come is answered, be it that nobody has accepted it yet; who comes then learns at once that it is too late.
#[test]
fn quit_answers_who_waits_and_lets_nobody_in() {
    let port = free_port();
    for listen in ["@DIR@/probe.sock".to_owned(), format!("127.0.0.1:{port}")] {
        let mut daemon = Setup::new()
            .wsgi("probe", PROBE, &format!("listen = {listen}\n{PROBE_POOL}"))
            .start();
        daemon.wait_for_workers("probe", 2);
        let address = if listen.starts_with('@') {
            daemon.address("probe")
        } else {
            Address::Tcp(([127, 0, 0, 1], port).into())
        };
        let request = Request::get("/hold?ms=400").bytes(1, 0);
        let mut waiting: Vec<_> = (0..9)
            .map(|_| address.connect().expect("the pool listens"))
            .collect();
        for connection in &mut waiting {
            connection.send(&request).expect("there is room");
        }
        until("two are answered", || {
            daemon.lines_like("said into stderr: \"held\"").len() == 2
        });
        daemon.signal(Signal::SIGQUIT);
        daemon.wait_for_line("NOTICE: Finishing ...");
        if listen.starts_with('@') {
            until("nobody is let in", || address.connect().is_err());
        }
        for connection in &mut waiting {
            assert_eq!(connection.answer().expect("it is answered").status, 200);
        }
        assert_eq!(daemon.wait_for_end().code(), Some(0));
        assert_eq!(daemon.lines_like("WARNING: * exited"), Vec::<String>::new());
        assert!(address.connect().is_err());
    }
}

/// Each signal after the first is harsher than the one before it.
#[test]
fn a_second_signal_does_not_wait_for_what_the_first_one_waits_for() {
    let deaf = "
@__import__('atexit').register
def end():
    time.sleep(60)
def application(environ, start_response):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return probe(environ, start_response)
";
    for (signals, last_words) in [
        (&[Signal::SIGQUIT, Signal::SIGQUIT][..], "Terminating ..."),
        (&[Signal::SIGTERM, Signal::SIGINT], "Killing ..."),
        (
            &[Signal::SIGQUIT, Signal::SIGQUIT, Signal::SIGTERM],
            "Killing ...",
        ),
    ] {
        let kills = last_words == "Killing ...";
        let application = if kills {
            format!("import signal\n{PROBE}{deaf}")
        } else {
            PROBE.to_owned()
        };
        let mut daemon = Setup::new().wsgi("probe", &application, PROBE_POOL).start();
        let address = daemon.address("probe");
        let in_flight = thread::spawn(move || address.get("/hold?ms=30000"));
        daemon.wait_for_line("said into stderr: \"held\"");
        let begun = Instant::now();
        for (index, signal) in signals.iter().enumerate() {
            daemon.signal(*signal);
            until("it is heard", || daemon.lines_like(" ...").len() > index);
        }
        assert_eq!(daemon.wait_for_end().code(), Some(0));
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(4), "{signals:?}: {took:?}");
        daemon.wait_for_line(last_words);
        if kills {
            daemon.wait_for_line("child * exited on signal 9 (SIGKILL)");
        }
        in_flight
            .join()
            .expect("the client does not panic")
            .expect_err("it is broken off");
    }
}

/// A request that takes longer than `process_control_timeout` does not hold the end up.
#[test]
fn quit_waits_no_longer_than_it_is_told() {
    let mut daemon = Setup::new()
        .global("process_control_timeout = 1s")
        .wsgi("probe", PROBE, PROBE_POOL)
        .start();
    let address = daemon.address("probe");
    let in_flight = thread::spawn(move || address.get("/hold?ms=30000"));
    daemon.wait_for_line("said into stderr: \"held\"");
    let begun = Instant::now();
    assert_eq!(daemon.stop(Signal::SIGQUIT).code(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "it took {:?}",
        begun.elapsed()
    );
    // Whether it got an answer is the worker's affair; that it ended is what counts.
    let _ = in_flight.join().expect("the client does not panic");
}

#[test]
fn term_and_int_stop_at_once() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut daemon = Setup::new().wsgi("probe", PROBE, PROBE_POOL).start();
        let address = daemon.address("probe");
        let in_flight = thread::spawn(move || address.get("/hold?ms=30000"));
        daemon.wait_for_line("said into stderr: \"held\"");
        let begun = Instant::now();
        assert_eq!(daemon.stop(signal).code(), Some(0), "{signal}");
        assert!(
            begun.elapsed() < Duration::from_secs(8),
            "{signal} took {:?}",
            begun.elapsed()
        );
        daemon.wait_for_line("NOTICE: Terminating ...");
        let _ = in_flight.join().expect("the client does not panic");
    }
}

/// A stop that comes before the workers are there ends the start.
#[test]
fn a_stop_during_the_start_is_obeyed() {
    let slow_import =
        "import time\ntime.sleep(60)\ndef application(environ, start_response): pass\n";
    let mut daemon = Setup::new()
        .wsgi("slow", slow_import, "pm = static\npm.max_children = 2")
        .pool("hello", HELLO)
        .start();
    let begun = Instant::now();
    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "it took {:?}",
        begun.elapsed()
    );
}

/// Starts the daemon as a service manager does that hands it `socket` as descriptor 3.
fn start_with_socket(setup: Setup, socket: OwnedFd) -> Daemon {
    launch_with_socket(setup, socket, 1).ready()
}

/// The same, with a number of sockets said that may be wrong.
fn launch_with_socket(setup: Setup, socket: OwnedFd, said: u32) -> Daemon {
    let configuration = setup.write();
    let mut command = Command::new("/bin/sh");
    command
        .args([
            "-c",
            "LISTEN_FDS=$2 LISTEN_PID=$$ exec \"$0\" -F -y \"$1\" 3<&0 0</dev/null",
        ])
        .arg(env!("CARGO_BIN_EXE_preforkd"))
        .arg(configuration)
        .arg(said.to_string())
        .env_remove("NOTIFY_SOCKET")
        .stdin(socket);
    Daemon::launch(setup.folder, &mut command, Turn::shared())
}

/// What the daemon opens itself takes the numbers that nothing was passed at.
#[test]
fn fewer_sockets_than_the_service_manager_says_harm_nothing() {
    let setup = Setup::new()
        .global("error_log = @DIR@/daemon.log")
        .pool("hello", HELLO);
    let log = setup.folder.path("daemon.log");
    let listener = UnixListener::bind(setup.folder.path("hello.sock")).expect("it can be bound");
    let mut daemon = launch_with_socket(setup, listener.into(), 9);
    let says = |what: &str| fs::read_to_string(&log).is_ok_and(|text| text.contains(what));
    until("it is ready", || says("ready to handle connections"));
    let answer = daemon.address("hello").get("/");
    assert_eq!(answer.expect("the pool answers").status, 200);
    assert!(daemon.stop(Signal::SIGTERM).success());
    assert!(says("bye-bye"), "the log was closed");
}

#[test]
fn an_environment_with_nonsense_in_it_is_no_reason_not_to_start() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_preforkd"));
    command.arg("-v").env("=a", "b").stdout(Stdio::null());
    assert!(command.status().expect("it can be started").success());
}

#[test]
fn a_unix_socket_from_the_service_manager_is_used() {
    let setup = Setup::new().pool("hello", HELLO);
    let path = setup.folder.path("hello.sock");
    let listener = UnixListener::bind(&path).expect("it can be bound");
    let inode = fs::metadata(&path).expect("it is there").ino();
    // It is in the queue before there is a daemon.
    let early = thread::spawn({
        let address = Address::Unix(path.clone());
        move || address.get("/early")
    });
    let mut daemon = start_with_socket(setup, listener.into());
    assert_eq!(
        early
            .join()
            .expect("the client does not panic")
            .expect("it is answered")
            .status,
        200
    );
    assert_eq!(
        daemon
            .address("hello")
            .get("/")
            .expect("the pool answers")
            .status,
        200
    );
    assert_eq!(
        fs::metadata(&path).expect("it is there").ino(),
        inode,
        "the socket was bound anew"
    );
    daemon.stop(Signal::SIGTERM);
    assert!(path.exists(), "the service manager's socket was removed");
}

#[test]
fn a_tcp_socket_from_the_service_manager_is_used() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    let setup = Setup::new().pool("hello", &format!("listen = {address}\n{HELLO}"));
    let _daemon = start_with_socket(setup, listener.into());
    assert_eq!(
        Address::Tcp(address)
            .get("/")
            .expect("the pool answers")
            .status,
        200
    );
}

#[test]
fn readiness_and_end_are_told_to_the_service_manager() {
    // A pool that starts nobody before somebody comes is ready when it can.
    let setup = Setup::new().pool("hello", HELLO).wsgi(
        "probe",
        PROBE,
        "pm = ondemand\npm.max_children = 2",
    );
    let path = setup.folder.path("notify.sock");
    let manager = UnixDatagram::bind(&path).expect("it can be bound");
    manager
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout can be set");
    let receive = |what: &str| loop {
        let mut bytes = [0; 4096];
        let length = manager
            .recv(&mut bytes)
            .unwrap_or_else(|error| panic!("no {what}: {error}"));
        let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
        if message.lines().any(|line| line == what) {
            break message;
        }
    };
    let configuration = setup.write();
    let mut command = daemon::command(&configuration);
    command.env("NOTIFY_SOCKET", &path);
    let mut daemon = Daemon::launch(setup.folder, &mut command, Turn::shared());
    receive("READY=1");
    assert_eq!(
        daemon
            .address("hello")
            .get("/")
            .expect("ready means listening")
            .status,
        200
    );
    daemon.signal(Signal::SIGTERM);
    receive("STOPPING=1");
    assert_eq!(daemon.wait_for_end().code(), Some(0));
}

#[test]
fn a_taken_port_is_refused_and_nothing_is_left() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it has an address");
    let setup = Setup::new()
        .pool("first", HELLO)
        .pool("second", &format!("listen = {address}\n{HELLO}"));
    let (status, daemon) = setup.refused();
    assert_eq!(status.code(), Some(78));
    daemon.wait_for_line(&format!(
        "ERROR: unable to bind listening socket for address '{address}': *in use"
    ));
    assert!(
        !daemon.folder.path("first.sock").exists(),
        "the first pool's socket is left"
    );
    assert_eq!(
        daemon.lines_like("ready to handle connections"),
        Vec::<String>::new()
    );
}

/// Only a socket that proves to be nobody's is replaced.
#[test]
fn another_programs_datagram_socket_is_refused_and_left_alone() {
    let setup = Setup::new().pool("hello", HELLO);
    let path = setup.folder.path("hello.sock");
    let other = UnixDatagram::bind(&path).expect("it can be bound");
    let (status, daemon) = setup.refused();
    assert_eq!(status.code(), Some(78));
    daemon.wait_for_line("ERROR: unable to bind listening socket for address '*hello.sock':");
    let sender = UnixDatagram::unbound().expect("a socket can be made");
    sender
        .send_to(b"still there?", path)
        .expect("its file is left");
    let mut bytes = [0; 100];
    assert_eq!(other.recv(&mut bytes).expect("it arrives"), 12);
}

/// What was made before the start failed is taken back.
#[test]
fn a_start_that_fails_late_leaves_no_files() {
    let setup = Setup::new()
        .global("pid = @DIR@/daemon.pid")
        .pool("first", HELLO)
        .pool(
            "second",
            &format!("{HELLO}\naccess.log = @DIR@/no-folder/access.log"),
        );
    let (status, daemon) = setup.refused();
    assert_eq!(status.code(), Some(78));
    for name in ["first.sock", "second.sock", "daemon.pid"] {
        assert!(!daemon.folder.path(name).exists(), "{name} is left");
    }
}

#[test]
fn a_unix_socket_in_use_is_refused_and_left_alone() {
    let setup = Setup::new().pool("hello", HELLO);
    let path = setup.folder.path("hello.sock");
    let _other = UnixListener::bind(&path).expect("it can be bound");
    let inode = fs::metadata(&path).expect("it is there").ino();
    let (status, daemon) = setup.refused();
    assert_eq!(status.code(), Some(78));
    daemon.wait_for_line(&format!(
        "ERROR: Another FPM instance seems to already listen on {}",
        path.display()
    ));
    assert_eq!(fs::metadata(&path).expect("it is there").ino(), inode);
}

#[test]
fn a_stale_unix_socket_is_replaced() {
    let setup = Setup::new().pool("hello", HELLO);
    let path = setup.folder.path("hello.sock");
    drop(UnixListener::bind(&path).expect("it can be bound"));
    let mut daemon = setup.start();
    assert_eq!(
        daemon
            .address("hello")
            .get("/")
            .expect("the pool answers")
            .status,
        200
    );
    daemon.stop(Signal::SIGTERM);
    assert!(!path.exists(), "the socket is left");
}

#[test]
fn a_file_that_is_no_socket_is_not_replaced() {
    let setup = Setup::new().pool("hello", HELLO);
    let path = setup.folder.write("hello.sock", "a person's own file\n");
    let (status, _daemon) = setup.refused();
    assert_eq!(status.code(), Some(78));
    assert_eq!(
        fs::read_to_string(path).expect("it is there"),
        "a person's own file\n"
    );
}

#[test]
fn a_listening_socket_has_the_mode_asked_for() {
    let daemon = Setup::new()
        .pool("hello", &format!("listen.mode = 0600\n{HELLO}"))
        .start();
    let mode = fs::metadata(daemon.folder.path("hello.sock"))
        .expect("it is there")
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Ports above are the kernel's to give; this one is a case's own.
#[test]
fn a_port_alone_means_every_address() {
    let port = free_port();
    let daemon = Setup::new()
        .pool("hello", &format!("listen = {port}\n{HELLO}"))
        .start();
    daemon.wait_for_workers("hello", 1);
    let address = Address::Tcp(([127, 0, 0, 1], port).into());
    until("the pool answers", || {
        address.get("/").is_ok_and(|answer| answer.status == 200)
    });
}
