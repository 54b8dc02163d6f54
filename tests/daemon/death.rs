//! Processes that end: killed, worn out, or over their time.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};

use crate::support::daemon::{self, Daemon};
use crate::support::fastcgi::{Address, KEEP_CONN, Request};
use crate::support::load::{Load, burst_served};
use crate::support::process::Process;
use crate::support::setup::{POOL_USER, PROBE, Setup, free_port, is_root};
use crate::support::wait::{PATIENCE, until, until_some};

#[test]
fn a_worker_killed_under_load_loses_its_own_request_only() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 4")
        .start();
    daemon.wait_for_workers("probe", 4);
    let load = Load::start(&daemon.address("probe"), 8, "/slow?ms=20");
    let victims = 5;
    for _ in 0..victims {
        daemon.wait_for_workers("probe", 4);
        let victim = daemon.workers("probe").swap_remove(0);
        victim.signal(Signal::SIGKILL);
        daemon.wait_for_line(&format!("WARNING: [pool probe] child {} exited on signal 9 (SIGKILL) after * seconds from start", victim.pid));
    }
    daemon.wait_for_workers("probe", 4);
    let outcome = load.stop();
    assert!(outcome.failures.len() <= victims, "{:?}", outcome.failures);
    assert!(outcome.served > 0);
    burst_served(&daemon.address("probe"), 8, "/slow?ms=20");
}

/// The web server is told at once, and does not wait for what nobody is going to send.
#[test]
fn a_request_whose_worker_dies_ends() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 2")
        .start();
    let address = daemon.address("probe");
    let in_flight = thread::spawn(move || {
        let answer = address.get("/hold?ms=30000");
        (answer, Instant::now())
    });
    let line = daemon.wait_for_line("child * said into stderr: \"held\"");
    let pid = line
        .split("child ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let pid = pid.and_then(|pid| pid.parse().ok()).expect("a pid");
    let killed = Instant::now();
    Process::of(pid).expect("it runs").signal(Signal::SIGKILL);
    let (answer, ended) = in_flight.join().expect("the client does not panic");
    answer.expect_err("there is nobody to answer");
    let took = ended - killed;
    assert!(took < Duration::from_millis(500), "it took {took:?}");
    daemon.wait_for_workers("probe", 2);
}

#[test]
fn a_killed_worker_of_the_built_in_application_is_replaced() {
    let daemon = Setup::new()
        .pool("hello", "app = hello\npm = static\npm.max_children = 2")
        .start();
    daemon.wait_for_workers("hello", 2);
    let victim = daemon.workers("hello").swap_remove(1);
    victim.signal(Signal::SIGKILL);
    until("it is replaced", || {
        !victim.runs() && daemon.workers("hello").len() == 2
    });
    assert_eq!(
        daemon
            .address("hello")
            .get("/")
            .expect("the pool answers")
            .status,
        200
    );
}

#[test]
fn workers_go_on_without_their_mold_and_a_new_one_is_made() {
    let pool = "pm = dynamic\npm.max_children = 20\npm.start_servers = 2\npm.min_spare_servers = 2\npm.max_spare_servers = 4";
    let daemon = Setup::new().wsgi("probe", PROBE, pool).start();
    daemon.wait_for_workers("probe", 2);
    let address = daemon.address("probe");
    let before = daemon.worker_pids("probe");
    let mold = daemon.mold("probe").expect("the pool has a mold");
    let imported_by = address.get("/mold").expect("the pool answers").text();
    assert_eq!(
        imported_by.trim(),
        mold.pid.to_string(),
        "workers are forked from the mold"
    );

    let load = Load::start(&address, 1, "/pid");
    mold.signal(Signal::SIGKILL);
    let new = until_some("a new mold", PATIENCE, || {
        // A worker that was just forked has its mold's title for a moment.
        let new = daemon.mold("probe").filter(|now| now.pid != mold.pid)?;
        let ready = format!("mold {} is ready", new.pid);
        (!daemon.lines_like(&ready).is_empty()).then_some(new)
    });
    burst_served(&address, 12, "/slow?ms=300");
    let outcome = load.stop();
    assert_eq!(outcome.failures, Vec::<String>::new());
    let now = daemon.worker_pids("probe");
    assert!(
        before.iter().all(|pid| now.contains(pid)),
        "{before:?} became {now:?}"
    );
    until("the new mold's workers answer", || {
        let pages = burst_pages(&daemon, 12);
        pages.iter().any(|page| page.trim() == new.pid.to_string())
    });
}

