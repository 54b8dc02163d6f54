//! The master: one loop, one thread, no wait but for the next event.
//!
//! Each turn takes in everything that is there (messages of workers and molds, their output, notices of the scoreboards,
//! signals, deaths), and then lets each pool that something happened to, or whose deadline has come, settle what
//! follows. With nothing to do there is no deadline, and the master does not wake at all.

use crate::bounds::{self, Room};
use crate::config::{self, Config, Global, LogLevel, Names, Problems};
use crate::control::Control;
use crate::elders::Elders;
use crate::inquiry::Inquiry;
use crate::listen::Sockets;
use crate::log::{self, ALERT};
use crate::notify::{Notifier, Work};
use crate::pid_file;
use crate::pool::{Common, Heirs, Pool};
use crate::reload::Reload;
use crate::status::Supervisor;
use crate::token::Token;
use crate::upgrade::{Check, Program};
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollTimeout};
use preforkd_plan::crashes::Crashes;
use preforkd_plan::pool::Phase;
use preforkd_plan::reload::Standing;
use preforkd_plan::time::Time;
use preforkd_sys::clock;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Pools that tokens can tell apart.
const MAX_POOLS: u32 = 1 << 28;

/// Events taken in at one turn.
const EVENTS: usize = 64;

/// Reads the configuration as it is now.
pub(crate) type Read = Box<dyn Fn(&Names) -> Result<Config, Problems>>;

/// The master's state. How it begins is in [`crate::start`], what it does for signals in [`crate::signals`], and
/// reloading in [`crate::reload`].
pub(crate) struct Master {
    pub(crate) common: Common,
    /// By the number that tokens have. A new generation of a pool is a pool of its own.
    pub(crate) pools: BTreeMap<u32, Pool>,
    pub(crate) next_pool: u32,
    pub(crate) read: Read,
    pub(crate) inquiry: Option<Inquiry>,
    pub(crate) reload: Option<Reload>,
    /// A signal has asked for a reload that has not begun.
    pub(crate) reload_asked: bool,
    pub(crate) control: Control,
    pub(crate) signals: SignalDelivery<UnixStream, SignalOnly>,
    pub(crate) notifier: Notifier,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) phase: Phase,
    pub(crate) announced: bool,
    /// It has taken the place of another program.
    pub(crate) is_successor: bool,
    /// How long processes that were asked to leave may take.
    pub(crate) control_timeout: Duration,
    pub(crate) program: Program,
    pub(crate) check: Option<Check>,
    pub(crate) elders: Elders,
    pub(crate) status: Supervisor,
    /// The generation of each pool in the program before.
    pub(crate) generations: BTreeMap<String, u32>,
    /// Most workers of all pools together.
    pub(crate) process_max: Option<u32>,
    /// A pool wants more.
    pub(crate) short: bool,
    pub(crate) crashes: Crashes,
}

