//! The master: one loop, one thread, no wait but for the next event.
//!
//! Each turn takes in everything that is there (messages of workers and molds, their output, notices of the scoreboards,
//! signals, deaths), and then lets each pool that something happened to, or whose deadline has come, settle what
//! follows. With nothing to do there is no deadline, and the master does not wake at all.

use crate::bounds::{self, Room};
use crate::cli::Exit;
use crate::config::{self, Application, Config, Global, LogLevel, Problems};
use crate::daemonize::Caller;
use crate::elders::Elders;
use crate::listen::{self, Inherited, Sockets};
use crate::log::{self, ALERT};
use crate::notify::{Notifier, Work};
use crate::pool::{self, Common, Pool};
use crate::reload::Reload;
use crate::spawn;
use crate::status::Supervisor;
use crate::token::Token;
use crate::upgrade::{Check, Heritage, Program};
use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::unistd::Pid;
use preforkd_plan::crashes::Crashes;
use preforkd_plan::pool::Phase;
use preforkd_plan::reload::Standing;
use preforkd_plan::time::Time;
use preforkd_sys::children::{self, Death};
use preforkd_sys::queue::Gauge;
use preforkd_sys::{clock, limits, privileges, signals};
use signal_hook::consts::signal::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SIGNALS: [libc::c_int; 7] = [SIGTERM, SIGINT, SIGQUIT, SIGCHLD, SIGHUP, SIGUSR1, SIGUSR2];

/// Pools that tokens can tell apart.
const MAX_POOLS: u32 = 1 << 28;

/// Events taken in at one turn.
const EVENTS: usize = 64;

/// Reads the configuration as it is now.
pub(crate) type Read = Box<dyn Fn() -> Result<Config, Problems>>;

/// The master's state. Reloading is in [`crate::reload`].
pub(crate) struct Master {
    pub(crate) common: Common,
    /// By the number that tokens have. A new generation of a pool is a pool of its own.
    pub(crate) pools: BTreeMap<u32, Pool>,
    next_pool: u32,
    pub(crate) read: Read,
    pub(crate) reload: Option<Reload>,
    /// A reload was asked for while another went on.
    pub(crate) reload_again: bool,
    pub(crate) signals: SignalDelivery<UnixStream, SignalOnly>,
    pub(crate) notifier: Notifier,
    pid_file: Option<PathBuf>,
    pub(crate) phase: Phase,
    announced: bool,
    /// How long processes that were asked to leave may take.
    control_timeout: Duration,
    pub(crate) program: Program,
    pub(crate) check: Option<Check>,
    pub(crate) elders: Elders,
    pub(crate) status: Supervisor,
    /// The generation of each pool in the program before.
    generations: BTreeMap<String, u32>,
    /// Most workers of all pools together.
    pub(crate) process_max: Option<u32>,
    /// A pool wants more.
    pub(crate) short: bool,
    pub(crate) crashes: Crashes,
}

/// Binds, forks, supervises; returns when the last process is gone. `caller` is told when the daemon is ready; `read`
/// reads the configuration anew. `heritage` is what the program before left, if there was one, and `given` are the
/// sockets of the service manager.
pub fn run(
    config: Config,
    caller: Option<Caller>,
    read: Read,
    program: Program,
    heritage: Option<Heritage>,
    given: Vec<OwnedFd>,
) -> Exit {
    match start(config, read, program, heritage, given) {
        Ok(mut master) => {
            master.announce(caller);
            master.serve();
            master.clean_up();
            Exit::Success
        }
        Err(()) => {
            tracing::error!("FPM initialization failed");
            Exit::Config
        }
    }
}

