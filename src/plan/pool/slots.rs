//! The workers of a pool: what happens to each, as [`crate::slot`] says, and when something has to have happened.

use super::{Action, KILL_INTERVAL, Phase, Pool, View, WATCHDOG_GRACE};
use crate::respawn::PROBATION;
use crate::slot::{self, Effect, State};
use crate::time::Time;

#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) state: State,
    /// Idle or busy since then.
    pub(super) since: Time,
    pub(super) deadline: Option<Time>,
    pub(super) ready_at: Option<Time>,
    pub(super) worn_out: bool,
}

pub(super) const VACANT: Slot = Slot {
    state: State::Vacant,
    since: Time(0),
    deadline: None,
    ready_at: None,
    worn_out: false,
};

impl Pool {
    pub(super) fn gone(&mut self, now: Time, number: u32, served: bool, actions: &mut Vec<Action>) {
        let lost = matches!(self.state(number), State::Idle | State::Busy);
        let ready_at = self
            .slots
            .get(number as usize)
            .and_then(|slot| slot.ready_at);
        self.slot_event(now, number, slot::Event::Gone, actions);
        if let Some(ready) = ready_at {
            self.respawn.survived(now, ready, served);
            // One that was hardly ready and served nobody failed at start as well.
            if lost && !served && now.since(ready) < PROBATION {
                self.back_off(now, actions);
            }
        }
    }

    pub(super) fn slot_event(
        &mut self,
        now: Time,
        number: u32,
        event: slot::Event,
        actions: &mut Vec<Action>,
    ) {
        let request_deadline = self.request_deadline(now);
        let Some(slot) = self.slots.get_mut(number as usize) else {
            return;
        };
        let before = slot.state;
        let (after, effect) = slot::next(before, event);
        slot.state = after;
        if before != after || effect != Effect::None {
            slot.deadline = match after {
                State::Vacant | State::Idle => None,
                State::Starting => Some(now + self.timeouts.start),
                State::Busy => request_deadline,
                // It may hold a request, which has the time that requests have.
                State::Retiring if self.phase == Phase::Running => request_deadline,
                State::Retiring => Some(now + self.timeouts.control),
                State::Killed => Some(now + KILL_INTERVAL),
            };
        }
        if (before, after) == (State::Starting, State::Idle) {
            slot.ready_at = Some(now);
            slot.since = now;
        }
        if after == State::Vacant {
            *slot = VACANT;
        }
        let slot = number;
        match effect {
            Effect::None => {}
            Effect::Spawn => actions.push(Action::Spawn { slot }),
            Effect::AskToLeave => actions.push(Action::Retire { slot }),
            Effect::SignalTerm => actions.push(Action::SignalTerm { slot }),
            Effect::SignalKill => {
                actions.push(Action::SignalKill { slot });
                if before == State::Starting {
                    self.back_off(now, actions);
                }
            }
            Effect::StartFailed => self.back_off(now, actions),
            // Whoever leaves may have been woken for a connection just before.
            Effect::Lost | Effect::Left => self.nudge_at = Some(now),
        }
    }

    /// When a request that began at `since` is over its time, its worker's watchdog included.
    pub(super) fn request_deadline(&self, since: Time) -> Option<Time> {
        self.timeouts
            .terminate
            .map(|span| since + span + WATCHDOG_GRACE)
    }

    pub(super) fn for_all(&mut self, now: Time, event: slot::Event, actions: &mut Vec<Action>) {
        for slot in self.numbers() {
            self.slot_event(now, slot, event, actions);
        }
    }

    /// Takes over from the scoreboard who is idle and who is busy.
    pub(super) fn observe(&mut self, now: Time, view: &impl View, actions: &mut Vec<Action>) {
        for number in self.numbers() {
            if !matches!(self.state(number), State::Idle | State::Busy) {
                continue;
            }
            let Some((busy, since)) = view.worker(number) else {
                continue;
            };
            let event = if busy {
                slot::Event::TurnedBusy
            } else {
                slot::Event::TurnedIdle
            };
            self.slot_event(now, number, event, actions);
            let since = since.min(now);
            let request_deadline = self.request_deadline(since);
            let slot = &mut self.slots[number as usize];
            slot.since = since;
            if busy {
                slot.deadline = request_deadline;
            }
        }
    }

    pub(super) fn expire(&mut self, now: Time, actions: &mut Vec<Action>) {
        for number in self.numbers() {
            if self.slots[number as usize]
                .deadline
                .is_some_and(|deadline| deadline <= now)
            {
                self.slot_event(now, number, slot::Event::Overdue, actions);
            }
        }
        if self.mold.is_overdue(now) {
            // Its death will be reported as any other.
            self.mold.end(now + KILL_INTERVAL);
            actions.push(Action::KillMold);
        }
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        0..self.limits.max_children
    }

    pub(super) fn find(&self, state: State) -> Option<u32> {
        self.position(|slot| slot.state == state)
    }

    pub(super) fn position(&self, predicate: impl Fn(&Slot) -> bool) -> Option<u32> {
        self.numbers()
            .find(|&number| predicate(&self.slots[number as usize]))
    }
}
