//! An HTTP client that sees where an answer was broken off, and each part when it comes.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use crate::support::wait::PATIENCE;

/// As long may a line of a head be.
const MAX_LINE: u64 = 256 * 1024;

/// Bytes that are read at once.
const STEP: u64 = 64 * 1024;

/// A connection to a web server.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

/// How the end of a body is told.
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    /// What is left of this chunk.
    Chunks(u64),
    /// The connection's end, so that nobody can tell a whole body from one that was broken off.
    Close,
    /// It has ended.
    Ended,
}

/// The head of an answer, and how much of its body is still to come.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    headers: Vec<(String, String)>,
    framing: Framing,
}

impl Head {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether the body's end can be told from its being broken off.
    pub fn tells_its_end(&self) -> bool {
        self.framing != Framing::Close
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub head: Head,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head.status
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    pub fn new(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client {
            stream: BufReader::new(stream),
        })
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a request without a body; `headers` are lines with their ends.
    pub fn request(&mut self, method: &str, target: &str, headers: &str) -> io::Result<()> {
        let text = format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n");
        self.send(text.as_bytes())
    }

    /// Sends a request without a body and reads the answer.
    pub fn ask(&mut self, method: &str, target: &str, headers: &str) -> io::Result<Answer> {
        self.request(method, target, headers)?;
        self.answer(method)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        (&mut self.stream)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Err(broken_off());
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Reads a head, also that of an interim answer.
    pub fn head(&mut self, method: &str) -> io::Result<Head> {
        let line = self.line()?;
        let status = line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1)?.parse().ok())
            .ok_or_else(|| invalid(&line))?;
        let mut head = Head {
            status,
            headers: Vec::new(),
            framing: Framing::Close,
        };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid(&line))?;
            head.headers.push((name.into(), value.trim().into()));
        }
        head.framing = if method == "HEAD" || status < 200 || matches!(status, 204 | 304) {
            Framing::Ended
        } else if head.header("Transfer-Encoding") == Some("chunked") {
            Framing::Chunks(0)
        } else if let Some(length) = head.header("Content-Length") {
            Framing::Length(length.parse().map_err(|_| invalid(length))?)
        } else {
            Framing::Close
        };
        Ok(head)
    }

    /// Reads what comes next of a body; nothing at its end.
    pub fn part(&mut self, head: &mut Head) -> io::Result<Vec<u8>> {
        if head.framing == Framing::Chunks(0) {
            let line = self.line()?;
            let size = u64::from_str_radix(&line, 16).map_err(|_| invalid(&line))?;
            head.framing = Framing::Chunks(size);
            if size == 0 {
                self.line()?;
                head.framing = Framing::Ended;
            }
        }
        let most = match head.framing {
            Framing::Ended | Framing::Length(0) => return Ok(Vec::new()),
            Framing::Length(left) | Framing::Chunks(left) => left.min(STEP),
            Framing::Close => STEP,
        };
        let ready = self.stream.fill_buf()?;
        let most = usize::try_from(most).expect("a step is small");
        let part = ready[..ready.len().min(most)].to_vec();
        self.stream.consume(part.len());
        if part.is_empty() && head.framing != Framing::Close {
            return Err(broken_off());
        }
        match &mut head.framing {
            Framing::Length(left) => *left -= part.len() as u64,
            Framing::Chunks(left) => {
                *left -= part.len() as u64;
                if *left == 0 {
                    self.line()?;
                }
            }
            Framing::Close | Framing::Ended => {}
        }
        Ok(part)
    }

    /// Reads an answer to its end; interim ones are passed over.
    pub fn answer(&mut self, method: &str) -> io::Result<Answer> {
        let mut head = self.head(method)?;
        while head.status < 200 {
            head = self.head(method)?;
        }
        let mut body = Vec::new();
        loop {
            let part = self.part(&mut head)?;
            if part.is_empty() {
                return Ok(Answer { head, body });
            }
            body.extend(part);
        }
    }
}

fn broken_off() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the answer is broken off")
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not HTTP: {text:?}"))
}
