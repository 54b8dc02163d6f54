//! The body of a request as the application may read it: exactly as long as was announced.
//!
//! What the web server sends beyond the length is never seen; when it sends less, reading fails, and goes on failing.
//! A body whose length was not announced is read to its end before the application is called, since most applications
//! take a missing length for an empty body.

use preforkd_worker::exchange::{self, Exchange};
use preforkd_worker::spool::Spool;
use std::io;
use thiserror::Error;

/// Bytes that are read from the connection at once where lines are looked for.
const AHEAD: usize = 8 * 1024;

/// Bytes that are read at once where more are wanted. Memory is not made for more before it is there, since the announced
/// length is only a claim.
pub(crate) const STEP: usize = 256 * 1024;

/// Why the body could not be read.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// The web server announced more than it sent.
    #[error("the request's body ended {0} bytes before its announced length")]
    Short(u64),
    /// The connection failed.
    #[error(transparent)]
    Exchange(#[from] exchange::Error),
    /// The spool failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The spool would be too large.
    #[error(
        "a body of unknown length is larger than {} bytes",
        preforkd_worker::spool::MAX
    )]
    TooLarge,
}

/// What is left of the body of one request.
#[derive(Debug)]
pub(crate) struct Body {
    /// The whole body, if its length was not announced.
    spool: Option<Spool>,
    /// Bytes that have not been taken from the connection or the spool yet.
    left: u64,
    /// Bytes that have been taken and not been read yet: from `at` on.
    ahead: Vec<u8>,
    at: usize,
}

impl Body {
    /// A body of this length.
    pub(crate) fn announced(length: u64) -> Self {
        Self {
            spool: None,
            left: length,
            ahead: Vec::new(),
            at: 0,
        }
    }

    /// Reads a body to its end to know its length.
    pub(crate) fn measured(exchange: &mut Exchange) -> Result<Self, Error> {
        let mut spool = Spool::default();
        // Most requests have no body: a first look needs no large buffer.
        let mut first = [0; 64];
        let mut count = exchange.read_body(&mut first)?;
        spool.write(&first[..count])?;
        let mut buffer = Vec::new();
        while count > 0 {
            // Most are small.
            buffer.resize((2 * buffer.len()).clamp(AHEAD, STEP), 0);
            count = exchange.read_body(&mut buffer)?;
            if count > 0 && spool.is_full() {
                return Err(Error::TooLarge);
            }
            spool.write(&buffer[..count])?;
        }
        let mut body = Self::announced(spool.len());
        body.spool = Some(spool);
        Ok(body)
    }

    /// Its length while nothing has been read.
    pub(crate) fn length(&self) -> u64 {
        self.left
    }

    /// Reads `size` bytes, but not more than [`STEP`]; fewer only at the end.
    pub(crate) fn read(&mut self, exchange: &mut Exchange, size: usize) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; self.available(Some(size)).min(STEP)];
        let mut filled = 0;
        while filled < out.len() {
            filled += self.take(exchange, &mut out[filled..])?;
        }
        Ok(out)
    }

    /// Reads up to and with the next line feed, but not more than `size` bytes.
    pub(crate) fn read_line(
        &mut self,
        exchange: &mut Exchange,
        size: Option<usize>,
    ) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let mut wanted = self.available(size);
        while wanted > 0 {
            if self.at == self.ahead.len() {
                let mut next = vec![0; AHEAD];
                let count = self.take(exchange, &mut next)?;
                next.truncate(count);
                (self.ahead, self.at) = (next, 0);
            }
            let rest = &self.ahead[self.at..];
            let rest = &rest[..rest.len().min(wanted)];
            let end = rest.iter().position(|&byte| byte == b'\n');
            let count = end.map_or(rest.len(), |end| end + 1);
            out.extend_from_slice(&rest[..count]);
            self.at += count;
            wanted -= count;
            if end.is_some() {
                break;
            }
        }
        Ok(out)
    }

    fn available(&self, size: Option<usize>) -> usize {
        let ahead = (self.ahead.len() - self.at) as u64;
        let available = usize::try_from(self.left.saturating_add(ahead)).unwrap_or(usize::MAX);
        size.map_or(available, |size| size.min(available))
    }

    /// Takes at least one byte, unless the body is at its end or `to` is empty.
    fn take(&mut self, exchange: &mut Exchange, to: &mut [u8]) -> Result<usize, Error> {
        let ahead = &self.ahead[self.at..];
        if !ahead.is_empty() {
            let count = ahead.len().min(to.len());
            to[..count].copy_from_slice(&ahead[..count]);
            self.at += count;
            return Ok(count);
        }
        let room = usize::try_from(self.left).map_or(to.len(), |left| left.min(to.len()));
        if room == 0 {
            return Ok(0);
        }
        let count = match &mut self.spool {
            Some(spool) => spool.read(&mut to[..room])?,
            None => exchange.read_body(&mut to[..room])?,
        };
        if count == 0 {
            return Err(Error::Short(self.left));
        }
        self.left -= count as u64;
        Ok(count)
    }
}