/// What a number of clients at once are shown of `/mold`, each by another worker as far as there are idle ones.
fn burst_pages(daemon: &Daemon, count: usize) -> Vec<String> {
    let address = daemon.address("probe");
    thread::scope(|scope| {
        let _busy: Vec<_> = (0..count)
            .map(|_| scope.spawn(|| address.get("/slow?ms=200")))
            .collect();
        let pages: Vec<_> = (0..count)
            .map(|_| scope.spawn(|| address.get("/mold").expect("the pool answers").text()))
            .collect();
        pages
            .into_iter()
            .map(|page| page.join().expect("a client does not panic"))
            .collect()
    })
}

#[test]
fn a_worn_out_worker_is_replaced() {
    let pool = "pm = static\npm.max_children = 2\npm.max_requests = 5";
    let daemon = Setup::new()
        .global("log_level = debug")
        .wsgi("probe", PROBE, pool)
        .start();
    daemon.wait_for_workers("probe", 2);
    let address = daemon.address("probe");
    let mut worn_out = 0;
    while worn_out < 6 {
        let page = address.get("/served").expect("the pool answers").text();
        let (pid, count) = page.trim().split_once(' ').expect("a pid and a count");
        let pid: i32 = pid.parse().expect("a pid");
        if count == "5" {
            worn_out += 1;
            until("it leaves and another takes its place", || {
                let workers = daemon.worker_pids("probe");
                !workers.contains(&pid) && workers.len() == 2
            });
            daemon.wait_for_line(&format!(
                "[pool probe] child {pid} exited with code 0 after * seconds from start"
            ));
        }
    }
}

/// A worker goes on until its replacement is there, so nobody waits for one.
#[test]
fn worn_out_workers_are_replaced_under_load() {
    let pool = "pm = static\npm.max_children = 3\npm.max_requests = 10";
    let daemon = Setup::new()
        .global("log_level = debug")
        .wsgi("probe", PROBE, pool)
        .start();
    let load = Load::start(&daemon.address("probe"), 6, "/pid");
    until("many workers are worn out", || {
        daemon
            .lines_like("[pool probe] child * exited with code 0")
            .len()
            >= 20
    });
    let outcome = load.stop();
    assert_eq!(outcome.failures, Vec::<String>::new());
    assert!(outcome.served >= 200, "{}", outcome.served);
}

/// What the mold had before does not count, and the worker that has grown leaves with its replacement at work.
#[test]
fn a_worker_that_has_grown_too_large_is_replaced() {
    let large = "ballast = bytearray(range(256)) * (96 << 12)\n";
    let pool = "pm = dynamic\npm.max_children = 6\npm.start_servers = 1\npm.min_spare_servers = 1\npm.max_spare_servers = 1\n\
                pm.max_memory = 60M";
    let daemon = Setup::new()
        .wsgi("probe", &format!("{PROBE}{large}"), pool)
        .start();
    let address = daemon.address("probe");
    let load = Load::start(&address, 1, "/pid");
    let grow = |mib: u32| {
        let answer = address.get(&format!("/grow?mib={mib}")).expect("an answer");
        answer.text().trim().to_owned()
    };
    let replaced = |pid: &str| {
        format!(
            "NOTICE: [pool probe] child {pid} has 1* MiB of memory to itself, more than pm.max_memory"
        )
    };
    let small = grow(8);
    let grown = grow(100);
    daemon.wait_for_line(&replaced(&grown));
    let grown_pid: i32 = grown.parse().expect("a pid");
    until("it leaves", || {
        !daemon.worker_pids("probe").contains(&grown_pid)
    });
    assert!(small == grown || daemon.lines_like(&replaced(&small)).is_empty());
    let outcome = load.stop();
    assert_eq!(outcome.failures, Vec::<String>::new());
}

/// No two of them at a time, and somebody is there at any time.
#[test]
fn workers_that_have_grown_old_are_replaced() {
    let pool = "pm = static\npm.max_children = 4\npm.max_lifetime = 2s";
    let daemon = Setup::new().wsgi("probe", PROBE, pool).start();
    daemon.wait_for_workers("probe", 4);
    let before = daemon.worker_pids("probe");
    let load = Load::start(&daemon.address("probe"), 2, "/pid");
    let mut least = 4;
    until("all have been replaced", || {
        let now = daemon.worker_pids("probe");
        least = least.min(now.len());
        now.len() == 4 && !before.iter().any(|pid| now.contains(pid))
    });
    assert!(least >= 3, "{least}");
    let outcome = load.stop();
    assert_eq!(outcome.failures, Vec::<String>::new());
}

