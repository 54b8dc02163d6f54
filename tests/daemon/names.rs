//! Names of hosts: those that a name server has to tell never make the master wait.

use std::fs;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::daemon::Daemon;
use crate::support::process::Process;
use crate::support::setup::{Setup, free_port, with_own_mounts};
use crate::support::wait::until;

const ONE: &str = "app = hello\npm = static\npm.max_children = 1";

/// A daemon with a name server on the address `silent` that hears and does not answer, and with a configuration that has
/// come to need one.
fn start(silent: &str) -> Option<(UdpSocket, Daemon)> {
    let setup = Setup::new().pool("hello", ONE);
    let folder = &setup.folder;
    folder.write(
        "resolv.conf",
        &format!("nameserver {silent}\noptions timeout:30\n"),
    );
    folder.write(
        "nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
    );
    let mounts = "for file in resolv.conf nsswitch.conf; do mount --bind $file /etc/$file; done";
    let daemon = with_own_mounts(mounts, setup, "exec \"$0\" -F -y \"$1\"")?.ready();
    let silent = UdpSocket::bind((silent, 53)).expect("root can bind it");
    daemon.wait_for_workers("hello", 1);
    let path = daemon.folder.path("preforkd.conf");
    let before = fs::read_to_string(&path).expect("it was written");
    let socket = daemon.folder.path("hello.sock").display().to_string();
    let after = before.replace(&socket, &format!("slow.example:{}", free_port()));
    fs::write(&path, after).expect("it can be written");
    Some((silent, daemon))
}

#[test]
fn a_reload_that_waits_for_a_name_server_holds_nothing_up() {
    let Some((silent, daemon)) = start("127.0.5.3") else {
        return;
    };
    let begun = Instant::now();
    daemon.signal(Signal::SIGUSR2);
    silent.recv(&mut [0; 512]).expect("somebody asks");
    // Meanwhile a worker is missed.
    let before = daemon.workers("hello").remove(0);
    before.signal(Signal::SIGKILL);
    until("another has taken its place", || {
        let now = daemon.workers("hello");
        now.first().is_some_and(|now| now.pid != before.pid)
    });
    assert!(begun.elapsed() < Duration::from_secs(9), "it has waited");
    daemon.wait_for_line(
        "ERROR: cannot read the configuration: users, groups and hosts could not be looked up within 10 seconds*",
    );
    daemon.wait_for_line("ERROR: reloading failed; what was there before goes on");
    let answer = daemon.address("hello").get("/").expect("it answers");
    assert_eq!(answer.status, 200);
}

/// Then it is not the name server's fault: the kernel may have ended it for want of memory.
#[test]
fn who_asks_and_is_killed_is_told_of() {
    let Some((silent, daemon)) = start("127.0.5.5") else {
        return;
    };
    daemon.signal(Signal::SIGUSR2);
    silent.recv(&mut [0; 512]).expect("somebody asks");
    daemon.titled("preforkd: reading the configuration")[0].signal(Signal::SIGKILL);
    daemon.wait_for_line(
        "ERROR: cannot read the configuration: the process that does exited on signal 9 (SIGKILL)",
    );
}

#[test]
fn a_stop_waits_for_no_name_server() {
    let Some((silent, mut daemon)) = start("127.0.5.4") else {
        return;
    };
    daemon.signal(Signal::SIGUSR2);
    silent.recv(&mut [0; 512]).expect("somebody asks");
    let asks = daemon.titled("preforkd: reading the configuration");
    assert_eq!(asks.len(), 1);
    let begun = Instant::now();
    assert_eq!(daemon.stop(Signal::SIGQUIT).code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "it has waited");
    while asks.iter().any(Process::runs) {
        thread::yield_now();
    }
}
