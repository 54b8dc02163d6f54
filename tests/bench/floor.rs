//! The floor: what a FastCGI hello costs if nothing is done but parse and answer.
//!
//! One process binds the socket and starts the others, each with the listening socket as its standard input. A worker
//! accepts, reads, walks every record and every name-value pair, and answers in one write. No epoll, no limits, no
//! deadlines, no log, no scoreboard: the other servers' CPU time is measured as a ratio to this one's.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Parser;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use wire::{BEGIN_REQUEST, END_REQUEST, KEEP_CONN, PARAMS, STDIN, STDOUT};

/// Answers every FastCGI request with "Hello, world".
#[derive(Parser)]
struct Args {
    /// Unix socket to bind; a worker finds it bound on its standard input
    #[arg(long, required_unless_present = "worker")]
    socket: Option<PathBuf>,
    /// Number of worker processes
    #[arg(long, default_value_t = 4)]
    workers: u32,
    /// Be a worker
    #[arg(long, hide = true)]
    worker: bool,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    match args.socket {
        Some(socket) if !args.worker => prefork(UnixListener::bind(socket)?, args.workers),
        _ => {
            // Workers end with the process that started them.
            set_pdeathsig(Signal::SIGTERM)?;
            serve(&UnixListener::from(
                io::stdin().as_fd().try_clone_to_owned()?,
            ))
        }
    }
}

fn prefork(listener: UnixListener, workers: u32) -> io::Result<()> {
    let listener = OwnedFd::from(listener);
    let children: Vec<_> = (0..workers)
        .map(|_| {
            let stdin = Stdio::from(listener.try_clone()?);
            Command::new(std::env::current_exe()?)
                .arg("--worker")
                .stdin(stdin)
                .spawn()
        })
        .collect::<io::Result<_>>()?;
    for mut child in children {
        child.wait()?;
    }
    Ok(())
}

fn serve(listener: &UnixListener) -> io::Result<()> {
    let answer = answer();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (mut stream, _) = listener.accept()?;
        // A client that breaks off is not worth a word here.
        while let Ok(Some(request)) = read_request(&mut stream, &mut buffer) {
            if request.method_is_get && stream.write_all(&answer).is_err() || !request.keep {
                break;
            }
        }
    }
}

struct Request {
    keep: bool,
    method_is_get: bool,
}

/// Reads one request of at most the buffer's length; `None` at the end of the connection.
fn read_request(stream: &mut UnixStream, buffer: &mut [u8]) -> io::Result<Option<Request>> {
    let mut filled = 0;
    loop {
        let n = stream.read(&mut buffer[filled..])?;
        if n == 0 {
            return Ok(None);
        }
        filled += n;
        if let Some(request) = parse(&buffer[..filled]).map_err(io::Error::other)? {
            return Ok(Some(request));
        }
    }
}

/// Walks the records and pairs of a request; `None` while its end, an empty STDIN, is not there.
fn parse(mut bytes: &[u8]) -> Result<Option<Request>, String> {
    let mut request = Request {
        keep: false,
        method_is_get: false,
    };
    while let Some((record, rest)) = wire::split_record(bytes)? {
        bytes = rest;
        match record.kind {
            BEGIN_REQUEST => {
                request.keep = record
                    .content
                    .get(2)
                    .is_some_and(|flags| flags & KEEP_CONN != 0)
            }
            PARAMS => {
                let mut pairs = record.content;
                while let Some((name, value, rest)) = wire::split_pair(pairs) {
                    pairs = rest;
                    if black_box(name) == b"REQUEST_METHOD" {
                        request.method_is_get = black_box(value) == b"GET";
                    }
                }
            }
            STDIN if record.content.is_empty() => return Ok(Some(request)),
            _ => {}
        }
    }
    Ok(None)
}

fn answer() -> Vec<u8> {
    let mut out = Vec::new();
    let page =
        b"Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world\n";
    wire::push_record(&mut out, STDOUT, page);
    wire::push_record(&mut out, STDOUT, b"");
    wire::push_record(&mut out, END_REQUEST, &[0; 8]);
    out
}
