//! Programs that are forked from one that was started once (`exec.mold`).

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::thread;

use nix::sys::signal::Signal;

use crate::support::fastcgi::Request;
use crate::support::process::{self, Process};
use crate::support::setup::Setup;
use crate::support::wait::until;
use crate::upgrade;

use super::host::{Host, POOL, Program};
use super::transfer;

/// PHP's opcache, which takes in a file that was made a moment ago.
const OPCACHE: &str =
    "-d zend_extension=opcache -d opcache.enable=1 -d opcache.file_update_protection=0";

mod cplusplus {
    use crate::programs::host::Program;
    use crate::programs::suite::{self, cases};

    const PROGRAM: Program = Program::MoldedCplusplus;

    cases!(
        PROGRAM;
        pages,
        post_bodies,
        all_is_sent_before_anything_is_read,
        slow_pages,
        recycling_and_reload_lose_nothing,
        complaints,
        no_orphans,
    );

    #[test]
    fn crash() {
        suite::crash(PROGRAM, "SIGSEGV");
    }

    #[test]
    fn ends_by_itself() {
        suite::ends_by_itself(PROGRAM, "env[PROBE_REQUESTS] = 7");
    }
}

mod perl {
    use crate::programs::host::Program;
    use crate::programs::suite::{self, cases};

    const PROGRAM: Program = Program::MoldedPerl;

    cases!(
        PROGRAM;
        pages,
        recycling_and_reload_lose_nothing,
        no_orphans,
    );

    #[test]
    fn ends_by_itself() {
        suite::ends_by_itself(PROGRAM, "env[PROBE_REQUESTS] = 7");
    }
}

/// The mold that there is now.
fn mold(host: &Host) -> Process {
    let molds = host.molds();
    let mut now = process::below(host.daemon.pid()).into_iter();
    now.find(|process| molds.contains(&process.pid))
        .expect("there is a mold")
}

/// What PHP says of its opcache, of all workers: pids, and the most misses that one has seen.
fn opcache(host: &Host, workers: usize) -> (HashSet<String>, u32) {
    let port = host.nginx.port;
    let clients: Vec<_> = (0..workers)
        .map(|_| thread::spawn(move || transfer::get(port, "/opcache?ms=300")))
        .collect();
    let mut pids = HashSet::new();
    let mut most = 0;
    for client in clients {
        let answer = client.join().expect("it does not panic");
        let text = answer.expect("nginx answers").text();
        let words: Vec<&str> = text.split(' ').collect();
        let [pid, _, misses] = words[..] else {
            panic!("{text}")
        };
        pids.insert(pid.to_owned());
        most = most.max(misses.parse().expect("a number"));
    }
    (pids, most)
}

/// What one worker has compiled, no other one compiles, until a reload.
#[test]
fn the_opcache_is_shared_until_a_reload() {
    let host = Host::start_with(Program::Php, OPCACHE, "pm = static\npm.max_children = 3");
    let before = host.wait_for_programs(3);
    host.page("/pid");
    let (pids, misses) = opcache(&host, 3);
    assert_eq!((pids.len(), misses), (3, 1));
    // One that is started anew has what the others have.
    before[0].signal(Signal::SIGKILL);
    until("it is gone", || !before[0].runs());
    host.wait_for_programs(3);
    let (pids, misses) = opcache(&host, 3);
    assert_eq!((pids.len(), misses), (3, 1));

    let of_generation = host.programs();
    host.daemon.signal(Signal::SIGUSR2);
    until("the reload has replaced every program", || {
        of_generation.iter().all(|program| !program.runs())
    });
    host.wait_for_programs(3);
    let fresh = host.page("/opcache");
    assert!(fresh.ends_with(" 0 1"), "{fresh}");
}

