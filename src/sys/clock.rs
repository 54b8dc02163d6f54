//! Clocks, in nanoseconds.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds on `CLOCK_MONOTONIC`, the one clock of the master, the workers and the scoreboard.
#[must_use]
pub fn now() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// [`now`] at the resolution of the scheduler's tick (1 to 10 ms), at a tenth of the cost.
#[must_use]
pub fn now_coarse() -> u64 {
    read(ClockId::CLOCK_MONOTONIC_COARSE)
}

/// Nanoseconds since 1970 on the clock that people set.
#[must_use]
pub fn epoch() -> u64 {
    read(ClockId::CLOCK_REALTIME)
}

fn read(clock: ClockId) -> u64 {
    // Both clocks exist on every Linux and never run below zero.
    let Ok(time) = clock_gettime(clock) else {
        return 0;
    };
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
}
