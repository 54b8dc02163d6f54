//! Requests that take long: what the slow log and the master are told of them.

use crate::log_file::LogFile;
use crate::message::{FromWorker, Overdue, WorkerSettings};
use crate::status::summary::{Summary, visible};
use crate::trace::Tracer;
use crate::zone::Zone;
use preforkd_sys::channel::Channel;
use preforkd_sys::clock;
use preforkd_sys::scoreboard::Reporter;
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The slow log of a worker: its main thread opens it anew, its watchdog writes.
#[derive(Debug)]
pub struct SlowLog(Mutex<LogFile>);

impl SlowLog {
    /// To this file.
    #[must_use]
    pub fn new(file: OwnedFd) -> Self {
        Self(Mutex::new(LogFile::new(file)))
    }

    /// Goes on in another file.
    pub fn reopen(&self, file: OwnedFd) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = LogFile::new(file);
    }

    fn append(&self, text: &str) {
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.append(text.as_bytes());
    }
}

/// Tells of requests that take long.
pub struct Witness {
    pool: String,
    zone: Zone,
    depth: usize,
    log: Option<Arc<SlowLog>>,
    control: Arc<Channel>,
    reporter: Arc<Reporter>,
    tracer: Box<dyn Tracer>,
}

impl Witness {
    /// For a worker with these settings.
    #[must_use]
    pub fn new(
        settings: &WorkerSettings,
        log: Option<Arc<SlowLog>>,
        control: Arc<Channel>,
        reporter: Arc<Reporter>,
        tracer: Box<dyn Tracer>,
    ) -> Self {
        Self {
            pool: settings.pool.clone(),
            zone: settings.logs.zone.clone(),
            depth: usize::try_from(settings.logs.trace_depth).unwrap_or(usize::MAX),
            log,
            control,
            reporter,
            tracer,
        }
    }

    /// The request has been slow for `elapsed`. `goes_on` is asked after its stack was looked for: a stack of what
    /// came after it would mislead.
    pub fn slow(&mut self, elapsed: Duration, goes_on: impl Fn() -> bool) {
        let summary = self.summary();
        let mut trace = self.tracer.trace(self.depth);
        if !goes_on() {
            trace = vec!["(it ended before its stack was found)".to_owned()];
        }
        self.reporter.slow_request();
        self.write(&summary, &trace);
        self.tell(&FromWorker::Slow(overdue(summary, elapsed, String::new())));
    }

    /// The request has run for `elapsed`, which is too long: its process is about to end.
    pub fn timed_out(&mut self, elapsed: Duration) {
        let summary = self.summary();
        let trace = self.tracer.trace(self.depth);
        self.write(&summary, &trace);
        let told = if self.log.is_some() {
            String::new()
        } else {
            trace.join("\n")
        };
        self.tell(&FromWorker::TimedOut(overdue(summary, elapsed, told)));
        self.tracer.end();
    }

    fn summary(&self) -> Summary {
        let request = self.reporter.current_request();
        request.map_or_else(Summary::default, |request| Summary::parse(&request.text))
    }

    /// An entry in php-fpm's form, with the request line besides.
    fn write(&self, summary: &Summary, trace: &[String]) {
        let Some(log) = &self.log else { return };
        let now = Duration::from_nanos(clock::epoch());
        let mut text = format!(
            "\n[{}]  [pool {}] pid {}\nscript_filename = {}\nrequest = \"{} {}\"\n",
            stamp(now, &self.zone),
            self.pool,
            std::process::id(),
            visible(&summary.script),
            visible(&summary.method),
            visible(&summary.uri)
        );
        for line in trace {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", visible(line));
        }
        log.append(&text);
    }

    fn tell(&self, message: &FromWorker) {
        // The master may be gone, or not listen just now; the slow log has it.
        let _ = self.control.send(&message.encode(), &[]);
    }
}

fn overdue(summary: Summary, elapsed: Duration, trace: String) -> Overdue {
    Overdue {
        script: summary.script,
        method: summary.method,
        uri: summary.uri,
        elapsed,
        trace,
    }
}

/// php-fpm's form of a time in its logs.
fn stamp(since_epoch: Duration, zone: &Zone) -> String {
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(0);
    let (offset, _) = zone.at(seconds);
    let local = seconds.saturating_add(i64::from(offset));
    chrono::DateTime::from_timestamp(local, 0).map_or_else(
        || "-".to_owned(),
        |local| local.format("%d-%b-%Y %H:%M:%S").to_string(),
    )
}
