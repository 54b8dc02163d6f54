//! What the status service has of a pool.

use super::pages;
use crate::config::{Listen, Pool};
use preforkd_sys::board::Board;
use preforkd_sys::queue::{Gauge, Queue, Target};
use preforkd_sys::scoreboard::Scoreboard;
use preforkd_worker::allowed::AllowedClients;
use preforkd_worker::status::Pages;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Where the status service answers for one pool, and what it looks at for it. It holds nothing through which it could
/// change what the pool does.
#[derive(Debug)]
pub struct Desk {
    /// The pages it answers.
    pub pages: Pages,
    /// The pool's scoreboard, mapped for reading alone.
    pub board: Board,
    /// The socket of `pm.status_listen`.
    pub listener: OwnedFd,
    /// Whether that is a Unix socket.
    pub is_unix: bool,
    /// Who may connect over TCP.
    pub allowed: Option<AllowedClients>,
    /// The pool's own socket, whose queue is shown.
    queue: OwnedFd,
    target: Target,
}

impl Desk {
    /// For a pool that listens for requests on `queue` and for its status on `listener`.
    ///
    /// # Errors
    /// EMFILE, ENOMEM.
    pub fn new(
        pool: &Pool,
        listener: BorrowedFd<'_>,
        queue: BorrowedFd<'_>,
        board: &Scoreboard,
    ) -> io::Result<Self> {
        let path = pool.status_path.clone().unwrap_or_else(|| "/".to_owned());
        Ok(Self {
            pages: pages(pool, Some(path)),
            board: Board::read_only(board.memory_fd())?,
            listener: listener.try_clone_to_owned()?,
            is_unix: matches!(pool.status_listen, Some(Listen::Unix(_))),
            allowed: pool.allowed_clients.clone(),
            queue: queue.try_clone_to_owned()?,
            target: Target::of(queue)?,
        })
    }

    /// The descriptors that it works with.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.listener.as_fd(), self.queue.as_fd()]
    }

    /// The pool's accept queue; one that cannot be read counts as empty.
    #[must_use]
    pub fn queue(&self, gauge: &Gauge) -> Queue {
        gauge
            .read(self.queue.as_fd(), self.target)
            .unwrap_or_default()
    }
}
