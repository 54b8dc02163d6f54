//! The log: php-fpm's lines, or JSON, or a message of the system's log; one write each, never a wait.
//!
//! Everything that is told is an event of `tracing`: level `info` is php-fpm's NOTICE, and an event of target [`ALERT`]
//! is its ALERT. What workers print comes by [`said`]. Both become a [`Record`], which the destination puts into its own
//! form.
//!
//! The master must not wait for whoever reads its log: what a pipe or a socket has no room for, or a disk, is lost and
//! counted, and the count is told in the next line that gets through.
//!
//! # Layout
//! * [`line`]: php-fpm's form
//! * [`json`]: one object a line
//! * [`stream`]: files, pipes and terminals
//! * [`syslog`] and [`journal`]: the system's log

use crate::config::{ErrorLog, Facility, Global, LogFormat, LogLevel};
use chrono::{DateTime, Local};
use nix::errno::Errno;
use nix::unistd::dup2_stderr;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

mod journal;
mod json;
mod line;
mod stream;
mod syslog;

use journal::Journal;
use stream::Stream;
pub use stream::own_pipe;
use syslog::Syslog;

/// Target of events that are logged as ALERT.
pub const ALERT: &str = "alert";

/// The process's one log.
static LOG: OnceLock<Mutex<Sink>> = OnceLock::new();

/// A piece of what a worker or a mold printed: a line, without its end.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// The pool.
    pub pool: &'a str,
    /// `child` or `mold`.
    pub kind: &'a str,
    /// Its process id, or `-` if it is not known yet.
    pub pid: &'a str,
    /// `stdout` or `stderr`.
    pub stream: &'a str,
    /// The line.
    pub line: &'a [u8],
    /// Whether the process closed the stream in the middle of the line.
    pub closed: bool,
    /// Whether php-fpm's form says who it was (`decorate_workers_output`).
    pub decorated: bool,
}

/// What is told.
#[derive(Debug)]
enum Text<'a> {
    /// By the daemon.
    Message(&'a str),
    /// By a process of a pool.
    Said(&'a Said<'a>),
}

/// Where in the program something was told.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    module: &'a str,
    line: u32,
}

/// One entry of the log.
#[derive(Debug)]
struct Record<'a> {
    time: DateTime<Local>,
    level: LogLevel,
    /// Told at `log_level = debug` alone.
    place: Option<Place<'a>>,
    text: Text<'a>,
}

impl Record<'_> {
    /// The pool that it is about: that of what a worker printed, or of a message that begins with `[pool NAME] `.
    fn pool(&self) -> Option<&str> {
        match self.text {
            Text::Said(said) => Some(said.pool),
            Text::Message(message) => {
                let (pool, _) = message.strip_prefix("[pool ")?.split_once("] ")?;
                Some(pool)
            }
        }
    }
}

impl LogLevel {
    /// As php-fpm's lines have it.
    fn name(self) -> &'static str {
        match self {
            LogLevel::Debug => "DEBUG",
            LogLevel::Notice => "NOTICE",
            LogLevel::Warning => "WARNING",
            LogLevel::Error => "ERROR",
            LogLevel::Alert => "ALERT",
        }
    }

    /// The severity of RFC 3164, which the journal uses as well.
    fn severity(self) -> u8 {
        match self {
            LogLevel::Alert => 1,
            LogLevel::Error => 3,
            LogLevel::Warning => 4,
            LogLevel::Notice => 5,
            LogLevel::Debug => 7,
        }
    }
}

/// Where records go.
#[derive(Debug)]
enum Destination {
    Stderr(Stream),
    File { path: PathBuf, stream: Stream },
    Syslog(Syslog),
    Journal(Journal),
}

#[derive(Debug)]
struct Sink {
    /// The process that writes; a forked child has none of the descriptors.
    owner: u32,
    level: LogLevel,
    format: LogFormat,
    limit: usize,
    buffers: bool,
    /// The log stays on standard error.
    stderr: bool,
    /// The daemon is in the background: its standard error is the log's file, if there is one.
    background: bool,
    destination: Destination,
    /// Standard error, which hears of everything from notices on until the daemon is ready, as in php-fpm.
    early: Option<Stream>,
    lost: u64,
}

