//! What stands between the network and tokio-fastcgi: only whole, checked and small requests reach it.
//!
//! That library keeps a request's whole body in memory, without a bound; allocates what a length in a parameter says;
//! takes a parameter that spans two records for a mistake; and panics at a BEGIN_REQUEST that is too short. So requests
//! are assembled here, by the same receiver that workers use, within bounds on their bytes and on their time, and each is
//! handed on in the plainest form there is, without its body, which no page wants.

use preforkd_fastcgi::receiver::{Event, Head, Limits, Receiver};
use preforkd_fastcgi::record::{self, KEEP_CONNECTION, RESPONDER, kind};
use preforkd_worker::exchange::{FIRST_BYTE, HEADER};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

/// How long a connection may be kept without a request.
const KEPT: Duration = Duration::from_secs(60);

/// Bytes of a body that a request for a page may have. Bodies are thrown away.
pub const BODY: usize = 64 * 1024;

/// What a web server sends with a request for a page; the parameters fit one record.
const LIMITS: Limits = Limits {
    params: 32 * 1024,
    pairs: 512,
    name: 1024,
};

/// A request.
#[derive(Debug)]
pub struct Taken {
    /// The request as records.
    pub records: Vec<u8>,
    /// Whether the connection is to be kept after it.
    pub keep: bool,
}

/// Requests of one connection.
#[derive(Debug)]
pub struct Intake<R> {
    reader: R,
    receiver: Receiver,
    body: usize,
    span: Duration,
}

impl<R: AsyncRead + Unpin> Intake<R> {
    /// Of what comes from `reader`, with bodies of at most `body` bytes; `capacity` is told to a web server that asks how
    /// many connections there may be.
    pub fn new(reader: R, capacity: u32, body: usize) -> Self {
        Self {
            reader,
            receiver: Receiver::new(LIMITS, capacity),
            body,
            span: FIRST_BYTE,
        }
    }

    /// Whether nothing has come of what is behind the last request.
    pub fn is_idle(&self) -> bool {
        self.receiver.is_idle()
    }

    /// Waits for the next request. What concerns no request is answered over `writer`. None when there will be no further
    /// one.
    ///
    /// # Errors
    /// The connection is of no more use: it failed, was too slow, broke the protocol, or asked for too much.
    pub async fn next(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<Option<Taken>> {
        let mut deadline = Instant::now() + self.span;
        let mut is_header = !self.receiver.is_idle();
        let mut body = 0;
        self.span = KEPT;
        loop {
            match self.receiver.next().map_err(io::Error::other)? {
                Some(Event::Request) => {}
                Some(Event::Body(piece)) => {
                    body += piece.len();
                    if body > self.body {
                        return Err(io::ErrorKind::FileTooLarge.into());
                    }
                }
                Some(Event::BodyEnd) => {
                    let head = self.receiver.head();
                    let taken = Taken {
                        records: plain(head, self.receiver.params().as_bytes()),
                        keep: head.keep,
                    };
                    self.receiver.finish();
                    return Ok(Some(taken));
                }
                Some(Event::Abort) => return Ok(None),
                Some(Event::Reply { records, close }) => {
                    timeout_at(deadline, writer.write_all(&records)).await??;
                    timeout_at(deadline, writer.flush()).await??;
                    if close {
                        return Ok(None);
                    }
                }
                None => {
                    let received = self.reader.read(self.receiver.space());
                    let count = timeout_at(deadline, received).await??;
                    if count == 0 {
                        return Ok(None);
                    }
                    self.receiver.filled(count);
                    if !is_header {
                        is_header = true;
                        deadline = Instant::now() + HEADER;
                    }
                }
            }
        }
    }
}

/// A request without a body, in as few records as can be.
fn plain(head: Head, params: &[u8]) -> Vec<u8> {
    let [role_high, role_low] = RESPONDER.to_be_bytes();
    let flags = if head.keep { KEEP_CONNECTION } else { 0 };
    let begin = [role_high, role_low, flags, 0, 0, 0, 0, 0];
    let mut records = Vec::with_capacity(64 + params.len());
    let contents: [(u8, &[u8]); 4] = [
        (kind::BEGIN_REQUEST, &begin),
        (kind::PARAMS, params),
        (kind::PARAMS, &[]),
        (kind::STDIN, &[]),
    ];
    for (index, (kind, content)) in contents.into_iter().enumerate() {
        if index == 1 && content.is_empty() {
            continue;
        }
        let length = u16::try_from(content.len()).expect("the limit of parameters fits a record");
        records.extend_from_slice(&record::header(kind, head.id, length));
        records.extend_from_slice(content);
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use preforkd_fastcgi::pairs;

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap();
        [&record::header(kind, 7, length)[..], content].concat()
    }

    fn begin() -> Vec<u8> {
        record(kind::BEGIN_REQUEST, &[0, 1, 1, 0, 0, 0, 0, 0])
    }

    /// What comes out of `bytes`, all of it, and whether it ended well.
    fn taken(bytes: &[u8]) -> (Vec<Vec<u8>>, bool) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut intake = Intake::new(bytes, 4, BODY);
            let mut requests = Vec::new();
            loop {
                match intake.next(&mut tokio::io::sink()).await {
                    Ok(Some(taken)) => requests.push(taken.records),
                    Ok(None) => return (requests, true),
                    Err(_) => return (requests, false),
                }
            }
        })
    }

    #[test]
    fn a_request_comes_out_plain_however_it_was_cut() {
        let mut params = Vec::new();
        pairs::encode(&mut params, b"SCRIPT_NAME", b"/status");
        pairs::encode(&mut params, b"QUERY_STRING", b"json");
        let mut sent = begin();
        for piece in params.chunks(3) {
            sent.extend(record(kind::PARAMS, piece));
        }
        sent.extend(record(kind::PARAMS, b""));
        sent.extend(record(kind::STDIN, b"a body"));
        sent.extend(record(kind::STDIN, b""));
        let expected = [
            begin(),
            record(kind::PARAMS, &params),
            record(kind::PARAMS, b""),
            record(kind::STDIN, b""),
        ]
        .concat();
        let twice = [sent.clone(), sent].concat();
        assert_eq!(taken(&twice), (vec![expected.clone(), expected], true));
    }

    #[test]
    fn what_is_too_much_or_nonsense_ends_the_connection() {
        let short = record(kind::BEGIN_REQUEST, &[0]);
        let lies = [
            begin(),
            record(kind::PARAMS, &[0xff, 0xff, 0xff, 0xff, 1, b'A']),
            record(kind::PARAMS, b""),
        ]
        .concat();
        let params = [begin(), record(kind::PARAMS, &[0; 33 * 1024])].concat();
        let mut body = [begin(), record(kind::PARAMS, b"")].concat();
        for _ in 0..2 {
            body.extend(record(kind::STDIN, &[0; 40 * 1024]));
        }
        for bytes in [short, lies, params, body, vec![9; 8]] {
            assert_eq!(taken(&bytes), (vec![], false));
        }
    }

    #[test]
    fn without_parameters_there_is_no_empty_record_too_many() {
        let sent = [begin(), record(kind::PARAMS, b""), record(kind::STDIN, b"")].concat();
        assert_eq!(taken(&sent), (vec![sent], true));
    }
}
