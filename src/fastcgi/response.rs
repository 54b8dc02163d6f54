//! Frames an answer into records, in one buffer, so that a small answer leaves in one write.
//!
//! Bytes of standard output gather in an open record whose header is filled in when it is closed. The content of a record
//! may also lie somewhere else, as in a file: then what comes behind it waits until it has been sent from there.

use crate::record::{self, HEADER, ProtocolStatus, kind};

/// Content of the records that are written: whole pages, a multiple of 8, well below the limit of a record.
const CONTENT: usize = 32 * 1024;

/// The bytes of an answer on their way to the peer.
#[derive(Debug, Default)]
pub struct Response {
    id: u16,
    bytes: Vec<u8>,
    /// Bytes at the front that have been sent.
    sent: usize,
    /// Where the header of the open record lies.
    open: Option<usize>,
    /// Content of the last record before `cut` that is not here and has not been sent yet.
    owed: usize,
    /// Where the bytes end that come before that content.
    cut: usize,
}

impl Response {
    /// Starts the answer to request `id`. What was not sent yet of the one before is forgotten.
    pub fn begin(&mut self, id: u16) {
        self.bytes.clear();
        self.sent = 0;
        self.open = None;
        self.owed = 0;
        self.id = id;
    }

    /// Adds as much of `data` to standard output as keeps the unsent bytes near `room`, and tells how much it was:
    /// at least one byte, unless `room` is full.
    pub fn stdout(&mut self, data: &[u8], room: usize) -> usize {
        let mut taken = 0;
        while taken < data.len() && self.unsent().len() < room {
            let header = match self.open {
                Some(header) => header,
                None => {
                    let header = self.bytes.len();
                    self.bytes.extend_from_slice(&[0; HEADER]);
                    self.open = Some(header);
                    header
                }
            };
            let space = CONTENT - (self.bytes.len() - header - HEADER);
            let part = &data[taken..];
            let part = &part[..part.len().min(space).min(room)];
            self.bytes.extend_from_slice(part);
            taken += part.len();
            if part.len() == space {
                self.close();
            }
        }
        taken
    }

    /// Adds a record of standard output whose content, `length` bytes, is not here: the caller sends it when all that
    /// [`Self::take`] gives has been sent, and tells so with [`Self::paid`]. There must be none of the kind already.
    pub fn stdout_elsewhere(&mut self, length: u16) {
        self.close();
        self.header(kind::STDOUT, length.into());
        self.owed = length.into();
        self.cut = self.bytes.len();
    }

