//! What is written, compared with itself and with the system, into what cannot be wrong.
//!
//! Each check reports what it finds and goes on. A check that cannot be made because of an earlier mistake is left out,
//! so that each mistake is reported once. What concerns the daemon as a whole is in [`super::global`],
//! what a pool's workers run in [`super::application`], how many there are in [`super::limits`], how they are confined in
//! [`super::confinement`], and what is told about requests in [`super::requests`].

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Gid;
use preforkd_sys::channel::MAX_MESSAGE;

use super::global::{enough_for_all, global};
use super::identity::{self, Account};
use super::listen::{self, Address, MAX_UNIX_PATH};
use super::names::Names;
use super::problem::{Origin, Problem, Problems, Stage};
use super::raw::{Entry, Given, Raw, RawPool, Section, Setting};
use super::{Config, Listen, Pool, Surroundings};
use crate::log::reason;

/// Bytes of all that a mold is told of its application and of the pool's own pages and logs. One message carries it, with
/// some room for the rest.
const MAX_TOLD: usize = MAX_MESSAGE - 4 * 1024;

/// Bytes of an environment variable, its name included: the kernel takes up to 128 KiB (`MAX_ARG_STRLEN` of execve(2)).
const MAX_VARIABLE: usize = 120 * 1024;

/// Makes the configuration, if nothing is wrong with it. `problems`, `notices` and `warnings` are those of
/// reading it.
pub fn check(
    raw: &Raw,
    file: &Origin,
    surroundings: &Surroundings<'_>,
    names: &Names,
    mut problems: Vec<Problem>,
    mut notices: Vec<String>,
    mut warnings: Vec<String>,
) -> Result<Config, Problems> {
    let stage = if problems.is_empty() {
        Stage::Check
    } else {
        Stage::Read
    };
    // A file that could not be read may have had the pools.
    if raw.pools.is_empty() && problems.is_empty() {
        problems.push(Problem {
            origin: file.clone(),
            alert: false,
            section: None,
            subject: None,
            rule: "No pool defined. at least one pool section must be specified in config file: add a section such as [site], with listen, pm, pm.max_children, and wsgi or app"
                .to_owned(),
        });
    }
    let global = global(&raw.global, surroundings, &mut notices, &mut warnings);
    let mut pools = Vec::new();
    let mut listening = Vec::new();
    for section in &raw.pools {
        let mut checker = PoolChecker {
            section,
            raw: &section.pool,
            surroundings,
            names,
            problems: &mut problems,
            notices: &mut notices,
            warnings: &mut warnings,
        };
        pools.push(checker.pool(&mut listening));
    }
    match (global, pools.into_iter().collect::<Option<Vec<_>>>()) {
        (Some(global), Some(pools)) => {
            enough_for_all(&raw.global, &global, &pools, &mut problems);
            if problems.is_empty() {
                return Ok(Config {
                    global,
                    pools,
                    notices,
                    warnings,
                });
            }
            Err(Problems::new(problems, stage))
        }
        _ => Err(Problems::new(problems, stage)),
    }
}

/// What is set, if it is; none if it is wrong.
pub fn optional<T: Clone>(setting: &Setting<T>) -> Option<Option<T>> {
    match setting {
        Setting::Unset => Some(None),
        Setting::Given(given) => Some(Some(given.value.clone())),
        Setting::Wrong => None,
    }
}

/// A time of which 0 means none.
pub fn some_time(setting: &Setting<Duration>) -> Option<Option<Duration>> {
    Some(Some(*setting.value()?).filter(|time| !time.is_zero()))
}

/// An address that a pool has.
pub struct Listening<'a> {
    /// The directive.
    name: &'static str,
    pool: &'a str,
    listen: Listen,
    /// Where it is written.
    origin: Origin,
}

/// The checks of one pool.
pub struct PoolChecker<'a, 'r> {
    /// The pool's section.
    pub section: &'a Section,
    /// What is written in it.
    pub raw: &'a RawPool,
    /// What it is read against.
    pub surroundings: &'a Surroundings<'a>,
    names: &'a Names,
    /// What has been reported.
    pub problems: &'r mut Vec<Problem>,
    notices: &'r mut Vec<String>,
    warnings: &'r mut Vec<String>,
}

