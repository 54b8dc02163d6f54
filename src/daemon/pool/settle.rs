//! What follows from all that has happened: the plan is asked, and is shown the workers and the queue.

use super::parked::Parked;
use super::process::Process;
use super::{Common, Pool, now};
use crate::listen::Listener;
use crate::token::{Token, What};
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use preforkd_plan::pool::{Action, View};
use preforkd_plan::scale::Mode;
use preforkd_plan::slot;
use preforkd_plan::time::Time;
use preforkd_sys::queue::{Gauge, Target};
use preforkd_sys::scoreboard::{Scoreboard, State};
use std::os::fd::AsFd;

/// As many workers at once make the pool busy enough to say so, as in php-fpm.
const BUSY_SPAWN: usize = 8;

/// What the plan sees of a pool.
struct Sight<'a> {
    board: &'a Scoreboard,
    listener: &'a Listener,
    target: Target,
    gauge: &'a Gauge,
    parked: &'a Parked,
}

impl View for Sight<'_> {
    fn worker(&self, slot: u32) -> Option<(bool, Time)> {
        let entry = self.board.entry(slot)?;
        match entry.state {
            State::Vacant | State::Starting => None,
            State::Idle => Some((false, Time(entry.since))),
            State::Busy => Some((true, Time(entry.since))),
        }
    }

    fn queue(&self) -> u32 {
        let length = self
            .gauge
            .length(self.listener.socket().as_fd(), self.target)
            .saturating_add(self.parked.waiting());
        self.board.saw_queue(length);
        length
    }

    fn accept_queue(&self) -> (u32, u64) {
        let length = self
            .gauge
            .length(self.listener.socket().as_fd(), self.target);
        self.board.saw_queue(length);
        let totals = self.board.totals(now().0);
        (
            length,
            totals.counts.connections.saturating_add(totals.rejected),
        )
    }
}

impl Pool {
    /// Does what follows from all that has happened.
    pub fn settle(&mut self, common: &Common) {
        for process in self.workers.iter_mut().chain([&mut self.mold]).flatten() {
            process.tell_if_slow(&self.last_failure, &self.config);
        }
        // If a race never ends it goes on after the others have had their turn.
        self.dirty = true;
        // Each round performs something or is the last.
        for round in 0..16 {
            let mut actions = std::mem::take(&mut self.actions);
            let sight = Sight {
                board: &self.board,
                listener: &self.listener,
                target: self.target,
                gauge: &common.gauge,
                parked: &self.parked,
            };
            let started = self.plan.has_started();
            self.plan.settle(now(), &sight, &mut actions);
            let spawning = actions
                .iter()
                .filter(|action| matches!(action, Action::Spawn { .. }))
                .count();
            if spawning >= BUSY_SPAWN
                && started
                && matches!(self.config.limits.mode, Mode::Dynamic { .. })
            {
                let census = self.plan.census();
                tracing::warn!(
                    "[pool {}] seems busy (you may need to increase pm.start_servers, or pm.min/max_spare_servers), \
                     spawning {spawning} children, there are {} idle, and {} total children",
                    self.config.name,
                    census.idle,
                    census.total() - u32::try_from(spawning).unwrap_or(0)
                );
            }
            let quiet = actions.is_empty();
            if quiet && round == 0 && self.plan.census().starting == 0 {
                // Those who are gone are not wanted back.
                self.lost = 0;
            }
            for action in actions {
                self.perform(action, common);
            }
            let (low, high) = self.plan.watermarks();
            self.board.set_watermarks(low, high);
            if quiet && self.actions.is_empty() && !self.has_missed_a_turn(low, high) {
                self.dirty = false;
                break;
            }
        }
        self.board.set_saturated(self.plan.is_saturated(), now().0);
        self.watch_listener(common);
        let processes = self.workers.iter().chain([&self.mold]).flatten();
        self.deadline = processes
            .filter_map(Process::tell_at)
            .chain(self.plan.deadline(now()))
            .min();
    }

    /// Whether a worker has crossed a watermark after the plan had looked at it and before the watermark was set, so
    /// that it has not told.
    fn has_missed_a_turn(&self, low: u32, high: u32) -> bool {
        let count = self.board.idle_count();
        let known = |slot: u32| (self.plan.state(slot), self.board.entry(slot));
        let turned = |plan: slot::State, board: State| {
            (0..self.config.limits.max_children).any(|slot| {
                matches!(known(slot), (seen, Some(entry)) if seen == plan && entry.state == board)
            })
        };
        count < low && turned(slot::State::Idle, State::Busy)
            || count > high && turned(slot::State::Busy, State::Idle)
    }

    fn watch_listener(&mut self, common: &Common) {
        let wanted = self.plan.watches_listener();
        if wanted == self.watches_listener {
            return;
        }
        let listener = self.listener.socket();
        let changed = if wanted {
            // Edge-triggered: each connection wakes the master once, also while the ones before it still wait.
            let event = EpollEvent::new(
                EpollFlags::EPOLLIN | EpollFlags::EPOLLET,
                Token::Pool {
                    pool: self.index,
                    what: What::Listener,
                }
                .into(),
            );
            common.epoll.add(listener, event)
        } else {
            common.epoll.delete(listener)
        };
        match changed {
            Ok(()) | Err(Errno::EEXIST | Errno::ENOENT) => self.watches_listener = wanted,
            Err(error) => tracing::error!(
                "[pool {}] cannot watch the listening socket: {error}",
                self.config.name
            ),
        }
    }
}
