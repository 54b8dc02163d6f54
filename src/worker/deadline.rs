//! By when a peer must have done its part. The clock is read only when there is a wait, or a second turn: most requests
//! and answers need neither.

use crate::exchange::{Error, Result};
use nix::poll::PollTimeout;
use std::time::{Duration, Instant};

/// How long an accepted connection may stay silent, as in php-fpm.
pub const FIRST_BYTE: Duration = Duration::from_secs(5);

/// How long the parameters of a request may take from their first byte.
pub const HEADER: Duration = Duration::from_secs(10);

/// How long the peer may let a read of the body, or a write of the answer, wait: what nginx allows by default.
pub const TRANSFER: Duration = Duration::from_secs(60);

/// How long the rest of a body that the application did not read is awaited before the connection is closed.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// An instant by which something must have happened.
pub(crate) struct Deadline {
    span: Duration,
    from: Option<Instant>,
    turned: bool,
    what: &'static str,
}

impl Deadline {
    pub(crate) fn new(span: Duration, what: &'static str) -> Self {
        Self {
            span,
            from: None,
            turned: false,
            what,
        }
    }

    /// Another span for what comes next; a span that runs already under this name goes on.
    pub(crate) fn restart(&mut self, span: Duration, what: &'static str) {
        if self.what != what {
            *self = Self::new(span, what);
        }
    }

    /// Something came, and more is needed: a peer that never pauses must not be listened to for ever.
    pub(crate) fn next_turn(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.turned, true) {
            self.left()?;
        }
        Ok(())
    }

    pub(crate) fn left(&mut self) -> Result<PollTimeout> {
        let from = *self.from.get_or_insert_with(Instant::now);
        let left = self.span.saturating_sub(from.elapsed());
        if left.is_zero() {
            return Err(Error::Timeout(self.what));
        }
        // Rounded up: a poll that returns too early would find no time left and spin.
        Ok(PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX))
    }
}