/// Makes the log: standard error, or the journal if that is what standard error is, at level `notice`.
///
/// # Panics
/// When it is called twice.
pub fn install() {
    let sink = Sink {
        owner: std::process::id(),
        level: LogLevel::Notice,
        format: LogFormat::PhpFpm,
        limit: DEFAULT_LIMIT,
        buffers: true,
        stderr: true,
        background: false,
        destination: standard_error(),
        early: None,
        lost: 0,
    };
    assert!(LOG.set(Mutex::new(sink)).is_ok(), "the log is made once");
    tracing::subscriber::set_global_default(Registry::default().with(Events))
        .expect("the log is made once");
}

/// Bytes of a line until the configuration is known.
const DEFAULT_LIMIT: usize = 1024;

/// Sets what is logged, in which form, and where, for the first time; until [`ready`] standard error goes on to hear of
/// everything. With `stderr` the log stays there whatever the configuration says, also a later one.
///
/// # Errors
/// The file could not be opened, in php-fpm's words.
pub fn configure(global: &Global, stderr: bool) -> Result<(), String> {
    if let Some(mut sink) = sink() {
        sink.stderr = stderr;
        sink.configure(global)?;
        sink.early = match sink.destination {
            Destination::Stderr(_) | Destination::Journal(_) => None,
            Destination::File { .. } | Destination::Syslog(_) => Some(Stream::stderr()),
        };
    }
    Ok(())
}

/// The daemon is in the background: from now on its standard error is the log's file, and `/dev/null` where the log is
/// none. What other code prints is found there, and `/proc/self/fd/2` is the log for whoever opens it.
///
/// # Errors
/// `/dev/null` cannot be opened.
pub fn enter_background() -> io::Result<()> {
    let Some(mut sink) = sink() else {
        return Ok(());
    };
    sink.background = true;
    // It would be told twice.
    sink.early = None;
    if let Destination::Stderr(stream) = &mut sink.destination {
        dup2_stderr(null()?)?;
        *stream = Stream::stderr();
    }
    sink.place_stderr()
}

/// Sets the same anew, from a configuration that has been reloaded.
///
/// # Errors
/// As [`configure`]; then the log stays as it is.
pub fn reconfigure(global: &Global) -> Result<(), String> {
    match sink() {
        Some(mut sink) => sink.configure(global),
        None => Ok(()),
    }
}

/// The daemon is ready, or about to be: standard error need not hear of everything any more.
pub fn ready() {
    if let Some(mut sink) = sink() {
        sink.early = None;
    }
}

/// This process is another one than that which made the log, and goes on in its place.
pub fn take_over() {
    if let Some(mut sink) = sink() {
        sink.owner = std::process::id();
    }
}

/// Opens the file anew, after it was renamed by log rotation. Returns whether there is a file.
///
/// # Errors
/// It could not be opened; the old one is written to further on.
pub fn reopen() -> Result<bool, String> {
    let Some(mut sink) = sink() else {
        return Ok(false);
    };
    if let Destination::File { path, stream } = &mut sink.destination {
        *stream = open(path)?;
        sink.place_stderr().map_err(|error| reason(&error))?;
        return Ok(true);
    }
    Ok(false)
}

/// Why a system call failed, in php-fpm's form: `No such file or directory (2)`.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("{} ({number})", Errno::from_raw(number).desc()),
        None => error.to_string(),
    }
}

/// Bytes of the longest line that is logged in one piece (`log_limit`).
pub fn limit() -> usize {
    sink().map_or(DEFAULT_LIMIT, |sink| sink.limit)
}

/// Whether what a process prints is put together to whole lines (`log_buffering`).
pub fn buffers() -> bool {
    sink().is_none_or(|sink| sink.buffers)
}

/// Logs what a process of a pool printed, as a warning, as in php-fpm.
pub fn said(said: &Said<'_>) {
    if let Some(mut sink) = sink() {
        sink.tell(LogLevel::Warning, None, Text::Said(said));
    }
}

/// Logs a panic of this thread at ALERT. Without this it is told to standard error alone, which a daemon does not have.
pub fn log_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // A panic of the log itself holds the lock.
        let Some(Ok(mut sink)) = LOG.get().map(Mutex::try_lock) else {
            return print(panic);
        };
        if !sink.background || !sink.is_owner() {
            print(panic);
        }
        sink.tell(LogLevel::Alert, None, Text::Message(&panic.to_string()));
    }));
}

