//! `preforkd reload`: the running master is told, and who asked hears what has come of it.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket,
    sockopt::ReceiveTimeout,
};
use nix::sys::time::TimeVal;
use nix::unistd::User;

use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::setup::{POOL_USER, PROBE, Setup, is_root};
use crate::support::wait::{PATIENCE, until};

const CONTROL: &str = "control = @DIR@/control.sock";
const ONE: &str = "app = hello\npm = static\npm.max_children = 1";

/// The command for this daemon's configuration, not started yet.
fn reload(daemon: &Daemon, pool: Option<&str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_preforkd"));
    command
        .args(["reload", "-y"])
        .arg(daemon.folder.path("preforkd.conf"))
        .args(pool)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn begin(daemon: &Daemon, pool: Option<&str>) -> Child {
    reload(daemon, pool).spawn().expect("it can be started")
}

/// Its exit status and what it printed, standard output first.
fn ended(output: Output) -> (Option<i32>, String) {
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn run(daemon: &Daemon, pool: Option<&str>) -> (Option<i32>, String) {
    ended(reload(daemon, pool).output().expect("it can be started"))
}

/// Changes a file in the daemon's folder.
fn edit(daemon: &Daemon, file: &str, from: &str, to: &str) {
    let path = daemon.folder.path(file);
    let before = fs::read_to_string(&path).expect("it was written");
    let after = before.replace(from, to);
    assert_ne!(before, after, "{from} is in {file}");
    fs::write(path, after).expect("it can be written");
}

fn line_of(daemon: &Daemon, text: &str) -> usize {
    let configuration =
        fs::read_to_string(daemon.folder.path("preforkd.conf")).expect("it is there");
    let mut lines = configuration.lines();
    lines.position(|line| line == text).expect("it is there") + 1
}

#[test]
fn a_success_is_told_when_the_new_generation_serves() {
    let daemon = Setup::new()
        .global(CONTROL)
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 2")
        .pool("hello", ONE)
        .start();
    daemon.wait_for_workers("probe", 2);
    let before = daemon.worker_pids("probe");
    let (code, text) = run(&daemon, None);
    assert_eq!(
        (code, text.as_str()),
        (
            Some(0),
            "[pool probe] generation 2 has taken over\n[pool hello] generation 2 has taken over\n"
        )
    );
    let new: Vec<i32> = daemon.worker_pids("probe");
    let new = new.iter().filter(|pid| !before.contains(pid)).count();
    assert_eq!(new, 2, "the new workers are there when it is told");
}

#[test]
fn whatever_is_wrong_is_told_and_nothing_has_changed() {
    let daemon = Setup::new()
        .global(CONTROL)
        .wsgi(
            "probe",
            PROBE,
            "pm = static\npm.max_children = 1\npm.status_path = /status",
        )
        .start();
    daemon.wait_for_workers("probe", 1);
    let before = daemon.worker_pids("probe");
    let address = daemon.address("probe");
    let outcome = || {
        let page = address.get("/status").expect("it is told").text();
        let line = page
            .lines()
            .find(|line| line.starts_with("last reload outcome:"));
        line.expect("the field is there")
            .rsplit(' ')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(outcome(), "none");
    let listen = format!("listen = {}/probe.sock", daemon.folder.root().display());
    let taken = daemon.folder.path("taken.sock");
    let _other = std::os::unix::net::UnixListener::bind(&taken).expect("it is free");
    let taken = format!("listen = {}", taken.display());
    for (file, from, to, code) in [
        ("preforkd.conf", "pm = static", "pm = plenty", 78),
        ("preforkd.conf", &*listen, &*taken, 78),
        (
            "probe-code/probe_app.py",
            "import hashlib",
            "import no_such_module",
            70,
        ),
    ] {
        edit(&daemon, file, from, to);
        let why = match code {
            70 => "No module named 'no_such_module'".to_owned(),
            _ if to == taken => "Another FPM instance seems to already listen on ".to_owned(),
            _ => format!(
                "preforkd.conf:{}: [pool probe] pm = plenty: ",
                line_of(&daemon, to)
            ),
        };
        let (exit, text) = run(&daemon, None);
        assert_eq!(exit, Some(code), "{text}");
        assert!(text.contains(&why), "{why} is in {text}");
        assert_eq!(outcome(), "failed");
        edit(&daemon, file, to, from);
        until("the new generation has gone", || {
            daemon.worker_pids("probe") == before
        });
    }
    let (exit, text) = run(&daemon, None);
    assert_eq!(exit, Some(0), "{text}");
    until("the old worker has left", || {
        !daemon.worker_pids("probe").contains(&before[0])
    });
    assert_eq!(outcome(), "succeeded");
}

#[test]
fn the_last_line_says_how_a_new_generation_has_failed() {
    let daemon = Setup::new()
        .global(CONTROL)
        .wsgi(
            "probe",
            PROBE,
            "pm = static\npm.max_children = 1\npm.start_timeout = 1s",
        )
        .wsgi("other", PROBE, "pm = static\npm.max_children = 1")
        .start();
    for (line, end) in [
        ("import os; os._exit(3)", "exited with code 3"),
        (
            "import time; time.sleep(60)",
            "exited on signal 9 (SIGKILL)",
        ),
    ] {
        edit(&daemon, "probe-code/probe_app.py", "import hashlib", line);
        let (exit, text) = run(&daemon, None);
        assert_eq!(exit, Some(70), "{text}");
        let last = text.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("[pool probe] generation ") && last.ends_with(end),
            "{text}"
        );
        assert!(!text.contains("[pool other]"), "{text}");
        edit(&daemon, "probe-code/probe_app.py", line, "import hashlib");
    }
}

#[test]
fn one_pool_alone_is_replaced_added_and_removed() {
    let daemon = Setup::new()
        .global(CONTROL)
        .pool("one", ONE)
        .pool("two", ONE)
        .start();
    daemon.wait_for_workers("two", 1);
    let two = daemon.worker_pids("two");
    let load = Load::start(&daemon.address("one"), 2, "/");
    // The change of the other pool waits for its own turn.
    edit(
        &daemon,
        "preforkd.conf",
        "pm.max_children = 1",
        "pm.max_children = 2",
    );
    assert_eq!(
        run(&daemon, Some("one")),
        (
            Some(0),
            "[pool one] generation 2 has taken over\n".to_owned()
        )
    );
    daemon.wait_for_workers("one", 2);
    assert_eq!(daemon.worker_pids("two"), two);

    edit(&daemon, "preforkd.conf", "[two]", "[three]");
    let (exit, text) = run(&daemon, Some("three"));
    assert_eq!(exit, Some(78), "{text}");
    assert!(text.contains("pool two listens on "), "{text}");
    edit(&daemon, "preforkd.conf", "/two.sock", "/three.sock");
    let (exit, text) = run(&daemon, Some("three"));
    assert_eq!(
        (exit, text.trim()),
        (Some(0), "[pool three] generation 1 has taken over")
    );
    let three = daemon.address("three");
    assert_eq!(three.get("/").expect("it answers").status, 200);
    assert_eq!(daemon.worker_pids("two"), two);

    // What is wrong with one is nothing to the other.
    let one = daemon.worker_pids("one");
    edit(
        &daemon,
        "preforkd.conf",
        "[three]\n",
        "[three]\nchdir = /no/such/folder\n",
    );
    let (exit, text) = run(&daemon, Some("three"));
    assert_eq!(exit, Some(78), "{text}");
    edit(&daemon, "preforkd.conf", "chdir = /no/such/folder\n", "");
    assert_eq!(daemon.worker_pids("one"), one);

    let (exit, text) = run(&daemon, Some("two"));
    assert_eq!((exit, text.trim()), (Some(0), "[pool two] is no more"));
    daemon.wait_for_workers("two", 0);
    let (exit, text) = run(&daemon, Some("two"));
    assert_eq!(exit, Some(64), "{text}");
    assert!(text.contains("there is no pool two"), "{text}");
    assert_eq!(load.stop().failures, Vec::<String>::new());
}

/// A module that does not come up while a file is there.
const WAITING: &str = r#"
import os, time
while os.path.exists(os.path.join(os.path.dirname(__file__), "wait")):
    time.sleep(0.01)
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"#;

#[test]
fn all_who_wait_for_a_reload_are_told() {
    let daemon = Setup::new()
        .global(CONTROL)
        .wsgi("slow", WAITING, "pm = static\npm.max_children = 1")
        .pool("hello", ONE)
        .start();
    let wait = daemon.folder.write("slow-code/wait", "");
    let first = begin(&daemon, None);
    daemon.wait_for_line("NOTICE: Reloading in progress ...");
    // These ask for what the first one may not have read, and are told of another reload, which they share.
    let others: Vec<Child> = (0..5).map(|_| begin(&daemon, None)).collect();
    let pool = begin(&daemon, Some("hello"));
    until("they wait", || waiting(&daemon) == 7);
    fs::remove_file(wait).expect("it is there");
    let text = |child: Child| ended(child.wait_with_output().expect("it ends"));
    let (code, first) = text(first);
    assert_eq!(code, Some(0));
    assert!(first.contains("[pool slow] generation 2 "), "{first}");
    for other in others {
        let (code, other) = text(other);
        assert_eq!(code, Some(0));
        assert!(other.contains("[pool slow] generation 3 "), "{other}");
    }
    let (code, pool) = text(pool);
    assert_eq!(
        (code, pool.trim()),
        (Some(0), "[pool hello] generation 4 has taken over")
    );
    assert_eq!(
        daemon.lines_like("NOTICE: Reloading in progress ...").len(),
        2
    );
}

/// Connections that the master has accepted on its control socket.
fn waiting(daemon: &Daemon) -> usize {
    let path = daemon.folder.path("control.sock");
    let path = path.to_str().expect("it is text");
    let sockets = fs::read_to_string("/proc/net/unix").expect("it can be read");
    // The listening one has the flag __SO_ACCEPTCON.
    let is_one = |line: &&str| line.ends_with(path) && line.split(' ').nth(3) != Some("00010000");
    sockets.lines().filter(is_one).count()
}

#[test]
fn who_waits_is_told_by_the_new_program() {
    let daemon = crate::upgrade::start(Setup::new().global(CONTROL).wsgi(
        "slow",
        WAITING,
        "pm = static\npm.max_children = 1",
    ));
    daemon.wait_for_workers("slow", 1);
    let before = daemon.worker_pids("slow");
    crate::upgrade::install(daemon.folder.root());
    let wait = daemon.folder.write("slow-code/wait", "");
    let asked = begin(&daemon, None);
    daemon.wait_for_line("NOTICE: reloading: execvp(*");
    until("the new program runs", || {
        daemon.lines_like("NOTICE: fpm is running, pid *").len() == 2
    });
    let pool = begin(&daemon, Some("slow"));
    until("it is heard", || waiting(&daemon) == 2);
    fs::remove_file(wait).expect("it is there");
    for (child, generation) in [(asked, 2), (pool, 3)] {
        let output = child.wait_with_output().expect("it ends");
        let expected = format!("[pool slow] generation {generation} has taken over\n");
        assert_eq!(ended(output), (Some(0), expected));
    }
    assert!(!daemon.worker_pids("slow").contains(&before[0]));
    // One that cannot run is told of by the old program.
    let broken = daemon
        .folder
        .write("broken", "#!/bin/sh\necho it is broken >&2\nexit 3\n");
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).expect("it is ours");
    fs::rename(broken, daemon.folder.path("preforkd")).expect("it can be put in its place");
    let (code, text) = run(&daemon, None);
    assert_eq!(code, Some(78));
    assert!(
        text.contains("the new program says: it is broken"),
        "{text}"
    );
}

/// Each worker imports it, one after another.
const ONE_AFTER_ANOTHER: &str = r#"
import fcntl, os, time

with open(os.path.join(os.path.dirname(__file__), "lock"), "r+") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    time.sleep(0.3)

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
"#;

/// Not by its first worker alone.
#[test]
fn a_new_program_is_judged_when_all_its_first_workers_are_ready() {
    let setup = Setup::new().global(CONTROL);
    setup.folder.writable("orderly-code");
    let lock = setup.folder.write("orderly-code/lock", "");
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o666)).expect("it is ours");
    let lines = "pm = static\npm.max_children = 3\nwsgi.preload = no";
    let daemon = crate::upgrade::start(setup.wsgi("orderly", ONE_AFTER_ANOTHER, lines));
    daemon.wait_for_workers("orderly", 3);
    crate::upgrade::install(daemon.folder.root());
    let (code, text) = run(&daemon, None);
    let expected = "[pool orderly] generation 2 has taken over\n";
    assert_eq!((code, text.as_str()), (Some(0), expected));
}

