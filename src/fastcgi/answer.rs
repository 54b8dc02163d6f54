//! Reads what a program answers: the client side of a connection, on its way in. Bytes in, events out.
//!
//! The caller reads from the socket into [`Answer::space`], tells how much came, and takes events until there is none.
//! A program is not believed: a record of another version, of a type that no program sends, for a request that was not
//! asked, or after the end of its stream is an error, after which the connection must be closed. What comes after the
//! end of the request is no error of that request; [`Answer::is_clean`] tells whether the connection can be kept.

use crate::intake::Intake;
use crate::record::{Header, MANAGEMENT, ProtocolStatus, VERSION, kind};
use crate::request::ID;
use std::ops::Range;
use thiserror::Error;

/// Bytes read at once: a record of the largest size that programs are known to write (32 KiB) with its header, twice.
const BUFFER: usize = 64 * 1024;

/// Why a program's answer makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// A record of a version other than 1.
    #[error("a record of protocol version {0} instead of 1")]
    Version(u8),
    /// A record of a type that programs do not send.
    #[error("a record of type {0}, which no program sends")]
    Type(u8),
    /// A record for another request.
    #[error("a record for request {0} instead of {ID}")]
    Request(u16),
    /// Content after the empty record that ends its stream.
    #[error("more of a stream after its end")]
    AfterEnd,
    /// An END_REQUEST that cannot be read.
    #[error(
        "an END_REQUEST of {content} bytes with protocol status {status} instead of 8 bytes and a status up to 3"
    )]
    End {
        /// Its length.
        content: u16,
        /// Its protocol status; 0 if its length is wrong already.
        status: u8,
    },
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A piece of standard output; see [`Answer::bytes`].
    Stdout(Range<usize>),
    /// A piece of standard error.
    Stderr(Range<usize>),
    /// The end of the request.
    End {
        /// The program's own status, 0 for success (`appStatus`).
        application: u32,
        /// How it ended on the level of the protocol.
        protocol: ProtocolStatus,
    },
}

/// The reader of one connection's answers.
#[derive(Debug)]
pub struct Answer {
    intake: Intake,
    /// Whether anything has come.
    begun: bool,
    /// The streams that have ended: standard output, standard error.
    closed: [bool; 2],
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            intake: Intake::new(BUFFER),
            begun: false,
            closed: [false; 2],
        }
    }
}

impl Answer {
    /// A request has been sent on a new connection, or on one that [`Self::is_clean`].
    pub fn begin(&mut self) {
        self.intake.reset();
        self.begun = false;
        self.closed = [false; 2];
    }

    /// Where to read to; never empty once [`Self::next`] has returned None.
    pub fn space(&mut self) -> &mut [u8] {
        self.intake.space()
    }

    /// Tells that `count` bytes were read to [`Self::space`].
    pub fn filled(&mut self, count: usize) {
        self.begun |= count > 0;
        self.intake.filled(count);
    }

