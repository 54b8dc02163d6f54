//! The preforkd daemon.

mod cli;
mod config;

use cli::{Cli, Exit};
use nix::unistd::Uid;

fn main() -> Exit {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(stop) => {
            // Nobody is left to tell if the terminal is gone; the exit status still says it.
            let _ = stop.print();
            return Exit::from(&stop);
        }
    };
    let surroundings = config::Surroundings {
        effective_uid: Uid::effective(),
        variable: &|name| std::env::var_os(name),
    };
    match config::load(&cli.file, &surroundings) {
        Ok(config) => {
            for notice in &config.notices {
                eprintln!("NOTICE: {notice}");
            }
            if cli.test > 1 {
                for line in config::dump(&config) {
                    eprintln!("NOTICE: {line}");
                }
            }
            eprintln!(
                "NOTICE: configuration file {} test is successful",
                cli.file.display()
            );
            Exit::Success
        }
        Err(problems) => {
            eprintln!("{problems}");
            Exit::Config
        }
    }
}
