//! A new generation of each pool, or of one, from the configuration as it is now.
//!
//! The configuration is read and checked whole, and its sockets are bound, before anything else happens; sockets that
//! are listened on already are shared with the old generation, with the connections that wait in them. Then the new
//! pools start beside the old ones. [`plan::reload`](preforkd_plan::reload) judges them: either all take over and the
//! old ones are asked to leave, or all end and the old ones never notice.
//!
//! One reload goes on at a time. Signals that come meanwhile are one more; of the commands that do, each is obeyed by a
//! reload that begins after it was heard, together with those that want the same.
//!
//! When one pool alone is reloaded, what concerns the daemon as a whole stays as it is, and so does the program.

use crate::cli::Exit;
use crate::config::{self, Config, Global, Listen, Names};
use crate::control::{Control, Outcome, Scope, State};
use crate::listen::{self, Listener, Sockets};
use crate::master::Master;
use crate::pool::Pool;
use crate::start::{open_extension, open_preload};
use preforkd_plan::pool::Phase;
use preforkd_plan::reload::{Standing, Verdict, judge, timeout};
use preforkd_plan::time::Time;
use preforkd_sys::clock;
use std::fmt::Display;
use std::io;

/// A reload that goes on.
#[derive(Debug)]
pub struct Reload {
    scope: Scope,
    /// What holds for the whole daemon once the new pools have taken over, if that is reloaded.
    global: Option<Global>,
    /// The socket for commands from then on, if it is another one.
    control: Option<Control>,
    /// The new pools.
    new: Vec<u32>,
    /// The pools that leave then.
    old: Vec<u32>,
    deadline: Time,
}

