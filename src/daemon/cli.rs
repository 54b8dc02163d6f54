//! The command line, in php-fpm's words, and what the process exits with.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitCode, Termination};

use clap::{ArgAction, Parser};

/// The configuration that is read when the command line names none.
pub const DEFAULT_FILE: &str = "/etc/preforkd/preforkd.conf";

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(
    name = "preforkd",
    version,
    about = "A prefork FastCGI process manager",
    disable_version_flag = true,
    after_long_help = crate::config::reference()
)]
pub struct Cli {
    /// Read the configuration from FILE
    #[arg(
        short = 'y',
        long = "fpm-config",
        visible_alias = "config",
        value_name = "FILE",
        default_value = DEFAULT_FILE
    )]
    pub file: PathBuf,

    /// Stay in the foreground
    #[arg(short = 'F', long = "nodaemonize")]
    pub foreground: bool,

    /// Check the configuration and exit; given twice (-tt), also print every value in effect
    #[arg(short = 't', long = "test", action = ArgAction::Count)]
    pub test: u8,

    /// Print the version and exit
    #[arg(short = 'v', long = "version", action = ArgAction::Version)]
    version: Option<bool>,
}

impl Cli {
    /// Reads the arguments, the first of which is the program's name.
    ///
    /// # Errors
    /// The process is to print this and to end at once with the [`Exit`] made of it: help or version was asked for, or
    /// the arguments are wrong.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(arguments)
    }
}

/// What the process exits with: the numbers of `sysexits.h`, in php-fpm's use of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// A clean stop; the configuration is right; help or version was asked for.
    Success = 0,
    /// The command line is wrong.
    Usage = 64,
    /// The configuration is wrong, or what it asks for cannot be set up.
    Config = 78,
}

impl From<&clap::Error> for Exit {
    fn from(stop: &clap::Error) -> Exit {
        if stop.use_stderr() {
            Exit::Usage
        } else {
            Exit::Success
        }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn read(arguments: &[&str]) -> Result<Cli, Exit> {
        let arguments = ["preforkd"].iter().chain(arguments).map(OsString::from);
        Cli::read(arguments).map_err(|stop| Exit::from(&stop))
    }

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults() {
        let cli = read(&[]).unwrap();
        assert_eq!(cli.file, PathBuf::from(DEFAULT_FILE));
        assert!(!cli.foreground);
        assert_eq!(cli.test, 0);
    }

    #[test]
    fn every_spelling_of_the_file() {
        for arguments in [
            &["-y", "/x.conf"][..],
            &["-y/x.conf"],
            &["--fpm-config", "/x.conf"],
            &["--fpm-config=/x.conf"],
            &["--config=/x.conf"],
        ] {
            assert_eq!(
                read(arguments).unwrap().file,
                PathBuf::from("/x.conf"),
                "{arguments:?}"
            );
        }
    }

    #[test]
    fn switches() {
        assert!(read(&["-F"]).unwrap().foreground);
        assert!(read(&["--nodaemonize"]).unwrap().foreground);
        assert_eq!(read(&["-t"]).unwrap().test, 1);
        assert_eq!(read(&["--test"]).unwrap().test, 1);
        assert_eq!(read(&["-tt"]).unwrap().test, 2);
        assert_eq!(read(&["-t", "-t", "-F"]).unwrap().test, 2);
    }

    #[test]
    fn help_and_version_are_successes_and_mistakes_are_usage_errors() {
        for arguments in [&["-h"][..], &["--help"], &["-v"], &["--version"]] {
            assert_eq!(read(arguments), Err(Exit::Success), "{arguments:?}");
        }
        for arguments in [&["-x"][..], &["stray"], &["-y"], &["--colour"]] {
            assert_eq!(read(arguments), Err(Exit::Usage), "{arguments:?}");
        }
    }
}
