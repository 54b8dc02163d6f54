//! The access log of a worker.

use super::{Format, Record, Usage, path, status};
use crate::Exchange;
use crate::log_file::LogFile;
use crate::message::{AccessSettings, WorkerSettings};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{SockaddrStorage, getpeername};
use nix::sys::time::TimeVal;
use preforkd_fastcgi::pairs::Params;
use preforkd_sys::clock;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Writes a line for each request that has ended.
#[derive(Debug)]
pub struct AccessLog {
    settings: WorkerSettings,
    format: Format,
    suppress: Vec<String>,
    file: LogFile,
    /// The web server at the other end of the connection.
    peer: Option<IpAddr>,
    /// When the request began, and what the worker had used until then.
    begun: u64,
    before: Usage,
}

impl AccessLog {
    /// To `file`, as the settings say.
    ///
    /// # Errors
    /// `InvalidInput` for a format that is none.
    pub fn new(
        settings: &WorkerSettings,
        access: &AccessSettings,
        file: OwnedFd,
    ) -> io::Result<Self> {
        let format = Format::parse(&access.format)
            .map_err(|wrong| io::Error::new(io::ErrorKind::InvalidInput, wrong))?;
        Ok(Self {
            settings: settings.clone(),
            format,
            suppress: access.suppress.clone(),
            file: LogFile::new(file),
            peer: None,
            begun: 0,
            before: Usage::default(),
        })
    }

    /// Goes on in another file.
    pub fn reopen(&mut self, file: OwnedFd) {
        self.file = LogFile::new(file);
    }

    /// Whether it has to know the beginning of each answer.
    #[must_use]
    pub fn needs_head(&self) -> bool {
        self.format.needs_head() || !self.suppress.is_empty()
    }

    /// Takes note of a new connection.
    pub fn connected(&mut self, connection: BorrowedFd<'_>) {
        let address = getpeername::<SockaddrStorage>(connection.as_raw_fd()).ok();
        self.peer = address.and_then(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
                .map(|ip| ip.to_canonical())
        });
    }

    /// A request begins, `now` nanoseconds on the monotonic clock.
    pub fn begin(&mut self, now: u64) {
        self.begun = now;
        if self.format.needs_usage() {
            self.before = usage();
        }
    }

    /// The request has ended `now`, or has been given up.
    pub fn end(&mut self, now: u64, exchange: &Exchange) {
        let head = exchange.answer_head();
        if self.is_suppressed(exchange.params(), status(head)) {
            return;
        }
        let duration = Duration::from_nanos(now.saturating_sub(self.begun));
        let written = Duration::from_nanos(clock::epoch());
        let line = self.format.line(&Record {
            pool: &self.settings.pool,
            params: exchange.params(),
            peer: self.peer,
            status: status(head),
            head,
            received: written.saturating_sub(duration),
            duration,
            usage: self.spent(),
            zone: &self.settings.logs.zone,
        });
        self.file.append(&line);
    }

    fn spent(&self) -> Usage {
        if !self.format.needs_usage() {
            return Usage::default();
        }
        let now = usage();
        Usage {
            user: now.user.saturating_sub(self.before.user),
            system: now.system.saturating_sub(self.before.system),
            peak: now.peak,
        }
    }

    /// Whether the request is one that is asked for all the time and that `access.suppress_path[]` names: nothing but
    /// a path, and it went well.
    fn is_suppressed(&self, params: &Params, status: u16) -> bool {
        if self.suppress.is_empty() || !(200..300).contains(&status) {
            return false;
        }
        let is_empty = |name: &[u8]| params.get(name).is_none_or(<[u8]>::is_empty);
        let path = path(params);
        matches!(params.get(b"REQUEST_METHOD"), Some(b"GET" | b"HEAD"))
            && is_empty(b"QUERY_STRING")
            && super::line::content_length(params) == 0
            && self.suppress.iter().any(|known| known.as_bytes() == &*path)
    }
}

/// What this process and the children that it waited for have used.
fn usage() -> Usage {
    let mut usage = Usage::default();
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        // It fails only for who there is not.
        if let Ok(part) = getrusage(who) {
            usage.user += duration(part.user_time());
            usage.system += duration(part.system_time());
            if who == UsageWho::RUSAGE_SELF {
                usage.peak = u64::try_from(part.max_rss()).unwrap_or(0) * 1024;
            }
        }
    }
    usage
}

fn duration(time: TimeVal) -> Duration {
    let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
    Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0)) + Duration::from_micros(micros)
}
