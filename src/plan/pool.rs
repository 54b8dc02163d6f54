//! One pool's supervision: events in, actions out.
//!
//! The daemon reports events as they come ([`Pool::on`]), then asks once per wake-up what follows from all of them
//! ([`Pool::settle`]), looking at the workers through a [`View`]. It performs the actions, sets the watermarks, waits
//! until [`Pool::deadline`] or the next event, and starts over. What an action leads to comes back as an event, also
//! its failure.

use crate::reload::Standing;
use crate::respawn::{PROBATION, Respawn};
use crate::scale::{self, Census, Limits, Mode, SHRINK_INTERVAL};
use crate::slot::{self, Effect, State};
use crate::time::Time;
use std::time::Duration;

/// How long a worker that was sent a deadly signal may take before the next, harsher one.
pub const KILL_INTERVAL: Duration = Duration::from_secs(1);

/// How long after a request's time has run out the master leaves it to the worker's own watchdog.
pub const WATCHDOG_GRACE: Duration = Duration::from_secs(2);

/// How long no notice is wanted after one that led to nothing, since what it told of was over before the master looked.
/// Bounds the wake-ups of a pool that answers fast, and what a connection that finds nobody idle waits in addition.
pub const NOTICE_PAUSE: Duration = Duration::from_millis(10);

/// Spans of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From asking for a worker, or a mold, to its being ready.
    pub start: Duration,
    /// How long a request may take (`request_terminate_timeout`); None is for ever.
    pub terminate: Option<Duration>,
    /// How long a worker that was asked to leave may take (`process_control_timeout`).
    pub control: Duration,
}

/// What the daemon reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The mold is ready to fork.
    MoldReady,
    /// The mold is dead, or could not be started. What becomes of the workers that it was asked for is reported of each.
    MoldGone,
    /// A worker accepts.
    Ready {
        /// Its slot.
        slot: u32,
    },
    /// A worker could not be forked.
    SpawnFailed {
        /// Its slot.
        slot: u32,
    },
    /// A worker asks to be replaced.
    WornOut {
        /// Its slot.
        slot: u32,
    },
    /// A worker is dead, or will never have been: the mold died before it forked it.
    Gone {
        /// Its slot.
        slot: u32,
        /// Whether it had served a request.
        served: bool,
    },
    /// A worker crossed a watermark ([`Pool::watermarks`]), or a connection arrived while the listening socket was
    /// watched ([`Pool::watches_listener`]).
    Notice,
    /// Nobody is to be started any more; each worker leaves after its request. The mold has been told to end.
    Finish,
    /// Each worker is to end at once, and the mold has been told to.
    Terminate,
}

/// What the daemon is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the mold.
    StartMold,
    /// Kill the mold, which did not get ready in time, or did not end when it was told to.
    KillMold,
    /// Fork a worker.
    Spawn {
        /// For this slot.
        slot: u32,
    },
    /// Ask a worker to leave.
    Retire {
        /// Its slot.
        slot: u32,
    },
    /// Send a worker SIGTERM.
    SignalTerm {
        /// Its slot.
        slot: u32,
    },
    /// Send a worker SIGKILL.
    SignalKill {
        /// Its slot.
        slot: u32,
    },
    /// Tell an idle worker to look at the listening socket.
    Nudge {
        /// Its slot.
        slot: u32,
    },
    /// Report that all workers the pool may have are busy.
    ReportSaturated,
    /// Report that starts fail, and when the next try is.
    ReportBackOff {
        /// Failures in a row.
        failures: u32,
        /// The wait.
        wait: Duration,
    },
}

/// What the daemon sees of a pool.
pub trait View {
    /// Whether the worker in `slot` is busy, and since when it is as it is; None when it has not said yet.
    fn worker(&self, slot: u32) -> Option<(bool, Time)>;

    /// Connections that wait to be accepted.
    fn queue(&self) -> u32;
}

