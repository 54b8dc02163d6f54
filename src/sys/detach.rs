//! Going into the background.

use crate::fork::{exit_now, raw_fork};
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, setsid};
use std::io;
use std::os::fd::OwnedFd;

/// Goes on in a process of its own session, without a controlling terminal and unable to get one: the second fork makes
/// it no leader of the session. Returns, in that process alone, the writing end of a pipe.
///
/// The process that called runs `wait` with the reading end, and exits with what that returns. The pipe is at its end
/// when the new process has exited, or executed another program.
///
/// To be called before there are threads or signal handlers.
///
/// # Errors
/// The error of `pipe(2)` or of the first `fork(2)`, in the process that called. Should the second fork fail, the pipe
/// just ends.
pub fn detach(wait: impl FnOnce(OwnedFd) -> i32) -> io::Result<OwnedFd> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    if raw_fork()? != 0 {
        drop(writer);
        exit_now(wait(reader));
    }
    drop(reader);
    if setsid().is_err() {
        exit_now(crate::fork::EX_SOFTWARE);
    }
    match raw_fork() {
        Ok(0) => Ok(writer),
        Ok(_) => exit_now(0),
        Err(_) => exit_now(crate::fork::EX_SOFTWARE),
    }
}
