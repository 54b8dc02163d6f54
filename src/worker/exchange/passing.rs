//! An exchange without waits, for an application that itself waits for two sides at once.

use super::{Error, Exchange, ROOM, Result, Stage};
use nix::errno::Errno;

impl Exchange {
    /// Whether the whole body has been received and read. Looks at what has been received only.
    ///
    /// # Errors
    /// [`Error::Gone`] when the web server has given the request up.
    pub fn is_body_read(&mut self) -> Result<bool> {
        while self.piece.is_empty() && !self.receiver.body_complete() && self.next_piece()? {}
        Ok(self.receiver.body_complete() && self.piece.is_empty() && self.spool.is_empty())
    }

    /// Whether there is more of the body to be received.
    #[must_use]
    pub fn awaits_body(&self) -> bool {
        self.stage == Stage::Open && !self.receiver.body_complete()
    }

    /// Reads from the body what is there: None when nothing is, 0 at its end.
    ///
    /// # Errors
    /// [`Error::Gone`] when the peer leaves before the end of the body.
    pub fn try_read_body(&mut self, buffer: &mut [u8]) -> Result<Option<usize>> {
        if !self.spool.is_empty() {
            return Ok(Some(self.spool.read(buffer)?));
        }
        while self.piece.is_empty() {
            if self.receiver.body_complete() {
                return Ok(Some(0));
            }
            if self.next_piece()? {
                continue;
            }
            match self.try_receive() {
                Ok(0) => {
                    self.stage = Stage::Broken;
                    return Err(Error::Gone);
                }
                Ok(_) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(self.take_piece(buffer)))
    }

    /// Whether [`Self::keep_body`] has room.
    #[must_use]
    pub fn can_keep_body(&self) -> bool {
        !self.spool.is_full()
    }

    /// Keeps what has come of the body for [`Self::try_read_body`], so that the web server can send on, up to the bound
    /// of a spool.
    ///
    /// # Errors
    /// [`Error::Gone`] when the peer leaves before the end of the body; [`Error::Io`] when there is no room for it.
    pub fn keep_body(&mut self) -> Result<()> {
        if self.spool.is_full() {
            return Ok(());
        }
        self.spool_input()
    }

    /// Adds as much to the answer as there is room for, and tells how much it was.
    ///
    /// # Errors
    /// [`Error::Gone`] when the request is no longer to be answered.
    pub fn try_write(&mut self, data: &[u8]) -> Result<usize> {
        self.check_open()?;
        let taken = self.response.stdout(data, ROOM);
        if let Some(head) = &mut self.head {
            head.take(&data[..taken]);
        }
        Ok(taken)
    }

    /// Adds to the standard error that the web server gets with the answer, if there is room; returns whether there was.
    ///
    /// # Errors
    /// As [`Self::try_write`].
    pub fn try_write_error(&mut self, data: &[u8]) -> Result<bool> {
        self.check_open()?;
        let has_room = self.response.pending() < ROOM;
        if has_room {
            self.response.stderr(data);
        }
        Ok(has_room)
    }

    /// Sends what can be sent of the answer without waiting. Returns whether that is all.
    ///
    /// # Errors
    /// [`Error::Gone`] when the peer has left.
    pub fn try_flush(&mut self) -> Result<bool> {
        if self.response.pending() == 0 {
            return Ok(true);
        }
        if let Some(watch) = &self.watch {
            watch.claim();
        }
        let sent = self.send_some();
        if sent.is_err() {
            self.stage = Stage::Broken;
        }
        sent
    }
}