/// Each worker has its own channel and streams, the pool's user, and nothing of the mold's, or of another one.
#[test]
fn a_forked_program_has_nothing_of_its_molds() {
    let host = Host::start(
        Program::MoldedCplusplus,
        "pm = static\npm.max_children = 3\nenv[LD_PRELOAD] = libc.so.6\nenv[COLOUR] = blue",
    );
    let programs = host.wait_for_programs(3);
    let page = host.page("/environment");
    for line in ["COLOUR=blue", "LD_PRELOAD=libc.so.6"] {
        assert!(page.lines().any(|found| found == line), "{page}");
    }
    assert!(!page.contains("PREFORKD"), "{page}");
    let mold = mold(&host);
    let owner = |process: &Process| {
        let folder = format!("/proc/{}", process.pid);
        fs::metadata(folder).expect("it runs").uid()
    };
    let mut all = HashSet::new();
    let mut common: Option<HashSet<_>> = None;
    for program in &programs {
        assert_eq!(program.parent, host.daemon.pid());
        assert_eq!(owner(program), owner(&mold));
        let folder = fs::read_dir(format!("/proc/{}/fd", program.pid)).expect("it runs");
        let links = folder.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        // Of its own are its channel to the master and its standard streams.
        let of_its_own: HashSet<_> = links
            .filter(|link| {
                let link = link.to_string_lossy();
                link.starts_with("socket:") || link.starts_with("pipe:")
            })
            .collect();
        all.extend(of_its_own.clone());
        common = Some(match common {
            None => of_its_own,
            Some(common) => common.intersection(&of_its_own).cloned().collect(),
        });
    }
    // What the three of them have in common is what all workers of a pool have: where they accept and park, and what
    // stands at 0. The one that has answered also has both ends of what stands for a connection.
    let common = common.expect("there are three").len();
    assert_eq!((common, all.len()), (3, 3 + 3 * 3 + 2));
    assert_eq!(host.status("/exit?status=3"), 502);
    host.daemon.wait_for_line("exited with code 3");
}

/// A mold that dies takes nobody along, and the next one goes on in its place.
#[test]
fn programs_outlive_their_mold() {
    let host = Host::start(Program::Php, "pm = static\npm.max_children = 2");
    let before = host.wait_for_programs(2);
    let port = host.nginx.port;
    // Who has not answered yet is not started anew when it ends.
    let slow = || thread::spawn(move || transfer::get(port, "/slow?ms=300"));
    for slow in [slow(), slow()] {
        slow.join()
            .expect("it does not panic")
            .expect("nginx answers");
    }
    let slow = thread::spawn(move || transfer::get(port, "/slow?ms=700").expect("nginx answers"));
    let first = mold(&host);
    first.signal(Signal::SIGKILL);
    until("there is another one", || host.molds().len() == 2);
    assert!(!first.runs() && before.iter().all(Process::runs));
    let slow = slow.join().expect("the client does not panic");
    assert_eq!((slow.status, slow.text().as_str()), (200, "slept"));

    before[0].signal(Signal::SIGKILL);
    until("it is gone", || !before[0].runs());
    host.wait_for_programs(2);
    host.page("/pid");
    assert!(before[1].runs());
}

/// A program that has been a mold is tried again when it fails once, and what it cannot be later takes nothing from the
/// workers that it has been a mold to.
#[test]
fn a_mold_that_has_been_may_fail_once() {
    let setup = Setup::new();
    Program::MoldedPerl.install(&setup.folder);
    let path = setup.folder.path("probe.pl");
    let text = fs::read_to_string(&path).expect("it has just been written");
    let install = |first: &str| {
        let new = path.with_extension("new");
        fs::write(&new, format!("#!/usr/bin/perl\n{first}\n{text}")).expect("it can be written");
        fs::set_permissions(&new, Permissions::from_mode(0o755)).expect("it is there");
        fs::rename(&new, &path).expect("it can be put in its place");
    };
    install("");
    let host = Host::of(
        setup,
        "exec = @DIR@/probe.pl\nexec.mold = yes\npm = static\npm.max_children = 1",
    );
    let worker = host.wait_for_programs(1).remove(0);
    install("exit 1;");
    mold(&host).signal(Signal::SIGKILL);
    host.daemon.wait_for_line("* mold * exited with code 1 *");
    install("");
    until("there is another one", || host.molds().len() == 2);
    worker.signal(Signal::SIGKILL);
    until("it is gone", || !worker.runs());
    let worker = host.wait_for_programs(1).remove(0);
    assert!(process::below(worker.pid).is_empty());
    let child = host.page("/child").parse().ok().and_then(Process::of);
    let child = child.expect("it has been started");

    install("use threads; threads->create(sub { sleep 600 });");
    mold(&host).signal(Signal::SIGKILL);
    host.daemon
        .wait_for_line("*the program cannot be a mold: it has started threads *");
    assert!(child.runs());
    worker.signal(Signal::SIGKILL);
    until("its program's child is gone", || !child.runs());
    assert_eq!(host.daemon.lines_like("*cannot be a mold*").len(), 1);
}

