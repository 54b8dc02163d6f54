//! What holds for the workers of all pools together: how many there may be, and that they do not crash again and again.

use crate::config::Global;
use crate::master::Master;
use crate::pool::{Common, Pool};
use crate::reload::Reload;
use nix::sys::signal::Signal;
use preforkd_plan::crashes::Crashes;
use preforkd_plan::time::Time;
use preforkd_sys::children::Death;
use preforkd_sys::clock;
use std::collections::BTreeMap;

/// The crashes of a daemon that has not had one.
pub(crate) fn crashes(global: &Global) -> Crashes {
    Crashes::new(
        global.emergency_restart_threshold,
        global.emergency_restart_interval,
    )
}

/// How many more workers there may be (`process.max`).
///
/// Two generations count apart, and those that leave do not count: there being many workers must not keep a reload from
/// succeeding.
pub(crate) struct Room<'a> {
    max: Option<u32>,
    reload: Option<&'a Reload>,
    /// The workers of those that serve, and of those that are to take over.
    taken: [u32; 2],
}

impl<'a> Room<'a> {
    /// What is left beside these pools.
    pub(crate) fn beside(
        pools: &BTreeMap<u32, Pool>,
        reload: Option<&'a Reload>,
        max: Option<u32>,
    ) -> Self {
        let mut room = Self {
            max,
            reload,
            taken: [0; 2],
        };
        // Counting takes a look at each slot of each pool.
        if max.is_some() {
            for (index, pool) in pools.iter().filter(|(_, pool)| !pool.is_leaving()) {
                room.taken[room.side(*index)] += pool.size();
            }
        }
        room
    }

    fn side(&self, index: u32) -> usize {
        usize::from(self.reload.is_some_and(|reload| reload.has_new(index)))
    }

    /// How many more there may be of a pool's generation.
    pub(crate) fn left(&self, index: u32) -> u32 {
        self.max.map_or(u32::MAX, |max| {
            max.saturating_sub(self.taken[self.side(index)])
        })
    }

    /// Lets a pool settle within what is left.
    pub(crate) fn settle(&mut self, index: u32, pool: &mut Pool, common: &Common) {
        let (side, before) = (self.side(index), pool.size());
        pool.set_room(self.left(index));
        pool.settle(common);
        // One that leaves does not grow, and was not counted.
        self.taken[side] += pool.size().saturating_sub(before);
    }
}

impl Master {
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
            self.reload();
        }
    }
}
