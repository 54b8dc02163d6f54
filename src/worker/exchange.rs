//! One request and its answer, over a connection that never blocks: each wait has a deadline.
//!
//! While the answer cannot be written, the body goes on being read into a spool: a web server that sends the whole body
//! before it reads (Caddy does) would otherwise wait for us as we wait for it.

mod ending;
mod file;
mod passing;

use crate::Blocking;
use crate::answer_head::AnswerHead;
use crate::deadline::Deadline;
use crate::spool::Spool;
use crate::watchdog::Watch;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use preforkd_fastcgi::pairs::Params;
use preforkd_fastcgi::receiver::{Error as WireError, Event, Head, Receiver};
use preforkd_fastcgi::record::ProtocolStatus;
use preforkd_fastcgi::response::Response;
use preforkd_sys::parking::{self, Arrived, Parking};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use thiserror::Error;

pub use crate::deadline::{FIRST_BYTE, HEADER, TRANSFER};

/// Reads that move a body into the spool at one time: a peer that sends faster must not keep the application waiting.
const SPOOL_TURNS: usize = 32;

/// Bytes of an answer that gather before they are sent without being asked to.
const ROOM: usize = 64 * 1024;

/// Why an exchange could not go on.
#[derive(Debug, Error)]
pub enum Error {
    /// The web server closed the connection, or gave the request up.
    #[error("the web server has closed the connection")]
    Gone,
    /// The network to it has failed, or has been silent for too long.
    #[error("the web server is out of reach: {}", .0.desc())]
    Unreachable(Errno),
    /// A deadline passed.
    #[error("timed out waiting for {0}")]
    Timeout(&'static str),
    /// The web server broke the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file that is sent as a part of the answer could not be read to its announced end.
    #[error("the file that is sent cannot be read to its end: {0}")]
    File(io::Error),
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN => Self::Gone,
            Errno::ETIMEDOUT
            | Errno::EHOSTUNREACH
            | Errno::EHOSTDOWN
            | Errno::ENETUNREACH
            | Errno::ENETDOWN => Self::Unreachable(errno),
            other => Self::Io(other.into()),
        }
    }
}

/// What comes on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A request.
    Request(Head),
    /// Nothing but records that are no request, all of which have been dealt with.
    Quiet,
    /// Nothing any more.
    Closed,
}

/// The result of a step of an exchange.
pub type Result<T> = std::result::Result<T, Error>;

/// What the exchange is doing, so that misuse is an error and not a broken stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No request.
    Waiting,
    /// A request is being answered.
    Open,
    /// The answer is complete.
    Ended,
    /// It is, and the connection is no longer ours.
    Parted,
    /// The connection is of no more use.
    Broken,
}

/// A worker's connection: requests in, answers out, one at a time.
#[derive(Debug)]
pub struct Exchange {
    connection: Option<OwnedFd>,
    receiver: Receiver,
    response: Response,
    stage: Stage,
    /// Where connections go that others can answer sooner.
    parking: Arc<Parking>,
    /// The piece of the body that lies in the receiver's buffer.
    piece: Range<usize>,
    spool: Spool,
    blocking: Blocking,
    watch: Option<Arc<Watch>>,
    /// The beginning of the answer, if somebody wants to know it.
    head: Option<AnswerHead>,
    /// What has happened to the network.
    unreachable: Option<Errno>,
}

/// A direct wait: nothing to let go.
pub const DIRECT: Blocking = |wait| wait();

impl Exchange {
    /// For connections that may be left to others in `parking`.
    #[must_use]
    pub fn new(receiver: Receiver, watch: Option<Arc<Watch>>, parking: Arc<Parking>) -> Self {
        Self {
            connection: None,
            receiver,
            response: Response::default(),
            stage: Stage::Waiting,
            parking,
            piece: 0..0,
            spool: Spool::default(),
            blocking: DIRECT,
            watch,
            head: None,
            unreachable: None,
        }
    }

    /// Takes a new connection, which must not block; the one before is closed.
    pub fn open(&mut self, connection: OwnedFd) {
        self.connection = Some(connection);
        self.receiver.reset();
        self.stage = Stage::Waiting;
        self.forget_body();
    }

