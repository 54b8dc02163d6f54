//! Clocks, in nanoseconds, and the local time zone.

use nix::libc;
use nix::time::{ClockId, clock_gettime};
use std::ffi::CStr;

/// Nanoseconds on `CLOCK_MONOTONIC`, the one clock of the master, the workers and the scoreboard.
#[must_use]
pub fn now() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
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

/// Seconds east of UTC in the local time zone at an instant, in seconds since the epoch, and the zone's name then.
#[must_use]
pub fn local(seconds: i64) -> (i32, String) {
    // SAFETY: all bytes zero are a valid `tm`, whose only pointer is null.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are those of values that live as long as the call.
    if unsafe { libc::localtime_r(&raw const seconds, &raw mut parts) }.is_null() {
        return (0, "UTC".to_owned());
    }
    let name = if parts.tm_zone.is_null() {
        String::new()
    } else {
        // SAFETY: the C library keeps the names of time zones for good, with a NUL at their end.
        unsafe { CStr::from_ptr(parts.tm_zone) }
            .to_string_lossy()
            .into_owned()
    };
    (i32::try_from(parts.tm_gmtoff).unwrap_or(0), name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_local_zone_has_a_name_and_an_offset_of_less_than_a_day() {
        let (offset, name) = super::local(1_795_438_584);
        assert!(offset.abs() < 24 * 60 * 60, "{offset}");
        assert!(!name.is_empty());
    }
}