impl<'a> PoolChecker<'a, '_> {
    /// The pool, if nothing is wrong with it. `listening` has the addresses of the pools before.
    fn pool(&mut self, listening: &mut Vec<Listening<'a>>) -> Option<Pool> {
        let raw = self.raw;
        if let Some((entry, prefix)) = self.prefix() {
            if prefix.is_absolute() {
                self.folder(&entry, &prefix);
            } else {
                let rule = "must be an absolute path (one that begins with /)";
                self.wrong(&entry, rule.to_owned());
            }
        }
        let listen = self.listen(listening);
        let (listen_owner, listen_group) = self.socket_owner();
        let listen_acl = self.acl();
        let allowed_clients = self.allowed_clients();
        let identity = self.identity();
        let chroot = self.chroot();
        let chdir = self.chdir(chroot.as_deref());
        let priority = self.priority();
        let limits = self.limits();
        self.measurable(chroot.as_deref());
        self.reachable();
        let status_listen = self.status_listen(listening);
        self.request_paths();
        let access_log = self.log_file(&raw.access_log);
        let slowlog = self.slowlog();
        let application = self.application(chroot.as_deref());
        self.told_to_mold();
        let env = self.env();
        let on_unix = [&listen, &status_listen]
            .iter()
            .any(|listen| matches!(listen, Some(Listen::Unix(_))));
        Some(Pool {
            name: self.section.name.clone(),
            prefix: self.prefix().map(|(_, prefix)| prefix),
            listen: listen?,
            backlog: *raw.backlog.value()?,
            listen_owner: listen_owner.filter(|_| on_unix && listen_acl.is_none()),
            listen_group: listen_group.filter(|_| on_unix && listen_acl.is_none()),
            listen_mode: *raw.listen_mode.value()?,
            listen_acl: listen_acl.filter(|_| on_unix),
            allowed_clients,
            identity,
            chroot,
            chdir,
            priority,
            dumpable: *raw.process_dumpable.value()?,
            no_new_privs: *raw.no_new_privs.value()?,
            apparmor_hat: optional(&raw.apparmor_hat)?,
            rlimit_files: *raw.rlimit_files.value()?,
            rlimit_core: *raw.rlimit_core.value()?,
            env,
            clear_env: *raw.clear_env.value()?,
            limits: limits?,
            start_timeout: *raw.start_timeout.value()?,
            max_queue: optional(&raw.max_queue)?,
            max_requests: *raw.max_requests.value()?,
            max_memory: *raw.max_memory.value()?,
            max_lifetime: some_time(&raw.max_lifetime)?,
            request_terminate_timeout: some_time(&raw.request_terminate_timeout)?,
            track_finished: *raw.request_terminate_timeout_track_finished.value()?,
            request_slowlog_timeout: some_time(&raw.request_slowlog_timeout)?,
            request_slowlog_trace_depth: *raw.request_slowlog_trace_depth.value()?,
            slowlog,
            status_path: optional(&raw.status_path)?,
            status_listen,
            ping_path: optional(&raw.ping_path)?,
            ping_response: raw.ping_response.value()?.clone(),
            access_log,
            access_format: raw.access_format.value()?.clone(),
            access_suppress: raw
                .access_suppress_path
                .iter()
                .map(|path| path.value.clone())
                .collect(),
            catch_workers_output: *raw.catch_workers_output.value()?,
            decorate_workers_output: *raw.decorate_workers_output.value()?,
            application: application?,
        })
    }

    /// Reports the rule that an entry breaks.
    pub fn wrong(&mut self, entry: &Entry, rule: String) {
        self.problems.push(Problem {
            origin: entry
                .origin
                .clone()
                .unwrap_or_else(|| self.section.origin.clone()),
            alert: false,
            section: Some(self.section.name.clone()),
            subject: Some(entry.subject()),
            rule,
        });
    }

    /// Reports the rule that an entry breaks without which there is no pool.
    pub fn alert(&mut self, entry: &Entry, rule: String) {
        self.wrong(entry, rule);
        if let Some(problem) = self.problems.last_mut() {
            problem.alert = true;
        }
    }

    /// Reports what the section does not have.
    pub fn missing(&mut self, rule: String) {
        self.problems.push(Problem {
            origin: self.section.origin.clone(),
            alert: true,
            section: Some(self.section.name.clone()),
            subject: None,
            rule,
        });
    }

    /// Tells what is no mistake.
    pub fn notice(&mut self, text: &str) {
        self.notices
            .push(format!("[pool {}] {text}", self.section.name));
    }

    /// Tells what is probably not what was meant.
    pub fn warning(&mut self, text: &str) {
        self.warnings
            .push(format!("[pool {}] {text}", self.section.name));
    }

    /// The folder of `prefix`, with its entry.
    fn prefix(&self) -> Option<(Entry, PathBuf)> {
        let given = self.raw.prefix.given()?;
        let path = match &self.surroundings.prefix {
            Some(prefix) => prefix.join(&given.value),
            None => given.value.clone(),
        };
        Some((given.entry.clone(), path))
    }

    /// The path of an entry, made absolute by the pool's `prefix`, or by that of the command line.
    pub fn absolute(&mut self, entry: &Entry, path: &Path) -> Option<PathBuf> {
        if path.is_absolute() {
            return Some(path.to_owned());
        }
        let prefix = match (&self.raw.prefix, &self.surroundings.prefix) {
            (Setting::Given(_), _) => self.prefix().map(|(_, prefix)| prefix)?,
            (Setting::Unset, Some(prefix)) => prefix.clone(),
            (Setting::Unset, None) => {
                let rule = "must be an absolute path, or the pool needs a prefix = /FOLDER";
                self.wrong(entry, rule.to_owned());
                return None;
            }
            (Setting::Wrong, _) => return None,
        };
        // Another prefix has been reported.
        prefix.is_absolute().then(|| prefix.join(path))
    }

    /// Reports a path that is no existing folder.
    pub fn folder(&mut self, entry: &Entry, path: &Path) {
        let why = match path.metadata() {
            Ok(metadata) if metadata.is_dir() => return,
            Ok(_) => "it is something else".to_owned(),
            Err(error) => reason(&error),
        };
        let name = match entry.name {
            "prefix" => "prefix".to_owned(),
            other => format!("{other} path"),
        };
        let path = path.display();
        let rule = format!("the {name} '{path}' does not exist or is not a directory: {why}");
        self.wrong(entry, rule);
    }

    fn listen(&mut self, listening: &mut Vec<Listening<'a>>) -> Option<Listen> {
        let given = match &self.raw.listen {
            Setting::Given(given) => given,
            Setting::Wrong => return None,
            Setting::Unset => {
                self.missing(
                    "no listen address have been defined! Add listen = the path of a Unix socket, host:port, or a port"
                        .to_owned(),
                );
                return None;
            }
        };
        self.address(given, listening)
    }

    /// The address of `listen` or `pm.status_listen`, which no other may have.
    pub fn address(
        &mut self,
        given: &'a Given<Address>,
        listening: &mut Vec<Listening<'a>>,
    ) -> Option<Listen> {
        let entry = &given.entry;
        let listen = match &given.value {
            Address::Path(path) => Listen::Unix(self.socket_path(entry, path)?),
            Address::Port(port) => Listen::Port(*port),
            Address::Host { host, port } => match listen::resolve(host, *port, self.names) {
                Ok((address, count)) => {
                    if count > 1 {
                        self.notice(&format!(
                            "{host} has {count} addresses; only the first, {}, is used",
                            address.ip()
                        ));
                    }
                    Listen::Tcp(address)
                }
                Err(rule) => {
                    self.wrong(entry, rule);
                    return None;
                }
            },
        };
        let origin = entry.origin.as_ref().unwrap_or(&self.section.origin);
        let taken = listening
            .iter()
            .find(|other| listen::overlap(&other.listen, &listen));
        if let Some(other) = taken {
            let rule = format!(
                "unable to set listen address as it's already used in another pool '{}' ({} = {}, {}): choose another",
                other.pool, other.name, other.listen, other.origin
            );
            self.wrong(entry, rule);
            return None;
        }
        listening.push(Listening {
            name: entry.name,
            pool: &self.section.name,
            listen: listen.clone(),
            origin: origin.clone(),
        });
        Some(listen)
    }

    fn socket_path(&mut self, entry: &Entry, path: &Path) -> Option<PathBuf> {
        let path = self.absolute(entry, path)?;
        let length = path.as_os_str().len();
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            self.wrong(
                entry,
                "must be the path of a socket, not a folder".to_owned(),
            );
        } else if length > MAX_UNIX_PATH {
            let rule = format!(
                "must have at most {MAX_UNIX_PATH} bytes, which is the system's limit; it has {length}"
            );
            self.wrong(entry, rule);
        } else {
            return Some(path);
        }
        None
    }

    /// The user of an entry.
    pub fn account(&mut self, entry: &Entry, user: &str) -> Option<Account> {
        identity::account(user, self.names)
            .map_err(|rule| self.wrong(entry, rule))
            .ok()
    }

    /// The group of an entry.
    pub fn group(&mut self, entry: &Entry, group: &str) -> Option<Gid> {
        identity::group(group, self.names)
            .map_err(|rule| self.wrong(entry, rule))
            .ok()
    }

    /// Tells that a directive needs root.
    pub fn ignored(&mut self, name: &str) {
        self.notice(&format!(
            "'{name}' directive is ignored when FPM is not running as root"
        ));
    }

    /// Reports the entry with which there is more to tell a mold than goes into one message.
    fn told_to_mold(&mut self) {
        let raw = self.raw;
        let prefix = raw
            .prefix
            .value()
            .map_or(0, |prefix| prefix.as_os_str().len() + 1);
        let settings = [
            raw.wsgi.written(),
            raw.mount.written(),
            raw.status_path.written(),
            raw.ping_path.written(),
            raw.ping_response.written(),
            raw.access_format.written(),
        ];
        let urls = raw.warmup.iter().chain(&raw.access_suppress_path);
        let urls = urls.map(|url| &url.entry);
        let plain = settings.into_iter().flatten().chain(urls);
        let paths = raw.pythonpath.iter().map(|path| (&path.entry, prefix));
        let mut told = 0;
        for (entry, more) in plain.map(|entry| (entry, 0)).chain(paths) {
            // Each has its length before it.
            told += entry.text.len() + more + 8;
            if told > MAX_TOLD {
                let rule = format!(
                    "makes what the mold is told longer than {MAX_TOLD} bytes: have fewer, or shorter, lines of wsgi.warmup, pythonpath, access.suppress_path, access.format and ping.response"
                );
                return self.wrong(entry, rule);
            }
        }
    }

    fn env(&mut self) -> Vec<(OsString, OsString)> {
        let mut env: Vec<(OsString, OsString)> = Vec::new();
        let mut places = HashMap::new();
        for variable in &self.raw.env {
            let name = variable.entry.key.as_deref().unwrap_or_default();
            let value = match variable.value.strip_prefix('$') {
                Some(other) => (self.surroundings.variable)(other).unwrap_or_default(),
                None => OsString::from(&variable.value),
            };
            if name.len() + value.len() > MAX_VARIABLE {
                let rule = format!(
                    "must have at most {MAX_VARIABLE} bytes with its name, since the system takes no more; it has {}",
                    name.len() + value.len()
                );
                self.wrong(&variable.entry, rule);
            }
            let place = *places.entry(name).or_insert(env.len());
            match env.get_mut(place) {
                Some((_, earlier)) => *earlier = value,
                None => env.push((name.into(), value)),
            }
        }
        env
    }
}