#[test]
fn a_master_that_ends_says_so_and_one_that_is_not_there_is_missed() {
    let mut daemon = Setup::new()
        .global(CONTROL)
        .wsgi("slow", WAITING, "pm = static\npm.max_children = 1")
        .start();
    daemon.folder.write("slow-code/wait", "");
    let asked = begin(&daemon, None);
    daemon.wait_for_line("NOTICE: Reloading in progress ...");
    assert!(daemon.stop(Signal::SIGTERM).success());
    let (code, text) = ended(asked.wait_with_output().expect("it ends"));
    assert_eq!(
        (code, text.trim()),
        (Some(69), "the master is about to end")
    );
    assert!(!daemon.folder.path("control.sock").exists());
    let (code, text) = run(&daemon, None);
    assert_eq!(code, Some(69));
    assert!(text.starts_with("no master takes commands on "), "{text}");
}

#[test]
fn the_socket_is_beside_the_pid_file_and_moves_with_it() {
    let daemon = Setup::new()
        .global("pid = @DIR@/first.pid")
        .pool("hello", ONE)
        .start();
    let first = daemon.folder.path("first.control");
    let mode = fs::metadata(&first)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    edit(&daemon, "preforkd.conf", "first.pid", "second.pid");
    // Nobody is at the new place yet.
    assert_eq!(run(&daemon, None).0, Some(69));
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("NOTICE: [pool hello] generation 2 has taken over");
    until("the socket has moved", || !first.exists());
    assert_eq!(run(&daemon, None).0, Some(0));
    assert!(daemon.folder.path("second.control").exists());
}

