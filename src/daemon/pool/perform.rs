//! What the plan asks for, done. What fails comes back as an event.

use super::process::{Kind, Process};
use super::{Common, Pool};
use crate::config::{Application, Protocol};
use crate::output::{self, HeldLine};
use crate::spawn::{self, Spawned};
use crate::token::{Token, What};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use preforkd_plan::pool::{Action, Event};
use preforkd_plan::saturation::Summary;
use preforkd_worker::message::ToWorker;
use std::io;

impl Pool {
    /// The one place where the plan's decisions have effects. What fails comes back as an event.
    pub(super) fn perform(&mut self, action: Action, common: &Common) {
        match action {
            Action::StartMold => {
                if let Err(error) = self.start_mold(common) {
                    tracing::error!("[pool {}] cannot start the mold: {error}", self.config.name);
                    self.on(Event::MoldGone);
                }
            }
            Action::KillMold => {
                if let Some(mold) = &self.mold {
                    let what = if mold.leaving {
                        "does not end".to_owned()
                    } else {
                        format!(
                            "is not ready after {} s",
                            self.config.start_timeout.as_secs()
                        )
                    };
                    tracing::warn!(
                        "[pool {}] mold {} {what}, killing it",
                        self.config.name,
                        mold.pid_text()
                    );
                    mold.signal(Signal::SIGKILL);
                }
            }
            Action::Spawn { slot } => {
                if let Err(error) = self.spawn(slot, common) {
                    let what = match self.config.application {
                        Application::Hello | Application::Exec(_) => "fork() failed",
                        Application::Wsgi(_) => "cannot start a worker",
                    };
                    tracing::error!("[pool {}] {what}: {error}", self.config.name);
                    self.on(Event::SpawnFailed { slot });
                }
            }
            Action::Retire { slot } if self.drains => self.tell(slot, ToWorker::Drain),
            Action::Retire { slot } => self.tell(slot, ToWorker::Retire),
            Action::Nudge { slot } => self.tell(slot, ToWorker::Nudge),
            Action::SignalTerm { slot } => self.signal(slot, Signal::SIGTERM),
            Action::SignalKill { slot } => self.signal(slot, Signal::SIGKILL),
            Action::ReportSaturated => {
                tracing::warn!(
                    "[pool {}] server reached pm.max_children setting ({}), consider raising it",
                    self.config.name,
                    self.config.limits.max_children
                );
            }
            Action::ReportRelieved(summary) => self.tell_relief(summary),
            Action::TurnAway { count } => self.surplus = Some(count),
            Action::ReportBackOff { failures, wait } => {
                self.decided = true;
                // A relay speaks last, after its program.
                let count = match self.config.application {
                    Application::Exec(_) => 2,
                    Application::Hello | Application::Wsgi(_) => 1,
                };
                let lines = self.last_failure.lines().rev().take(count);
                let last: Vec<_> = lines.map(HeldLine::text).collect();
                let last = match last.join("; before that: ") {
                    none if none.is_empty() => none,
                    last => format!("; its last words: {last}"),
                };
                tracing::error!(
                    "[pool {}] cannot start: {failures} failure(s) in a row, trying again in {:.1} seconds{last}",
                    self.config.name,
                    wait.as_secs_f64()
                );
            }
        }
    }

    fn tell_relief(&mut self, summary: Summary) {
        let Summary {
            length,
            deepest,
            longest,
        } = summary;
        let queue = if deepest == 0 {
            "nobody had to wait".to_owned()
        } else {
            format!(
                "at most {deepest} connections waited, one of them for {:.2} seconds",
                longest.as_secs_f64()
            )
        };
        let rejected = match std::mem::take(&mut self.rejected) {
            0 => String::new(),
            count => format!(", and {count} were turned away"),
        };
        tracing::info!(
            "[pool {}] all workers were busy for {:.1} seconds; {queue}{rejected}",
            self.config.name,
            length.as_secs_f64()
        );
    }

    pub(super) fn start_mold(&mut self, common: &Common) -> io::Result<()> {
        let shared = self.shared(common);
        let (extension, preload) = (&common.extension, &common.preload);
        let spawned = match (&self.config.application, extension, preload) {
            (Application::Wsgi(wsgi), Some(extension), _) => spawn::mold(shared, wsgi, extension)?,
            (Application::Exec(exec), _, Some(library)) => {
                spawn::program_mold(shared, exec, library)?
            }
            _ => return Err(io::Error::other("the pool needs none")),
        };
        watch(&spawned, common, self.index, What::MoldControl, |stream| {
            What::MoldOutput { stream }
        })?;
        self.mold = Some(Process::new(Kind::Mold, spawned));
        Ok(())
    }