    /// Content that the caller has to send before anything else can be.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.owed
    }

    /// The caller has sent `count` bytes of what is [`Self::owed`].
    pub fn paid(&mut self, count: usize) {
        self.owed = self.owed.saturating_sub(count);
    }

    /// Adds `data` to standard error.
    pub fn stderr(&mut self, data: &[u8]) {
        self.close();
        for part in data.chunks(CONTENT) {
            self.header(kind::STDERR, part.len());
            self.bytes.extend_from_slice(part);
        }
    }

    /// Ends standard output and the request.
    pub fn end(&mut self, application: u32, protocol: ProtocolStatus) {
        self.close();
        self.header(kind::STDOUT, 0);
        let end = record::end_request(self.id, application, protocol);
        self.bytes.extend_from_slice(&end);
    }

    /// Adds whole records that answer something else than the request.
    pub fn records(&mut self, records: &[u8]) {
        self.close();
        self.bytes.extend_from_slice(records);
    }

    /// The bytes to send next. Closes the open record.
    pub fn take(&mut self) -> &[u8] {
        self.close();
        self.unsent()
    }

    /// Marks the first `count` bytes of [`Self::take`] as sent.
    pub fn sent(&mut self, count: usize) {
        self.sent += count;
        if self.sent >= self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
            self.cut = 0;
        }
    }

    /// How many bytes wait to be sent.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Whether the peer may have a part of a record, and takes what comes next for the rest of it.
    #[must_use]
    pub fn may_be_cut(&self) -> bool {
        self.sent > 0 || self.owed > 0
    }

    fn unsent(&self) -> &[u8] {
        let end = if self.owed > 0 {
            self.cut
        } else {
            self.bytes.len()
        };
        &self.bytes[self.sent..end]
    }

    fn close(&mut self) {
        if let Some(at) = self.open.take() {
            let content = self.bytes.len() - at - HEADER;
            let header = self.encode(kind::STDOUT, content);
            self.bytes[at..at + HEADER].copy_from_slice(&header);
        }
    }

    fn header(&mut self, kind: u8, content: usize) {
        let header = self.encode(kind, content);
        self.bytes.extend_from_slice(&header);
    }

    fn encode(&self, kind: u8, content: usize) -> [u8; HEADER] {
        record::header(
            kind,
            self.id,
            u16::try_from(content).expect("records are cut to CONTENT bytes"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Header;

    /// The records in `bytes` as (type, content).
    fn records(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut found = Vec::new();
        while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() {
            let header = Header::decode(header);
            assert_eq!((header.version, header.id), (1, 3));
            let (content, rest) = rest.split_at(usize::from(header.content));
            found.push((header.kind, content.to_vec()));
            bytes = &rest[usize::from(header.padding)..];
        }
        assert!(bytes.is_empty());
        found
    }

    #[test]
    fn a_small_answer_is_one_run_of_bytes() {
        let mut response = Response::default();
        response.begin(3);
        assert_eq!(response.stdout(b"Status: 200 OK\r\n\r\n", 100), 18);
        assert_eq!(response.stdout(b"hello", 100), 5);
        response.end(0, ProtocolStatus::Complete);
        let found = records(response.take());
        assert_eq!(
            found[0],
            (kind::STDOUT, b"Status: 200 OK\r\n\r\nhello".to_vec())
        );
        assert_eq!(found[1], (kind::STDOUT, Vec::new()));
        assert_eq!((found[2].0, found.len()), (kind::END_REQUEST, 3));
    }

    #[test]
    fn a_large_answer_is_cut_to_the_room_and_to_records() {
        let mut response = Response::default();
        response.begin(3);
        let data: Vec<u8> = (0..100_000_u32).map(|byte| byte.to_le_bytes()[0]).collect();
        let mut out = Vec::new();
        let mut given = 0;
        while given < data.len() {
            given += response.stdout(&data[given..], 50_000);
            let bytes = response.take().to_vec();
            assert!(bytes.len() <= 50_000 + 50_000);
            response.sent(bytes.len());
            out.extend(bytes);
        }
        let joined: Vec<u8> = records(&out)
            .into_iter()
            .flat_map(|record| record.1)
            .collect();
        assert_eq!(joined, data);
    }

    #[test]
    fn nothing_comes_between_a_header_and_its_content() {
        for first in [5, 8] {
            let mut response = Response::default();
            response.begin(3);
            response.stdout_elsewhere(4);
            let mut sent = response.take()[..first].to_vec();
            response.sent(first);
            assert!(response.may_be_cut());
            response.records(b"records");
            sent.extend(response.take());
            response.sent(8 - first);
            for left in [4, 1] {
                assert_eq!((response.owed(), response.take()), (left, &b""[..]));
                assert!(response.pending() > 0);
                sent.extend(&b"file"[4 - left..][..3.min(left)]);
                response.paid(3.min(left));
            }
            sent.extend(response.take());
            assert_eq!(sent, b"\x01\x06\0\x03\0\x04\0\0filerecords");
        }
    }

    #[test]
    fn what_was_sent_in_part_goes_on_where_it_stopped() {
        let mut response = Response::default();
        response.begin(3);
        response.stdout(b"abc", 100);
        let whole = response.take().to_vec();
        response.sent(5);
        response.records(b"records");
        assert_eq!(response.take()[..whole.len() - 5], whole[5..]);
        assert_eq!(response.pending(), whole.len() - 5 + b"records".len());
    }
}
