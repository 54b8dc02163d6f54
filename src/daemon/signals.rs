//! What the master does for the signals that it gets.

use crate::log;
use crate::master::Master;
use nix::libc;
use nix::unistd::Pid;
use preforkd_plan::pool::Phase;
use preforkd_sys::children::{self, Death};
use signal_hook::consts::signal::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use std::time::Duration;

impl Master {
    pub(crate) fn take_signals(&mut self) {
        let pending: Vec<libc::c_int> = self.signals.pending().collect();
        for signal in pending {
            match signal {
                SIGCHLD => self.reap(),
                SIGTERM | SIGINT if self.phase < Phase::Terminating => {
                    self.stop(Phase::Terminating)
                }
                SIGTERM | SIGINT => self.stop(Phase::Killing),
                SIGQUIT if self.phase < Phase::Finishing => self.stop(Phase::Finishing),
                SIGQUIT => self.stop(Phase::Terminating),
                SIGUSR1 => {
                    match log::reopen() {
                        Ok(true) => tracing::info!("error log file re-opened"),
                        Ok(false) => {}
                        Err(error) => tracing::error!("{error}"),
                    }
                    self.reopen_request_logs();
                }
                SIGUSR2 | SIGHUP => self.reload(),
                _ => {}
            }
        }
    }

    /// Opens the logs of requests anew. No worker has to be replaced for that.
    fn reopen_request_logs(&mut self) {
        let mut reopened = false;
        for pool in self.pools.values_mut() {
            match pool.reopen_logs() {
                Ok(has_access_log) => reopened |= has_access_log,
                Err(error) => tracing::error!("[pool {}] {error}", pool.name()),
            }
        }
        if reopened {
            tracing::info!("access log file re-opened");
        }
    }

    fn stop(&mut self, phase: Phase) {
        if phase <= self.phase {
            return;
        }
        self.phase = phase;
        self.notifier.stopping(match phase {
            Phase::Terminating | Phase::Killing => Duration::ZERO,
            Phase::Finishing | Phase::Running => self.control_timeout,
        });
        self.status.end();
        self.forget_reload();
        match phase {
            Phase::Killing => {
                tracing::info!("Killing ...");
                self.elders.terminate();
            }
            Phase::Terminating => {
                tracing::info!("Terminating ...");
                self.elders.terminate();
            }
            Phase::Finishing | Phase::Running => {
                tracing::info!("Finishing ...");
                self.elders.release(self.control_timeout, |_| true);
            }
        }
        if phase == Phase::Finishing {
            self.retire(|_| true);
        } else {
            for pool in self.pools.values_mut() {
                pool.terminate(phase, &self.common);
            }
        }
    }

    pub(crate) fn reap(&mut self) {
        loop {
            let ended = children::ended().and_then(|ended| {
                let Some(pid) = ended else { return Ok(None) };
                for pool in self.pools.values() {
                    pool.end_group_of(pid);
                }
                self.elders.end_group_of(pid);
                Ok(Some((pid, children::wait_for(pid)?)))
            });
            let (pid, death) = match ended {
                Ok(Some(dead)) => dead,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!("waitpid: {error}");
                    return;
                }
            };
            if self.hand_over(pid, death)
                || self.elders.reaped(pid)
                || self.status.reaped(pid, death)
                || self.check_reaped(pid, death)
                || self.inquiry_reaped(pid, death)
            {
                continue;
            }
            // It may be a worker of a mold's. What it said when it began can be read now, however short its life was.
            for pool in self.pools.values_mut() {
                pool.learn_pids(&self.common);
            }
            if !self.hand_over(pid, death) {
                // A subreaper inherits what applications leave behind.
                tracing::debug!("an orphan, {pid}, has {death}");
            }
        }
    }

    /// Tells the pool whose process `pid` was that it is dead. Returns whether there is such a pool.
    fn hand_over(&mut self, pid: Pid, death: Death) -> bool {
        let common = &self.common;
        let is_known = self
            .pools
            .values_mut()
            .any(|pool| pool.reaped(pid, death, common));
        if is_known {
            self.look_at_crash(death);
        }
        is_known
    }
}
