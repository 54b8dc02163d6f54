//! Going into the background, with the truth for whoever called.
//!
//! The process that was called waits until the daemon has bound its sockets and is ready for connections, and exits 0
//! then, with 70 when the daemon has ended before or does not answer in time. What the daemon logs until then goes to the
//! caller's standard error as well. Sockets and the pid file are the daemon's, made after the fork.

use crate::cli::Exit;
use crate::log;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{dup2_stdin, dup2_stdout, read, write};
use preforkd_sys::detach::detach;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the daemon may take to get ready, as in php-fpm.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the daemon sends.
const READY: u8 = 1;

/// The process that waits for the daemon to be ready.
#[derive(Debug)]
pub struct Caller(OwnedFd);

impl Caller {
    /// Goes on as a daemon; the process that called is left behind, waiting for [`Self::release`].
    ///
    /// To be called before there are threads, signal handlers, or anything that does not survive a fork.
    ///
    /// # Errors
    /// The process could not be forked.
    pub fn leave_behind() -> io::Result<Self> {
        detach(|answer| wait(&answer) as i32).map(Self)
    }

    /// Tells the caller that the daemon is ready, and lets go of its terminal: standard input and output are
    /// `/dev/null` from now on, and standard error is the log, as [`log::enter_background`] says.
    ///
    /// # Errors
    /// `/dev/null` cannot be opened.
    pub fn release(self) -> io::Result<()> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        log::enter_background()?;
        // A caller that has gone does not mind.
        let _ = write(&self.0, &[READY]);
        Ok(())
    }
}

/// Waits for the daemon's answer. Returns what the caller exits with.
fn wait(answer: &OwnedFd) -> Exit {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(answer.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) => {
                tracing::error!(
                    "the master process didn't send back its status (via the pipe to the calling process)"
                );
                return Exit::Software;
            }
            Ok(_) => {
                let mut byte = [0];
                // At its end the daemon has ended, and said why.
                return match read(answer, &mut byte) {
                    Ok(1) if byte == [READY] => Exit::Success,
                    Ok(_) | Err(_) => Exit::Software,
                };
            }
            Err(_) if Instant::now() < deadline => {}
            Err(_) => return Exit::Software,
        }
    }
}
