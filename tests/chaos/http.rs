//! As much of HTTP/1.1 as a client needs that counts: one request after another on a connection, bodies with a length,
//! in chunks, or up to the end of the connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// Bytes of an answer's body that are taken at most.
const MOST: u64 = 16 * 1024 * 1024;

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Path and query.
    pub target: &'a str,
    /// Its body; None for a GET.
    pub body: Option<&'a [u8]>,
    /// Whether the connection is to be kept for the next one.
    pub keep: bool,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

/// A connection to the web server, opened when there is something to ask.
#[derive(Debug)]
pub struct Client {
    port: u16,
    patience: Duration,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    /// For the web server at this port of the loopback interface. No answer is waited for longer than `patience`.
    pub fn new(port: u16, patience: Duration) -> Self {
        Self {
            port,
            patience,
            connection: None,
        }
    }

    /// Asks, once. After an error the connection is closed.
    pub fn ask(&mut self, request: Request<'_>) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let sent = send(connection.get_mut(), request);
        // A web server that answers early may close before it has taken all.
        let (answer, ended) =
            receive(&mut connection).map_err(|error| sent.err().unwrap_or(error))?;
        if request.keep && !ended {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(self.patience))?;
        connection.set_write_timeout(Some(self.patience))?;
        Ok(BufReader::new(connection))
    }
}

fn send(connection: &mut TcpStream, request: Request<'_>) -> io::Result<()> {
    let Request { target, body, keep } = request;
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: chaos\r\n");
    if !keep {
        bytes += "Connection: close\r\n";
    }
    if let Some(body) = body {
        bytes += &format!("Content-Length: {}\r\n", body.len());
    }
    bytes += "\r\n";
    let mut bytes = bytes.into_bytes();
    bytes.extend(body.unwrap_or_default());
    connection.write_all(&bytes)
}

/// The answer, and whether the connection is of no further use.
fn receive(connection: &mut BufReader<TcpStream>) -> io::Result<(Answer, bool)> {
    let first = line(connection)?;
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| invalid(&format!("no status line: {first}")))?;
    let (mut length, mut chunked, mut ended) = (None, false, false);
    loop {
        let header = line(connection)?.to_ascii_lowercase();
        match header
            .split_once(':')
            .map(|(name, value)| (name, value.trim()))
        {
            None if header.is_empty() => break,
            None => return Err(invalid(&format!("no header: {header}"))),
            Some(("content-length", value)) => length = value.parse().ok(),
            Some(("transfer-encoding", value)) => chunked = value == "chunked",
            Some(("connection", value)) => ended = value == "close",
            Some(_) => {}
        }
    }
    let mut body = Vec::new();
    match length {
        _ if chunked => chunks(connection, &mut body)?,
        Some(length) => take(connection, length, &mut body)?,
        None => {
            ended = true;
            connection.take(MOST).read_to_end(&mut body)?;
        }
    }
    Ok((Answer { status, body }, ended))
}

fn chunks(connection: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let size = line(connection)?;
        let size = u64::from_str_radix(&size, 16).map_err(|_| invalid("no size of a chunk"))?;
        take(connection, size, body)?;
        if !line(connection)?.is_empty() {
            return Err(invalid("a chunk without its end"));
        }
        if size == 0 {
            return Ok(());
        }
    }
}

fn take(connection: &mut BufReader<TcpStream>, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let taken = connection.take(length.min(MOST)).read_to_end(body)?;
    if taken as u64 == length {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn line(connection: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if connection.take(8192).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
