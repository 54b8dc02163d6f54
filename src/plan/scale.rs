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
/// Half of what is over the upper bound, at least one. The other modes do not shrink by number: a static pool never,
/// an ondemand pool by each worker's idle time.
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
    rested.idle.saturating_sub(max_spare).div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DYNAMIC: Mode = Mode::Dynamic {
        start: 3,
        min_spare: 2,
        max_spare: 5,
    };
    const ONDEMAND: Mode = Mode::Ondemand {
        idle_timeout: Duration::from_secs(10),
    };

    fn limits(mode: Mode) -> Limits {
        Limits {
            mode,
            max_children: 64,
            max_spawn_rate: 32,
        }
    }

    fn census(starting: u32, idle: u32, busy: u32, retiring: u32) -> Census {
        Census {
            starting,
            idle,
            busy,
            retiring,
        }
    }

    #[test]
    fn growth_by_table() {
        #[rustfmt::skip]
        let table = [
            // mode, (starting, idle, busy, retiring), queue, forks, why
            (Mode::Static, (0, 0, 0, 0), 0, 32, "a static pool fills up, by the spawn rate"),
            (Mode::Static, (32, 0, 0, 0), 0, 0, "the spawn rate is used up"),
            (Mode::Static, (0, 30, 32, 0), 9, 2, "a static pool refills whatever the queue"),
            (Mode::Static, (0, 30, 32, 2), 0, 0, "who retires still counts"),
            (DYNAMIC, (0, 2, 9, 0), 0, 0, "the bound is met"),
            (DYNAMIC, (0, 1, 2, 0), 0, 1, "the deficit"),
            (DYNAMIC, (0, 0, 3, 0), 0, 2, "the whole deficit"),
            (DYNAMIC, (1, 0, 3, 0), 0, 1, "a starting worker is spare"),
            (DYNAMIC, (0, 0, 3, 2), 0, 2, "a retiring worker is not"),
            (DYNAMIC, (0, 3, 0, 0), 2, 1, "the queue is wanted on top, though its workers are on their way"),
            (DYNAMIC, (0, 0, 10, 0), 5, 7, "the queue and the spare"),
            (DYNAMIC, (0, 0, 3, 0), 47, 3, "no more than are at work: the pool doubles"),
            (DYNAMIC, (2, 0, 4, 0), 46, 2, "those that start are of the round"),
            (DYNAMIC, (6, 0, 6, 0), 46, 0, "the round is full"),
            (DYNAMIC, (0, 0, 40, 0), 60, 24, "never over max_children"),
            (DYNAMIC, (0, 0, 30, 30), 60, 4, "retiring workers take room until they have gone"),
            (DYNAMIC, (0, 0, 31, 0), 60, 31, "a round under the spawn rate"),
            (DYNAMIC, (8, 0, 24, 0), 60, 16, "a round to which there is more"),
            (DYNAMIC, (0, 0, 0, 0), 50, 2, "from nothing the lower bound at once"),
            (DYNAMIC, (0, 0, 64, 0), 50, 0, "full"),
            (DYNAMIC, (0, 0, 0, 64), 50, 0, "full of leavers"),
            (ONDEMAND, (0, 0, 0, 0), 0, 0, "nobody waits"),
            (ONDEMAND, (0, 0, 0, 0), 1, 1, "one waits"),
            (ONDEMAND, (0, 0, 0, 0), 50, 1, "many wait and none is ready"),
            (ONDEMAND, (1, 0, 0, 0), 50, 0, "the first is on its way"),
            (ONDEMAND, (0, 0, 1, 0), 49, 1, "the pool doubles"),
            (ONDEMAND, (0, 0, 16, 0), 34, 16, "and doubles"),
            (ONDEMAND, (1, 0, 8, 0), 1, 0, "a starting worker is for the one that waits"),
            (ONDEMAND, (0, 2, 8, 0), 2, 0, "idle ones are about to accept"),
            (ONDEMAND, (0, 0, 64, 0), 9, 0, "full"),
        ];
        for (mode, (starting, idle, busy, retiring), queue, forks, why) in table {
            let census = census(starting, idle, busy, retiring);
            assert_eq!(grow(&limits(mode), &census, queue), forks, "{why}");
        }
    }

    #[test]
    fn the_spawn_rate_bounds_a_round() {
        let limits = Limits {
            max_spawn_rate: 4,
            ..limits(DYNAMIC)
        };
        assert_eq!(grow(&limits, &census(0, 0, 20, 0), 30), 4);
        assert_eq!(grow(&limits, &census(3, 0, 20, 0), 30), 1);
        assert_eq!(grow(&limits, &census(4, 0, 20, 0), 30), 0);
    }

    #[test]
    fn shrinking_by_table() {
        #[rustfmt::skip]
        let table = [
            // mode, (starting, idle, busy, retiring), retired, why
            (DYNAMIC, (0, 5, 0, 0), 0, "the bound is met"),
            (DYNAMIC, (0, 6, 0, 0), 1, "at least one"),
            (DYNAMIC, (0, 7, 0, 0), 1, "half"),
            (DYNAMIC, (0, 8, 0, 0), 2, "half, rounded up"),
            (DYNAMIC, (0, 55, 9, 0), 25, "half of many"),
            (DYNAMIC, (0, 6, 0, 20), 1, "leavers are not counted again"),
            (DYNAMIC, (1, 6, 0, 0), 1, "a start that takes long or hangs is no reason to keep them"),
            (Mode::Static, (0, 64, 0, 0), 0, "a static pool stays"),
            (ONDEMAND, (0, 64, 0, 0), 0, "an ondemand pool goes by idle time"),
        ];
        for (mode, (starting, idle, busy, retiring), retired, why) in table {
            let census = census(starting, idle, busy, retiring);
            assert_eq!(shrink(&limits(mode), &census), retired, "{why}");
        }
    }

    fn any_mode() -> impl Strategy<Value = Mode> {
        prop_oneof![
            Just(Mode::Static),
            Just(ONDEMAND),
            (1..20u32, 0..20u32).prop_map(|(min_spare, above)| Mode::Dynamic {
                start: min_spare,
                min_spare,
                max_spare: min_spare + above,
            }),
        ]
    }

    fn any_limits() -> impl Strategy<Value = Limits> {
        (any_mode(), 1..200u32, 1..64u32).prop_map(|(mode, max_children, max_spawn_rate)| Limits {
            mode,
            max_children,
            max_spawn_rate,
        })
    }

    /// Any counts, also such as a lowered bound leaves behind at a reload.
    fn any_census() -> impl Strategy<Value = Census> {
        (0..80u32, 0..80u32, 0..80u32, 0..80u32)
            .prop_map(|(starting, idle, busy, retiring)| census(starting, idle, busy, retiring))
    }

    /// Idle workers that are wanted while `queue` connections wait.
    fn need(limits: &Limits, queue: u32) -> u32 {
        match limits.mode {
            Mode::Static => limits.max_children,
            Mode::Dynamic { min_spare, .. } => min_spare + queue,
            Mode::Ondemand { .. } => queue,
        }
    }

    proptest! {
        #[test]
        fn growth_keeps_the_bounds(limits in any_limits(), census in any_census(), queue in 0..500u32) {
            let forks = grow(&limits, &census, queue);
            prop_assert!(forks == 0 || census.total() + forks <= limits.max_children);
            prop_assert!(forks == 0 || census.starting + forks <= limits.max_spawn_rate);
        }

        #[test]
        fn growth_never_overshoots(limits in any_limits(), census in any_census(), queue in 0..500u32) {
            let forks = grow(&limits, &census, queue);
            prop_assert!(forks == 0 || census.idle + census.starting + forks <= need(&limits, queue));
        }

        #[test]
        fn asked_again_it_forks_no_more(limits in any_limits(), census in any_census(), queue in 0..500u32) {
            let starting = census.starting + grow(&limits, &census, queue);
            prop_assert_eq!(grow(&limits, &Census { starting, ..census }, queue), 0);
        }

        #[test]
        fn growth_rises_with_the_queue(limits in any_limits(), census in any_census(), queue in 0..500u32) {
            prop_assert!(grow(&limits, &census, queue) <= grow(&limits, &census, queue + 1));
        }

        /// Each round starts what was asked for and accepts what it can, and no request ends: the worst case.
        #[test]
        fn rounds_reach_the_need_or_the_limit(limits in any_limits(), queue in 1..500u32) {
            let limits = Limits { max_spawn_rate: 64, ..limits };
            let mut now = Census::default();
            let mut queue = queue;
            for _ in 0..10 {
                now.idle += grow(&limits, &now, queue);
                let accepted = now.idle.min(queue);
                now.idle -= accepted;
                now.busy += accepted;
                queue -= accepted;
            }
            prop_assert!(now.total() == limits.max_children || now.idle >= need(&limits, queue));
        }

        #[test]
        fn shrinking_keeps_the_upper_bound_and_reaches_it(limits in any_limits(), idle in 0..200u32) {
            let mut now = Census { idle, ..Census::default() };
            for _ in 0..9 {
                now.idle -= shrink(&limits, &now);
            }
            match limits.mode {
                Mode::Dynamic { max_spare, .. } => prop_assert_eq!(now.idle, idle.min(max_spare)),
                Mode::Static | Mode::Ondemand { .. } => prop_assert_eq!(now.idle, idle),
            }
        }

        #[test]
        fn what_shrinks_does_not_grow(limits in any_limits(), census in any_census()) {
            let retired = shrink(&limits, &census);
            let after = Census {
                idle: census.idle - retired,
                retiring: census.retiring + retired,
                ..census
            };
            prop_assert!(retired == 0 || grow(&limits, &after, 0) == 0);
        }
    }
}
