//! What the workers and the mold of a pool say.

use super::process::tell_held;
use super::{Common, Pool, now};
use crate::config::Application;
use crate::output::Held;
use crate::spawn;
use nix::sys::signal::Signal;
use preforkd_plan::pool::Event;
use preforkd_plan::time::Time;
use preforkd_sys::channel::MAX_MESSAGE;
use preforkd_worker::message::{FromMold, FromWorker, PROTOCOL};
use preforkd_worker::status::summary::{Summary, visible};
use std::io;

impl Pool {
    pub(super) fn worker_messages(&mut self, slot: u32, common: &Common) {
        let mut buffer = [0; MAX_MESSAGE / 8];
        while let Some(Some(process)) = self.workers.get_mut(slot as usize) {
            let received = match process.spawned.control.try_receive(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                other => other.ok(),
            };
            let message = match &received {
                Some(received) if received.length > 0 => {
                    FromWorker::decode(&buffer[..received.length]).ok()
                }
                _ => None,
            };
            let sender = received.and_then(|received| received.sender);
            let Some(message) = message else {
                // Its end, or nonsense: either way it is not to be listened to any more. One with a pid is reaped.
                let _ = common.epoll.delete(&process.spawned.control);
                if process.spawned.pid.is_none()
                    && let Some(process) = self.workers[slot as usize].take()
                {
                    self.worker_died(slot, process, None);
                }
                return;
            };
            match message {
                FromWorker::Hello => {
                    if process.spawned.pid.is_none()
                        && let Some(pid) = sender
                    {
                        process.spawned.pid = Some(pid);
                        self.log_started(pid);
                    }
                }
                FromWorker::Ready => {
                    if let Some(held) = process.held.take() {
                        tell_held(&held, process, "child", &self.config);
                    }
                    self.decided = true;
                    self.last_failure = Held::default();
                    self.on(Event::Ready { slot });
                }
                FromWorker::WornOut => self.on(Event::WornOut { slot }),
                FromWorker::Occupied => self.on(Event::Occupied),
                FromWorker::TimedOut => {
                    process.leaving = true;
                    self.log_timeout(slot);
                }
                FromWorker::Note { text } => {
                    tracing::debug!(
                        "[pool {}] child {}: {text}",
                        self.config.name,
                        process.pid_text()
                    );
                }
            }
        }
    }

    fn log_timeout(&self, slot: u32) {
        let Some(Some(process)) = self.workers.get(slot as usize) else {
            return;
        };
        let request = self.board.request(slot);
        let begun = request.as_ref().map_or(0, |request| request.begun);
        let summary = Summary::parse(&request.map_or_else(Vec::new, |request| request.text));
        tracing::warn!(
            "[pool {}] child {}, script '{}' (request: \"{} {}\") execution timed out ({:.6} sec), terminating",
            self.config.name,
            process.pid_text(),
            visible(&summary.script),
            visible(&summary.method),
            visible(&summary.uri),
            now().since(Time(begun)).as_secs_f64()
        );
    }

    pub(super) fn mold_messages(&mut self, common: &Common) {
        let mut buffer = [0; MAX_MESSAGE / 8];
        while let Some(mold) = &mut self.mold {
            let message = match mold.spawned.control.try_receive(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(received) if received.length > 0 => {
                    FromMold::decode(&buffer[..received.length]).ok()
                }
                Ok(_) | Err(_) => None,
            };
            let Some(message) = message else {
                // Its end, or nonsense, after which it is of no use. Its death will be seen. One that has not come up
                // is about to say why; if it hangs instead, its deadline ends it.
                let _ = common.epoll.delete(&mold.spawned.control);
                if mold.held.is_none() {
                    mold.signal(Signal::SIGTERM);
                }
                return;
            };
            match message {
                FromMold::Hello { protocol } if protocol != PROTOCOL => {
                    tracing::error!(
                        "[pool {}] the Python extension module speaks protocol {protocol} and this daemon {PROTOCOL}; they have to be of one version",
                        self.config.name
                    );
                    mold.signal(Signal::SIGKILL);
                }
                FromMold::Hello { .. } => self.set_up_mold(common),
                FromMold::Ready => {
                    if let Some(held) = mold.held.take() {
                        tell_held(&held, mold, "mold", &self.config);
                    }
                    tracing::info!(
                        "[pool {}] mold {} is ready (generation {})",
                        self.config.name,
                        mold.pid_text(),
                        self.generation
                    );
                    self.on(Event::MoldReady);
                }
                FromMold::Threads { names } => {
                    tracing::warn!(
                        "[pool {}] importing the application started threads ({names}), so that it cannot be forked; each worker imports it itself",
                        self.config.name
                    );
                    self.preload = false;
                }
                FromMold::SpawnFailed { slot } => {
                    if let Some(Some(process)) = self.workers.get(slot as usize)
                        && process.spawned.pid.is_none()
                    {
                        tracing::error!("[pool {}] the mold could not fork", self.config.name);
                        self.workers[slot as usize] = None;
                        self.on(Event::SpawnFailed { slot });
                    }
                }
            }
        }
    }

    fn set_up_mold(&self, common: &Common) {
        if let (Application::Wsgi(wsgi), Some(mold)) = (&self.config.application, &self.mold)
            && let Err(error) = spawn::set_up_mold(
                self.shared(common),
                wsgi,
                &mold.spawned.control,
                self.preload,
            )
        {
            tracing::error!(
                "[pool {}] cannot set up the mold: {error}",
                self.config.name
            );
            mold.signal(Signal::SIGKILL);
        }
    }
}
