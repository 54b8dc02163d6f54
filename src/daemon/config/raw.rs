//! What is written in the files: the value of each directive, parsed by itself, with its place.
//!
//! Nothing here has been compared with anything else; that is [`super::check`]'s part. What a file does not set has the
//! table's default, written by the table through the same parser.

use std::path::PathBuf;
use std::time::Duration;

use preforkd_worker::allowed::AllowedClients;
use preforkd_worker::relay::Ready;

use super::listen::Address;
use super::problem::Origin;
use super::{ErrorLog, Facility, LogFormat, LogLevel, Mount, Protocol};

/// What is written.
#[derive(Debug, Default)]
pub struct Raw {
    /// `[global]`, and what comes before any section.
    pub global: RawGlobal,
    /// The other sections, in the order of their first mention.
    pub pools: Vec<Section>,
}

/// A section other than `[global]`.
#[derive(Debug)]
pub struct Section {
    /// The pool's name.
    pub name: String,
    /// Where it is mentioned first.
    pub origin: Origin,
    /// What is written in it.
    pub pool: RawPool,
}

/// A directive as written.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where; none for a default.
    pub origin: Option<Origin>,
    /// The directive's name, as the table spells it.
    pub name: &'static str,
    /// What is between the brackets after the name.
    pub key: Option<String>,
    /// The value, with `$pool` expanded.
    pub text: String,
    /// Whether there is nothing to the right of the `=`, not even something that has come to nothing. As in php-fpm,
    /// a directive without a default is unset then: its stock file has `chroot =` and the like.
    pub blank: bool,
}

impl Entry {
    /// Passes if there is a value. Only `name[KEY]` may go without one.
    ///
    /// # Errors
    /// The rule, whatever kind of value the directive takes: what a number or a path should look like is beside the
    /// point then.
    pub fn has_value(&self) -> Result<(), String> {
        let keyed = self.key.as_ref().is_some_and(|key| !key.is_empty());
        if self.text.is_empty() && !keyed {
            return Err("has no value; leave the line out for the default".to_owned());
        }
        Ok(())
    }

    /// `name = value`, as it would be written.
    pub fn subject(&self) -> String {
        let value = match self.origin {
            Some(_) => self.text.clone(),
            None => format!("{} (the default)", self.text),
        };
        match &self.key {
            Some(key) => format!("{}[{key}] = {value}", self.name),
            None => format!("{} = {value}", self.name),
        }
    }
}

/// A value and what it was read from.
#[derive(Clone, Debug)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// What it was read from.
    pub entry: Entry,
}

/// A directive that has one value; of several entries the last counts.
#[derive(Clone, Debug, Default)]
pub enum Setting<T> {
    /// Not written, and without a default.
    #[default]
    Unset,
    /// Written, but no value of its kind; already reported.
    Wrong,
    /// Written, or the default.
    Given(Given<T>),
}

impl<T> Setting<T> {
    /// Takes what an entry was parsed to, or passes on what is wrong with it.
    pub fn set(&mut self, entry: &Entry, parsed: Result<T, String>) -> Result<(), String> {
        if entry.blank {
            *self = Setting::Unset;
            return Ok(());
        }
        match entry.has_value().and(parsed) {
            Ok(value) => {
                *self = Setting::Given(Given {
                    value,
                    entry: entry.clone(),
                });
                Ok(())
            }
            Err(rule) => {
                *self = Setting::Wrong;
                Err(rule)
            }
        }
    }

    /// The value with its entry, if there is a right one.
    pub fn given(&self) -> Option<&Given<T>> {
        match self {
            Setting::Given(given) => Some(given),
            Setting::Unset | Setting::Wrong => None,
        }
    }

    /// The value, if there is a right one.
    pub fn value(&self) -> Option<&T> {
        self.given().map(|given| &given.value)
    }

    /// The entry in a file; none for a default.
    pub fn written(&self) -> Option<&Entry> {
        self.given()
            .map(|given| &given.entry)
            .filter(|entry| entry.origin.is_some())
    }
}

/// A directive that may be repeated, `name[]` or `name[key]`, in the order of the entries.
pub type List<T> = Vec<Given<T>>;

/// Takes what an entry was parsed to as one more element, or passes on what is wrong with it.
pub fn push<T>(list: &mut List<T>, entry: &Entry, parsed: Result<T, String>) -> Result<(), String> {
    entry.has_value()?;
    list.push(Given {
        value: parsed?,
        entry: entry.clone(),
    });
    Ok(())
}

