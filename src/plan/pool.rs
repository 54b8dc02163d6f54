//! One pool's supervision: events in, actions out.
//!
//! The daemon reports events as they come ([`Pool::on`]), then asks once per wake-up what follows from all of them
//! ([`Pool::settle`]), looking at the workers through a [`View`]. It performs the actions, sets the watermarks, waits
//! until [`Pool::deadline`] or the next event, and starts over. What an action leads to comes back as an event, also
//! its failure.
//!
//! # Layout
//! * `mold`: whether there is a process that forks the workers, and how it is
//! * `slots`: the workers, what happens to them and their deadlines
//! * `size`: who is started and who is asked to leave
//! * `recycle`: who is replaced
//! * `notices`: what the daemon is to be woken for

mod mold;
mod notices;
mod recycle;
mod size;
mod slots;

use crate::reload::Standing;
use crate::respawn::Respawn;
use crate::saturation::{Episode, Summary};
use crate::scale::{Census, Limits, Mode};
use crate::slot::{self, State};
use crate::time::Time;
use mold::Mold;
use notices::{QUIET, Wanted};
use slots::{Slot, VACANT};
use std::time::Duration;

/// How long a worker that was sent a deadly signal may take before the next, harsher one.
pub const KILL_INTERVAL: Duration = Duration::from_secs(1);

/// How long after a request's time has run out the master leaves it to the worker's own watchdog. A worker is busy from
/// the moment it accepts, and stays so between two requests that follow each other at once: a silent or slow client may
/// take the 5 s and 10 s that workers allow for a first byte and a header, and the body that nobody read 2 s more.
pub const WATCHDOG_GRACE: Duration = Duration::from_secs(20);

/// While a connection waits whose one wake-up is lost, an idle worker for it is looked for this often.
pub const NUDGE_INTERVAL: Duration = Duration::from_millis(10);

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
    /// How long a worker may live (`pm.max_lifetime`); None is for ever.
    pub lifetime: Option<Duration>,
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
    /// There can be no mold: workers are forked without one from now on. Whether it is dead is nobody's concern.
    MoldUnfit,
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
    /// A worker that was woken for a connection has another request to answer first.
    Occupied,
    /// A worker crossed a watermark ([`Pool::watermarks`]), or a connection arrived while the listening socket was
    /// watched ([`Pool::watches_listener`]).
    Notice,
    /// The pool is to end so, and the mold has been told to. What it is at already, or past, changes nothing.
    Stop(Phase),
}

