//! What holds for all pools together: how many workers, and what happens when they crash.

use std::ffi::OsStr;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use nix::sys::signal::Signal;
use nix::unistd::Uid;

use crate::support::daemon::{Daemon, Turn};
use crate::support::load::{Load, burst_served};
use crate::support::setup::{PROBE, Setup, is_root};
use crate::support::wait::until;

#[test]
fn all_pools_together_have_a_limit() {
    let daemon = Setup::new()
        .global("process.max = 4")
        .pool("fixed", "app = hello\npm = static\npm.max_children = 3")
        .wsgi("probe", PROBE, "pm = ondemand\npm.max_children = 4")
        .start();
    daemon.wait_for_workers("fixed", 3);
    let size = || daemon.workers("fixed").len() + daemon.workers("probe").len();
    let full = "WARNING: The maximum number of processes has been reached. Please review your configuration and consider raising 'process.max'";
    let in_flight: Vec<_> = (0..2)
        .map(|_| {
            let address = daemon.address("probe");
            thread::spawn(move || address.get("/hold?ms=1500"))
        })
        .collect();
    daemon.wait_for_line(full);
    assert_eq!((daemon.workers("probe").len(), size()), (1, 4));
    // Whoever dies makes room for another.
    let worker = daemon.workers("fixed").remove(0);
    worker.signal(Signal::SIGKILL);
    until("another takes its place", || !worker.runs() && size() == 4);
    for client in in_flight {
        let answer = client.join().expect("the client does not panic");
        assert_eq!(answer.expect("it waits for its turn").status, 200);
    }
    // The new generation counts for itself: there is room for it.
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("[pool fixed] generation 2 has taken over");
}

#[test]
fn workers_that_crash_again_and_again_lead_to_a_reload() {
    let daemon = Setup::new()
        .global("emergency_restart_threshold = 2\nemergency_restart_interval = 1m")
        .pool("hello", "app = hello\npm = static\npm.max_children = 2")
        .start();
    daemon.wait_for_workers("hello", 2);
    let crash = |signal| {
        let worker = daemon.workers("hello").remove(0);
        worker.signal(signal);
        until("it has been replaced", || {
            !worker.runs() && daemon.workers("hello").len() == 2
        });
    };
    crash(Signal::SIGSEGV);
    daemon.wait_for_line(
        "WARNING: [pool hello] child * exited on signal 11 (SIGSEGV*) after * seconds from start",
    );
    // Other ends do not count.
    crash(Signal::SIGKILL);
    assert_eq!(daemon.lines_like("failed processes"), Vec::<String>::new());
    let worker = daemon.workers("hello").remove(0);
    worker.signal(Signal::SIGBUS);
    daemon.wait_for_line(
        "WARNING: failed processes threshold (2 in 60 sec) is reached, initiating reload",
    );
    daemon.wait_for_line("NOTICE: Reloading in progress ...");
    daemon.wait_for_line("[pool hello] generation 2 has taken over");
}

/// Workers keep what the master has, unless their pool says otherwise.
#[test]
fn the_master_has_limits_and_a_priority() {
    let mut setup = Setup::new()
        .global("rlimit_files = 900\nrlimit_core = 0")
        .pool("hello", "app = hello\npm = static\npm.max_children = 1");
    let is_root = Uid::effective().is_root();
    if is_root {
        setup = setup.global("process.priority = -3");
    }
    let daemon = setup.start();
    daemon.wait_for_workers("hello", 1);
    for pid in [daemon.pid(), daemon.worker_pids("hello")[0]] {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
        let files = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let files = files.expect("there is such a limit").split_whitespace();
        let numbers: Vec<&str> = files.filter(|word| word.parse::<u64>().is_ok()).collect();
        assert_eq!(numbers, ["900", "900"], "{pid}");
    }
    if is_root {
        let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).expect("it runs");
        let (_, fields) = stat.rsplit_once(") ").expect("its form");
        assert_eq!(fields.split(' ').nth(16), Some("-3"));
    }
}

/// What there are no descriptors for is not started, and is tried again; what runs goes on.
#[test]
fn a_master_without_descriptors_goes_on_with_what_it_has() {
    let mut daemon = Setup::new()
        .global("rlimit_files = 70")
        .pool("hello", "app = hello\npm = static\npm.max_children = 60")
        .start();
    daemon.wait_for_line("ERROR: [pool hello] fork() failed: Too many open files");
    daemon.wait_for_line(
        "ERROR: [pool hello] cannot start: 2 failure(s) in a row, trying again in 0.2 seconds",
    );
    let address = daemon.address("hello");
    burst_served(&address, 20, "/");
    let count = daemon.workers("hello").len();
    assert!((5..60).contains(&count), "{count}");
    // Whoever dies makes room for another.
    let worker = daemon.workers("hello").remove(0);
    worker.signal(Signal::SIGKILL);
    until("another takes its place", || {
        !worker.runs() && daemon.workers("hello").len() == count
    });
    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
}

/// A user with as many processes as he may have cannot fork: his mold says so, and his workers go on.
#[test]
fn a_pool_whose_user_has_no_processes_left_goes_on_with_what_it_has() {
    if !is_root() {
        return;
    }
    // Nobody else's, so that nobody else's processes count.
    let pool = "user = 42421\ngroup = 42421\npm = dynamic\npm.max_children = 20\npm.start_servers = 2\n\
                pm.min_spare_servers = 2\npm.max_spare_servers = 4\nlisten.mode = 0666";
    let setup = Setup::new().wsgi("probe", PROBE, pool);
    let configuration = setup.write();
    let mut command = Command::new("/usr/bin/prlimit");
    command
        .arg("--nproc=7")
        .arg(env!("CARGO_BIN_EXE_preforkd"))
        .args([
            OsStr::new("-F"),
            OsStr::new("-y"),
            configuration.as_os_str(),
        ])
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null());
    let daemon = Daemon::launch(setup.folder, &mut command, Turn::shared()).ready();
    daemon.wait_for_workers("probe", 2);
    let address = daemon.address("probe");
    let load = Load::start(&address, 12, "/slow?ms=100");
    daemon.wait_for_line("ERROR: [pool probe] the mold could not fork");
    daemon.wait_for_line("ERROR: [pool probe] cannot start: 2 failure(s) in a row");
    let outcome = load.stop();
    assert_eq!(outcome.failures, Vec::<String>::new());
    assert!(outcome.served > 0);
    assert!(daemon.workers("probe").len() < 7);
}

/// A log of requests that cannot be written costs no request.
#[test]
fn full_disks_under_the_logs_of_requests_hold_nothing_up() {
    let pool = "pm = static\npm.max_children = 2\naccess.log = /dev/full\nslowlog = /dev/full\n\
                request_slowlog_timeout = 1s";
    let daemon = Setup::new().wsgi("probe", PROBE, pool).start();
    let address = daemon.address("probe");
    let workers = {
        daemon.wait_for_workers("probe", 2);
        daemon.worker_pids("probe")
    };
    burst_served(&address, 10, "/pid");
    burst_served(&address, 2, "/slow?ms=1500");
    daemon.wait_for_line("WARNING: [pool probe] child *, script '*' (request: \"GET /slow?ms=1500\") executing too slow");
    burst_served(&address, 10, "/pid");
    assert_eq!(daemon.worker_pids("probe"), workers);
}
