//! The load generator: FastCGI requests to a Unix socket, as nginx would send them, with no web server between.
//!
//! All clients live in one thread and one epoll, since on a small machine the generator shares the processors with
//! the server that it measures. A client connects (or uses its kept connection again), sends the whole request in one
//! write, reads until END_REQUEST, and starts over; so at any time as many requests are under way as there are
//! clients. Every answer is checked: whole, status 200, the expected text in its body. An answer equal to one checked
//! before is not parsed again.

#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use wire::{
    BEGIN_REQUEST, END_REQUEST, KEEP_CONN, PARAMS, REQUEST_COMPLETE, RESPONDER, STDIN, STDOUT,
};

/// No answer may be longer than this.
const MAX_ANSWER: usize = 4 << 20;

/// Requests that are sent in turn: no two in a row come from one visitor, so that a server which remembers the last
/// request gains by it what it would gain in earnest.
const VISITORS: usize = 64;

/// Sends FastCGI requests to a Unix socket, checks each answer, and prints one line of JSON. Times are in µs.
#[derive(Parser)]
struct Args {
    /// Unix socket of the server
    #[arg(long)]
    socket: PathBuf,
    /// Requests under way at any time
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Keep connections: one for each client
    #[arg(long)]
    keep: bool,
    /// Start requests for so many seconds
    #[arg(long, default_value_t = 1.0, conflicts_with_all = ["requests", "burst"])]
    seconds: f64,
    /// Start so many requests
    #[arg(long, conflicts_with = "burst")]
    requests: Option<u64>,
    /// One request of each client, all at once; times count from their common start
    #[arg(long)]
    burst: bool,
    /// Path of the page, with its query if there is one
    #[arg(long, default_value = "/")]
    path: String,
    /// SCRIPT_FILENAME, for servers that look for a file
    #[arg(long, default_value = "/")]
    script: String,
    /// Text that the body of each answer must have in it
    #[arg(long, default_value = "", overrides_with = "expect")]
    expect: String,
    /// Never sleep: for a generator with a processor of its own, since otherwise servers pay for waking it
    #[arg(long)]
    spin: bool,
    /// Seconds without any progress after which the requests under way count as errors
    #[arg(long, default_value_t = 30)]
    timeout: u16,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match Load::new(&args).and_then(Load::run) {
        Ok(report) => {
            println!("{}", report.json());
            report.first_error.map_or(ExitCode::SUCCESS, |error| {
                eprintln!("load: {error}");
                ExitCode::FAILURE
            })
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// When no more requests are started.
enum End {
    At(Instant),
    After(u64),
}

/// One client: at most one connection, at most one request under way.
#[derive(Default)]
struct Client {
    stream: Option<UnixStream>,
    /// The connection has carried a request before.
    reused: bool,
    /// When the request under way was begun.
    begun: Option<Instant>,
    /// What has come of an answer that did not come whole in one read.
    partial: Vec<u8>,
    /// Whose request is under way.
    visitor: usize,
}

struct Load<'a> {
    args: &'a Args,
    address: UnixAddr,
    epoll: Epoll,
    requests: [Vec<u8>; VISITORS],
    /// An answer that was checked and found right.
    known_good: Vec<u8>,
    clients: Vec<Client>,
    end: End,
    start: Instant,
    started: u64,
    /// Whose request is next.
    visitor: usize,
    report: Report,
}

#[derive(Default)]
struct Report {
    /// Time of each answered request.
    times: Vec<Duration>,
    errors: u64,
    /// Kept connections that the server closed between two requests: allowed, and not an error.
    reconnects: u64,
    first_error: Option<String>,
    elapsed: Duration,
}

impl<'a> Load<'a> {
    fn new(args: &'a Args) -> io::Result<Self> {
        let start = Instant::now();
        let end = match (args.burst, args.requests) {
            (true, _) => End::After(args.clients as u64),
            (false, Some(requests)) => End::After(requests),
            (false, None) => End::At(start + Duration::from_secs_f64(args.seconds)),
        };
        Ok(Self {
            args,
            address: UnixAddr::new(&args.socket)?,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            requests: std::array::from_fn(|visitor| request(args, visitor)),
            known_good: Vec::new(),
            clients: (0..args.clients).map(|_| Client::default()).collect(),
            end,
            start,
            started: 0,
            visitor: 0,
            report: Report::default(),
        })
    }

    fn run(mut self) -> io::Result<Report> {
        let mut events = vec![EpollEvent::empty(); self.clients.len()];
        let mut buffer = vec![0; 64 * 1024];
        for number in 0..self.clients.len() {
            self.begin(number);
        }
        while self.clients.iter().any(|client| client.begun.is_some()) {
            let ready = self.wait(&mut events)?;
            if ready == 0 {
                for client in &mut self.clients {
                    if client.begun.take().is_some() {
                        self.report.fail("no answer in time");
                    }
                }
            }
            for event in &events[..ready] {
                // The data of each event is the number of its client.
                #[expect(clippy::cast_possible_truncation, reason = "an index of a Vec fits")]
                self.readable(event.data() as usize, &mut buffer);
            }
        }
        self.report.elapsed = self.start.elapsed();
        Ok(self.report)
    }

    /// Waits for progress; 0 when there was none in time.
    fn wait(&self, events: &mut [EpollEvent]) -> io::Result<usize> {
        let timeout = Duration::from_secs(u64::from(self.args.timeout));
        let since = Instant::now();
        loop {
            let step = if self.args.spin {
                Duration::ZERO
            } else {
                timeout
            };
            match self.epoll.wait(
                events,
                EpollTimeout::try_from(step).map_err(io::Error::other)?,
            ) {
                Ok(0) if since.elapsed() < timeout => {}
                Err(Errno::EINTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Starts the next request of a client, if there is to be one; a failure counts and ends this client.
    fn begin(&mut self, number: usize) {
        let now = Instant::now();
        let more = match self.end {
            End::At(end) => now < end,
            End::After(requests) => self.started < requests,
        };
        if more {
            self.clients[number].visitor = self.visitor;
            self.visitor = (self.visitor + 1) % VISITORS;
            self.started += 1;
            self.clients[number].begun = Some(if self.args.burst { self.start } else { now });
            if let Err(error) = self.send(number) {
                self.clients[number].begun = None;
                self.clients[number].stream = None;
                self.report.fail(&format!("cannot send: {error}"));
            }
        }
    }

    fn send(&mut self, number: usize) -> io::Result<()> {
        let client = &mut self.clients[number];
        if let Some(stream) = &mut client.stream {
            let request = &self.requests[client.visitor];
            match stream.write(request) {
                Err(error) if hung_up(&error) => self.report.reconnects += 1,
                written => return whole(written?, request.len()),
            }
        }
        self.connect(number)
    }

    /// Sends the request of a client over a new connection.
    fn connect(&mut self, number: usize) -> io::Result<()> {
        let client = &mut self.clients[number];
        // Closes the old connection before there is a new one.
        client.stream = None;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(fd.as_raw_fd(), &self.address)?;
        let mut stream = UnixStream::from(fd);
        let request = &self.requests[client.visitor];
        let written = stream.write(request)?;
        self.epoll
            .add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
        client.stream = Some(stream);
        client.reused = false;
        whole(written, request.len())
    }

    /// Takes what has come for a client; if that ends its request, starts the next one.
    fn readable(&mut self, number: usize, buffer: &mut [u8]) {
        let client = &mut self.clients[number];
        let (Some(stream), Some(begun)) = (&mut client.stream, client.begun) else {
            return;
        };
        let outcome = match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Ok(0) if client.reused && client.partial.is_empty() => return self.retry(number),
            Err(error) if hung_up(&error) && client.reused && client.partial.is_empty() => {
                return self.retry(number);
            }
            Err(error) => Err(error.to_string()),
            Ok(0) => Err(format!(
                "closed after {} bytes of the answer",
                client.partial.len()
            )),
            Ok(n) if client.partial.is_empty() && buffer[..n] == *self.known_good => Ok(true),
            Ok(n) => {
                client.partial.extend_from_slice(&buffer[..n]);
                check(&client.partial, &self.args.expect)
            }
        };
        match outcome {
            Ok(false) if client.partial.len() <= MAX_ANSWER => return,
            Ok(false) => self.report.fail("the answer is too long"),
            Ok(true) => {
                self.report.times.push(begun.elapsed());
                if !client.partial.is_empty() {
                    self.known_good.clone_from(&client.partial);
                }
            }
            Err(ref error) => self.report.fail(error),
        }
        client.begun = None;
        client.partial.clear();
        client.reused = true;
        if !self.args.keep || !matches!(outcome, Ok(true)) {
            client.stream = None;
        }
        self.begin(number);
    }

    /// Sends a request again whose kept connection the server closed before it answered.
    fn retry(&mut self, number: usize) {
        self.report.reconnects += 1;
        if let Err(error) = self.connect(number) {
            self.clients[number].begun = None;
            self.report.fail(&format!("cannot send again: {error}"));
        }
    }
}

impl Report {
    fn fail(&mut self, error: &str) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_owned());
    }

    fn json(&self) -> String {
        let mut micros: Vec<u128> = self.times.iter().map(Duration::as_micros).collect();
        micros.sort_unstable();
        let requests = micros.len();
        // The smallest time that at least so many percent of the requests did not exceed.
        let percentile = |percent: usize| {
            micros
                .get((requests * percent).div_ceil(100).saturating_sub(1))
                .unwrap_or(&0)
        };
        let seconds = self.elapsed.as_secs_f64();
        format!(
            "{{\"requests\": {requests}, \"errors\": {}, \"reconnects\": {}, \"seconds\": {seconds:.3}, \"rate\": {:.0}, \
             \"p50\": {}, \"p99\": {}, \"max\": {}}}",
            self.errors,
            self.reconnects,
            self.times.len() as f64 / seconds,
            percentile(50),
            percentile(99),
            percentile(100),
        )
    }
}

fn hung_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    )
}

fn whole(written: usize, len: usize) -> io::Result<()> {
    if written == len {
        Ok(())
    } else {
        Err(io::Error::other(
            "the socket's buffer is smaller than a request",
        ))
    }
}

/// Whether `bytes` are a whole and right answer; `false` while END_REQUEST is missing.
fn check(bytes: &[u8], expect: &str) -> Result<bool, String> {
    let mut page = Vec::new();
    let mut rest = bytes;
    while let Some((record, more)) = wire::split_record(rest)? {
        rest = more;
        match record.kind {
            _ if record.id != wire::REQUEST_ID => {
                return Err(format!("a record of request {}", record.id));
            }
            STDOUT => page.extend_from_slice(record.content),
            END_REQUEST if record.content.get(4) != Some(&REQUEST_COMPLETE) => {
                return Err(format!("the request ended with {:?}", record.content));
            }
            END_REQUEST if !rest.is_empty() => return Err("bytes after END_REQUEST".to_owned()),
            END_REQUEST => return check_page(&page, expect).map(|()| true),
            _ => {}
        }
    }
    Ok(false)
}

fn check_page(page: &[u8], expect: &str) -> Result<(), String> {
    let page = String::from_utf8_lossy(page);
    let (head, body) = page.split_once("\r\n\r\n").ok_or("no end of the headers")?;
    // A CGI answer without a status means 200.
    let status = head
        .lines()
        .find_map(|line| line.strip_prefix("Status:"))
        .unwrap_or("200")
        .trim();
    if !status.starts_with("200") {
        return Err(format!("the status is {status}"));
    }
    if !body.contains(expect) {
        return Err(format!("not the expected body: {body:.200}"));
    }
    Ok(())
}

/// A request as nginx sends it with `include fastcgi_params` (1.22): one record of parameters, padded, no body.
/// What differs from one visitor to the next: the query unless one is given, the address, the port, the browser.
fn request(args: &Args, visitor: usize) -> Vec<u8> {
    let mut params = Vec::new();
    let uri = if args.path.contains('?') {
        args.path.clone()
    } else {
        format!("{}?visitor={visitor}", args.path)
    };
    let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
    let browser = 100 + visitor;
    let pairs = [
        ("QUERY_STRING", query),
        ("REQUEST_METHOD", "GET"),
        ("CONTENT_TYPE", ""),
        ("CONTENT_LENGTH", ""),
        ("SCRIPT_NAME", ""),
        ("REQUEST_URI", &uri),
        ("DOCUMENT_URI", path),
        ("DOCUMENT_ROOT", "/usr/share/nginx/html"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_SCHEME", "http"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", "nginx/1.22.1"),
        ("REMOTE_ADDR", &format!("192.0.2.{visitor}")),
        ("REMOTE_PORT", &(53422 + visitor).to_string()),
        ("REMOTE_USER", ""),
        ("SERVER_ADDR", "127.0.0.1"),
        ("SERVER_PORT", "80"),
        ("SERVER_NAME", "localhost"),
        ("REDIRECT_STATUS", "200"),
        ("PATH_INFO", path),
        ("SCRIPT_FILENAME", &args.script),
        ("HTTP_HOST", "localhost"),
        (
            "HTTP_USER_AGENT",
            &format!(
                "Mozilla/5.0 (X11; Linux x86_64; rv:{browser}.0) Gecko/20100101 Firefox/{browser}.0"
            ),
        ),
        (
            "HTTP_ACCEPT",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        ),
        ("HTTP_ACCEPT_LANGUAGE", "en-US,en;q=0.5"),
        ("HTTP_ACCEPT_ENCODING", "gzip, deflate, br"),
    ];
    for (name, value) in pairs {
        wire::push_pair(&mut params, name, value);
    }
    let flags = if args.keep { KEEP_CONN } else { 0 };
    let mut out = Vec::new();
    wire::push_record(
        &mut out,
        BEGIN_REQUEST,
        &[0, RESPONDER, flags, 0, 0, 0, 0, 0],
    );
    wire::push_record(&mut out, PARAMS, &params);
    wire::push_record(&mut out, PARAMS, b"");
    wire::push_record(&mut out, STDIN, b"");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(page: &str, end: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        // Cut into two records, as a server may.
        let (head, tail) = page.as_bytes().split_at(page.len() / 2);
        for part in [head, tail, b""] {
            wire::push_record(&mut out, STDOUT, part);
        }
        wire::push_record(&mut out, END_REQUEST, end);
        out
    }

    #[test]
    fn only_a_whole_and_right_answer_passes() {
        let good = answer("Content-Type: text/plain\r\n\r\nHello", &[0; 8]);
        assert_eq!(check(&good, "Hello"), Ok(true));
        for cut in 0..good.len() {
            assert_eq!(check(&good[..cut], "Hello"), Ok(false), "at {cut} bytes");
        }
        assert!(check(&good, "Goodbye").is_err());
        assert!(check(&[&good[..], b"more"].concat(), "Hello").is_err());
        assert!(check(&answer("Status: 500 Oh\r\n\r\nHello", &[0; 8]), "Hello").is_err());
        assert!(
            check(&answer("\r\n\r\nHello", &[0, 0, 0, 0, 2, 0, 0, 0]), "Hello").is_err(),
            "overloaded"
        );
        assert_eq!(
            check(&answer("Status: 200 OK\r\n\r\nHello", &[0; 8]), "Hello"),
            Ok(true)
        );
    }

    #[test]
    fn a_request_is_as_nginx_sends_it() {
        let args = Args::parse_from(["load", "--socket", "s", "--path", "/page?a=b", "--keep"]);
        let bytes = request(&args, 1);
        let (begin, rest) = wire::split_record(&bytes).unwrap().unwrap();
        assert_eq!(
            (begin.kind, begin.content),
            (BEGIN_REQUEST, &[0, 1, 1, 0, 0, 0, 0, 0][..])
        );
        let (params, rest) = wire::split_record(rest).unwrap().unwrap();
        let mut pairs = Vec::new();
        let mut left = params.content;
        while let Some((name, value, more)) = wire::split_pair(left) {
            pairs.push((name, value));
            left = more;
        }
        assert_eq!((pairs.len(), left), (26, &b""[..]));
        assert!(
            pairs.contains(&(b"PATH_INFO", b"/page")) && pairs.contains(&(b"QUERY_STRING", b"a=b"))
        );
        let (end, rest) = wire::split_record(rest).unwrap().unwrap();
        assert_eq!((end.kind, end.content.len()), (PARAMS, 0));
        let (stdin, rest) = wire::split_record(rest).unwrap().unwrap();
        assert_eq!((stdin.kind, stdin.content.len(), rest.len()), (STDIN, 0, 0));
    }
}