/// Whether a mold forks the workers, and how it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mold {
    /// The master forks them itself.
    Needless,
    Absent,
    Starting {
        deadline: Time,
    },
    Ready {
        since: Time,
    },
    /// It was told to end, or killed; when to kill it next.
    Ending {
        deadline: Time,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Finishing,
    Terminating,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    state: State,
    /// Idle or busy since then.
    since: Time,
    deadline: Option<Time>,
    ready_at: Option<Time>,
    worn_out: bool,
}

const VACANT: Slot = Slot {
    state: State::Vacant,
    since: Time(0),
    deadline: None,
    ready_at: None,
    worn_out: false,
};

/// The watermarks that no count of idle workers crosses.
const QUIET: (u32, u32) = (0, u32::MAX);

/// What the daemon is to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Wanted {
    /// Fewer idle workers than this.
    growth: u32,
    /// More idle workers than this.
    excess: Option<u32>,
    /// All workers busy.
    saturation: bool,
    /// Whoever turns busy first, which starts the clock of the requests' time limit.
    limit: bool,
}

/// The supervision of one pool.
#[derive(Clone, Debug)]
pub struct Pool {
    limits: Limits,
    timeouts: Timeouts,
    mold: Mold,
    phase: Phase,
    slots: Vec<Slot>,
    respawn: Respawn,
    /// The first workers have been asked for.
    started: bool,
    /// A worn-out worker and the one that will take its place.
    replacing: Option<(u32, u32)>,
    /// When an excess of idle workers is looked at next.
    shrink_at: Option<Time>,
    /// All workers are busy, and it has been reported; when to look whether it is over.
    saturated: Option<Time>,
    /// A worker died unexpectedly since the last [`Self::settle`].
    nudge: bool,
    /// There was a notice since the last [`Self::settle`].
    noticed: bool,
    wanted: Wanted,
    /// No notice is wanted until then.
    pause: Option<Time>,
    /// The earliest end of the time of a request that has begun since the workers were last looked at.
    limit_at: Option<Time>,
    watermarks: (u32, u32),
    watches_listener: bool,
}

impl Pool {
    /// A pool without workers. With `mold`, nothing is forked until the mold is ready.
    #[must_use]
    pub fn new(limits: Limits, timeouts: Timeouts, mold: bool) -> Self {
        Self {
            limits,
            timeouts,
            mold: if mold { Mold::Absent } else { Mold::Needless },
            phase: Phase::Running,
            slots: vec![VACANT; limits.max_children as usize],
            respawn: Respawn::default(),
            started: false,
            replacing: None,
            shrink_at: None,
            saturated: None,
            nudge: false,
            noticed: false,
            wanted: Wanted::default(),
            pause: None,
            limit_at: None,
            watermarks: QUIET,
            watches_listener: false,
        }
    }

