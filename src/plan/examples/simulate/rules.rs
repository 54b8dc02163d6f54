//! The rules that are compared: ours, php-fpm's and uWSGI's default, under the same limits.

use std::cmp::min;
use std::time::Duration;

use preforkd_plan::scale::{self, Limits, Mode, SHRINK_INTERVAL};

use crate::engine::{Cause, Decision, Order, Pool, Rule, Worker, count};

/// Workers at the start.
pub const START: u32 = 3;
/// Fewer idle workers than this are too few.
pub const MIN_SPARE: u32 = 2;
/// More idle workers than this are too many.
pub const MAX_SPARE: u32 = 5;
/// Never more workers than this.
pub const MAX_CHILDREN: u32 = 64;
/// php-fpm's default of `pm.max_spawn_rate`.
pub const MAX_SPAWN_RATE: u32 = 32;
/// php-fpm's default of `pm.process_idle_timeout`.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The rules with a lower bound of idle workers.
pub fn dynamic() -> Vec<Box<dyn Rule>> {
    vec![
        Box::new(Preforkd::dynamic()),
        Box::new(FpmDynamic::default()),
        Box::new(UwsgiSpare::default()),
    ]
}

/// The rules that begin with no worker.
pub fn ondemand() -> Vec<Box<dyn Rule>> {
    vec![Box::new(Preforkd::ondemand()), Box::new(FpmOndemand)]
}

/// The real [`scale::grow`] and [`scale::shrink`], asked when the master would ask them.
pub struct Preforkd {
    limits: Limits,
}

impl Preforkd {
    /// `pm = dynamic`.
    pub fn dynamic() -> Self {
        Self::with(Mode::Dynamic {
            start: START,
            min_spare: MIN_SPARE,
            max_spare: MAX_SPARE,
        })
    }

    /// `pm = ondemand`.
    pub fn ondemand() -> Self {
        Self::with(Mode::Ondemand {
            idle_timeout: IDLE_TIMEOUT,
        })
    }

    fn with(mode: Mode) -> Self {
        Self {
            limits: Limits {
                mode,
                max_children: MAX_CHILDREN,
                max_spawn_rate: MAX_SPAWN_RATE,
            },
        }
    }

    fn grow(&self, pool: &Pool) -> Decision {
        Decision {
            fork: scale::grow(&self.limits, &pool.census(), pool.queued()),
            retire: Vec::new(),
        }
    }

    /// The longest idle go first.
    fn shrink(&self, pool: &Pool) -> Decision {
        let mut rested: Vec<&Worker> = pool
            .idle()
            .filter(|worker| pool.now.since(worker.since) >= SHRINK_INTERVAL)
            .collect();
        rested.sort_by_key(|worker| worker.since);
        let mut census = pool.census();
        census.idle = count(rested.len());
        let excess = scale::shrink(&self.limits, &census);
        Decision {
            fork: 0,
            retire: rested
                .iter()
                .zip(0..excess)
                .map(|(worker, _)| worker.number)
                .collect(),
        }
    }
}

impl Rule for Preforkd {
    fn name(&self) -> &'static str {
        "preforkd"
    }

    fn start(&self) -> u32 {
        match self.limits.mode {
            Mode::Dynamic { start, .. } => start,
            Mode::Static | Mode::Ondemand { .. } => 0,
        }
    }

    fn order(&self) -> Order {
        Order::FirstReady
    }

    fn decide(&mut self, cause: Cause, pool: &Pool) -> Decision {
        match (self.limits.mode, cause) {
            (Mode::Dynamic { .. }, Cause::Tick) => self.shrink(pool),
            (Mode::Ondemand { idle_timeout }, Cause::Tick) => Decision {
                fork: 0,
                retire: pool
                    .idle()
                    .filter(|worker| pool.now.since(worker.since) >= idle_timeout)
                    .map(|worker| worker.number)
                    .collect(),
            },
            // The worker itself sees that enough are left, and does not wake the master.
            (Mode::Dynamic { min_spare, .. }, Cause::TurnedBusy)
                if pool.census().idle >= min_spare =>
            {
                Decision::default()
            }
            // Only for an ondemand pool is the listening socket polled.
            (Mode::Dynamic { .. }, Cause::Waiting) => Decision::default(),
            _ => self.grow(pool),
        }
    }
}

