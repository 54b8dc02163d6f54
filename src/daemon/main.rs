//! The preforkd daemon.

mod cli;
mod config;

use cli::{Cli, Exit};

fn main() -> Exit {
    match Cli::read(std::env::args_os()) {
        Ok(_) => Exit::Success,
        Err(stop) => {
            // Nobody is left to tell if the terminal is gone; the exit status still says it.
            let _ = stop.print();
            Exit::from(&stop)
        }
    }
}