#[test]
fn a_request_over_its_time_gets_504_and_its_worker_is_replaced() {
    let daemon = Setup::new()
        .wsgi(
            "probe",
            PROBE,
            "pm = static\npm.max_children = 2\nrequest_terminate_timeout = 1s",
        )
        .start();
    daemon.wait_for_workers("probe", 2);
    let address = daemon.address("probe");
    let begun = Instant::now();
    let answer = address.get("/slow?ms=15000").expect("an answer comes");
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(
        begun.elapsed() >= Duration::from_millis(900),
        "after {:?}",
        begun.elapsed()
    );
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "after {:?}",
        begun.elapsed()
    );
    daemon.wait_for_line(
        "WARNING: [pool probe] child *, script '*' (request: \"GET /*\") execution timed out",
    );
    daemon.wait_for_workers("probe", 2);
    assert_eq!(
        address
            .get("/slow?ms=300")
            .expect("the pool answers")
            .status,
        200
    );
}

/// An idle kept connection is not a request, so its time does not run.
#[test]
fn an_idle_kept_connection_is_not_over_its_time() {
    let daemon = Setup::new()
        .wsgi(
            "probe",
            PROBE,
            "pm = static\npm.max_children = 1\nrequest_terminate_timeout = 1s",
        )
        .start();
    let address = daemon.address("probe");
    let mut kept = address.connect().expect("the pool listens");
    kept.send(&Request::get("/pid").bytes(1, KEEP_CONN))
        .expect("it is open");
    let worker = kept.answer().expect("the pool answers").text();
    let begun = Instant::now();
    until("twice the time has gone", || {
        begun.elapsed() > Duration::from_secs(2)
    });
    assert_eq!(
        address.get("/pid").expect("the pool answers").text(),
        worker
    );
}

/// A master beside the one of a case; it ends with the case.
struct Next(Child);

