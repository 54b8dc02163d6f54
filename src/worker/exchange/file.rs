//! A part of a file as a part of the answer. The kernel moves it from the file to the connection (`sendfile(2)`), so that
//! it never comes into this process's memory.
//!
//! A record's header promises its content before the file is read. A file that has become shorter by then breaks the
//! answer off inside a record: to fill the record up with anything else could make a wrong answer a whole one.

use super::{Error, Exchange, Result, Stage};
use nix::errno::Errno;
use nix::libc::off_t;
use nix::sys::sendfile::sendfile;
use nix::sys::socket::{MsgFlags, send};
use nix::sys::uio::pread;
use preforkd_sys::signals::WithoutSigpipe;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};

/// Content of the records that are sent: whole pages, a multiple of 8.
const CONTENT: u16 = 60 * 1024;

/// Bytes after which it is looked whether the web server still wants the answer.
const LOOK_AFTER: u64 = 1 << 20;

/// Files up to this many bytes are read, since what is small leaves in one write with all the rest.
const SMALL: u64 = 32 * 1024;

/// Bytes that are copied at once where the kernel does not move them.
const COPIED: usize = 16 * 1024;

impl Exchange {
    /// Adds `length` bytes of a regular file, from `offset` on, to the answer, and sends them, unless they are few.
    ///
    /// # Errors
    /// As [`Self::write`]; [`Error::File`] when the file cannot be read, or ends before. The answer cannot go on then.
    pub fn write_file(&mut self, file: &File, offset: u64, length: u64) -> Result<()> {
        self.check_open()?;
        let written = off_t::try_from(offset)
            .map_err(|_| Error::File(ErrorKind::InvalidInput.into()))
            .and_then(|offset| match usize::try_from(length) {
                Ok(small) if length <= SMALL => self.write_small_file(file, offset, small),
                _ => self.send_file(file, offset, length),
            });
        if written.is_err() {
            self.stage = Stage::Broken;
        }
        written
    }

    fn write_small_file(&mut self, file: &File, offset: off_t, length: usize) -> Result<()> {
        let mut content = vec![0; length];
        let mut read = 0;
        while read < length {
            let at = offset + off_t::try_from(read).unwrap_or(off_t::MAX);
            let mut result = Ok(0);
            (self.blocking)(&mut || result = pread(file, &mut content[read..], at));
            match result {
                Ok(0) => return Err(ended()),
                Ok(count) => read += count,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(Error::File(error.into())),
            }
        }
        self.write(&content)
    }

    fn send_file(&mut self, file: &File, mut offset: off_t, mut length: u64) -> Result<()> {
        let _quiet = WithoutSigpipe::new();
        let mut copies = false;
        let mut unlooked = 0;
        while length > 0 {
            let content = u16::try_from(length).map_or(CONTENT, |rest| rest.min(CONTENT));
            self.response.stdout_elsewhere(content);
            self.flush()?;
            while self.response.owed() > 0 {
                self.send_content(file, &mut offset, &mut copies)?;
            }
            length -= u64::from(content);
            unlooked += u64::from(content);
            if unlooked >= LOOK_AFTER {
                self.look_at_peer()?;
                unlooked = 0;
            }
        }
        Ok(())
    }

    /// Sends what can be sent at once of the content of a record whose header has been sent.
    fn send_content(&mut self, file: &File, offset: &mut off_t, copies: &mut bool) -> Result<()> {
        let connection = self.connection.as_ref().ok_or(Error::Gone)?;
        let count = self.response.owed();
        let mut sent = Ok(0);
        // A file may lie on a slow disk.
        (self.blocking)(&mut || {
            sent = if *copies {
                copy(connection, file, offset, count)
            } else {
                sendfile(connection, file, Some(offset), count)
            };
        });
        match sent {
            Ok(0) => Err(ended()),
            Ok(count) => {
                self.response.paid(count);
                Ok(())
            }
            Err(Errno::EINTR) => Ok(()),
            Err(Errno::EAGAIN) => self.wait_to_send(),
            // A file system that has no way to do it, or a filter of system calls that does not know this one.
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) if !*copies => {
                *copies = true;
                Ok(())
            }
            Err(error) => Err(match self.failed(error) {
                Error::Io(error) => Error::File(error),
                other => other,
            }),
        }
    }
}

/// The same as `sendfile` through memory of this process.
fn copy(connection: &OwnedFd, file: &File, offset: &mut off_t, count: usize) -> nix::Result<usize> {
    let mut buffer = [0; COPIED];
    let read = pread(file, &mut buffer[..count.min(COPIED)], *offset)?;
    if read == 0 {
        return Ok(0);
    }
    let sent = send(
        connection.as_raw_fd(),
        &buffer[..read],
        MsgFlags::MSG_NOSIGNAL,
    )?;
    *offset += off_t::try_from(sent).unwrap_or(0);
    Ok(sent)
}

fn ended() -> Error {
    Error::File(io::Error::new(
        ErrorKind::UnexpectedEof,
        "it has become shorter",
    ))
}