/// In this order: nothing is forked before all sockets are bound, and the pid file is written when signals are handled.
fn start(
    config: Config,
    read: Read,
    program: Program,
    heritage: Option<Heritage>,
    given: Vec<OwnedFd>,
) -> Result<Master, ()> {
    let complain = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| tracing::error!("{what}: {error}")
    };
    // Each worker takes three descriptors of the master; the soft limit is often 1024.
    limits::raise_files();
    let is_successor = heritage.is_some();
    let Heritage {
        listeners: mut inherited,
        elders,
        generations,
    } = heritage.unwrap_or_default();
    inherited.extend(given.into_iter().map(|socket| Inherited {
        socket,
        is_ours: false,
    }));
    let mut sockets: Vec<Sockets> = Vec::new();
    let mut failed = false;
    for pool in &config.pools {
        match Sockets::open(pool, |address| listen::open(pool, address, &mut inherited)) {
            Ok(opened) => sockets.push(opened),
            Err(error) => {
                tracing::error!("{error}");
                failed = true;
            }
        }
    }
    for left in inherited {
        left.close();
    }
    let extension = match open_extension(&config.pools) {
        Ok(extension) => extension,
        Err(error) => {
            tracing::error!("{error}");
            failed = true;
            None
        }
    };
    if failed {
        return Err(());
    }
    privileges::become_subreaper().map_err(complain("cannot become the reaper of orphans"))?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
        .map_err(io::Error::from)
        .map_err(complain("epoll_create1"))?;
    let (receiver, sender) = UnixStream::pair().map_err(complain("socketpair"))?;
    let signals = SignalDelivery::with_pipe(receiver, sender, SignalOnly, SIGNALS)
        .map_err(complain("sigaction"))?;
    let token = EpollEvent::new(EpollFlags::EPOLLIN, Token::Signals.into());
    epoll
        .add(signals.get_read(), token)
        .map_err(io::Error::from)
        .map_err(complain("epoll_ctl"))?;
    // The program before may have blocked them, or whoever started this one.
    signals::unblock();
    let common = Common {
        epoll,
        gauge: Gauge::new(),
        extension,
        notes: config.global.log_level == LogLevel::Debug,
    };
    let crashes = bounds::crashes(&config.global);
    let pid_file = config.global.pid;
    if let Some(path) = &pid_file
        && let Err(error) = write_pid(path)
    {
        tracing::error!(
            "Unable to create the PID file ({}).: {}",
            path.display(),
            log::reason(&error)
        );
        return Err(());
    }
    let control_timeout = config.global.process_control_timeout;
    let mut master = Master {
        elders: Elders::new(elders, control_timeout, &common),
        common,
        pools: BTreeMap::new(),
        next_pool: 0,
        read,
        reload: None,
        reload_again: false,
        signals,
        notifier: Notifier::from_environment(config.global.systemd_interval),
        pid_file,
        phase: Phase::Running,
        announced: false,
        control_timeout,
        program,
        check: None,
        status: Supervisor::new(),
        generations,
        process_max: config.global.process_max,
        short: false,
        crashes,
    };
    if let Err(error) = master.add_pools(config.pools, sockets, control_timeout) {
        complain("cannot set up a pool")(error);
        master.remove_pid_file();
        return Err(());
    }
    if !master.common.gauge.has_netlink() && master.pools.values().any(Pool::needs_netlink) {
        tracing::warn!(
            "the kernel does not tell how many connections wait on Unix sockets (NETLINK_SOCK_DIAG; in a unit of systemd's, \
             RestrictAddressFamilies must have AF_NETLINK): pools grow one worker at a time"
        );
    }
    if is_successor {
        // Who died while the program before turned into this one: it had the signal of that.
        master.reap();
        master.notifier.resume();
    }
    master.status.renew();
    log::ready();
    tracing::info!("fpm is running, pid {}", std::process::id());
    Ok(master)
}

/// The Python extension module, if a pool needs it.
pub(crate) fn open_extension(pools: &[config::Pool]) -> Result<Option<File>, String> {
    let needs_it = pools
        .iter()
        .any(|pool| matches!(pool.application, Application::Wsgi(_)));
    needs_it.then(spawn::open_extension).transpose()
}

impl Master {
    /// Tells that connections are waited for.
    fn announce(&self, caller: Option<Caller>) {
        tracing::info!("ready to handle connections");
        if let Some(caller) = caller
            && let Err(error) = caller.release()
        {
            tracing::error!("cannot let go of the terminal: {error}");
        }
    }

