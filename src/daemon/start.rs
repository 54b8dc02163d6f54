//! The master's beginning: nothing is forked before all sockets are bound, and nothing is left behind when it fails.

use crate::bounds;
use crate::cli::Exit;
use crate::config::{self, Application, Config, LogLevel, Names};
use crate::control::Control;
use crate::daemonize::Caller;
use crate::elders::Elders;
use crate::listen::{self, Inherited, Sockets};
use crate::log;
use crate::master::{Master, Read};
use crate::notify::Notifier;
use crate::pid_file;
use crate::pool::{Common, Pool};
use crate::spawn;
use crate::status::Supervisor;
use crate::token::Token;
use crate::upgrade::{Heritage, Program};
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use preforkd_plan::pool::Phase;
use preforkd_plan::reload::timeout;
use preforkd_sys::queue::Gauge;
use preforkd_sys::{limits, privileges, signals};
use signal_hook::consts::signal::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

const SIGNALS: [libc::c_int; 7] = [SIGTERM, SIGINT, SIGQUIT, SIGCHLD, SIGHUP, SIGUSR1, SIGUSR2];

/// Binds, forks, supervises; returns when the last process is gone. `caller` is told when the daemon is ready; `read`
/// reads the configuration anew. `heritage` is what the program before left, if there was one, and `given` are the
/// sockets of the service manager. `names` are what the names in the configuration stand for.
pub fn run(
    config: Config,
    caller: Option<Caller>,
    read: Read,
    program: Program,
    heritage: Option<Heritage>,
    given: Vec<OwnedFd>,
    names: &Names,
) -> Exit {
    let status = Supervisor::new(names);
    match start(config, read, program, heritage, given, status) {
        Ok(mut master) => {
            master.announce(caller);
            master.serve();
            master.remove_pid_file();
            tracing::info!("exiting, bye-bye!");
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
    status: Supervisor,
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
        control,
        clients,
        names: _,
    } = heritage.unwrap_or_default();
    inherited.extend(given.into_iter().map(|socket| Inherited {
        socket,
        is_ours: false,
        parking: None,
    }));
    let mut sockets: Vec<Sockets> = Vec::new();
    let mut failed = false;
    for pool in &config.pools {
        let open = if is_successor {
            listen::open
        } else {
            listen::open_at_start
        };
        match Sockets::open(pool, |address| open(pool, address, &mut inherited)) {
            Ok(opened) => sockets.push(opened),
            Err(error) => {
                tracing::error!("{error}");
                failed = true;
            }
        }
    }
    for left in inherited {
        left.close(sockets.iter().flat_map(Sockets::iter));
    }
    let path = config.global.control.clone();
    let mut control = Control::open(path.clone(), control).unwrap_or_else(|error| {
        // It is beside the pid file unless the configuration says otherwise, and php-fpm's words are of that.
        match config
            .global
            .pid
            .as_deref()
            .map_or(Ok(()), pid_file::folder)
        {
            Ok(()) => tracing::error!("{error}"),
            Err(error) => tracing::error!("{error}"),
        }
        // A successor has sites to serve, and hears signals.
        failed |= !is_successor;
        Control::without(path)
    });
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
    control
        .begin(clients, &epoll)
        .map_err(complain("epoll_ctl"))?;
    // The program before may have blocked them, or whoever started this one.
    signals::unblock();
    let common = Common {
        epoll,
        gauge: Gauge::new(),
        extension,
        preload: open_preload(&config.pools),
        notes: config.global.log_level == LogLevel::Debug,
    };
    let crashes = bounds::crashes(&config.global);
    let pid_file = config.global.pid;
    if let Some(path) = &pid_file
        && let Err(error) = pid_file::write(path)
    {
        tracing::error!("{error}");
        return Err(());
    }
    let control_timeout = config.global.process_control_timeout;
    let starts = config.pools.iter().map(|pool| pool.start_timeout);
    let start = starts.max().unwrap_or_default();
    let mut master = Master {
        elders: Elders::new(elders, &config.pools, control_timeout, &common),
        common,
        pools: BTreeMap::new(),
        next_pool: 0,
        read,
        inquiry: None,
        reload: None,
        reload_asked: false,
        control,
        signals,
        notifier: Notifier::from_environment(config.global.systemd_interval),
        pid_file,
        phase: Phase::Running,
        announced: false,
        is_successor,
        control_timeout,
        program,
        check: None,
        status,
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
    master.notifier.may_take(timeout(start));
    master.status.renew();
    log::ready();
    tracing::info!("fpm is running, pid {}", std::process::id());
    Ok(master)
}

/// What makes a program a mold, if a pool needs it. Where it cannot be had, programs are started one by one.
pub(crate) fn open_preload(pools: &[config::Pool]) -> Option<File> {
    let needs_it =
        |pool: &config::Pool| matches!(&pool.application, Application::Exec(exec) if exec.mold);
    if !pools.iter().any(needs_it) {
        return None;
    }
    match spawn::open_preload() {
        Ok(library) => Some(library),
        Err(error) => {
            tracing::warn!("each worker starts its own program, since no mold can be had: {error}");
            None
        }
    }
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

    fn remove_pid_file(&self) {
        if let Some(path) = &self.pid_file {
            pid_file::remove(path);
        }
    }
}