    /// Closes the connection. To be called when no watchdog watches a request on it.
    pub fn close(&mut self) {
        self.connection = None;
        self.stage = Stage::Broken;
        self.forget_body();
    }

    /// Tells once that the network to the web server has failed.
    pub fn take_loss(&mut self) -> Option<Error> {
        self.unreachable.take().map(Error::Unreachable)
    }

    /// Remembers an error of the connection, where it is one of the network.
    fn failed(&mut self, errno: Errno) -> Error {
        let error = Error::from(errno);
        if let Error::Unreachable(errno) = error {
            self.unreachable = Some(errno);
        }
        error
    }

    /// The connection, if there is one.
    #[must_use]
    pub fn connection(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(AsFd::as_fd)
    }

    /// Keeps the beginning of each answer from now on, for [`Self::answer_head`].
    pub fn keep_heads(&mut self) {
        self.head = Some(AnswerHead::default());
    }

    /// The header lines of the answer, as far as it has come; none without [`Self::keep_heads`].
    #[must_use]
    pub fn answer_head(&self) -> &[u8] {
        self.head.as_ref().map_or(b"", AnswerHead::lines)
    }

    /// Takes requests for all roles from now on, not a responder's alone.
    pub fn serve_all_roles(&mut self) {
        self.receiver.serve_all_roles();
    }

    /// How to wait from now on.
    pub fn set_blocking(&mut self, blocking: Blocking) {
        self.blocking = blocking;
    }

    /// Waits for what comes next on the connection, which must not be the rest of a request.
    ///
    /// # Errors
    /// See [`Error`]; the connection must be closed.
    pub fn next_request(&mut self) -> Result<Next> {
        let mut deadline = Deadline::new(FIRST_BYTE, "the first byte of a request");
        let mut begun = !self.receiver.is_idle();
        loop {
            match self.receiver.next()? {
                Some(Event::Request) => {
                    let head = self.receiver.head();
                    self.response.begin(head.id);
                    if let Some(head) = &mut self.head {
                        head.begin();
                    }
                    self.stage = Stage::Open;
                    return Ok(Next::Request(head));
                }
                Some(Event::Reply { records, close }) => {
                    self.response.begin(0);
                    self.response.records(&records);
                    deadline.restart(HEADER, "the end of the parameters");
                    self.send_replies(&mut deadline)?;
                    if close {
                        return Ok(Next::Closed);
                    }
                    continue;
                }
                // Before it was whole.
                Some(Event::Abort) => {
                    let Head { id, keep, .. } = self.receiver.head();
                    self.response.begin(id);
                    self.response.end(0, ProtocolStatus::Complete);
                    self.send_replies(&mut deadline)?;
                    self.receiver.finish();
                    if !keep {
                        return Ok(Next::Closed);
                    }
                    begun = true;
                    continue;
                }
                Some(Event::Body(_) | Event::BodyEnd) => {
                    unreachable!("the parameters come before the body")
                }
                None => {}
            }
            if begun {
                if self.receiver.is_idle() {
                    return Ok(Next::Quiet);
                }
                deadline.restart(HEADER, "the end of the parameters");
            }
            if self.receive(&mut deadline)? == 0 {
                return if self.receiver.is_idle() {
                    Ok(Next::Closed)
                } else {
                    Err(WireError::Malformed("it ends in the middle of its header").into())
                };
            }
            begun = true;
        }
    }

    /// Whether something has arrived on a connection between two requests. Looks at the connection, without waiting.
    #[must_use]
    pub fn has_arrived(&self) -> bool {
        self.connection().map(parking::look_at) == Some(Arrived::Bytes)
    }

    /// What the web server said of the request besides its parameters.
    #[must_use]
    pub fn head(&self) -> Head {
        self.receiver.head()
    }

    /// The parameters of the request.
    #[must_use]
    pub fn params(&self) -> &Params {
        self.receiver.params()
    }

