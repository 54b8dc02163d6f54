//! The ends of a pool's processes.

use super::process::Process;
use super::{Pool, now};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use preforkd_plan::pool::Event;
use preforkd_sys::children::Death;
use preforkd_sys::program::kill_group;

impl Pool {
    /// Ends what a program has started in its group that was a worker of this pool, and has not been reaped.
    pub(crate) fn end_group_of(&self, pid: Pid) {
        let is_it = |process: &Process| process.spawned.pid == Some(pid);
        let mut workers = self.workers.iter().flatten();
        if workers.any(|process| process.leads_group() && is_it(process)) {
            kill_group(pid);
        }
    }

    pub(super) fn mold_died(&mut self, mut process: Process, death: Death) {
        process.drain(&self.config);
        let (how, clean) = (death.to_string(), death == Death::Exited(0));
        self.last_end = Some(format!("{} {how}", process.name()));
        let after = now().since(process.started).as_secs_f64();
        let text = format!(
            "[pool {}] {} {how} after {after:.6} seconds from start",
            self.config.name,
            process.name()
        );
        let came_up = process.held.is_none();
        let repeated = self.tell_failure(&mut process);
        if self.molds_program && !self.has_molded && !came_up && !process.leaving {
            self.forgo_mold(&format!("it {how} before it accepted a connection"));
        }
        if process.leaving || repeated {
            tracing::debug!("{text}");
        } else if clean {
            tracing::info!("{text}");
        } else {
            tracing::warn!("{text}");
        }
        // Workers that it was asked for and has not forked will say so by the end of their channels.
        self.on(Event::MoldGone);
    }

    pub(super) fn worker_died(&mut self, slot: u32, mut process: Process, death: Option<Death>) {
        process.drain(&self.config);
        // A relay that could not say goodbye has left its program to the kernel, which ends nothing else of its group.
        if let Some(program) = process.program
            && death != Some(Death::Exited(0))
        {
            program.kill_if_inherited();
        }
        let served = self
            .board
            .entry(slot)
            .is_some_and(|entry| entry.requests > 0);
        let repeated = self.tell_failure(&mut process);
        if let Some(death) = death {
            let (how, clean) = (death.to_string(), death == Death::Exited(0));
            self.last_end = Some(format!("{} {how}", process.name()));
            let after = now().since(process.started).as_secs_f64();
            let text = format!(
                "[pool {}] {} {how} after {after:.6} seconds from start",
                self.config.name,
                process.name()
            );
            // A worker that was told to end at once has no other way.
            let as_told = clean
                || matches!(death, Death::Signaled { number, .. } if number == Signal::SIGTERM as i32);
            match (process.leaving && as_told || repeated, clean) {
                (true, _) => tracing::debug!("{text}"),
                (false, true) => tracing::info!("{text}"),
                (false, false) => tracing::warn!("{text}"),
            }
        }
        if !process.leaving {
            self.lost += 1;
        }
        self.board.vacate(slot);
        self.on(Event::Gone { slot, served });
    }

    /// Tells what a process that did not come up printed, unless the one before it printed the same. Returns whether it
    /// did.
    fn tell_failure(&mut self, process: &mut Process) -> bool {
        let Some(held) = &process.held else {
            return false;
        };
        let repeated = *held == self.last_failure && !held.is_empty();
        if !repeated {
            process.tell_held(&self.config);
        }
        if !process.leaving {
            self.last_failure = process.held.take().unwrap_or_default();
        }
        repeated
    }
}
