//! What a worker's requests cost, measured only where somebody can see it.

use crate::memory;
use nix::sys::resource::{UsageWho, getrusage};
use preforkd_sys::clock;
use preforkd_sys::scoreboard::Reporter;

/// How long the slowest request is remembered after it ended, in nanoseconds, while faster ones follow.
pub const REMEMBERED: u64 = 600_000_000_000;

/// How much later a worker measures its private memory again, in nanoseconds: the kernel walks all its pages for it.
const MEASURED_EVERY: u64 = 10_000_000_000;

/// Measures the requests of this process.
#[derive(Debug, Default)]
pub struct Meter {
    /// Processor time of the process when the request began.
    before: u64,
    /// When the private memory was measured, on the monotonic clock.
    measured: Option<u64>,
}

impl Meter {
    /// A request begins.
    pub fn begin(&mut self) {
        self.before = usage().0;
    }

    /// The request has been answered.
    pub fn end(&mut self, reporter: &Reporter) {
        let now = clock::now();
        let (cpu, memory) = usage();
        reporter.took(
            cpu.saturating_sub(self.before),
            memory,
            now,
            now.saturating_sub(REMEMBERED),
        );
    }

    /// Measures the private memory, if it was not of late. To be called when the request is over, not to be a part of it.
    pub fn measure_memory(&mut self, reporter: &Reporter) {
        let now = clock::now();
        if self
            .measured
            .is_none_or(|measured| now.saturating_sub(measured) >= MEASURED_EVERY)
        {
            self.measured = Some(now);
            reporter.private_memory(memory::private(std::process::id()));
        }
    }
}

/// Processor time of this process in nanoseconds, and the most memory it ever had in bytes.
fn usage() -> (u64, u64) {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return (0, 0);
    };
    let nanoseconds = [usage.user_time(), usage.system_time()]
        .map(|time| time.tv_sec() * 1_000_000_000 + time.tv_usec() * 1000);
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    (
        number(nanoseconds[0]) + number(nanoseconds[1]),
        number(usage.max_rss()) * 1024,
    )
}
