//! What a run made users wait, and what it cost.

use std::time::Duration;

use crate::engine::{Run, count};
use crate::load::Shape;

/// A run in numbers, of the measured part of its shape.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// Half of the requests waited no longer for a worker.
    pub p50: Duration,
    /// 99 of 100 requests waited no longer for a worker.
    pub p99: Duration,
    /// The longest wait for a worker.
    pub max: Duration,
    /// Workers on average over time.
    pub average: f64,
    /// The most workers at one time.
    pub peak: u32,
    /// Forks.
    pub forks: u32,
    /// Workers of the whole run that never served a request.
    pub needless: u32,
}

impl Summary {
    /// Sums a run up.
    pub fn of(run: &Run, shape: &Shape) -> Self {
        let mut waits: Vec<Duration> = run
            .waits
            .iter()
            .filter(|(arrival, _)| *arrival >= shape.measured_from)
            .map(|(_, wait)| *wait)
            .collect();
        waits.sort_unstable();
        let percentile = |percent: usize| {
            let rank = (waits.len() * percent).div_ceil(100);
            waits[rank.saturating_sub(1)]
        };
        let mut worker_seconds = 0.0;
        let mut peak = 0;
        let mut forks_before = 0;
        for pair in run.samples.windows(2) {
            let [sample, next] = pair else { continue };
            if sample.at < shape.measured_from {
                forks_before = sample.forks;
                continue;
            }
            peak = peak.max(sample.census.total());
            if next.at <= shape.until {
                worker_seconds +=
                    f64::from(sample.census.total()) * next.at.since(sample.at).as_secs_f64();
            }
        }
        let forks = run.samples.last().map_or(0, |last| last.forks);
        Self {
            p50: percentile(50),
            p99: percentile(99),
            max: percentile(100),
            average: worker_seconds / shape.until.since(shape.measured_from).as_secs_f64(),
            peak,
            forks: forks - forks_before,
            needless: forks - count(run.served.len()),
        }
    }
}
