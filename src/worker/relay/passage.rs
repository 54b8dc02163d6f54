//! One request on its way to the program, and its answer on its way back.

use super::Relay;
use crate::deadline::Deadline;
use crate::exchange::{self, Exchange, TRANSFER};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll, ppoll};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::time::TimeSpec;
use preforkd_fastcgi::answer::{Error as Nonsense, Event};
use preforkd_fastcgi::record::{FILTER, ProtocolStatus, RESPONDER, kind};
use preforkd_sys::children::Death;
use preforkd_sys::program::unread;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// The pauses between two looks whether a program has read the head of a request that has a body: the first, doubled up
/// to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(5));

/// Receives from the program at one time: one that sends without end must not keep the web server waiting.
const TURNS: usize = 32;

/// The other side sends no more (poll(2)). nix has no name for it and tells nothing of what happens with it, so that it
/// is looked at as an error is.
const ENDED: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);

/// Why a request fails.
#[derive(Debug)]
pub(super) enum Fault {
    /// By the web server's doing.
    Client(exchange::Error),
    /// By the program's: what has happened.
    Program(String),
}

/// How far the way to the program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// The head is being sent, or has not been read yet.
    Head,
    /// The body is being passed on.
    Body,
    /// All has been handed over, though not all may have been sent.
    Ended,
    /// The program takes no more.
    Refused,
}

/// What of the answer is to be handed on: a piece of standard output, or else of standard error.
#[derive(Debug)]
struct Piece {
    is_error: bool,
    range: Range<usize>,
}

/// How far the way back is.
enum Output {
    /// What has been received has been handed on.
    Empty,
    /// The web server takes no more for now.
    Full,
    /// The program has closed the connection, or, which resets it, has done so with bytes unread.
    Closed { reset: bool },
    /// The answer is complete.
    End(u32, ProtocolStatus),
}

struct Flow {
    input: Input,
    piece: Option<Piece>,
    /// Nothing but the program has to be waited for: its first bytes may be waited for without looking elsewhere.
    simple: bool,
    /// Whether input from the web server is worth a look when the body is complete: it may give the request up.
    watches: bool,
    pause: Duration,
    /// Whether anything behind the head may have been sent.
    beyond_head: bool,
    /// By when the web server must have done its part, while it is waited for.
    deadline: Option<Deadline>,
}

impl Relay {
    /// Sends the request and passes the answer on. Returns false when the program has closed the connection and cannot
    /// have begun with the request.
    pub(super) fn converse(
        &mut self,
        exchange: &mut Exchange,
        has_body: bool,
    ) -> Result<bool, Fault> {
        let ends_with_head = !has_body && exchange.head().role == RESPONDER;
        let mut flow = Flow {
            input: if has_body { Input::Head } else { Input::Ended },
            piece: None,
            simple: !has_body,
            watches: true,
            pause: PAUSES.0,
            beyond_head: ends_with_head,
            deadline: None,
        };
        if ends_with_head {
            self.request.end(kind::STDIN);
        }
        self.answer.begin();
        loop {
            self.feed(exchange, &mut flow)?;
            let output = self.collect(exchange, &mut flow)?;
            match output {
                Output::End(status, protocol) => {
                    self.end_request(has_body, flow.input);
                    exchange.end_with(status, protocol).map_err(Fault::Client)?;
                    return Ok(true);
                }
                Output::Closed { reset } => {
                    self.closed(reset, &flow, ends_with_head)?;
                    return Ok(false);
                }
                Output::Empty | Output::Full => {}
            }
            let flushed = exchange.try_flush().map_err(Fault::Client)?;
            let is_full = matches!(output, Output::Full);
            if !(is_full && flushed) {
                self.wait(exchange, &mut flow, flushed, is_full)?;
            }
        }
    }

