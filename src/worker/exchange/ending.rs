//! How a request ends: its answer complete or given up, its connection kept, closed, or left to others.

use super::{Error, Exchange, Result, Stage};
use crate::deadline::{Deadline, LINGER};
use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};
use preforkd_fastcgi::record::{self, ProtocolStatus};
use std::os::fd::AsRawFd;

impl Exchange {
    /// Completes the answer and sends the rest of it. `status` is 0 for success (`appStatus`).
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn end(&mut self, status: u32) -> Result<()> {
        self.end_with(status, ProtocolStatus::Complete)
    }

    /// Completes the answer as [`Self::end`] does, with another status on the level of the protocol.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn end_with(&mut self, status: u32, protocol: ProtocolStatus) -> Result<()> {
        self.check_open()?;
        self.response.end(status, protocol);
        self.flush()?;
        self.stage = Stage::Ended;
        if let Some(watch) = &self.watch {
            watch.answered();
        }
        Ok(())
    }

    /// Gives the request up: the connection ends without a clean end of the answer, so that no web server takes what
    /// was sent for a whole one. Caddy, and nginx where it does not buffer, think nothing of an answer that just stops,
    /// so the last that they get is no FastCGI.
    pub fn abort(&mut self) {
        // A web server that has given it up takes nothing for a whole answer, and may go on with the connection.
        if self.receiver.is_aborted() {
            self.stage = Stage::Broken;
            return;
        }
        if let Some(watch) = &self.watch {
            watch.claim();
        }
        if let Some(connection) = &self.connection
            && !self.response.may_be_cut()
        {
            // If nothing more can be sent, the connection's end has to do.
            let _ = send(
                connection.as_raw_fd(),
                &record::NONSENSE,
                MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
            );
        }
        self.shut_down();
        self.stage = Stage::Broken;
    }

    /// Ends the connection for everybody who holds it: a child that the application forked keeps it from being closed.
    pub fn shut_down(&self) {
        self.shut(Shutdown::Both);
    }

    fn shut(&self, sides: Shutdown) {
        if let Some(connection) = self.connection.as_ref()
            && self.stage != Stage::Parted
        {
            // The peer may have left, which is as good.
            let _ = shutdown(connection.as_raw_fd(), sides);
        }
    }

    /// Parts with the connection when the answer is complete: the next request on it would wait here for what the
    /// application still does. One that the web server wants to keep goes to the pool's other workers, if it can.
    pub fn part(&mut self) {
        if self.stage == Stage::Ended && !self.receiver.head().keep {
            self.shut(Shutdown::Write);
        } else if self.stage == Stage::Ended
            && self.can_be_left()
            && let Some(connection) = self.connection()
            && self.parking.put(connection).is_ok()
        {
            self.stage = Stage::Parted;
        }
    }

    /// Whether others can go on with the connection between two requests: nothing that belongs to the last one is still to
    /// come, and nothing of the next one has been received.
    pub fn can_be_left(&mut self) -> bool {
        self.receiver.is_exhausted()
    }

    /// Whether the answer is complete.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended | Stage::Parted)
    }

    /// After the application: makes the connection ready for the next request, if it is to be kept.
    /// Returns whether it is.
    pub fn finish(&mut self) -> bool {
        let keep = self.receiver.head().keep;
        let mut deadline = Deadline::new(LINGER, "the rest of the request's body");
        let usable = match self.stage {
            Stage::Ended => self.discard_body(keep, &mut deadline),
            Stage::Open | Stage::Broken if self.receiver.is_aborted() => self.end_given_up(),
            Stage::Waiting | Stage::Open | Stage::Parted | Stage::Broken => Err(Error::Gone),
        };
        let usable = usable.and_then(|()| self.send_replies(&mut deadline));
        if usable.is_err() || !keep {
            return false;
        }
        self.receiver.finish();
        self.forget_body();
        self.stage = Stage::Waiting;
        true
    }

    /// Ends a request that the web server has given up, which still waits for that (specification, 5.4).
    fn end_given_up(&mut self) -> Result<()> {
        // What began to be sent has to come to its end, and of a file it cannot.
        if self.response.owed() > 0 {
            return Err(Error::Gone);
        }
        self.response.end(0, ProtocolStatus::Complete);
        Ok(())
    }

    /// Reads what is left of the body when the answer is complete: for an application that may take its time before it gives
    /// this back, and has not read all.
    pub fn linger(&mut self) {
        let keep = self.receiver.head().keep;
        let mut deadline = Deadline::new(LINGER, "the rest of the request's body");
        if self.stage == Stage::Ended && self.discard_body(keep, &mut deadline).is_err() {
            self.stage = Stage::Broken;
        }
    }

    /// Reads what is left of the body: needed before the next request, and before a close, since closing with unread
    /// bytes resets a TCP connection and may cost the peer the end of the answer.
    fn discard_body(&mut self, keep: bool, deadline: &mut Deadline) -> Result<()> {
        let mut told = keep;
        while !self.receiver.body_complete() && !self.receiver.is_aborted() {
            self.piece = 0..0;
            match self.next_piece() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(_) if self.receiver.is_aborted() => return Ok(()),
                Err(error) => return Err(error),
            }
            if !told {
                told = true;
                self.shut(Shutdown::Write);
            }
            if self.receive(deadline)? == 0 {
                return Err(Error::Gone);
            }
        }
        Ok(())
    }
}
