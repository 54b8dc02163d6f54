//! The master: one loop, one thread, no wait but for the next event.
//!
//! Each turn takes in everything that is there (messages of workers and molds, their output, notices of the scoreboards,
//! signals, deaths), and then lets each pool that something happened to, or whose deadline has come, settle what
//! follows. With nothing to do there is no deadline, and the master does not wake at all.

use crate::cli::Exit;
use crate::config::{Application, Config};
use crate::listen::{self, Listener};
use crate::log::{ALERT, Log};
use crate::notify::Notifier;
use crate::pool::{Common, Pool};
use crate::spawn;
use crate::token::Token;
use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use preforkd_plan::pool::Event;
use preforkd_sys::fds::inherited_listeners;
use preforkd_sys::queue::Gauge;
use preforkd_sys::{clock, privileges};
use signal_hook::consts::signal::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

const SIGNALS: [libc::c_int; 7] = [SIGTERM, SIGINT, SIGQUIT, SIGCHLD, SIGHUP, SIGUSR1, SIGUSR2];

/// Events taken in at one turn.
const EVENTS: usize = 64;

/// What the master is at. Later ones override earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    Finishing,
    Terminating,
}

struct Master {
    common: Common,
    pools: Vec<Pool>,
    signals: SignalDelivery<UnixStream, SignalOnly>,
    log: Log,
    notifier: Notifier,
    pid_file: Option<PathBuf>,
    phase: Phase,
    announced: bool,
}

/// Binds, forks, supervises; returns when the last process is gone.
pub fn run(config: Config, log: Log) -> Exit {
    match start(config, log) {
        Ok(mut master) => {
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
fn start(config: Config, log: Log) -> Result<Master, ()> {
    let complain = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| tracing::error!("{what}: {error}")
    };
    raise_file_limit();
    let mut inherited = inherited_listeners();
    let mut listeners: Vec<Listener> = Vec::new();
    let mut failed = false;
    for pool in &config.pools {
        match listen::open(pool, &mut inherited) {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                tracing::error!("{error}");
                failed = true;
            }
        }
    }
    for socket in inherited {
        tracing::warn!("the inherited socket {socket:?} is no pool's, closing it");
    }
    let needs_python = config
        .pools
        .iter()
        .any(|pool| matches!(pool.application, Application::Wsgi(_)));
    let extension = match needs_python.then(spawn::open_extension).transpose() {
        Ok(extension) => extension,
        Err(error) => {
            tracing::error!("{error}");
            failed = true;
            None
        }
    };
    if failed {
        listeners.iter().for_each(Listener::remove_file);
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
    let common = Common {
        epoll,
        gauge: Gauge::new(),
        extension,
        notes: config.global.log_level == crate::config::LogLevel::Debug,
        control_timeout: config.global.process_control_timeout,
    };
    let mut pools = Vec::new();
    for (index, (pool, listener)) in (0..).zip(config.pools.into_iter().zip(listeners)) {
        pools.push(
            Pool::new(index, pool, listener, &common)
                .map_err(complain("cannot make a scoreboard"))?,
        );
    }
    let pid_file = config.global.pid;
    if let Some(path) = &pid_file {
        write_pid(path).map_err(|error| {
            tracing::error!(
                "Unable to create the PID file ({}): {error}.",
                path.display()
            );
            pools.iter().for_each(Pool::remove_socket);
        })?;
    }
    tracing::info!("fpm is running, pid {}", std::process::id());
    Ok(Master {
        common,
        pools,
        signals,
        log,
        notifier: Notifier::from_environment(),
        pid_file,
        phase: Phase::Running,
        announced: false,
    })
}

impl Master {
    fn serve(&mut self) {
        tracing::info!("ready to handle connections");
        loop {
            self.settle();
            if !self.announced && self.pools.iter().all(Pool::is_decided) {
                self.announced = true;
                self.notifier.send(&format!(
                    "READY=1\nMAINPID={}\nSTATUS=Ready to handle connections",
                    std::process::id()
                ));
            }
            if self.phase != Phase::Running && self.pools.iter().all(Pool::is_empty) {
                return;
            }
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
                let token = Token::from(event.data());
                match token.pool() {
                    Some(pool) => {
                        if let Some(pool) = self.pools.get_mut(pool as usize) {
                            pool.ready(token, &self.common);
                        }
                    }
                    None => signalled = true,
                }
            }
            // After the messages: a process's death comes after what it said.
            if signalled {
                self.take_signals();
            }
        }
    }

    fn settle(&mut self) {
        let now = clock::now();
        for pool in &mut self.pools {
            if pool.deadline().is_some_and(|deadline| deadline.0 <= now) {
                pool.settle(&self.common);
            }
        }
    }

    /// Until the next deadline of a pool, rounded up so that it has passed when the wait ends.
    fn timeout(&self) -> EpollTimeout {
        let Some(deadline) = self.pools.iter().filter_map(Pool::deadline).min() else {
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
                SIGUSR1 => match self.log.reopen() {
                    Ok(true) => tracing::info!("error log file re-opened"),
                    Ok(false) => {}
                    Err(error) => tracing::error!("failed to open error_log: {error}"),
                },
                // A reload that is not there must not end the service, as the default of these signals would.
                _ => tracing::warn!("signal {signal} is ignored"),
            }
        }
    }

    fn stop(&mut self, phase: Phase) {
        if phase <= self.phase {
            return;
        }
        self.phase = phase;
        let event = if phase == Phase::Terminating {
            tracing::info!("Terminating ...");
            Event::Terminate
        } else {
            tracing::info!("Finishing ...");
            Event::Finish
        };
        self.notifier.send("STOPPING=1");
        for pool in &mut self.pools {
            pool.stop(event);
        }
    }

    fn reap(&mut self) {
        loop {
            let status = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!("waitpid: {error}");
                    return;
                }
            };
            let Some(pid) = status.pid() else { continue };
            if self.hand_over(pid, status) {
                continue;
            }
            // It may be a worker of a mold's. What it said when it began can be read now, however short its life was.
            for pool in &mut self.pools {
                pool.learn_pids(&self.common);
            }
            if !self.hand_over(pid, status) {
                // A subreaper inherits what applications leave behind.
                tracing::debug!("an orphan, {pid}, has ended: {status:?}");
            }
        }
    }

    /// Tells the pool whose process `pid` was that it is dead. Returns whether there is such a pool.
    fn hand_over(&mut self, pid: Pid, status: WaitStatus) -> bool {
        let common = &self.common;
        self.pools
            .iter_mut()
            .any(|pool| pool.reaped(pid, status, common))
    }

    fn clean_up(&mut self) {
        self.pools.iter().for_each(Pool::remove_socket);
        if let Some(path) = &self.pid_file {
            // Gone already is as good.
            let _ = fs::remove_file(path);
        }
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

/// Each worker takes three descriptors of the master; the soft limit is often 1024.
fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // What fits under the soft limit still works.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
