//! The command line, in php-fpm's words, and what the process exits with.
//!
//! Beside php-fpm's flags there are commands that say what they do: `preforkd check` is `preforkd -t`. The flags can be
//! written before and after a command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Termination};

use clap::{ArgAction, Parser, Subcommand, ValueHint};
use nix::unistd::Uid;

use crate::config::Surroundings;
use crate::control::Scope;

/// The configuration that is read when the command line names none.
pub const DEFAULT_FILE: &str = "/etc/preforkd/preforkd.conf";
/// The same below the folder of `-p`.
const DEFAULT_IN_PREFIX: &str = "etc/preforkd.conf";

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(
    name = "preforkd",
    version = concat!(env!("CARGO_PKG_VERSION"), " (fpm-fcgi)"),
    about = "A prefork FastCGI process manager",
    disable_version_flag = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    args_override_self = true,
    override_usage = "preforkd [-F|-D] [-y FILE] [-p DIR] [-g FILE] [-O] [-R]\n       \
                      preforkd -t[t] [-y FILE] [-p DIR] [-R]\n       \
                      preforkd COMMAND [-y FILE] [-p DIR] [-R]",
    after_help = "php-fpm's -c, -d, -e and -n, which wrappers pass, are accepted and ignored.",
    after_long_help = crate::config::reference()
)]
pub struct Cli {
    /// Read the configuration from FILE [default: /etc/preforkd/preforkd.conf, or etc/preforkd.conf in the folder of -p]
    #[arg(
        short = 'y',
        long = "fpm-config",
        visible_alias = "config",
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        global = true
    )]
    config: Option<PathBuf>,

    /// Let relative paths of the configuration start at DIR
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath, value_parser = absolute, global = true)]
    prefix: Option<PathBuf>,

    /// Write the master's pid to FILE, if the configuration names no file for it
    #[arg(short = 'g', long, value_name = "FILE", value_hint = ValueHint::FilePath, value_parser = absolute, global = true)]
    pid: Option<PathBuf>,

    /// Check the configuration and exit; given twice (-tt), also print every value in effect
    #[arg(short = 't', long, action = ArgAction::Count)]
    test: u8,

    /// Go into the background, whatever daemonize says
    #[arg(short = 'D', long = "daemonize", overrides_with = "foreground")]
    background: bool,

    /// Stay in the foreground, whatever daemonize says
    #[arg(short = 'F', long = "nodaemonize", overrides_with = "background")]
    foreground: bool,

    /// Log to standard error in the foreground, whatever error_log says, also if it is no terminal
    #[arg(short = 'O', long, global = true)]
    force_stderr: bool,

    /// Let pools run as root
    #[arg(short = 'R', long = "allow-to-run-as-root", global = true)]
    allow_root: bool,

    /// Print help and exit, also as -? (--help: with every directive)
    #[arg(short, long, short_alias = '?', alias = "usage", action = ArgAction::Help, global = true)]
    help: Option<bool>,

    /// Print the version and exit
    #[arg(short, long, short_aliases = ['i', 'm'], aliases = ["info", "modules"], action = ArgAction::Version)]
    version: Option<bool>,

    // What is only PHP's, and does nothing.
    #[arg(short = 'c', long, hide = true)]
    php_ini: Option<OsString>,

    #[arg(short = 'n', long, hide = true, action = ArgAction::Count)]
    no_php_ini: u8,

    #[arg(short = 'd', long, hide = true)]
    define: Vec<OsString>,

    #[arg(short = 'e', long, hide = true, action = ArgAction::Count)]
    profile_info: u8,

    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do, in words.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Command {
    /// Run in the foreground (as -F does)
    Run,
    /// Check the configuration (as -t does)
    Check,
    /// Check the configuration and print every value in effect (as -tt does)
    Config,
    /// Print what the pools are doing, as their status pages tell it
    Status {
        /// The pool; all of them if none is named
        pool: Option<String>,

        /// Tell of each worker, too
        #[arg(long)]
        full: bool,

        /// Print JSON, an object for each pool
        #[arg(long)]
        json: bool,
    },
    /// Have the running master reload, wait for what comes of it, and say why if the old workers go on
    Reload {
        /// The pool; all of them if none is named
        pool: Option<String>,
    },
}

/// What the process is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Be the daemon.
    Run,
    /// Check the configuration.
    Check,
    /// Check it and print the values in effect.
    Show,
    /// Print what the pools are doing.
    Status {
        /// The pool; all of them if none is named.
        pool: Option<String>,
        /// What is asked of the status page.
        query: String,
    },
    /// Have the running master reload.
    Reload {
        /// What of it.
        scope: Scope,
    },
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

    /// The configuration's file.
    pub fn file(&self) -> PathBuf {
        match (&self.config, &self.prefix) {
            (Some(file), _) => file.clone(),
            (None, Some(prefix)) => prefix.join(DEFAULT_IN_PREFIX),
            (None, None) => Path::new(DEFAULT_FILE).to_owned(),
        }
    }

    /// What to do.
    pub fn task(&self) -> Task {
        match (&self.command, self.test) {
            (Some(Command::Status { pool, full, json }), _) => {
                let words = [(*json, "json"), (*full, "full")];
                let asked = words.iter().filter(|(asked, _)| *asked);
                Task::Status {
                    pool: pool.clone(),
                    query: asked.map(|(_, word)| *word).collect::<Vec<_>>().join("&"),
                }
            }
            (Some(Command::Reload { pool }), _) => Task::Reload {
                scope: Scope::of(pool.clone()),
            },
            (Some(Command::Config), _) | (_, 2..) => Task::Show,
            (Some(Command::Check), _) | (_, 1) => Task::Check,
            (Some(Command::Run) | None, 0) => Task::Run,
        }
    }

    /// What the configuration is read against.
    pub fn surroundings(&self) -> Surroundings<'static> {
        Surroundings {
            effective_uid: Uid::effective(),
            allow_root: self.allow_root,
            prefix: self.prefix.clone(),
            pid: self.pid.clone(),
            daemonize: self.daemonize(),
            force_stderr: self.force_stderr,
            variable: &|name| std::env::var_os(name),
        }
    }

    /// Whether to go into the background, if the command line says.
    fn daemonize(&self) -> Option<bool> {
        if self.foreground || self.command == Some(Command::Run) {
            Some(false)
        } else if self.background {
            Some(true)
        } else {
            None
        }
    }
}

