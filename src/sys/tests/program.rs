//! Programs that are started. Apart from the unit tests, since for a moment a forked child holds what they have open.

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::unistd::Pid;
use preforkd_sys::children::{Death, wait_for};
use preforkd_sys::program::{Group, Program, unread};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};

fn shell(script: &str) -> Program {
    Program {
        path: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        environment: vec![("NAME".into(), "value".into())],
    }
}

#[test]
fn a_program_gets_what_was_said_and_nothing_else() {
    let script = "[ \"$(pwd)\" = /usr ] && [ \"$NAME\" = value ] && [ -z \"$HOME\" ] && [ $(ps -o pgid= $$) = $$ ] && exit 3";
    let (root, null) = (
        File::open("/usr").unwrap(),
        File::open("/dev/null").unwrap(),
    );
    let mut program = shell(script);
    program
        .environment
        .push(("PATH".into(), "/usr/bin:/bin".into()));
    let started = program.start([null.as_fd(); 3], root.as_fd()).unwrap();
    let mut polled = [PollFd::new(started.end.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut polled, PollTimeout::from(20_000_u16)), Ok(1));
    assert_eq!(wait_for(started.pid), Ok(Death::Exited(3)));
}

#[test]
fn what_cannot_be_executed_is_told_with_its_errno() {
    let root = File::open("/").unwrap();
    for (path, errno) in [
        ("/no/such/program", libc::ENOENT),
        ("/dev/null", libc::EACCES),
        ("/etc", libc::EACCES),
    ] {
        let mut program = shell("");
        program.path = path.into();
        let error = program.start([root.as_fd(); 3], root.as_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(errno), "{path}");
    }
}

#[test]
fn a_group_is_known_by_its_leader_and_whose_child_that_is() {
    let (root, null) = (File::open("/").unwrap(), File::open("/dev/null").unwrap());
    let started = shell("while :; do :; done")
        .start([null.as_fd(); 3], root.as_fd())
        .unwrap();
    let here = Pid::this();
    let group = Group::led_by(started.pid, here).unwrap();
    assert_eq!(Group::led_by(started.pid, Pid::from_raw(1)), None);
    for number in [i32::MIN, -1, 0, 1] {
        let leader = Pid::from_raw(number);
        assert_eq!(Group::led_by(leader, Pid::from_raw(0)), None, "{number}");
    }
    let mut follower = Command::new("/bin/cat")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(follower.id().cast_signed());
    assert_eq!(Group::led_by(pid, here), None);
    drop(follower.stdin.take());
    assert!(follower.wait().unwrap().success());
    group.kill_if_inherited();
    let killed = Death::Signaled {
        number: libc::SIGKILL,
        core: false,
    };
    assert_eq!(wait_for(started.pid), Ok(killed));
    assert_eq!(Group::led_by(started.pid, here), None);
}

#[test]
fn what_was_not_read_is_known() {
    let (one, other) = socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .unwrap();
    assert_eq!(unread(one.as_fd()).unwrap(), 0);
    send(one.as_raw_fd(), b"four", MsgFlags::empty()).unwrap();
    assert_ne!(unread(one.as_fd()).unwrap(), 0);
    recv(other.as_raw_fd(), &mut [0; 3], MsgFlags::empty()).unwrap();
    assert_ne!(unread(one.as_fd()).unwrap(), 0);
    recv(other.as_raw_fd(), &mut [0; 1], MsgFlags::empty()).unwrap();
    assert_eq!(unread(one.as_fd()).unwrap(), 0);
}