    pub(super) fn spawn(&mut self, slot: u32, common: &Common) -> io::Result<()> {
        let shared = self.shared(common);
        let mut kind = Kind::Worker;
        let spawned = match (&self.config.application, &self.mold) {
            (Application::Hello, _) => spawn::hello(shared, slot)?,
            (Application::Exec(_), Some(mold)) if self.molds_program => {
                kind = Kind::Inside;
                spawn::by_mold(shared, &mold.spawned.control, slot)?
            }
            (Application::Exec(_), None) if self.molds_program => {
                return Err(io::Error::other("the mold is gone"));
            }
            (Application::Exec(exec), _) => match exec.protocol {
                Protocol::Fastcgi => spawn::relay(shared, exec, slot)?,
                Protocol::Cgi => spawn::cgi(shared, exec, slot)?,
            },
            (Application::Wsgi(_), Some(mold)) => {
                spawn::by_mold(shared, &mold.spawned.control, slot)?
            }
            (Application::Wsgi(_), None) => return Err(io::Error::other("the mold is gone")),
        };
        watch(
            &spawned,
            common,
            self.index,
            What::Control { slot },
            |stream| What::Output { slot, stream },
        )?;
        if let Some(pid) = spawned.pid {
            self.log_started(pid);
        }
        self.workers[slot as usize] = Some(Process::new(kind, spawned));
        Ok(())
    }

    pub(super) fn log_started(&mut self, pid: Pid) {
        if self.lost > 0 {
            self.lost -= 1;
            tracing::info!("[pool {}] child {pid} started", self.config.name);
        } else {
            tracing::debug!("[pool {}] child {pid} started", self.config.name);
        }
    }

    pub(super) fn tell(&mut self, slot: u32, message: ToWorker) {
        if let Some(Some(process)) = self.workers.get_mut(slot as usize) {
            process.leaving |= matches!(message, ToWorker::Retire | ToWorker::Drain);
            if let Err(error) = process.spawned.control.send(&[message as u8], &[])
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                tracing::warn!(
                    "[pool {}] cannot tell child {}: {error}",
                    self.config.name,
                    process.pid_text()
                );
            }
        }
    }

    pub(super) fn signal(&mut self, slot: u32, signal: Signal) {
        let Some(Some(process)) = self.workers.get_mut(slot as usize) else {
            return;
        };
        process.leaving |= signal == Signal::SIGTERM;
        let there = process.signal(signal);
        if signal == Signal::SIGKILL && !there {
            if process.spawned.pid.is_none() {
                self.kill_unborn(slot);
            } else {
                self.let_go(slot);
            }
        }
    }

    /// A worker that is to be killed and has no pid yet: the mold did not fork it in time.
    pub(super) fn kill_unborn(&mut self, slot: u32) {
        let Some(process) = self.workers[slot as usize].take() else {
            return;
        };
        match &self.mold {
            // The end of the worker's channel follows the mold's.
            Some(mold) if mold.started <= process.started => {
                tracing::warn!(
                    "[pool {}] mold {} does not fork, killing it",
                    self.config.name,
                    mold.pid_text()
                );
                mold.signal(Signal::SIGKILL);
                self.workers[slot as usize] = Some(process);
            }
            // The mold that was asked is gone. Should the worker exist after all, it leaves at the end of its channel.
            Some(_) | None => self.worker_died(slot, process, None),
        }
    }

    /// A worker that is not this process's child, since something of the pool's has made itself a reaper of orphans: its
    /// death would never be heard of, and a signal might hit another. If it lives it leaves at the end of its channel.
    pub(super) fn let_go(&mut self, slot: u32) {
        if let Some(process) = self.workers[slot as usize].take() {
            tracing::warn!(
                "[pool {}] child {} is not a child of this daemon, letting go of it",
                self.config.name,
                process.pid_text()
            );
            self.worker_died(slot, process, None);
        }
    }
}

fn watch(
    spawned: &Spawned,
    common: &Common,
    pool: u32,
    control: What,
    of: impl Fn(u8) -> What,
) -> io::Result<()> {
    let token = |what| Token::Pool { pool, what };
    let event = EpollEvent::new(EpollFlags::EPOLLIN, token(control).into());
    common.epoll.add(&spawned.control, event)?;
    let outputs = spawned.output.iter().flatten();
    output::watch(&common.epoll, outputs, |stream| token(of(stream)))
}
