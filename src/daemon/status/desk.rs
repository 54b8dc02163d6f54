//! What the status service has of a pool.

use super::pages;
use crate::config::{Listen, Pool};
use preforkd_sys::board::Board;
use preforkd_sys::parking::Parking;
use preforkd_sys::queue::{Gauge, Queue, Target};
use preforkd_sys::scoreboard::Handle;
use preforkd_worker::allowed::AllowedClients;
use preforkd_worker::status::Pages;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicBool;

/// Where the status service answers for one pool, and what it looks at for it.
///
/// Of the pool's own things it holds no memory that it could write to, and no descriptor but a TCP socket, whose queue is
/// told by nothing else; or, with `pm.max_queue`, the socket in any case, and where kept connections are parked.
#[derive(Debug)]
pub struct Desk {
    /// The pages it answers.
    pub pages: Pages,
    /// The pool's scoreboard, mapped for reading alone.
    pub board: Board,
    /// The socket of `pm.status_listen`.
    pub listener: Option<OwnedFd>,
    /// Whether that is a Unix socket.
    pub is_unix: bool,
    /// Who may connect over TCP.
    pub allowed: Option<AllowedClients>,
    /// Where kept connections are left to the pool's workers.
    pub parking: Option<Parking>,
    /// Somebody is about to turn connections away.
    pub turns_away: AtomicBool,
    /// Most connections that may wait in the queue while all workers are busy.
    max_queue: Option<u32>,
    /// The pool's own socket, where its queue is asked through the socket itself, or is to be taken from.
    queue: Option<OwnedFd>,
    target: Target,
}

/// What the service gets of a pool's descriptors.
#[derive(Clone, Copy, Debug)]
pub struct Sockets<'a> {
    /// The socket of `pm.status_listen`.
    pub status: Option<BorrowedFd<'a>>,
    /// The socket of `listen`.
    pub requests: BorrowedFd<'a>,
    /// The workers' end of where kept connections are parked.
    pub parking: &'a Parking,
}

impl Desk {
    /// For a pool with these sockets.
    ///
    /// # Errors
    /// EMFILE, ENOMEM.
    pub fn new(pool: &Pool, sockets: Sockets<'_>, board: Handle<'_>) -> io::Result<Self> {
        let target = Target::of(sockets.requests)?;
        let is_taken_from = pool.max_queue.is_some();
        let wanted = is_taken_from || target == Target::Tcp;
        let requests = wanted.then(|| sockets.requests.try_clone_to_owned());
        let parking = is_taken_from.then(|| sockets.parking.try_clone());
        let listener = sockets.status.map(|status| status.try_clone_to_owned());
        let path = pool.status_path.clone().unwrap_or_else(|| "/".to_owned());
        Ok(Self {
            pages: pages(pool, Some(path)),
            board: Board::read_only(board.memory)?,
            listener: listener.transpose()?,
            is_unix: matches!(pool.status_listen, Some(Listen::Unix(_))),
            allowed: pool.allowed_clients.clone(),
            parking: parking.transpose()?,
            turns_away: AtomicBool::new(false),
            max_queue: pool.max_queue,
            queue: requests.transpose()?,
            target,
        })
    }

    /// The descriptors that it works with.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let sockets = [&self.queue, &self.listener];
        let sockets = sockets.into_iter().flatten().map(AsFd::as_fd);
        sockets.chain(self.parking.as_ref().map(AsFd::as_fd))
    }

    /// The pool's accept queue; one that cannot be read counts as empty.
    #[must_use]
    pub fn queue(&self, gauge: &Gauge) -> Queue {
        // For a Unix socket the target says it all.
        let socket = self.queue.as_ref().or(self.listener.as_ref());
        socket
            .and_then(|socket| gauge.read(socket.as_fd(), self.target).ok())
            .unwrap_or_default()
    }

    /// Whether more connections wait than may.
    #[must_use]
    pub fn has_surplus(&self, gauge: &Gauge) -> bool {
        self.max_queue
            .is_some_and(|most| self.queue(gauge).length > most)
    }

    /// The socket that requests come to.
    #[must_use]
    pub fn requests(&self) -> Option<BorrowedFd<'_>> {
        self.queue.as_ref().map(AsFd::as_fd)
    }

    /// Whether that is one of TCP.
    #[must_use]
    pub fn takes_requests_over_tcp(&self) -> bool {
        self.target == Target::Tcp
    }
}