impl Next {
    fn stop(&mut self) -> ExitStatus {
        let pid = Pid::from_raw(self.0.id().try_into().expect("a pid"));
        // It may have ended, and then waiting tells how.
        let _ = kill(pid, Signal::SIGTERM);
        self.0.wait().expect("it is our child")
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The workers of a dead master answer who has come, and another one serves at once on the same address.
#[test]
fn a_new_master_takes_the_place_of_one_that_was_killed() {
    replace_a_killed_master("@DIR@/probe.sock", |daemon, old| {
        let new = daemon.address("probe").worker_pid();
        assert!(!old.contains(&new), "an old worker answered");
    });
}

/// On a TCP port it needs the right to take the socket from the workers that still answer. It takes over their queue.
#[test]
fn a_new_master_takes_the_port_of_one_that_was_killed() {
    const SYS_PTRACE: u64 = 1 << 19;
    let status = fs::read_to_string("/proc/self/status").expect("it can be read");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:\t"));
    let capabilities = line.map(|line| u64::from_str_radix(line, 16).expect("a number"));
    if capabilities.is_none_or(|capabilities| capabilities & SYS_PTRACE == 0) {
        eprintln!("not run: this case needs CAP_SYS_PTRACE");
        return;
    }
    replace_a_killed_master(&format!("127.0.0.1:{}", free_port()), |_, _| ());
}

/// Whoever may look at a worker, and have what it has, is not its master for that.
#[test]
fn the_port_of_a_master_that_lives_is_left_to_it() {
    if !is_root() {
        return;
    }
    let port = free_port();
    let pool = format!(
        "listen = 127.0.0.1:{port}\nprocess.dumpable = yes\npm = static\npm.max_children = 1"
    );
    let setup = Setup::new().wsgi("probe", PROBE, &pool);
    let configuration = setup.write();
    let daemon = setup.start();
    let program = daemon.folder.path("preforkd");
    fs::copy(env!("CARGO_BIN_EXE_preforkd"), &program).expect("there is room");
    let user = User::from_name(POOL_USER).expect("users can be looked up");
    let user = user.expect("the pool's user exists");
    // One that takes it serves until it is stopped.
    let second = Command::new("/usr/bin/timeout")
        .arg("10")
        .arg(program)
        .args(["-F", "-y"])
        .arg(configuration)
        .uid(user.uid.as_raw())
        .gid(user.gid.as_raw())
        .stdin(Stdio::null())
        .output()
        .expect("it can be started");
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("Address already in use"), "{said}");
    assert_eq!(second.status.code(), Some(78));
}

/// Its name alone makes nobody a worker.
#[test]
fn the_port_of_a_stranger_is_left_to_him() {
    if !is_root() {
        return;
    }
    let port = free_port();
    let listening = format!(
        "import socket\nend = socket.create_server(('127.0.0.1', {port}))\nprint(flush=True)\nend.accept()"
    );
    let user = User::from_name(POOL_USER).expect("users can be looked up");
    let mut stranger = Next(
        Command::new("/usr/bin/python3")
            .arg0("preforkd: pool hello")
            .args(["-c", &listening])
            .uid(user.expect("the pool's user exists").uid.as_raw())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a Python"),
    );
    let mut said = stranger.0.stdout.take().expect("it is piped");
    said.read_exact(&mut [0]).expect("it listens");
    let pool = format!("app = hello\nlisten = 127.0.0.1:{port}");
    let (status, _) = Setup::new().pool("hello", &pool).refused();
    assert_eq!(status.code(), Some(78));
    stranger.stop();
}

fn replace_a_killed_master(listen: &str, check: impl Fn(&Daemon, &[i32])) {
    let pool = format!("listen = {listen}\npm = static\npm.max_children = 2");
    let setup = Setup::new()
        .global("control = @DIR@/control.sock")
        .wsgi("probe", PROBE, &pool);
    let configuration = setup.write();
    let mut daemon = setup.start();
    daemon.wait_for_workers("probe", 2);
    let address = match listen.parse() {
        Ok(port) => Address::Tcp(port),
        Err(_) => daemon.address("probe"),
    };
    let old = daemon.worker_pids("probe");
    let request = Request::get("/hold?ms=1500").bytes(1, 0);
    let mut waiting: Vec<_> = (0..4)
        .map(|_| address.connect().expect("the pool listens"))
        .collect();
    for connection in &mut waiting {
        connection.send(&request).expect("there is room");
    }
    until("two are answered", || {
        daemon.lines_like("said into stderr: \"held\"").len() == 2
    });
    daemon.signal(Signal::SIGKILL);
    until("it is dead", || Process::of(daemon.pid()).is_none());
    let begun = Instant::now();
    let log = daemon.folder.path("next.log");
    let mut next = Next(
        daemon::command(&configuration)
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a file can be made"))
            .spawn()
            .expect("it can be started"),
    );
    until("another one listens", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("ready to handle connections"))
    });
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(1000), "it took {took:?}");
    check(&daemon, &old);
    for connection in &mut waiting {
        let answer = connection.answer().expect("somebody finishes");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(
        address.get("/pid").expect("the new ones answer").status,
        200
    );
    assert!(next.stop().success());
    daemon.wait_for_end();
}

/// If the master is killed, its workers finish what they have and leave; none is orphaned for good.
#[test]
fn workers_leave_when_the_master_is_killed() {
    let mut daemon = Setup::new()
        .wsgi(
            "probe",
            PROBE,
            "pm = static\npm.max_children = 2\ncatch_workers_output = yes",
        )
        .pool("hello", "app = hello\npm = static\npm.max_children = 2")
        .start();
    daemon.wait_for_workers("probe", 2);
    daemon.wait_for_workers("hello", 2);
    let address = daemon.address("probe");
    let in_flight = thread::spawn(move || address.get("/hold?ms=500"));
    daemon.wait_for_line("said into stderr: \"held\"");
    let all: Vec<_> = ["probe", "hello"]
        .iter()
        .flat_map(|pool| daemon.workers(pool))
        .chain(daemon.mold("probe"))
        .collect();
    assert_eq!(all.len(), 5);
    daemon.stop(Signal::SIGKILL);
    until("all its processes leave", || {
        !all.iter().any(|process| process.runs())
    });
    let answer = in_flight
        .join()
        .expect("the client does not panic")
        .expect("the request in flight is finished");
    assert_eq!(answer.status, 200);
}
