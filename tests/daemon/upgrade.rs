//! Another program takes over under the same pid, and nobody notices; one that cannot changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::support::daemon::{Daemon, Turn, command};
use crate::support::fastcgi::{Address, Connection, KEEP_CONN, Request};
use crate::support::load::Load;
use crate::support::setup::{PROBE, Setup};
use crate::support::wait::until;

const FAILED: &str = "ERROR: reloading failed; what was there before goes on";

/// Puts a program of its own beside the configuration, as a package would.
pub(crate) fn install(folder: &Path) {
    let built = Path::new(env!("CARGO_BIN_EXE_preforkd"));
    for name in [
        "preforkd",
        "libpreforkd_python.so",
        "libpreforkd_preload.so",
    ] {
        let (new, place) = (folder.join("new"), folder.join(name));
        fs::copy(built.with_file_name(name), &new).expect("it was built");
        fs::rename(new, place).expect("it can be put in its place");
    }
}

pub(crate) fn start(setup: Setup) -> Daemon {
    let configuration = setup.write();
    let folder = setup.folder;
    install(folder.root());
    let ordinary = command(&configuration);
    let mut own = Command::new(folder.path("preforkd"));
    own.args(ordinary.get_args());
    for (name, value) in ordinary.get_envs() {
        match value {
            Some(value) => own.env(name, value),
            None => own.env_remove(name),
        };
    }
    Daemon::launch(folder, &mut own, Turn::shared()).ready()
}

#[test]
fn a_new_program_takes_over_and_no_request_is_lost() {
    let mut daemon = start(
        Setup::new()
            .wsgi("probe", PROBE, "pm = static\npm.max_children = 2")
            .pool(
                "hello",
                "app = hello\npm = ondemand\npm.max_children = 2\npm.status_listen = @DIR@/status.sock",
            ),
    );
    daemon.wait_for_workers("probe", 2);
    let pid = daemon.pid();
    let address = daemon.address("probe");
    let load = Load::start(&address, 2, "/slow?ms=5");
    let watching = Load::start(&Address::Unix(daemon.folder.path("status.sock")), 1, "/");
    // More than there are workers.
    let mut kept: Vec<Connection> = (0..4)
        .map(|_| address.connect().expect("the pool listens"))
        .collect();
    for round in 1..=2 {
        for connection in &mut kept {
            connection
                .send(&Request::get("/pid").bytes(1, KEEP_CONN))
                .expect("it is kept over the upgrade");
            assert_eq!(connection.answer().expect("the pool answers").status, 200);
        }
        let before = daemon.worker_pids("probe");
        let slow = std::thread::spawn({
            let address = address.clone();
            move || address.get("/hold?ms=1000").expect("it is answered").text()
        });
        until("the slow request has begun", || {
            daemon.lines_like("*said into stderr: \"held\"*").len() == round
        });
        install(daemon.folder.root());
        daemon.signal(Signal::SIGUSR2);
        until("the new program runs", || {
            daemon.lines_like("NOTICE: fpm is running, pid *").len() == round + 1
        });
        daemon.wait_for_line("NOTICE: reloading: execvp(*");
        until("the old workers have left", || {
            let now = daemon.worker_pids("probe");
            now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
        });
        assert_eq!(daemon.pid(), pid);
        let answered_by = slow.join().expect("the client does not panic");
        assert!(
            before
                .iter()
                .any(|pid| pid.to_string() == answered_by.trim())
        );
        daemon.wait_for_line(&format!(
            "NOTICE: [pool probe] mold * is ready (generation {})",
            round + 1
        ));
    }
    for load in [load, watching] {
        let outcome = load.stop();
        assert_eq!(outcome.failures, Vec::<String>::new());
        assert!(outcome.served > 0);
    }
    assert_eq!(
        daemon.address("hello").get("/").expect("it answers").status,
        200
    );
    assert!(daemon.stop(Signal::SIGQUIT).success());
    assert!(!daemon.folder.path("probe.sock").exists());
}

/// Nobody of the new program comes after its workers.
#[test]
fn a_pool_that_the_new_program_does_not_have_answers_who_waits() {
    let setup = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 1")
        .pool("hello", "app = hello\npm = static\npm.max_children = 1");
    let daemon = start(setup);
    let address = daemon.address("probe");
    let request = |path: &str| Request::get(path).bytes(1, KEEP_CONN);
    let mut kept: Vec<Connection> = (0..4)
        .map(|_| {
            let mut kept = address.connect().expect("the pool listens");
            kept.send(&request("/pid")).expect("it is open");
            kept.answer().expect("the pool answers");
            kept
        })
        .collect();
    let mut held = address.connect().expect("the pool listens");
    held.send(&request("/hold?ms=3000")).expect("it is open");
    daemon.wait_for_line("*said into stderr: \"held\"*");
    let mut waiting: Vec<Connection> = (0..3)
        .map(|_| {
            let mut waiting = address.connect().expect("the pool listens");
            waiting.send(&request("/pid")).expect("it is open");
            waiting
        })
        .collect();
    let mut quiet = kept.split_off(2);
    for connection in &mut kept {
        connection.send(&request("/pid")).expect("it is open");
    }
    let path = daemon.folder.path("preforkd.conf");
    let text = fs::read_to_string(&path).expect("it was written");
    let (global, pools) = text.split_once("\n[probe]").expect("it has the pool");
    let (_, hello) = pools.split_once("\n[hello]").expect("it has the pool");
    fs::write(&path, format!("{global}\n[hello]{hello}")).expect("it can be written");
    install(daemon.folder.root());
    daemon.signal(Signal::SIGUSR2);
    for connection in &mut quiet {
        connection.expect_end().expect("it is closed");
    }
    for connection in [&mut held].into_iter().chain(&mut kept).chain(&mut waiting) {
        assert_eq!(connection.answer().expect("it is answered").status, 200);
    }
    daemon.wait_for_workers("probe", 0);
    assert!(address.connect().is_err(), "it still listens");
}

