//! The log: php-fpm's lines, one write each, never a wait.
//!
//! `[23-Nov-2026 08:15:10] NOTICE: text`, in local time; at `log_level = debug` with microseconds. Level `info` of
//! tracing is php-fpm's NOTICE, and an event of target [`ALERT`] is its ALERT.
//!
//! The master must not wait for whoever reads its standard error: a line that a pipe has no room for is dropped and
//! counted, and the count is told in the next line that gets through. A full disk costs the line, nothing else.

use crate::config::{ErrorLog, Global, LogLevel};
use chrono::Local;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

/// Target of events that are logged as ALERT.
pub const ALERT: &str = "alert";

/// Where lines go. Cheap to clone; all clones are one log.
#[derive(Clone, Debug)]
pub struct Log(Arc<Mutex<Sink>>);

#[derive(Debug)]
struct Sink {
    level: LogLevel,
    file: Option<(PathBuf, File)>,
    lost: u64,
}

impl Log {
    /// A log on standard error at level `notice`, installed as the destination of all of this process's events.
    ///
    /// # Panics
    /// When it is called twice.
    pub fn install() -> Self {
        let log = Self(Arc::new(Mutex::new(Sink {
            level: LogLevel::Notice,
            file: None,
            lost: 0,
        })));
        let subscriber = Registry::default().with(Lines(log.clone()));
        tracing::subscriber::set_global_default(subscriber).expect("the log is installed once");
        log
    }

    /// Sets the least level that is logged, and the file (`error_log`); without a file it stays on standard error.
    ///
    /// # Errors
    /// Why the file could not be opened.
    pub fn configure(&self, level: LogLevel, file: Option<&Path>) -> io::Result<()> {
        let file = match file {
            Some(path) => Some((path.to_path_buf(), open(path)?)),
            None => None,
        };
        let mut sink = self.lock();
        sink.level = level;
        sink.file = file;
        Ok(())
    }

    /// Opens the file anew, after it was renamed by log rotation. Returns whether there is a file.
    ///
    /// # Errors
    /// Why it could not be opened; the old one is written to further on.
    pub fn reopen(&self) -> io::Result<bool> {
        let mut sink = self.lock();
        if let Some((path, file)) = &mut sink.file {
            *file = open(path)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sink> {
        // There is one thread, and the code under the lock does not panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file that a configuration wants. A person at a terminal sees the log there instead, as with php-fpm.
#[must_use]
pub fn file(global: &Global) -> Option<&Path> {
    match &global.error_log {
        ErrorLog::File(path) if !io::stderr().is_terminal() => Some(path),
        ErrorLog::File(_) | ErrorLog::Syslog | ErrorLog::Stderr => None,
    }
}

/// Appended to, and readable by its owner alone: it may hold what applications print.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

struct Lines(Log);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR if metadata.target() == ALERT => LogLevel::Alert,
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warning,
            Level::INFO => LogLevel::Notice,
            Level::DEBUG | Level::TRACE => LogLevel::Debug,
        };
        let mut sink = self.0.lock();
        if level < sink.level {
            return;
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        sink.line(level, &message.0);
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            // Writing to a String cannot fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}

impl Sink {
    fn line(&mut self, level: LogLevel, message: &str) {
        let now = Local::now();
        let micros = if self.level == LogLevel::Debug {
            now.format("%.6f").to_string()
        } else {
            String::new()
        };
        let stamp = format!("[{}{micros}]", now.format("%d-%b-%Y %H:%M:%S"));
        let name = match level {
            LogLevel::Debug => "DEBUG",
            LogLevel::Notice => "NOTICE",
            LogLevel::Warning => "WARNING",
            LogLevel::Error => "ERROR",
            LogLevel::Alert => "ALERT",
        };
        if self.lost > 0 {
            let told = self.put(&format!(
                "{stamp} WARNING: {} lines of the log were lost\n",
                self.lost
            ));
            if told {
                self.lost = 0;
            }
        }
        if !self.put(&format!("{stamp} {name}: {message}\n")) {
            self.lost += 1;
        }
    }

    /// Whether the line could be written, all of it.
    fn put(&self, line: &str) -> bool {
        let stderr = io::stderr();
        let to = self
            .file
            .as_ref()
            .map_or_else(|| stderr.as_fd(), |(_, file)| file.as_fd());
        has_room(to) && write(to, line.as_bytes()) == Ok(line.len())
    }
}

/// Whether a write of a line would not wait: a pipe that polls writable takes at least a page.
fn has_room(to: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(to, PollFlags::POLLOUT)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
