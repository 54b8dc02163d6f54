//! What concerns the daemon as a whole, compared with the command line and with the pools.

use std::path::{Path, PathBuf};

use preforkd_plan::scale::Mode;

use super::check::{optional, some_time};
use super::listen::MAX_UNIX_PATH;
use super::problem::Problem;
use super::raw::{RawGlobal, Setting};
use super::{ErrorLog, Global, Pool, Surroundings};

/// Where a relative `pid` and `error_log` start.
const STATE: &str = "/var";
/// The log of a daemon in the background that has no `error_log`.
const LOG: &str = "log/preforkd.log";

/// What concerns the daemon as a whole, if nothing is wrong with it.
pub fn global(
    raw: &RawGlobal,
    surroundings: &Surroundings<'_>,
    notices: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Option<Global> {
    let base = surroundings.prefix.as_deref().unwrap_or(Path::new(STATE));
    let daemonize = surroundings.daemonize.or(raw.daemonize.value().copied())?;
    let pid = raw.pid.value().map(|path| base.join(path));
    if let (Some(pid), Some(other)) = (&pid, &surroundings.pid)
        && pid != other
    {
        notices.push(format!(
            "pid = {} is used, and not {} of the command line",
            pid.display(),
            other.display()
        ));
    }
    let error_log = match &raw.error_log {
        Setting::Given(_) if surroundings.force_stderr && !daemonize => ErrorLog::Stderr,
        Setting::Given(given) => match &given.value {
            ErrorLog::File(path) => ErrorLog::File(base.join(path)),
            other => other.clone(),
        },
        Setting::Unset if daemonize => ErrorLog::File(base.join(LOG)),
        Setting::Unset => ErrorLog::Stderr,
        Setting::Wrong => return None,
    };
    warn_of_log(&error_log, warnings);
    let threshold = *raw.emergency_restart_threshold.value()?;
    let interval = *raw.emergency_restart_interval.value()?;
    if (threshold == 0) != interval.is_zero() {
        notices.push(
            "emergency_restart_threshold and emergency_restart_interval have an effect together only"
                .to_owned(),
        );
    }
    Some(Global {
        pid: pid.or_else(|| surroundings.pid.clone()),
        control: control(raw, surroundings)?,
        error_log,
        syslog_ident: raw.syslog_ident.value()?.clone(),
        syslog_facility: *raw.syslog_facility.value()?,
        log_level: *raw.log_level.value()?,
        log_format: *raw.log_format.value()?,
        log_limit: *raw.log_limit.value()?,
        log_buffering: *raw.log_buffering.value()?,
        emergency_restart_threshold: threshold,
        emergency_restart_interval: interval,
        process_control_timeout: *raw.process_control_timeout.value()?,
        process_max: Some(*raw.process_max.value()?).filter(|max| *max > 0),
        process_priority: optional(&raw.process_priority)?,
        daemonize,
        rlimit_files: *raw.rlimit_files.value()?,
        rlimit_core: *raw.rlimit_core.value()?,
        systemd_interval: some_time(&raw.systemd_interval)?,
    })
}

/// Where the master takes commands, if anywhere; none if what says so is wrong.
pub fn control(raw: &RawGlobal, surroundings: &Surroundings<'_>) -> Option<Option<PathBuf>> {
    let base = surroundings.prefix.as_deref().unwrap_or(Path::new(STATE));
    let control = optional(&raw.control)?.map(|path| base.join(path));
    let pid = optional(&raw.pid)?.map(|path| base.join(path));
    let pid = pid.or_else(|| surroundings.pid.clone());
    let beside = pid.map(|pid| match pid.extension() {
        Some(taken) if taken == "control" => pid.with_extension("control.sock"),
        _ => pid.with_extension("control"),
    });
    Some(control.or(beside.filter(|path| path.as_os_str().len() <= MAX_UNIX_PATH)))
}

/// Warns of an `error_log` that cannot be made. It is no mistake: a daemon that serves goes on without.
fn warn_of_log(error_log: &ErrorLog, warnings: &mut Vec<String>) {
    if let ErrorLog::File(path) = error_log
        && path.parent().is_some_and(|folder| !folder.is_dir())
    {
        warnings.push(format!(
            "error_log = {}: there is no such folder; without it the daemon does not start",
            path.display()
        ));
    }
}

/// Reports a `process.max` that the pools exceed at their start.
pub fn enough_for_all(
    raw: &RawGlobal,
    global: &Global,
    pools: &[Pool],
    problems: &mut Vec<Problem>,
) {
    let first = |pool: &Pool| match pool.limits.mode {
        Mode::Static => u64::from(pool.limits.max_children),
        Mode::Dynamic { start, .. } => u64::from(start),
        Mode::Ondemand { .. } => 0,
    };
    let needed: u64 = pools.iter().map(first).sum();
    let (Some(max), Some(entry)) = (global.process_max, raw.process_max.written()) else {
        return;
    };
    if let (true, Some(origin)) = (needed > u64::from(max), &entry.origin) {
        problems.push(Problem {
            origin: origin.clone(),
            alert: false,
            section: Some("global".to_owned()),
            subject: Some(entry.subject()),
            rule: format!(
                "must be at least {needed}, the workers that the pools have at their start"
            ),
        });
    }
}
