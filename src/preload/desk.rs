//! Between a worker's loop and the program: the loop hands over a request, the program reads it and writes its answer.
//!
//! The loop runs on a stack of its own. It goes on where the program waits for the next request, and stops where it has
//! one.

use crate::worker::end_group;
use crate::{HAS_FORKED, may_wait};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use nix::errno::Errno;
use preforkd_fastcgi::answer::{Answer, Event};
use preforkd_fastcgi::record::{FILTER, RESPONDER, kind};
use preforkd_fastcgi::request::Request;
use preforkd_sys::channel::Channel;
use preforkd_sys::fork::{EX_SOFTWARE, exit_now};
use preforkd_worker::Application;
use preforkd_worker::exchange::{self, Exchange};
use preforkd_worker::message::FromWorker;
use preforkd_worker::relay::{answer_502, describe};
use preforkd_worker::run::{Equipment, run};
use std::cell::Cell;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// The loop: is given back what it has handed over.
type Loop = Coroutine<Option<Box<Exchange>>, Box<Exchange>, io::Result<()>>;

/// Where the loop meets the program.
pub struct Desk {
    work: Loop,
    /// The request under way.
    exchange: Option<Box<Exchange>>,
    request: Request,
    /// All of the request has been put into `request`.
    whole: bool,
    answer: Answer,
    /// The program has ended its connection.
    closed: bool,
    /// Something of the answer has been handed on.
    answered: bool,
    /// The program has read of the request, or has written an answer.
    is_touched: bool,
    /// The program has come for another connection with the request untouched.
    is_offered_again: bool,
    /// The log has no more to be told of the request.
    is_settled: bool,
    /// To the master, for as long as the loop goes on.
    master: Option<Channel>,
    /// There was no other connection when it asked for one.
    refused: bool,
    /// The program ends by itself.
    is_leaving: Rc<Cell<bool>>,
}

/// The application as the loop sees it.
struct Seat<'a>(
    &'a Yielder<Option<Box<Exchange>>, Box<Exchange>>,
    Rc<Cell<bool>>,
);

impl Application for Seat<'_> {
    fn serve(&mut self, exchange: Box<Exchange>) -> Box<Exchange> {
        if self.1.get() {
            return exchange;
        }
        self.0
            .suspend(exchange)
            .expect("each exchange is given back before the next is asked for")
    }

    fn is_leaving(&self) -> bool {
        self.1.get()
    }

    fn serves_all_roles(&self) -> bool {
        true
    }
}

impl Desk {
    /// A worker with this equipment, which begins when the first request is asked for.
    ///
    /// # Errors
    /// EMFILE.
    pub fn new(equipment: Equipment) -> io::Result<Self> {
        let master = equipment.control.as_fd().try_clone_to_owned()?;
        let is_leaving = Rc::new(Cell::new(false));
        let told = Rc::clone(&is_leaving);
        Ok(Self {
            work: Coroutine::new(move |yielder, _| run(equipment, &mut Seat(yielder, told))),
            is_leaving,
            exchange: None,
            request: Request::default(),
            whole: true,
            answer: Answer::default(),
            closed: false,
            answered: false,
            is_touched: false,
            is_offered_again: false,
            is_settled: true,
            master: Some(Channel::from_fd(master)),
            refused: false,
        })
    }

    /// Gives the last request back and waits for the next, on what is a new connection to the program. Returns false when
    /// there is to be none any more.
    pub fn accept(&mut self) -> bool {
        self.closed = false;
        if !self.is_touched && self.exchange.is_some() && !self.is_offered_again {
            // Once: it does not seem to want this one.
            self.is_offered_again = true;
            return true;
        }
        if std::mem::replace(&mut self.refused, self.work.done()) {
            // It has been told, and does not end.
            end_group();
            exit_now(0);
        }
        self.next()
    }

