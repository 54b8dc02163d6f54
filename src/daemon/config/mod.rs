//! The configuration: php-fpm's INI files, read whole, checked whole.
//!
//! Files become [`raw::Raw`], which mirrors what is written and remembers the file and line of each value; [`check`]
//! turns that into [`Config`], which cannot be wrong. Both steps go on after a mistake and collect it, so that a person
//! sees all of them at once; only when there is none does a `Config` exist.
//!
//! # Layout
//! * [`scan`]: one line of an INI file
//! * [`read`]: files, sections, `include`
//! * [`directive`] and [`table`]: the one definition of each directive
//! * [`value`] and [`listen`]: one value of each kind
//! * [`raw`]: what is written
//! * [`check`], [`application`] and [`identity`]: what it means
//! * [`dump`]: what is in effect, written as a configuration
//! * [`problem`]: what is wrong, and where

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{Gid, Uid};
use preforkd_plan::scale::Limits;

mod application;
mod check;
mod directive;
mod dump;
mod identity;
mod listen;
mod problem;
mod raw;
mod read;
mod scan;
mod table;
#[cfg(test)]
mod tests;
mod value;

pub use directive::reference;
pub use dump::dump;
pub use problem::Problems;
pub use read::load;

/// Most workers a pool can have: the cells of its scoreboard.
pub const MAX_CHILDREN: u32 = 4096;

/// What a configuration is read against, besides its files.
pub struct Surroundings<'a> {
    /// Who the daemon is. Only root can run pools as other users, and must.
    pub effective_uid: Uid,
    /// Looks up an environment variable of the daemon, for `${NAME}` and `env[K] = $NAME`.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
}

/// A configuration without mistakes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What concerns the daemon as a whole.
    pub global: Global,
    /// The pools in the order of their first mention; at least one.
    pub pools: Vec<Pool>,
    /// What a person should know although it is no mistake, to be logged at `notice`.
    pub notices: Vec<String>,
}

/// What concerns the daemon as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// Where the master's pid is written (`pid`).
    pub pid: Option<PathBuf>,
    /// The file the log is appended to (`error_log`); standard error if none.
    pub error_log: Option<PathBuf>,
    /// The least level that is logged (`log_level`).
    pub log_level: LogLevel,
    /// How long workers may go on with their requests when asked to leave (`process_control_timeout`).
    pub process_control_timeout: Duration,
}

/// Severity of a log line, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `debug`
    Debug,
    /// `notice`
    Notice,
    /// `warning`, also written `warn`
    Warning,
    /// `error`
    Error,
    /// `alert`
    Alert,
}

/// One pool: a listening socket, an application, a user and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The section's name.
    pub name: String,
    /// Where it listens (`listen`). No two pools' addresses overlap.
    pub listen: Listen,
    /// Connections that may wait to be accepted (`listen.backlog`); the system's limit if none.
    pub backlog: Option<u32>,
    /// Owner of a Unix socket (`listen.owner`); the daemon's user if none.
    pub listen_owner: Option<Uid>,
    /// Group of a Unix socket (`listen.group`); the daemon's group if none.
    pub listen_group: Option<Gid>,
    /// Permission bits of a Unix socket (`listen.mode`), at most 0o777.
    pub listen_mode: u32,
    /// Whom its workers run as (`user`, `group`); the daemon's own user if none. Never root, and never none when the
    /// daemon is root.
    pub identity: Option<Identity>,
    /// Working directory of its workers (`chdir`).
    pub chdir: Option<PathBuf>,
    /// Environment variables of its workers (`env[K]`), each name once.
    pub env: Vec<(OsString, OsString)>,
    /// Whether its workers start from an empty environment (`clear_env`).
    pub clear_env: bool,
    /// How many workers it has (`pm` and the counts among `pm.*`).
    pub limits: Limits,
    /// Requests after which a worker is replaced (`pm.max_requests`); 0 is never.
    pub max_requests: u64,
    /// The longest a request may take (`request_terminate_timeout`); no limit if none.
    pub request_terminate_timeout: Option<Duration>,
    /// Whether what workers print goes to the log (`catch_workers_output`).
    pub catch_workers_output: bool,
    /// Whether the log says which worker printed it (`decorate_workers_output`).
    pub decorate_workers_output: bool,
    /// What its workers run.
    pub application: Application,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A Unix socket: an absolute path of at most 107 bytes.
    Unix(PathBuf),
    /// One TCP address; the port is not 0.
    Tcp(SocketAddr),
    /// A TCP port on all addresses: `[::]`, or `0.0.0.0` on a system without IPv6. Not 0.
    Port(u16),
}

/// A user other than root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name, or its number if the user database does not have it.
    pub user: String,
    /// Its number; not 0.
    pub uid: Uid,
    /// The group's number; not 0.
    pub gid: Gid,
    /// The home directory; `/` if the user database does not have the user.
    pub home: PathBuf,
}

/// What a pool's workers run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Application {
    /// The built-in page (`app = hello`).
    Hello,
    /// A Python application (`wsgi`).
    Wsgi(Wsgi),
}

/// A Python application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wsgi {
    /// The module to import, dotted.
    pub module: String,
    /// The name of the application in the module.
    pub callable: String,
    /// The interpreter: an executable file (`python`).
    pub python: PathBuf,
    /// What is put before the interpreter's module search path, first first (`pythonpath[]`).
    pub pythonpath: Vec<PathBuf>,
    /// Whether the mold imports the application once for all workers (`wsgi.preload`).
    pub preload: bool,
    /// URL paths requested once before workers are forked (`wsgi.warmup[]`), each with a leading `/`.
    pub warmup: Vec<String>,
    /// Where the application is in the site's URL space (`mount`).
    pub mount: Mount,
}

/// Where an application is in its site's URL space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// Found out from what the web server sends.
    Auto,
    /// This prefix: empty for the root, else with a leading and without a trailing `/`.
    Prefix(String),
}
