//! What workers and molds print: from their pipes into the log, line by line.
//!
//! Lines are handed on as they are, of any bytes; the log wraps those that are longer than `log_limit`. While a process
//! starts, its lines are held back, so that a failure that repeats itself (an application that cannot be imported, tried
//! again and again) is told once.

use crate::log;
use crate::token::Token;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::unistd::read;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes of a line that are waited for, unless `log_limit` is more. What is longer is taken for several lines.
const MAX_LINE: usize = 64 * 1024;

/// Bytes taken from a pipe at one time, so that one noisy process does not keep the master from the others.
const CHUNK: usize = 8 * 1024;

/// Lines that are held back at most; further ones push out the oldest.
const MAX_HELD: usize = 200;

/// Bytes that are held back at most, but for a single line.
const MAX_HELD_BYTES: usize = 256 * 1024;

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
    pub fn take(&mut self, line: &mut dyn FnMut(Line<'_>)) -> bool {
        let mut chunk = [0; CHUNK];
        match read(&self.pipe, &mut chunk) {
            Ok(0) => {
                self.finish(true, line);
                false
            }
            Ok(count) => {
                self.split(&chunk[..count], line);
                if !log::buffers() {
                    self.finish(false, line);
                }
                true
            }
            Err(Errno::EAGAIN | Errno::EINTR) => true,
            Err(_) => false,
        }
    }

    /// Takes all that is there, up to a bound, when the process is gone.
    pub fn drain(&mut self, line: &mut dyn FnMut(Line<'_>)) {
        let mut chunk = [0; CHUNK];
        for _ in 0..64 {
            match read(&self.pipe, &mut chunk) {
                Ok(count @ 1..) => self.split(&chunk[..count], line),
                Err(Errno::EINTR) => {}
                Ok(0) | Err(_) => break,
            }
        }
        self.finish(false, line);
    }

    fn split(&mut self, bytes: &[u8], line: &mut dyn FnMut(Line<'_>)) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.partial.extend_from_slice(part);
            if self.partial.last() == Some(&b'\n') {
                self.partial.pop();
                self.finish(false, line);
            } else if self.partial.len() >= MAX_LINE.max(log::limit()) {
                self.finish(false, line);
            }
        }
    }

    fn finish(&mut self, closed: bool, line: &mut dyn FnMut(Line<'_>)) {
        if !self.partial.is_empty() {
            line(Line {
                bytes: &self.partial,
                closed,
            });
            // One long line does not keep its room for ever.
            self.partial.clear();
            self.partial.shrink_to(CHUNK);
        }
    }
}

/// Has a poll set watch the outputs of a process. What a process says at its end is read in any case.
///
/// # Errors
/// ENOSPC: the user watches too many descriptors.
pub fn watch<'a>(
    epoll: &Epoll,
    outputs: impl IntoIterator<Item = &'a Output>,
    token: impl Fn(u8) -> Token,
) -> io::Result<()> {
    for (stream, output) in (0..).zip(outputs) {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, token(stream).into());
        epoll.add(output.pipe(), event)?;
    }
    Ok(())
}

/// A line that was printed, without its end.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// What is in it.
    pub bytes: &'a [u8],
    /// Whether the process closed the stream in the middle of it.
    pub closed: bool,
}

impl Line<'_> {
    /// The line as text.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.bytes)
    }
}

/// A line that is held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLine {
    /// 0 for standard output, 1 for standard error.
    pub stream: usize,
    /// What is in it.
    pub bytes: Vec<u8>,
}

impl HeldLine {
    /// The line as text.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

/// Lines held back until it is known whether the process that printed them came up.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Held(VecDeque<HeldLine>);

impl Held {
    /// Holds a line of a stream.
    pub fn push(&mut self, stream: usize, line: Line<'_>) {
        self.0.push_back(HeldLine {
            stream,
            bytes: line.bytes.to_vec(),
        });
        let bytes =
            |lines: &VecDeque<HeldLine>| lines.iter().map(|line| line.bytes.len()).sum::<usize>();
        while self.0.len() > MAX_HELD || self.0.len() > 1 && bytes(&self.0) > MAX_HELD_BYTES {
            self.0.pop_front();
        }
    }

    /// The lines.
    #[must_use]
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &HeldLine> {
        self.0.iter()
    }

    /// Whether its first lines are those of `other`.
    #[must_use]
    pub fn begins_with(&self, other: &Self) -> bool {
        self.0.iter().take(other.0.len()).eq(&other.0)
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

    /// The bytes and their output, which is taken until there is nothing more.
    fn output() -> (OwnedFd, Output) {
        let (reader, writer) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).unwrap();
        (writer, Output::new(reader))
    }

    fn take(output: &mut Output) -> (Vec<String>, bool) {
        let mut lines = Vec::new();
        let goes_on = output.take(&mut |line| {
            lines.push(String::from_utf8_lossy(line.bytes).into_owned());
        });
        (lines, goes_on)
    }

    #[test]
    fn lines_come_whole() {
        let (writer, mut output) = output();
        write(&writer, b"one\ntw").unwrap();
        assert_eq!(take(&mut output), (vec!["one".to_owned()], true));
        write(&writer, b"o\n\nlast").unwrap();
        assert_eq!(take(&mut output), (vec!["two".to_owned()], true));
        drop(writer);
        assert_eq!(take(&mut output), (vec!["last".to_owned()], false));
    }

    #[test]
    fn a_line_that_never_ends_is_handed_on_in_pieces() {
        let (writer, mut output) = output();
        let mut lengths = Vec::new();
        for _ in 0..MAX_LINE / CHUNK + 1 {
            write(&writer, &[b'x'; CHUNK]).unwrap();
            output.take(&mut |line| lengths.push(line.bytes.len()));
        }
        assert_eq!(lengths, [MAX_LINE]);
        output.drain(&mut |line| lengths.push(line.bytes.len()));
        assert_eq!(lengths, [MAX_LINE, CHUNK]);
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let mut held = Held::default();
        let mut push = |length: usize, byte: u8| {
            let bytes = &vec![byte; length];
            let closed = false;
            held.push(1, Line { bytes, closed });
            (
                held.lines().count(),
                held.lines().next_back().unwrap().bytes[0],
            )
        };
        let mut last = (0, 0);
        for byte in 0..=u8::MAX {
            last = push(10, byte);
        }
        assert_eq!(last, (MAX_HELD, u8::MAX));
        assert_eq!(push(MAX_HELD_BYTES, b'x').0, 1);
    }
}
