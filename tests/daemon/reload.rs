//! A reload brings a new generation of workers, and nobody notices; one that fails changes nothing.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::Signal;

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{Address, Request};
use crate::support::load::Load;
use crate::support::setup::{PROBE, Setup, free_port, is_root};
use crate::support::wait::until;

const RELOADED: &str = "NOTICE: [pool probe] generation 2 has taken over";
const FAILED: &str = "ERROR: reloading failed; what was there before goes on";

/// Changes a file in the daemon's folder.
fn edit(daemon: &Daemon, file: &str, from: &str, to: &str) {
    let path = daemon.folder.path(file);
    let before = fs::read_to_string(&path).expect("it was written");
    let after = before.replace(from, to);
    assert_ne!(before, after, "{from} is in {file}");
    fs::write(path, after).expect("it can be written");
}

#[test]
fn new_workers_serve_the_new_code_and_no_request_is_lost() {
    for signal in [Signal::SIGUSR2, Signal::SIGHUP] {
        let daemon = Setup::new()
            .wsgi("probe", PROBE, "pm = static\npm.max_children = 3")
            .start();
        daemon.wait_for_workers("probe", 3);
        let address = daemon.address("probe");
        let before: HashSet<i32> = daemon.worker_pids("probe").into_iter().collect();
        let load = Load::start(&address, 4, "/slow?ms=5");
        edit(
            &daemon,
            "probe-code/probe_app.py",
            "return text(os.getpid())",
            "return text(-os.getpid())",
        );
        daemon.signal(signal);
        daemon.wait_for_line("NOTICE: Reloading in progress ...");
        daemon.wait_for_line(RELOADED);
        until("the old workers have left", || {
            daemon
                .worker_pids("probe")
                .iter()
                .all(|pid| !before.contains(pid))
        });
        daemon.wait_for_workers("probe", 3);
        let outcome = load.stop();
        assert_eq!(outcome.failures, Vec::<String>::new());
        assert!(outcome.served > 0);
        let answer = address.get("/pid").expect("the pool answers");
        assert!(answer.text().starts_with('-'), "{}", answer.text());
    }
}

#[test]
fn a_request_in_flight_is_finished_by_the_old_generation_while_the_new_one_serves() {
    let mut daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 1")
        .start();
    let address = daemon.address("probe");
    let old = address.worker_pid();
    let slow = std::thread::spawn({
        let address = address.clone();
        move || address.get("/hold?ms=1500").expect("it is answered").text()
    });
    daemon.wait_for_line("*said into stderr: \"held\"*");
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line(RELOADED);
    let new = address.worker_pid();
    assert_ne!(new, old);
    assert!(
        !slow.is_finished(),
        "the new generation does not wait for the old one"
    );
    assert_eq!(
        slow.join().expect("the client does not panic").trim(),
        old.to_string()
    );
    assert!(daemon.stop(Signal::SIGQUIT).success());
}

#[test]
fn whatever_is_wrong_with_the_new_generation_the_old_one_goes_on() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 2")
        .start();
    daemon.wait_for_workers("probe", 2);
    let before = daemon.worker_pids("probe");
    let load = Load::start(&daemon.address("probe"), 2, "/pid");
    for (number, (file, from, to, sign)) in [
        (
            "preforkd.conf",
            "pm = static",
            "pm = plenty",
            "ERROR: *pm = plenty*",
        ),
        (
            "preforkd.conf",
            "/probe.sock",
            "/no/such/folder.sock",
            "ERROR: *",
        ),
        (
            "probe-code/probe_app.py",
            "import hashlib",
            "import no_such_module",
            "*no_such_module*",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        edit(&daemon, file, from, to);
        daemon.signal(Signal::SIGUSR2);
        daemon.wait_for_line(sign);
        until("it is said", || {
            daemon.lines_like(FAILED).len() == number + 1
        });
        edit(&daemon, file, to, from);
        until("the new generation has gone", || {
            daemon.worker_pids("probe") == before
        });
    }
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("NOTICE: [pool probe] generation * has taken over");
    let outcome = load.stop();
    assert_eq!(outcome.failures, Vec::<String>::new());
    assert!(outcome.served > 0);
}

