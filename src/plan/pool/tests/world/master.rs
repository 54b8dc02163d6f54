//! The master of the world: it wakes, asks the plan, and performs.

use super::*;
use crate::pool::Mold as PlannedMold;
use std::cell::Cell;

struct Sight<'a> {
    workers: &'a [Option<Worker>],
    queue: u32,
    taken: u64,
    asked: Cell<u32>,
}

impl View for Sight<'_> {
    fn worker(&self, slot: u32) -> Option<(bool, Time)> {
        let worker = self.workers[slot as usize].as_ref()?;
        match worker.doing {
            Doing::Idle { .. } | Doing::Leaving => Some((false, worker.since)),
            Doing::Busy => Some((true, worker.since)),
            // What a dead worker said last stays until the master clears it; here it is as good as nothing.
            Doing::Unborn | Doing::Starting | Doing::Dead => None,
        }
    }

    fn queue(&self) -> u32 {
        self.asked.set(self.asked.get() + 1);
        self.queue
    }

    fn accept_queue(&self) -> (u32, u64) {
        (self.queue(), self.taken)
    }
}

impl World {
    pub(super) fn tell_master(&mut self, event: Event) {
        self.inbox.push(event);
        self.rouse();
    }

    pub(super) fn rouse(&mut self) {
        if self.wakes_at.is_none() {
            let at = self.now + self.latency;
            self.wakes_at = Some(at);
            self.timer(at, Happening::MasterWakes);
        }
    }

    pub(super) fn wake(&mut self) {
        self.wakes += 1;
        self.wakes_at = None;
        let mut actions = Vec::new();
        self.reaped.clear();
        for event in std::mem::take(&mut self.inbox) {
            if let Event::Gone { slot, .. } = event {
                self.workers[slot as usize] = None;
                self.reaped.push(slot);
            }
            self.pool.on(self.now, event, &mut actions);
        }
        let watched = self.pool.watches_listener();
        for round in 0.. {
            assert!(round < 16, "the pool never comes to rest: {actions:?}");
            let sight = Sight {
                workers: &self.workers,
                queue: self.waiting(),
                taken: u64::from(self.turned_away) + self.waits.len() as u64,
                asked: Cell::new(0),
            };
            self.pool.settle(self.now, &sight, &mut actions);
            assert!(sight.asked.get() <= 3, "the queue is dear to read");
            if actions.is_empty() {
                break;
            }
            for action in std::mem::take(&mut actions) {
                self.perform(action, &mut actions);
            }
        }
        self.watermarks = self.pool.watermarks();
        self.deadline = self.pool.deadline(self.now);
        if self.pool.watches_listener() && !watched && !self.queue.is_empty() {
            self.tell_master(Event::Notice);
        }
    }

    pub(super) fn perform(&mut self, action: Action, follow: &mut Vec<Action>) {
        let now = self.now;
        self.actions.push((now, action));
        if let Action::Retire { slot }
        | Action::Nudge { slot }
        | Action::SignalTerm { slot }
        | Action::SignalKill { slot } = action
        {
            let there = self.worker(slot).is_some() || self.reaped.contains(&slot);
            assert!(there, "{action:?}: nobody is there");
        }
        match action {
            Action::StartMold => self.start_mold(follow),
            Action::KillMold => {
                let mold = self.mold.expect("a mold to kill");
                let number = mold.number;
                self.timer(now + LEAVE, Happening::MoldDies { number });
            }
            Action::Spawn { slot } => self.spawn(slot, follow),
            Action::Retire { slot } => {
                if let Some(worker) = &mut self.workers[slot as usize] {
                    worker.retire = true;
                    let number = worker.number;
                    if matches!(worker.doing, Doing::Idle { .. }) {
                        self.read_orders(slot, number);
                    }
                }
            }
            Action::Nudge { slot } => {
                if let Some(worker) = &mut self.workers[slot as usize]
                    && worker.doing == (Doing::Idle { woken: false })
                {
                    let number = worker.number;
                    self.look(slot, number);
                }
            }
            Action::SignalTerm { slot } => {
                if self.worker(slot).is_some_and(|worker| !worker.stubborn) {
                    self.kill_later(slot);
                }
            }
            Action::SignalKill { slot } => self.kill_later(slot),
            Action::TurnAway { count } => {
                for _ in 0..count {
                    self.queue.pop_front().expect("somebody waits");
                    self.turned_away += 1;
                }
            }
            Action::ReportSaturated | Action::ReportRelieved(_) | Action::ReportBackOff { .. } => {}
        }
    }

    pub(super) fn kill_later(&mut self, slot: u32) {
        if let Some(worker) = self.worker(slot) {
            let number = worker.number;
            match worker.doing {
                // Its process is not known; who was asked for it and does not answer is at fault.
                Doing::Unborn => self.kill_mold(),
                _ => self.timer(self.now + LEAVE, Happening::Dies { slot, number }),
            }
        }
    }

    pub(super) fn start_mold(&mut self, follow: &mut Vec<Action>) {
        assert!(self.mold.is_none(), "there is a mold");
        self.count += 1;
        let number = self.count;
        let ready = self.now + millis(200);
        match self.mold_fate {
            MoldFate::NotStarted => {
                self.pool.on(self.now, Event::MoldGone, follow);
                return;
            }
            MoldFate::Works => self.timer(ready, Happening::MoldStarted { number }),
            MoldFate::Dies => self.timer(ready, Happening::MoldDies { number }),
            MoldFate::Unfit => self.timer(ready, Happening::MoldUnfit { number }),
            MoldFate::Hangs => {}
        }
        self.mold = Some(Mold {
            number,
            ready: false,
            deaf: self.mold_fate == MoldFate::Hangs,
        });
    }

    pub(super) fn spawn(&mut self, slot: u32, follow: &mut Vec<Action>) {
        assert!(self.worker(slot).is_none(), "slot {slot} is taken");
        let by_mold = self.pool.mold != PlannedMold::Needless;
        if self.fate == Fate::NotForked || (by_mold && self.mold.is_none()) {
            self.pool.on(self.now, Event::SpawnFailed { slot }, follow);
            return;
        }
        assert!(!by_mold || self.mold.is_some_and(|mold| mold.ready));
        self.count += 1;
        let number = self.count;
        self.workers[slot as usize] = Some(Worker {
            number,
            doing: Doing::Unborn,
            since: self.now,
            fate: self.fate,
            ready: false,
            requests: 0,
            retire: false,
            last: false,
            deaf_until: Time(0),
            stubborn: false,
        });
        let fork = if by_mold { FORK } else { Duration::ZERO };
        if !self.mold.is_some_and(|mold| mold.deaf) {
            self.timer(self.now + fork, Happening::Forked { slot, number });
        }
        self.most = self.most.max(self.alive());
        assert!(self.alive() <= self.max, "more workers than allowed");
    }
}
