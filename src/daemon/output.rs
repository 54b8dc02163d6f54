//! What workers and molds print: from their pipes into the log, line by line.
//!
//! A line longer than [`MAX_LINE`] is logged in pieces. While a process starts, its lines are held back, so that a
//! failure that repeats itself (an application that cannot be imported, tried again and again) is told once.

use nix::errno::Errno;
use nix::unistd::read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes of a line, as of php-fpm's `log_limit`.
pub const MAX_LINE: usize = 1024;

/// Bytes taken from a pipe at one time, so that one noisy process does not keep the master from the others.
const CHUNK: usize = 8 * 1024;

/// Lines that are held back at most; further ones push out the oldest.
const MAX_HELD: usize = 200;

/// Standard output or standard error of a process.
#[derive(Debug)]
pub struct Output {
    pipe: OwnedFd,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
}

impl Output {
    /// Reads from `pipe`, which must not block.
    #[must_use]
    pub fn new(pipe: OwnedFd) -> Self {
        Self {
            pipe,
            partial: Vec::new(),
        }
    }

    /// The pipe.
    #[must_use]
    pub fn pipe(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Takes what is there, at most a chunk of it, and gives each whole line to `line`. Returns false at the end.
    pub fn take(&mut self, line: &mut dyn FnMut(&str)) -> bool {
        let mut chunk = [0; CHUNK];
        match read(&self.pipe, &mut chunk) {
            Ok(0) => {
                self.finish(line);
                false
            }
            Ok(count) => {
                self.split(&chunk[..count], line);
                true
            }
            Err(Errno::EAGAIN | Errno::EINTR) => true,
            Err(_) => false,
        }
    }

    /// Takes all that is there, up to a bound, when the process is gone.
    pub fn drain(&mut self, line: &mut dyn FnMut(&str)) {
        let mut chunk = [0; CHUNK];
        for _ in 0..64 {
            match read(&self.pipe, &mut chunk) {
                Ok(count @ 1..) => self.split(&chunk[..count], line),
                Err(Errno::EINTR) => {}
                Ok(0) | Err(_) => break,
            }
        }
        self.finish(line);
    }

    fn split(&mut self, bytes: &[u8], line: &mut dyn FnMut(&str)) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.partial.extend_from_slice(part);
            if self.partial.last() == Some(&b'\n') {
                self.partial.pop();
                self.finish(line);
            }
        }
        while self.partial.len() > MAX_LINE {
            let rest = self.partial.split_off(MAX_LINE);
            self.finish(line);
            self.partial = rest;
        }
    }

    fn finish(&mut self, line: &mut dyn FnMut(&str)) {
        if !self.partial.is_empty() {
            for piece in self.partial.chunks(MAX_LINE) {
                line(&String::from_utf8_lossy(piece));
            }
            self.partial.clear();
        }
    }
}

/// Lines held back until it is known whether the process that printed them came up.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Held(Vec<String>);

impl Held {
    /// Holds a line.
    pub fn push(&mut self, line: String) {
        if self.0.len() == MAX_HELD {
            self.0.remove(0);
        }
        self.0.push(line);
    }

    /// The lines.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use nix::unistd::{pipe2, write};

    #[test]
    fn lines_come_whole_and_long_ones_in_pieces() {
        let (reader, writer) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).unwrap();
        let mut output = Output::new(reader);
        let mut lines = Vec::new();
        write(&writer, b"one\ntw").unwrap();
        assert!(output.take(&mut |line| lines.push(line.to_owned())));
        assert_eq!(lines, ["one"]);
        write(&writer, b"o\n\nlast").unwrap();
        assert!(output.take(&mut |line| lines.push(line.to_owned())));
        assert_eq!(lines, ["one", "two"]);
        drop(writer);
        assert!(!output.take(&mut |line| lines.push(line.to_owned())));
        assert_eq!(lines, ["one", "two", "last"]);
        let (reader, writer) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).unwrap();
        let mut output = Output::new(reader);
        write(&writer, &[b'x'; MAX_LINE * 2 + 5]).unwrap();
        lines.clear();
        output.drain(&mut |line| lines.push(line.to_owned()));
        assert_eq!(
            lines.iter().map(String::len).collect::<Vec<_>>(),
            [MAX_LINE, MAX_LINE, 5]
        );
    }
}