/// Cleaners of temporary folders do that.
#[test]
fn sockets_whose_files_were_removed_are_bound_anew() {
    let names = [
        "probe.sock",
        "probe-status.sock",
        "hello.sock",
        "control.sock",
    ];
    let mut daemon = start(
        Setup::new()
            .global("control = @DIR@/control.sock")
            .wsgi(
                "probe",
                PROBE,
                "pm = static\npm.max_children = 1\npm.status_listen = @DIR@/probe-status.sock",
            )
            .pool("hello", "app = hello\npm = static\npm.max_children = 1"),
    );
    let address = daemon.address("probe");
    let request = |path: &str| Request::get(path).bytes(1, KEEP_CONN);
    let [mut quiet, mut kept] = [(); 2].map(|()| {
        let mut kept = address.connect().expect("the pool listens");
        kept.send(&request("/pid")).expect("it is open");
        kept.answer().expect("the pool answers");
        kept
    });
    let [mut held, mut waiting] = ["/hold?ms=2000", "/pid"].map(|path| {
        let mut connection = address.connect().expect("the pool listens");
        connection.send(&request(path)).expect("it is open");
        if path != "/pid" {
            daemon.wait_for_line("*said into stderr: \"held\"*");
        }
        connection
    });
    kept.send(&request("/pid")).expect("it is open");
    let paths = names.map(|name| daemon.folder.path(name));
    for path in &paths {
        fs::remove_file(path).expect("it is there");
    }
    install(daemon.folder.root());
    daemon.signal(Signal::SIGUSR2);
    until("the new program runs", || {
        daemon.lines_like("NOTICE: fpm is running, pid *").len() == 2
    });
    for path in &paths {
        assert!(path.exists(), "{}", path.display());
    }
    for name in ["probe", "hello"] {
        let answer = daemon.address(name).get("/pid");
        assert_eq!(answer.expect("the pool answers").status, 200);
    }
    for connection in [&mut held, &mut waiting, &mut kept] {
        assert_eq!(connection.answer().expect("it is answered").status, 200);
    }
    quiet.expect_end().expect("it is closed");
    assert!(daemon.stop(Signal::SIGQUIT).success());
    for path in &paths {
        assert!(!path.exists(), "{}", path.display());
    }
}

/// Prints when it is told to, by a file.
const LATE: &str = r#"
import os, sys, time

def application(environ, start_response):
    print("waits", file=sys.stderr, flush=True)
    while not os.path.exists(os.environ["GO"]):
        time.sleep(0.01)
    print("late words", file=sys.stderr, flush=True)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
"#;

#[test]
fn what_the_processes_before_print_is_told_as_the_pool_says() {
    let lines =
        "pm = static\npm.max_children = 1\ndecorate_workers_output = no\nenv[GO] = @DIR@/go";
    let daemon = start(Setup::new().wsgi("late", LATE, lines));
    let address = daemon.address("late");
    let slow = std::thread::spawn(move || address.get("/").expect("it is answered").status);
    daemon.wait_for_line("waits");
    install(daemon.folder.root());
    daemon.signal(Signal::SIGUSR2);
    until("the new program runs", || {
        daemon.lines_like("NOTICE: fpm is running, pid *").len() == 2
    });
    daemon.folder.write("go", "");
    assert_eq!(slow.join().expect("the client does not panic"), 200);
    assert!(daemon.wait_for_line("late words").starts_with("late words"));
}

#[test]
fn a_new_program_that_cannot_run_changes_nothing() {
    let daemon = start(Setup::new().wsgi("probe", PROBE, "pm = static\npm.max_children = 2"));
    daemon.wait_for_workers("probe", 2);
    let before = daemon.worker_pids("probe");
    let broken = daemon
        .folder
        .write("broken", "#!/bin/sh\necho it is broken >&2\nexit 3\n");
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).expect("it is ours");
    fs::rename(broken, daemon.folder.path("preforkd")).expect("it can be put in its place");
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("ERROR: the new program says: it is broken");
    daemon.wait_for_line(FAILED);
    assert_eq!(daemon.worker_pids("probe"), before);
    install(daemon.folder.root());
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("NOTICE: reloading: execvp(*");
    until("the new program's workers serve", || {
        let now = daemon.worker_pids("probe");
        now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
    });
}
