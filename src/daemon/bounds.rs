//! What holds for the workers of all pools together: how many there may be, and that they do not crash again and again.

use crate::config::Global;
use crate::master::Master;
use crate::pool::Pool;
use nix::sys::signal::Signal;
use preforkd_plan::crashes::Crashes;
use preforkd_plan::time::Time;
use preforkd_sys::children::Death;
use preforkd_sys::clock;

/// The crashes of a daemon that has not had one.
pub(crate) fn crashes(global: &Global) -> Crashes {
    Crashes::new(
        global.emergency_restart_threshold,
        global.emergency_restart_interval,
    )
}

impl Master {
    /// How many more workers there may be beside those of a pool (`process.max`). Two generations count apart, and those
    /// that leave do not count: there being many workers must not keep a reload from succeeding.
    pub(crate) fn room(&self, index: u32) -> u32 {
        let Some(max) = self.process_max else {
            return u32::MAX;
        };
        let reload = self.reload.as_ref();
        let is_new = |index: u32| reload.is_some_and(|reload| reload.has_new(index));
        let beside = self
            .pools
            .iter()
            .filter(|(other, pool)| !pool.is_leaving() && is_new(**other) == is_new(index));
        let size = beside.map(|(_, pool)| pool.size()).sum();
        max.saturating_sub(size)
    }

    /// Says so when a pool wants more workers than there may be.
    pub(crate) fn look_at_room(&mut self) {
        let was_short = self.short;
        self.short = self.pools.values().any(Pool::is_short);
        if self.short && !was_short {
            tracing::warn!(
                "The maximum number of processes has been reached. Please review your configuration and consider raising 'process.max'"
            );
        }
    }

    /// Reloads when workers crash again and again: what they share may be broken.
    pub(crate) fn look_at_crash(&mut self, death: Death) {
        const CRASHES: [i32; 2] = [Signal::SIGSEGV as i32, Signal::SIGBUS as i32];
        if let Death::Signaled { number, .. } = death
            && CRASHES.contains(&number)
            && self.crashes.crashed(Time(clock::now()))
        {
            tracing::warn!(
                "failed processes threshold ({} in {} sec) is reached, initiating reload",
                self.crashes.threshold(),
                self.crashes.interval().as_secs()
            );
            self.reload(None);
        }
    }
}
