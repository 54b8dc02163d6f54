//! The server side of a connection: bytes in, events out.
//!
//! One request at a time: `Idle → Params → Body → Answering → Idle`. The caller reads from the socket into
//! [`Receiver::space`], tells how much came, and takes events until there is none. Whatever the split of the bytes, the
//! events are the same, but for how the body is cut.
//!
//! Rules: a record of another version, a BEGIN of the wrong length or for the id in use, a stream out of order and
//! parameters over the [`Limits`] are errors, after which the connection must be closed. A BEGIN for another id while a
//! request goes on is answered with `CANT_MPX_CONN`; what follows for that id is skipped, as is everything for ids that
//! are not known. Management records are answered at any time.

use crate::pairs::{self, Params};
use crate::record::{
    self, HEADER, Header, KEEP_CONNECTION, MANAGEMENT, ProtocolStatus, RESPONDER, VERSION, kind,
};
use std::ops::Range;
use thiserror::Error;

/// Bytes read at once: a body record of the usual 32 KiB with its header and padding.
const BUFFER: usize = 33 * 1024;

/// Bytes that the content of a `GET_VALUES` record may have; the three names there are take 50.
const MAX_GET_VALUES: u16 = 1024;

/// Bounds on what one request may send before its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all parameters together.
    pub params: usize,
    /// Number of parameters.
    pub pairs: usize,
    /// Bytes of one name.
    pub name: usize,
}

impl Default for Limits {
    /// Room for the largest headers that the common web servers let through.
    fn default() -> Self {
        Self {
            params: 256 * 1024,
            pairs: 1024,
            name: 4096,
        }
    }
}

/// Why a connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// A record of a version other than 1.
    #[error("a record of protocol version {0} instead of 1")]
    Version(u8),
    /// A record that makes no sense where it stands.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The parameters of a new request are complete: see [`Receiver::head`] and [`Receiver::params`].
    Request,
    /// A piece of the body; see [`Receiver::bytes`].
    Body(Range<usize>),
    /// The body is complete.
    BodyEnd,
    /// The web server gave the request up (`FCGI_ABORT_REQUEST`).
    Abort,
    /// Records to be sent as they are; they concern something else than the request. `close` asks to close after them.
    Reply {
        /// The records.
        records: Vec<u8>,
        /// Whether the connection is to be closed afterwards.
        close: bool,
    },
}

/// What BEGIN said of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Head {
    /// The request's id.
    pub id: u16,
    /// The role asked for.
    pub role: u16,
    /// Whether the connection is to be kept after the request.
    pub keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Params,
    Body,
    Answering,
}

/// The assembler of one connection's requests.
#[derive(Debug)]
pub struct Receiver {
    limits: Limits,
    /// What `GET_VALUES` is told as `FCGI_MAX_CONNS` and `FCGI_MAX_REQS`.
    capacity: u32,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    phase: Phase,
    head: Head,
    params: Params,
    /// The record whose content is being read, what is left of it, and of its padding.
    current: Option<Header>,
    content: usize,
    padding: usize,
}

impl Receiver {
    /// For connections of a pool of at most `capacity` workers.
    #[must_use]
    pub fn new(limits: Limits, capacity: u32) -> Self {
        Self {
            limits,
            capacity,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            phase: Phase::Idle,
            head: Head::default(),
            params: Params::default(),
            current: None,
            content: 0,
            padding: 0,
        }
    }

    /// Forgets everything: a new connection begins.
    pub fn reset(&mut self) {
        self.start = 0;
        self.end = 0;
        self.phase = Phase::Idle;
        self.current = None;
        self.content = 0;
        self.padding = 0;
    }

