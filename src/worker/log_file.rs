//! Files that the workers of a pool append to: the access log and the slow log.
//!
//! The master opens them as the user it is, and hands them to its workers as descriptors; after log rotation it sends
//! new ones. A line is one write, so that the lines of several workers do not mix.

use crate::access::MAX_LINE;
use crate::message::{LogSettings, Malformed};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A log that a worker appends to.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    /// It may have no room: a pipe, say. A regular file never makes its writer wait for a reader.
    may_be_full: bool,
}

impl LogFile {
    /// A log of this descriptor.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        let file = File::from(fd);
        let may_be_full = !file.metadata().is_ok_and(|metadata| metadata.is_file());
        Self { file, may_be_full }
    }

    /// Appends, without waiting for a reader; what cannot be written is lost.
    pub fn append(&self, bytes: &[u8]) {
        // What is longer than a pipe takes in one piece comes in several, or else could wait after all.
        let piece = if self.may_be_full {
            MAX_LINE
        } else {
            bytes.len().max(1)
        };
        for piece in bytes.chunks(piece) {
            // A full disk must not cost the request.
            if self.may_be_full && !self.has_room() || (&self.file).write_all(piece).is_err() {
                return;
            }
        }
    }

    fn has_room(&self) -> bool {
        let mut polled = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
        poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

/// The logs of a pool's workers.
#[derive(Debug, Default)]
pub struct LogFiles {
    /// The access log (`access.log`).
    pub access: Option<OwnedFd>,
    /// The slow log (`slowlog`).
    pub slow: Option<OwnedFd>,
}

impl LogFiles {
    /// From descriptors in the order of [`Self::fds`].
    ///
    /// # Errors
    /// [`Malformed`] when they are not as many as the settings tell of.
    pub fn from_fds(
        settings: &LogSettings,
        fds: impl IntoIterator<Item = OwnedFd>,
    ) -> Result<Self, Malformed> {
        let mut fds = fds.into_iter();
        let mut next = |wanted: bool| match wanted.then(|| fds.next()) {
            Some(None) => Err(Malformed),
            Some(some) => Ok(some),
            None => Ok(None),
        };
        let files = Self {
            access: next(settings.access.is_some())?,
            slow: next(settings.has_slow_log)?,
        };
        match fds.next() {
            None => Ok(files),
            Some(_) => Err(Malformed),
        }
    }

    /// Their descriptors, in a fixed order.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.access, &self.slow]
            .into_iter()
            .flatten()
            .map(AsFd::as_fd)
    }

    /// The same files once more.
    ///
    /// # Errors
    /// EMFILE.
    pub fn try_clone(&self) -> io::Result<Self> {
        let clone = |file: &Option<OwnedFd>| file.as_ref().map(OwnedFd::try_clone).transpose();
        Ok(Self {
            access: clone(&self.access)?,
            slow: clone(&self.slow)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::Zone;
    use nix::unistd::{pipe, read};
    use std::time::Duration;

    #[test]
    fn a_pipe_that_is_full_makes_nobody_wait() {
        let (reader, writer) = pipe().unwrap();
        let log = LogFile::new(writer);
        let line = [b'x'; 3 * MAX_LINE];
        for _ in 0..100 {
            log.append(&line);
        }
        let mut room = vec![0; 100 * line.len()];
        let count = read(&reader, &mut room).unwrap();
        assert!(count >= line.len() && count < room.len(), "{count}");
    }

    #[test]
    fn as_many_descriptors_as_logs() {
        let settings = |access: bool, has_slow_log| LogSettings {
            access: access.then(|| crate::message::AccessSettings {
                format: String::new(),
                suppress: Vec::new(),
            }),
            has_slow_log,
            slow_timeout: Duration::ZERO,
            trace_depth: 0,
            zone: Zone::utc(),
        };
        let fds = |count| (0..count).map(|_| pipe().unwrap().0);
        let files = LogFiles::from_fds(&settings(false, true), fds(1)).unwrap();
        assert!(files.access.is_none() && files.slow.is_some());
        assert_eq!(files.fds().count(), 1);
        assert!(LogFiles::from_fds(&settings(true, true), fds(1)).is_err());
        assert!(LogFiles::from_fds(&settings(true, false), fds(2)).is_err());
        assert!(LogFiles::from_fds(&settings(false, false), fds(0)).is_ok());
    }
}
