//! Every order of deaths, timeouts and commands, up to a bound.
//!
//! A state is a pool, or a reload of several, with the processes that belong to it. From each state everything happens
//! that could happen next: a worker gets ready, turns busy or idle, wears out or dies, the mold gets ready or dies, a
//! connection comes, the next deadline passes, an order is given. States that have been met before are not followed
//! again. What must hold in each is asserted where it could break, in [`member`] and [`reloading`].

mod member;
mod reloading;

use member::Member;
use preforkd_plan::pool::{Phase, Timeouts};
use preforkd_plan::scale::{Limits, Mode};
use preforkd_plan::time::Time;
use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Something that can go on in several ways.
trait World: Clone + Debug {
    /// All that can come next.
    fn nexts(&self) -> Vec<Self>;
}

/// Follows everything from `first` on for so many steps. Returns how many states there were.
fn explore<W: World>(first: W, steps: u32) -> usize {
    let mut met = HashSet::new();
    let mut current = vec![first];
    for _ in 0..steps {
        let mut next = Vec::new();
        for world in current {
            for after in world.nexts() {
                let mut hasher = DefaultHasher::new();
                format!("{after:?}").hash(&mut hasher);
                if met.insert(hasher.finish()) {
                    next.push(after);
                }
            }
        }
        current = next;
    }
    met.len()
}

const TIMEOUTS: Timeouts = Timeouts {
    start: Duration::from_secs(5),
    terminate: None,
    lifetime: None,
    control: Duration::from_secs(10),
};

fn limits(mode: Mode, max_children: u32) -> Limits {
    Limits {
        mode,
        max_children,
        max_spawn_rate: 32,
    }
}

const DYNAMIC: Mode = Mode::Dynamic {
    start: 1,
    min_spare: 1,
    max_spare: 1,
};
const ONDEMAND: Mode = Mode::Ondemand {
    idle_timeout: Duration::from_secs(3),
};

/// A pool alone, and orders to it.
#[derive(Clone, Debug)]
struct Alone {
    now: Time,
    member: Member,
}

impl World for Alone {
    fn nexts(&self) -> Vec<Self> {
        let with = |now: Time, member: Member| Self { now, member };
        let mut nexts: Vec<Self> = self
            .member
            .nexts(self.now)
            .into_iter()
            .map(|member| with(self.now, member))
            .collect();
        if let Some(deadline) = self.member.deadline(self.now) {
            let now = deadline.max(self.now);
            let mut member = self.member.clone();
            member.settle(now);
            nexts.push(with(now, member));
        }
        for phase in [Phase::Finishing, Phase::Terminating, Phase::Killing] {
            let mut member = self.member.clone();
            member.stop(self.now, phase);
            nexts.push(with(self.now, member));
        }
        nexts
    }
}

fn explore_alone(limits: Limits, timeouts: Timeouts, mold: bool, steps: u32) -> usize {
    let now = Time(0) + Duration::from_secs(1000);
    let mut member = Member::new(limits, timeouts, mold);
    member.settle(now);
    explore(Alone { now, member }, steps)
}

#[test]
fn a_static_pool() {
    let states = explore_alone(limits(Mode::Static, 2), TIMEOUTS, false, 6);
    assert!(states > 1000, "{states}");
}

#[test]
fn a_dynamic_pool() {
    let states = explore_alone(limits(DYNAMIC, 3), TIMEOUTS, false, 6);
    assert!(states > 1000, "{states}");
}

#[test]
fn an_ondemand_pool_with_a_time_limit() {
    let timeouts = Timeouts {
        terminate: Some(Duration::from_secs(2)),
        lifetime: Some(Duration::from_secs(60)),
        ..TIMEOUTS
    };
    let states = explore_alone(limits(ONDEMAND, 2), timeouts, false, 7);
    assert!(states > 1000, "{states}");
}

#[test]
fn a_pool_with_a_mold() {
    for mode in [Mode::Static, DYNAMIC, ONDEMAND] {
        let states = explore_alone(limits(mode, 2), TIMEOUTS, true, 6);
        assert!(states > 1000, "{states}");
    }
}
