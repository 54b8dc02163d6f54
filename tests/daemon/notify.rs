//! What systemd is told while the daemon serves.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::daemon::{self, Daemon, Turn};
use crate::support::setup::Setup;
use crate::support::wait::PATIENCE;

const HELLO: &str = "app = hello\npm = static\npm.max_children = 2";

/// The service manager's end.
struct Manager(UnixDatagram);

impl Manager {
    /// Starts a daemon with this manager and further variables.
    fn start(setup: Setup, variables: &[(&str, &str)]) -> (Manager, Daemon) {
        let path = setup.folder.path("notify.sock");
        let socket = UnixDatagram::bind(&path).expect("it can be bound");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout can be set");
        let mut command = daemon::command(&setup.write());
        command
            .env("NOTIFY_SOCKET", &path)
            .envs(variables.iter().copied());
        let daemon = Daemon::launch(setup.folder, &mut command, Turn::shared()).ready();
        (Manager(socket), daemon)
    }

    /// Waits for a message with a line that begins so.
    #[track_caller]
    fn hear(&self, begin: &str) -> String {
        loop {
            let mut bytes = [0; 4096];
            let length = self
                .0
                .recv(&mut bytes)
                .unwrap_or_else(|error| panic!("no {begin}: {error}"));
            let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if message.lines().any(|line| line.starts_with(begin)) {
                return message;
            }
        }
    }
}

#[test]
fn the_counts_are_told_again_and_again() {
    let setup = Setup::new()
        .global("systemd_interval = 1s")
        .pool("hello", HELLO);
    let (manager, mut daemon) = Manager::start(setup, &[]);
    let ready = manager.hear("READY=1");
    let pid = daemon.pid();
    assert_eq!(
        ready,
        format!("READY=1\nMAINPID={pid}\nSTATUS=Ready to handle connections")
    );
    daemon.wait_for_line("NOTICE: systemd monitor interval set to 1000ms");
    for _ in 0..3 {
        daemon.address("hello").get("/").expect("the pool answers");
    }
    let status = loop {
        let status = manager.hear("STATUS=Processes");
        if status.contains("active: 0") && status.contains("Requests: 3") {
            break status;
        }
    };
    let (counts, traffic) = status.split_once("Traffic: ").expect("there is a rate");
    assert_eq!(
        counts,
        "STATUS=Processes active: 0, idle: 2, Requests: 3, slow: 0, "
    );
    let rate = traffic.strip_suffix("req/sec").expect("its unit");
    let (_, digits) = rate.split_once('.').expect("a fraction");
    assert_eq!(digits.len(), 2, "{status}");
    assert!(rate.parse::<f64>().is_ok(), "{status}");
    daemon.signal(Signal::SIGTERM);
    manager.hear("STOPPING=1");
    assert_eq!(daemon.wait_for_end().code(), Some(0));
}

/// The unit's own times may be shorter than what the configuration allows.
#[test]
fn the_service_manager_is_told_how_long_it_may_take() {
    let extended = |message: &str| -> u64 {
        let mut lines = message.lines();
        let micros = lines.find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="));
        let micros: u64 = micros
            .and_then(|micros| micros.parse().ok())
            .expect("a time");
        micros / 1_000_000
    };
    for (signal, stops_within) in [(Signal::SIGQUIT, 400..420), (Signal::SIGTERM, 1..20)] {
        let setup = Setup::new()
            .global("process_control_timeout = 400s")
            .pool("hello", &format!("{HELLO}\npm.start_timeout = 300s"));
        let (manager, mut daemon) = Manager::start(setup, &[]);
        let starts_within = extended(&manager.hear("EXTEND_TIMEOUT_USEC="));
        assert!((300..700).contains(&starts_within), "{starts_within} s");
        manager.hear("READY=1");
        daemon.signal(Signal::SIGUSR2);
        manager.hear("RELOADING=1");
        let reloads_within = extended(&manager.hear("EXTEND_TIMEOUT_USEC="));
        assert!((300..700).contains(&reloads_within), "{reloads_within} s");
        manager.hear("READY=1");
        daemon.signal(signal);
        let seconds = extended(&manager.hear("STOPPING=1"));
        assert!(stops_within.contains(&seconds), "{signal}: {seconds} s");
        assert_eq!(daemon.wait_for_end().code(), Some(0));
    }
}

#[test]
fn a_watchdog_is_fed_in_time() {
    let setup = Setup::new()
        .global("systemd_interval = 0")
        .pool("hello", HELLO);
    let micros = 800_000;
    let begun = Instant::now();
    let (manager, daemon) = Manager::start(setup, &[("WATCHDOG_USEC", &micros.to_string())]);
    manager.hear("READY=1");
    daemon.wait_for_line("NOTICE: systemd monitor interval set to 400ms");
    for _ in 0..4 {
        manager.hear("WATCHDOG=1");
    }
    assert!(
        begun.elapsed() >= Duration::from_millis(1200),
        "{:?}",
        begun.elapsed()
    );
}

/// `WATCHDOG_PID` names another process, and nothing is to be told.
#[test]
fn without_an_interval_nothing_is_told() {
    let setup = Setup::new()
        .global("systemd_interval = 0")
        .pool("hello", HELLO);
    let variables = [("WATCHDOG_USEC", "200000"), ("WATCHDOG_PID", "1")];
    let (manager, daemon) = Manager::start(setup, &variables);
    manager.hear("READY=1");
    assert_eq!(
        daemon.lines_like("systemd monitor interval"),
        Vec::<String>::new()
    );
    let a_while = Some(Duration::from_millis(500));
    manager.0.set_read_timeout(a_while).expect("it can be set");
    let mut bytes = [0; 4096];
    assert!(manager.0.recv(&mut bytes).is_err(), "something is told");
}