/// A mold that hangs does so for no longer than a worker may take to start, and the other workers go on.
#[test]
fn a_mold_that_hangs_keeps_nobody() {
    let lines = "pm = static\npm.max_children = 2\npm.start_timeout = 2s";
    let host = Host::start(Program::Php, lines);
    let before = host.wait_for_programs(2);
    let hangs = mold(&host);
    hangs.signal(Signal::SIGSTOP);
    before[0].signal(Signal::SIGKILL);
    until("it is gone", || !before[0].runs());
    assert_eq!(host.page("/pid"), before[1].pid.to_string());
    host.daemon
        .wait_for_line("mold * does not fork, killing it");
    host.wait_for_programs(2);
    assert!(!hangs.runs());
}

/// What a program forks is no worker: it takes no part in the request, and gets none.
#[test]
fn what_a_program_forks_is_no_worker() {
    let host = Host::start(Program::MoldedPerl, "pm = static\npm.max_children = 2");
    let before = host.wait_for_programs(2);
    for path in ["/family", "/kept/family", "/stream/family"] {
        for _ in 0..5 {
            assert_eq!(host.page(path), "forked, executed\n");
        }
    }
    assert_eq!(host.wait_for_programs(2), before);
}

/// A program that ends while its worker answers who waits, before it leaves, takes no more of them: another worker does.
#[test]
fn a_program_that_ends_takes_nobody_who_waits_along() {
    let setup = Setup::new().global("process_control_timeout = 20s");
    let exec = Program::MoldedPerl.install(&setup.folder);
    let mut host = Host::of(
        setup,
        &format!("exec = {exec}\nexec.mold = yes\npm = static\npm.max_children = 2"),
    );
    host.wait_for_programs(2);
    let ask = |path: &str| {
        let mut connection = host.address().connect().expect("the pool listens");
        let request = Request::get(path).bytes(1, 0);
        connection.send(&request).expect("it is open");
        connection
    };
    let mut asked = vec![ask("/slow?ms=1000"), ask("/slow?ms=2500")];
    until("both are at a request", || {
        !host.daemon.lines_like("reached pm.max_children").is_empty()
    });
    asked.push(ask("/last"));
    asked.extend((0..4).map(|_| ask("/pid")));
    host.daemon.signal(Signal::SIGQUIT);
    for connection in &mut asked {
        assert_eq!(connection.answer().expect("it is answered").status, 200);
    }
    host.daemon.wait_for_end();
}

/// A worker knows of its program's requests what any other knows of its own.
#[test]
fn a_worker_inside_is_seen() {
    let host = Host::start(
        Program::Php,
        "pm = static\npm.max_children = 2\npm.status_path = /status\naccess.log = @DIR@/access.log\n\
         access.format = \"%m %r %s\"",
    );
    host.wait_for_programs(2);
    let port = host.nginx.port;
    let slow = thread::spawn(move || transfer::get(port, "/slow?ms=700").expect("nginx answers"));
    let ask = || {
        let status = host
            .address()
            .get("/status?full")
            .expect("the pool answers");
        String::from_utf8_lossy(&status.body).into_owned()
    };
    until("the request is seen", || {
        let page = ask();
        page.contains("/slow?ms=700") && page.contains("active processes:     2")
    });
    assert_eq!(slow.join().expect("it does not panic").status, 200);
    assert_eq!(host.status("/teapot"), 418);
    // An answer is there a moment before its worker is at rest.
    until("both are in the log", || {
        let log = fs::read_to_string(host.daemon.folder.path("access.log")).expect("it is there");
        log.contains(" 418\n") && log.contains(" 200\n")
    });
    until("nobody but who answers this is active", || {
        ask().contains("active processes:     1")
    });
}

/// The processes that run in this folder.
fn working_in(folder: &Path) -> Vec<Process> {
    let is_there = |process: &Process| {
        let link = fs::read_link(format!("/proc/{}/cwd", process.pid));
        link.is_ok_and(|directory| directory == folder)
    };
    process::below(1).into_iter().filter(is_there).collect()
}

