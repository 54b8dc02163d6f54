//! Waiting for a state, with a deadline.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take that is expected to happen, on a machine busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks again and again until there is something to see, and returns it.
///
/// # Panics
/// After `within`, saying `what` did not happen.
#[track_caller]
pub fn until_some<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        sleep(LOOK_EVERY);
    }
}

/// Looks again and again until it is so.
///
/// # Panics
/// After [`PATIENCE`], saying `what` did not happen.
#[track_caller]
pub fn until(what: &str, mut look: impl FnMut() -> bool) {
    until_some(what, PATIENCE, || look().then_some(()));
}
