//! The number of workers follows the load within its bounds.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::daemon::{self, Daemon, Turn};
use crate::support::fastcgi::{Address, Request};
use crate::support::load::{Load, burst_served};
use crate::support::setup::{PROBE, Setup, free_port};
use crate::support::wait::{PATIENCE, until, until_some};

/// What a pool's number of workers was at least and at most while `act` ran.
fn counts_during(daemon: &Daemon, pool: &str, act: impl FnOnce()) -> (usize, usize) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = (usize::MAX, 0);
            while !done.load(Ordering::Relaxed) {
                let count = daemon.workers(pool).len();
                seen = (seen.0.min(count), seen.1.max(count));
            }
            seen
        });
        act();
        done.store(true, Ordering::Relaxed);
        watcher.join().expect("the watcher does not panic")
    })
}

#[test]
fn static_keeps_its_number() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 3")
        .start();
    daemon.wait_for_workers("probe", 3);
    let before = daemon.worker_pids("probe");
    let counts = counts_during(&daemon, "probe", || {
        burst_served(&daemon.address("probe"), 20, "/slow?ms=50");
    });
    assert_eq!(counts, (3, 3));
    assert_eq!(daemon.worker_pids("probe"), before);
}

#[test]
fn dynamic_starts_with_what_is_asked_for() {
    let pool = "app = hello\npm = dynamic\npm.max_children = 20\npm.start_servers = 5\npm.min_spare_servers = 3\npm.max_spare_servers = 8";
    let daemon = Setup::new().pool("hello", pool).start();
    daemon.wait_for_workers("hello", 5);
}

/// The first workers come by the spawn rate, and are no sign of a load.
#[test]
fn many_start_servers_are_not_taken_for_a_busy_pool() {
    let daemon = Setup::new()
        .pool(
            "hello",
            "app = hello\npm = dynamic\npm.max_children = 60\npm.max_spawn_rate = 10\npm.start_servers = 50\npm.min_spare_servers = 1\npm.max_spare_servers = 60",
        )
        .start();
    daemon.wait_for_workers("hello", 50);
    assert_eq!(daemon.lines_like("seems busy"), Vec::<String>::new());
}

#[test]
fn a_burst_is_served_at_once_and_the_pool_shrinks_after_it() {
    let pool = "pm = dynamic\npm.max_children = 64\npm.start_servers = 2\npm.min_spare_servers = 2\npm.max_spare_servers = 6\n\
                pm.max_spawn_rate = 64";
    let daemon = Setup::new().wsgi("probe", PROBE, pool).start_alone();
    daemon.wait_for_workers("probe", 2);
    let address = daemon.address("probe");

    let mut waits = Vec::new();
    let (_, most) = counts_during(&daemon, "probe", || {
        waits = burst_served(&address, 50, "/slow?ms=200")
    });
    let longest = waits.iter().max().expect("there were clients");
    assert!(
        *longest < Duration::from_secs(1),
        "somebody waited {longest:?}; workers at most: {most}"
    );
    assert!(most <= 64, "{most} workers");

    // While it shrinks nobody loses a request. The client's next request may find the worker of its last one not idle
    // yet, so more than one worker is kept from resting.
    let load = Load::start(&address, 1, "/pid");
    until("the pool shrinks", || {
        (2..=16).contains(&daemon.workers("probe").len())
    });
    let outcome = load.stop();
    assert_eq!(outcome.failures, Vec::<String>::new());
    assert!(outcome.served > 0);
    until("it shrinks to its spare workers", || {
        (2..=6).contains(&daemon.workers("probe").len())
    });
}

#[test]
fn a_pool_never_outgrows_its_maximum() {
    let pool = "pm = dynamic\npm.max_children = 4\npm.start_servers = 1\npm.min_spare_servers = 1\npm.max_spare_servers = 2";
    let daemon = Setup::new().wsgi("probe", PROBE, pool).start();
    let address = daemon.address("probe");
    let (_, most) = counts_during(&daemon, "probe", || {
        burst_served(&address, 24, "/slow?ms=100");
    });
    assert_eq!(most, 4);
    daemon.wait_for_line(
        "WARNING: [pool probe] server reached pm.max_children setting (4), consider raising it",
    );
}

/// Over TCP, where the depth of the queue is found out in another way than on a Unix socket.
#[test]
fn ondemand_goes_from_none_to_some_to_none() {
    let port = free_port();
    let pool = format!(
        "listen = 127.0.0.1:{port}\npm = ondemand\npm.max_children = 64\npm.process_idle_timeout = 1s\n\
         pm.max_spawn_rate = 64"
    );
    let daemon = Setup::new().wsgi("probe", PROBE, &pool).start_alone();
    let address = Address::Tcp(([127, 0, 0, 1], port).into());
    assert_eq!(daemon.worker_pids("probe"), []);

    for round in 1..=2 {
        let one = address.worker_pid();
        assert!(one > 0);
        let longest = burst_served(&address, 50, "/slow?ms=200")
            .into_iter()
            .max()
            .expect("there were clients");
        assert!(
            longest < Duration::from_millis(1500),
            "round {round}: somebody waited {longest:?}"
        );
        daemon.wait_for_workers("probe", 0);
    }
}

