//! The preforkd daemon.
//!
//! # Layout
//! * [`cli`]: the command line
//! * [`config`]: the configuration
//! * [`master`]: the loop
//! * [`pool`]: a pool at run time
//! * [`reload`]: a new generation of each pool
//! * [`spawn`]: making processes
//! * [`listen`]: listening sockets
//! * [`output`]: what workers print
//! * [`log`] and [`notify`]: telling people, and systemd
//! * [`token`]: what a descriptor belongs to

#![forbid(unsafe_code)]

mod cli;
mod config;
mod listen;
mod log;
mod master;
mod notify;
mod output;
mod pool;
mod reload;
mod spawn;
mod token;

use cli::{Cli, Exit};
use nix::unistd::Uid;

fn main() -> Exit {
    preforkd_sys::title::init();
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(stop) => {
            // Nobody is left to tell if the terminal is gone; the exit status still says it.
            let _ = stop.print();
            return Exit::from(&stop);
        }
    };
    let log = log::Log::install();
    let file = cli.file.clone();
    let read = move || {
        let surroundings = config::Surroundings {
            effective_uid: Uid::effective(),
            variable: &|name| std::env::var_os(name),
        };
        config::load(&file, &surroundings)
    };
    let config = match read() {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            tracing::error!("failed to load configuration file '{}'", cli.file.display());
            tracing::error!("FPM initialization failed");
            return Exit::Config;
        }
    };
    for notice in &config.notices {
        tracing::info!("{notice}");
    }
    if cli.test > 0 {
        if cli.test > 1 {
            for line in config::dump(&config) {
                tracing::info!("{line}");
            }
        }
        tracing::info!(
            "configuration file {} test is successful",
            cli.file.display()
        );
        return Exit::Success;
    }
    if let Err(error) = log.configure(config.global.log_level, log::file(&config.global)) {
        let path = config
            .global
            .error_log
            .as_deref()
            .unwrap_or(std::path::Path::new("-"));
        tracing::error!("failed to open error_log ({}): {error}", path.display());
        return Exit::Config;
    }
    preforkd_sys::title::set(&format!(
        "preforkd: master process ({})",
        cli.file.display()
    ));
    master::run(config, log, Box::new(read))
}
