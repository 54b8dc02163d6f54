//! A file, a pipe, a socket or a terminal that lines are written to, without ever waiting for it.

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;
use nix::unistd::{dup2_stderr, write};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A pipe that polls writable takes as much in one write without waiting: `PIPE_BUF`, pipe(7).
const AT_ONCE: usize = 4096;

/// Where lines are written to.
#[derive(Debug)]
pub struct Stream {
    /// Standard error itself if none.
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
            file: own_pipe(io::stderr()),
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
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
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

    /// Makes standard error another name of this.
    ///
    /// # Errors
    /// As `dup2(2)`.
    pub fn become_stderr(&self) -> io::Result<()> {
        if let Some(file) = &self.file {
            dup2_stderr(file)?;
        }
        Ok(())
    }

    /// Writes `lines`. Returns false when not all of them could be written.
    pub fn put(&mut self, lines: &[u8]) -> bool {
        let stderr = io::stderr();
        let to = self.file.as_ref().map_or(stderr.as_fd(), AsFd::as_fd);
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

/// Opens a pipe that this process shares with others once more, so that writing to it never waits: whether it does is a
/// matter of the open file, and the others rely on theirs; and between a look whether there is room and the write they
/// may take it. None for anything but a pipe, and where it cannot be opened.
pub fn own_pipe(shared: impl AsFd) -> Option<File> {
    let fd = shared.as_fd();
    if fstat(fd).ok()?.st_mode & libc::S_IFMT != libc::S_IFIFO {
        return None;
    }
    OpenOptions::new()
        .append(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .ok()
}

/// Whether a write of [`AT_ONCE`] bytes would not wait.
fn has_room(to: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(to, PollFlags::POLLOUT)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
