//! Received bytes on their way in: where one record ends and the next begins, whatever they mean.
//!
//! The caller reads from the socket into [`Intake::space`]. A header is looked at before it is taken, so that one that
//! makes no sense never is; content comes in the pieces in which it was received.

use crate::record::{HEADER, Header};
use std::ops::Range;

/// One connection's bytes that have not been dealt with.
#[derive(Debug)]
pub(crate) struct Intake {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The record whose content is being read, what is left of it, and of its padding.
    current: Option<Header>,
    content: usize,
    padding: usize,
}

impl Intake {
    /// With a buffer of `size` bytes, which are read at once at most.
    pub(crate) fn new(size: usize) -> Self {
        Self {
            buffer: vec![0; size],
            start: 0,
            end: 0,
            current: None,
            content: 0,
            padding: 0,
        }
    }

    /// Forgets everything: a new connection begins.
    pub(crate) fn reset(&mut self) {
        self.start = 0;
        self.end = 0;
        self.current = None;
        self.content = 0;
        self.padding = 0;
    }

    /// Where to read to; never empty once [`Self::peek`] or [`Self::take`] has returned None.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.buffer[self.end..]
    }

    /// Tells that `count` bytes were read to [`Self::space`].
    pub(crate) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.buffer.len());
    }

    /// The bytes of a range that was given; valid until the next call of [`Self::space`].
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// The same, to be changed.
    pub(crate) fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.buffer[range]
    }

    /// The record that is being read.
    pub(crate) fn current(&self) -> Option<Header> {
        self.current
    }

    /// Whether nothing has come but padding of the last record.
    pub(crate) fn is_idle(&self) -> bool {
        self.current.is_none() && self.end - self.start <= self.padding
    }

    /// Whether the last record has come whole, its padding too, and nothing behind it.
    pub(crate) fn is_exhausted(&mut self) -> bool {
        self.current.is_none() && self.skip_padding() && self.start == self.end
    }

    /// The header that comes next, between two records; None when more must be received first.
    pub(crate) fn peek(&mut self) -> Option<Header> {
        if !self.skip_padding() {
            return None;
        }
        self.buffer[self.start..self.end]
            .first_chunk::<HEADER>()
            .map(Header::decode)
    }

    /// Takes the header that [`Self::peek`] has shown, and tells where its bytes lie.
    pub(crate) fn enter(&mut self, header: Header) -> Range<usize> {
        let range = self.start..self.start + HEADER;
        self.start = range.end;
        self.content = usize::from(header.content);
        self.padding = usize::from(header.padding);
        self.current = Some(header);
        range
    }

    /// Takes what has come of the record's content, or, with `whole`, all of it, and tells whether that was the last of
    /// it; None when more must be received first.
    pub(crate) fn take(&mut self, whole: bool) -> Option<(Range<usize>, bool)> {
        let available = self.content.min(self.end - self.start);
        if (whole && available < self.content) || (available == 0 && self.content > 0) {
            return None;
        }
        let range = self.start..self.start + available;
        self.start = range.end;
        self.content -= available;
        let complete = self.content == 0;
        if complete {
            self.current = None;
        }
        Some((range, complete))
    }

    /// Whether all padding of the last record has been skipped.
    fn skip_padding(&mut self) -> bool {
        let skipped = self.padding.min(self.end - self.start);
        self.start += skipped;
        self.padding -= skipped;
        self.padding == 0
    }
}