/// A path that means the same in every working directory.
fn absolute(path: &str) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| error.to_string())
}

/// What the process exits with: the numbers of `sysexits.h`, in php-fpm's use of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// A clean stop; the configuration is right; help or version was asked for.
    Success = 0,
    /// The command line is wrong.
    Usage = 64,
    /// A pool does not tell its status; the master cannot be told to reload.
    Unavailable = 69,
    /// The daemon did not get ready in the background; new workers did not get ready for a reload.
    Software = 70,
    /// The configuration is wrong, or what it asks for cannot be set up.
    Config = 78,
}

impl Exit {
    /// What another process of this program says that this one is to exit with.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        let all = [
            Self::Success,
            Self::Usage,
            Self::Unavailable,
            Self::Software,
            Self::Config,
        ];
        all.into_iter().find(|exit| *exit as u8 == number)
    }
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
        assert_eq!(cli.file(), Path::new(DEFAULT_FILE));
        assert_eq!(cli.task(), Task::Run);
        assert_eq!(cli.daemonize(), None);
        assert_eq!((cli.prefix, cli.pid), (None, None));
        assert!(!cli.force_stderr && !cli.allow_root);
    }

    #[test]
    fn every_spelling_of_the_file() {
        for arguments in [
            &["-y", "/x.conf"][..],
            &["-y/x.conf"],
            &["--fpm-config", "/x.conf"],
            &["--fpm-config=/x.conf"],
            &["--config=/x.conf"],
            &["-p", "/y", "-y", "/x.conf"],
            &["check", "-y", "/x.conf"],
            &["-y", "/x.conf", "check"],
        ] {
            let file = read(arguments).unwrap().file();
            assert_eq!(file, Path::new("/x.conf"), "{arguments:?}");
        }
        let file = |arguments| read(arguments).unwrap().file();
        assert_eq!(file(&["-p", "/y"]), Path::new("/y/etc/preforkd.conf"));
        assert_eq!(
            file(&["--prefix=y"]),
            std::env::current_dir().unwrap().join("y/etc/preforkd.conf")
        );
    }

    #[test]
    fn switches() {
        for (arguments, task, daemonize) in [
            (&["-F"][..], Task::Run, Some(false)),
            (&["--nodaemonize"], Task::Run, Some(false)),
            (&["-D"], Task::Run, Some(true)),
            (&["--daemonize"], Task::Run, Some(true)),
            (&["-F", "-F"], Task::Run, Some(false)),
            (&["-D", "-F"], Task::Run, Some(false)),
            (&["-F", "-D"], Task::Run, Some(true)),
            (&["-t"], Task::Check, None),
            (&["--test"], Task::Check, None),
            (&["-tt"], Task::Show, None),
            (&["-t", "-t", "-F"], Task::Show, Some(false)),
            (&["run"], Task::Run, Some(false)),
            (&["check"], Task::Check, None),
            (&["config"], Task::Show, None),
            (&["reload"], Task::Reload { scope: Scope::All }, None),
            (
                &["reload", "a"],
                Task::Reload {
                    scope: Scope::Pool("a".into()),
                },
                None,
            ),
            (
                &["-nd", "a=b", "-c", "/php.ini", "-e", "-d", "x"],
                Task::Run,
                None,
            ),
        ] {
            let cli = read(arguments).unwrap();
            assert_eq!(
                (cli.task(), cli.daemonize()),
                (task, daemonize),
                "{arguments:?}"
            );
        }
        let cli = read(&["-OR", "-g", "/run/x.pid"]).unwrap();
        assert!(cli.force_stderr && cli.allow_root);
        assert_eq!(cli.pid.as_deref(), Some(Path::new("/run/x.pid")));
    }

    #[test]
    fn help_and_version_are_successes_and_mistakes_are_usage_errors() {
        for arguments in [
            &["-h"][..],
            &["-?"],
            &["--help"],
            &["-v"],
            &["--version"],
            &["-i"],
            &["-m"],
        ] {
            assert_eq!(read(arguments), Err(Exit::Success), "{arguments:?}");
        }
        for arguments in [
            &["-x"][..],
            &["stray"],
            &["check", "stray"],
            &["reload", "a", "b"],
            &["-y"],
            &["--colour"],
        ] {
            assert_eq!(read(arguments), Err(Exit::Usage), "{arguments:?}");
        }
    }
}
