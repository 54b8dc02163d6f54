//! What a pool's workers may do, and who may reach them. All of this takes root; without it the cases say so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::User;

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{Address, Request};
use crate::support::setup::{POOL_USER, Setup, free_port, is_root};

/// A user that is not the pool's, and that every Debian has.
const STRANGER: &str = "games";

/// A line of `/proc/PID/status` of the pool's only worker.
fn status_of_worker(daemon: &Daemon, pool: &str, name: &str) -> String {
    daemon.wait_for_workers(pool, 1);
    let pid = daemon.worker_pids(pool)[0];
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the worker runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let words = line.expect("the kernel tells it").split_whitespace();
    words.collect::<Vec<_>>().join(" ")
}

const ONE: &str = "pm = static\npm.max_children = 1";

#[test]
fn a_worker_has_its_users_groups_limits_and_priority_and_gains_no_privileges() {
    if !is_root() {
        return;
    }
    let lines = format!(
        "app = hello\n{ONE}\nrlimit_files = 321\nrlimit_core = 1000\nprocess.priority = 7\nprocess.dumpable = no"
    );
    let daemon = Setup::new().pool("hello", &lines).start();
    let user = User::from_name(POOL_USER)
        .expect("users can be looked up")
        .expect("it exists");
    let (uid, gid) = (user.uid, user.gid);
    assert_eq!(
        status_of_worker(&daemon, "hello", "Uid"),
        format!("{uid} {uid} {uid} {uid}")
    );
    assert_eq!(
        status_of_worker(&daemon, "hello", "Gid"),
        format!("{gid} {gid} {gid} {gid}")
    );
    let groups = status_of_worker(&daemon, "hello", "Groups");
    assert!(
        groups.split(' ').any(|group| group == gid.to_string()),
        "{groups}"
    );
    assert!(!groups.split(' ').any(|group| group == "0"), "{groups}");
    assert_eq!(status_of_worker(&daemon, "hello", "NoNewPrivs"), "1");
    let pid = daemon.worker_pids("hello")[0];
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("the worker runs");
    let limit = |name: &str| {
        let line = limits
            .lines()
            .find(|line| line.starts_with(name))
            .expect("it has one");
        let words: Vec<_> = line[name.len()..].split_whitespace().collect();
        (words[0].to_owned(), words[1].to_owned())
    };
    assert_eq!(limit("Max open files"), ("321".into(), "321".into()));
    assert_eq!(limit("Max core file size"), ("1000".into(), "1000".into()));
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the worker runs");
    let after_name: Vec<_> = stat[stat.rfind(')').expect("it has a name") + 2..]
        .split(' ')
        .collect();
    assert_eq!(after_name[16], "7", "the nice value");
}

#[test]
fn no_new_privs_can_be_switched_off() {
    if !is_root() {
        return;
    }
    let lines = format!("app = hello\n{ONE}\nno_new_privs = no");
    let daemon = Setup::new().pool("hello", &lines).start();
    assert_eq!(status_of_worker(&daemon, "hello", "NoNewPrivs"), "0");
}

#[test]
fn a_worker_lives_in_the_root_and_folder_that_it_is_given() {
    if !is_root() {
        return;
    }
    let setup = Setup::new();
    let root = setup.folder.path("root");
    fs::create_dir_all(root.join("inside")).expect("folders can be made");
    let lines = format!("app = hello\n{ONE}\nchroot = @DIR@/root\nchdir = /inside");
    let daemon = setup.pool("hello", &lines).start();
    daemon.wait_for_workers("hello", 1);
    // Who answers has moved in.
    assert_eq!(
        daemon.address("hello").get("/").expect("it answers").status,
        200
    );
    let pid = daemon.worker_pids("hello")[0];
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).expect("the worker runs");
    assert_eq!(link("root"), root);
    assert_eq!(link("cwd"), root.join("inside"));
}

/// Whether somebody may connect to a socket.
fn may_connect(user: &str, group: Option<&str>, socket: &Path) -> bool {
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}"));
    match group {
        Some(group) => command
            .arg(format!("--regid={group}"))
            .arg("--clear-groups"),
        None => command.arg("--regid=nogroup").arg("--clear-groups"),
    };
    let connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])";
    let done = command
        .args(["/usr/bin/python3", "-c", connect])
        .arg(socket)
        .output()
        .expect("setpriv is part of every Debian");
    done.status.success()
}

#[test]
fn a_list_lets_users_and_groups_in_beside_the_owner() {
    if !is_root() {
        return;
    }
    let lines = |who: &str| format!("app = hello\n{ONE}\nlisten.mode = 0600\n{who}");
    for (who, user, group) in [
        (format!("listen.acl_users = {STRANGER}"), true, false),
        (format!("listen.acl_groups = {STRANGER}"), false, true),
        (String::new(), false, false),
    ] {
        let daemon = Setup::new().pool("hello", &lines(&who)).start();
        let socket = daemon.folder.path("hello.sock");
        assert_eq!(may_connect(STRANGER, None, &socket), user, "{who}");
        assert_eq!(
            may_connect("nobody", Some(STRANGER), &socket),
            group,
            "{who}"
        );
        assert!(!may_connect("nobody", None, &socket), "{who}");
        if who.is_empty() {
            let mode = fs::metadata(&socket)
                .expect("it is there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}

#[test]
fn only_allowed_clients_are_answered() {
    let port = free_port();
    for (allowed, admitted) in [
        ("127.0.0.0/8, 2001:db8::1", true),
        ("127.0.0.2", false),
        ("2001:db8::/32", false),
    ] {
        let lines = format!(
            "app = hello\n{ONE}\nlisten = 127.0.0.1:{port}\nlisten.allowed_clients = {allowed}"
        );
        let daemon = Setup::new().pool("hello", &lines).start();
        let address = Address::Tcp(([127, 0, 0, 1], port).into());
        let answer = address.get("/");
        assert_eq!(answer.is_ok(), admitted, "{allowed}: {answer:?}");
        if !admitted {
            daemon
                .wait_for_line("*Connection disallowed: IP address '127.0.0.1' has been dropped.*");
        }
    }
}

/// A program that an application starts, told to inherit whatever can be inherited, lists what it has got.
#[test]
fn no_descriptor_leaks_into_what_an_application_starts() {
    let application = r#"
import os, subprocess

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    listing = subprocess.run(["/bin/ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, text=True)
    return [listing.stdout.encode()]
"#;
    let daemon = Setup::new().wsgi("leak", application, ONE).start();
    let answer = daemon
        .address("leak")
        .ask(&Request::get("/"))
        .expect("it answers");
    let text = answer.text();
    let numbers: Vec<u32> = text
        .lines()
        .filter_map(|line| line.split_once(" -> ")?.0.rsplit(' ').next()?.parse().ok())
        .filter(|&number| number > 2)
        .collect();
    // The one that ls reads the folder through.
    assert!(numbers.len() <= 1, "{text}");
}
