//! One pool at run time: what happens to its processes becomes events of [`plan`](preforkd_plan::pool), and what the
//! plan asks for is performed here.
//!
//! # Layout
//! * [`settle`]: what follows from all that has happened
//! * [`perform`]: the plan's decisions, done
//! * [`messages`]: what its processes say
//! * [`deaths`]: how they end
//! * [`process`]: one of them
//! * [`parked`]: connections that none of them holds
//! * [`succession`]: how it takes over from another, and how it leaves

mod deaths;
mod messages;
mod parked;
mod perform;
mod process;
mod settle;
mod succession;

use crate::config::{self, Application, Exec};
use crate::listen::{Listener, Sockets};
use crate::notify::Work;
use crate::output::{Held, HeldLine};
use crate::request_logs;
use crate::spawn::Shared;
use crate::status::{self, Desk};
use crate::token::{Token, What};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::unistd::Pid;
use parked::Parked;
pub use parked::Place;
use preforkd_plan::pool::{Action, Event, Pool as Plan, Timeouts};
use preforkd_plan::reload::Standing;
use preforkd_plan::scale::Mode;
use preforkd_plan::time::Time;
use preforkd_sys::children::Death;
use preforkd_sys::clock;
use preforkd_sys::queue::{Gauge, Target};
use preforkd_sys::scoreboard::{Scoreboard, State};
use preforkd_worker::log_file::LogFiles;
use preforkd_worker::message::{LogSettings, ToMold, ToWorker};
use preforkd_worker::status::Pages;
use process::Process;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;
pub use succession::Heirs;

/// What the pools of a master have in common.
#[derive(Debug)]
pub struct Common {
    /// The master's poll set.
    pub epoll: Epoll,
    /// Asks for accept queues.
    pub gauge: Gauge,
    /// The Python extension module, if a pool needs it.
    pub extension: Option<File>,
    /// What makes a program a mold, if a pool needs it and it can be had.
    pub preload: Option<File>,
    /// Whether debug lines are logged.
    pub notes: bool,
}

/// A pool.
#[derive(Debug)]
pub struct Pool {
    index: u32,
    config: config::Pool,
    plan: Plan,
    listener: Listener,
    /// Where the status service answers for it.
    status_listener: Option<Listener>,
    parked: Parked,
    target: Target,
    board: Scoreboard,
    logs: LogFiles,
    log_settings: LogSettings,
    generation: u32,
    pages: Option<Box<Pages>>,
    workers: Vec<Option<Process>>,
    mold: Option<Process>,
    /// Whether its mold is the program. Cleared when that turned out to be unfit.
    molds_program: bool,
    /// One of its molds has been ready, so that what makes a later one fail may pass.
    has_molded: bool,
    /// Cleared when importing the application turned out to start threads.
    preload: bool,
    /// What people have been told of the application.
    advice: Vec<String>,
    /// What the last process that did not come up printed.
    last_failure: Held,
    /// How the last one that died unasked did.
    last_end: Option<String>,
    watches_listener: bool,
    /// When the plan wants to be asked next.
    deadline: Option<Time>,
    /// Whether something has happened that the plan has to settle.
    dirty: bool,
    actions: Vec<Action>,
    /// Whether a worker or the mold has come up, or failed to.
    decided: bool,
    /// It has been told to leave.
    leaving: bool,
    /// Its workers answer who waits before they leave: nobody comes after them.
    drains: bool,
    /// Workers that died unasked and have not been replaced.
    lost: u32,
    /// Connections that are to be turned away.
    surplus: Option<u32>,
    /// Those that have been since all workers are busy.
    rejected: u32,
}

fn now() -> Time {
    Time(clock::now())
}

impl Pool {
    /// A pool that listens and has no process yet. `control_timeout` is how long a worker that was asked to leave may
    /// take.
    ///
    /// # Errors
    /// What opening its logs, making its scoreboard, or watching it, gives.
    pub fn new(
        index: u32,
        generation: u32,
        config: config::Pool,
        mut sockets: Sockets,
        control_timeout: Duration,
        common: &Common,
    ) -> io::Result<Self> {
        let logs = request_logs::open(&config)?;
        let board = Scoreboard::create(config.limits.max_children)?;
        board.set_generation(generation);
        common.epoll.add(
            board.handle().notice,
            // Edge-triggered, since it is never read: a worker that holds it as well could empty it in between, and
            // let the read block.
            EpollEvent::new(
                EpollFlags::EPOLLIN | EpollFlags::EPOLLET,
                Token::Pool {
                    pool: index,
                    what: What::Notice,
                }
                .into(),
            ),
        )?;
        let place = sockets.requests.parking()?.clone();
        let timeouts = Timeouts {
            start: config.start_timeout,
            terminate: config.request_terminate_timeout,
            lifetime: config.max_lifetime,
            control: control_timeout,
        };
        let molds_program = matches!(
            (&config.application, &common.preload),
            (Application::Exec(Exec { mold: true, .. }), Some(_))
        );
        let has_mold = matches!(config.application, Application::Wsgi(_)) || molds_program;
        let mut plan = Plan::new(config.limits, timeouts, has_mold);
        plan.set_max_queue(config.max_queue);
        Ok(Self {
            index,
            plan,
            target: Target::of(sockets.requests.socket().as_fd())?,
            parked: Parked::new(index, place, common)?,
            listener: sockets.requests,
            status_listener: sockets.status,
            board,
            logs,
            log_settings: request_logs::settings(&config),
            generation,
            pages: status::pages_of(&config).map(Box::new),
            workers: (0..config.limits.max_children).map(|_| None).collect(),
            mold: None,
            molds_program,
            has_molded: false,
            preload: true,
            advice: Vec::new(),
            last_failure: Held::default(),
            last_end: None,
            watches_listener: false,
            deadline: None,
            dirty: true,
            actions: Vec::new(),
            decided: false,
            leaving: false,
            drains: false,
            lost: 0,
            surplus: None,
            rejected: 0,
            config,
        })
    }