    /// The bytes of an event; valid until the next call of [`Self::space`].
    #[must_use]
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.intake.bytes(range)
    }

    /// Whether any byte of an answer has come.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// After [`Event::End`]: whether nothing that nobody asked for has come behind it.
    #[must_use]
    pub fn is_clean(&mut self) -> bool {
        self.intake.is_exhausted()
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
            let Some(record) = self.intake.current() else {
                let Some(header) = self.intake.peek() else {
                    return Ok(None);
                };
                self.check(header)?;
                self.intake.enter(header);
                continue;
            };
            let Some((range, _)) = self.intake.take(record.kind == kind::END_REQUEST) else {
                return Ok(None);
            };
            match record.kind {
                // Whatever it says of itself, nobody has asked.
                _ if record.id == MANAGEMENT => {}
                kind::END_REQUEST => return Ok(Some(self.end_of_request(range)?)),
                stream => {
                    let is_error = stream == kind::STDERR;
                    if record.content == 0 {
                        self.closed[usize::from(is_error)] = true;
                    } else if is_error {
                        return Ok(Some(Event::Stderr(range)));
                    } else {
                        return Ok(Some(Event::Stdout(range)));
                    }
                }
            }
        }
    }

    fn end_of_request(&self, range: Range<usize>) -> Result<Event, Error> {
        let &[a, b, c, d, status, ..] = self.intake.bytes(range) else {
            unreachable!("the length was checked with the header");
        };
        let content = 8;
        let protocol = ProtocolStatus::of(status).ok_or(Error::End { content, status })?;
        Ok(Event::End {
            application: u32::from_be_bytes([a, b, c, d]),
            protocol,
        })
    }

    /// What can be said against a record from its header alone.
    fn check(&self, header: Header) -> Result<(), Error> {
        let [stdout, stderr] = self.closed;
        match header.kind {
            _ if header.version != VERSION => Err(Error::Version(header.version)),
            kind::GET_VALUES_RESULT | kind::UNKNOWN_TYPE if header.id == MANAGEMENT => Ok(()),
            kind::STDOUT | kind::STDERR | kind::END_REQUEST if header.id != ID => {
                Err(Error::Request(header.id))
            }
            kind::STDOUT if stdout && header.content > 0 => Err(Error::AfterEnd),
            kind::STDERR if stderr && header.content > 0 => Err(Error::AfterEnd),
            kind::END_REQUEST if header.content != 8 => Err(Error::End {
                content: header.content,
                status: 0,
            }),
            kind::STDOUT | kind::STDERR | kind::END_REQUEST => Ok(()),
            other => Err(Error::Type(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{end_request, header};

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        padded(kind, content, 0)
    }

    fn padded(kind: u8, content: &[u8], padding: u8) -> Vec<u8> {
        let mut bytes = header(kind, ID, content.len().try_into().unwrap()).to_vec();
        bytes[6] = padding;
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len() + usize::from(padding), b'#');
        bytes
    }

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Read {
        stdout: Vec<u8>,
        stderr: Vec<u8>,
        end: Option<(u32, ProtocolStatus)>,
        clean: bool,
    }

    /// What comes out when `bytes` come in pieces of `piece`.
    fn read(mut bytes: &[u8], piece: usize) -> Result<Read, Error> {
        let mut answer = Answer::default();
        answer.begin();
        let mut read = Read::default();
        loop {
            match answer.next()? {
                Some(Event::Stdout(range)) => read.stdout.extend_from_slice(answer.bytes(range)),
                Some(Event::Stderr(range)) => read.stderr.extend_from_slice(answer.bytes(range)),
                Some(Event::End {
                    application,
                    protocol,
                }) => {
                    read.end = Some((application, protocol));
                    // What lies in the socket counts as well.
                    read.clean = answer.is_clean() && bytes.is_empty();
                    return Ok(read);
                }
                None if bytes.is_empty() => return Ok(read),
                None => {
                    let space = answer.space();
                    let count = space.len().min(bytes.len()).min(piece);
                    space[..count].copy_from_slice(&bytes[..count]);
                    answer.filled(count);
                    bytes = &bytes[count..];
                }
            }
        }
    }

    #[test]
    fn an_answer_is_the_same_however_it_is_cut() {
        let large: Vec<u8> = (0..65_535_u32).map(|at| at.to_le_bytes()[0]).collect();
        let mut bytes = Vec::new();
        bytes.extend(header(kind::GET_VALUES_RESULT, MANAGEMENT, 0));
        bytes.extend(padded(kind::STDOUT, b"Status: 200\r\n\r\n", 255));
        bytes.extend(padded(kind::STDERR, b"careful", 1));
        bytes.extend(padded(kind::STDOUT, &large, 7));
        bytes.extend(record(kind::STDERR, b""));
        bytes.extend(record(kind::STDOUT, b""));
        bytes.extend(record(kind::STDOUT, b""));
        bytes.extend(end_request(ID, 9, ProtocolStatus::Complete));
        for piece in [1, 7, 8, 9, 4096, usize::MAX] {
            let read = read(&bytes, piece).unwrap();
            assert_eq!(read.stdout.len(), 15 + large.len(), "{piece}");
            assert!(read.stdout.ends_with(&large));
            assert_eq!(read.stderr, b"careful");
            assert_eq!(read.end, Some((9, ProtocolStatus::Complete)));
        }
        assert!(read(&bytes, 4096).unwrap().clean);
        bytes.push(1);
        assert!(!read(&bytes, 4096).unwrap().clean);
    }

    #[test]
    fn nonsense_is_an_error() {
        let after = |stream| [record(stream, b""), record(stream, b"x")].concat();
        let mut bad_status = end_request(ID, 0, ProtocolStatus::Complete).to_vec();
        bad_status[12] = 4;
        let table: &[(Vec<u8>, Error)] = &[
            (b"HTTP/1.1 200 OK\r\n".to_vec(), Error::Version(b'H')),
            (record(99, b""), Error::Type(99)),
            (record(kind::STDIN, b"x"), Error::Type(kind::STDIN)),
            (
                record(kind::UNKNOWN_TYPE, b"x"),
                Error::Type(kind::UNKNOWN_TYPE),
            ),
            (header(kind::STDOUT, 2, 5).to_vec(), Error::Request(2)),
            (header(kind::STDOUT, 0, 5).to_vec(), Error::Request(0)),
            (after(kind::STDOUT), Error::AfterEnd),
            (after(kind::STDERR), Error::AfterEnd),
            (
                record(kind::END_REQUEST, b"short"),
                Error::End {
                    content: 5,
                    status: 0,
                },
            ),
            (
                bad_status,
                Error::End {
                    content: 8,
                    status: 4,
                },
            ),
        ];
        for (bytes, error) in table {
            for piece in [1, usize::MAX] {
                assert_eq!(read(bytes, piece), Err(*error), "{bytes:?}");
            }
        }
    }
}
