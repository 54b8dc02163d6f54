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
//! * [`value`], [`listen`] and [`command`]: one value of each kind
//! * [`names`]: what the system says of users, groups and hosts
//! * [`raw`]: what is written
//! * [`check`], [`global`], [`application`], [`limits`], [`confinement`], [`identity`] and [`requests`]: what it means
//! * [`dump`]: what is in effect, written as a configuration
//! * [`problem`]: what is wrong, and where

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{Gid, Uid};
use preforkd_plan::scale::Limits;
use preforkd_worker::allowed::AllowedClients;
use preforkd_worker::relay::Ready;

mod application;
mod check;
mod command;
mod confinement;
pub mod directive;
mod dump;
mod global;
mod identity;
mod limits;
mod listen;
mod names;
mod problem;
pub mod raw;
mod read;
mod requests;
mod scan;
pub mod table;
#[cfg(test)]
mod tests;
mod value;

pub use directive::reference;
pub use dump::dump;
pub use names::Names;
pub use problem::Problems;
pub use read::{control, load};

/// Most workers a pool can have: the cells of its scoreboard.
pub const MAX_CHILDREN: u32 = 4096;

/// What a configuration is read against, besides its files.
pub struct Surroundings<'a> {
    /// Who the daemon is. Only root can run pools as other users, and must.
    pub effective_uid: Uid,
    /// Whether pools may run as root (`-R`).
    pub allow_root: bool,
    /// The folder that relative paths start at (`-p`), absolute.
    pub prefix: Option<PathBuf>,
    /// The pid file if `pid` is not set (`-g`).
    pub pid: Option<PathBuf>,
    /// What counts instead of `daemonize` (`-D`, `-F`).
    pub daemonize: Option<bool>,
    /// Whether the log stays on standard error in the foreground (`-O`).
    pub force_stderr: bool,
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
    /// What is probably not what a person meant, to be logged at `warning`.
    pub warnings: Vec<String>,
}

impl Config {
    /// Logs the notices and warnings.
    pub fn tell(&self) {
        for notice in &self.notices {
            tracing::info!("{notice}");
        }
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
    }
}

/// What concerns the daemon as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// Where the master's pid is written (`pid`).
    pub pid: Option<PathBuf>,
    /// The Unix socket on which it takes commands (`control`, or beside `pid`), an absolute path.
    pub control: Option<PathBuf>,
    /// Where the log goes (`error_log`).
    pub error_log: ErrorLog,
    /// The name of the daemon in the system's log (`syslog.ident`).
    pub syslog_ident: String,
    /// Its subject there (`syslog.facility`).
    pub syslog_facility: Facility,
    /// The least level that is logged (`log_level`).
    pub log_level: LogLevel,
    /// The form of the log's lines (`log_format`).
    pub log_format: LogFormat,
    /// Longest line of the log, in bytes (`log_limit`).
    pub log_limit: usize,
    /// Whether a line is put together before it is written (`log_buffering`).
    pub log_buffering: bool,
    /// How many workers that died of SIGSEGV or SIGBUS lead to a reload (`emergency_restart_threshold`); 0 is never.
    pub emergency_restart_threshold: u32,
    /// Within which time (`emergency_restart_interval`); 0 is never.
    pub emergency_restart_interval: Duration,
    /// How long workers may go on with their requests when asked to leave (`process_control_timeout`).
    pub process_control_timeout: Duration,
    /// Most processes of all pools together (`process.max`).
    pub process_max: Option<u32>,
    /// The master's nice value (`process.priority`).
    pub process_priority: Option<i32>,
    /// Whether it goes into the background (`daemonize`, `-D`, `-F`).
    pub daemonize: bool,
    /// The master's limit of open files, soft and hard (`rlimit_files`).
    pub rlimit_files: Option<u64>,
    /// The master's limit of a core file's bytes, soft and hard (`rlimit_core`); `RLIM_INFINITY` is unlimited.
    pub rlimit_core: Option<u64>,
    /// How often the counts are told to systemd (`systemd_interval`).
    pub systemd_interval: Option<Duration>,
}

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorLog {
    /// Standard error.
    Stderr,
    /// Appended to a file, an absolute path.
    File(PathBuf),
    /// The system's log.
    Syslog,
}

/// The form of the log's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `php-fpm`: `[23-Nov-2026 08:15:10] NOTICE: text`
    PhpFpm,
    /// `json`: one object a line.
    Json,
}

