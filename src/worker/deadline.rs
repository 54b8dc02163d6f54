//! By when a peer must have done its part. The clock is read only when there is a wait, or a second turn: most requests
//! and answers need neither.

use crate::exchange::{Error, Result};
use nix::poll::PollTimeout;
use std::time::{Duration, Instant};

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
