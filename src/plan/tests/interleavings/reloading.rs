//! Pools while they are reloaded: the new generations beside the old ones.

use crate::member::Member;
use crate::{DYNAMIC, TIMEOUTS, World, explore, limits};
use preforkd_plan::pool::Phase;
use preforkd_plan::reload::{Standing, Verdict, judge, timeout};
use preforkd_plan::scale::Mode;
use preforkd_plan::time::Time;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// New generations are coming, until then.
    Coming(Time),
    /// They have taken over.
    Committed,
    /// They are not wanted.
    Abandoned,
}

#[derive(Clone, Debug)]
struct Reloading {
    now: Time,
    old: Vec<Member>,
    new: Vec<Member>,
    course: Course,
}

impl Reloading {
    /// What the daemon does after each turn.
    fn judge(&mut self) {
        let Course::Coming(deadline) = self.course else {
            return;
        };
        let now = self.now;
        let leave = |members: &mut Vec<Member>| {
            for member in members {
                member.stop(now, Phase::Finishing);
            }
        };
        match judge(now, deadline, self.new.iter().map(Member::standing)) {
            Verdict::Wait => {}
            Verdict::Commit => {
                let ready = |member: &Member| member.standing() == Standing::Ready;
                assert!(self.new.iter().all(ready), "the old ones leave too early");
                leave(&mut self.old);
                self.course = Course::Committed;
            }
            Verdict::Abandon => {
                leave(&mut self.new);
                self.course = Course::Abandoned;
            }
        }
    }

    fn check(&self) {
        let stopped = |members: &[Member]| members.iter().any(Member::is_stopped);
        let retired = self.old.iter().any(Member::has_retired);
        match self.course {
            Course::Coming(deadline) => {
                assert!(!stopped(&self.old) && !stopped(&self.new));
                assert!(self.now < deadline, "it is judged in time");
                assert!(
                    !retired,
                    "an old worker leaves before the new ones are ready"
                );
            }
            Course::Committed => assert!(!stopped(&self.new), "nobody serves"),
            Course::Abandoned => {
                assert!(!stopped(&self.old), "nobody serves");
                assert!(!retired, "the old ones notice a reload that failed");
            }
        }
    }

    fn settled(mut self) -> Self {
        self.judge();
        self.check();
        self
    }
}

impl World for Reloading {
    fn nexts(&self) -> Vec<Self> {
        let mut nexts = Vec::new();
        for index in 0..self.old.len() {
            for old in self.old[index].nexts(self.now) {
                let mut next = self.clone();
                next.old[index] = old;
                nexts.push(next.settled());
            }
            for new in self.new[index].nexts(self.now) {
                let mut next = self.clone();
                next.new[index] = new;
                nexts.push(next.settled());
            }
        }
        let members = || self.old.iter().chain(&self.new);
        let deadlines = members().filter_map(|member| member.deadline(self.now));
        let own = match self.course {
            Course::Coming(deadline) => Some(deadline),
            Course::Committed | Course::Abandoned => None,
        };
        if let Some(deadline) = deadlines.chain(own).min() {
            let mut next = self.clone();
            next.now = deadline.max(self.now);
            for member in next.old.iter_mut().chain(&mut next.new) {
                member.settle(next.now);
            }
            nexts.push(next.settled());
        }
        nexts
    }
}

fn explore_reload(pools: usize, mode: Mode, max_children: u32, mold: bool, steps: u32) -> usize {
    let now = Time(0) + Duration::from_secs(1000);
    let member = || Member::new(limits(mode, max_children), TIMEOUTS, mold).lasting();
    let mut new = vec![member(); pools];
    for member in &mut new {
        member.settle(now);
    }
    let first = Reloading {
        now,
        old: vec![member().up(now); pools],
        new,
        course: Course::Coming(now + timeout(TIMEOUTS.start)),
    };
    explore(first, steps)
}

#[test]
fn a_reload_of_two_pools() {
    let states = explore_reload(2, Mode::Static, 1, false, 5);
    assert!(states > 1000, "{states}");
}

#[test]
fn a_reload_of_a_pool_with_a_mold() {
    for mode in [Mode::Static, DYNAMIC] {
        let states = explore_reload(1, mode, 1, true, 7);
        assert!(states > 1000, "{states}");
    }
}

#[test]
fn a_reload_of_a_pool_of_several_workers() {
    let states = explore_reload(1, Mode::Static, 2, false, 5);
    assert!(states > 1000, "{states}");
}
