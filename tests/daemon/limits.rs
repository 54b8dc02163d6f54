//! What holds for all pools together: how many workers, and what happens when they crash.

use std::fs;
use std::thread;

use nix::sys::signal::Signal;
use nix::unistd::Uid;

use crate::support::setup::{PROBE, Setup};
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
