//! The server side of a connection: bytes in, events out.
//!
//! One request at a time: `Idle → Params → Body → Answering → Idle`, or, given up, `Aborted → Idle`. The caller reads
//! from the socket into [`Receiver::space`], tells how much came, and takes events until there is none. Whatever the
//! split of the bytes, the events are the same, but for how the body is cut.
//!
//! Rules: a record of another version, a BEGIN of the wrong length or for the id in use, a stream out of order and
//! parameters over the [`Limits`] are errors, after which the connection must be closed. A BEGIN for another id while a
//! request goes on is answered with `CANT_MPX_CONN`; what follows for that id is skipped, as is everything for ids that
//! are not known. Management records are answered at any time.

use crate::intake::Intake;
use crate::pairs::{self, Params};
use crate::record::{
    self, AUTHORIZER, FILTER, Header, KEEP_CONNECTION, MANAGEMENT, ProtocolStatus, RESPONDER,
    VERSION, kind,
};
use crate::request::ID;
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
    /// A piece of the body; see [`Receiver::bytes`]. The body of a filter, which is two streams, comes as the records
    /// that carry them, with the id that a relay uses.
    Body(Range<usize>),
    /// The body is complete.
    BodyEnd,
    /// The web server gave the request up (`FCGI_ABORT_REQUEST`). Nothing else comes until [`Receiver::finish`].
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
    Aborted,
}

/// The assembler of one connection's requests.
#[derive(Debug)]
pub struct Receiver {
    limits: Limits,
    /// What `GET_VALUES` is told as `FCGI_MAX_CONNS` and `FCGI_MAX_REQS`.
    capacity: u32,
    /// Whether other roles than that of a responder are served.
    all_roles: bool,
    intake: Intake,
    phase: Phase,
    head: Head,
    params: Params,
}

impl Receiver {
    /// For connections of a pool of at most `capacity` workers.
    #[must_use]
    pub fn new(limits: Limits, capacity: u32) -> Self {
        Self {
            limits,
            capacity,
            all_roles: false,
            intake: Intake::new(BUFFER),
            phase: Phase::Idle,
            head: Head::default(),
            params: Params::default(),
        }
    }

    /// Takes requests for the other roles as well from now on: authorizer and filter.
    pub fn serve_all_roles(&mut self) {
        self.all_roles = true;
    }

    /// Forgets everything: a new connection begins.
    pub fn reset(&mut self) {
        self.intake.reset();
        self.phase = Phase::Idle;
    }

    /// Where to read to; never empty once [`Self::next`] has returned None.
    pub fn space(&mut self) -> &mut [u8] {
        self.intake.space()
    }

    /// Tells that `count` bytes were read to [`Self::space`].
    pub fn filled(&mut self, count: usize) {
        self.intake.filled(count);
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
        self.intake.bytes(range)
    }

    /// Whether nothing of a request, or of any other record, has come yet. The padding of the last one is nothing.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle && self.intake.is_idle()
    }

    /// Whether the request has been given up, or the next record after the body that has been read does so. Does not go
    /// on to what follows.
    pub fn is_aborted(&mut self) -> bool {
        if self.phase == Phase::Aborted {
            return true;
        }
        if self.phase != Phase::Answering || self.intake.current().is_some() {
            return false;
        }
        self.intake.peek().is_some_and(|header| {
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

    /// Whether all of the request has come, its padding too, and nothing behind it: who goes on with the connection
    /// begins with a header.
    pub fn is_exhausted(&mut self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Answering) && self.intake.is_exhausted()
    }

    /// The answer has been sent; to be called after [`Event::BodyEnd`] or [`Event::Abort`], before the next request on
    /// the connection.
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
        while self.phase != Phase::Aborted {
            let Some(record) = self.intake.current() else {
                let Some(header) = self.intake.peek() else {
                    return Ok(None);
                };
                self.check(header)?;
                let range = self.intake.enter(header);
                match self.pass_header(header, range) {
                    Some(event) => return Ok(Some(event)),
                    None => continue,
                }
            };
            // These are looked at whole; they are small.
            let whole = match record.kind {
                kind::BEGIN_REQUEST => true,
                kind::GET_VALUES => record.id == MANAGEMENT,
                _ => false,
            };
            let Some((range, complete)) = self.intake.take(whole) else {
                return Ok(None);
            };
            if let Some(event) = self.content(record, range, complete)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Of a filter's streams, the headers are passed on, too.
    fn pass_header(&mut self, record: Header, range: Range<usize>) -> Option<Event> {
        let is_stream = matches!(record.kind, kind::STDIN | kind::DATA);
        let is_ours = self.phase == Phase::Body && record.id == self.head.id;
        if self.head.role != FILTER || !is_ours || !is_stream {
            return None;
        }
        let header = record::header(record.kind, ID, record.content);
        self.intake
            .bytes_mut(range.clone())
            .copy_from_slice(&header);
        Some(Event::Body(range))
    }

    /// What can be said against a record from its header alone.
    fn check(&self, header: Header) -> Result<(), Error> {
        if header.version != VERSION {
            return Err(Error::Version(header.version));
        }
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
            kind::ABORT_REQUEST if complete => {
                self.phase = Phase::Aborted;
                Ok(Some(Event::Abort))
            }
            kind::ABORT_REQUEST => Ok(None),
            kind::PARAMS if record.content == 0 => {
                self.params
                    .check(self.limits.pairs, self.limits.name)
                    .map_err(Error::Malformed)?;
                self.phase = match self.head.role {
                    AUTHORIZER => Phase::Answering,
                    _ => Phase::Body,
                };
                Ok(Some(Event::Request))
            }
            kind::PARAMS => {
                self.params.extend(self.intake.bytes(range));
                Ok(None)
            }
            kind::STDIN | kind::DATA if self.phase != Phase::Body => Ok(None),
            kind::STDIN if record.content == 0 && self.head.role == FILTER => Ok(None),
            kind::DATA if self.head.role != FILTER => Ok(None),
            kind::STDIN | kind::DATA if record.content == 0 => {
                self.phase = Phase::Answering;
                Ok(Some(Event::BodyEnd))
            }
            kind::STDIN | kind::DATA => Ok(Some(Event::Body(range))),
            // Types to come.
            _ => Ok(None),
        }
    }

    fn begin(&mut self, id: u16, range: Range<usize>) -> Option<Event> {
        let body = self.intake.bytes(range);
        let role = u16::from_be_bytes([body[0], body[1]]);
        let keep = body[2] & KEEP_CONNECTION != 0;
        let refusal = match self.phase {
            Phase::Idle
                if role == RESPONDER || self.all_roles && matches!(role, AUTHORIZER | FILTER) =>
            {
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
        let mut rest = self.intake.bytes(range);
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
mod tests;
