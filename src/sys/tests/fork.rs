//! Forking, in a process with one thread.

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid, pause, pipe, read, write};
use preforkd_sys::children::{Death, is_child, runs, signal, wait_for};
use preforkd_sys::fork::{EX_SOFTWARE, exit_now, fork, siblings};
use std::sync::mpsc;

const CASES: [(&str, fn()); 8] = [
    (
        "a child exits with its own status",
        a_child_exits_with_its_own_status,
    ),
    (
        "a panic ends the child with EX_SOFTWARE",
        a_panic_ends_the_child_with_ex_software,
    ),
    (
        "siblings tell how many were made and are not children",
        siblings_tell_how_many_were_made_and_are_not_children,
    ),
    (
        "siblings are made where the kernel reaps children",
        siblings_are_made_where_the_kernel_reaps_children,
    ),
    (
        "a process with threads is not forked",
        a_process_with_threads_is_not_forked,
    ),
    (
        "a death is told whatever the signal",
        a_death_is_told_whatever_the_signal,
    ),
    (
        "only who is a child gets a signal",
        only_who_is_a_child_gets_a_signal,
    ),
    (
        "who has ended does not run, reaped or not",
        who_has_ended_does_not_run_reaped_or_not,
    ),
];

fn main() {
    for (name, case) in CASES {
        case();
        println!("{name}: ok");
    }
}

fn status(child: Pid) -> WaitStatus {
    waitpid(child, None).expect("it is a child of this process")
}

fn a_child_exits_with_its_own_status() {
    let pid = fork(|| exit_now(7)).expect("it can be forked");
    assert_eq!(status(pid), WaitStatus::Exited(pid, 7));
}

fn a_panic_ends_the_child_with_ex_software() {
    let pid = fork(|| std::panic::resume_unwind(Box::new(()))).expect("it can be forked");
    assert_eq!(status(pid), WaitStatus::Exited(pid, EX_SOFTWARE));
}

fn siblings_tell_how_many_were_made_and_are_not_children() {
    let (reader, writer) = pipe().expect("descriptors are left");
    let made = siblings(
        3,
        |_| {},
        |index| {
            let byte = u8::try_from(index).unwrap_or(0);
            let _ = write(&writer, &[byte]);
            exit_now(0)
        },
    );
    assert_eq!(made.expect("they can be forked"), 3);
    let mut seen = [0; 3];
    let mut filled = 0;
    while filled < 3 {
        filled += read(&reader, &mut seen[filled..]).expect("it is open");
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2]);
    assert_eq!(waitpid(None, None), Err(nix::Error::ECHILD));
}

fn siblings_are_made_where_the_kernel_reaps_children() {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: SIG_IGN installs no code.
    let before = unsafe { sigaction(Signal::SIGCHLD, &ignore) }.expect("it can be ignored");
    let made = siblings(2, |_| {}, |_| exit_now(0));
    assert_eq!(made.expect("they can be forked"), 2);
    // SAFETY: what is installed was installed before.
    let during = unsafe { sigaction(Signal::SIGCHLD, &before) }.expect("it can be restored");
    assert!(matches!(during.handler(), SigHandler::SigIgn));
}

fn a_process_with_threads_is_not_forked() {
    let (end, ended) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || ended.recv());
    assert!(fork(|| exit_now(0)).is_err());
    drop(end);
    assert!(thread.join().is_ok());
    let pid = fork(|| exit_now(0)).expect("it is alone again");
    assert_eq!(status(pid), WaitStatus::Exited(pid, 0));
}

fn a_death_is_told_whatever_the_signal() {
    for number in [libc::SIGKILL, libc::SIGRTMIN() + 1, libc::SIGRTMAX()] {
        let child = fork(|| {
            // SAFETY: it touches no memory.
            unsafe { libc::raise(number) };
            exit_now(0)
        });
        let death = wait_for(child.expect("it can be forked"));
        let core = false;
        assert_eq!(death, Ok(Death::Signaled { number, core }));
    }
}

fn only_who_is_a_child_gets_a_signal() {
    for stranger in [getppid(), getpid(), Pid::from_raw(-1), Pid::from_raw(0)] {
        assert!(!is_child(stranger), "{stranger}");
        assert!(!signal(stranger, Signal::SIGCONT), "{stranger}");
    }
    let child = fork(|| {
        loop {
            pause();
        }
    });
    let child = child.expect("it can be forked");
    assert!(signal(child, Signal::SIGTERM));
    assert!(is_child(child), "dead or not, nobody has reaped it");
    let (number, core) = (libc::SIGTERM, false);
    assert_eq!(wait_for(child), Ok(Death::Signaled { number, core }));
    assert!(!is_child(child), "it has been reaped");
    assert_eq!(wait_for(child), Err(nix::Error::ECHILD));
}

fn who_has_ended_does_not_run_reaped_or_not() {
    let child = fork(|| {
        loop {
            pause();
        }
    });
    let child = child.expect("it can be forked");
    assert!(runs(child) && runs(getpid()));
    assert!(signal(child, Signal::SIGKILL));
    while runs(child) {
        std::thread::yield_now();
    }
    assert!(is_child(child), "nobody has reaped it");
    wait_for(child).expect("it is a child");
    assert!(!runs(child));
}
