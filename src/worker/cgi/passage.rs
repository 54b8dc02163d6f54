//! A request on its way through a CGI program.
//!
//! All that can move is moved without waiting: the body to standard input, standard output to the answer, standard error
//! to the log and to the web server. Only when nothing moves there is a wait, for all of it at once, so that nothing
//! stands still whatever the program and the web server do first. The web server has deadlines; the program has the
//! pool's (`request_terminate_timeout`).
//!
//! The program has answered when it has ended, or has closed its standard output; what it has started may go on. It is
//! ended, with what it has started, when nobody wants its answer any more.

use super::head::Head;
use super::{Cgi, say};
use crate::deadline::Deadline;
use crate::exchange::{Error, Exchange, Result, TRANSFER};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use preforkd_sys::children::{self, Death};
use preforkd_sys::program::{self, Program, Started};
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Bytes that are moved at once.
const BUFFER: usize = 32 * 1024;

/// How long a program that has closed its standard output is given to end, before its answer is taken for whole.
const LAST_STEPS: Duration = Duration::from_secs(1);

/// How long a program whose answer nobody wants may take to end after SIGTERM.
const MERCY: Duration = Duration::from_secs(1);

/// Pieces of standard error that are read when the program is over: as much as a pipe holds. What it has started may go
/// on talking for ever.
const LAST_WORDS: usize = 16;

/// Bytes of standard error that are remembered.
const WORDS: usize = 1024;

/// Bytes on their way, read from one side and not yet taken by the other.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    taken: usize,
}

impl Buffer {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    fn is_empty(&self) -> bool {
        self.taken == self.bytes.len()
    }

    /// Has `fill` write to the buffer, which is empty, and returns how much that was: 0 at the end, None when nothing
    /// is there.
    fn fill<E>(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> std::result::Result<Option<usize>, E>,
    ) -> std::result::Result<Option<usize>, E> {
        self.taken = 0;
        self.bytes.resize(BUFFER, 0);
        let filled = fill(&mut self.bytes);
        let count = filled.as_ref().map_or(0, |count| count.unwrap_or(0));
        self.bytes.truncate(count);
        filled
    }
}

/// A program that runs for a request.
pub struct Passage<'a> {
    cgi: &'a Cgi,
    exchange: &'a mut Exchange,
    program: Started,
    death: Option<Death>,
    stdin: Option<PipeWriter>,
    stdout: Option<PipeReader>,
    stderr: Option<PipeReader>,
    /// Of the body, for standard input.
    body: Buffer,
    /// Of standard output, for the answer.
    output: Buffer,
    head: Head,
    /// Whether the head has gone to the answer.
    is_begun: bool,
    /// What is wrong with what the program says, all of which is thrown away then.
    mistake: Option<&'static str>,
    /// Bytes of the answer's body.
    length: u64,
    /// What it has said last on standard error.
    words: Vec<u8>,
    /// Until when a program that has nothing more to say is awaited.
    last: Option<Instant>,
    /// By when the web server must send more, when the program waits for it.
    sending: Option<Deadline>,
    /// By when the web server must take more.
    taking: Option<Deadline>,
    /// The web server has sent more than this request.
    has_more: bool,
}