    fn next(&mut self) -> bool {
        if self.work.done() {
            return false;
        }
        self.give_up("has closed its connection");
        let last = self.exchange.take();
        match self.work.resume(last) {
            CoroutineResult::Yield(mut exchange) => {
                self.request.begin(exchange.head().role, exchange.params());
                self.whole = exchange.head().role == RESPONDER
                    && exchange.is_body_read().is_ok_and(|is_read| is_read);
                if self.whole {
                    self.request.end(kind::STDIN);
                }
                self.answer.begin();
                self.is_touched = false;
                self.is_offered_again = false;
                self.is_settled = false;
                self.answered = false;
                self.exchange = Some(exchange);
                true
            }
            CoroutineResult::Return(result) => {
                self.master = None;
                if let Err(error) = result {
                    // Nobody may be left to read it.
                    let _ = writeln!(io::stderr(), "the worker cannot go on: {error}");
                    exit_now(EX_SOFTWARE);
                }
                false
            }
        }
    }

    /// The program ends: the connection that the worker keeps goes to the others. Who has no whole answer gets none.
    pub fn leave(&mut self) {
        let is_ended = self.exchange.as_ref().is_some_and(|it| it.is_ended());
        self.give_up("has ended");
        if is_ended {
            self.is_leaving.set(true);
            self.next();
        }
    }

    /// The program ends its connection.
    pub fn hang_up(&mut self) {
        self.closed = true;
        if self.is_touched || self.is_offered_again {
            self.give_up("has closed its connection");
        }
    }

    /// The program gives the request up by what it does, unless its answer is complete.
    fn give_up(&mut self, deed: &str) {
        if self.exchange.as_ref().is_some_and(|it| !it.is_ended()) {
            let has_read = self.whole && self.request.unsent().is_empty();
            let when = match () {
                () if self.answered => "before its answer was whole",
                () if has_read => "before it answered",
                () if self.is_touched => "before it had read the request",
                () => "without reading the request, so that it may not suit exec.mold",
            };
            self.settle(&format!("the program {deed} {when}"));
        }
        if let Some(exchange) = &mut self.exchange
            && !exchange.is_ended()
            && (self.answered || answer_502(exchange).is_err())
        {
            exchange.abort();
        }
    }

    /// Tells the log what has become of the request, unless that has been told.
    fn settle(&mut self, what: &str) {
        if let Some(exchange) = &self.exchange
            && let Some(master) = &self.master
            && !self.is_settled
        {
            let text = format!("{what}, at the request {}", describe(exchange));
            // The master may be gone, and a line that finds the channel full is not worth a wait.
            let _ = master.send(&FromWorker::Trouble { text }.encode(), &[]);
        }
        self.is_settled = true;
    }

    /// The request has failed on the web server's side. Returns what the program's call fails with.
    fn fail(&mut self, error: exchange::Error) -> Errno {
        match &error {
            // What becomes of the network, the worker tells.
            exchange::Error::Gone | exchange::Error::Unreachable(_) => self.is_settled = true,
            error => self.settle(&error.to_string()),
        }
        errno(error)
    }

    /// What the program reads of its connection: the request, and behind it the next one. 0 when there is none.
    ///
    /// # Errors
    /// EPIPE when the web server has left, ETIMEDOUT when it sends nothing any more, EAGAIN when the program does not
    /// want to wait and has read all of a request that it has not answered.
    pub fn read(&mut self, space: &mut [u8]) -> nix::Result<usize> {
        let count = self.peek(space)?;
        self.request.sent(count);
        self.is_touched |= count > 0;
        Ok(count)
    }

    /// The same until there is no room, or no more.
    ///
    /// # Errors
    /// As [`Self::read`], when nothing has been read.
    pub fn read_all(&mut self, space: &mut [u8]) -> nix::Result<usize> {
        let mut filled = 0;
        while filled < space.len() {
            match self.read(&mut space[filled..]) {
                Ok(count @ 1..) => filled += count,
                Err(error) if filled == 0 => return Err(error),
                Ok(0) | Err(_) => break,
            }
        }
        Ok(filled)
    }