    /// Reads from the body, waiting for at least one byte. 0 at its end.
    ///
    /// # Errors
    /// [`Error::Gone`] when the peer leaves before the end of the body.
    pub fn read_body(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if !self.spool.is_empty() {
            return Ok(self.spool.read(buffer)?);
        }
        let mut deadline = Deadline::new(TRANSFER, "the request's body");
        while self.piece.is_empty() {
            if self.receiver.body_complete() || buffer.is_empty() {
                return Ok(0);
            }
            if self.stage == Stage::Broken {
                return Err(Error::Gone);
            }
            if !self.next_piece()? && self.receive(&mut deadline)? == 0 {
                self.stage = Stage::Broken;
                return Err(Error::Gone);
            }
        }
        Ok(self.take_piece(buffer))
    }

    /// Adds to the answer; sends when much has gathered.
    ///
    /// # Errors
    /// [`Error::Gone`] when the peer has left.
    pub fn write(&mut self, mut data: &[u8]) -> Result<()> {
        self.check_open()?;
        if let Some(head) = &mut self.head {
            head.take(data);
        }
        loop {
            let taken = self.response.stdout(data, ROOM);
            data = &data[taken..];
            if data.is_empty() && self.response.pending() < ROOM {
                return Ok(());
            }
            self.flush()?;
        }
    }

