//! A file, a pipe, a socket or a terminal that lines are written to, without ever waiting for it.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A pipe that polls writable takes as much in one write without waiting: `PIPE_BUF`, pipe(7).
const AT_ONCE: usize = 4096;

/// Where lines are written to.
#[derive(Debug)]
pub struct Stream {
    /// Standard error if none.
    file: Option<File>,
    /// Whether it takes any number of bytes without waiting for a reader.
    regular: bool,
    /// The last line was cut in the middle, for want of room.
    broken: bool,
}

impl Stream {
    /// Standard error.
    #[must_use]
    pub fn stderr() -> Self {
        Self {
            file: None,
            regular: false,
            broken: false,
        }
    }

    /// A file to append to, readable by its owner alone: it may hold what applications print.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            // A named pipe without a reader must not hold up the start.
            .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
            .open(path)?;
        Ok(Self::of(file))
    }

    /// What is open for writing.
    #[must_use]
    pub fn of(file: File) -> Self {
        Self {
            regular: file.metadata().is_ok_and(|metadata| metadata.is_file()),
            file: Some(file),
            broken: false,
        }
    }

    /// Writes `lines`. Returns false when not all of them could be written.
    pub fn put(&mut self, lines: &[u8]) -> bool {
        let stderr = io::stderr();
        let to = match &self.file {
            Some(file) => file.as_fd(),
            None => stderr.as_fd(),
        };
        if self.broken {
            let ended = (self.regular || has_room(to)) && write(to, b"\n") == Ok(1);
            if !ended {
                return false;
            }
            self.broken = false;
        }
        let at_once = if self.regular { lines.len() } else { AT_ONCE };
        for (number, chunk) in lines.chunks(at_once.max(1)).enumerate() {
            let written = if self.regular || has_room(to) {
                write(to, chunk).unwrap_or(0)
            } else {
                0
            };
            if written < chunk.len() {
                self.broken = number > 0 || written > 0;
                return false;
            }
        }
        true
    }
}

/// Whether a write of [`AT_ONCE`] bytes would not wait.
fn has_room(to: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(to, PollFlags::POLLOUT)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
