//! Frames a request to a program into records: the client side of a connection, on its way out.
//!
//! The head (BEGIN, the parameters and their end) comes first and is kept until the next request, so that it can be sent
//! again to a program that has not read it.

use crate::pairs::{self, Params};
use crate::record::{self, HEADER, KEEP_CONNECTION, kind};

/// The id of the one request on a connection.
pub const ID: u16 = 1;

/// Bytes of a stream that one record carries at most: whole pages, far below the limit of a record.
pub const PIECE: usize = 32 * 1024;

/// Bytes of parameters that one record carries at most: whole pairs wherever they fit, since PHP takes no others.
const MOST: usize = 0xfff8;

/// What a client's header `Proxy` becomes, and what libraries take for the address of a proxy (CVE-2016-5385).
const FORGED: &[u8] = b"HTTP_PROXY";

/// The bytes of a request on their way to the program.
#[derive(Debug, Default)]
pub struct Request {
    /// Room, which only grows: it is not cleared for each piece of a large body.
    bytes: Vec<u8>,
    /// Bytes of it that are used.
    end: usize,
    /// Bytes of the head, at the front until all of it has been sent and a piece is added.
    head: usize,
    /// Bytes at the front that have been sent.
    sent: usize,
}

impl Request {
    /// Begins a request, for which the connection is to be kept. What was not sent of the one before is forgotten.
    /// `HTTP_PROXY` is left out.
    pub fn begin(&mut self, role: u16, params: &Params) {
        self.end = 0;
        self.sent = 0;
        let [high, low] = role.to_be_bytes();
        let begin = [high, low, KEEP_CONNECTION, 0, 0, 0, 0, 0];
        self.record(kind::BEGIN_REQUEST, &begin);
        let mut rest = params.as_bytes();
        let mut from = rest;
        while let Some((name, _, after)) = pairs::split_first(rest) {
            let taken = from.len() - rest.len();
            let pair = rest.len() - after.len();
            if name == FORGED {
                self.params(&from[..taken]);
                from = after;
            } else if taken > 0 && taken + pair > MOST {
                self.params(&from[..taken]);
                from = rest;
            }
            rest = after;
        }
        self.params(&from[..from.len() - rest.len()]);
        self.end(kind::PARAMS);
        self.head = self.end;
    }

    /// Forgets all but the head, and that it was sent. To be called before a piece was added.
    pub fn rewind(&mut self) {
        self.end = self.head;
        self.sent = 0;
    }

