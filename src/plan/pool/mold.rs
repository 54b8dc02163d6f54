//! Whether a mold forks a pool's workers, and how it is.

use crate::respawn::PROBATION;
use crate::time::Time;

/// The mold of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mold {
    /// The master forks the workers itself.
    Needless,
    Absent,
    Starting {
        deadline: Time,
    },
    Ready {
        since: Time,
    },
    /// It was told to end, or killed; when to kill it next.
    Ending {
        deadline: Time,
    },
}

impl Mold {
    /// One is to start, and to be ready by `deadline`. Returns whether one is wanted.
    pub(super) fn start(&mut self, deadline: Time) -> bool {
        let wanted = *self == Self::Absent;
        if wanted {
            *self = Self::Starting { deadline };
        }
        wanted
    }

    /// It has said that it is ready, which counts unless it was told to end meanwhile.
    pub(super) fn ready(&mut self, now: Time) {
        if let Self::Starting { .. } = self {
            *self = Self::Ready { since: now };
        }
    }

    /// It was told to end, and is to be killed at `deadline` if it does not.
    pub(super) fn end(&mut self, deadline: Time) {
        match self {
            Self::Needless | Self::Absent => {}
            Self::Starting { .. } | Self::Ready { .. } | Self::Ending { .. } => {
                *self = Self::Ending { deadline };
            }
        }
    }

    /// There can be none.
    pub(super) fn forgo(&mut self) {
        *self = Self::Needless;
    }

    /// It is dead. Returns whether it has lasted, so that its start counts as a success, or is nobody's concern.
    pub(super) fn gone(&mut self, now: Time) -> bool {
        match *self {
            Self::Needless => true,
            was => {
                *self = Self::Absent;
                matches!(was, Self::Ready { since } if now.since(since) >= PROBATION)
            }
        }
    }

    /// Whether workers can be forked.
    pub(super) fn can_fork(self) -> bool {
        matches!(self, Self::Needless | Self::Ready { .. })
    }

    /// By when it has to be ready, or gone.
    pub(super) fn deadline(self) -> Option<Time> {
        match self {
            Self::Starting { deadline } | Self::Ending { deadline } => Some(deadline),
            Self::Needless | Self::Absent | Self::Ready { .. } => None,
        }
    }

    pub(super) fn is_overdue(self, now: Time) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }
}