/// Whatever dies in whatever order, and however soon one after the other: nothing is left.
#[test]
fn no_order_of_deaths_leaves_a_program() {
    for (order, waits) in [
        ("worker mold master", false),
        ("worker master mold", true),
        ("mold worker master", true),
        ("mold worker master", false),
        ("mold master worker", true),
        ("mold master worker", false),
        ("master mold worker", false),
        ("master worker mold", false),
    ] {
        // Titles come and go with what a process is about; its working directory stays.
        let lines = "pm = static\npm.max_children = 1\nchdir = @DIR@";
        let mut host = Host::start(Program::MoldedPerl, lines);
        host.wait_for_programs(1);
        let port = host.nginx.port;
        let busy = thread::spawn(move || transfer::get(port, "/slow?ms=60000"));
        until("the program is at a request", || {
            host.daemon.lines_like("reached pm.max_children").len() == 1
        });
        let (mold, worker) = (mold(&host), host.workers().remove(0));
        let folder = host.daemon.folder.root().to_owned();
        assert_eq!(working_in(&folder).len(), 2);
        for victim in order.split(' ') {
            let victim = match victim {
                "mold" => &mold,
                "worker" => &worker,
                _ => &Process::of(host.daemon.pid()).expect("it runs"),
            };
            victim.signal(Signal::SIGKILL);
            if waits {
                until("it is gone", || !victim.runs());
            }
        }
        host.daemon.wait_for_end();
        // Those that have followed in their places are gone as well.
        until(&format!("nothing is left after {order}"), || {
            working_in(&folder).is_empty()
        });
        let _ = busy.join().expect("the client does not panic");
    }
}

/// What a program has started ends with its worker, also when another master's program ends that.
#[test]
fn an_upgrade_leaves_nothing_that_a_program_has_started() {
    let setup = Setup::new();
    let exec = Program::MoldedPerl.install(&setup.folder);
    let lines = format!("exec = {exec}\nexec.mold = yes\npm = static\npm.max_children = 1");
    let daemon = upgrade::start(setup.pool(POOL, &lines));
    daemon.wait_for_workers(POOL, 1);
    let answer = daemon.address(POOL).get("/child").expect("it is answered");
    let child = answer.text().parse().ok().and_then(Process::of);
    let child = child.expect("it has been started");
    let worker = daemon.workers(POOL).remove(0);
    upgrade::install(daemon.folder.root());
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("NOTICE: reloading: execvp(*");
    until("the worker has left", || !worker.runs());
    until("its program's child is gone", || !child.runs());
}

/// A program that never comes to accept is no orphan of a master that is killed.
#[test]
fn a_mold_that_has_not_come_up_ends_with_its_master() {
    let setup = Setup::new();
    let mut host = Host::of(
        setup,
        "exec = /bin/sleep 600\nexec.mold = yes\npm = static\npm.max_children = 1",
    );
    let mut started = None;
    until("it has been started", || {
        let mut all = process::below(host.daemon.pid()).into_iter();
        started = all.find(|process| process.title == "/bin/sleep 600");
        started.is_some()
    });
    host.daemon.signal(Signal::SIGKILL);
    host.daemon.wait_for_end();
    until("it is gone", || started.iter().all(|mold| !mold.runs()));
}

/// Where no mold can be had the log says why, once, and each worker starts its own program.
#[test]
fn what_cannot_be_a_mold_is_started_as_ever() {
    for (program, exec, lines, why) in [
        (
            Program::MoldedCplusplus,
            "PROGRAM",
            "env[PROBE_THREAD] = yes",
            "it has started threads before its first accept",
        ),
        (
            Program::Php,
            "PROGRAM",
            "env[PHP_FCGI_CHILDREN] = 2",
            "it has forked itself before its first accept",
        ),
        // One that starts another, and one that is statically linked.
        (
            Program::MoldedCplusplus,
            "/bin/sh -c \"exec PROGRAM\"",
            "",
            "it exited with code 1 before it accepted a connection",
        ),
        (
            Program::Go,
            "PROGRAM",
            "",
            "before it accepted a connection",
        ),
    ] {
        let setup = Setup::new();
        let installed = program.install(&setup.folder);
        let exec = exec.replace("PROGRAM", &installed);
        let host = Host::of(
            setup,
            &format!("exec = '{exec}'\nexec.mold = yes\npm = static\npm.max_children = 2\n{lines}"),
        );
        until("each worker has a program of its own", || {
            let workers = host.workers();
            workers.len() == 2
                && workers
                    .iter()
                    .all(|worker| !process::below(worker.pid).is_empty())
        });
        host.page("/pid");
        let told = format!(
            "[pool {POOL}] the program cannot be a mold: *{why}; each worker starts its own"
        );
        let told = host.daemon.lines_like(&told);
        assert_eq!(told.len(), 1, "{exec} {lines}");
    }
}