    /// Whether nothing is there to be read.
    pub fn would_wait(&self) -> bool {
        self.whole && !self.closed && self.request.unsent().is_empty()
    }

    /// The same as [`Self::read`], and it stays there.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn peek(&mut self, space: &mut [u8]) -> nix::Result<usize> {
        loop {
            if self.closed {
                return Ok(0);
            }
            let unsent = self.request.unsent();
            if !unsent.is_empty() || space.is_empty() {
                let count = unsent.len().min(space.len());
                space[..count].copy_from_slice(&unsent[..count]);
                return Ok(count);
            }
            match &mut self.exchange {
                Some(exchange) if !self.whole && !exchange.is_ended() => {
                    let is_filter = exchange.head().role == FILTER;
                    let fill = |space: &mut [u8]| exchange.read_body(space);
                    let read = if is_filter {
                        self.request.records(fill)
                    } else {
                        self.request.piece(kind::STDIN, fill)
                    };
                    if read.map_err(|error| self.fail(error))? == 0 {
                        self.whole = true;
                        if !is_filter {
                            self.request.end(kind::STDIN);
                        }
                    }
                }
                // The next request comes when this one has its answer. Until then there is nothing to wait for but the web
                // server's end.
                Some(exchange) if !exchange.is_ended() => {
                    return if may_wait() {
                        Ok(0)
                    } else {
                        Err(Errno::EAGAIN)
                    };
                }
                _ => {
                    if !self.next() {
                        return Ok(0);
                    }
                }
            }
        }
    }

    /// What the program writes to its connection: the answer.
    ///
    /// # Errors
    /// As [`Self::read`]; EPIPE also for what is no answer.
    pub fn write(&mut self, bytes: &[u8]) -> nix::Result<usize> {
        self.pass(bytes).map_err(|error| self.fail(error))
    }

    fn pass(&mut self, bytes: &[u8]) -> exchange::Result<usize> {
        let Some(exchange) = &mut self.exchange else {
            return Err(exchange::Error::Gone);
        };
        self.is_touched = true;
        let mut rest = bytes;
        while !rest.is_empty() {
            let space = self.answer.space();
            let count = space.len().min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            self.answer.filled(count);
            rest = &rest[count..];
            loop {
                match self.answer.next() {
                    Ok(None) => break,
                    Ok(Some(Event::Stdout(range))) => {
                        self.answered = true;
                        exchange.write(self.answer.bytes(range))?;
                    }
                    Ok(Some(Event::Stderr(range))) => {
                        let text = self.answer.bytes(range);
                        let _ = io::stderr().write_all(text);
                        while !exchange.try_write_error(text)? {
                            exchange.flush()?;
                        }
                    }
                    Ok(Some(Event::End {
                        application,
                        protocol,
                    })) => {
                        exchange.end_with(application, protocol)?;
                        self.is_settled = true;
                        exchange.linger();
                        if !exchange.head().keep && HAS_FORKED.load(Ordering::Relaxed) {
                            // A child would keep it open for as long as it runs.
                            exchange.part();
                        }
                        return Ok(bytes.len());
                    }
                    Err(nonsense) => {
                        self.settle(&format!("the program has sent {nonsense}"));
                        self.hang_up();
                        return Err(exchange::Error::Gone);
                    }
                }
            }
        }
        exchange.flush()?;
        Ok(bytes.len())
    }
}

fn errno(error: exchange::Error) -> Errno {
    match error {
        exchange::Error::Gone | exchange::Error::Wire(_) => Errno::EPIPE,
        exchange::Error::Unreachable(error) => error,
        exchange::Error::Timeout(_) => Errno::ETIMEDOUT,
        exchange::Error::Io(error) | exchange::Error::File(error) => {
            error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
        }
    }
}