/// Else a site that nobody can reach any more after the next start would not be noticed at the reload.
#[test]
fn a_socket_that_is_given_to_nobody_any_more_is_the_daemons_own() {
    if !is_root() {
        return;
    }
    let daemon = Setup::new()
        .pool("hello", "app = hello\npm = static\npm.max_children = 1")
        .start();
    let owner = || {
        let socket = fs::metadata(daemon.folder.path("hello.sock")).expect("it is there");
        (socket.uid(), socket.gid())
    };
    assert_ne!(owner(), (0, 0));
    for key in ["listen.owner", "listen.group"] {
        edit(&daemon, "preforkd.conf", key, &format!(";{key}"));
    }
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("NOTICE: [pool hello] generation 2 has taken over");
    assert_eq!(owner(), (0, 0));
}

/// The first pool's new workers serve while the second one is still coming up, and are not wanted after all.
#[test]
fn a_request_that_a_worker_of_a_failed_generation_holds_is_answered() {
    let pool = "pm = static\npm.max_children = 1";
    let daemon = Setup::new()
        .wsgi("probe", PROBE, pool)
        .wsgi("other", PROBE, pool)
        .start();
    let address = daemon.address("probe");
    let old = address.worker_pid();
    let hold = |count: usize| {
        let address = address.clone();
        let held =
            std::thread::spawn(move || address.get("/hold?ms=2500").map(|answer| answer.text()));
        until("it is held", || {
            daemon.lines_like("*said into stderr: \"held\"*").len() == count
        });
        held
    };
    edit(
        &daemon,
        "other-code/other_app.py",
        "import hashlib",
        "import time; time.sleep(1.5); import no_such_module",
    );
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("NOTICE: [pool probe] mold * is ready (generation 2)");
    let both = [hold(1), hold(2)];
    daemon.wait_for_line(FAILED);
    assert!(
        both.iter().all(|held| !held.is_finished()),
        "the reload fails meanwhile"
    );
    let pids = both.map(|held| {
        let pid = held.join().expect("the client does not panic");
        pid.expect("it is answered")
    });
    // Either may have been the first to take one.
    let by_old = pids.iter().filter(|pid| pid.trim() == old.to_string());
    assert_eq!(by_old.count(), 1, "{pids:?}");
}

#[test]
fn pools_come_and_go_and_change() {
    let daemon = Setup::new()
        .pool("one", "app = hello\npm = static\npm.max_children = 1")
        .pool("two", "app = hello\npm = static\npm.max_children = 1")
        .start();
    daemon.wait_for_workers("two", 1);
    edit(&daemon, "preforkd.conf", "[two]", "[three]");
    edit(&daemon, "preforkd.conf", "/two.sock", "/three.sock");
    edit(
        &daemon,
        "preforkd.conf",
        "pm.max_children = 1",
        "pm.max_children = 2",
    );
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("NOTICE: [pool three] generation 1 has taken over");
    daemon.wait_for_line("NOTICE: [pool one] generation 2 has taken over");
    daemon.wait_for_workers("one", 2);
    daemon.wait_for_workers("two", 0);
    daemon.wait_for_workers("three", 2);
    until("the socket of the removed pool is gone", || {
        !daemon.folder.path("two.sock").exists()
    });
    assert_eq!(
        daemon.address("three").get("/").expect("it answers").status,
        200
    );
}

#[test]
fn what_waits_on_a_socket_is_answered_by_the_new_generation() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 1")
        .start();
    let address = daemon.address("probe");
    let old = address.worker_pid();
    let mut held = address.connect().expect("the pool listens");
    held.send(&Request::get("/hold?ms=4000").bytes(1, 0))
        .expect("it is open");
    daemon.wait_for_line("*said into stderr: \"held\"*");
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let mut connection = address.connect().expect("there is room in the queue");
            connection
                .send(&Request::get("/pid").bytes(1, 0))
                .expect("it is open");
            connection
        })
        .collect();
    daemon.signal(Signal::SIGUSR2);
    for mut connection in waiting {
        let pid = connection.answer().expect("it is answered").text();
        assert_ne!(pid.trim(), old.to_string());
    }
    assert!(held.is_open(), "nobody has waited for the old generation");
    assert_eq!(
        held.answer().expect("it is answered").text().trim(),
        old.to_string()
    );
}

