//! The connections of a worker: it takes one up from the listening socket or from those that others have parted with,
//! keeps it for the next request, and parts with it when another one comes.

use super::{KEPT, LISTENER, PARKED, Worker, exclusive};
use crate::Application;
use crate::message::FromWorker;
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::socket::{SockaddrStorage, getpeername};
use preforkd_sys::fds;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// How long a worker that cannot accept, for want of descriptors or memory, say, waits before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Worker {
    /// Accepts a connection, if there still is one, and answers its first request. A kept one yields to it. Returns
    /// whether there may be another.
    pub(super) fn accept(&mut self, application: &mut impl Application) -> io::Result<bool> {
        let connection = match fds::accept(self.listener.as_fd()) {
            Ok(connection) => connection,
            // Another worker was faster.
            Err(Errno::EAGAIN) => return Ok(false),
            // The peer has left.
            Err(Errno::EINTR | Errno::ECONNABORTED | Errno::EPROTO) => return Ok(true),
            Err(error) if is_of_the_listener(error) => return Err(error.into()),
            Err(error) => {
                // The master may have gone, and with it whoever reads.
                let _ = writeln!(
                    io::stderr(),
                    "cannot accept: {error}; trying again in {} ms",
                    ACCEPT_PAUSE.as_millis()
                );
                std::thread::sleep(ACCEPT_PAUSE);
                return Ok(true);
            }
        };
        if self.is_allowed(&connection) {
            self.reporter.connection();
            self.turn_to(connection, false, application);
        }
        Ok(true)
    }

    /// Takes up a connection that another worker has parted with, if there still is one, and answers its next request.
    pub(super) fn take_parked(&mut self, application: &mut impl Application) {
        if let Ok(Some(connection)) = self.parking.take()
            && self.is_allowed(&connection)
        {
            self.turn_to(connection, true, application);
        }
    }

    /// Answers the next request on a connection that is not the one it keeps, which yields.
    fn turn_to(&mut self, connection: OwnedFd, taken_up: bool, application: &mut impl Application) {
        self.part();
        self.taken_up = taken_up;
        if let Some(access) = &mut self.access {
            access.connected(connection.as_fd());
        }
        self.exchange().open(connection);
        self.answer(application, false);
    }

    /// Parts with the connection that it keeps, if it does, and leaves it to others.
    pub(super) fn part(&mut self) {
        if self.keeps
            && self.exchange().can_be_left()
            && let Some(connection) = self.exchange.as_ref().and_then(|it| it.connection())
            && self.parking.put(connection).is_ok()
        {
            self.forget_connection();
        } else {
            self.hang_up();
        }
    }

    /// Closes the connection that it keeps, if nothing has come on it since the last answer.
    pub(super) fn close_if_quiet(&mut self) {
        if self.keeps && !self.exchange().has_arrived() {
            self.hang_up();
        }
    }

    /// Whether `listen.allowed_clients` lets this peer in; who comes over a Unix socket always is.
    fn is_allowed(&self, connection: &OwnedFd) -> bool {
        let Some(allowed) = &self.settings.allowed_clients else {
            return true;
        };
        let peer = match getpeername::<SockaddrStorage>(connection.as_raw_fd()) {
            Ok(peer) => match (peer.as_sockaddr_in(), peer.as_sockaddr_in6()) {
                (Some(v4), _) => IpAddr::from(v4.ip()),
                (None, Some(v6)) => IpAddr::from(v6.ip()),
                (None, None) => return true,
            },
            // It has left already.
            Err(_) => return false,
        };
        let is_allowed = allowed.admits(peer);
        if !is_allowed {
            // As above: nobody may be left to read it.
            let _ = writeln!(
                io::stderr(),
                "Connection disallowed: IP address '{}' has been dropped.",
                peer.to_canonical()
            );
        }
        is_allowed
    }

    /// Waits for the next request on the connection, and from now on last of all for new connections.
    pub(super) fn watch_connection(&mut self) -> io::Result<()> {
        if let Some(connection) = self.exchange.as_ref().and_then(|it| it.connection()) {
            self.epoll.add(
                connection,
                EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP, KEPT),
            )?;
            self.watched = true;
        }
        self.epoll.delete(&self.listener)?;
        self.epoll.add(&self.listener, exclusive(LISTENER))?;
        self.epoll.delete(&self.parking)?;
        self.epoll.add(&self.parking, exclusive(PARKED))?;
        Ok(())
    }

    /// Closes the connection; one that was kept for everybody, since a child that the application forked during an
    /// earlier request may hold it as well.
    pub(super) fn hang_up(&mut self) {
        if (self.watched || self.taken_up)
            && let Some(exchange) = &self.exchange
        {
            exchange.shut_down();
        }
        self.forget_connection();
    }

    /// Closes this worker's descriptor of the connection. No other place does, since what is held open somewhere stays in
    /// the poll set.
    fn forget_connection(&mut self) {
        self.keeps = false;
        let watched = std::mem::take(&mut self.watched);
        if let Some(exchange) = &mut self.exchange {
            if watched && let Some(connection) = exchange.connection() {
                // Fails only for what is not in the set.
                let _ = self.epoll.delete(connection);
            }
            exchange.close();
            if let Some(loss) = exchange.take_loss() {
                // A line that finds the channel full is not worth a wait.
                let text = loss.to_string();
                let _ = self.tell(&FromWorker::Lost { text });
            }
        }
    }
}

/// Whether accepting will fail for ever. Any other error is of one connection, or of the moment (accept(2)).
fn is_of_the_listener(error: Errno) -> bool {
    matches!(
        error,
        Errno::EBADF | Errno::EFAULT | Errno::EINVAL | Errno::ENOTSOCK
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_network_is_no_reason_to_leave() {
        for error in [
            Errno::ENETDOWN,
            Errno::EHOSTUNREACH,
            Errno::EPERM,
            Errno::EMFILE,
        ] {
            assert!(!is_of_the_listener(error), "{error}");
        }
        assert!(is_of_the_listener(Errno::EINVAL));
    }
}
