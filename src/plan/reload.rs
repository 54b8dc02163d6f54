//! Whether a new generation takes over.
//!
//! A reload starts a new generation of each pool beside the old one. Both serve. When all new ones are ready the old
//! ones are asked to leave; when one fails all new ones end, and the old ones go on as if nothing had happened. So a
//! site is never served by half of a configuration.

use crate::time::Time;
use std::time::Duration;

/// How long a new generation may take in all: a mold and the first workers, each in its own time to start, which is
/// `start` at most, and some.
#[must_use]
pub fn timeout(start: Duration) -> Duration {
    start.saturating_mul(2) + Duration::from_secs(30)
}

/// How far a new generation of one pool has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is starting.
    Coming,
    /// Its first workers serve, or it has none and can fork them.
    Ready,
    /// Its mold or one of its workers could not start.
    Failed,
}

/// What becomes of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not all is known yet.
    Wait,
    /// The old generation is to leave.
    Commit,
    /// The new generation is to end.
    Abandon,
}

/// Judges a reload by the new generation's pools. `deadline` is [`timeout`] after its begin.
pub fn judge(now: Time, deadline: Time, standings: impl IntoIterator<Item = Standing>) -> Verdict {
    let mut all_ready = true;
    for standing in standings {
        match standing {
            Standing::Failed => return Verdict::Abandon,
            Standing::Coming => all_ready = false,
            Standing::Ready => {}
        }
    }
    match (all_ready, deadline <= now) {
        (true, _) => Verdict::Commit,
        (false, true) => Verdict::Abandon,
        (false, false) => Verdict::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::Standing::{Coming, Failed, Ready};
    use super::*;

    #[test]
    fn judged_by_table() {
        let (early, deadline) = (Time(1), Time(2));
        #[rustfmt::skip]
        let table = [
            (early, &[][..], Verdict::Commit),
            (early, &[Ready], Verdict::Commit),
            (early, &[Ready, Coming], Verdict::Wait),
            (early, &[Coming, Failed], Verdict::Abandon),
            (early, &[Ready, Failed], Verdict::Abandon),
            (deadline, &[Ready, Ready], Verdict::Commit),
            (deadline, &[Ready, Coming], Verdict::Abandon),
        ];
        for (now, standings, verdict) in table {
            assert_eq!(
                judge(now, deadline, standings.iter().copied()),
                verdict,
                "{standings:?} at {now:?}"
            );
        }
    }
}
