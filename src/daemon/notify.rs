//! Telling systemd how the daemon is (sd_notify(3)).
//!
//! While it serves, the counts are told again and again, at `systemd_interval`, or at half the time of the service
//! manager's watchdog. Without a service manager there is nothing to tell, and no reason to wake.

use preforkd_plan::time::Time;
use preforkd_sys::clock;
use preforkd_sys::scoreboard::Counts;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// What it takes besides what there is a limit for: the last signals, reaping, the status service's end.
const SLACK: Duration = Duration::from_secs(10);

/// The service manager, if there is one.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    /// Half of the time after which the service manager takes this process for hung.
    watchdog: Option<Duration>,
    interval: Option<Duration>,
    /// When the counts are told next; none before the daemon is ready.
    next: Option<Time>,
    /// The requests that were told last, and when.
    told: (u64, Time),
}

/// What all workers of the daemon are at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Workers that hold a request.
    pub active: u32,
    /// Workers that wait for one.
    pub idle: u32,
    /// What they, and those before them, have done.
    pub counts: Counts,
}

impl Work {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            active: self.active + other.active,
            idle: self.idle + other.idle,
            counts: self.counts.plus(other.counts),
        }
    }
}

impl Notifier {
    /// Whom `NOTIFY_SOCKET` names, to be told of the counts each `interval` (`systemd_interval`).
    #[must_use]
    pub fn from_environment(interval: Option<Duration>) -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|address| connect(&address).ok());
        Self {
            watchdog: watchdog(|name| std::env::var(name).ok()).filter(|_| socket.is_some()),
            interval: interval.filter(|_| socket.is_some()),
            socket,
            next: None,
            told: (0, Time(clock::now())),
        }
    }

    /// Goes on where the program before has stopped: the watchdog runs on.
    pub fn resume(&mut self) {
        self.next = self.interval().map(|_| Time(clock::now()));
    }

    /// Takes a new `systemd_interval`.
    pub fn set_interval(&mut self, interval: Option<Duration>) {
        self.interval = interval.filter(|_| self.socket.is_some());
        if self.next.is_some() {
            self.next = self.next_beat();
        }
    }

    /// How often the counts are told; none if never.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        self.watchdog.or(self.interval)
    }

    /// Says that it may take so long until it is [`Self::ready`], at the start and after a reload.
    pub fn may_take(&self, limit: Duration) {
        self.send(&patience(limit));
    }

    /// Says that everybody who is to serve does so.
    pub fn ready(&mut self) {
        self.send(&format!(
            "READY=1\nMAINPID={}\nSTATUS=Ready to handle connections",
            std::process::id()
        ));
        self.next = self.next_beat();
    }

    /// Says that the configuration is being read anew, until [`Self::ready`].
    pub fn reloading(&self) {
        let now = clock::now() / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
    }

    /// Says that this is the end, and that it may take so long.
    pub fn stopping(&mut self, limit: Duration) {
        self.send(&format!("STOPPING=1\n{}", patience(limit)));
        // The watchdog wants to hear of it until the last worker has gone.
        self.next = self.watchdog.and(self.next);
    }

    /// When [`Self::beat`] is to be called next.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.next
    }

    /// Tells the counts, if it is time.
    pub fn beat(&mut self, now: Time, work: impl FnOnce() -> Work) {
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        let Work {
            active,
            idle,
            counts: Counts { requests, slow, .. },
        } = work();
        let (before, since) = std::mem::replace(&mut self.told, (requests, now));
        let seconds = now.since(since).as_secs_f64().max(0.001);
        let new = u32::try_from(requests.saturating_sub(before)).unwrap_or(u32::MAX);
        let mut state = format!(
            "STATUS=Processes active: {active}, idle: {idle}, Requests: {requests}, slow: {slow}, Traffic: {}req/sec",
            three_digits(f64::from(new) / seconds)
        );
        if self.watchdog.is_some() {
            state.push_str("\nWATCHDOG=1");
        }
        self.send(&state);
        self.next = self.next_beat();
    }

    fn next_beat(&self) -> Option<Time> {
        self.interval()
            .map(|interval| Time(clock::now()) + interval)
    }

    /// Sends `state`: lines of `NAME=VALUE`. Never waits; a manager that does not listen is none.
    fn send(&self, state: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(state.as_bytes());
        }
    }
}

/// What keeps the service manager from ending this process sooner, where its own time for that (TimeoutStartSec=,
/// TimeoutStopSec=) is shorter.
fn patience(limit: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}", (limit + SLACK).as_micros())
}

/// A number that is not negative with three significant digits, as printf's `%.3g` has it, but all digits of a large one
/// instead of a power of ten, and four decimals at most.
fn three_digits(number: f64) -> String {
    let decimals = match number {
        ..0.099_95 => 4,
        ..0.999_5 => 3,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    let text = format!("{number:.decimals$}");
    if decimals == 0 {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Half of `WATCHDOG_USEC`, if it is meant for this process (sd_watchdog_enabled(3)).
fn watchdog(variable: impl Fn(&str) -> Option<String>) -> Option<Duration> {
    if variable("WATCHDOG_PID").is_some_and(|pid| pid.parse() != Ok(std::process::id())) {
        return None;
    }
    let micros: u64 = variable("WATCHDOG_USEC")?.parse().ok()?;
    Some(Duration::from_micros(micros / 2)).filter(|half| !half.is_zero())
}

fn connect(address: &OsStr) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match address.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(address)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_three_digits() {
        let numbers = [0.0, 0.5, 0.01234, 0.1234, 1.0, 9.999, 12.34, 123.4, 1234.6];
        let expected = [
            "0", "0.5", "0.0123", "0.123", "1", "10", "12.3", "123", "1235",
        ];
        assert_eq!(numbers.map(three_digits), expected);
    }

    #[test]
    fn a_watchdog_is_fed_at_half_its_time() {
        let of = |pid: Option<u32>, micros: Option<&str>| {
            watchdog(|name| match name {
                "WATCHDOG_PID" => pid.map(|pid| pid.to_string()),
                "WATCHDOG_USEC" => micros.map(str::to_owned),
                _ => None,
            })
        };
        let here = std::process::id();
        assert_eq!(of(None, Some("3000000")), Some(Duration::from_millis(1500)));
        assert_eq!(of(Some(here), Some("10")), Some(Duration::from_micros(5)));
        assert_eq!(of(Some(here + 1), Some("3000000")), None);
        assert_eq!(of(None, Some("0")), None);
        assert_eq!(of(None, Some("soon")), None);
        assert_eq!(of(None, None), None);
    }
}
