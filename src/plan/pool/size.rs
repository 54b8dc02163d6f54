//! How large a pool is: who is started, as [`crate::scale`] says, and who is asked to leave.

use super::slots::Slot;
use super::{Action, Pool, View};
use crate::saturation::{self, Episode};
use crate::scale::{self, Mode, SHRINK_INTERVAL};
use crate::slot::{self, State};
use crate::time::Time;

impl Pool {
    pub(super) fn can_spawn(&self, now: Time) -> bool {
        self.mold.can_fork() && self.respawn.blocked_until(now).is_none()
    }

    pub(super) fn grow(&mut self, now: Time, view: &impl View, actions: &mut Vec<Action>) {
        if !self.can_spawn(now) {
            return;
        }
        self.start_first(now, actions);
        let census = self.census();
        if census.total() >= self.limits.max_children {
            return;
        }
        let queue = match self.limits.mode {
            Mode::Static => 0,
            Mode::Dynamic { .. } | Mode::Ondemand { .. } => view.queue(),
        };
        for _ in 0..scale::grow(&self.limits, &census, queue) {
            self.ask(now, actions);
        }
    }

    /// Asks for the first workers of a dynamic pool, as many at one time as may be starting.
    fn start_first(&mut self, now: Time, actions: &mut Vec<Action>) {
        if let Mode::Dynamic { start, .. } = self.limits.mode
            && !self.started
        {
            let census = self.census();
            let missing = start.saturating_sub(census.total());
            let at_once = self.limits.max_spawn_rate.saturating_sub(census.starting);
            for _ in 0..missing.min(at_once) {
                self.ask(now, actions);
            }
            // Whom there is no room for is not waited for.
            self.started = missing <= at_once || self.room == 0;
        } else {
            self.started = true;
        }
    }

    fn ask(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.room == 0 {
            self.short = true;
        } else if let Some(slot) = self.find(State::Vacant) {
            self.room -= 1;
            self.slot_event(now, slot, slot::Event::Ask, actions);
        }
    }

    pub(super) fn shrink(&mut self, now: Time, actions: &mut Vec<Action>) {
        match self.limits.mode {
            Mode::Static => {}
            Mode::Dynamic { max_spare, .. } => {
                if self.shrink_at.is_some_and(|at| at <= now) {
                    self.shrink_at = None;
                    let mut rested = self.census();
                    rested.idle = self.rested(now).count().try_into().unwrap_or(u32::MAX);
                    for _ in 0..scale::shrink(&self.limits, &rested) {
                        if let Some(slot) = self
                            .rested(now)
                            .min_by_key(|&slot| self.slots[slot as usize].since)
                        {
                            self.slot_event(now, slot, slot::Event::Retire, actions);
                        }
                    }
                }
                if self.census().idle <= max_spare {
                    self.shrink_at = None;
                } else if self.shrink_at.is_none() {
                    self.shrink_at = Some(now + SHRINK_INTERVAL);
                }
            }
            Mode::Ondemand { idle_timeout } => {
                let idle_since = |slot: &Slot| (slot.state == State::Idle).then_some(slot.since);
                while let Some(slot) = self.position(|slot| {
                    idle_since(slot).is_some_and(|since| since + idle_timeout <= now)
                }) {
                    self.slot_event(now, slot, slot::Event::Retire, actions);
                }
                // A busy worker turns idle unseen: look again in half the time.
                let first = self
                    .slots
                    .iter()
                    .filter_map(idle_since)
                    .min()
                    .map(|since| since + idle_timeout);
                let later = (self.census().busy > 0).then(|| now + idle_timeout / 2);
                self.shrink_at = first.into_iter().chain(later).min();
            }
        }
    }

    /// The idle workers that have been idle for a whole interval of shrinking.
    pub(super) fn rested(&self, now: Time) -> impl Iterator<Item = u32> {
        self.numbers().filter(move |&number| {
            let slot = &self.slots[number as usize];
            slot.state == State::Idle && now.since(slot.since) >= SHRINK_INTERVAL
        })
    }

    /// Saturation is reported once. It is over when a worker has been idle for a whole interval, or when there is room
    /// for more workers and none is wanted; a dead worker that is about to be replaced leaves no such room.
    pub(super) fn look_at_saturation(
        &mut self,
        now: Time,
        view: &impl View,
        actions: &mut Vec<Action>,
    ) {
        let census = self.census();
        match &self.saturated {
            None if census.busy >= self.limits.max_children => {
                self.saturated = Some((Episode::begin(now), now + SHRINK_INTERVAL));
                actions.push(Action::ReportSaturated);
            }
            Some((_, over_at)) if *over_at <= now => {
                let room = census.total() < self.limits.max_children;
                let unwanted = room && census.starting == 0 && self.can_spawn(now) && !self.short;
                if unwanted || self.rested(now).next().is_some() {
                    self.end_saturation(now, actions);
                } else if let Some((_, over_at)) = &mut self.saturated {
                    *over_at = now + SHRINK_INTERVAL;
                }
            }
            None | Some(_) => {}
        }
        if let Some((episode, _)) = &mut self.saturated
            && episode.look_at() <= now
        {
            let (queue, taken) = view.accept_queue();
            episode.look(now, queue, taken, self.max_queue.is_some());
            let count = saturation::surplus(&self.limits, &census, queue, self.max_queue);
            if count > 0 {
                actions.push(Action::TurnAway { count });
            }
        }
    }

    pub(super) fn end_saturation(&mut self, now: Time, actions: &mut Vec<Action>) {
        if let Some((episode, _)) = self.saturated.take() {
            actions.push(Action::ReportRelieved(episode.end(now)));
        }
    }
}
