//! Forking children that never return into their parent's code.
//!
//! The code of a child is a closure that returns [`Infallible`]: it leaves by `_exit` or `exec`, never by falling back
//! into the loop of its parent. A panic in it is caught and ends the child with [`EX_SOFTWARE`].
//!
//! Only a process with one thread is forked: in a child of any other, a lock may be held by a thread that is not there.

use crate::children::{self, Death};
use crate::{fds, signals};
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

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
    count_threads().unwrap_or(1)
}

fn count_threads() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Forks a child that runs `child` with default signal dispositions and nothing blocked.
///
/// # Errors
/// The error of `fork(2)`: EAGAIN at a limit of processes, ENOMEM. Also when this process has other threads, or
/// `/proc`, which tells, is not there.
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
/// Of what `child` captures, only what is in `keep` has its descriptors left. Anything else that owned one finds its
/// number closed, or taken by what the child has opened since.
///
/// # Errors
/// As [`fork`].
pub fn fork_keeping(
    keep: &[BorrowedFd<'_>],
    stdio: [BorrowedFd<'_>; 3],
    child: impl FnOnce() -> Infallible,
) -> io::Result<Pid> {
    fork(|| {
        // SAFETY: this is the only thread, and it never returns into the code that owns what stood at 0 to 2: that is
        // neither used nor dropped in this process.
        let placed = unsafe { fds::place(0, &stdio) };
        let keep: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).collect();
        // SAFETY: as above for all owners but those that `child` has captured, and those are the caller's own concern:
        // a wrong number there is a failed or misdirected call, and touches no memory.
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
    // SAFETY: this function does not return, so that the owners of the numbers that are written over are neither used
    // nor dropped; and it runs in a forked child, which has no other thread.
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
    // An application may have chosen that the kernel reaps its children; the middle process is to be waited for.
    let _waited_for = signals::Defaulted::new(Signal::SIGCHLD)?;
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
    match children::wait_for(middle)? {
        Death::Exited(made) => Ok(usize::try_from(made).unwrap_or(0)),
        Death::Signaled { .. } => Err(io::Error::other("the middle process of a fork was killed")),
    }
}

pub(crate) fn raw_fork() -> io::Result<libc::pid_t> {
    be_alone()?;
    // SAFETY: this is the process's only thread, as has just been seen, and none but it could have started another. So
    // the child's copy of memory is consistent: no lock in it is held by a thread that does not exist there.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    }
}

/// Makes sure that this is the only thread. One that was joined may be listed for a moment longer.
fn be_alone() -> io::Result<()> {
    for _ in 0..50 {
        if count_threads()? == 1 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(io::Error::other(format!(
        "this process has {} threads",
        count_threads()?
    )))
}

fn run(child: impl FnOnce() -> Infallible) -> ! {
    match catch_unwind(AssertUnwindSafe(child)) {
        Ok(never) => match never {},
        // The panic hook has said what and where.
        Err(_) => exit_now(EX_SOFTWARE),
    }
}
