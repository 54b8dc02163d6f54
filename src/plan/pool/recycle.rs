//! Who is replaced: a worker that is worn out, or old (`pm.max_requests`, `pm.max_memory`, `pm.max_lifetime`).
//!
//! It goes on serving until its turn comes, so that nobody misses it. One at a time has its turn, and workers that
//! started together are not old together: a pool is never without what its workers have learned all at once.

use super::slots::Slot;
use super::{Action, Pool};
use crate::slot::{self, State};
use crate::time::Time;
use std::time::Duration;

impl Pool {
    /// One worn-out worker at a time leaves: when the one that takes its place is ready, or at once if there is no room
    /// for a second one.
    pub(super) fn replace_worn_out(&mut self, now: Time, actions: &mut Vec<Action>) {
        if let Some((old, new)) = self.replacing {
            match self.state(new) {
                State::Starting => return,
                // Unless it has died, and its slot may be another's by now.
                State::Idle | State::Busy if self.slots[old as usize].worn_out => {
                    self.slot_event(now, old, slot::Event::Retire, actions);
                }
                State::Idle | State::Busy => {}
                State::Vacant | State::Retiring | State::Killed => {}
            }
            self.replacing = None;
        }
        let serving = |slot: &Slot| matches!(slot.state, State::Idle | State::Busy);
        // The eldest first: with requests that wear out workers faster than they are replaced, the youngest would be
        // replaced again and again.
        let slot = |number: u32| &self.slots[number as usize];
        let worn_out = self
            .numbers()
            .filter(|&it| slot(it).worn_out && serving(slot(it)));
        let Some(old) = worn_out.min_by_key(|&it| slot(it).ready_at) else {
            return;
        };
        match self.find(State::Vacant) {
            Some(new) if self.can_spawn(now) && self.room > 0 => {
                self.room -= 1;
                self.slot_event(now, new, slot::Event::Ask, actions);
                self.replacing = Some((old, new));
            }
            Some(_) if self.room > 0 => {}
            Some(_) | None if self.census().retiring == 0 => {
                self.slot_event(now, old, slot::Event::Retire, actions);
            }
            Some(_) | None => {}
        }
    }

    /// Whoever has lived for its lifetime is worn out.
    pub(super) fn age(&mut self, now: Time) {
        for slot in self.numbers() {
            if self.old_at(slot).is_some_and(|old| old <= now) {
                self.slots[slot as usize].worn_out = true;
            }
        }
    }

    /// When the next worker is worn out by its age.
    pub(super) fn age_deadline(&self) -> Option<Time> {
        self.timeouts.lifetime?;
        self.numbers().filter_map(|slot| self.old_at(slot)).min()
    }

    fn old_at(&self, number: u32) -> Option<Time> {
        let slot = &self.slots[number as usize];
        let ages = matches!(slot.state, State::Idle | State::Busy) && !slot.worn_out;
        let longest = self.timeouts.lifetime.filter(|_| ages)?;
        Some(slot.ready_at? + lifetime(longest, number))
    }
}

/// How long a worker in `slot` lives, at most `longest`: the ends of a pool's workers lie over its last quarter.
fn lifetime(longest: Duration, slot: u32) -> Duration {
    // The bits of the slots' numbers, reversed, lie evenly over the quarter, however many slots are in use.
    let less = longest / 4 * (slot.reverse_bits() >> 16) / (1 << 16);
    longest - less
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_lie_evenly_over_the_last_quarter() {
        let longest = Duration::from_secs(1600);
        let seconds = |slot| lifetime(longest, slot).as_secs();
        assert_eq!([0, 1, 2, 3, 4].map(seconds), [1600, 1400, 1500, 1300, 1550],);
        for slots in [2, 7, 64, 4096_u32] {
            let mut all: Vec<Duration> = (0..slots).map(|slot| lifetime(longest, slot)).collect();
            all.sort_unstable();
            assert!(all[0] > longest * 3 / 4 && all[all.len() - 1] == longest);
            let closest = all.windows(2).map(|two| two[1] - two[0]).min();
            assert!(closest >= Some(longest / 8 / slots), "{slots}: {closest:?}");
        }
    }
}
