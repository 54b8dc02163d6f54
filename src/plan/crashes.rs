//! Workers that crash, counted over time.
//!
//! php-fpm's emergency restart: so many workers dead of SIGSEGV or SIGBUS within an interval mean that what they share
//! (a cache, the preloaded application) is broken, and a reload makes it anew.

use crate::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// The last crashes.
#[derive(Clone, Debug)]
pub struct Crashes {
    threshold: usize,
    interval: Duration,
    last: VecDeque<Time>,
}

impl Crashes {
    /// Counts up to `threshold` crashes within `interval`. If either is zero there is never an emergency.
    #[must_use]
    pub fn new(threshold: u32, interval: Duration) -> Self {
        Self {
            threshold: threshold as usize,
            interval,
            last: VecDeque::new(),
        }
    }

    /// How many crashes are an emergency.
    #[must_use]
    pub fn threshold(&self) -> usize {
        self.threshold
    }

    /// Within which time.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// A worker has crashed. Returns whether this is an emergency; the count begins anew then.
    pub fn crashed(&mut self, now: Time) -> bool {
        if self.threshold == 0 || self.interval.is_zero() {
            return false;
        }
        self.last.push_back(now);
        if self.last.len() < self.threshold {
            return false;
        }
        let first = self.last.pop_front();
        let emergency = first.is_some_and(|first| now.since(first) <= self.interval);
        if emergency {
            self.last.clear();
        }
        emergency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(threshold: u32, interval: u64, crashes: &[u64]) -> Vec<u64> {
        let mut counted = Crashes::new(threshold, Duration::from_secs(interval));
        let second = |at: u64| Time(at * 1_000_000_000);
        let mut emergencies = crashes.to_vec();
        emergencies.retain(|&at| counted.crashed(second(at)));
        emergencies
    }

    #[test]
    fn as_many_as_the_threshold_within_the_interval() {
        assert_eq!(run(3, 10, &[0, 5, 10]), [10]);
        assert_eq!(run(3, 10, &[0, 5, 11]), []);
        assert_eq!(run(3, 10, &[0, 5, 11, 14]), [14]);
        assert_eq!(run(1, 10, &[0, 100]), [0, 100]);
    }

    #[test]
    fn each_crash_counts_once() {
        assert_eq!(run(2, 10, &[0, 1, 2, 3, 4]), [1, 3]);
    }

    #[test]
    fn without_either_number_there_is_no_emergency() {
        assert_eq!(run(0, 10, &[0, 0, 0]), []);
        assert_eq!(run(2, 0, &[0, 0, 0]), []);
    }
}
