//! The application of a pool with `exec`: a program of the worker's own that speaks FastCGI, and everything a worker does
//! for one in Rust or Python done for it.
//!
//! The worker accepts and reads a request as any other does, and sends it to its program over a connection that it keeps
//! (`FCGI_KEEP_CONN`) for as long as the program keeps it. Both directions are streams in bounded memory, served by one
//! loop that reads from whichever side has something whenever the other side has room; neither waits for the other.
//!
//! # A request is sent again only if the program cannot have begun it
//! * A connection that was never accepted waits for the next program, with the request in it: the relay holds the
//!   listening socket.
//! * On a Unix socket a program that closes a connection, or dies, with bytes unread resets it (unix(7): ECONNRESET). A
//!   reset before any answer, when nothing but the head had been sent, says that the end of the parameters was not read.
//!   So the body is held back until the head has been read.
//! * A request without a body is sent in one piece with the end of its body. Then a reset may also say that only that
//!   end was not read: php-cgi does not read it, and what reads ahead may have left it. So it counts only for a program
//!   that goes on, or has ended with status 0.
//!
//! # Layout
//! * [`listener`]: the socket that the program listens on
//! * `life`: the program, from its start to its end
//! * `passage`: one request on its way to the program, and the answer on its way back

mod life;
pub mod listener;
mod passage;

use crate::exchange::Exchange;
use crate::status::summary::visible;
use crate::trace::{KernelView, Tracer};
use crate::{Application, Blocking, exchange};
use life::Life;
pub use life::{Ready, Settings};
use listener::Listener;
use passage::Fault;
use preforkd_fastcgi::answer::Answer;
use preforkd_fastcgi::request::Request;
use preforkd_sys::channel::Channel;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How often a request is sent at most.
const TRIES: usize = 5;

/// How long a program that was told to give a request up has to end it.
const ABORT: Duration = Duration::from_secs(2);

/// How long it then has to come back for another connection, before it is ended.
const RETURN: Duration = Duration::from_secs(10);

/// The relay of a worker. Dropping it ends the program.
#[derive(Debug)]
pub struct Relay {
    /// To the program, if there is one that may be of use. It ends first of all.
    connection: Option<OwnedFd>,
    life: Life,
    request: Request,
    answer: Answer,
    /// Whether something of the answer has been handed on.
    answered: bool,
}

impl Relay {
    /// For a process that is what its pool says, with the listener that was made before it became that. `control` goes
    /// to the master.
    ///
    /// # Errors
    /// EMFILE and its like.
    pub fn new(settings: Settings, listener: Listener, control: Channel) -> io::Result<Self> {
        Ok(Self {
            life: Life::new(settings, listener, control)?,
            connection: None,
            request: Request::default(),
            answer: Answer::default(),
            answered: false,
        })
    }

    fn pass(&mut self, exchange: &mut Exchange) -> Result<(), Fault> {
        let has_body = !exchange.is_body_read().map_err(Fault::Client)?;
        self.request.begin(exchange.head().role, exchange.params());
        for _ in 0..TRIES {
            self.request.rewind();
            self.answered = false;
            if self.connection.is_none() {
                self.life
                    .settle_for_request(&mut self.connection)
                    .map_err(Fault::Program)?;
            }
            if self.connection.is_none() {
                let connected = self.life.connect_for_request();
                self.connection = Some(connected.map_err(Fault::Program)?);
            }
            if self.converse(exchange, has_body)? {
                self.life.has_served();
                return Ok(());
            }
            self.connection = None;
        }
        Err(Fault::Program(format!(
            "the program has closed {TRIES} connections before it read the request"
        )))
    }

    /// The request has failed: the web server is told as far as that is possible, and the program.
    fn fail(&mut self, exchange: &mut Exchange, fault: Fault) {
        match fault {
            Fault::Client(error) => {
                // What becomes of the network, the worker tells.
                if !matches!(
                    error,
                    exchange::Error::Gone | exchange::Error::Unreachable(_)
                ) {
                    let request = describe(exchange);
                    self.life.tell(format!("{error}, at the request {request}"));
                }
                exchange.abort();
                self.give_up();
            }
            Fault::Program(what) => {
                self.connection = None;
                let request = describe(exchange);
                self.life.tell(format!("{what}, at the request {request}"));
                if self.answered || answer_502(exchange).is_err() {
                    exchange.abort();
                }
            }
        }
    }

    /// Has the program give the request up that it may be at.
    fn give_up(&mut self) {
        if self.connection.is_none() {
            return;
        }
        if !self.abort_request(ABORT) {
            self.connection = None;
            // It shows that it has done with the request by taking another connection.
            self.connection = self.life.connect().ok();
            if !self.life.comes_back(RETURN) {
                self.connection = None;
                let text = format!(
                    "the program has not come back {} s after its request was given up; it is ended",
                    RETURN.as_secs()
                );
                self.life.condemn(text);
            }
        }
    }
}

impl Application for Relay {
    fn serve(&mut self, mut exchange: Box<Exchange>) -> Box<Exchange> {
        if let Err(fault) = self.pass(&mut exchange) {
            self.fail(&mut exchange, fault);
        }
        exchange
    }

    fn serves_all_roles(&self) -> bool {
        true
    }

    fn news(&self) -> Option<BorrowedFd<'_>> {
        Some(self.life.news())
    }

    fn prepare(&mut self) -> io::Result<bool> {
        self.life.settle(&mut self.connection, true)
    }

    fn process(&self) -> u32 {
        self.life.pid().load(Ordering::Relaxed)
    }

    fn tracer(&self) -> Box<dyn Tracer> {
        Box::new(ProgramView(self.life.pid()))
    }

    fn blocking(&self) -> Blocking {
        exchange::DIRECT
    }
}

/// What the kernel shows of the program that runs.
struct ProgramView(Arc<AtomicU32>);

impl Tracer for ProgramView {
    fn trace(&mut self, depth: usize) -> Vec<String> {
        KernelView::of(self.0.load(Ordering::Relaxed)).trace(depth)
    }
}

/// A request for the log.
#[must_use]
pub fn describe(exchange: &Exchange) -> String {
    let text = |name: &[u8]| {
        let value = exchange.params().get(name).unwrap_or_default();
        let value = &value[..value.len().min(1024)];
        visible(&String::from_utf8_lossy(value)).into_owned()
    };
    format!("\"{} {}\"", text(b"REQUEST_METHOD"), text(b"REQUEST_URI"))
}

/// Answers for a program that has not.
///
/// # Errors
/// As [`Exchange::write`].
pub fn answer_502(exchange: &mut Exchange) -> exchange::Result<()> {
    exchange.write(b"Status: 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nThe application has failed.\n")?;
    exchange.end(1)
}
