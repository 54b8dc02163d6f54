//! Forking children that never return into their parent's code.
//!
//! The code of a child is a closure that returns [`Infallible`]: it leaves by `_exit` or `exec`, never by falling back
//! into the loop of its parent. A panic in it is caught and ends the child with [`EX_SOFTWARE`].

use crate::{fds, signals};
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// `EX_SOFTWARE` of sysexits.h: what a child that failed in its own code exits with, as php-fpm's do.
pub const EX_SOFTWARE: i32 = 70;

/// Workers that one [`siblings`] call makes at most, so that their count fits an exit status.
pub const MAX_SIBLINGS: usize = 100;

/// Leaves this process at once: no destructors, no `atexit` handlers, no flushing of inherited buffers.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` ends the process and touches none of its memory.
    unsafe { libc::_exit(status) }
}

/// The number of threads of this process; 1 when it cannot be known.
#[must_use]
pub fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Forks a child that runs `child` with default signal dispositions and nothing blocked.
///
/// # Errors
/// The error of `fork(2)`: EAGAIN at a limit of processes, ENOMEM.
pub fn fork(child: impl FnOnce() -> Infallible) -> io::Result<Pid> {
    let blocked = signals::Blocked::all()?;
    let pid = raw_fork()?;
    if pid != 0 {
        drop(blocked);
        return Ok(Pid::from_raw(pid));
    }
    signals::reset();
    run(child)
}

/// Forks a child as [`fork`] does, with `stdio` as its standard input, output and error, and nothing else of this
/// process's descriptors but `keep`.
///
/// What the child inherits of other descriptors' owners is of no use to it; `child` works with what it was given in
/// `keep` and never returns, so that nothing is dropped there.
///
/// # Errors
/// As [`fork`].
pub fn fork_keeping(
    keep: &[BorrowedFd<'_>],
    stdio: [BorrowedFd<'_>; 3],
    child: impl FnOnce() -> Infallible,
) -> io::Result<Pid> {
    fork(|| {
        // SAFETY: this process never returns into code that owns what stood at 0 to 2, and leaves by `_exit` or exec.
        let placed = unsafe { fds::place(0, &stdio) };
        let keep: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).collect();
        // SAFETY: as above, for what is closed here.
        if placed.is_err() || unsafe { fds::close_others(&keep) }.is_err() {
            exit_now(EX_SOFTWARE);
        }
        child()
    })
}

/// Turns this process into `program`, with `descriptors` as 0, 1, 2 and so on, and nothing else open.
///
/// To be called in a forked child. When it fails it says so on standard error and ends the process with
/// [`EX_SOFTWARE`], since the descriptors of the old program are gone.
pub fn exec(
    program: &CStr,
    arguments: &[CString],
    environment: &[CString],
    descriptors: &[BorrowedFd<'_>],
) -> ! {
    // SAFETY: whatever owned the numbers that are written over does not run any more: this function does not return.
    let error = match unsafe { fds::place(0, descriptors) } {
        Ok(()) => match nix::unistd::execve(program, arguments, environment) {
            Ok(never) => match never {},
            Err(error) => io::Error::from(error),
        },
        Err(error) => error,
    };
    eprintln!("cannot execute {}: {error}", program.to_string_lossy());
    exit_now(EX_SOFTWARE)
}

/// Forks up to `count` (at most [`MAX_SIBLINGS`]) processes that are children of the nearest subreaper, not of this one.
///
/// One middle process forks them all and exits, so that n siblings cost n + 1 forks. It runs nothing between its forks
/// but `forked`, with the index of the sibling just made, to let go of what was for that sibling alone.
/// `sibling` is called in each of them with its index. Returns how many were made.
///
/// # Errors
/// The error of the first `fork(2)`, or of waiting for the middle process.
pub fn siblings(
    count: usize,
    mut forked: impl FnMut(usize),
    sibling: impl Fn(usize) -> Infallible,
) -> io::Result<usize> {
    let count = count.min(MAX_SIBLINGS);
    let middle = fork(|| {
        for index in 0..count {
            match raw_fork() {
                Ok(0) => run(|| sibling(index)),
                Ok(_) => forked(index),
                Err(_) => exit_now(i32::try_from(index).unwrap_or(0)),
            }
        }
        exit_now(i32::try_from(count).unwrap_or(0))
    })?;
    loop {
        match waitpid(middle, None) {
            Ok(WaitStatus::Exited(_, made)) => return Ok(usize::try_from(made).unwrap_or(0)),
            Ok(WaitStatus::Signaled(..)) => {
                return Err(io::Error::other("the middle process of a fork was killed"));
            }
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn raw_fork() -> io::Result<libc::pid_t> {
    // SAFETY: the callers are single-threaded processes (the master; a mold, which checks), so that the child's copy of
    // memory is consistent: no lock in it is held by a thread that does not exist there.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    }
}

fn run(child: impl FnOnce() -> Infallible) -> ! {
    match catch_unwind(AssertUnwindSafe(child)) {
        Ok(never) => match never {},
        // The panic hook has said what and where.
        Err(_) => exit_now(EX_SOFTWARE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(pid: Pid) -> WaitStatus {
        waitpid(pid, None).unwrap()
    }

    #[test]
    fn a_child_exits_with_its_own_status() {
        let pid = fork(|| exit_now(7)).unwrap();
        assert_eq!(wait(pid), WaitStatus::Exited(pid, 7));
    }

    #[test]
    fn a_panic_ends_the_child_with_ex_software() {
        let pid = fork(|| std::panic::resume_unwind(Box::new(()))).unwrap();
        assert_eq!(wait(pid), WaitStatus::Exited(pid, EX_SOFTWARE));
    }

    #[test]
    fn siblings_tell_how_many_were_made_and_are_not_children() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let made = siblings(
            3,
            |_| {},
            |index| {
                let byte = u8::try_from(index).unwrap_or(0);
                let _ = nix::unistd::write(&writer, &[byte]);
                exit_now(0)
            },
        )
        .unwrap();
        assert_eq!(made, 3);
        let mut seen = [0; 3];
        let mut filled = 0;
        while filled < 3 {
            filled += nix::unistd::read(&reader, &mut seen[filled..]).unwrap();
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2]);
    }
}
