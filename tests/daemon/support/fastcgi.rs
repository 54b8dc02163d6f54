//! A FastCGI client with a hand on every byte.
//!
//! It shares no code with the project: what is wrong in the project's own encoder must not be wrong here in the same way.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use super::wait::PATIENCE;

pub const BEGIN_REQUEST: u8 = 1;
pub const ABORT_REQUEST: u8 = 2;
pub const END_REQUEST: u8 = 3;
pub const PARAMS: u8 = 4;
pub const STDIN: u8 = 5;
pub const STDOUT: u8 = 6;
pub const STDERR: u8 = 7;
pub const DATA: u8 = 8;
pub const GET_VALUES: u8 = 9;
pub const GET_VALUES_RESULT: u8 = 10;
pub const UNKNOWN_TYPE: u8 = 11;

pub const RESPONDER: u16 = 1;
pub const KEEP_CONN: u8 = 1;

/// Where a pool listens.
#[derive(Clone, Debug)]
pub enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl Address {
    /// Opens a connection whose reads and writes give up after [`PATIENCE`].
    pub fn connect(&self) -> io::Result<Connection> {
        let stream = match self {
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
            Address::Tcp(address) => Stream::Tcp(TcpStream::connect(address)?),
        };
        let connection = Connection { stream };
        connection.set_timeout(PATIENCE);
        Ok(connection)
    }

    /// Asks for a page on a connection of its own.
    pub fn get(&self, path: &str) -> io::Result<Answer> {
        self.ask(&Request::get(path))
    }

    /// Sends a request on a connection of its own and reads the answer.
    pub fn ask(&self, request: &Request) -> io::Result<Answer> {
        let mut connection = self.connect()?;
        connection.send(&request.bytes(1, 0))?;
        connection.answer()
    }

    /// The pid in the answer to `/pid`.
    #[track_caller]
    pub fn worker_pid(&self) -> i32 {
        let answer = self.get("/pid").expect("the pool answers");
        answer.text().trim().parse().expect("the page is a pid")
    }
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A connection to a pool.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
}

impl Connection {
    /// Sets how long each read and write may take.
    pub fn set_timeout(&self, timeout: Duration) {
        let done = match &self.stream {
            Stream::Unix(stream) => stream
                .set_read_timeout(Some(timeout))
                .and(stream.set_write_timeout(Some(timeout))),
            Stream::Tcp(stream) => stream
                .set_read_timeout(Some(timeout))
                .and(stream.set_write_timeout(Some(timeout))),
        };
        done.expect("a timeout can be set");
    }

    /// Sends bytes, whatever they mean.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Unix(stream) => stream.write_all(bytes),
            Stream::Tcp(stream) => stream.write_all(bytes),
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Unix(stream) => stream.read_exact(bytes),
            Stream::Tcp(stream) => stream.read_exact(bytes),
        }
    }

    /// Reads one record.
    pub fn record(&mut self) -> io::Result<Record> {
        let mut header = [0; 8];
        self.read_exact(&mut header)?;
        let mut content = vec![0; usize::from(u16::from_be_bytes([header[4], header[5]]))];
        self.read_exact(&mut content)?;
        let mut padding = vec![0; usize::from(header[6])];
        self.read_exact(&mut padding)?;
        if header[0] != 1 {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("a record of version {}", header[0]),
            ));
        }
        Ok(Record {
            kind: header[1],
            id: u16::from_be_bytes([header[2], header[3]]),
            content,
        })
    }

    /// Reads records up to the end of a request.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut answer = Answer::default();
        let mut stdout = Vec::new();
        loop {
            let record = self.record()?;
            answer.id = record.id;
            match record.kind {
                STDOUT => stdout.extend(record.content),
                STDERR => answer.stderr.extend(record.content),
                END_REQUEST => {
                    let [a, b, c, d, protocol_status, ..] = record.content[..] else {
                        return Err(io::Error::new(
                            ErrorKind::InvalidData,
                            "an END_REQUEST that is too short",
                        ));
                    };
                    answer.application_status = u32::from_be_bytes([a, b, c, d]);
                    answer.protocol_status = protocol_status;
                    answer.take_head(stdout)?;
                    return Ok(answer);
                }
                kind => {
                    return Err(io::Error::new(
                        ErrorKind::InvalidData,
                        format!("a record of type {kind} in an answer"),
                    ));
                }
            }
        }
    }

    /// Whether the peer has neither sent anything that was not read, nor closed the connection.
    pub fn is_open(&self) -> bool {
        let fd = match &self.stream {
            Stream::Unix(stream) => stream.as_raw_fd(),
            Stream::Tcp(stream) => stream.as_raw_fd(),
        };
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(fd, &mut [0], flags) == Err(Errno::EAGAIN)
    }

    /// Reads to the end of the connection.
    ///
    /// # Errors
    /// When bytes come instead, or nothing at all within the timeout. A reset is an end too.
    pub fn expect_end(&mut self) -> io::Result<()> {
        let mut byte = [0];
        let read = match &mut self.stream {
            Stream::Unix(stream) => stream.read(&mut byte),
            Stream::Tcp(stream) => stream.read(&mut byte),
        };
        match read {
            Ok(0) => Ok(()),
            Ok(_) => Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("the byte {} and not the end", byte[0]),
            )),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// One record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub kind: u8,
    pub id: u16,
    pub content: Vec<u8>,
}