fn sink() -> Option<MutexGuard<'static, Sink>> {
    // There is one thread, and the code under the lock does not panic.
    Some(LOG.get()?.lock().unwrap_or_else(PoisonError::into_inner))
}

fn null() -> io::Result<File> {
    File::options().write(true).open("/dev/null")
}

fn open(path: &Path) -> Result<Stream, String> {
    Stream::open(path).map_err(|error| {
        format!(
            "failed to open error_log ({}): {}",
            path.display(),
            reason(&error)
        )
    })
}

fn standard_error() -> Destination {
    match Journal::of_standard_error() {
        Some(journal) => Destination::Journal(journal),
        None => Destination::Stderr(Stream::stderr()),
    }
}

/// What `tracing` hands its events to.
struct Events;

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR if metadata.target() == ALERT => LogLevel::Alert,
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warning,
            Level::INFO => LogLevel::Notice,
            Level::DEBUG | Level::TRACE => LogLevel::Debug,
        };
        let Some(mut sink) = sink() else { return };
        if level < sink.level {
            return;
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let place = (sink.level == LogLevel::Debug).then(|| Place {
            module: metadata.module_path().unwrap_or("?"),
            line: metadata.line().unwrap_or(0),
        });
        sink.tell(level, place, Text::Message(&message.0));
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
    fn configure(&mut self, global: &Global) -> Result<(), String> {
        self.destination = match &global.error_log {
            ErrorLog::File(path) if !self.stderr => Destination::File {
                stream: open(path)?,
                path: path.clone(),
            },
            ErrorLog::Syslog if !self.stderr => {
                let Facility(facility) = global.syslog_facility;
                Destination::Syslog(Syslog::new(&global.syslog_ident, facility))
            }
            ErrorLog::Stderr | ErrorLog::File(_) | ErrorLog::Syslog => standard_error(),
        };
        self.level = global.log_level;
        self.format = global.log_format;
        self.limit = global.log_limit;
        self.buffers = global.log_buffering;
        self.place_stderr().map_err(|error| reason(&error))
    }

    /// Where standard error is the daemon's own to place, puts it on the log's file. A log that is standard error itself
    /// stays where it is.
    fn place_stderr(&self) -> io::Result<()> {
        if self.background {
            match &self.destination {
                Destination::File { stream, .. } => stream.become_stderr()?,
                Destination::Syslog(_) => dup2_stderr(null()?)?,
                Destination::Stderr(_) | Destination::Journal(_) => {}
            }
        }
        Ok(())
    }

    fn is_owner(&self) -> bool {
        std::process::id() == self.owner
    }

    fn tell(&mut self, level: LogLevel, place: Option<Place<'_>>, text: Text<'_>) {
        if level < self.level || !self.is_owner() {
            return;
        }
        let time = Local::now();
        if self.lost > 0 {
            let message = format!("{} lines of the log were lost", self.lost);
            let told = self.put(&Record {
                time,
                level: LogLevel::Warning,
                place: None,
                text: Text::Message(&message),
            });
            if told {
                self.lost = 0;
            }
        }
        let record = Record {
            time,
            level,
            place,
            text,
        };
        if let Some(early) = &mut self.early
            && level >= LogLevel::Notice
        {
            // Who does not read it can read the log.
            let _ = early.put(&line::lines(
                &record,
                self.limit,
                self.level == LogLevel::Debug,
            ));
        }
        if !self.put(&record) {
            self.lost += 1;
        }
    }

    /// Whether the record could be written, all of it.
    fn put(&mut self, record: &Record<'_>) -> bool {
        let micros = self.level == LogLevel::Debug;
        match &mut self.destination {
            Destination::Stderr(stream) | Destination::File { stream, .. } => {
                stream.put(&match self.format {
                    LogFormat::PhpFpm => line::lines(record, self.limit, micros),
                    LogFormat::Json => json::lines(record, self.limit),
                })
            }
            Destination::Syslog(syslog) => syslog.put(record, self.format, self.limit),
            Destination::Journal(journal) => journal.put(record, self.limit),
        }
    }
}

#[cfg(test)]
mod tests;
