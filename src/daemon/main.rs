//! The preforkd daemon.
//!
//! # Layout
//! * [`cli`]: the command line
//! * [`config`]: the configuration
//! * [`start`]: from the configuration to the first processes
//! * [`master`]: the loop
//! * [`signals`]: what follows from signals
//! * [`pool`]: a pool at run time
//! * [`bounds`]: what holds for all pools together
//! * [`reload`] and [`inquiry`]: a new generation of each pool
//! * [`control`]: commands to the master, and what has come of them
//! * [`upgrade`] and [`elders`]: another program under the same pid
//! * [`spawn`] and [`confine`]: making processes
//! * [`status`]: the pages about pools
//! * [`request_logs`]: the access log and the slow log of a pool
//! * [`listen`]: listening sockets
//! * [`output`]: what workers print
//! * [`daemonize`]: going into the background
//! * [`pid_file`]: its name for scripts
//! * [`log`] and [`notify`]: telling people, and systemd
//! * [`token`]: what a descriptor belongs to

#![forbid(unsafe_code)]

mod bounds;
mod cli;
mod config;
mod confine;
mod control;
mod daemonize;
#[cfg(test)]
mod docs;
mod elders;
mod inquiry;
mod listen;
mod log;
mod master;
mod notify;
mod output;
mod pid_file;
mod pool;
mod reload;
mod request_logs;
mod signals;
mod spawn;
mod start;
mod status;
mod token;
mod upgrade;

use cli::{Cli, Exit, Task};
use config::{ErrorLog, Global, Names};
use daemonize::Caller;
use log::reason;
use preforkd_sys::{limits, privileges};
use std::io::IsTerminal;

fn main() -> Exit {
    preforkd_sys::title::init();
    let mut heritage = upgrade::Heritage::take();
    // Before anything else is opened, at a number that may be said to be one of theirs. The variables are still there
    // after an exec, but the program before has passed the sockets on in its own way.
    let given = match heritage {
        Ok(None) => preforkd_sys::fds::inherited_listeners(),
        Ok(Some(_)) | Err(_) => Vec::new(),
    };
    let program = upgrade::Program::this();
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(stop) => {
            // Nobody is left to tell if the terminal is gone; the exit status still says it.
            let _ = stop.print();
            return Exit::from(&stop);
        }
    };
    log::install();
    let file = cli.file();
    let (path, surroundings) = (file.clone(), cli.surroundings());
    if let Task::Reload { scope } = cli.task() {
        return control::reload(config::control(&path, &surroundings), &scope);
    }
    let read = move |names: &Names| config::load(&path, &surroundings, names);
    // A program that takes over is the master already, and waits for nobody.
    let names = match &mut heritage {
        Ok(Some(heritage)) => std::mem::take(&mut heritage.names),
        Ok(None) | Err(_) => Names::default(),
    };
    let config = match read(&names) {
        Ok(config) => config,
        Err(problems) => {
            problems.tell();
            tracing::error!("{}", problems.outcome(&file));
            tracing::error!("FPM initialization failed");
            return Exit::Config;
        }
    };
    let task = cli.task();
    if let Task::Status { pool, query } = &task {
        return status::show(&config, pool.as_deref(), query);
    }
    config.tell();
    if task != Task::Run {
        if task == Task::Show {
            for line in config::dump(&config) {
                tracing::info!("{line}");
            }
        }
        tracing::info!("configuration file {} test is successful", file.display());
        return Exit::Success;
    }
    let heritage = match heritage {
        Ok(heritage) => heritage,
        Err(error) => {
            tracing::error!("cannot understand what the program before left: {error}");
            None
        }
    };
    let successor = heritage.is_some();
    let caller = match set_out(&config.global, successor) {
        Ok(caller) => caller,
        Err(what) => {
            tracing::error!("{what}");
            // The sites of the program before are served on without a log, rather than not at all.
            if !successor {
                tracing::error!("FPM initialization failed");
                return Exit::Config;
            }
            None
        }
    };
    preforkd_sys::title::set(&format!("preforkd: master process ({})", file.display()));
    start::run(
        config,
        caller,
        Box::new(read),
        program,
        heritage,
        given,
        &names,
    )
}

/// Does what holds for the whole process, before there is anything that a fork would lose: the log, the limits, the
/// background. Returns the process that waits for the daemon, if there is one; a `successor` is in the background
/// already.
fn set_out(global: &Global, successor: bool) -> Result<Option<Caller>, String> {
    // A person at a terminal sees the log there, as with php-fpm.
    let stderr = !global.daemonize && std::io::stderr().is_terminal();
    log::configure(global, stderr)?;
    log::log_panics();
    if let Some(limit) = global.rlimit_files {
        limits::set_files(limit).map_err(|error| {
            format!("failed to set rlimit_files for this pool. Please check your system limits or decrease rlimit_files. setrlimit(RLIMIT_NOFILE, {limit}): {}", reason(&error))
        })?;
    }
    if let Some(limit) = global.rlimit_core {
        limits::set_core(limit).map_err(|error| {
            format!("failed to set rlimit_core for this pool. Please check your system limits or decrease rlimit_core. setrlimit(RLIMIT_CORE, {limit}): {}", reason(&error))
        })?;
    }
    if let Some(nice) = global.process_priority {
        privileges::set_priority(nice).map_err(|error| {
            format!(
                "Unable to set priority for the master process: {}",
                reason(&error)
            )
        })?;
    }
    if global.daemonize && successor {
        log::enter_background().map_err(|error| reason(&error))?;
    }
    if !global.daemonize || successor {
        return Ok(None);
    }
    if global.error_log == ErrorLog::Stderr {
        tracing::warn!(
            "error_log is standard error, which a daemon in the background does not have: nothing is logged once it is ready"
        );
    }
    let caller = Caller::leave_behind()
        .map_err(|error| format!("failed to daemonize: {}", reason(&error)))?;
    log::take_over();
    Ok(Some(caller))
}