    /// Adds what `fill` writes, at most [`PIECE`] bytes, to a stream, when all before it has been sent. Returns how much
    /// that was.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn piece<E>(
        &mut self,
        stream: u8,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.forget_sent();
        let at = self.end;
        let length = fill(self.room(at + HEADER, PIECE))?;
        if let Ok(content @ 1..) = u16::try_from(length) {
            self.append(&record::header(stream, ID, content));
            self.end += length;
        }
        Ok(length)
    }

    /// Adds what `fill` writes, at most [`PIECE`] bytes of records, when all before it has been sent. Returns how much that
    /// was.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn records<E>(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.forget_sent();
        let length = fill(self.room(self.end, PIECE))?;
        self.end += length;
        Ok(length)
    }

    /// Ends a stream.
    pub fn end(&mut self, stream: u8) {
        self.append(&record::header(stream, ID, 0));
    }

    /// Gives the request up.
    pub fn abort(&mut self) {
        self.end(kind::ABORT_REQUEST);
    }

    /// The bytes to send next.
    #[must_use]
    pub fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..self.end]
    }

    /// Marks the first `count` bytes of [`Self::unsent`] as sent.
    pub fn sent(&mut self, count: usize) {
        self.sent += count;
    }

    /// Whether all of the head has been sent.
    #[must_use]
    pub fn is_head_sent(&self) -> bool {
        self.sent >= self.head
    }

    fn forget_sent(&mut self) {
        if self.sent == self.end {
            self.end = 0;
            self.sent = 0;
            self.head = 0;
        }
    }

    /// Adds parameters; only a single pair may be longer than a record.
    fn params(&mut self, pairs: &[u8]) {
        for part in pairs.chunks(MOST) {
            self.record(kind::PARAMS, part);
        }
    }

    fn record(&mut self, kind: u8, content: &[u8]) {
        let length = u16::try_from(content.len()).expect("it was cut to fit a record");
        self.append(&record::header(kind, ID, length));
        self.append(content);
    }

    fn append(&mut self, bytes: &[u8]) {
        let at = self.end;
        self.room(at, bytes.len()).copy_from_slice(bytes);
        self.end += bytes.len();
    }

    fn room(&mut self, at: usize, length: usize) -> &mut [u8] {
        let end = at + length;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[at..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receiver::{Event, Limits, Receiver};
    use crate::record::{Header, RESPONDER};

    fn params(pairs: &[(&[u8], Vec<u8>)]) -> Params {
        let mut bytes = Vec::new();
        for (name, value) in pairs {
            pairs::encode(&mut bytes, name, value);
        }
        Params::from_bytes(bytes)
    }

    /// What a program reads: the parameters, and the body.
    fn read(mut bytes: &[u8]) -> (Vec<u8>, Vec<u8>, bool) {
        let mut receiver = Receiver::new(Limits::default(), 1);
        let (mut params, mut body, mut ended) = (Vec::new(), Vec::new(), false);
        loop {
            match receiver.next().unwrap() {
                Some(Event::Request) => {
                    assert!(receiver.head().keep);
                    assert_eq!((receiver.head().id, receiver.head().role), (ID, RESPONDER));
                    params = receiver.params().as_bytes().to_vec();
                }
                Some(Event::Body(range)) => body.extend_from_slice(receiver.bytes(range)),
                Some(Event::BodyEnd) => ended = true,
                Some(other) => panic!("{other:?}"),
                None if bytes.is_empty() => return (params, body, ended),
                None => {
                    let space = receiver.space();
                    let count = space.len().min(bytes.len());
                    space[..count].copy_from_slice(&bytes[..count]);
                    receiver.filled(count);
                    bytes = &bytes[count..];
                }
            }
        }
    }

    #[test]
    fn a_program_reads_what_was_written() {
        let params = params(&[(b"A", b"1".to_vec()), (b"B", vec![b'x'; 1000])]);
        let mut request = Request::default();
        request.begin(RESPONDER, &params);
        let mut all = request.unsent().to_vec();
        request.sent(all.len());
        assert!(request.is_head_sent());
        for text in [&b"one"[..], b"two"] {
            let fill = |space: &mut [u8]| {
                space[..3].copy_from_slice(text);
                Ok::<_, ()>(3)
            };
            assert_eq!(request.piece(kind::STDIN, fill), Ok(3));
        }
        assert_eq!(request.piece(kind::STDIN, |_| Ok::<_, ()>(0)), Ok(0));
        assert_eq!(request.piece(kind::STDIN, |_| Err(7)), Err(7));
        request.end(kind::STDIN);
        all.extend_from_slice(request.unsent());
        assert_eq!(
            read(&all),
            (params.as_bytes().to_vec(), b"onetwo".to_vec(), true)
        );
    }

    #[test]
    fn records_hold_whole_pairs_where_they_fit() {
        let table: &[(&[usize], usize)] = &[
            (&[10, 20], 1),
            (&[40_000, 40_000], 2),
            (&[MOST - 5, 1], 2),
            (&[200_000], 4),
            (&[10, 200_000, 10], 6),
            (&[], 0),
        ];
        for (lengths, records) in table {
            let pairs: Vec<(&[u8], Vec<u8>)> = lengths
                .iter()
                .map(|&length| (&b""[..], vec![b'v'; length - 1]))
                .collect();
            let params = params(&pairs);
            let mut request = Request::default();
            request.begin(RESPONDER, &params);
            assert_eq!(read(request.unsent()).0, params.as_bytes(), "{lengths:?}");
            let mut rest = request.unsent();
            let mut count = 0;
            while let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
                let header = Header::decode(header);
                count += usize::from(header.kind == kind::PARAMS && header.content > 0);
                rest = &after[usize::from(header.content)..];
            }
            assert_eq!(count, *records, "{lengths:?}");
        }
    }

    #[test]
    fn the_address_of_a_proxy_is_left_out_wherever_it_stands() {
        let forged = || (FORGED, b"http://evil".to_vec());
        for at in 0..3 {
            let mut pairs = vec![(&b"A"[..], b"1".to_vec()), (b"HTTP_PROXY_X", b"2".to_vec())];
            let kept = params(&pairs);
            pairs.insert(at, forged());
            pairs.push(forged());
            let mut request = Request::default();
            request.begin(RESPONDER, &params(&pairs));
            assert_eq!(read(request.unsent()).0, kept.as_bytes(), "at {at}");
        }
    }

    #[test]
    fn the_head_is_sent_again_as_a_whole() {
        let params = params(&[(b"A", b"1".to_vec())]);
        let mut request = Request::default();
        request.begin(RESPONDER, &params);
        let head = request.unsent().to_vec();
        request.end(kind::STDIN);
        request.sent(5);
        assert!(!request.is_head_sent());
        request.rewind();
        assert_eq!(request.unsent(), head);
    }
}