impl<'a> Passage<'a> {
    /// Starts a program for the request.
    ///
    /// # Errors
    /// EMFILE and its like, and those of starting a program.
    pub fn begin(
        cgi: &'a Cgi,
        exchange: &'a mut Exchange,
        program: &Program,
        directory: BorrowedFd<'_>,
    ) -> io::Result<Self> {
        let (its_stdin, stdin) = pipe()?;
        let (stdout, its_stdout) = pipe()?;
        let (stderr, its_stderr) = pipe()?;
        for ours in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
            fcntl(ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let stdio = [its_stdin.as_fd(), its_stdout.as_fd(), its_stderr.as_fd()];
        let program = program.start(stdio, directory)?;
        cgi.running.store(program.pid.as_raw(), Ordering::SeqCst);
        cgi.announce(program.pid);
        Ok(Self {
            cgi,
            exchange,
            program,
            death: None,
            stdin: Some(stdin),
            stdout: Some(stdout),
            stderr: Some(stderr),
            body: Buffer::default(),
            output: Buffer::default(),
            head: Head::default(),
            is_begun: false,
            mistake: None,
            length: 0,
            words: Vec::new(),
            last: None,
            sending: None,
            taking: None,
            has_more: false,
        })
    }

    /// Moves everything to where it belongs, and ends the answer. `path` is the program's name for the log.
    ///
    /// # Errors
    /// [`Error::Gone`] and its like; the program has been ended then.
    pub fn run(mut self, path: &str) -> Result<()> {
        let passed = self.pass();
        if passed.is_err() || !self.is_begun {
            self.dismiss();
        }
        let ended = passed.and_then(|()| self.end(path));
        if self.exchange.is_ended() {
            self.see_off();
        } else {
            self.dismiss();
        }
        ended
    }

    /// Returns when the program has said all that it is going to say.
    fn pass(&mut self) -> Result<()> {
        loop {
            let moved = self.feed()? | self.take_output()?;
            // Whoever talks without end must not keep the rest from being looked at.
            self.hear();
            if moved {
                continue;
            }
            let is_over =
                self.death.is_some() || self.last.is_some_and(|last| Instant::now() >= last);
            if is_over && self.output.is_empty() {
                self.hear_out();
                return Ok(());
            }
            let is_sent = self.exchange.try_flush()?;
            if is_sent && !self.output.is_empty() {
                continue;
            }
            self.wait(is_sent)?;
        }
    }

    /// Moves some of the body to standard input. Returns whether anything moved.
    fn feed(&mut self) -> Result<bool> {
        let Some(stdin) = &mut self.stdin else {
            return Ok(false);
        };
        if self.body.is_empty() {
            let exchange = &mut *self.exchange;
            match self.body.fill(|space| exchange.try_read_body(space))? {
                None => return Ok(false),
                Some(0) => {
                    self.stdin = None;
                    return Ok(true);
                }
                Some(_) => self.sending = None,
            }
        }
        match stdin.write(self.body.rest()) {
            Ok(count) => self.body.taken += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // It does not want the rest.
            Err(_) => {
                self.stdin = None;
                self.body = Buffer::default();
            }
        }
        Ok(true)
    }

    /// Moves some of standard output to the answer. Returns whether anything moved.
    fn take_output(&mut self) -> Result<bool> {
        if self.output.is_empty() {
            let Some(stdout) = &mut self.stdout else {
                return Ok(false);
            };
            match self.output.fill(|space| try_read(stdout, space))? {
                None => return Ok(false),
                Some(0) => {
                    self.stdout = None;
                    self.last = self.last.or(Some(Instant::now() + LAST_STEPS));
                    return Ok(true);
                }
                Some(count) => self.length += count as u64,
            }
        }
        if !self.is_begun && !self.take_head() {
            self.output.taken = self.output.bytes.len();
            return Ok(true);
        }
        let count = self.exchange.try_write(self.output.rest())?;
        self.output.taken += count;
        Ok(count > 0)
    }

    /// Takes output as the head. Returns whether that is whole now; then it is the output, with what follows it.
    fn take_head(&mut self) -> bool {
        if self.mistake.is_some() {
            return false;
        }
        match self.head.take(self.output.rest()) {
            Ok(None) => false,
            Ok(Some(end)) => {
                self.is_begun = true;
                self.output.bytes = self.head.bytes().to_vec();
                self.length = (self.output.bytes.len() - end) as u64;
                true
            }
            Err(mistake) => {
                self.mistake = Some(mistake.text());
                self.last = Some(Instant::now() + LAST_STEPS);
                false
            }
        }
    }

    /// Moves a piece of standard error to the log and, as far as there is room, to the web server. Returns whether
    /// anything moved.
    fn hear(&mut self) -> bool {
        let Some(stderr) = &mut self.stderr else {
            return false;
        };
        let mut buffer = [0; 4096];
        match try_read(stderr, &mut buffer) {
            Ok(None) => return false,
            Ok(Some(count @ 1..)) => {
                let words = &buffer[..count];
                self.words.extend_from_slice(words);
                self.words.drain(..self.words.len().saturating_sub(WORDS));
                // The master may have gone, and the web server; both are noticed elsewhere.
                let _ = io::stderr().write_all(words);
                let _ = self.exchange.try_write_error(words);
            }
            Ok(Some(0)) | Err(_) => self.stderr = None,
        }
        true
    }

    /// Takes in what was last said.
    fn hear_out(&mut self) {
        for _ in 0..LAST_WORDS {
            if !self.hear() {
                return;
            }
        }
    }

    /// Waits until something can move.
    fn wait(&mut self, is_sent: bool) -> Result<()> {
        let awaits_body = self.exchange.awaits_body();
        let is_starved = awaits_body && self.stdin.is_some() && self.body.is_empty();
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::POLLOUT, !is_sent);
        // While it takes nothing, it may wait for us to take what it sends.
        let keeps = awaits_body && !is_starved && !is_sent && self.exchange.can_keep_body();
        let looks = !awaits_body && !self.has_more;
        wanted.set(PollFlags::POLLIN, is_starved || keeps || looks);

        let mut timeout = PollTimeout::NONE;
        for (is_due, deadline, what) in [
            (is_starved, &mut self.sending, "the request's body"),
            (
                !is_sent,
                &mut self.taking,
                "the web server to take the answer",
            ),
        ] {
            if is_due {
                let left = deadline
                    .get_or_insert_with(|| Deadline::new(TRANSFER, what))
                    .left()?;
                timeout = sooner(timeout, left);
            } else {
                *deadline = None;
            }
        }
        if let Some(last) = self.last.filter(|_| self.output.is_empty()) {
            let left = last.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            timeout = sooner(
                timeout,
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
            );
        }

        let connection = self.exchange.connection().ok_or(Error::Gone)?;
        let readable = PollFlags::POLLIN;
        let mut polled = vec![PollFd::new(connection, wanted)];
        if self.death.is_none() {
            polled.push(PollFd::new(self.program.end.as_fd(), readable));
        }
        if let Some(stdin) = self.stdin.as_ref().filter(|_| !self.body.is_empty()) {
            polled.push(PollFd::new(stdin.as_fd(), PollFlags::POLLOUT));
        }
        if let Some(stdout) = self.stdout.as_ref().filter(|_| self.output.is_empty()) {
            polled.push(PollFd::new(stdout.as_fd(), readable));
        }
        if let Some(stderr) = &self.stderr {
            polled.push(PollFd::new(stderr.as_fd(), readable));
        }
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events = polled[0].revents().unwrap_or(PollFlags::empty());
        if self.death.is_none() && polled[1].any().unwrap_or(false) {
            self.bury();
        }
        if events.contains(PollFlags::POLLOUT) {
            self.taking = None;
        }
        if events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP) {
            return Err(Error::Gone);
        }
        if events.contains(PollFlags::POLLIN) {
            if keeps {
                self.exchange.keep_body()?;
            } else if looks {
                self.has_more = true;
                if self.exchange.is_peer_gone() {
                    return Err(Error::Gone);
                }
            }
        }
        Ok(())
    }

    /// Ends the answer as the program has deserved.
    fn end(&mut self, path: &str) -> Result<()> {
        if !self.is_begun {
            let what = self
                .mistake
                .unwrap_or("its output ends before its headers do");
            self.complain(path, &format!(": {what}"));
            return say(self.exchange, "502 Bad Gateway", "The program has failed.");
        }
        let declared = self.head.length();
        let is_cut = declared.is_some_and(|declared| self.length < declared)
            && self.exchange.params().get(b"REQUEST_METHOD") != Some(b"HEAD");
        match self.death {
            Some(Death::Signaled { .. }) => self.complain(path, " in the middle of its answer"),
            _ if is_cut => self.complain(path, " before the end of the body that it has declared"),
            Some(Death::Exited(status)) => return self.exchange.end(status.unsigned_abs()),
            None => return self.exchange.end(0),
        }
        self.exchange.abort();
        Ok(())
    }

    /// Has the log say how the program has ended, what is wrong with that, and what it said last.
    fn complain(&self, path: &str, what: &str) {
        let how = self
            .death
            .map_or_else(|| "goes on".to_owned(), |death| death.to_string());
        let words = String::from_utf8_lossy(&self.words);
        let last = match words.lines().rfind(|line| !line.trim().is_empty()) {
            Some(line) => format!("; its last words: {line}"),
            None => String::new(),
        };
        self.cgi.complain(format!("{path} {how}{what}{last}"));
    }

    /// Ends the program and what it has started, because nobody wants what it does.
    fn dismiss(&mut self) {
        if self.death.is_none() {
            program::signal_group(self.program.pid, Signal::SIGTERM);
            let mut polled = [PollFd::new(self.program.end.as_fd(), PollFlags::POLLIN)];
            let mercy = PollTimeout::try_from(MERCY).unwrap_or(PollTimeout::ZERO);
            // If it fails, there is no mercy.
            let _ = poll(&mut polled, mercy);
            program::kill_group(self.program.pid);
            self.bury();
        }
        self.hear_out();
    }

    /// Waits for the end of a program whose answer is complete, and lets go of the connection, whose next request would
    /// wait for that as well.
    fn see_off(&mut self) {
        if self.death.is_some() {
            return;
        }
        self.exchange.part();
        while self.death.is_none() {
            self.hear();
            let mut polled = vec![PollFd::new(self.program.end.as_fd(), PollFlags::POLLIN)];
            polled.extend(
                self.stderr
                    .as_ref()
                    .map(|stderr| PollFd::new(stderr.as_fd(), PollFlags::POLLIN)),
            );
            let _ = poll(&mut polled, PollTimeout::NONE);
            if polled[0].any() != Some(false) {
                drop(polled);
                self.bury();
            }
        }
        self.hear_out();
    }

    /// Reaps the program, which has ended, and whose pid may be another's from then on.
    fn bury(&mut self) {
        self.cgi.running.store(0, Ordering::SeqCst);
        // Nobody else reaps it, so that it is there.
        let death = children::wait_for(self.program.pid);
        self.death = Some(death.unwrap_or(Death::Exited(0)));
    }
}

/// Reads what is there: None when nothing is, 0 at the end.
fn try_read(from: &mut PipeReader, space: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match from.read(space) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            other => return other.map(Some),
        }
    }
}

/// The sooner of two timeouts, of which the first may be none.
fn sooner(one: PollTimeout, other: PollTimeout) -> PollTimeout {
    if one.is_none() { other } else { one.min(other) }
}