fn client(path: &Path) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    let patience = i64::try_from(PATIENCE.as_secs()).expect("it is small");
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(patience, 0))?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// What the master says to one message.
fn reply(path: &Path, message: &[u8]) -> Vec<u8> {
    let socket = client(path).expect("it can be connected to");
    send(socket.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL).expect("it is sent");
    let mut bytes = [0; 1024];
    let length = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()).expect("it is answered");
    bytes[..length].to_vec()
}

#[test]
fn clients_that_say_nothing_or_nonsense_cost_nothing() {
    let daemon = Setup::new().global(CONTROL).pool("hello", ONE).start();
    let path = daemon.folder.path("control.sock");
    let silent: Vec<OwnedFd> = (0..100)
        .map(|_| client(&path).expect("it can be connected to"))
        .collect();
    until("the oldest have made room", || waiting(&daemon) <= 32);
    for nonsense in [&b"r"[..], b"\x01x", b"\x02r", &[1; 60_000]] {
        assert_eq!(reply(&path, nonsense), b"", "it is hung up on");
    }
    let begun = Instant::now();
    assert_eq!(run(&daemon, None).0, Some(0));
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    drop(silent);
    until("the master forgets who has gone", || waiting(&daemon) == 0);
}

#[test]
fn nobody_else_gets_in() {
    if !is_root() {
        return;
    }
    let daemon = Setup::new().global(CONTROL).pool("hello", ONE).start();
    let other = User::from_name(POOL_USER)
        .expect("users can be looked up")
        .expect("the pool's user exists");
    let as_other = || {
        let mut command = reload(&daemon, None);
        command.uid(other.uid.as_raw()).gid(other.gid.as_raw());
        ended(command.output().expect("it can be started"))
    };
    let (code, text) = as_other();
    assert_eq!(code, Some(69), "{text}");
    assert!(text.contains("Permission denied"), "{text}");
    // The file's mode is not all there is.
    let path = daemon.folder.path("control.sock");
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).expect("it is ours");
    let (code, text) = as_other();
    assert_eq!(
        (code, text.trim()),
        (
            Some(69),
            "only root and the master's own user may tell it what to do"
        )
    );
    assert_eq!(
        daemon.lines_like("NOTICE: Reloading*"),
        Vec::<String>::new()
    );
}

/// Cleaners of temporary folders do that.
#[test]
fn a_socket_for_commands_that_was_removed_is_there_again_after_a_reload() {
    let daemon = Setup::new().global(CONTROL).pool("one", ONE).start();
    let socket = daemon.folder.path("control.sock");
    fs::remove_file(&socket).expect("it is there");
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("NOTICE: [pool one] generation 2 has taken over");
    until("it is there", || socket.exists());
    let done = begin(&daemon, None).wait_with_output().expect("it ends");
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn pools_are_reloaded_where_the_socket_for_commands_cannot_be_had_anew() {
    let daemon = Setup::new().global(CONTROL).pool("one", ONE).start();
    let socket = daemon.folder.path("control.sock");
    fs::remove_file(&socket).expect("it is there");
    daemon.folder.write("control.sock", "");
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("NOTICE: [pool one] generation 2 has taken over");
    daemon.wait_for_line("ERROR: unable to bind listening socket for address '*control.sock'*");
    fs::remove_file(&socket).expect("it is there");
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("NOTICE: [pool one] generation 3 has taken over");
    let done = begin(&daemon, None).wait_with_output().expect("it ends");
    assert!(done.status.success(), "{done:?}");
}
