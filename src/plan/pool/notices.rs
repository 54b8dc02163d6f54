//! Just those notices that could change a decision: a worker that crosses a watermark, a connection that finds nobody.

use super::{NOTICE_PAUSE, Pool};
use crate::scale::{self, Mode};
use crate::time::Time;

/// The watermarks that no count of idle workers crosses.
pub(super) const QUIET: (u32, u32) = (0, u32::MAX);

/// What the daemon is to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    /// Fewer idle workers than this.
    growth: u32,
    /// More idle workers than this.
    excess: Option<u32>,
    /// All workers busy.
    saturation: bool,
    /// Whoever turns busy first, which starts the clock of the requests' time limit.
    limit: bool,
}

impl Pool {
    /// What follows from the notices that there were; `quiet` is whether nothing else did.
    pub(super) fn look_at_notices(&mut self, now: Time, quiet: bool) {
        let noticed = std::mem::take(&mut self.noticed);
        if noticed && self.wanted.limit {
            // Who is busy has a deadline. Whoever begins from now on has at least until then, and need not tell.
            self.limit_at = self.request_deadline(now);
        } else if self.limit_at.is_some_and(|at| at <= now) {
            self.limit_at = None;
        }
        let wanted = self.wanted(now);
        if noticed && quiet && wanted == self.wanted {
            self.pause = Some(now + NOTICE_PAUSE);
        } else if self.pause.is_some_and(|until| until <= now) {
            self.pause = None;
        }
        self.wanted = wanted;
        self.arm();
    }

    /// Just those notices that could change a decision.
    pub(super) fn wanted(&self, now: Time) -> Wanted {
        let census = self.census();
        let full = census.total() >= self.limits.max_children;
        // Whether anybody would be started, however many wait: no round of starts is full, and none is held back.
        let can_grow =
            self.can_spawn(now) && !self.short && scale::grow(&self.limits, &census, u32::MAX) > 0;
        Wanted {
            growth: match self.limits.mode {
                // Who starts counts as spare; when the last idle worker turns busy, the queue counts as well.
                Mode::Dynamic { min_spare, .. } if can_grow => {
                    min_spare.saturating_sub(census.starting).max(1)
                }
                Mode::Ondemand { .. } if can_grow => 1,
                Mode::Static | Mode::Dynamic { .. } | Mode::Ondemand { .. } => 0,
            },
            excess: match self.limits.mode {
                Mode::Dynamic { max_spare, .. } if self.shrink_at.is_none() => Some(max_spare),
                Mode::Ondemand { .. } if self.shrink_at.is_none() => Some(0),
                Mode::Static | Mode::Dynamic { .. } | Mode::Ondemand { .. } => None,
            },
            saturation: full && self.saturated.is_none(),
            limit: self.timeouts.terminate.is_some() && census.busy == 0 && self.limit_at.is_none(),
        }
    }

    pub(super) fn arm(&mut self) {
        if self.pause.is_some() {
            self.watermarks = QUIET;
            self.watches_listener = false;
            return;
        }
        let Wanted {
            growth,
            excess,
            saturation,
            limit,
        } = self.wanted;
        let idle = self.census().idle;
        // With nobody idle, who arrives is heard of, and not who turns idle and busy again.
        self.watches_listener = growth > 0 && idle == 0;
        let low = if self.watches_listener { 0 } else { growth };
        let low = low.max(u32::from(saturation));
        let low = if limit { low.max(idle) } else { low };
        self.watermarks = (low, excess.unwrap_or(u32::MAX));
    }
}
