//! A small daemon with its mold, workers and kernel, in virtual time, round the real [`Pool`].
//!
//! It wakes for exactly what the real one wakes for: a message, a death, a worker that crosses a watermark, a
//! connection while the listener is watched, a deadline. So what the plan forgets to ask for shows up as a request
//! that waits for ever, or an excess that stays.
//!
//! # Limits
//! * No connection is kept, and nobody gives up waiting.
//! * What the scoreboard and the watermarks say changes in one order for all; there are no data races here.

use super::super::*;
use crate::scale::{Limits, Mode};
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

/// From being woken to having accepted.
const ACCEPT: Duration = Duration::from_micros(20);
/// From deciding to leave, or a deadly signal, to the death.
const LEAVE: Duration = Duration::from_micros(300);
/// From the request to the mold to the worker's existence.
const FORK: Duration = Duration::from_micros(500);

pub const TIMEOUTS: Timeouts = Timeouts {
    start: Duration::from_secs(5),
    terminate: None,
    control: Duration::from_secs(10),
};

pub const STATIC: Mode = Mode::Static;
pub const DYNAMIC: Mode = Mode::Dynamic {
    start: 3,
    min_spare: 2,
    max_spare: 5,
};
pub const ONDEMAND: Mode = Mode::Ondemand {
    idle_timeout: Duration::from_secs(10),
};

pub fn limits(mode: Mode, max_children: u32) -> Limits {
    Limits {
        mode,
        max_children,
        max_spawn_rate: 32,
    }
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What becomes of the workers that are started from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Works,
    /// It cannot be forked.
    NotForked,
    /// It dies before it is ready.
    DiesAtStart,
    /// It never gets ready.
    Hangs,
    /// It gets ready and dies before it has served.
    DiesYoung,
}

/// What becomes of the molds that are started from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoldFate {
    Works,
    /// It cannot be started.
    NotStarted,
    Dies,
    Hangs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// The mold has been asked for it.
    Unborn,
    Starting,
    /// Waits, or has been woken and has not accepted yet.
    Idle {
        woken: bool,
    },
    Busy,
    /// It was asked to leave and does, with its idle bit still set.
    Leaving,
    Dead,
}

#[derive(Clone, Debug)]
struct Worker {
    number: u64,
    doing: Doing,
    since: Time,
    fate: Fate,
    ready: bool,
    requests: u32,
    /// It has been asked to leave, and may not have read it yet.
    retire: bool,
    /// It leaves after this request.
    last: bool,
    /// It reads none before.
    deaf_until: Time,
    /// SIGTERM does not end it.
    stubborn: bool,
}

#[derive(Clone, Copy, Debug)]
struct Mold {
    number: u64,
    ready: bool,
    /// SIGTERM does not end it.
    deaf: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happening {
    Arrival { takes: Duration },
    Forked { slot: u32, number: u64 },
    Started { slot: u32, number: u64 },
    Accepts { slot: u32, number: u64 },
    Reads { slot: u32, number: u64 },
    Finished { slot: u32, number: u64 },
    Dies { slot: u32, number: u64 },
    MoldStarted { number: u64 },
    MoldDies { number: u64 },
    MasterWakes,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    arrived: Time,
    takes: Duration,
}

pub struct World {
    pub now: Time,
    pub pool: Pool,
    max: u32,
    workers: Vec<Option<Worker>>,
    mold: Option<Mold>,
    /// What the master has not read yet.
    inbox: Vec<Event>,
    /// The slots that it found left at this turn.
    reaped: Vec<u32>,
    queue: VecDeque<Request>,
    /// By their time, then in the order they were set.
    timers: BTreeMap<(Time, u64), Happening>,
    count: u64,
    watermarks: (u32, u32),
    wakes_at: Option<Time>,
    /// The pool's, as it was when the master went to wait.
    pub deadline: Option<Time>,
    /// From an event to the master's turn.
    pub latency: Duration,
    /// From the fork to being ready.
    pub start: Duration,
    pub fate: Fate,
    pub mold_fate: MoldFate,
    /// Workers ask to be replaced after so many requests.
    pub wears_out_after: Option<u32>,
    pub actions: Vec<(Time, Action)>,
    pub wakes: u32,
    pub arrived: u32,
    pub served: u32,
    /// Requests whose worker died.
    pub lost: u32,
    pub waits: Vec<Duration>,
    pub most: u32,
}

struct Sight<'a> {
    workers: &'a [Option<Worker>],
    queue: u32,
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
}

