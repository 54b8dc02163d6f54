//! An answer on its way: nothing is sent before the first byte of a body, a declared length is kept, and an answer that
//! has no body gets none.
//!
//! When the declared length is reached the answer is ended at once, in one write with its last bytes, although the
//! application may go on for a while.

use crate::head::Head;
use preforkd_worker::exchange::{self, Exchange};
use std::fs::File;
use thiserror::Error;

/// Why an answer could not go on.
#[derive(Debug, Error)]
pub(crate) enum Trouble {
    /// The application forgot something.
    #[error("start_response was not called before the first block of the body")]
    NoHead,
    /// The application promised less. What it promised has been sent.
    #[error("the body is longer than its Content-Length")]
    TooLong,
    /// The application adds to an answer that has been ended.
    #[error("a block was written after the end of the body")]
    AfterEnd,
    /// The application promised more.
    #[error("the body is {0} bytes shorter than its Content-Length")]
    TooShort(u64),
    /// The answer cannot be sent.
    #[error(transparent)]
    Exchange(#[from] exchange::Error),
}

/// The answer to one request.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The request is a HEAD.
    only_head: bool,
    head: Option<Head>,
    sent: bool,
    /// Bytes of the declared length that are still to come.
    left: Option<u64>,
    /// The application has said that this is all.
    over: bool,
}

impl Answer {
    /// For a request that is a HEAD, or not.
    pub(crate) fn new(only_head: bool) -> Self {
        Self {
            only_head,
            head: None,
            sent: false,
            left: None,
            over: false,
        }
    }

    /// Whether there is a head, sent or not.
    pub(crate) fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// Whether the head is on its way and cannot be replaced any more.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent
    }

    /// Sets the head, or replaces it.
    pub(crate) fn set_head(&mut self, head: Head) {
        self.head = Some(head);
    }

    /// Says how long the whole body is going to be. If less was declared than that the rest is not sent; if more was,
    /// nothing is, as long as nothing has been.
    pub(crate) fn know_length(&mut self, length: u64) -> Result<(), Trouble> {
        let Some(head) = self.head.as_mut().filter(|head| head.has_body()) else {
            return Ok(());
        };
        match head.length {
            _ if self.sent => {}
            None if self.only_head && length == 0 => {}
            None => head.declare(length),
            Some(declared) if declared > length && !self.only_head => {
                return Err(Trouble::TooShort(declared - length));
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// How many more bytes of a body are wanted.
    pub(crate) fn room(&self) -> u64 {
        let left = match &self.head {
            Some(head) if self.only_head || !head.has_body() => Some(0),
            Some(head) if !self.sent => head.length,
            _ => self.left,
        };
        left.unwrap_or(u64::MAX)
    }

    /// Adds `length` bytes of a regular file, from `offset` on, to the body.
    pub(crate) fn add_file(
        &mut self,
        exchange: &mut Exchange,
        file: &File,
        offset: u64,
        length: u64,
    ) -> Result<(), Trouble> {
        if self.over || !self.send_head(exchange)? {
            return Ok(());
        }
        let length = length.min(self.room());
        if length > 0 {
            exchange.write_file(file, offset, length)?;
        }
        self.left = self.left.map(|left| left - length);
        Ok(())
    }

    /// Adds a block to the body. An empty one does nothing.
    pub(crate) fn add(&mut self, exchange: &mut Exchange, block: &[u8]) -> Result<(), Trouble> {
        if block.is_empty() || self.over {
            return Ok(());
        }
        if !self.send_head(exchange)? {
            return Ok(());
        }
        let Some(left) = self.left else {
            if exchange.is_ended() {
                return Err(Trouble::AfterEnd);
            }
            return Ok(exchange.write(block)?);
        };
        let fitting = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
        if fitting > 0 {
            exchange.write(&block[..fitting])?;
            self.left = Some(left - fitting as u64);
        }
        if self.left == Some(0) && !exchange.is_ended() {
            exchange.end(0)?;
        }
        if fitting < block.len() {
            return Err(Trouble::TooLong);
        }
        Ok(())
    }

    /// Sends what there is.
    pub(crate) fn flush(&mut self, exchange: &mut Exchange) -> Result<(), Trouble> {
        Ok(exchange.flush()?)
    }

    /// Ends the answer after the last block.
    pub(crate) fn finish(&mut self, exchange: &mut Exchange) -> Result<(), Trouble> {
        if !self.sent {
            self.know_length(0)?;
        }
        let has_body = self.send_head(exchange)?;
        match self.left {
            Some(left) if has_body && left > 0 => Err(Trouble::TooShort(left)),
            _ if exchange.is_ended() => Ok(()),
            _ => Ok(exchange.end(0)?),
        }
    }

    /// Ends the answer with what there is of it, before the application returns. What it adds from then on is dropped.
    pub(crate) fn end_now(&mut self, exchange: &mut Exchange) -> Result<(), Trouble> {
        let ended = self.finish(exchange);
        if matches!(ended, Ok(()) | Err(Trouble::Exchange(_))) {
            self.over = true;
            exchange.part();
        }
        ended
    }

    /// Adds the head if it has not been. Returns whether a body may follow.
    fn send_head(&mut self, exchange: &mut Exchange) -> Result<bool, Trouble> {
        let head = self.head.as_mut().ok_or(Trouble::NoHead)?;
        if !self.sent {
            self.sent = true;
            self.left = head.length;
            head.bytes.extend_from_slice(b"\r\n");
            exchange.write(&head.bytes)?;
        }
        Ok(head.has_body() && !self.only_head)
    }
}
