//! How a pool takes over from the generation before it, and how it leaves: to another generation, to another program, or to
//! nobody.

use super::{Common, Pool};
use crate::upgrade::Testament;
use nix::sys::signal::Signal;
use preforkd_plan::pool::{Event, Phase};
use std::os::fd::AsFd;

/// Who goes on with what a pool leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heirs {
    /// Somebody listens on its address.
    pub address: bool,
    /// Somebody looks after its kept connections.
    pub connections: bool,
}

impl Heirs {
    /// These and those.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self {
            address: self.address || others.address,
            connections: self.connections || others.connections,
        }
    }
}

impl Pool {
    /// What of this pool `other` goes on with.
    #[must_use]
    pub fn heir(&self, other: &Self) -> Heirs {
        Heirs {
            address: other
                .listeners()
                .any(|listener| listener.is(&self.listener)),
            connections: other.parked.place().is(self.parked.place()),
        }
    }

    /// Workers leave after their request. Where nobody goes on with its address, who has come is answered before, and
    /// nobody else comes. One that is leaving already may have got `heirs` since.
    pub fn retire(&mut self, heirs: Heirs, common: &Common) {
        if !self.leaving && !heirs.address {
            self.listener.shut_door();
            self.drains = true;
        }
        // Before the workers are told: they are to find what has come.
        if heirs.connections {
            self.parked.leave(common);
        } else {
            self.parked.end(common);
        }
        if !self.leaving {
            self.stop(Phase::Finishing);
        }
    }

    /// Stops at once.
    pub fn terminate(&mut self, phase: Phase, common: &Common) {
        self.parked.end(common);
        self.stop(phase);
    }

    fn stop(&mut self, phase: Phase) {
        self.leaving = true;
        if let Some(mold) = &mut self.mold {
            mold.leaving = true;
            mold.signal(Signal::SIGTERM);
        }
        self.on(Event::Stop(phase));
    }

    /// Leaves its socket and its processes to another program.
    pub fn bequeath<'a>(&'a self, testament: &mut Testament<'a>) {
        if !self.leaving {
            for listener in self.listeners() {
                testament.listener(listener);
            }
            testament.generation(&self.config.name, self.generation);
        }
        for process in self.workers.iter().chain([&self.mold]).flatten() {
            // One whose pid is not known yet leaves at the end of its channel.
            if let Some(pid) = process.spawned.pid {
                let control = (!process.leaving).then(|| process.spawned.control.as_fd());
                testament.process(
                    &self.config.name,
                    pid,
                    control,
                    process.spawned.output.as_ref(),
                    process.leads_group(),
                );
            }
        }
    }

    /// Lets go of the connections that no worker holds, for whoever looks after them next.
    pub fn put_back_connections(&mut self, common: &Common) {
        self.parked.put_back(common);
    }

    /// Takes no more connections that its workers part with, since nobody comes after them.
    pub fn discard_parked(&self) {
        self.parked.place().ours().discard();
    }

    /// It takes over from the generation before it.
    pub fn take_over(&self) {
        for listener in self.listeners() {
            if let Err(error) = listener.adjust(&self.config) {
                tracing::warn!(
                    "[pool {}] cannot adjust the listening socket: {error}",
                    self.config.name
                );
            }
        }
    }

    /// Leaves the master's poll set, its processes being gone, and gives its sockets up.
    pub fn leave(mut self, common: &Common) {
        self.parked.leave(common);
        let _ = common.epoll.delete(self.board.handle().notice);
        if self.watches_listener {
            // Closing would not end that while another generation has the socket.
            let _ = common.epoll.delete(self.listener.socket());
        }
    }
}