    /// Takes in what happened.
    pub fn on(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::MoldReady => {
                if let Mold::Starting { .. } = self.mold {
                    self.mold = Mold::Ready { since: now };
                }
            }
            Event::MoldGone => self.mold_gone(now, actions),
            Event::Ready { slot } => self.slot_event(now, slot, slot::Event::Ready, actions),
            Event::SpawnFailed { slot } => {
                self.slot_event(now, slot, slot::Event::SpawnFailed, actions);
            }
            Event::WornOut { slot } => {
                if let Some(slot) = self.slots.get_mut(slot as usize) {
                    slot.worn_out = true;
                }
            }
            Event::Gone { slot, served } => self.gone(now, slot, served, actions),
            Event::Notice => self.noticed = true,
            Event::Finish => {
                self.phase = self.phase.max_of(Phase::Finishing);
                self.end_mold(now);
                self.for_all(now, slot::Event::Retire, actions);
                for slot in self
                    .slots
                    .iter_mut()
                    .filter(|slot| slot.state == State::Retiring)
                {
                    slot.deadline = Some(now + self.timeouts.control);
                }
            }
            Event::Terminate => {
                self.phase = Phase::Terminating;
                self.end_mold(now);
                self.for_all(now, slot::Event::Terminate, actions);
            }
        }
    }

    /// Decides what follows from all that has happened. To be called after the events of one wake-up, and when
    /// [`Self::deadline`] has passed.
    pub fn settle(&mut self, now: Time, view: &impl View, actions: &mut Vec<Action>) {
        self.observe(now, view, actions);
        self.expire(now, actions);
        if self.phase != Phase::Running {
            self.watermarks = QUIET;
            self.watches_listener = false;
            return;
        }
        if self.mold == Mold::Absent && self.respawn.blocked_until(now).is_none() {
            self.mold = Mold::Starting {
                deadline: now + self.timeouts.start,
            };
            actions.push(Action::StartMold);
        }
        self.replace_worn_out(now, actions);
        self.grow(now, view, actions);
        self.shrink(now, actions);
        self.look_at_saturation(now, actions);
        if std::mem::take(&mut self.nudge)
            && let Some(slot) = self.find(State::Idle)
            && view.queue() > 0
        {
            actions.push(Action::Nudge { slot });
        }
        let noticed = std::mem::take(&mut self.noticed);
        if noticed && self.wanted.limit {
            // Who is busy has a deadline. Whoever begins from now on has at least until then, and need not tell.
            self.limit_at = self.request_deadline(now);
        } else if self.limit_at.is_some_and(|at| at <= now) {
            self.limit_at = None;
        }
        let wanted = self.wanted(now);
        if noticed && actions.is_empty() && wanted == self.wanted {
            self.pause = Some(now + NOTICE_PAUSE);
        } else if self.pause.is_some_and(|until| until <= now) {
            self.pause = None;
        }
        self.wanted = wanted;
        self.arm();
    }

    /// The next instant at which [`Self::settle`] has something to do; None when only an event can change anything.
    #[must_use]
    pub fn deadline(&self, now: Time) -> Option<Time> {
        let mold = match self.mold {
            Mold::Starting { deadline } | Mold::Ending { deadline } => Some(deadline),
            Mold::Needless | Mold::Absent | Mold::Ready { .. } => None,
        };
        let running = (self.phase == Phase::Running).then_some([
            self.shrink_at,
            self.saturated,
            self.pause,
            self.limit_at,
            self.respawn.blocked_until(now),
        ]);
        let slots = self.slots.iter().map(|slot| slot.deadline);
        slots
            .chain(running.into_iter().flatten())
            .chain([mold])
            .flatten()
            .min()
    }

    /// Which idle counts the workers are to tell of: fewer than the first, more than the second.
    #[must_use]
    pub fn watermarks(&self) -> (u32, u32) {
        self.watermarks
    }

    /// Whether an arriving connection is to wake the master, there being no idle worker to take it.
    #[must_use]
    pub fn watches_listener(&self) -> bool {
        self.watches_listener
    }

    /// Whether all workers that the pool may have are busy, or were less than a second ago.
    #[must_use]
    pub fn is_saturated(&self) -> bool {
        self.saturated.is_some()
    }

    /// Whether the last worker has gone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.state == State::Vacant)
    }

    /// How far it has come since it was made.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let Census {
            starting,
            idle,
            busy,
            ..
        } = self.census();
        let first = match self.limits.mode {
            Mode::Static => self.limits.max_children,
            Mode::Dynamic { start, .. } => start,
            Mode::Ondemand { .. } => 0,
        };
        if self.respawn.failures() > 0 {
            Standing::Failed
        } else if self.started && (starting == 0 || idle + busy >= first) {
            Standing::Ready
        } else {
            Standing::Coming
        }
    }

    /// What is in `slot`.
    #[must_use]
    pub fn state(&self, slot: u32) -> State {
        self.slots
            .get(slot as usize)
            .map_or(State::Vacant, |slot| slot.state)
    }

    /// Counts the workers.
    #[must_use]
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for slot in &self.slots {
            match slot.state {
                State::Vacant => {}
                State::Starting => census.starting += 1,
                State::Idle => census.idle += 1,
                State::Busy => census.busy += 1,
                State::Retiring | State::Killed => census.retiring += 1,
            }
        }
        census
    }

    fn gone(&mut self, now: Time, number: u32, served: bool, actions: &mut Vec<Action>) {
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

    fn mold_gone(&mut self, now: Time, actions: &mut Vec<Action>) {
        // A worker that it was asked for may have been forked all the same: its slot stays taken until it is ready, or
        // is reported gone.
        let was = std::mem::replace(&mut self.mold, Mold::Absent);
        let lasted = matches!(was, Mold::Ready { since } if now.since(since) >= PROBATION);
        if !lasted {
            self.back_off(now, actions);
        }
    }

    fn end_mold(&mut self, now: Time) {
        if !matches!(self.mold, Mold::Needless | Mold::Absent) {
            self.mold = Mold::Ending {
                deadline: now + KILL_INTERVAL,
            };
        }
    }

    fn slot_event(
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
            Effect::None | Effect::Left => {}
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
            Effect::Lost => self.nudge = true,
        }
    }

    /// When a request that began at `since` is over its time, its worker's watchdog included.
    fn request_deadline(&self, since: Time) -> Option<Time> {
        self.timeouts
            .terminate
            .map(|span| since + span + WATCHDOG_GRACE)
    }

    fn for_all(&mut self, now: Time, event: slot::Event, actions: &mut Vec<Action>) {
        for slot in self.numbers() {
            self.slot_event(now, slot, event, actions);
        }
    }

    fn back_off(&mut self, now: Time, actions: &mut Vec<Action>) {
        for ready in self.slots.iter().filter_map(|slot| slot.ready_at) {
            self.respawn.survived(now, ready, false);
        }
        if let Some(wait) = self.respawn.failed(now)
            && self.phase == Phase::Running
        {
            actions.push(Action::ReportBackOff {
                failures: self.respawn.failures(),
                wait,
            });
        }
    }

    /// Takes over from the scoreboard who is idle and who is busy.
    fn observe(&mut self, now: Time, view: &impl View, actions: &mut Vec<Action>) {
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

    fn expire(&mut self, now: Time, actions: &mut Vec<Action>) {
        for number in self.numbers() {
            if self.slots[number as usize]
                .deadline
                .is_some_and(|deadline| deadline <= now)
            {
                self.slot_event(now, number, slot::Event::Overdue, actions);
            }
        }
        if let Mold::Starting { deadline } | Mold::Ending { deadline } = self.mold
            && deadline <= now
        {
            // Its death will be reported as any other.
            self.end_mold(now);
            actions.push(Action::KillMold);
        }
    }

    /// One worn-out worker at a time leaves: when the one that takes its place is ready, or at once if there is no room
    /// for a second one.
    fn replace_worn_out(&mut self, now: Time, actions: &mut Vec<Action>) {
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
        let Some(old) = self.position(|slot| slot.worn_out && serving(slot)) else {
            return;
        };
        match self.find(State::Vacant) {
            Some(new) if self.can_spawn(now) => {
                self.slot_event(now, new, slot::Event::Ask, actions);
                self.replacing = Some((old, new));
            }
            Some(_) => {}
            None if self.census().retiring == 0 => {
                self.slot_event(now, old, slot::Event::Retire, actions);
            }
            None => {}
        }
    }

    fn can_spawn(&self, now: Time) -> bool {
        matches!(self.mold, Mold::Needless | Mold::Ready { .. })
            && self.respawn.blocked_until(now).is_none()
    }

    fn grow(&mut self, now: Time, view: &impl View, actions: &mut Vec<Action>) {
        let mut census = self.census();
        if !self.can_spawn(now) || census.total() >= self.limits.max_children {
            return;
        }
        if let Mode::Dynamic { start, .. } = self.limits.mode
            && !self.started
        {
            for _ in census.total()..start {
                self.ask(now, actions);
            }
            census = self.census();
        }
        self.started = true;
        let queue = match self.limits.mode {
            Mode::Static => 0,
            Mode::Dynamic { .. } | Mode::Ondemand { .. } => view.queue(),
        };
        for _ in 0..scale::grow(&self.limits, &census, queue) {
            self.ask(now, actions);
        }
    }

    fn ask(&mut self, now: Time, actions: &mut Vec<Action>) {
        if let Some(slot) = self.find(State::Vacant) {
            self.slot_event(now, slot, slot::Event::Ask, actions);
        }
    }

    fn shrink(&mut self, now: Time, actions: &mut Vec<Action>) {
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
    fn rested(&self, now: Time) -> impl Iterator<Item = u32> {
        self.numbers().filter(move |&number| {
            let slot = &self.slots[number as usize];
            slot.state == State::Idle && now.since(slot.since) >= SHRINK_INTERVAL
        })
    }

    /// Saturation is reported once. It is over when a worker has been idle for a whole interval, or when there is room
    /// for more workers and none is wanted; a dead worker that is about to be replaced leaves no such room.
    fn look_at_saturation(&mut self, now: Time, actions: &mut Vec<Action>) {
        let census = self.census();
        match self.saturated {
            None if census.busy >= self.limits.max_children => {
                self.saturated = Some(now + SHRINK_INTERVAL);
                actions.push(Action::ReportSaturated);
            }
            Some(at) if at <= now => {
                let room = census.total() < self.limits.max_children;
                let unwanted = room && census.starting == 0 && self.can_spawn(now);
                let over = unwanted || self.rested(now).next().is_some();
                self.saturated = (!over).then(|| now + SHRINK_INTERVAL);
            }
            None | Some(_) => {}
        }
    }

    /// Just those notices that could change a decision.
    fn wanted(&self, now: Time) -> Wanted {
        let census = self.census();
        let full = census.total() >= self.limits.max_children;
        // Whether anybody would be started, however many wait: no round of starts is full, and none is held back.
        let can_grow = self.can_spawn(now) && scale::grow(&self.limits, &census, u32::MAX) > 0;
        Wanted {
            growth: match self.limits.mode {
                // Who starts counts as spare; when the last idle worker turns busy, the queue counts as well.
                Mode::Dynamic { min_spare, .. } if can_grow => {
                    min_spare.saturating_sub(census.starting).max(1)
                }
                Mode::Ondemand { .. } if can_grow => 1,
                Mode::Static | Mode::Dynamic { .. } | Mode::Ondemand { .. } => 0,
            },
            excess: match self.limits.mode {
                Mode::Dynamic { max_spare, .. } if self.shrink_at.is_none() => Some(max_spare),
                Mode::Ondemand { .. } if self.shrink_at.is_none() => Some(0),
                Mode::Static | Mode::Dynamic { .. } | Mode::Ondemand { .. } => None,
            },
            saturation: full && self.saturated.is_none(),
            limit: self.timeouts.terminate.is_some() && census.busy == 0 && self.limit_at.is_none(),
        }
    }

    fn arm(&mut self) {
        if self.pause.is_some() {
            self.watermarks = QUIET;
            self.watches_listener = false;
            return;
        }
        let Wanted {
            growth,
            excess,
            saturation,
            limit,
        } = self.wanted;
        let idle = self.census().idle;
        // With nobody idle, who arrives is heard of, and not who turns idle and busy again.
        self.watches_listener = growth > 0 && idle == 0;
        let low = if self.watches_listener { 0 } else { growth };
        let low = low.max(u32::from(saturation));
        let low = if limit { low.max(idle) } else { low };
        self.watermarks = (low, excess.unwrap_or(u32::MAX));
    }

    fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        0..self.limits.max_children
    }

    fn find(&self, state: State) -> Option<u32> {
        self.position(|slot| slot.state == state)
    }

    fn position(&self, predicate: impl Fn(&Slot) -> bool) -> Option<u32> {
        self.numbers()
            .find(|&number| predicate(&self.slots[number as usize]))
    }
}

impl Phase {
    fn max_of(self, other: Self) -> Self {
        if self == Self::Terminating {
            self
        } else {
            other
        }
    }
}

#[cfg(test)]
mod tests;
