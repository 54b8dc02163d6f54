//! What the status service has of a pool.

use super::pages;
use crate::config::{Listen, Pool};
use preforkd_sys::board::Board;
use preforkd_sys::queue::{Gauge, Queue, Target};
use preforkd_sys::scoreboard::Handle;
use preforkd_worker::allowed::AllowedClients;
use preforkd_worker::status::Pages;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Where the status service answers for one pool, and what it looks at for it.
///
/// Of the pool's own things it holds no descriptor but a TCP socket, whose queue is told by nothing else, and no memory
/// that it could write to.
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
    /// The pool's own socket, whose queue is shown, where it is asked through the socket itself.
    queue: Option<OwnedFd>,
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
        board: Handle<'_>,
    ) -> io::Result<Self> {
        let target = Target::of(queue)?;
        let queue = match target {
            Target::Tcp => Some(queue.try_clone_to_owned()?),
            Target::Unix(_) => None,
        };
        let path = pool.status_path.clone().unwrap_or_else(|| "/".to_owned());
        Ok(Self {
            pages: pages(pool, Some(path)),
            board: Board::read_only(board.memory)?,
            listener: listener.try_clone_to_owned()?,
            is_unix: matches!(pool.status_listen, Some(Listen::Unix(_))),
            allowed: pool.allowed_clients.clone(),
            queue,
            target,
        })
    }

    /// The descriptors that it works with.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let queue = self.queue.as_ref().map(AsFd::as_fd);
        queue.into_iter().chain([self.listener.as_fd()])
    }

    /// The pool's accept queue; one that cannot be read counts as empty.
    #[must_use]
    pub fn queue(&self, gauge: &Gauge) -> Queue {
        // For a Unix socket the target says it all.
        let socket = self.queue.as_ref().unwrap_or(&self.listener);
        gauge.read(socket.as_fd(), self.target).unwrap_or_default()
    }
}