/// What a pool is at. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It serves.
    Running,
    /// Nobody is started any more; each worker leaves after its request.
    Finishing,
    /// Each worker ends at once.
    Terminating,
    /// Each worker that has not ended yet is killed.
    Killing,
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
    /// Report that they are not any more.
    ReportRelieved(Summary),
    /// Tell so many connections, which wait in the accept queue, that nobody will be there for them.
    TurnAway {
        /// How many are too many.
        count: u32,
    },
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

    /// Of these, those that wait in the accept queue, and how many have been taken out of it since the pool was made.
    fn accept_queue(&self) -> (u32, u64);
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
    /// How many workers may be started, since all pools together have a limit (`process.max`).
    room: u32,
    /// More would have been started at the last [`Self::settle`].
    short: bool,
    /// When an excess of idle workers is looked at next.
    shrink_at: Option<Time>,
    /// All workers are busy, and it has been reported; when to look whether it is over.
    saturated: Option<(Episode, Time)>,
    /// Most connections that may wait meanwhile; None is as many as come.
    max_queue: Option<u32>,
    /// The kernel may have woken nobody but a worker that died, or is occupied, for a connection that waits: when to
    /// look whether one does.
    nudge_at: Option<Time>,
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
            room: u32::MAX,
            short: false,
            shrink_at: None,
            saturated: None,
            max_queue: None,
            nudge_at: None,
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
            Event::MoldReady => self.mold.ready(now),
            Event::MoldGone => self.mold_gone(now, actions),
            Event::MoldUnfit => self.mold.forgo(),
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
            Event::Occupied => self.nudge_at = Some(now),
            Event::Notice => self.noticed = true,
            Event::Stop(phase) => self.stop(now, phase, actions),
        }
    }

    /// Says how many connections may wait while all workers are busy (`pm.max_queue`). Without this there is no limit.
    pub fn set_max_queue(&mut self, most: Option<u32>) {
        self.max_queue = most;
    }

    /// Says how many more workers all pools together may have. Without this there is no limit.
    pub fn set_room(&mut self, room: u32) {
        self.room = room;
    }

    /// Whether it wanted more workers than there was room for. It is to settle again when there is some.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.short
    }

    /// Decides what follows from all that has happened. To be called after the events of one wake-up, and when
    /// [`Self::deadline`] has passed.
    pub fn settle(&mut self, now: Time, view: &impl View, actions: &mut Vec<Action>) {
        self.observe(now, view, actions);
        self.expire(now, actions);
        self.short = false;
        if self.phase != Phase::Running {
            self.watermarks = QUIET;
            self.watches_listener = false;
            return;
        }
        if self.respawn.blocked_until(now).is_none() && self.mold.start(now + self.timeouts.start) {
            actions.push(Action::StartMold);
        }
        self.age(now);
        self.replace_worn_out(now, actions);
        self.grow(now, view, actions);
        self.shrink(now, actions);
        self.look_at_saturation(now, view, actions);
        self.pass_on(now, view, actions);
        self.look_at_notices(now, actions.is_empty());
    }

    /// The next instant at which [`Self::settle`] has something to do; None when only an event can change anything.
    #[must_use]
    pub fn deadline(&self, now: Time) -> Option<Time> {
        let running = (self.phase == Phase::Running).then_some([
            self.shrink_at,
            self.saturated
                .as_ref()
                .map(|(episode, over)| episode.look_at().min(*over)),
            self.nudge_at,
            self.pause,
            self.limit_at,
            self.age_deadline(),
            self.respawn.blocked_until(now),
        ]);
        let slots = self.slots.iter().map(|slot| slot.deadline);
        slots
            .chain(running.into_iter().flatten())
            .chain([self.mold.deadline()])
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

    /// Whether its first workers have all been asked for.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.started
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

    fn stop(&mut self, now: Time, phase: Phase, actions: &mut Vec<Action>) {
        if phase <= self.phase {
            return;
        }
        self.phase = phase;
        self.end_saturation(now, actions);
        let killed_in = match phase {
            Phase::Killing => Duration::ZERO,
            Phase::Terminating | Phase::Finishing | Phase::Running => KILL_INTERVAL,
        };
        self.mold.end(now + killed_in);
        if phase >= Phase::Terminating {
            self.for_all(now, slot::Event::Terminate, actions);
            for slot in &mut self.slots {
                slot.deadline = slot.deadline.map(|at| at.min(now + killed_in));
            }
            return;
        }
        self.for_all(now, slot::Event::Retire, actions);
        // Those that were leaving already had the time that requests have.
        for slot in &mut self.slots {
            if slot.state == State::Retiring {
                slot.deadline = Some(now + self.timeouts.control);
            }
        }
    }

    fn mold_gone(&mut self, now: Time, actions: &mut Vec<Action>) {
        // A worker that it was asked for may have been forked all the same: its slot stays taken until it is ready, or
        // is reported gone.
        if !self.mold.gone(now) {
            self.back_off(now, actions);
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

    /// Tells an idle worker of a connection whose worker has died, or is occupied. Of the busy workers only those see it
    /// when they turn idle that the kernel passed before it woke that one: so this is repeated until nothing waits.
    fn pass_on(&mut self, now: Time, view: &impl View, actions: &mut Vec<Action>) {
        if self.nudge_at.is_none_or(|at| at > now) {
            return;
        }
        if view.queue() == 0 {
            self.nudge_at = None;
            return;
        }
        if let Some(slot) = self.find(State::Idle) {
            actions.push(Action::Nudge { slot });
        }
        self.nudge_at = Some(now + NUDGE_INTERVAL);
    }
}

#[cfg(test)]
mod tests;