#[test]
fn a_pool_may_change_anything() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 1")
        .start();
    daemon.wait_for_workers("probe", 1);
    let configuration = daemon.folder.path("preforkd.conf");
    let before = fs::read_to_string(&configuration).expect("it was written");
    let port = free_port();
    let folder = daemon.folder.root().display();
    let after = before
        .replace("pm = static", "pm = ondemand")
        .replace("pm.max_children = 1", "pm.max_children = 3")
        .replace(
            &format!("listen = {folder}/probe.sock"),
            &format!("listen = 127.0.0.1:{port}"),
        );
    fs::write(
        &configuration,
        format!(
            "{after}env[COLOUR] = green\npm.status_path = /status\naccess.log = {folder}/access.log\n\
             wsgi.preload = no\nmount = /site\nchdir = /usr\n"
        ),
    )
    .expect("it can be written");
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line(RELOADED);
    daemon.wait_for_workers("probe", 0);
    assert!(!daemon.folder.path("probe.sock").exists());
    let address = Address::Tcp(([127, 0, 0, 1], port).into());
    let ask = |path: &str| address.get(path).expect("it answers");
    let variables = ask("/site/variables").text();
    assert!(variables.contains("COLOUR=green\n"), "{variables}");
    assert_eq!(ask("/variables").status, 404);
    let status = ask("/status").text();
    assert!(
        status.contains("process manager:      ondemand\n"),
        "{status}"
    );
    assert!(status.contains("max children:         3\n"), "{status}");
    let worker = &daemon.workers("probe")[0];
    let there = fs::read_link(format!("/proc/{}/cwd", worker.pid)).expect("it is there");
    assert_eq!(there.to_str(), Some("/usr"));
    assert!(daemon.folder.path("access.log").exists());
    // And back again.
    fs::write(&configuration, before).expect("it can be written");
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("NOTICE: [pool probe] generation 3 has taken over");
    assert_eq!(
        daemon
            .address("probe")
            .get("/pid")
            .expect("it answers")
            .status,
        200
    );
}

#[test]
fn a_renamed_pool_keeps_its_socket() {
    let daemon = Setup::new()
        .pool("one", "app = hello\npm = static\npm.max_children = 1")
        .start();
    daemon.wait_for_workers("one", 1);
    let address = daemon.address("one");
    let load = Load::start(&address, 2, "/");
    edit(&daemon, "preforkd.conf", "[one]", "[other]");
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("NOTICE: [pool other] generation 1 has taken over");
    daemon.wait_for_workers("one", 0);
    daemon.wait_for_workers("other", 1);
    assert_eq!(address.get("/").expect("it answers").status, 200);
    let outcome = load.stop();
    assert_eq!(outcome.failures, Vec::<String>::new());
    assert!(outcome.served > 0);
}

/// Cleaners of temporary folders do that.
#[test]
fn a_socket_whose_file_was_removed_is_bound_anew() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 1")
        .start();
    let address = daemon.address("probe");
    let held = std::thread::spawn({
        let address = address.clone();
        move || address.get("/hold?ms=1000").expect("it is answered").status
    });
    daemon.wait_for_line("*said into stderr: \"held\"*");
    let mut waiting = address.connect().expect("the pool listens");
    waiting
        .send(&Request::get("/pid").bytes(1, 0))
        .expect("it is open");
    fs::remove_file(daemon.folder.path("probe.sock")).expect("it is there");
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line(RELOADED);
    assert_eq!(address.get("/pid").expect("the pool answers").status, 200);
    assert_eq!(waiting.answer().expect("it is answered").status, 200);
    assert_eq!(held.join().expect("the client does not panic"), 200);
    daemon.wait_for_workers("probe", 1);
    assert!(daemon.folder.path("probe.sock").exists());
}

#[test]
fn many_reloads_at_once_do_no_harm() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = dynamic\npm.max_children = 6\npm.start_servers = 2\npm.min_spare_servers = 1\npm.max_spare_servers = 3")
        .start();
    daemon.wait_for_workers("probe", 2);
    let load = Load::start(&daemon.address("probe"), 2, "/pid");
    for _ in 0..25 {
        daemon.signal(Signal::SIGUSR2);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    daemon.wait_for_line(RELOADED);
    until("all reloads are over", || {
        let begun = daemon.lines_like("NOTICE: Reloading in progress ...").len();
        begun
            == daemon
                .lines_like("NOTICE: [pool probe] generation * has taken over")
                .len()
    });
    let outcome = load.stop();
    assert_eq!(outcome.failures, Vec::<String>::new());
    assert!(outcome.served > 0);
    until("one generation is left", || {
        (1..=4).contains(&daemon.workers("probe").len())
    });
    assert_eq!(daemon.lines_like("ERROR:*"), Vec::<String>::new());
}