/// php-fpm's `pm = dynamic`: one look a second.
pub struct FpmDynamic {
    rate: u32,
}

impl Default for FpmDynamic {
    fn default() -> Self {
        Self { rate: 1 }
    }
}

impl Rule for FpmDynamic {
    fn name(&self) -> &'static str {
        "php-fpm"
    }

    fn start(&self) -> u32 {
        START
    }

    fn order(&self) -> Order {
        Order::LongestIdle
    }

    fn decide(&mut self, cause: Cause, pool: &Pool) -> Decision {
        let mut decision = Decision::default();
        if cause != Cause::Tick {
            return decision;
        }
        let census = pool.census();
        let idle = census.idle + census.starting;
        if idle > MAX_SPARE {
            decision.retire = pool.idle().take(1).map(|worker| worker.number).collect();
            self.rate = 1;
        } else if idle >= MIN_SPARE || census.total() >= MAX_CHILDREN {
            self.rate = 1;
        } else {
            decision.fork = min(self.rate, MIN_SPARE - idle).min(MAX_CHILDREN - census.total());
            if self.rate < MAX_SPAWN_RATE {
                self.rate *= 2;
            }
        }
        decision
    }
}

/// php-fpm's `pm = ondemand`: one fork an edge of the listening socket, one end a second.
pub struct FpmOndemand;

impl Rule for FpmOndemand {
    fn name(&self) -> &'static str {
        "php-fpm"
    }

    fn start(&self) -> u32 {
        0
    }

    fn order(&self) -> Order {
        Order::LongestIdle
    }

    fn decide(&mut self, cause: Cause, pool: &Pool) -> Decision {
        let census = pool.census();
        let mut decision = Decision::default();
        match cause {
            // A worker just forked looks idle.
            Cause::Waiting if census.starting == 0 && census.total() < MAX_CHILDREN => {
                decision.fork = 1;
            }
            Cause::Tick => {
                decision.retire = pool
                    .idle()
                    .take(1)
                    .filter(|oldest| pool.now.since(oldest.since) >= IDLE_TIMEOUT)
                    .map(|oldest| oldest.number)
                    .collect();
            }
            _ => {}
        }
        decision
    }
}

/// uWSGI's default `cheaper-algo = spare`, with the lower bound for `cheaper` and the defaults otherwise.
///
/// Told kindly: it retires the oldest worker that is idle, never one that has just accepted.
#[derive(Default)]
pub struct UwsgiSpare {
    overload: u32,
    idle: u32,
}

impl UwsgiSpare {
    /// `cheaper-overload`, in cycles of the master, which are seconds.
    const OVERLOAD: u32 = 3;
    /// `cheaper-step`.
    const STEP: u32 = 1;
}

impl Rule for UwsgiSpare {
    fn name(&self) -> &'static str {
        "uWSGI"
    }

    fn start(&self) -> u32 {
        START
    }

    fn order(&self) -> Order {
        Order::LongestIdle
    }

    fn decide(&mut self, cause: Cause, pool: &Pool) -> Decision {
        let mut decision = Decision::default();
        if cause != Cause::Tick {
            return decision;
        }
        let census = pool.census();
        let free = census.idle + census.starting;
        if free > 0 {
            self.overload = self.overload.saturating_sub(1);
        } else {
            self.overload += 1;
            self.idle = 0;
        }
        if self.overload > Self::OVERLOAD {
            self.overload = 0;
            decision.fork = min(Self::STEP, MAX_CHILDREN - census.total());
        } else if self.overload == 0 && free != 1 {
            self.idle += 1;
            if census.total() > MIN_SPARE && self.idle.is_multiple_of(Self::OVERLOAD) {
                decision.retire = pool.idle().take(1).map(|worker| worker.number).collect();
            }
        }
        decision
    }
}
