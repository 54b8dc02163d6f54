//! A new generation of each pool, from the configuration as it is now.
//!
//! The configuration is read and checked whole, and its sockets are bound, before anything else happens; sockets that
//! are listened on already are shared with the old generation, with the connections that wait in them. Then the new
//! pools start beside the old ones. [`plan::reload`](preforkd_plan::reload) judges them: either all take over and the
//! old ones are asked to leave, or all end and the old ones never notice.

use crate::config::{self, Config, Global, Listen};
use crate::listen::{self, Listener, Sockets};
use crate::master::Master;
use crate::pool::Pool;
use crate::start::open_extension;
use preforkd_plan::pool::Phase;
use preforkd_plan::reload::{Verdict, judge, timeout};
use preforkd_plan::time::Time;
use preforkd_sys::clock;
use std::fmt::Display;
use std::io;

/// A reload that goes on.
#[derive(Debug)]
pub struct Reload {
    /// What holds for the whole daemon once the new pools have taken over.
    global: Global,
    /// The new pools.
    new: Vec<u32>,
    /// The pools that leave then.
    old: Vec<u32>,
    deadline: Time,
}

/// A reload that is over before it began; why has been logged.
pub struct Refused;

fn complain(error: impl Display) -> Refused {
    for line in error.to_string().lines() {
        tracing::error!("{line}");
    }
    Refused
}

impl Reload {
    /// Whether a pool is one of the new ones.
    #[must_use]
    pub fn has_new(&self, index: u32) -> bool {
        // They are in their order.
        self.new.binary_search(&index).is_ok()
    }
}

impl Master {
    /// Begins a reload. One that is asked for while another goes on follows it.
    pub fn reload(&mut self) {
        if self.phase != Phase::Running {
            return;
        }
        if self.reload.is_some() || self.check.is_some() {
            self.reload_again = true;
            return;
        }
        tracing::info!("Reloading in progress ...");
        self.notifier.reloading();
        if self.program.is_replaced() {
            self.check_program();
            return;
        }
        match self.prepare() {
            Ok(reload) => self.reload = Some(reload),
            Err(Refused) => self.reload_failed(),
        }
    }

    /// Does what follows from how far the new pools have come.
    pub fn settle_reload(&mut self) {
        let Some(reload) = &self.reload else { return };
        let new = reload.new.iter().filter_map(|index| self.pools.get(index));
        let now = Time(clock::now());
        match judge(now, reload.deadline, new.map(Pool::standing)) {
            Verdict::Wait => return,
            Verdict::Commit => self.commit(),
            Verdict::Abandon => self.abandon(),
        }
        self.reload_next();
    }

    /// Begins the reload that was asked for while another went on.
    pub(crate) fn reload_next(&mut self) {
        if std::mem::take(&mut self.reload_again) {
            self.reload();
        }
    }

    /// When a reload that goes on is to be judged at the latest.
    pub fn reload_deadline(&self) -> Option<Time> {
        self.reload.as_ref().map(|reload| reload.deadline)
    }

    /// Ends a reload that goes on, since everything ends.
    pub fn forget_reload(&mut self) {
        self.reload = None;
        self.reload_again = false;
        if let Some(check) = &self.check {
            check.kill();
        }
    }

    fn prepare(&mut self) -> Result<Reload, Refused> {
        let config = (self.read)().map_err(|problems| {
            problems.tell();
            Refused
        })?;
        let old: Vec<u32> = self.current().map(|(index, _)| index).collect();
        config.tell();
        if self.common.extension.is_none() {
            self.common.extension = open_extension(&config.pools).map_err(complain)?;
        }
        let sockets = self.sockets(&config)?;
        let control_timeout = config.global.process_control_timeout;
        let starts = config.pools.iter().map(|pool| pool.start_timeout);
        let start = starts.max().unwrap_or_default();
        let new = self
            .add_pools(config.pools, sockets, control_timeout)
            .map_err(complain)?;
        Ok(Reload {
            global: config.global,
            new,
            old,
            deadline: Time(clock::now()) + timeout(start),
        })
    }

    /// The pools that serve: not those that are leaving.
    pub(crate) fn current(&self) -> impl Iterator<Item = (u32, &Pool)> {
        let pools = self.pools.iter().filter(|(_, pool)| !pool.is_leaving());
        pools.map(|(index, pool)| (*index, pool))
    }

    /// Those of them that do not wait for a reload to take over.
    pub(crate) fn serving(&self) -> impl Iterator<Item = &Pool> {
        let waits = |index| {
            let reload = self.reload.as_ref();
            reload.is_some_and(|reload| reload.has_new(index))
        };
        self.current()
            .filter(move |&(index, _)| !waits(index))
            .map(|(_, pool)| pool)
    }

    /// A socket on an address of `pool`: the one that is listened on there already, or else a new one.
    pub(crate) fn share_or_open(
        &self,
        pool: &config::Pool,
        address: &Listen,
    ) -> io::Result<Listener> {
        let mut pools = self.pools.values();
        match pools.find_map(|old| old.listener_on(address)) {
            Some(listener) => listener.share(),
            None => listen::open(pool, address, &mut Vec::new()).map_err(io::Error::other),
        }
    }

    fn sockets(&self, config: &Config) -> Result<Vec<Sockets>, Refused> {
        let mut sockets = Vec::new();
        let mut refused = false;
        for pool in &config.pools {
            match Sockets::open(pool, |address| self.share_or_open(pool, address)) {
                Ok(opened) => sockets.push(opened),
                Err(error) => {
                    tracing::error!("{error}");
                    refused = true;
                }
            }
        }
        if refused {
            return Err(Refused);
        }
        Ok(sockets)
    }

    fn commit(&mut self) {
        let Some(reload) = self.reload.take() else {
            return;
        };
        for pool in reload.new.iter().filter_map(|index| self.pools.get(index)) {
            pool.take_over();
            tracing::info!(
                "[pool {}] generation {} has taken over",
                pool.name(),
                pool.generation()
            );
        }
        for index in reload.old {
            if let Some(pool) = self.pools.get_mut(&index) {
                pool.stop(Phase::Finishing);
            }
        }
        self.adopt(reload.global);
        self.status.renew();
        tracing::info!("ready to handle connections");
        self.notifier.ready();
    }

    fn abandon(&mut self) {
        let Some(reload) = self.reload.take() else {
            return;
        };
        for index in reload.new {
            if let Some(pool) = self.pools.get_mut(&index) {
                pool.stop(Phase::Terminating);
            }
        }
        self.reload_failed();
    }

    pub(crate) fn reload_failed(&mut self) {
        tracing::error!("reloading failed; what was there before goes on");
        self.notifier.ready();
    }
}