/// It is over before it began; why has been logged.
fn refused(error: impl Display) -> Outcome {
    Outcome::logged(Exit::Config, error)
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
    /// A reload of everything is asked for by nobody who waits.
    pub fn reload(&mut self) {
        self.reload_asked = true;
    }

    /// Does what follows from how far the new pools have come, and begins the reload that is asked for.
    pub fn settle_reload(&mut self) {
        loop {
            self.judge_reload();
            match self.next_reload() {
                Some(scope) => self.begin_reload(scope),
                None => return,
            }
        }
    }

    fn judge_reload(&mut self) {
        let Some(reload) = &self.reload else { return };
        let new = reload.new.iter().filter_map(|index| self.pools.get(index));
        let now = Time(clock::now());
        match judge(now, reload.deadline, new.map(Pool::standing)) {
            Verdict::Wait => {}
            Verdict::Commit => self.commit(),
            Verdict::Abandon => self.abandon(),
        }
    }

    /// What is to be reloaded now. Signals come first: commands are many.
    fn next_reload(&mut self) -> Option<Scope> {
        if self.phase != Phase::Running {
            self.refuse_reloads();
            return None;
        }
        let goes_on = self.inquiry.is_some() || self.check.is_some() || self.reload.is_some();
        if goes_on || self.is_coming_up_again() {
            return None;
        }
        if std::mem::take(&mut self.reload_asked) {
            return Some(Scope::All);
        }
        self.control.wanted()
    }

    fn begin_reload(&mut self, scope: Scope) {
        self.control.begins(&scope);
        self.notifier.reloading();
        match &scope {
            Scope::All => tracing::info!("Reloading in progress ..."),
            Scope::Pool(name) => tracing::info!("[pool {name}] Reloading in progress ..."),
        }
        self.inquire(scope);
    }

    /// Goes on with a reload: what the names in the configuration stand for is known.
    pub(crate) fn reload_knowing(&mut self, scope: &Scope, names: Names) {
        if *scope == Scope::All && self.program.is_replaced() {
            self.check_program(names);
            return;
        }
        match self.prepare(scope, &names) {
            Ok(reload) => {
                let limit = reload.deadline.since(Time(clock::now()));
                self.notifier.may_take(limit);
                self.reload = Some(reload);
            }
            Err(why) => self.reload_failed(scope, &why),
        }
    }

    /// When a reload that goes on is to be judged at the latest.
    pub fn reload_deadline(&self) -> Option<Time> {
        self.reload.as_ref().map(|reload| reload.deadline)
    }

    /// Ends a reload that goes on, and those that are asked for, since everything ends.
    pub fn forget_reload(&mut self) {
        self.reload = None;
        self.reload_asked = false;
        if let Some(check) = &self.check {
            check.kill();
        }
        if let Some(inquiry) = &self.inquiry {
            inquiry.kill();
        }
        self.refuse_reloads();
    }

    fn refuse_reloads(&mut self) {
        let ends = Outcome::new(Exit::Unavailable, "the master is about to end");
        let epoll = &self.common.epoll;
        self.control
            .tell(|state| *state != State::Silent, &ends, epoll);
    }

    fn prepare(&mut self, scope: &Scope, names: &Names) -> Result<Reload, Outcome> {
        let mut config = (self.read)(names).map_err(|problems| {
            problems.tell();
            Outcome::new(Exit::Config, &problems.to_string())
        })?;
        let old = self.current().filter(|(_, pool)| scope.covers(pool.name()));
        let old: Vec<u32> = old.map(|(index, _)| index).collect();
        config.pools.retain(|pool| scope.covers(&pool.name));
        if let (Scope::Pool(name), [], []) = (scope, &*old, &*config.pools) {
            let why = format!("there is no pool {name}, neither here nor in the configuration");
            return Err(Outcome::logged(Exit::Usage, why));
        }
        config.tell();
        if self.common.extension.is_none() {
            self.common.extension = open_extension(&config.pools).map_err(refused)?;
        }
        if self.common.preload.is_none() {
            self.common.preload = open_preload(&config.pools);
        }
        let sockets = self.sockets(&config, scope)?;
        let (global, control) = match scope {
            Scope::All => {
                let control = self.control.prepare(config.global.control.clone());
                (Some(config.global), control.map_err(refused)?)
            }
            Scope::Pool(_) => (None, None),
        };
        let control_timeout = match &global {
            Some(global) => global.process_control_timeout,
            None => self.control_timeout,
        };
        let starts = config.pools.iter().map(|pool| pool.start_timeout);
        let start = starts.max().unwrap_or_default();
        let new = self
            .add_pools(config.pools, sockets, control_timeout)
            .map_err(refused)?;
        Ok(Reload {
            scope: scope.clone(),
            global,
            control,
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

    /// The sockets of the pools of `config`, which are those that `scope` covers.
    fn sockets(&self, config: &Config, scope: &Scope) -> Result<Vec<Sockets>, Outcome> {
        let mut sockets = Vec::new();
        let mut wrong = Vec::new();
        for pool in &config.pools {
            let open = |address: &_| {
                let stays = |old: &&Pool| !old.is_leaving() && !scope.covers(old.name());
                let mut others = self.pools.values().filter(stays);
                match others.find(|other| other.listener_on(address).is_some()) {
                    Some(other) => Err(io::Error::other(format!(
                        "[pool {}] pool {} listens on {address}, and would have to be reloaded as well",
                        pool.name,
                        other.name()
                    ))),
                    None => self.share_or_open(pool, address),
                }
            };
            match Sockets::open(pool, open) {
                Ok(opened) => sockets.push(opened),
                Err(error) => wrong.push(error.to_string()),
            }
        }
        if wrong.is_empty() {
            return Ok(sockets);
        }
        Err(refused(wrong.join("\n")))
    }

    fn commit(&mut self) {
        let Some(reload) = self.reload.take() else {
            return;
        };
        let mut told = Vec::new();
        for pool in reload.new.iter().filter_map(|index| self.pools.get(index)) {
            pool.take_over();
            pool.note_reload(true);
            told.push(pool.has_taken_over());
        }
        self.retire(|index| reload.old.contains(&index));
        for line in &told {
            tracing::info!("{line}");
        }
        if let (Scope::Pool(name), []) = (&reload.scope, &*told) {
            told.push(format!("[pool {name}] is no more"));
        }
        self.control.adopt(reload.control, &self.common.epoll);
        if let Some(global) = reload.global {
            self.adopt(global);
        }
        self.status.renew();
        tracing::info!("ready to handle connections");
        self.reload_is_over(
            State::Reloading,
            &Outcome::new(Exit::Success, &told.join("\n")),
        );
    }

    fn abandon(&mut self) {
        let Some(reload) = self.reload.take() else {
            return;
        };
        let new = reload.new.iter().filter_map(|index| self.pools.get(index));
        let new: Vec<&Pool> = new.collect();
        let has_failed = |pool: &&Pool| pool.standing() == Standing::Failed;
        // Where one has failed the others might have come up.
        let to_blame = match new.iter().copied().filter(has_failed).collect::<Vec<_>>() {
            failed if failed.is_empty() => new,
            failed => failed,
        };
        let whys = to_blame.into_iter().filter_map(Pool::why_not_ready);
        let (whys, words): (Vec<_>, Vec<_>) = whys.unzip();
        // Some may serve already.
        self.retire(|index| reload.has_new(index));
        for why in &whys {
            tracing::error!("{why}");
        }
        // The log has what the processes have printed.
        let text = words.into_iter().chain(whys).collect::<Vec<_>>().join("\n");
        self.reload_failed(&reload.scope, &Outcome::new(Exit::Software, &text));
    }

    /// What was there before goes on, as if nothing had happened.
    pub(crate) fn reload_failed(&mut self, scope: &Scope, why: &Outcome) {
        tracing::error!("reloading failed; what was there before goes on");
        for pool in self.serving().filter(|pool| scope.covers(pool.name())) {
            pool.note_reload(false);
        }
        self.reload_is_over(State::Reloading, why);
    }

    /// This program took the place of another, and its pools have come up or failed to.
    pub fn upgraded(&mut self) {
        let mut told = Vec::new();
        let mut exit = Exit::Success;
        for pool in self.serving() {
            let why = pool.why_not_ready();
            pool.note_reload(why.is_none());
            match why {
                None => told.push(pool.has_taken_over()),
                Some((why, words)) => {
                    exit = Exit::Software;
                    told.extend([words, why]);
                }
            }
        }
        self.reload_is_over(State::Upgraded, &Outcome::new(exit, &told.join("\n")));
    }

    /// Tells the service manager, and then those who wait: one of them may be the service manager's own.
    fn reload_is_over(&mut self, of: State, outcome: &Outcome) {
        self.notifier.ready();
        let epoll = &self.common.epoll;
        self.control.tell(|state| *state == of, outcome, epoll);
    }
}
