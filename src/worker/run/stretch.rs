//! How long a worker has been busy with little rest: a request can only have waited while it was.

/// Who has waited less has hardly left again. In ns.
const PATIENCE: u64 = 10_000_000;

/// The time since the worker last had a rest. Times in ns.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    began: u64,
    paused: u64,
    /// All its pauses together.
    rest: u64,
}

impl Stretch {
    pub(super) fn pause(&mut self, now: u64) {
        self.paused = now;
    }

    /// A worker that has rested for a quarter of the time finds no queue.
    pub(super) fn go_on(&mut self, now: u64) {
        self.rest += now.saturating_sub(self.paused);
        if self.rest > now.saturating_sub(self.began) / 4 {
            (self.began, self.rest) = (now, 0);
        }
    }

    /// Whether somebody may have waited for so long that he has left again.
    pub(super) fn is_long(&self) -> bool {
        self.length() > PATIENCE
    }

    /// Up to the last pause.
    fn length(&self) -> u64 {
        self.paused.saturating_sub(self.began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long it seems after requests of `busy` ns, each after a rest.
    fn after(requests: u64, busy: u64, rest: u64) -> u64 {
        let mut stretch = Stretch::default();
        let mut now = 1_000_000_000;
        for _ in 0..requests {
            stretch.go_on(now);
            now += busy;
            stretch.pause(now);
            now += rest;
        }
        stretch.go_on(now);
        stretch.length()
    }

    #[test]
    fn short_pauses_do_not_end_a_stretch_and_long_ones_do() {
        assert_eq!(after(1000, 100_000, 1000), 1000 * 101_000 - 1000);
        assert_eq!(after(1000, 10_000, 20_000), 0);
        assert_eq!(after(1, 1_000_000_000, 1000), 1_000_000_000);
    }

    #[test]
    fn a_long_request_among_short_ones_is_forgotten_soon() {
        let mut stretch = Stretch::default();
        stretch.go_on(1_000_000_000);
        stretch.pause(1_020_000_000);
        assert!(stretch.is_long());
        let mut now = 1_020_000_000;
        for _ in 0..400 {
            now += 20_000;
            stretch.go_on(now);
            now += 10_000;
            stretch.pause(now);
        }
        assert!(!stretch.is_long());
    }
}