    /// Where to read to; never empty once [`Self::next`] has returned None.
    pub fn space(&mut self) -> &mut [u8] {
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
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.buffer.len());
    }

    /// What BEGIN said of the current request.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// The parameters of the current request.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The bytes of an [`Event::Body`]; valid until the next call of [`Self::space`].
    #[must_use]
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// Whether nothing of a request, or of any other record, has come yet. The padding of the last one is nothing.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle && self.current.is_none() && self.end - self.start <= self.padding
    }

    /// Whether the next record after the body that has been read gives the request up. Does not go on to what follows.
    pub fn is_aborted(&mut self) -> bool {
        if self.phase != Phase::Answering || self.current.is_some() || !self.skip_padding() {
            return false;
        }
        let next = self.buffer[self.start..self.end].first_chunk::<HEADER>();
        next.map(Header::decode).is_some_and(|header| {
            header.version == VERSION
                && header.kind == kind::ABORT_REQUEST
                && header.id == self.head.id
        })
    }

    /// Whether the whole body has come.
    #[must_use]
    pub fn body_complete(&self) -> bool {
        self.phase == Phase::Answering
    }

    /// The answer has been sent; to be called after [`Event::BodyEnd`], before the next request on the connection.
    pub fn finish(&mut self) {
        self.phase = Phase::Idle;
    }

    /// The next event in what has been read; None when more must be read first.
    ///
    /// # Errors
    /// See [`Error`]; the connection must be closed then.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would borrow the buffer that has to be filled between two calls"
    )]
    pub fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            let Some(record) = self.current else {
                if self.skip_padding() && self.read_header()? {
                    continue;
                }
                return Ok(None);
            };
            let available = self.content.min(self.end - self.start);
            // These are looked at whole; they are small.
            let whole = match record.kind {
                kind::BEGIN_REQUEST => true,
                kind::GET_VALUES => record.id == MANAGEMENT,
                _ => false,
            };
            if (whole && available < self.content) || (available == 0 && self.content > 0) {
                return Ok(None);
            }
            let range = self.start..self.start + available;
            self.start += available;
            self.content -= available;
            let complete = self.content == 0;
            if complete {
                self.current = None;
            }
            if let Some(event) = self.content(record, range, complete)? {
                return Ok(Some(event));
            }
        }
    }

    /// Whether all padding of the last record has been skipped.
    fn skip_padding(&mut self) -> bool {
        let skipped = self.padding.min(self.end - self.start);
        self.start += skipped;
        self.padding -= skipped;
        self.padding == 0
    }

    /// Whether a header was there to be read.
    fn read_header(&mut self) -> Result<bool, Error> {
        let Some(bytes) = self.buffer[self.start..self.end].first_chunk::<HEADER>() else {
            return Ok(false);
        };
        let header = Header::decode(bytes);
        if header.version != VERSION {
            return Err(Error::Version(header.version));
        }
        self.check(header)?;
        self.start += HEADER;
        self.content = usize::from(header.content);
        self.padding = usize::from(header.padding);
        self.current = Some(header);
        Ok(true)
    }

    /// What can be said against a record from its header alone.
    fn check(&self, header: Header) -> Result<(), Error> {
        let ours = self.phase != Phase::Idle && header.id == self.head.id;
        let complaint = match (header.kind, self.phase) {
            (kind::BEGIN_REQUEST, _) if header.id == MANAGEMENT => {
                "BEGIN_REQUEST with request id 0"
            }
            (kind::BEGIN_REQUEST, _) if header.content != 8 => "BEGIN_REQUEST is not 8 bytes long",
            (kind::BEGIN_REQUEST, _) if ours => "BEGIN_REQUEST for the request that goes on",
            (kind::GET_VALUES, _) if header.id == MANAGEMENT && header.content > MAX_GET_VALUES => {
                "GET_VALUES is too long"
            }
            (kind::PARAMS, Phase::Body | Phase::Answering) if ours => {
                "PARAMS after the end of the parameters"
            }
            (kind::STDIN, Phase::Params) if ours => "STDIN before the end of the parameters",
            (kind::STDIN, Phase::Answering) if ours && header.content > 0 => "STDIN after its end",
            (kind::PARAMS, Phase::Params)
                if ours && self.params.len() + usize::from(header.content) > self.limits.params =>
            {
                "the parameters are too large"
            }
            _ => return Ok(()),
        };
        Err(Error::Malformed(complaint))
    }

    /// Whether a record is for a request that is not known here.
    fn is_skipped(&self, record: Header) -> bool {
        match record.kind {
            kind::BEGIN_REQUEST => false,
            _ if record.id == MANAGEMENT => false,
            _ => self.phase == Phase::Idle || record.id != self.head.id,
        }
    }

    /// `range` is content of `record`; `complete` tells that it is the last of it.
    fn content(
        &mut self,
        record: Header,
        range: Range<usize>,
        complete: bool,
    ) -> Result<Option<Event>, Error> {
        if self.is_skipped(record) {
            return Ok(None);
        }
        match record.kind {
            kind::BEGIN_REQUEST => Ok(self.begin(record.id, range)),
            kind::GET_VALUES if record.id == MANAGEMENT => Ok(Some(self.get_values(range))),
            unknown if record.id == MANAGEMENT => Ok(complete.then(|| Event::Reply {
                records: record::unknown_type(unknown).to_vec(),
                close: false,
            })),
            kind::ABORT_REQUEST => Ok(complete.then_some(Event::Abort)),
            kind::PARAMS if record.content == 0 => {
                self.params
                    .check(self.limits.pairs, self.limits.name)
                    .map_err(Error::Malformed)?;
                self.phase = Phase::Body;
                Ok(Some(Event::Request))
            }
            kind::PARAMS => {
                self.params.extend(&self.buffer[range]);
                Ok(None)
            }
            kind::STDIN if self.phase != Phase::Body => Ok(None),
            kind::STDIN if record.content == 0 => {
                self.phase = Phase::Answering;
                Ok(Some(Event::BodyEnd))
            }
            kind::STDIN => Ok(Some(Event::Body(range))),
            // FCGI_DATA, which only filters are sent, and types to come.
            _ => Ok(None),
        }
    }

    fn begin(&mut self, id: u16, range: Range<usize>) -> Option<Event> {
        let body = &self.buffer[range];
        let role = u16::from_be_bytes([body[0], body[1]]);
        let keep = body[2] & KEEP_CONNECTION != 0;
        let refusal = match self.phase {
            Phase::Idle if role == RESPONDER => {
                self.head = Head { id, role, keep };
                self.params.clear();
                self.phase = Phase::Params;
                return None;
            }
            Phase::Idle => ProtocolStatus::UnknownRole,
            _ => ProtocolStatus::CannotMultiplex,
        };
        let close = self.phase == Phase::Idle && !keep;
        Some(Event::Reply {
            records: record::end_request(id, 0, refusal).to_vec(),
            close,
        })
    }

    /// Answers the names that are known (specification, 4.1).
    fn get_values(&self, range: Range<usize>) -> Event {
        let mut rest = &self.buffer[range];
        let mut content = Vec::new();
        let capacity = self.capacity.to_string();
        while let Some((name, _, after)) = pairs::split_first(rest) {
            match name {
                b"FCGI_MAX_CONNS" | b"FCGI_MAX_REQS" => {
                    pairs::encode(&mut content, name, capacity.as_bytes())
                }
                b"FCGI_MPXS_CONNS" => pairs::encode(&mut content, name, b"0"),
                _ => {}
            }
            rest = after;
        }
        // A name asked for twice is answered twice; MAX_GET_VALUES bounds that far below a record's limit.
        let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
        let mut records = record::header(kind::GET_VALUES_RESULT, MANAGEMENT, length).to_vec();
        records.extend_from_slice(&content);
        Event::Reply {
            records,
            close: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Eq, Default)]
    struct Seen {
        requests: Vec<(Head, Vec<u8>)>,
        body: Vec<u8>,
        ends: u32,
        aborts: u32,
        replies: Vec<u8>,
        error: Option<Error>,
    }

    fn record(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
        let header = Header {
            version: 1,
            kind,
            id,
            content: u16::try_from(content.len()).unwrap(),
            padding,
        };
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(content);
        bytes.extend(std::iter::repeat_n(0xee, usize::from(padding)));
        bytes
    }

    fn begin(id: u16, flags: u8) -> Vec<u8> {
        record(kind::BEGIN_REQUEST, id, &[0, 1, flags, 0, 0, 0, 0, 0], 0)
    }

    /// Feeds `bytes` in pieces of the given sizes, over and over.
    fn feed(bytes: &[u8], sizes: &[usize]) -> Seen {
        let mut receiver = Receiver::new(Limits::default(), 5);
        let mut seen = Seen::default();
        let mut at = 0;
        for size in sizes.iter().cycle() {
            loop {
                match receiver.next() {
                    Ok(None) => break,
                    Ok(Some(Event::Request)) => seen
                        .requests
                        .push((receiver.head(), receiver.params().as_bytes().to_vec())),
                    Ok(Some(Event::Body(range))) => {
                        seen.body.extend_from_slice(receiver.bytes(range))
                    }
                    Ok(Some(Event::BodyEnd)) => {
                        seen.ends += 1;
                        receiver.finish();
                    }
                    Ok(Some(Event::Abort)) => seen.aborts += 1,
                    Ok(Some(Event::Reply { records, .. })) => seen.replies.extend(records),
                    Err(error) => {
                        seen.error = Some(error);
                        return seen;
                    }
                }
            }
            if at == bytes.len() {
                return seen;
            }
            let space = receiver.space();
            assert!(!space.is_empty());
            let count = (*size).min(space.len()).min(bytes.len() - at);
            space[..count].copy_from_slice(&bytes[at..at + count]);
            receiver.filled(count);
            at += count;
        }
        seen
    }

    fn request(id: u16, params: &[u8], body: &[u8], cut: usize, padding: u8) -> Vec<u8> {
        let mut bytes = begin(id, 1);
        for part in params.chunks(cut) {
            bytes.extend(record(kind::PARAMS, id, part, padding));
        }
        bytes.extend(record(kind::PARAMS, id, b"", 0));
        for part in body.chunks(cut) {
            bytes.extend(record(kind::STDIN, id, part, padding));
        }
        bytes.extend(record(kind::STDIN, id, b"", padding));
        bytes
    }

    #[test]
    fn a_request_is_assembled() {
        let mut params = Vec::new();
        pairs::encode(&mut params, b"REQUEST_METHOD", b"GET");
        let seen = feed(&request(1, &params, b"body", 3, 5), &[usize::MAX]);
        assert_eq!(
            seen.requests,
            [(
                Head {
                    id: 1,
                    role: 1,
                    keep: true
                },
                params
            )]
        );
        assert_eq!(
            (seen.body.as_slice(), seen.ends, seen.error),
            (&b"body"[..], 1, None)
        );
    }

    #[test]
    fn get_values_and_unknown_types_are_answered() {
        let mut names = Vec::new();
        for name in [&b"FCGI_MPXS_CONNS"[..], b"FCGI_MAX_REQS", b"OTHER"] {
            pairs::encode(&mut names, name, b"");
        }
        let mut bytes = record(kind::GET_VALUES, 0, &names, 3);
        bytes.extend(record(77, 0, b"what", 0));
        let seen = feed(&bytes, &[7]);
        let mut expected = Vec::new();
        pairs::encode(&mut expected, b"FCGI_MPXS_CONNS", b"0");
        pairs::encode(&mut expected, b"FCGI_MAX_REQS", b"5");
        let mut expected = record(kind::GET_VALUES_RESULT, 0, &expected, 0);
        expected.extend(record::unknown_type(77));
        assert_eq!(seen.replies, expected);
    }

    #[test]
    fn a_second_request_is_refused_and_skipped() {
        let mut bytes = begin(1, 1);
        bytes.extend(begin(2, 1));
        bytes.extend(record(kind::PARAMS, 2, b"\x01\x01A", 0));
        bytes.extend(record(kind::PARAMS, 1, b"", 0));
        bytes.extend(record(kind::STDIN, 2, b"other", 0));
        bytes.extend(record(kind::STDIN, 1, b"", 0));
        let seen = feed(&bytes, &[1000]);
        assert_eq!(
            seen.replies,
            record::end_request(2, 0, ProtocolStatus::CannotMultiplex)
        );
        assert_eq!(
            (seen.requests.len(), seen.body.len(), seen.ends, seen.error),
            (1, 0, 1, None)
        );
    }

    #[test]
    fn another_role_is_refused() {
        let seen = feed(
            &record(kind::BEGIN_REQUEST, 9, &[0, 2, 0, 0, 0, 0, 0, 0], 0),
            &[1],
        );
        assert_eq!(
            seen.replies,
            record::end_request(9, 0, ProtocolStatus::UnknownRole)
        );
    }

    #[test]
    fn nonsense_is_an_error() {
        let after = |more: Vec<u8>| [begin(1, 0), more].concat();
        let body = |more: Vec<u8>| [begin(1, 0), record(kind::PARAMS, 1, b"", 0), more].concat();
        let cases = [
            vec![2, 1, 0, 1, 0, 8, 0, 0],
            b"GET / HTTP/1.0\r\n\r\n".to_vec(),
            record(kind::BEGIN_REQUEST, 0, &[0; 8], 0),
            record(kind::BEGIN_REQUEST, 1, &[0], 0),
            record(kind::GET_VALUES, 0, &[0; 1025], 0),
            after(begin(1, 0)),
            after(record(kind::STDIN, 1, b"x", 0)),
            body(record(kind::PARAMS, 1, b"\0\0", 0)),
            body([record(kind::STDIN, 1, b"", 0), begin(1, 0)].concat()),
            after(
                [
                    record(kind::PARAMS, 1, b"\x05\x01A", 0),
                    record(kind::PARAMS, 1, b"", 0),
                ]
                .concat(),
            ),
            after(record(kind::PARAMS, 1, &[0; 65535], 0).repeat(5)),
            after(
                [
                    record(kind::PARAMS, 1, &[0; 2050], 0),
                    record(kind::PARAMS, 1, b"", 0),
                ]
                .concat(),
            ),
        ];
        for (number, case) in cases.iter().enumerate() {
            // The one that repeats the BEGIN after the end has been finished by `feed`, and so is a new request.
            let expect_error = number != 8;
            assert_eq!(
                feed(case, &[usize::MAX]).error.is_some(),
                expect_error,
                "case {number}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_requests(
            params in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), prop::collection::vec(any::<u8>(), 0..300)), 0..20),
            body in prop::collection::vec(any::<u8>(), 0..3000),
            cut in 1_usize..500,
            padding: u8,
            sizes in prop::collection::vec(1_usize..200, 1..20),
        ) {
            let mut pairs = Vec::new();
            for (name, value) in &params {
                pairs::encode(&mut pairs, name, value);
            }
            let mut bytes = request(1, &pairs, &body, cut, padding);
            bytes.extend(request(7, &pairs, b"second", cut, 0));
            let seen = feed(&bytes, &sizes);
            prop_assert_eq!(&seen, &feed(&bytes, &[usize::MAX]));
            prop_assert_eq!(seen.error, None);
            prop_assert_eq!(seen.requests.len(), 2);
            prop_assert_eq!(&seen.requests[0].1, &pairs);
            let mut expected = body.clone();
            expected.extend_from_slice(b"second");
            prop_assert_eq!(seen.body, expected);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(4), Just(8), any::<u8>()], 0..4000), sizes in prop::collection::vec(1_usize..300, 1..5)) {
            feed(&bytes, &sizes);
        }
    }
}