    fn serve(&mut self) {
        loop {
            self.settle();
            self.settle_reload();
            self.settle_elders();
            self.settle_check();
            self.settle_status();
            if !self.announced && self.pools.values().all(Pool::is_decided) {
                self.announced = true;
                self.notifier.ready();
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
                    Token::Signals => signalled = true,
                }
            }
            // After the messages: a process's death comes after what it said.
            if signalled {
                self.take_signals();
            }
        }
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
            }
        }
        self.look_at_room();
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
                && let Err(error) = write_pid(path)
            {
                tracing::error!(
                    "Unable to create the PID file ({}).: {}",
                    path.display(),
                    log::reason(&error)
                );
            }
            if let Some(old) = std::mem::replace(&mut self.pid_file, global.pid) {
                // Gone already is as good.
                let _ = fs::remove_file(old);
            }
        }
    }

    /// Until the next deadline, rounded up so that it has passed when the wait ends.
    fn timeout(&self) -> EpollTimeout {
        let deadlines = self.pools.values().filter_map(Pool::deadline);
        let others = [
            self.reload_deadline(),
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

    fn take_signals(&mut self) {
        let pending: Vec<libc::c_int> = self.signals.pending().collect();
        for signal in pending {
            match signal {
                SIGCHLD => self.reap(),
                SIGTERM | SIGINT => self.stop(Phase::Terminating),
                SIGQUIT => self.stop(Phase::Finishing),
                SIGUSR1 => {
                    match log::reopen() {
                        Ok(true) => tracing::info!("error log file re-opened"),
                        Ok(false) => {}
                        Err(error) => tracing::error!("{error}"),
                    }
                    self.reopen_request_logs();
                }
                SIGUSR2 | SIGHUP => self.reload(),
                _ => {}
            }
        }
    }

    /// Opens the logs of requests anew. No worker has to be replaced for that.
    fn reopen_request_logs(&mut self) {
        let mut reopened = false;
        for pool in self.pools.values_mut() {
            match pool.reopen_logs() {
                Ok(has_access_log) => reopened |= has_access_log,
                Err(error) => tracing::error!("[pool {}] {error}", pool.name()),
            }
        }
        if reopened {
            tracing::info!("access log file re-opened");
        }
    }

    fn stop(&mut self, phase: Phase) {
        if phase <= self.phase {
            return;
        }
        self.phase = phase;
        self.notifier.stopping();
        self.status.end();
        self.forget_reload();
        match phase {
            Phase::Terminating => {
                tracing::info!("Terminating ...");
                self.elders.terminate();
            }
            Phase::Finishing | Phase::Running => {
                tracing::info!("Finishing ...");
                self.elders.release(self.control_timeout, |_| true);
            }
        }
        for pool in self.pools.values_mut() {
            pool.stop(phase);
        }
    }

    fn reap(&mut self) {
        loop {
            let (pid, death) = match children::reap() {
                Ok(Some(dead)) => dead,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!("waitpid: {error}");
                    return;
                }
            };
            if self.hand_over(pid, death)
                || self.elders.reaped(pid)
                || self.status.reaped(pid, death)
                || self.check_reaped(pid, death)
            {
                continue;
            }
            // It may be a worker of a mold's. What it said when it began can be read now, however short its life was.
            for pool in self.pools.values_mut() {
                pool.learn_pids(&self.common);
            }
            if !self.hand_over(pid, death) {
                // A subreaper inherits what applications leave behind.
                tracing::debug!("an orphan, {pid}, has {}", pool::describe(death));
            }
        }
    }

    /// Tells the pool whose process `pid` was that it is dead. Returns whether there is such a pool.
    fn hand_over(&mut self, pid: Pid, death: Death) -> bool {
        let common = &self.common;
        let is_known = self
            .pools
            .values_mut()
            .any(|pool| pool.reaped(pid, death, common));
        if is_known {
            self.look_at_crash(death);
        }
        is_known
    }

    fn remove_pid_file(&self) {
        if let Some(path) = &self.pid_file {
            // Gone already is as good.
            let _ = fs::remove_file(path);
        }
    }

    fn clean_up(&mut self) {
        self.remove_pid_file();
        tracing::info!("exiting, bye-bye!");
    }
}

fn write_pid(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)?;
    file.write_all(std::process::id().to_string().as_bytes())
}
