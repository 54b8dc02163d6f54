//! A small daemon with its mold, workers and kernel, in virtual time, round the real [`Pool`].
//!
//! It wakes for exactly what the real one wakes for: a message, a death, a worker that crosses a watermark, a
//! connection while the listener is watched, a deadline. So what the plan forgets to ask for shows up as a request
//! that waits for ever, or an excess that stays.
//!
//! # Limits
//! * No connection is kept, and nobody gives up waiting.
//! * What the scoreboard and the watermarks say changes in one order for all; there are no data races here.
//!
//! # Layout
//! * [`processes`]: the kernel, the mold and the workers
//! * [`master`]: who asks the plan and performs

mod master;
mod processes;

use super::super::*;
use crate::scale::{Limits, Mode};
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
    lifetime: None,
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
    /// It turns out that there can be none.
    Unfit,
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
    MoldUnfit { number: u64 },
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
    pub turned_away: u32,
    pub waits: Vec<Duration>,
    pub most: u32,
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
            turned_away: 0,
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
}

fn count(length: usize) -> u32 {
    u32::try_from(length).expect("few")
}
