//! Which descriptors a child keeps.
//!
//! Every descriptor of the master is close-on-exec. A child that does not exec closes what is not its own; one that
//! does gets what it needs at fixed numbers.

use nix::libc;
use nix::sys::socket::{SockFlag, accept4};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Closes all descriptors above standard error except `keep`.
///
/// # Safety
/// Nothing that owns one of the closed descriptors may be used or dropped afterwards. A forked child that leaves by
/// `_exit` and never drops what it inherited keeps this.
///
/// # Errors
/// The error of `close_range(2)`; it exists since Linux 5.9.
pub unsafe fn close_others(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<libc::c_uint> = keep
        .iter()
        .filter_map(|&fd| libc::c_uint::try_from(fd).ok())
        .filter(|&fd| fd > 2)
        .collect();
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_range(first, libc::c_uint::MAX)
}

fn close_range(first: libc::c_uint, last: libc::c_uint) -> io::Result<()> {
    // SAFETY: the caller of `close_others` vouches that nobody uses these descriptors any more.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Puts `sources[i]` at descriptor `first + i`, inheritable over exec.
///
/// Meant for a child between fork and exec: what stood at those numbers is gone.
///
/// # Safety
/// Nothing that owns a descriptor at one of the target numbers may be used or dropped afterwards, as in
/// [`close_others`].
///
/// # Errors
/// The error of `fcntl(2)` or `dup2(2)`.
pub unsafe fn place(first: RawFd, sources: &[BorrowedFd<'_>]) -> io::Result<()> {
    let above = first + RawFd::try_from(sources.len()).unwrap_or(RawFd::MAX - first);
    // Out of the way first: a source may itself stand at a target number.
    let mut copies = Vec::with_capacity(sources.len());
    for source in sources {
        // SAFETY: F_DUPFD_CLOEXEC makes a new descriptor and touches no memory.
        let copy = unsafe { libc::fcntl(source.as_raw_fd(), libc::F_DUPFD_CLOEXEC, above) };
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        copies.push(copy);
    }
    for (target, copy) in (first..).zip(copies) {
        // SAFETY: `dup2` touches no memory; the caller vouches for the target number. The copy has no owner and is
        // closed by the exec to come.
        if unsafe { libc::dup2(copy, target) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Accepts a connection that does not block and is close-on-exec.
///
/// # Errors
/// The error of `accept4(2)`: EAGAIN when none waits.
pub fn accept(listener: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let fd = accept4(
        listener.as_raw_fd(),
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
    )?;
    // SAFETY: the kernel has just made it; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes ownership of a descriptor that this process was started with, and makes it close-on-exec.
///
/// # Safety
/// Nothing else in this process may own `fd`.
///
/// # Errors
/// EBADF when `fd` is not open.
pub unsafe fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD touches no memory and fails for a number that is not open.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and the caller vouches that nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The sockets that systemd started this process with (`LISTEN_PID`, `LISTEN_FDS`; sd_listen_fds(3)), made
/// close-on-exec. Empty when there are none, and at every call but the first. What is not a socket is left alone.
///
/// To be called first of all in `main`: where fewer were passed than said, what is opened later takes their numbers.
#[must_use]
pub fn inherited_listeners() -> Vec<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    if TAKEN.swap(true, Ordering::SeqCst) || number("LISTEN_PID") != Some(std::process::id()) {
        return Vec::new();
    }
    let count = RawFd::try_from(number("LISTEN_FDS").unwrap_or(0).min(MAX_LISTENERS)).unwrap_or(0);
    (3..3 + count)
        .filter(|&fd| is_socket(fd))
        // SAFETY: systemd vouches that it opened these for this process, and this function takes them but once.
        .filter_map(|fd| unsafe { inherited(fd) }.ok())
        .collect()
}

fn is_socket(fd: RawFd) -> bool {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `fstat` fails for a number that is not open, and else fills in the whole of `stat`.
    let stat = unsafe {
        if libc::fstat(fd, stat.as_mut_ptr()) < 0 {
            return false;
        }
        stat.assume_init()
    };
    stat.st_mode & libc::S_IFMT == libc::S_IFSOCK
}

/// Listening sockets that are taken from systemd at most.
const MAX_LISTENERS: u32 = 1024;