/// One answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub id: u16,
    /// The number in the `Status` header; 200 without one, 0 if there is no head at all.
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub stderr: Vec<u8>,
    pub application_status: u32,
    pub protocol_status: u8,
}

impl Answer {
    fn take_head(&mut self, stdout: Vec<u8>) -> io::Result<()> {
        if stdout.is_empty() {
            return Ok(());
        }
        let invalid = |what: &str| {
            io::Error::new(
                ErrorKind::InvalidData,
                format!("{what}: {}", String::from_utf8_lossy(&stdout)),
            )
        };
        let end = stdout
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .ok_or_else(|| invalid("no end of the head"))?;
        self.body = stdout[end + 4..].to_vec();
        let head =
            std::str::from_utf8(&stdout[..end]).map_err(|_| invalid("a head that is not UTF-8"))?;
        self.status = 200;
        for line in head.split("\r\n") {
            let (name, value) = line
                .split_once(": ")
                .ok_or_else(|| invalid("a header without a colon"))?;
            if name.eq_ignore_ascii_case("status") {
                let number = value
                    .split(' ')
                    .next()
                    .and_then(|number| number.parse().ok());
                self.status = number.ok_or_else(|| invalid("a status that is no number"))?;
            } else {
                self.headers.push((name.into(), value.into()));
            }
        }
        Ok(())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One request, to be turned into bytes in any way that the protocol allows, and in some it does not.
#[derive(Clone, Debug)]
pub struct Request {
    pub params: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// What nginx sends for a page, in short.
    pub fn get(path_and_query: &str) -> Request {
        let (path, query) = path_and_query
            .split_once('?')
            .unwrap_or((path_and_query, ""));
        let params = [
            ("QUERY_STRING", query),
            ("REQUEST_METHOD", "GET"),
            ("CONTENT_TYPE", ""),
            ("CONTENT_LENGTH", ""),
            ("SCRIPT_NAME", ""),
            ("PATH_INFO", path),
            ("REQUEST_URI", path_and_query),
            ("DOCUMENT_URI", path),
            ("DOCUMENT_ROOT", "/usr/share/nginx/html"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("REQUEST_SCHEME", "http"),
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("SERVER_SOFTWARE", "nginx/1.22.1"),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("REMOTE_PORT", "50000"),
            ("SERVER_ADDR", "127.0.0.1"),
            ("SERVER_PORT", "80"),
            ("SERVER_NAME", "localhost"),
            ("HTTP_HOST", "localhost"),
        ];
        let params = params
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Request {
            params,
            body: Vec::new(),
        }
    }

    /// A form or an upload.
    pub fn post(path: &str, body: &[u8]) -> Request {
        let length = body.len().to_string();
        Request {
            body: body.to_vec(),
            ..Request::get(path)
        }
        .with("REQUEST_METHOD", "POST")
        .with("CONTENT_TYPE", "application/octet-stream")
        .with("CONTENT_LENGTH", &length)
    }

    /// The request with a parameter set.
    pub fn with(mut self, name: &str, value: &str) -> Request {
        self.params.retain(|(known, _)| known != name);
        self.params.push((name.into(), value.into()));
        self
    }

    /// The parameters as the stream of pairs, lengths in one byte where they fit.
    pub fn pairs(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, value) in &self.params {
            for length in [name.len(), value.len()] {
                match u8::try_from(length) {
                    Ok(length) if length < 128 => bytes.push(length),
                    _ => bytes.extend(long_length(length)),
                }
            }
            bytes.extend(name.bytes().chain(value.bytes()));
        }
        bytes
    }

    /// The whole request in as few records as can be.
    pub fn bytes(&self, id: u16, flags: u8) -> Vec<u8> {
        self.bytes_split(id, flags, 65_535, 0)
    }

    /// The whole request in records of at most `size` bytes, each with so much padding.
    pub fn bytes_split(&self, id: u16, flags: u8, size: usize, padding: u8) -> Vec<u8> {
        let mut bytes = begin(id, RESPONDER, flags);
        for (kind, stream) in [(PARAMS, self.pairs()), (STDIN, self.body.clone())] {
            for content in stream.chunks(size) {
                bytes.extend(record(kind, id, content, padding));
            }
            bytes.extend(record(kind, id, b"", 0));
        }
        bytes
    }
}

/// A length in four bytes, which is legal for a short one too.
pub fn long_length(length: usize) -> [u8; 4] {
    (u32::try_from(length).expect("test lengths are small") | 0x8000_0000).to_be_bytes()
}

/// One record.
pub fn record(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a record's content has at most 65535 bytes");
    let mut bytes = vec![1, kind];
    bytes.extend(id.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend([padding, 0]);
    bytes.extend(content);
    bytes.resize(bytes.len() + usize::from(padding), 0xEE);
    bytes
}

/// The record that begins a request.
pub fn begin(id: u16, role: u16, flags: u8) -> Vec<u8> {
    let [high, low] = role.to_be_bytes();
    record(BEGIN_REQUEST, id, &[high, low, flags, 0, 0, 0, 0, 0], 0)
}
