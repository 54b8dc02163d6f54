//! The kernel, the mold and the workers of the world: what happens to them, and what they tell the master.

use super::*;

impl World {
    pub(super) fn timer(&mut self, at: Time, happening: Happening) {
        self.count += 1;
        self.timers.insert((at, self.count), happening);
    }

    pub(super) fn worker(&self, slot: u32) -> Option<&Worker> {
        self.workers[slot as usize].as_ref()
    }

    /// The worker `number` if it is still in `slot` and alive.
    pub(super) fn same(&mut self, slot: u32, number: u64) -> Option<&mut Worker> {
        self.workers[slot as usize]
            .as_mut()
            .filter(|worker| worker.number == number && worker.doing != Doing::Dead)
    }

    pub(super) fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Arrival { takes } => {
                self.arrived += 1;
                self.queue.push_back(Request {
                    arrived: now,
                    takes,
                });
                self.wake_one_worker();
                if self.pool.watches_listener() {
                    self.tell_master(Event::Notice);
                }
            }
            Happening::Forked { slot, number } => {
                let start = now + self.start;
                if let Some(worker) = self.same(slot, number) {
                    worker.doing = Doing::Starting;
                    let happening = match worker.fate {
                        Fate::Works | Fate::NotForked | Fate::DiesYoung => {
                            Happening::Started { slot, number }
                        }
                        Fate::DiesAtStart => Happening::Dies { slot, number },
                        Fate::Hangs => return,
                    };
                    self.timer(start, happening);
                }
            }
            Happening::Started { slot, number } => {
                if let Some(worker) = self.same(slot, number) {
                    worker.ready = true;
                    let young = worker.fate == Fate::DiesYoung;
                    self.tell_master(Event::Ready { slot });
                    if young {
                        self.timer(now + LEAVE, Happening::Dies { slot, number });
                        self.turn(slot, Doing::Idle { woken: true });
                    } else {
                        self.turn(slot, Doing::Idle { woken: false });
                        self.look(slot, number);
                    }
                }
            }
            Happening::Accepts { slot, number } => {
                if let Some(worker) = self.same(slot, number)
                    && matches!(worker.doing, Doing::Idle { .. })
                {
                    self.accept(slot, number);
                }
            }
            Happening::Reads { slot, number } => {
                if let Some(worker) = self.same(slot, number)
                    && matches!(worker.doing, Doing::Idle { .. })
                    && worker.retire
                {
                    // Somebody may have come for whom this worker, and no other, was woken.
                    self.leave_or_serve(slot, number);
                }
            }
            Happening::Finished { slot, number } => self.finished(slot, number),
            Happening::Dies { slot, number } => {
                if self.same(slot, number).is_some() {
                    self.die(slot);
                }
            }
            Happening::MoldStarted { number } => {
                if let Some(mold) = &mut self.mold
                    && mold.number == number
                {
                    mold.ready = true;
                    self.tell_master(Event::MoldReady);
                }
            }
            Happening::MoldUnfit { number } => {
                if self.mold.take_if(|mold| mold.number == number).is_some() {
                    self.tell_master(Event::MoldUnfit);
                    self.tell_master(Event::MoldGone);
                }
            }
            Happening::MoldDies { number } => {
                if self.mold.is_some_and(|mold| mold.number == number) {
                    self.mold = None;
                    // The ends of the channels that it had not given to a worker.
                    for slot in 0..self.max {
                        if let Some(worker) = &mut self.workers[slot as usize]
                            && worker.doing == Doing::Unborn
                        {
                            worker.doing = Doing::Dead;
                            self.tell_master(Event::Gone {
                                slot,
                                served: false,
                            });
                        }
                    }
                    self.tell_master(Event::MoldGone);
                }
            }
            Happening::MasterWakes => {
                // Unless a deadline was earlier.
                if self.wakes_at.is_some_and(|at| at <= now) {
                    self.wake();
                }
            }
        }
    }

    /// The kernel wakes the first of those that wait for connections, and no other.
    pub(super) fn wake_one_worker(&mut self) {
        let waits =
            |worker: &Worker| worker.doing == Doing::Idle { woken: false } && !worker.retire;
        let first = (0..self.max)
            .filter(|&slot| self.worker(slot).is_some_and(waits))
            .min_by_key(|&slot| self.identity(slot));
        if let Some(slot) = first
            && let Some(worker) = &mut self.workers[slot as usize]
        {
            worker.doing = Doing::Idle { woken: true };
            let number = worker.number;
            self.timer(self.now + ACCEPT, Happening::Accepts { slot, number });
        }
    }

    /// A worker that begins to wait sees what waits already.
    pub(super) fn look(&mut self, slot: u32, number: u64) {
        let retire = self.worker(slot).is_some_and(|worker| worker.retire);
        if retire {
            self.read_orders(slot, number);
        } else if !self.queue.is_empty()
            && let Some(worker) = &mut self.workers[slot as usize]
        {
            worker.doing = Doing::Idle { woken: true };
            self.timer(self.now + ACCEPT, Happening::Accepts { slot, number });
        }
    }

    pub(super) fn read_orders(&mut self, slot: u32, number: u64) {
        let deaf = self
            .worker(slot)
            .map_or(self.now, |worker| worker.deaf_until);
        let at = deaf.max(self.now + ACCEPT);
        self.timer(at, Happening::Reads { slot, number });
    }

    pub(super) fn accept(&mut self, slot: u32, number: u64) {
        match self.queue.pop_front() {
            Some(request) => {
                self.waits.push(self.now.since(request.arrived));
                self.turn(slot, Doing::Busy);
                let end = self.now + request.takes;
                self.timer(end, Happening::Finished { slot, number });
            }
            // Another one was faster.
            None => {
                if let Some(worker) = &mut self.workers[slot as usize] {
                    worker.doing = Doing::Idle { woken: false };
                }
                self.look(slot, number);
            }
        }
    }

    pub(super) fn finished(&mut self, slot: u32, number: u64) {
        let limit = self.wears_out_after;
        let Some(worker) = self.same(slot, number) else {
            return;
        };
        worker.requests += 1;
        let worn_out = limit == Some(worker.requests);
        self.served += 1;
        if worn_out {
            self.tell_master(Event::WornOut { slot });
        }
        let last = self.worker(slot).is_some_and(|worker| worker.last);
        self.turn(slot, Doing::Idle { woken: false });
        if last {
            self.leave(slot, number);
        } else {
            self.look(slot, number);
        }
    }

    pub(super) fn leave_or_serve(&mut self, slot: u32, number: u64) {
        if self.queue.is_empty() {
            self.leave(slot, number);
        } else {
            if let Some(worker) = &mut self.workers[slot as usize] {
                worker.last = true;
            }
            self.accept(slot, number);
        }
    }

    pub(super) fn leave(&mut self, slot: u32, number: u64) {
        if let Some(worker) = &mut self.workers[slot as usize] {
            worker.doing = Doing::Leaving;
        }
        self.timer(self.now + LEAVE, Happening::Dies { slot, number });
    }

    /// What the scoreboard does: the state changes, and who crosses a watermark tells.
    pub(super) fn turn(&mut self, slot: u32, to: Doing) {
        let now = self.now;
        if let Some(worker) = &mut self.workers[slot as usize] {
            worker.doing = to;
            worker.since = now;
        }
        let idle = self.idle_bits();
        let (low, high) = self.watermarks;
        if (to == Doing::Busy && idle < low) || (to != Doing::Busy && idle > high) {
            self.tell_master(Event::Notice);
        }
    }

    pub(super) fn idle_bits(&self) -> u32 {
        let idle = |worker: &&Worker| matches!(worker.doing, Doing::Idle { .. } | Doing::Leaving);
        count(self.workers.iter().flatten().filter(idle).count())
    }

    pub(super) fn die(&mut self, slot: u32) {
        if let Some(worker) = &mut self.workers[slot as usize] {
            self.lost += u32::from(worker.doing == Doing::Busy);
            worker.doing = Doing::Dead;
            let served = worker.requests > 0;
            self.tell_master(Event::Gone { slot, served });
        }
    }
}