/// Half requests keep workers of the built-in application busy; the pool has spare ones beside them nonetheless.
#[test]
fn the_built_in_application_grows_and_shrinks_too() {
    for manager in [
        "dynamic\npm.start_servers = 1\npm.min_spare_servers = 1\npm.max_spare_servers = 3",
        "ondemand",
    ] {
        let pool = format!(
            "app = hello\npm.max_children = 20\npm.process_idle_timeout = 1s\npm = {manager}"
        );
        let daemon = Setup::new().pool("hello", &pool).start();
        let address = daemon.address("hello");
        let whole = Request::get("/held").bytes(1, 0);
        let mut held: Vec<_> = (0..10)
            .map(|_| address.connect().expect("the pool listens"))
            .collect();
        for connection in &mut held {
            connection.send(&whole[..40]).expect("it is open");
        }
        assert_eq!(
            address.get("/new").expect("a spare worker answers").status,
            200
        );
        assert!(
            daemon.workers("hello").len() >= 11,
            "{manager}: {:?}",
            daemon.worker_pids("hello")
        );
        for connection in &mut held {
            connection.send(&whole[40..]).expect("it is open");
            assert_eq!(connection.answer().expect("the pool answers").status, 200);
        }
        until("the pool shrinks", || daemon.workers("hello").len() <= 3);
    }
}

/// Connections that are queued while every worker is busy are served as workers become free: none is forgotten.
#[test]
fn ondemand_forgets_no_connection() {
    let pool = "pm = ondemand\npm.max_children = 2\npm.process_idle_timeout = 1s";
    let daemon = Setup::new().wsgi("probe", PROBE, pool).start();
    burst_served(&daemon.address("probe"), 20, "/slow?ms=50");
}

/// A lasting load settles: the pool has what it needs, and neither grows nor shrinks any more. Each of six clients keeps
/// at least one worker busy and at most two from resting; two to four are spare.
#[test]
fn a_lasting_load_settles() {
    let pool = "pm = dynamic\npm.max_children = 40\npm.start_servers = 2\npm.min_spare_servers = 2\npm.max_spare_servers = 4";
    let daemon = Setup::new().wsgi("probe", PROBE, pool).start_alone();
    let load = Load::start(&daemon.address("probe"), 6, "/slow?ms=100");
    let (pids, since) = until_some("the workers stay the same for three seconds", PATIENCE, {
        let mut last = (Vec::new(), Instant::now());
        let daemon = &daemon;
        move || {
            let now = daemon.worker_pids("probe");
            if now != last.0 {
                last = (now, Instant::now());
            }
            (last.1.elapsed() > Duration::from_secs(3)).then(|| last.clone())
        }
    });
    assert!(
        (8..=16).contains(&pids.len()),
        "{} workers since {:?}",
        pids.len(),
        since.elapsed()
    );
    let outcome = load.stop();
    assert_eq!(outcome.failures, Vec::<String>::new());
}

/// Executes its arguments where netlink sockets are refused, as a service manager may wish (`RestrictAddressFamilies`).
const WITHOUT_NETLINK: &str = r#"
import ctypes, os, struct, sys
SOCKET = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER, FIRST_ARGUMENT, AF_NETLINK, EAFNOSUPPORT = 0, 16, 16, 97
ALLOW, ERROR = 0x7fff0000, 0x00050000
program = [
    (LOAD, 0, 0, NUMBER), (EQUAL, 0, 3, SOCKET),
    (LOAD, 0, 0, FIRST_ARGUMENT), (EQUAL, 0, 1, AF_NETLINK),
    (RETURN, 0, 0, ERROR | EAFNOSUPPORT), (RETURN, 0, 0, ALLOW),
]
code = b"".join(struct.pack("=HBBI", *line) for line in program)
buffer = ctypes.create_string_buffer(code, len(code))
filter = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter, 0, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// Where the length of a queue cannot be read it is still seen whether somebody waits.
#[test]
fn without_netlink_a_pool_grows_too() {
    let setup = Setup::new().pool("hello", "app = hello\npm = ondemand\npm.max_children = 2");
    let daemon = daemon::command(&setup.write());
    let mut command = Command::new(&setup.python);
    command
        .args(["-c", WITHOUT_NETLINK])
        .arg(daemon.get_program())
        .args(daemon.get_args())
        .env_remove("NOTIFY_SOCKET")
        .env_remove("LISTEN_FDS")
        .stdin(Stdio::null());
    let daemon = Daemon::launch(setup.folder, &mut command, Turn::shared()).ready();
    daemon.wait_for_line("WARNING: the kernel does not tell how many connections wait");
    let answer = daemon.address("hello").get("/");
    assert_eq!(answer.expect("the pool answers").status, 200);
}

/// A worker that was asked to leave and takes its time is not counted on.
#[test]
fn who_leaves_slowly_is_replaced_by_who_comes() {
    let slow_end = "
@__import__('atexit').register
def end():
    print('leaving', file=sys.stderr, flush=True)
    time.sleep(8)
";
    let daemon = Setup::new()
        .global("process_control_timeout = 1s")
        .wsgi(
            "probe",
            &format!("{PROBE}{slow_end}"),
            "pm = dynamic\npm.max_children = 4\npm.start_servers = 1\npm.min_spare_servers = 1\npm.max_spare_servers = 1",
        )
        .start_alone();
    let address = daemon.address("probe");
    // One more is started, is not needed for long, and is asked to leave.
    address.get("/slow?ms=500").expect("the pool answers");
    daemon.wait_for_line("said into stderr: \"leaving\"");
    let busy = thread::spawn({
        let address = address.clone();
        move || address.get("/hold?ms=4000")
    });
    daemon.wait_for_line("said into stderr: \"held\"");
    let begun = Instant::now();
    address.get("/pid").expect("the pool answers");
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(2), "it waited {waited:?}");
    let answer = busy.join().expect("the client does not panic");
    assert_eq!(answer.expect("it is answered").status, 200);
}
