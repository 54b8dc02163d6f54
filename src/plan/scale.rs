//! How many workers a pool should fork or retire now.
//!
//! Growth answers events: whenever fewer workers are idle than the lower bound asks for, the deficit is forked at
//! once, and each connection that waits in the accept queue counts as one more worker wanted. Starting workers count
//! as spare, so a slow start does not make the pool fork more. No more start at one time than are at work already, so
//! that the pool doubles with each round of starts and looks at the queue again before the next: a burst of short
//! requests is over before a worker for each of them has started.
//!
//! Shrinking takes time on purpose: once in [`SHRINK_INTERVAL`], half of the excess over the upper bound, and only
//! workers that no moment of the last interval needed are excess, so that a short lull costs no warm worker.
//!
//! The directives are php-fpm's and keep their meaning as bounds; only how fast the bounds are reached differs.
//! `cargo run -p preforkd-plan --example simulate` shows by how much.

use std::time::Duration;

/// Time between two steps of shrinking a dynamic pool.
pub const SHRINK_INTERVAL: Duration = Duration::from_secs(1);

/// How the number of workers is managed (`pm`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Always `max_children` workers (`pm = static`).
    Static,
    /// Between two bounds of idle workers (`pm = dynamic`).
    Dynamic {
        /// Workers forked at start (`pm.start_servers`).
        start: u32,
        /// Fewer idle workers than this make the pool grow (`pm.min_spare_servers`).
        min_spare: u32,
        /// More idle workers than this make the pool shrink (`pm.max_spare_servers`).
        max_spare: u32,
    },
    /// None until a connection waits (`pm = ondemand`).
    Ondemand {
        /// A worker idle for longer leaves (`pm.process_idle_timeout`).
        idle_timeout: Duration,
    },
}

/// The bounds of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How the number of workers is managed.
    pub mode: Mode,
    /// Never more workers than this (`pm.max_children`).
    pub max_children: u32,
    /// Never more workers starting at one time than this (`pm.max_spawn_rate`).
    pub max_spawn_rate: u32,
}

/// Counts of a pool's workers, each worker in exactly one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Census {
    /// Asked for, not yet ready to accept.
    pub starting: u32,
    /// Waiting for a connection.
    pub idle: u32,
    /// Holding a connection whose request has not ended.
    pub busy: u32,
    /// Asked to leave, not gone yet.
    pub retiring: u32,
}

impl Census {
    /// All workers.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.starting + self.idle + self.busy + self.retiring
    }
}

/// How many workers to fork now; `queue` is the number of connections that wait to be accepted.
#[must_use]
pub fn grow(limits: &Limits, census: &Census, queue: u32) -> u32 {
    let room = limits.max_children.saturating_sub(census.total());
    let spare = census.idle + census.starting;
    let (want, at_once) = match limits.mode {
        // A worker on its way out is about to make room, and is replaced when it has gone.
        Mode::Static => (room, limits.max_spawn_rate),
        Mode::Dynamic { min_spare, .. } => (
            min_spare.saturating_add(queue).saturating_sub(spare),
            // The lower bound itself is restored at once, however few are left.
            doubling(limits, census, min_spare),
        ),
        Mode::Ondemand { .. } => (queue.saturating_sub(spare), doubling(limits, census, 1)),
    };
    want.min(room).min(at_once.saturating_sub(census.starting))
}

/// How many workers may be starting at one time: as many as are ready, or `least` while fewer are.
///
/// php-fpm doubles from 1 up to `pm.max_spawn_rate` too, once a second. Here a round takes as long as a start does.
fn doubling(limits: &Limits, census: &Census, least: u32) -> u32 {
    let ready = census.idle + census.busy;
    ready.max(least).min(limits.max_spawn_rate)
}

/// How many of the idle workers of a dynamic pool to retire at this step.
///
/// Half of what is over the upper bound, at least one; nothing while workers are being started. The other modes do
/// not shrink by number: a static pool never, an ondemand pool by each worker's idle time.
///
/// `rested` is the census with only those workers in `idle` that have been idle for a whole [`SHRINK_INTERVAL`].
/// Workers accept in a fixed order, so these are the ones that the busiest moment of the interval left over. To count
/// all that happen to be idle at the step would retire, under a load that varies by chance, workers which are forked
/// again within the second: five times the forks in the simulation, for a tenth fewer workers.
#[must_use]
pub fn shrink(limits: &Limits, rested: &Census) -> u32 {
    let Mode::Dynamic { max_spare, .. } = limits.mode else {
        return 0;
    };
    if rested.starting > 0 {
        return 0;
    }
    rested.idle.saturating_sub(max_spare).div_ceil(2)
}
