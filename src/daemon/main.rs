//! The preforkd daemon.
//!
//! # Layout
//! * [`cli`]: the command line
//! * [`config`]: the configuration
//! * [`master`]: the loop
//! * [`pool`]: a pool at run time
//! * [`reload`]: a new generation of each pool
//! * [`upgrade`] and [`elders`]: another program under the same pid
//! * [`spawn`] and [`confine`]: making processes
//! * [`status`]: the pages about pools
//! * [`request_logs`]: the access log and the slow log of a pool
//! * [`listen`]: listening sockets
//! * [`output`]: what workers print
//! * [`log`] and [`notify`]: telling people, and systemd
//! * [`token`]: what a descriptor belongs to

#![forbid(unsafe_code)]

mod cli;

mod config;
mod confine;
#[cfg(test)]
mod docs;
mod elders;
mod listen;
mod log;
mod master;
mod notify;
mod output;
mod pool;
mod reload;
mod request_logs;
mod spawn;
mod status;
mod token;
mod upgrade;

use cli::{Cli, Exit, Task};

fn main() -> Exit {
    preforkd_sys::title::init();
    let heritage = upgrade::Heritage::take();
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
    let file = cli.file();
    let log = log::Log::install();
    let (path, surroundings) = (file.clone(), cli.surroundings());
    let read = move || config::load(&path, &surroundings);
    let config = match read() {
        Ok(config) => config,
        Err(problems) => {
            problems.tell();
            tracing::error!("failed to load configuration file '{}'", file.display());
            tracing::error!("FPM initialization failed");
            return Exit::Config;
        }
    };
    config.tell();
    let task = cli.task();
    if task != Task::Run {
        if task == Task::Show {
            for line in config::dump(&config) {
                tracing::info!("{line}");
            }
        }
        tracing::info!("configuration file {} test is successful", file.display());
        return Exit::Success;
    }
    if let Err(error) = log.configure(config.global.log_level, log::file(&config.global)) {
        let path = log::file(&config.global).unwrap_or(std::path::Path::new("-"));
        tracing::error!("failed to open error_log ({}): {error}", path.display());
        return Exit::Config;
    }
    preforkd_sys::title::set(&format!("preforkd: master process ({})", file.display()));
    let heritage = match heritage {
        Ok(heritage) => heritage,
        Err(error) => {
            tracing::error!("cannot understand what the program before left: {error}");
            None
        }
    };
    master::run(config, log, Box::new(read), program, heritage, given)
}
