//! Back-off of a pool whose workers, or whose mold, die at start.
//!
//! Each failure in a row doubles the wait before the next try, from [`FIRST`] to [`LONGEST`]. A success ends the row: a
//! worker that was started after the last failure and has served, or has lasted for [`PROBATION`]. To have become ready
//! is not enough, or a worker that dies of its first breath would be forked for ever.

use crate::time::Time;
use std::time::Duration;

/// The wait after the first failure.
pub const FIRST: Duration = Duration::from_millis(100);

/// The longest wait.
pub const LONGEST: Duration = Duration::from_secs(30);

/// How long a worker must have been ready for its start to count as a success, if it has not served.
pub const PROBATION: Duration = Duration::from_secs(1);

/// The failures of a pool in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Respawn {
    failures: u32,
    until: Option<Time>,
}

impl Respawn {
    /// A start failed. Returns the wait, unless this failure falls into a wait that runs already: workers that were
    /// started together fail together, and count once.
    pub fn failed(&mut self, now: Time) -> Option<Duration> {
        if self.blocked_until(now).is_some() {
            return None;
        }
        let wait = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + wait);
        Some(wait)
    }

    /// A worker got ready at `ready` and is still there `now`, or has just ended. Ends the row if that proves that
    /// starting works.
    pub fn survived(&mut self, now: Time, ready: Time, served: bool) {
        let later = self.until.is_none_or(|until| until <= ready);
        if later && (served || now.since(ready) >= PROBATION) {
            *self = Self::default();
        }
    }

    /// The instant before which nothing is to be started, if it is yet to come.
    #[must_use]
    pub fn blocked_until(&self, now: Time) -> Option<Time> {
        self.until.filter(|&until| until > now)
    }

    /// How many starts have failed in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_came_after_the_failure_and_lasted_or_served_ends_the_row() {
        let moment = Duration::from_millis(1);
        let failed = Time(0);
        let tried = failed + FIRST;
        let late = tried + PROBATION;
        #[rustfmt::skip]
        let table = [
            // ready, now, served, ends the row
            (tried, late, false, true),
            (tried, tried + moment, true, true),
            (tried, late - moment, false, false),
            (tried - moment, late, false, false),
            (failed, late, true, false),
        ];
        for (ready, now, served, ends) in table {
            let mut respawn = Respawn::default();
            respawn.failed(failed);
            respawn.survived(now, ready, served);
            assert_eq!(respawn.failures() == 0, ends, "{ready:?} {now:?} {served}");
        }
    }

    #[test]
    fn the_wait_doubles_up_to_its_bound_and_success_ends_it() {
        let mut respawn = Respawn::default();
        let mut now = Time(0);
        let mut waits = Vec::new();
        for _ in 0..12 {
            let wait = respawn.failed(now).expect("no wait runs");
            assert_eq!(
                respawn.failed(now),
                None,
                "a second failure in the same wait"
            );
            waits.push(wait.as_millis());
            now = now + wait;
            assert_eq!(respawn.blocked_until(now), None);
        }
        assert_eq!(waits[..5], [100, 200, 400, 800, 1600]);
        assert_eq!(waits[9..], [30_000, 30_000, 30_000]);
        respawn.survived(now + PROBATION, now, false);
        assert_eq!(respawn.failed(now + PROBATION), Some(FIRST));
    }
}
