//! The access log and the slow log of a pool: opened by the master, written to by the workers.

use crate::config::Pool;
use crate::log;
use nix::fcntl::OFlag;
use preforkd_sys::clock;
use preforkd_worker::log_file::LogFiles;
use preforkd_worker::message::{AccessSettings, LogSettings};
use preforkd_worker::zone::Zone;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens the logs of a pool.
///
/// # Errors
/// Which one could not be opened, and why.
pub fn open(pool: &Pool) -> io::Result<LogFiles> {
    let open = |path: Option<&Path>, what: &str| {
        path.map(|path| {
            open_one(path).map_err(|error| {
                let text = format!("failed to open {what} ({}): {error}", path.display());
                io::Error::new(error.kind(), text)
            })
        })
        .transpose()
    };
    Ok(LogFiles {
        access: open(pool.access_log.as_deref(), "access log")?,
        slow: open(pool.slowlog.as_deref(), "slowlog")?,
    })
}

/// What workers write there.
#[must_use]
pub fn settings(pool: &Pool) -> LogSettings {
    LogSettings {
        access: pool.access_log.is_some().then(|| AccessSettings {
            format: pool.access_format.clone(),
            suppress: pool.access_suppress.clone(),
        }),
        has_slow_log: pool.slowlog.is_some(),
        slow_timeout: pool.request_slowlog_timeout.unwrap_or_default(),
        trace_depth: pool.request_slowlog_trace_depth,
        zone: if pool.access_log.is_some() || pool.slowlog.is_some() {
            local_zone()
        } else {
            Zone::utc()
        },
    }
}

/// Appended to, and readable by its owner alone: it tells who asked for what. One of the master's own outputs is
/// duplicated unless it is a pipe, since a socket, such as the journal's, cannot be opened.
fn open_one(path: &Path) -> io::Result<OwnedFd> {
    match path.to_str() {
        Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") => output(io::stdout()),
        Some("/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2") => output(io::stderr()),
        _ => OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            // A pipe that nobody reads must not stop the master.
            .custom_flags(OFlag::O_NOCTTY.bits() | OFlag::O_NONBLOCK.bits())
            .open(path)
            .map(OwnedFd::from),
    }
}

fn output(shared: impl AsFd) -> io::Result<OwnedFd> {
    match log::own_pipe(&shared) {
        Some(pipe) => Ok(pipe.into()),
        None => shared.as_fd().try_clone_to_owned(),
    }
}

/// The local time zone, for those who cannot ask for it.
#[must_use]
pub fn local_zone() -> Zone {
    let now = clock::epoch() / 1_000_000_000;
    Zone::new(i64::try_from(now).unwrap_or(0), clock::local)
}