    /// Sends all of the answer that there is so far.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn flush(&mut self) -> Result<()> {
        if self.response.pending() == 0 {
            return Ok(());
        }
        if let Some(watch) = &self.watch {
            watch.claim();
        }
        let sent = self.send_pending(Self::wait_to_send);
        if sent.is_err() {
            self.stage = Stage::Broken;
        }
        sent
    }

    /// Whether the web server has left, has given the request up, or the connection failed. Looks at the connection,
    /// without waiting. A web server that has only ended its side of the connection still wants its answer.
    #[must_use]
    pub fn is_peer_gone(&mut self) -> bool {
        if self.stage != Stage::Broken && self.look_at_peer().is_err() {
            self.stage = Stage::Broken;
        }
        self.stage == Stage::Broken
    }

    /// Whether bytes of a further request are already here.
    #[must_use]
    pub fn has_input(&self) -> bool {
        !self.receiver.is_idle()
    }

    fn forget_body(&mut self) {
        self.piece = 0..0;
        if !self.spool.is_empty() {
            self.spool.clear();
        }
    }

    fn check_open(&self) -> Result<()> {
        match self.stage {
            Stage::Open => Ok(()),
            Stage::Waiting | Stage::Ended | Stage::Parted | Stage::Broken => Err(Error::Gone),
        }
    }

    /// Takes the next piece of the body out of what has been received; false when more must be received first.
    fn next_piece(&mut self) -> Result<bool> {
        if self.receiver.is_aborted() {
            return Err(Error::Gone);
        }
        match self.receiver.next()? {
            Some(Event::Body(range)) => self.piece = range,
            Some(Event::BodyEnd) => {}
            Some(Event::Abort) => {
                self.stage = Stage::Broken;
                return Err(Error::Gone);
            }
            Some(Event::Reply { records, .. }) => {
                self.response.records(&records);
                // Nothing is sent while the application reads.
                if self.response.pending() > 2 * ROOM {
                    return Err(WireError::Malformed("it is full of management records").into());
                }
            }
            Some(Event::Request) => unreachable!("the receiver serves one request at a time"),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Sends what answers something else than a request.
    fn send_replies(&mut self, deadline: &mut Deadline) -> Result<()> {
        self.send_pending(|exchange| exchange.wait(PollFlags::POLLOUT, deadline).map(drop))
    }

    fn send_pending(&mut self, mut wait: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        while !self.send_some()? {
            wait(self)?;
        }
        Ok(())
    }

    /// Sends what can be sent without waiting. Returns whether that is all.
    fn send_some(&mut self) -> Result<bool> {
        // The content of a record from a file follows its header at once.
        let mut flags = MsgFlags::MSG_NOSIGNAL;
        if self.response.owed() > 0 {
            flags |= MsgFlags::from_bits_retain(nix::libc::MSG_MORE);
        }
        loop {
            let connection = self.connection.as_ref().ok_or(Error::Gone)?;
            let bytes = self.response.take();
            if bytes.is_empty() {
                return Ok(true);
            }
            match send(connection.as_raw_fd(), bytes, flags) {
                Ok(count) => self.response.sent(count),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(false),
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Waits until something can be sent, reading what comes meanwhile.
    fn wait_to_send(&mut self) -> Result<()> {
        let mut deadline = Deadline::new(TRANSFER, "the web server to take the answer");
        loop {
            let mut wanted = PollFlags::POLLOUT;
            if self.stage == Stage::Open && !self.receiver.body_complete() && !self.spool.is_full()
            {
                wanted |= PollFlags::POLLIN;
            }
            let ready = self.wait(wanted, &mut deadline)?;
            if ready.contains(PollFlags::POLLIN) && wanted.contains(PollFlags::POLLIN) {
                self.spool_input()?;
            }
            if ready.intersects(PollFlags::POLLOUT | PollFlags::POLLERR | PollFlags::POLLHUP) {
                return Ok(());
            }
        }
    }

    /// Moves bytes of the piece of the body that is there into `buffer`.
    fn take_piece(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.piece.len().min(buffer.len());
        let range = self.piece.start..self.piece.start + count;
        buffer[..count].copy_from_slice(self.receiver.bytes(range));
        self.piece.start += count;
        count
    }

    /// Moves the body that has arrived into the spool; never waits. What comes after the body stays where it is.
    fn spool_input(&mut self) -> Result<()> {
        let mut turns = 0..SPOOL_TURNS;
        loop {
            self.spool_piece()?;
            if self.receiver.body_complete() {
                return Ok(());
            }
            if self.next_piece()? {
                continue;
            }
            if self.spool.is_full() || turns.next().is_none() {
                return Ok(());
            }
            match self.try_receive() {
                Ok(0) => return Err(Error::Gone),
                Ok(_) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn spool_piece(&mut self) -> Result<()> {
        if !self.piece.is_empty() {
            let range = std::mem::take(&mut self.piece);
            self.spool.write(self.receiver.bytes(range))?;
        }
        Ok(())
    }

    /// Takes in what has arrived. An error when the peer has left or given the request up.
    fn look_at_peer(&mut self) -> Result<()> {
        if !self.receiver.body_complete() && !self.spool.is_full() {
            self.spool_input()?;
            if !self.receiver.body_complete() {
                return Ok(());
            }
        }
        let connection = self.connection.as_ref().ok_or(Error::Gone)?;
        let mut polled = [PollFd::new(connection.as_fd(), PollFlags::POLLIN)];
        // It fails for nothing that is wrong with the connection.
        let _ = poll(&mut polled, PollTimeout::ZERO);
        let ready = polled[0].revents().unwrap_or(PollFlags::empty());
        if ready.intersects(PollFlags::POLLERR | PollFlags::POLLHUP) {
            return Err(Error::Gone);
        }
        if self.receiver.body_complete() {
            if ready.contains(PollFlags::POLLIN) {
                self.spool_piece()?;
                match self.try_receive() {
                    Ok(_) | Err(Errno::EAGAIN) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if self.receiver.is_aborted() {
                return Err(Error::Gone);
            }
        }
        Ok(())
    }

    /// Receives at least one byte; 0 when the peer has closed.
    fn receive(&mut self, deadline: &mut Deadline) -> Result<usize> {
        deadline.next_turn()?;
        loop {
            match self.try_receive() {
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLIN, deadline)?,
                other => return Ok(other?),
            };
        }
    }

    fn try_receive(&mut self) -> nix::Result<usize> {
        let Some(connection) = &self.connection else {
            return Ok(0);
        };
        loop {
            match recv(
                connection.as_raw_fd(),
                self.receiver.space(),
                MsgFlags::empty(),
            ) {
                Err(Errno::EINTR) => {}
                Ok(count) => {
                    self.receiver.filled(count);
                    return Ok(count);
                }
                Err(error) => {
                    self.failed(error);
                    return Err(error);
                }
            }
        }
    }

    fn wait(&self, wanted: PollFlags, deadline: &mut Deadline) -> Result<PollFlags> {
        let connection = self.connection.as_ref().ok_or(Error::Gone)?;
        let mut polled = [PollFd::new(connection.as_fd(), wanted)];
        loop {
            let left = deadline.left()?;
            let mut result = Ok(0);
            (self.blocking)(&mut || result = poll(&mut polled, left));
            match result {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(polled[0].revents().unwrap_or(PollFlags::POLLERR)),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