    /// Sends to the program what it takes.
    fn feed(&mut self, exchange: &mut Exchange, flow: &mut Flow) -> Result<(), Fault> {
        loop {
            if flow.input == Input::Refused {
                return Ok(());
            }
            if !self.request.unsent().is_empty() {
                match self.send() {
                    Ok(()) => continue,
                    Err(Errno::EAGAIN) => return Ok(()),
                    // What it has answered before that is still there to be read.
                    Err(_) => {
                        flow.input = Input::Refused;
                        return Ok(());
                    }
                }
            }
            match flow.input {
                Input::Head if self.has_read_head() => {
                    flow.input = Input::Body;
                    flow.beyond_head = true;
                }
                Input::Body => {
                    let is_filter = exchange.head().role == FILTER;
                    let mut is_over = false;
                    let fill = |space: &mut [u8]| read_body(exchange, space, &mut is_over);
                    let read = if is_filter {
                        self.request.records(fill)
                    } else {
                        self.request.piece(kind::STDIN, fill)
                    };
                    let read = read.map_err(Fault::Client)?;
                    if is_over {
                        flow.input = Input::Ended;
                        if !is_filter {
                            self.request.end(kind::STDIN);
                        }
                    } else if read == 0 {
                        return Ok(());
                    }
                    flow.deadline = None;
                }
                Input::Head | Input::Ended | Input::Refused => return Ok(()),
            }
        }
    }