/// A subject of the system's log: its number in RFC 3164, part 4.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(pub u8);

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
    /// The folder that its relative paths start at (`prefix`).
    pub prefix: Option<PathBuf>,
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
    /// Who may connect to a Unix socket besides its owner and group (`listen.acl_users`, `listen.acl_groups`).
    pub listen_acl: Option<Acl>,
    /// Who may connect over TCP (`listen.allowed_clients`); anybody if none.
    pub allowed_clients: Option<AllowedClients>,
    /// Whom its workers run as (`user`, `group`); the daemon's own user if none. Never root, and never none when the
    /// daemon is root, unless `-R` allows both.
    pub identity: Option<Identity>,
    /// The root folder of its workers (`chroot`), an absolute path.
    pub chroot: Option<PathBuf>,
    /// Working directory of its workers (`chdir`), inside of `chroot` if there is one.
    pub chdir: Option<PathBuf>,
    /// Nice value of its workers (`process.priority`).
    pub priority: Option<i32>,
    /// Whether its workers may dump core and be traced by their user (`process.dumpable`).
    pub dumpable: bool,
    /// Whether its workers, and what they start, can gain no privileges (`no_new_privs`).
    pub no_new_privs: bool,
    /// The AppArmor profile of its workers (`apparmor_hat`).
    pub apparmor_hat: Option<String>,
    /// Its workers' limit of open files, soft and hard (`rlimit_files`).
    pub rlimit_files: Option<u64>,
    /// Its workers' limit of a core file's bytes, soft and hard (`rlimit_core`); `RLIM_INFINITY` is unlimited.
    pub rlimit_core: Option<u64>,
    /// Environment variables of its workers (`env[K]`), each name once.
    pub env: Vec<(OsString, OsString)>,
    /// Whether its workers start from an empty environment (`clear_env`).
    pub clear_env: bool,
    /// How many workers it has (`pm` and the counts among `pm.*`).
    pub limits: Limits,
    /// How long a mold or a worker may take to get ready (`pm.start_timeout`).
    pub start_timeout: Duration,
    /// Connections that may wait while all workers are busy (`pm.max_queue`); more are answered with 503. No limit if none.
    pub max_queue: Option<u32>,
    /// Requests after which a worker is replaced (`pm.max_requests`); 0 is never.
    pub max_requests: u64,
    /// Bytes of memory to itself with which a worker is replaced (`pm.max_memory`); 0 is never.
    pub max_memory: u64,
    /// How long a worker lives at most before it is replaced (`pm.max_lifetime`); for ever if none.
    pub max_lifetime: Option<Duration>,
    /// The longest a request may take (`request_terminate_timeout`); no limit if none.
    pub request_terminate_timeout: Option<Duration>,
    /// Whether that counts on after the answer has been sent (`request_terminate_timeout_track_finished`).
    pub track_finished: bool,
    /// How long a request may take before its stack is logged (`request_slowlog_timeout`); then there is a `slowlog`.
    pub request_slowlog_timeout: Option<Duration>,
    /// Most frames of such a stack (`request_slowlog_trace_depth`).
    pub request_slowlog_trace_depth: u32,
    /// The file that the stacks of slow requests are appended to (`slowlog`).
    pub slowlog: Option<PathBuf>,
    /// The path that is answered with the pool's status (`pm.status_path`); `/` on `status_listen` if none.
    pub status_path: Option<String>,
    /// Where the status is answered also when all workers are busy (`pm.status_listen`).
    pub status_listen: Option<Listen>,
    /// The path that is answered with `ping_response` (`ping.path`).
    pub ping_path: Option<String>,
    /// That answer's body (`ping.response`).
    pub ping_response: String,
    /// The file with a line for each request (`access.log`).
    pub access_log: Option<PathBuf>,
    /// The form of its lines (`access.format`).
    pub access_format: String,
    /// Paths that get no line (`access.suppress_path[]`).
    pub access_suppress: Vec<String>,
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

/// Users and groups that may connect to a socket, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    /// The users.
    pub users: Vec<Uid>,
    /// The groups.
    pub groups: Vec<Gid>,
}

/// A user; not root, unless `-R` allows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name, or its number if the user database does not have it.
    pub user: String,
    /// Its number.
    pub uid: Uid,
    /// The group's number.
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
    /// A program in any language (`exec`).
    Exec(Exec),
}

/// A program in any language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Its file, an absolute path inside of `chroot` if there is one: executable. For [`Protocol::Cgi`] it may be a
    /// folder of such files, and ends with `/` then.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// When it is ready for requests (`exec.ready`).
    pub ready: Ready,
    /// What it speaks (`exec.protocol`).
    pub protocol: Protocol,
    /// Whether it is started once and forked (`exec.mold`).
    pub mold: bool,
}

/// What a program speaks (`exec.protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `fastcgi`: it stays, and takes one request after the other.
    Fastcgi,
    /// `cgi`: it is started for each request.
    Cgi,
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