/// `[global]` as written. The fields are the directives of these names.
#[derive(Debug, Default)]
pub struct RawGlobal {
    pub pid: Setting<PathBuf>,
    pub control: Setting<PathBuf>,
    pub error_log: Setting<ErrorLog>,
    pub syslog_ident: Setting<String>,
    pub syslog_facility: Setting<Facility>,
    pub log_level: Setting<LogLevel>,
    pub log_format: Setting<LogFormat>,
    pub log_limit: Setting<usize>,
    pub log_buffering: Setting<bool>,
    pub emergency_restart_threshold: Setting<u32>,
    pub emergency_restart_interval: Setting<Duration>,
    pub process_control_timeout: Setting<Duration>,
    pub process_max: Setting<u32>,
    pub process_priority: Setting<i32>,
    pub daemonize: Setting<bool>,
    pub rlimit_files: Setting<Option<u64>>,
    pub rlimit_core: Setting<Option<u64>>,
    pub systemd_interval: Setting<Duration>,
}

/// `pm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// `static`
    Static,
    /// `dynamic`
    Dynamic,
    /// `ondemand`
    Ondemand,
}

/// `wsgi`: a module and the name of the application in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The module, dotted.
    pub module: String,
    /// The application's name in it.
    pub callable: String,
}

/// `exec`: a program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program's file.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// `app`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuiltIn {
    /// `hello`
    Hello,
}

/// A pool's section as written. The fields are the directives of these names.
#[derive(Debug, Default)]
pub struct RawPool {
    pub prefix: Setting<PathBuf>,
    pub listen: Setting<Address>,
    pub backlog: Setting<Option<u32>>,
    pub listen_owner: Setting<String>,
    pub listen_group: Setting<String>,
    pub listen_mode: Setting<u32>,
    pub listen_acl_users: Setting<Vec<String>>,
    pub listen_acl_groups: Setting<Vec<String>>,
    pub allowed_clients: Setting<(AllowedClients, Vec<String>)>,
    pub user: Setting<String>,
    pub group: Setting<String>,
    pub chroot: Setting<PathBuf>,
    pub chdir: Setting<PathBuf>,
    pub process_priority: Setting<i32>,
    pub process_dumpable: Setting<bool>,
    pub no_new_privs: Setting<bool>,
    pub apparmor_hat: Setting<String>,
    pub rlimit_files: Setting<Option<u64>>,
    pub rlimit_core: Setting<Option<u64>>,
    pub env: List<String>,
    pub clear_env: Setting<bool>,
    pub pm: Setting<Manager>,
    pub max_children: Setting<u32>,
    pub start_servers: Setting<u32>,
    pub min_spare_servers: Setting<u32>,
    pub max_spare_servers: Setting<u32>,
    pub max_spawn_rate: Setting<u32>,
    pub process_idle_timeout: Setting<Duration>,
    pub start_timeout: Setting<Duration>,
    pub max_queue: Setting<u32>,
    pub max_requests: Setting<u64>,
    pub max_memory: Setting<u64>,
    pub max_lifetime: Setting<Duration>,
    pub request_terminate_timeout: Setting<Duration>,
    pub request_terminate_timeout_track_finished: Setting<bool>,
    pub request_slowlog_timeout: Setting<Duration>,
    pub request_slowlog_trace_depth: Setting<u32>,
    pub slowlog: Setting<PathBuf>,
    pub status_path: Setting<String>,
    pub status_listen: Setting<Address>,
    pub ping_path: Setting<String>,
    pub ping_response: Setting<String>,
    pub access_log: Setting<PathBuf>,
    pub access_format: Setting<String>,
    pub access_suppress_path: List<String>,
    pub catch_workers_output: Setting<bool>,
    pub decorate_workers_output: Setting<bool>,
    pub app: Setting<BuiltIn>,
    pub exec: Setting<Command>,
    pub exec_ready: Setting<Ready>,
    pub exec_protocol: Setting<Protocol>,
    pub exec_mold: Setting<bool>,
    pub wsgi: Setting<Target>,
    pub python: Setting<PathBuf>,
    pub pythonpath: List<PathBuf>,
    pub preload: Setting<bool>,
    pub warmup: List<String>,
    pub mount: Setting<Mount>,
}