impl World {
    pub fn new(limits: Limits, timeouts: Timeouts, mold: bool) -> Self {
        let mut world = Self {
            // Not the epoch, so that an instant never set shows.
            now: Time(0) + Duration::from_secs(1000),
            pool: Pool::new(limits, timeouts, mold),
            max: limits.max_children,
            workers: vec![None; limits.max_children as usize],
            mold: None,
            inbox: Vec::new(),
            reaped: Vec::new(),
            queue: VecDeque::new(),
            timers: BTreeMap::new(),
            count: 0,
            watermarks: (0, u32::MAX),
            wakes_at: None,
            deadline: None,
            latency: Duration::ZERO,
            start: millis(5),
            fate: Fate::Works,
            mold_fate: MoldFate::Works,
            wears_out_after: None,
            actions: Vec::new(),
            wakes: 0,
            arrived: 0,
            served: 0,
            lost: 0,
            waits: Vec::new(),
            most: 0,
        };
        world.wake();
        world
    }

    /// A pool as in [`Self::new`], without a mold and without a time limit, after its first second.
    pub fn settled(limits: Limits) -> Self {
        let mut world = Self::new(limits, TIMEOUTS, false);
        world.run(Duration::from_secs(1));
        world
    }

    // What a test does.

    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            if self.deadline.is_some_and(|deadline| deadline <= self.now) {
                self.wake();
            }
            let next = self.timers.keys().next().map(|&(at, _)| at);
            let Some(at) = next.into_iter().chain(self.deadline).min() else {
                break;
            };
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            while let Some(entry) = self.timers.first_entry()
                && entry.key().0 <= self.now
            {
                let happening = entry.remove();
                self.happen(happening);
            }
        }
        self.now = end;
    }

    pub fn arrive(&mut self, takes: Duration) {
        self.happen(Happening::Arrival { takes });
    }

    pub fn burst(&mut self, count: u32, takes: Duration) {
        for _ in 0..count {
            self.arrive(takes);
        }
    }

    /// Arrivals for `span` from now, `each` apart.
    pub fn load(&mut self, span: Duration, each: Duration, takes: Duration) {
        let mut at = self.now;
        while at < self.now + span {
            at = at + each;
            self.timer(at, Happening::Arrival { takes });
        }
    }

    /// A connection for which the kernel has woken nobody but a worker that answers another one first.
    pub fn arrive_at_an_occupied_worker(&mut self, takes: Duration) {
        self.arrived += 1;
        self.queue.push_back(Request {
            arrived: self.now,
            takes,
        });
        self.tell_master(Event::Occupied);
    }

    /// Kills the worker in `slot` as a stranger does.
    pub fn kill(&mut self, slot: u32) {
        if let Some(worker) = self.worker(slot)
            && !matches!(worker.doing, Doing::Unborn | Doing::Dead)
        {
            self.die(slot);
        }
    }

    /// The worker in `slot` turns deaf for orders for a time.
    pub fn deafen(&mut self, slot: u32, span: Duration) {
        let until = self.now + span;
        if let Some(worker) = &mut self.workers[slot as usize] {
            worker.deaf_until = until;
        }
    }

    /// Makes the worker in `slot` survive SIGTERM.
    pub fn harden(&mut self, slot: u32) {
        if let Some(worker) = &mut self.workers[slot as usize] {
            worker.stubborn = true;
        }
    }

    pub fn kill_idle(&mut self) {
        for slot in self.slots(State::Idle) {
            self.kill(slot);
        }
    }

    pub fn wear_out(&mut self, slot: u32) {
        if self.worker(slot).is_some_and(|worker| worker.ready) {
            self.tell_master(Event::WornOut { slot });
        }
    }

    pub fn kill_mold(&mut self) {
        if let Some(mold) = self.mold {
            self.happen(Happening::MoldDies {
                number: mold.number,
            });
        }
    }

    /// The mold goes on, but takes no more orders.
    pub fn mold_forks_no_more(&mut self) {
        if let Some(mold) = &mut self.mold {
            mold.deaf = true;
        }
    }

    /// A message that nobody in the world has sent.
    pub fn stray(&mut self, event: Event) {
        self.tell_master(event);
    }

    /// A signal for the master. It ends the mold as well.
    pub fn stop(&mut self, phase: Phase) {
        if let Some(Mold {
            number,
            deaf: false,
            ..
        }) = self.mold
        {
            self.timer(self.now + LEAVE, Happening::MoldDies { number });
        }
        self.tell_master(Event::Stop(phase));
    }

    // What a test looks at.

    /// One that the kernel has woken for a connection and that has not accepted it.
    pub fn woken(&self) -> Option<u32> {
        let woken = |worker: &Worker| worker.doing == Doing::Idle { woken: true };
        (0..self.max).find(|&slot| self.worker(slot).is_some_and(woken))
    }

    pub fn slots(&self, is: State) -> Vec<u32> {
        (0..self.max)
            .filter(|&slot| self.pool.state(slot) == is)
            .collect()
    }

    pub fn alive(&self) -> u32 {
        let there = |worker: &&Worker| worker.doing != Doing::Dead;
        count(self.workers.iter().flatten().filter(there).count())
    }

    pub fn waiting(&self) -> u32 {
        count(self.queue.len())
    }

    pub fn has_mold(&self) -> bool {
        self.mold.is_some()
    }

    pub fn identity(&self, slot: u32) -> Option<u64> {
        self.worker(slot).map(|worker| worker.number)
    }

    /// How many of the actions so far are like this.
    pub fn taken(&self, like: impl Fn(&Action) -> bool) -> usize {
        self.actions
            .iter()
            .filter(|(_, action)| like(action))
            .count()
    }

    pub fn spawned(&self) -> usize {
        self.taken(|action| matches!(action, Action::Spawn { .. }))
    }

    pub fn retired(&self) -> usize {
        self.taken(|action| matches!(action, Action::Retire { .. }))
    }

    pub fn watermarks(&self) -> (u32, u32) {
        self.watermarks
    }

    /// The master's wake-ups in `span` from now.
    pub fn wakes_in(&mut self, span: Duration) -> u32 {
        let before = self.wakes;
        self.run(span);
        self.wakes - before
    }

    // The kernel and the workers.

    fn timer(&mut self, at: Time, happening: Happening) {
        self.count += 1;
        self.timers.insert((at, self.count), happening);
    }

    fn worker(&self, slot: u32) -> Option<&Worker> {
        self.workers[slot as usize].as_ref()
    }

    /// The worker `number` if it is still in `slot` and alive.
    fn same(&mut self, slot: u32, number: u64) -> Option<&mut Worker> {
        self.workers[slot as usize]
            .as_mut()
            .filter(|worker| worker.number == number && worker.doing != Doing::Dead)
    }

    fn happen(&mut self, happening: Happening) {
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
    fn wake_one_worker(&mut self) {
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
    fn look(&mut self, slot: u32, number: u64) {
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

    fn read_orders(&mut self, slot: u32, number: u64) {
        let deaf = self
            .worker(slot)
            .map_or(self.now, |worker| worker.deaf_until);
        let at = deaf.max(self.now + ACCEPT);
        self.timer(at, Happening::Reads { slot, number });
    }

    fn accept(&mut self, slot: u32, number: u64) {
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

    fn finished(&mut self, slot: u32, number: u64) {
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

    fn leave_or_serve(&mut self, slot: u32, number: u64) {
        if self.queue.is_empty() {
            self.leave(slot, number);
        } else {
            if let Some(worker) = &mut self.workers[slot as usize] {
                worker.last = true;
            }
            self.accept(slot, number);
        }
    }

    fn leave(&mut self, slot: u32, number: u64) {
        if let Some(worker) = &mut self.workers[slot as usize] {
            worker.doing = Doing::Leaving;
        }
        self.timer(self.now + LEAVE, Happening::Dies { slot, number });
    }

    /// What the scoreboard does: the state changes, and who crosses a watermark tells.
    fn turn(&mut self, slot: u32, to: Doing) {
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

    fn idle_bits(&self) -> u32 {
        let idle = |worker: &&Worker| matches!(worker.doing, Doing::Idle { .. } | Doing::Leaving);
        count(self.workers.iter().flatten().filter(idle).count())
    }

    fn die(&mut self, slot: u32) {
        if let Some(worker) = &mut self.workers[slot as usize] {
            self.lost += u32::from(worker.doing == Doing::Busy);
            worker.doing = Doing::Dead;
            let served = worker.requests > 0;
            self.tell_master(Event::Gone { slot, served });
        }
    }

    // The master.

    fn tell_master(&mut self, event: Event) {
        self.inbox.push(event);
        self.rouse();
    }

    fn rouse(&mut self) {
        if self.wakes_at.is_none() {
            let at = self.now + self.latency;
            self.wakes_at = Some(at);
            self.timer(at, Happening::MasterWakes);
        }
    }

    fn wake(&mut self) {
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
                asked: Cell::new(0),
            };
            self.pool.settle(self.now, &sight, &mut actions);
            assert!(sight.asked.get() <= 2, "the queue is dear to read");
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

    fn perform(&mut self, action: Action, follow: &mut Vec<Action>) {
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
            Action::ReportSaturated | Action::ReportBackOff { .. } => {}
        }
    }

    fn kill_later(&mut self, slot: u32) {
        if let Some(worker) = self.worker(slot) {
            let number = worker.number;
            match worker.doing {
                // Its process is not known; who was asked for it and does not answer is at fault.
                Doing::Unborn => self.kill_mold(),
                _ => self.timer(self.now + LEAVE, Happening::Dies { slot, number }),
            }
        }
    }

    fn start_mold(&mut self, follow: &mut Vec<Action>) {
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
            MoldFate::Hangs => {}
        }
        self.mold = Some(Mold {
            number,
            ready: false,
            deaf: self.mold_fate == MoldFate::Hangs,
        });
    }

    fn spawn(&mut self, slot: u32, follow: &mut Vec<Action>) {
        assert!(self.worker(slot).is_none(), "slot {slot} is taken");
        let by_mold = self.pool.mold != super::super::Mold::Needless;
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

fn count(length: usize) -> u32 {
    u32::try_from(length).expect("few")
}