impl Master {
    /// Goes on until the last process is gone.
    pub(crate) fn serve(&mut self) {
        loop {
            self.settle();
            self.settle_inquiry();
            self.settle_check();
            self.settle_reload();
            self.settle_elders();
            self.settle_status();
            if !self.announced && self.has_come_up() {
                self.announced = true;
                if self.is_successor {
                    self.upgraded();
                } else {
                    self.notifier.ready();
                }
                if let Some(interval) = self.notifier.interval() {
                    let milliseconds = interval.as_millis();
                    tracing::info!("systemd monitor interval set to {milliseconds}ms");
                }
            }
            self.part_with_empty_pools();
            if self.phase != Phase::Running && self.pools.is_empty() && self.elders.is_empty() {
                self.status.stop();
                if self.status.is_gone() {
                    return;
                }
            }
            self.beat();
            let mut events = [EpollEvent::empty(); EVENTS];
            let count = match self.common.epoll.wait(&mut events, self.timeout()) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => {
                    tracing::error!(target: ALERT, "epoll_wait: {error}");
                    0
                }
            };
            let mut signalled = false;
            for event in &events[..count] {
                match Token::from(event.data()) {
                    Token::Pool { pool, what } => {
                        if let Some(pool) = self.pools.get_mut(&pool) {
                            pool.ready(what, &self.common);
                        }
                    }
                    Token::CheckOutput { stream } => self.check_output(stream),
                    Token::ElderOutput { elder, stream } => {
                        self.elders.take_output(elder, stream, &self.common);
                    }
                    Token::ServiceOutput => self.status.take_output(),
                    Token::ServiceControl => self.count_rejected(),
                    Token::Control => self.control.accept(&self.common.epoll),
                    Token::Client { client } => {
                        self.control.hear(client, &self.common.epoll);
                    }
                    Token::Signals => signalled = true,
                }
            }
            // After the messages: a process's death comes after what it said.
            if signalled {
                self.take_signals();
            }
        }
    }

    /// Whether all pools serve, or have failed to. At a start that is told when the first worker of each does; who takes
    /// the place of another program is judged as a reload is, by all the first workers.
    fn has_come_up(&self) -> bool {
        self.pools.values().all(|pool| {
            if self.is_successor {
                pool.standing() != Standing::Coming
            } else {
                pool.is_decided()
            }
        })
    }

    /// Whether it has taken the place of another program, and it is not known yet what has come of that.
    pub(crate) fn is_coming_up_again(&self) -> bool {
        self.is_successor && !self.announced
    }

    /// Tells the service manager how it is going, if it is time.
    fn beat(&mut self) {
        let pools = &self.pools;
        self.notifier.beat(Time(clock::now()), || {
            let works = pools.values().map(Pool::work);
            works.fold(Work::default(), Work::plus)
        });
    }

    fn settle(&mut self) {
        let now = clock::now();
        let mut room = Room::beside(&self.pools, self.reload.as_ref(), self.process_max);
        for (index, pool) in &mut self.pools {
            let is_due = pool.deadline().is_some_and(|deadline| deadline.0 <= now);
            if is_due || pool.is_short() && room.left(*index) > 0 {
                room.settle(*index, pool, &self.common);
                if let Some(count) = pool.take_surplus() {
                    self.status.turn_away(*index, count);
                }
            }
        }
        self.look_at_room();
    }

    /// The status service has turned connections away.
    fn count_rejected(&mut self) {
        for (pool, count) in self.status.turned_away(&self.common.epoll) {
            if let Some(pool) = self.pools.get_mut(&pool) {
                pool.rejected(count);
            }
        }
    }

    /// The processes of the program before leave when those of this one are ready.
    fn settle_elders(&mut self) {
        if self.elders.is_empty() {
            return;
        }
        let is_coming = |name: &str| {
            let mut pools = self.pools.values();
            pools.any(|pool| pool.name() == name && pool.standing() != Standing::Ready)
        };
        self.elders
            .release(self.control_timeout, |name| !is_coming(name));
        self.elders.settle();
    }

    /// The status service answers for the pools that serve.
    fn settle_status(&mut self) {
        self.status.settle();
        if !self.status.is_due() {
            return;
        }
        let mut desks = Vec::new();
        for desk in self.serving().filter_map(Pool::desk) {
            match desk {
                Ok(desk) => desks.push(desk),
                Err(error) => tracing::error!("cannot tell the status of a pool: {error}"),
            }
        }
        self.status.start(desks, &self.common.epoll);
    }

    /// Pools that were told to leave and have no process any more.
    fn part_with_empty_pools(&mut self) {
        let common = &self.common;
        let empty = |_: &u32, pool: &mut Pool| pool.is_leaving() && pool.is_empty();
        for (_, pool) in self.pools.extract_if(.., empty) {
            pool.leave(common);
        }
    }

    /// Asks these pools to leave, in favour of those that stay. Those that are leaving already may have got an heir.
    pub(crate) fn retire(&mut self, leaving: impl Fn(u32) -> bool) {
        let stays = |(index, pool): &(&u32, &Pool)| !pool.is_leaving() && !leaving(**index);
        let heirs = |pool: &Pool| {
            let heirs = self.pools.iter().filter(stays);
            let heirs = heirs.map(|(_, other)| pool.heir(other));
            heirs.fold(Heirs::default(), Heirs::and)
        };
        let going = self.pools.iter().filter(|pool| !stays(pool));
        let going: Vec<_> = going.map(|(index, pool)| (*index, heirs(pool))).collect();
        for (index, heirs) in going {
            if let Some(pool) = self.pools.get_mut(&index) {
                pool.retire(heirs, &self.common);
            }
        }
    }

    /// Makes pools that start by themselves. Returns their numbers.
    ///
    /// # Errors
    /// No scoreboard could be made; then there is no new pool.
    pub(crate) fn add_pools(
        &mut self,
        pools: Vec<config::Pool>,
        sockets: Vec<Sockets>,
        control_timeout: Duration,
    ) -> io::Result<Vec<u32>> {
        let mut added = BTreeMap::new();
        let mut failed = Ok(());
        for (config, sockets) in pools.into_iter().zip(sockets) {
            let index = self.next_pool;
            let before = self
                .pools
                .values()
                .filter(|pool| pool.name() == config.name);
            let before = before.map(Pool::generation).max();
            let before = before.or_else(|| self.generations.get(&config.name).copied());
            let generation = before.unwrap_or(0) + 1;
            match Pool::new(
                index,
                generation,
                config,
                sockets,
                control_timeout,
                &self.common,
            ) {
                Ok(pool) => {
                    added.insert(index, pool);
                    // So many that an index comes back only when its pool has long been gone.
                    self.next_pool = (index + 1) % MAX_POOLS;
                }
                Err(error) => failed = Err(error),
            }
        }
        if let Err(error) = failed {
            for pool in added.into_values() {
                pool.leave(&self.common);
            }
            return Err(error);
        }
        let indices = added.keys().copied().collect();
        self.pools.extend(added);
        Ok(indices)
    }

    /// Takes over what holds for the whole daemon from a new configuration.
    pub(crate) fn adopt(&mut self, global: Global) {
        self.common.notes = global.log_level == LogLevel::Debug;
        self.control_timeout = global.process_control_timeout;
        self.notifier.set_interval(global.systemd_interval);
        self.process_max = global.process_max;
        self.crashes = bounds::crashes(&global);
        if let Err(error) = log::reconfigure(&global) {
            tracing::error!("{error}");
        }
        if global.pid != self.pid_file {
            if let Some(path) = &global.pid
                && let Err(error) = pid_file::write(path)
            {
                tracing::error!("{error}");
            }
            if let Some(old) = std::mem::replace(&mut self.pid_file, global.pid) {
                pid_file::remove(&old);
            }
        }
    }

    /// Until the next deadline, rounded up so that it has passed when the wait ends.
    fn timeout(&self) -> EpollTimeout {
        let deadlines = self.pools.values().filter_map(Pool::deadline);
        let others = [
            self.reload_deadline(),
            self.inquiry.as_ref().map(Inquiry::deadline),
            self.check_deadline(),
            self.elders.deadline(),
            self.status.deadline(),
            self.notifier.deadline(),
        ];
        let Some(deadline) = deadlines.chain(others.into_iter().flatten()).min() else {
            return EpollTimeout::NONE;
        };
        let left = deadline.0.saturating_sub(clock::now()).div_ceil(1_000_000);
        EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
    }
}