    fn send(&mut self) -> nix::Result<()> {
        let connection = self.connection.as_ref().ok_or(Errno::ENOTCONN)?;
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        match send(connection.as_raw_fd(), self.request.unsent(), flags) {
            Ok(count) => self.request.sent(count),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether the program has read all that it was sent.
    fn has_read_all(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| unread(connection.as_fd()).is_ok_and(|bytes| bytes == 0))
    }

    /// The same for a program that must still be there: of one that has ended, nothing is left unread either.
    fn has_read_head(&self) -> bool {
        let Some(connection) = &self.connection else {
            return false;
        };
        if !self.has_read_all() {
            return false;
        }
        let mut polled = [PollFd::new(connection.as_fd(), PollFlags::empty())];
        let _ = poll(&mut polled, PollTimeout::ZERO);
        polled[0].revents().is_some_and(|ready| ready.is_empty())
    }

    /// Hands on what the program answers.
    fn collect(&mut self, exchange: &mut Exchange, flow: &mut Flow) -> Result<Output, Fault> {
        let mut turns = 0..TURNS;
        loop {
            if let Some(piece) = &mut flow.piece {
                if !self.hand_on(exchange, piece).map_err(Fault::Client)? {
                    flow.piece = None;
                } else {
                    return Ok(Output::Full);
                }
            }
            match self.answer.next() {
                Ok(Some(Event::Stdout(range))) => {
                    let is_error = false;
                    flow.piece = Some(Piece { is_error, range });
                }
                Ok(Some(Event::Stderr(range))) => {
                    let is_error = true;
                    log(self.answer.bytes(range.clone()));
                    flow.piece = Some(Piece { is_error, range });
                }
                Ok(Some(Event::End {
                    application,
                    protocol,
                })) => return Ok(Output::End(application, protocol)),
                Ok(None) if turns.next().is_none() => return Ok(Output::Empty),
                Ok(None) => match self.receive(flow) {
                    Ok(0) => return Ok(Output::Closed { reset: false }),
                    Ok(count) => self.answer.filled(count),
                    Err(Errno::EAGAIN) => return Ok(Output::Empty),
                    Err(error) => {
                        let reset = error == Errno::ECONNRESET;
                        return Ok(Output::Closed { reset });
                    }
                },
                Err(nonsense) => return Err(self.nonsense(nonsense)),
            }
        }
    }

    /// Returns whether something is left of the piece.
    fn hand_on(&mut self, exchange: &mut Exchange, piece: &mut Piece) -> exchange::Result<bool> {
        let bytes = self.answer.bytes(piece.range.clone());
        if piece.is_error {
            return Ok(!exchange.try_write_error(bytes)?);
        }
        piece.range.start += exchange.try_write(bytes)?;
        self.answered = true;
        Ok(!piece.range.is_empty())
    }

    fn receive(&mut self, flow: &mut Flow) -> nix::Result<usize> {
        let connection = self.connection.as_ref().ok_or(Errno::ENOTCONN)?;
        let waits = std::mem::take(&mut flow.simple) && self.request.unsent().is_empty();
        let flags = if waits {
            MsgFlags::empty()
        } else {
            MsgFlags::MSG_DONTWAIT
        };
        loop {
            match recv(connection.as_raw_fd(), self.answer.space(), flags) {
                Err(Errno::EINTR) => {}
                received => return received,
            }
        }
    }

    /// The answer is complete: whether the connection can be kept.
    fn end_request(&mut self, has_body: bool, input: Input) {
        let sent = input == Input::Ended && self.request.unsent().is_empty();
        // Of a body that was not read, the rest would be taken for the next request.
        if !sent || !self.answer.is_clean() || (has_body && !self.has_read_all()) {
            self.connection = None;
        }
    }

    /// The program has closed the connection before the end of its answer. Passes when it cannot have begun.
    fn closed(&mut self, reset: bool, flow: &Flow, ends_with_head: bool) -> Result<(), Fault> {
        let unanswered = !self.answer.has_begun();
        if unanswered && !self.request.is_head_sent() {
            return Ok(());
        }
        let unread = unanswered && reset;
        if unread && !flow.beyond_head {
            return Ok(());
        }
        let end = self.life.autopsy();
        // Who closes a connection and goes on, or ends in good order, has not begun what it has not read whole.
        let orderly = matches!(end, None | Some((_, Death::Exited(0))));
        if unread && ends_with_head && orderly {
            return Ok(());
        }
        Err(Fault::Program(match end {
            Some((pid, death)) => format!("the program {pid} {death}"),
            None => "the program has closed the connection".to_owned(),
        }))
    }

    fn nonsense(&mut self, nonsense: Nonsense) -> Fault {
        let what = format!("the program has sent {nonsense}");
        self.life.condemn(format!("{what}; it is ended"));
        Fault::Program(what)
    }

    /// Waits until one side can go on.
    fn wait(
        &mut self,
        exchange: &mut Exchange,
        flow: &mut Flow,
        flushed: bool,
        is_full: bool,
    ) -> Result<(), Fault> {
        let some = |wanted: bool, flag: PollFlags| {
            if wanted { flag } else { PollFlags::empty() }
        };
        let all_sent = self.request.unsent().is_empty();
        let takes = flow.input != Input::Refused;
        let awaits_body = exchange.awaits_body();
        let wants_body = flow.input == Input::Body && all_sent;
        let keeps_body = !flushed && awaits_body && exchange.can_keep_body();
        let from_program =
            some(!is_full, PollFlags::POLLIN) | some(takes && !all_sent, PollFlags::POLLOUT);
        let watches = flow.watches && !awaits_body;
        // Whether it has left is to be seen behind what it has sent, of which no more is to come.
        let sees_end = awaits_body && !wants_body && exchange.can_keep_body();
        let from_client = some(wants_body || keeps_body || watches, PollFlags::POLLIN)
            | some(sees_end, ENDED)
            | some(!flushed, PollFlags::POLLOUT);
        let timeout = if flow.input == Input::Head && all_sent {
            flow.pause = (2 * flow.pause).min(PAUSES.1);
            Some(TimeSpec::from_duration(flow.pause))
        } else if wants_body || !flushed {
            let what = if flushed {
                "the request's body"
            } else {
                "the web server to take the answer"
            };
            let deadline = flow
                .deadline
                .get_or_insert_with(|| Deadline::new(TRANSFER, what));
            let left = deadline.left().map_err(Fault::Client)?;
            let left = u64::from(left.as_millis().unwrap_or_default());
            Some(TimeSpec::from_duration(Duration::from_millis(left)))
        } else {
            flow.deadline = None;
            None
        };
        let (Some(program), Some(client), Some(end)) = (
            &self.connection,
            exchange.connection(),
            self.life.end_of_program(),
        ) else {
            return self.replace();
        };
        let mut polled = [
            PollFd::new(program.as_fd(), from_program),
            PollFd::new(client, from_client),
            PollFd::new(end, PollFlags::POLLIN),
        ];
        match ppoll(&mut polled, timeout, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(Fault::Client(error.into())),
        }
        let [program, client, end] =
            polled.map(|polled| polled.revents().unwrap_or(PollFlags::POLLERR));
        if !client.is_empty() {
            self.look_at_client(exchange, flow, client, wants_body)?;
        }
        if program.is_empty() && !end.is_empty() {
            return self.replace();
        }
        Ok(())
    }

    fn look_at_client(
        &self,
        exchange: &mut Exchange,
        flow: &mut Flow,
        ready: PollFlags,
        wants_body: bool,
    ) -> Result<(), Fault> {
        if ready.contains(PollFlags::POLLOUT) {
            flow.deadline = None;
        }
        let failed = ready.intersects(PollFlags::POLLERR | PollFlags::POLLHUP);
        if ready.contains(PollFlags::POLLIN) && !failed {
            if wants_body {
                return Ok(());
            }
            if exchange.awaits_body() {
                return exchange.keep_body().map_err(Fault::Client);
            }
            // What comes behind the body is the next request, or gives this one up; it is seen in one look.
            flow.watches = false;
        }
        if (failed || ready.contains(PollFlags::POLLIN)) && exchange.is_peer_gone() {
            return Err(Fault::Client(exchange::Error::Gone));
        }
        Ok(())
    }

    /// The program has ended and the connection is still there, so that it was never accepted: its successor will.
    fn replace(&mut self) -> Result<(), Fault> {
        self.life
            .settle_for_request(&mut self.connection)
            .map_err(Fault::Program)
    }

    /// Tells the program that nobody wants the answer any more, and waits for the end of the request. Returns whether
    /// the connection can be kept, or there is no program any more.
    pub(super) fn abort_request(&mut self, within: Duration) -> bool {
        let until = Instant::now() + within;
        self.request.abort();
        loop {
            match self.answer.next() {
                Ok(Some(Event::End { .. })) => {
                    // Where its body ended is not known.
                    self.connection = None;
                    return true;
                }
                Ok(Some(_)) => continue,
                Ok(None) => {}
                Err(nonsense) => {
                    self.connection = None;
                    self.nonsense(nonsense);
                    return true;
                }
            }
            let Some(connection) = &self.connection else {
                return true;
            };
            let mut wanted = PollFlags::POLLIN;
            if !self.request.unsent().is_empty() {
                wanted |= PollFlags::POLLOUT;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let mut polled = [PollFd::new(connection.as_fd(), wanted)];
            let _ = ppoll(&mut polled, Some(TimeSpec::from_duration(left)), None);
            let ready = polled[0].revents().unwrap_or(PollFlags::POLLERR);
            if ready.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
                let flags = MsgFlags::MSG_DONTWAIT;
                match recv(connection.as_raw_fd(), self.answer.space(), flags) {
                    Ok(count @ 1..) => self.answer.filled(count),
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Ok(0) | Err(_) => self.connection = None,
                }
            }
            if ready.contains(PollFlags::POLLOUT) && self.send().is_err() {
                self.connection = None;
            }
        }
    }
}

/// Reads from the body what is there. Sets `is_over` at its end.
fn read_body(
    exchange: &mut Exchange,
    space: &mut [u8],
    is_over: &mut bool,
) -> exchange::Result<usize> {
    let mut filled = 0;
    while filled < space.len() {
        match exchange.try_read_body(&mut space[filled..])? {
            Some(count @ 1..) => filled += count,
            Some(0) => {
                *is_over = true;
                break;
            }
            None => break,
        }
    }
    Ok(filled)
}

/// What a program says on the standard error of a request goes to the log as what it says on its own does.
fn log(text: &[u8]) {
    let mut line = Vec::with_capacity(text.len() + 1);
    line.extend_from_slice(text);
    if line.last() != Some(&b'\n') {
        line.push(b'\n');
    }
    // Nobody may be left to read it.
    let _ = io::stderr().write_all(&line);
}
