//! How many workers a pool should fork or retire now.
//!
//! Growth answers events: whenever fewer workers are idle than the lower bound asks for, the deficit is forked at
//! once, and each connection that waits in the accept queue counts as one more worker wanted. Starting workers count
//! as spare, so a slow start does not make the pool fork more. Shrinking takes time on purpose: once in
//! [`SHRINK_INTERVAL`], half of the excess over the upper bound, so that a short lull costs no warm worker.
//!
//! The directives are php-fpm's and keep their meaning as bounds; only how fast the bounds are reached differs.

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
    let spare = census.idle + census.starting;
    let want = match limits.mode {
        // A worker on its way out is about to make room, and is replaced when it has gone.
        Mode::Static => limits.max_children.saturating_sub(census.total()),
        Mode::Dynamic { min_spare, .. } => min_spare.saturating_add(queue).saturating_sub(spare),
        Mode::Ondemand { .. } => queue.saturating_sub(spare),
    };
    want.min(limits.max_children.saturating_sub(census.total()))
        .min(limits.max_spawn_rate.saturating_sub(census.starting))
}

/// How many of the idle workers of a dynamic pool to retire at this step.
///
/// Half of what is over the upper bound, at least one; nothing while workers are being started. The other modes do
/// not shrink by number: a static pool never, an ondemand pool by each worker's idle time.
#[must_use]
pub fn shrink(limits: &Limits, census: &Census) -> u32 {
    let Mode::Dynamic { max_spare, .. } = limits.mode else {
        return 0;
    };
    if census.starting > 0 {
        return 0;
    }
    census.idle.saturating_sub(max_spare).div_ceil(2)
}
