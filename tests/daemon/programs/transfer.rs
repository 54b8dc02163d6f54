//! Bodies too large to be held, over HTTP and over FastCGI.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use crate::support::fastcgi::{END_REQUEST, Request, STDIN, STDOUT, record};
use crate::support::wait::PATIENCE;

/// Bytes after which the pattern begins again: a prime number, so that no part of it lies as it did before in any buffer.
const PERIOD: usize = 65_521;

/// How long an answer may take to begin when a large body goes before it, on a machine busy with other tests.
const LONG: Duration = Duration::from_secs(6 * PATIENCE.as_secs());

/// What is kept of an answer's body.
const KEPT: usize = 256 * 1024;

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..PERIOD)
        .map(|at| u8::try_from((at * 7 + at / 256) % 251).expect("it is less than 251"))
        .collect()
});

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The lines of the head.
    pub head: String,
    /// The beginning of the body.
    pub body: Vec<u8>,
    /// Bytes of the body.
    pub length: u64,
    /// Whether the body is the pattern from its beginning on.
    pub is_pattern: bool,
    /// Whether the body came to its proper end.
    pub is_whole: bool,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Asks for a page.
pub fn get(port: u16, path: &str) -> io::Result<Answer> {
    transfer(port, "GET", path, "", &mut io::empty(), 0)
}

/// Whether the answer to a page is cut off: after its beginning, or, when the web server had not sent that yet, before.
pub fn is_cut_off(port: u16, path: &str) -> bool {
    match get(port, path) {
        Ok(answer) => !answer.is_whole,
        Err(error) => error.kind() == io::ErrorKind::UnexpectedEof,
    }
}

/// Sends a body of the given bytes.
pub fn post(port: u16, path: &str, kind: &str, body: &[u8]) -> io::Result<Answer> {
    let head = format!("Content-Type: {kind}\r\n");
    transfer(port, "POST", path, &head, &mut &*body, body.len() as u64)
}

/// Sends `length` bytes of the pattern, while it reads the answer.
pub fn upload(port: u16, path: &str, length: u64) -> io::Result<Answer> {
    let head = "Content-Type: application/octet-stream\r\n";
    transfer(port, "POST", path, head, &mut pattern(length), length)
}

/// `length` bytes of the pattern.
pub fn pattern(length: u64) -> impl Read + Send {
    Pattern { at: 0 }.take(length)
}

struct Pattern {
    at: usize,
}

impl Read for Pattern {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &PATTERN[self.at..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at = (self.at + count) % PERIOD;
        Ok(count)
    }
}

/// Sends a request with further lines in its head, and reads the answer meanwhile.
pub fn transfer(
    port: u16,
    method: &str,
    path: &str,
    head: &str,
    body: &mut (impl Read + Send),
    length: u64,
) -> io::Result<Answer> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(LONG))?;
    stream.set_write_timeout(Some(LONG))?;
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}");
    if length > 0 {
        request += &format!("Content-Length: {length}\r\n");
    }
    request += "\r\n";
    (&stream).write_all(request.as_bytes())?;
    thread::scope(|scope| {
        // The server may answer without reading all; the answer then tells what there is to tell.
        scope.spawn(|| io::copy(body, &mut &stream));
        read_answer(BufReader::with_capacity(KEPT, &stream))
    })
}

/// Sends a request with `length` bytes of the pattern as its body, and reads the answer meanwhile, without a web server.
pub fn stream(socket: &Path, request: &Request, length: u64) -> io::Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LONG))?;
    stream.set_write_timeout(Some(LONG))?;
    let head = request.bytes(1, 0);
    // Without the end of the empty body.
    (&stream).write_all(&head[..head.len() - 8])?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut body = pattern(length);
            let mut piece = vec![0; 32 * 1024];
            loop {
                let count = body.read(&mut piece)?;
                (&stream).write_all(&record(STDIN, 1, &piece[..count], 0))?;
                if count == 0 {
                    return Ok::<_, io::Error>(());
                }
            }
        });
        read_records(BufReader::with_capacity(KEPT, &stream))
    })
}

fn read_records(mut stream: impl BufRead) -> io::Result<Answer> {
    let mut answer = Answer {
        status: 200,
        head: String::new(),
        body: Vec::new(),
        length: 0,
        is_pattern: true,
        is_whole: false,
    };
    let mut head = Vec::new();
    loop {
        let mut header = [0; 8];
        stream.read_exact(&mut header)?;
        let length = u16::from_be_bytes([header[4], header[5]]);
        let mut content = vec![0; usize::from(length) + usize::from(header[6])];
        stream.read_exact(&mut content)?;
        content.truncate(usize::from(length));
        match header[1] {
            END_REQUEST => {
                answer.is_whole = true;
                return Ok(answer);
            }
            STDOUT if answer.head.is_empty() => {
                head.extend(content);
                if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                    answer.head = String::from_utf8_lossy(&head[..end]).into_owned();
                    let begin = head.split_off(end + 4);
                    answer.take(&mut &begin[..], begin.len() as u64)?;
                }
            }
            STDOUT => {
                answer.take(&mut &content[..], content.len() as u64)?;
            }
            _ => {}
        }
    }
}

fn read_answer(mut stream: impl BufRead) -> io::Result<Answer> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, head));
        }
    }
    let header = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let expected: Option<u64> = header("content-length").and_then(|length| length.parse().ok());
    let chunked = header("transfer-encoding") == Some("chunked");
    let mut answer = Answer {
        status: status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, head.clone()))?,
        head,
        body: Vec::new(),
        length: 0,
        is_pattern: true,
        is_whole: true,
    };
    match expected {
        Some(length) => answer.is_whole = answer.take(&mut stream, length)?,
        None if chunked => loop {
            let mut line = String::new();
            // An answer that is cut off ends, or ends with a reset, where a chunk should begin.
            let read = stream.read_line(&mut line);
            let size = u64::from_str_radix(line.trim_end(), 16);
            let (Ok(1..), Ok(size)) = (read, size) else {
                answer.is_whole = false;
                break;
            };
            answer.is_whole = answer.take(&mut stream, size)?;
            if size == 0 || !answer.is_whole {
                break;
            }
            stream.read_line(&mut line)?;
        },
        None => drop(answer.take(&mut stream, u64::MAX)?),
    }
    Ok(answer)
}

impl Answer {
    /// Takes `length` bytes of the body in; false when there are fewer.
    fn take(&mut self, stream: &mut impl BufRead, length: u64) -> io::Result<bool> {
        let mut left = length;
        while left > 0 {
            let bytes = match stream.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
                other => other?,
            };
            if bytes.is_empty() {
                return Ok(false);
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let at = usize::try_from(self.length % PERIOD as u64).expect("it is less than PERIOD");
            let part = &bytes[..bytes.len().min(most).min(PERIOD - at)];
            self.is_pattern &= *part == PATTERN[at..at + part.len()];
            let room = KEPT - self.body.len();
            self.body.extend_from_slice(&part[..part.len().min(room)]);
            let count = part.len();
            self.length += count as u64;
            left -= count as u64;
            stream.consume(count);
        }
        Ok(true)
    }
}
