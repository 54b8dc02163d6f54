//! When a worker has served what it was to serve (`pm.max_requests`), or has grown too large (`pm.max_memory`).
//!
//! What a process has to itself is dear to measure: the kernel walks all its pages. What it has at all is cheap, and is
//! never less; so the first is measured only while the second is too much, and for at most a hundredth of the time.

use crate::memory::{self, Resident};
use preforkd_sys::clock;

/// How much longer than a measurement there is none after it.
const PAUSE: u64 = 100;

/// What wears a worker out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worn {
    /// It has served enough requests.
    Requests,
    /// It has this many bytes of memory to itself.
    Memory(u64),
}

/// The limits of a worker, and what is known of it.
#[derive(Debug)]
pub(crate) struct Wear {
    max_requests: u64,
    max_memory: u64,
    resident: Option<Resident>,
    /// No measurement before this instant, nanoseconds on the monotonic clock.
    pause: u64,
}

impl Wear {
    /// With these limits, of which 0 is none; None without any.
    pub(crate) fn new(max_requests: u64, max_memory: u64) -> Option<Self> {
        (max_requests > 0 || max_memory > 0).then_some(Self {
            max_requests,
            max_memory,
            resident: None,
            pause: 0,
        })
    }

    /// Whether the worker is worn out, after `requests` requests. `process` tells the one that its application is in.
    pub(crate) fn look(&mut self, requests: u64, process: impl Fn() -> u32) -> Option<Worn> {
        if self.max_requests > 0 && requests >= self.max_requests {
            return Some(Worn::Requests);
        }
        if self.max_memory == 0 {
            return None;
        }
        let begun = clock::now();
        if begun < self.pause {
            return None;
        }
        let pid = process();
        if self.resident(pid)? <= self.max_memory {
            return None;
        }
        let private = memory::private(pid);
        let now = clock::now();
        self.pause = now + now.saturating_sub(begun).saturating_mul(PAUSE);
        (private > self.max_memory).then_some(Worn::Memory(private))
    }

    fn resident(&mut self, pid: u32) -> Option<u64> {
        if self.resident.as_ref().is_none_or(|it| it.pid() != pid) {
            // Where there is no /proc nothing is known.
            self.resident = Resident::of(pid).ok();
        }
        self.resident.as_ref()?.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn requests_wear_out_and_without_a_limit_nothing_does() {
        assert!(Wear::new(0, 0).is_none());
        let mut wear = Wear::new(3, 0).unwrap();
        assert_eq!(wear.look(2, || 0), None);
        assert_eq!(wear.look(3, || 0), Some(Worn::Requests));
        assert_eq!(wear.look(4, || 0), Some(Worn::Requests));
    }

    #[test]
    fn memory_wears_out_and_is_not_measured_all_the_time() {
        let me = std::process::id();
        assert_eq!(Wear::new(0, 1 << 40).unwrap().look(1, || me), None);
        let mut wear = Wear::new(0, MIB).unwrap();
        let Some(Worn::Memory(private)) = wear.look(1, || me) else {
            panic!("a process of tests has more than a MiB");
        };
        assert!(private > MIB);
        assert_eq!(wear.look(2, || me), None, "it was measured just now");
        wear.pause = 0;
        assert!(wear.look(3, || me).is_some());
    }
}