    /// Whether it grows by the length of a queue that only netlink tells.
    #[must_use]
    pub fn needs_netlink(&self) -> bool {
        let is_static = self.config.limits.mode == Mode::Static;
        matches!(self.target, Target::Unix(_)) && (!is_static || self.config.max_queue.is_some())
    }

    /// Whether it has come up, or failed to, or has nothing to come up with.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.decided
            || (matches!(self.config.limits.mode, Mode::Ondemand { .. })
                && !matches!(self.config.application, Application::Wsgi(_))
                && !self.molds_program)
    }

    /// Whether it has been told to leave.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Whether none of its processes is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plan.is_empty() && self.mold.is_none()
    }

    /// The next instant at which it wants to be looked at.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        if self.dirty {
            Some(Time(0))
        } else {
            self.deadline
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Its generation, from 1.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// How far it has come since it was made.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.plan.standing()
    }

    /// Why it is not ready, when that is judged: a line for the log, and the last words of the process that did not come
    /// up, which the log has.
    #[must_use]
    pub fn why_not_ready(&self) -> Option<(String, String)> {
        let what = match self.standing() {
            Standing::Ready => return None,
            Standing::Coming => "was not ready in time",
            Standing::Failed => "cannot start",
        };
        let words: Vec<_> = self.last_failure.lines().map(HeldLine::text).collect();
        let (name, generation) = (&self.config.name, self.generation);
        let end = self.last_end.as_deref().unwrap_or_default();
        let between = if end.is_empty() { "" } else { ": " };
        let why = format!("[pool {name}] generation {generation} {what}{between}{end}");
        Some((why, words.join("\n")))
    }

    /// The line for people when it has taken over.
    #[must_use]
    pub fn has_taken_over(&self) -> String {
        let (name, generation) = (&self.config.name, self.generation);
        format!("[pool {name}] generation {generation} has taken over")
    }

    /// Shows on its status how the last reload has ended.
    pub fn note_reload(&self, succeeded: bool) {
        self.board.set_reloaded(succeeded, clock::epoch());
    }

    /// The one of its sockets that listens on `address`, if it can be reached there.
    #[must_use]
    pub fn listener_on(&self, address: &config::Listen) -> Option<&Listener> {
        let listener = if self.config.listen == *address {
            Some(&self.listener)
        } else if self.config.status_listen.as_ref() == Some(address) {
            self.status_listener.as_ref()
        } else {
            None
        };
        listener.filter(|listener| listener.can_be_reached())
    }

    fn listeners(&self) -> impl Iterator<Item = &Listener> {
        [&self.listener].into_iter().chain(&self.status_listener)
    }

    /// What the status service has to know of it, if it answers for it.
    ///
    /// # Errors
    /// EMFILE, ENOMEM.
    pub fn desk(&self) -> Option<io::Result<(u32, Desk)>> {
        if self.status_listener.is_none() && self.config.max_queue.is_none() {
            return None;
        }
        let status = self.status_listener.as_ref();
        let sockets = status::Sockets {
            status: status.map(|listener| listener.socket().as_fd()),
            requests: self.listener.socket().as_fd(),
            parking: self.parked.place().theirs(),
        };
        let desk = Desk::new(&self.config, sockets, self.board.handle());
        Some(desk.map(|desk| (self.index, desk)))
    }

    /// How many connections are to be turned away, if any.
    pub fn take_surplus(&mut self) -> Option<u32> {
        self.surplus.take()
    }

    /// So many have been.
    pub fn rejected(&mut self, count: u32) {
        self.rejected = self.rejected.saturating_add(count);
        self.board.rejected(count);
    }

    /// Opens its logs anew, after they were renamed by log rotation, and hands them to its processes. Returns whether it
    /// has an access log.
    ///
    /// # Errors
    /// Why one could not be opened; then all go on in the old ones.
    pub fn reopen_logs(&mut self) -> io::Result<bool> {
        self.logs = request_logs::open(&self.config)?;
        let fds: Vec<_> = self.logs.fds().collect();
        if fds.is_empty() {
            return Ok(false);
        }
        let complain = |process: &Process, sent: io::Result<()>| {
            if let Err(error) = sent
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                tracing::warn!(
                    "[pool {}] cannot hand process {} its new logs: {error}",
                    self.config.name,
                    process.pid_text()
                );
            }
        };
        // The mold first: a worker that it forks meanwhile has the old ones, and is told.
        if let Some(mold) = &self.mold {
            complain(
                mold,
                mold.spawned.control.send(&ToMold::Logs.encode(), &fds),
            );
        }
        for worker in self.workers.iter().flatten() {
            complain(
                worker,
                worker.spawned.control.send(&[ToWorker::Logs as u8], &fds),
            );
        }
        Ok(self.logs.access.is_some())
    }

    /// Takes in what happened, as an event of the plan.
    pub fn on(&mut self, event: Event) {
        self.plan.on(now(), event, &mut self.actions);
        self.dirty = true;
    }

    /// A descriptor of its processes, or its listening socket, is ready.
    pub fn ready(&mut self, what: What, common: &Common) {
        match what {
            What::Notice => {
                self.board.take_notice();
                self.on(Event::Notice);
            }
            What::Listener => self.on(Event::Notice),
            What::Parking => {
                if !self.parked.take_in(common) {
                    tracing::warn!(
                        "[pool {}] a worker has shut down where kept connections wait, which are closed until the next reload",
                        self.config.name
                    );
                    self.listener.forget_parking();
                }
            }
            What::Parked { number } => {
                if self.parked.ready(number, common) {
                    self.on(Event::Notice);
                }
            }
            What::Control { slot } => {
                if self.worker_messages(slot, common) {
                    self.channel_ended(slot);
                }
            }
            What::MoldControl => self.mold_messages(common),
            What::Output { slot, stream } => {
                let pool = &self.config;
                if let Some(Some(process)) = self.workers.get_mut(slot as usize) {
                    process.take_output(usize::from(stream), pool, &common.epoll);
                }
            }
            What::MoldOutput { stream } => {
                if let Some(process) = &mut self.mold {
                    process.take_output(usize::from(stream), &self.config, &common.epoll);
                }
            }
        }
    }

    /// A process has died. Returns whether it was one of this pool's.
    ///
    /// A worker that a mold forked is known when its first message has been read; see [`Self::learn_pids`].
    pub fn reaped(&mut self, pid: Pid, death: Death, common: &Common) -> bool {
        if let Some(process) = self.mold.take_if(|mold| mold.spawned.pid == Some(pid)) {
            self.mold_died(process, death);
            return true;
        }
        let is_it = |process: &Option<Process>| {
            process
                .as_ref()
                .is_some_and(|process| process.spawned.pid == Some(pid))
        };
        let Some(slot) = self.workers.iter().position(is_it) else {
            return false;
        };
        if let Ok(number) = u32::try_from(slot) {
            // What it said last matters as well: that it was ready, or over its time.
            self.worker_messages(number, common);
            if let Some(process) = self.workers[slot].take() {
                self.worker_died(number, process, Some(death));
            }
        }
        true
    }

    /// Reads what the workers whose pid is not known yet have said, so that a death can be told from a stranger's.
    pub fn learn_pids(&mut self, common: &Common) {
        for slot in 0..self.config.limits.max_children {
            if self.workers[slot as usize]
                .as_ref()
                .is_some_and(|process| process.spawned.pid.is_none())
                && self.worker_messages(slot, common)
            {
                self.channel_ended(slot);
            }
        }
    }

    /// Says how many more workers all pools together may have.
    pub fn set_room(&mut self, room: u32) {
        self.plan.set_room(room);
    }

    /// Whether it wants more workers than there is room for.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.plan.is_short()
    }

    /// How many workers it has, of any state.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.plan.census().total()
    }

    /// What its workers are at.
    #[must_use]
    pub fn work(&self) -> Work {
        // The plan looks at the workers only when it has to decide something.
        let slots = 0..self.config.limits.max_children;
        let states = slots.filter_map(|slot| Some(self.board.entry(slot)?.state));
        let active = states.filter(|state| *state == State::Busy).count();
        Work {
            active: active.try_into().unwrap_or(u32::MAX),
            idle: self.board.idle_count(),
            counts: self.board.totals(clock::now()).counts,
        }
    }

    fn shared(&self, common: &Common) -> Shared<'_> {
        Shared {
            pool: &self.config,
            listener: self.listener.socket().as_fd(),
            parking: self.parked.place().theirs(),
            board: self.board.handle(),
            generation: self.generation,
            pages: self.pages.as_deref(),
            notes: common.notes,
            logs: &self.logs,
            log_settings: &self.log_settings,
        }
    }
}
