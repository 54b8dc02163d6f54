//! Kept connections that no worker holds, looked after until something arrives on them.
//!
//! [`preforkd_sys::parking`] says why. The generations of a pool have one parking place together: whichever looks takes
//! in what a worker parts with, and one that is to leave puts back what it looks after.

use super::Common;
use crate::token::{Token, What};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::socket::{Shutdown, shutdown};
use preforkd_sys::channel::close_without_waiting;
use preforkd_sys::parking::{Arrived, Parking, look_at};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// As many are looked after at most; then the one that has been quiet for longest is closed. All of them fit into the
/// channel that they are put back into.
const MOST: usize = 200;

/// Numbers that tokens can tell apart.
const NUMBERS: u32 = 1 << 28;

/// Connections taken in at one time.
const AT_ONCE: usize = 64;

/// Both ends of a pool's parking place.
#[derive(Debug)]
pub struct Place {
    /// The master's.
    pub ours: Parking,
    /// The workers'.
    pub theirs: Parking,
}

impl Place {
    /// A new one.
    ///
    /// # Errors
    /// EMFILE.
    pub fn new() -> io::Result<Self> {
        let (ours, theirs) = preforkd_sys::parking::pair()?;
        Ok(Self { ours, theirs })
    }

    /// The same one, for another generation.
    ///
    /// # Errors
    /// EMFILE.
    pub fn share(&self) -> io::Result<Self> {
        Ok(Self {
            ours: self.ours.try_clone()?,
            theirs: self.theirs.try_clone()?,
        })
    }
}

/// The connections that a pool looks after.
#[derive(Debug)]
pub struct Parked {
    pool: u32,
    place: Place,
    /// By numbers that grow, so that the first is the oldest.
    connections: BTreeMap<u32, OwnedFd>,
    next: u32,
}

impl Parked {
    /// For the pool of this number.
    ///
    /// # Errors
    /// ENOMEM, ENOSPC (epoll_ctl(2)).
    pub fn new(pool: u32, place: Place, common: &Common) -> io::Result<Self> {
        let token = Token::Pool {
            pool,
            what: What::Parking,
        };
        let event = EpollEvent::new(EpollFlags::EPOLLIN, token.into());
        common.epoll.add(&place.ours, event)?;
        Ok(Self {
            pool,
            place,
            connections: BTreeMap::new(),
            next: 0,
        })
    }

    /// The workers' end.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// How many wait for a worker to take them up.
    pub fn waiting(&self) -> u32 {
        self.place.theirs.waiting()
    }

    /// Workers have parted with connections. Returns false when one of them has shut their end down for all, so that
    /// nothing will come any more.
    pub fn take_in(&mut self, common: &Common) -> bool {
        for _ in 0..AT_ONCE {
            let connection = match self.place.ours.take() {
                Ok(Some(connection)) => connection,
                Ok(None) => return true,
                Err(_) => {
                    let _ = common.epoll.delete(&self.place.ours);
                    return false;
                }
            };
            if self.connections.len() == MOST
                && let Some((_, oldest)) = self.connections.pop_first()
            {
                let _ = common.epoll.delete(&oldest);
                end(oldest);
            }
            let token = Token::Pool {
                pool: self.pool,
                what: What::Parked { number: self.next },
            };
            let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
            // Fails for what is no connection.
            if common
                .epoll
                .add(&connection, EpollEvent::new(events, token.into()))
                .is_ok()
            {
                self.connections.insert(self.next, connection);
                self.next = (self.next + 1) % NUMBERS;
            }
        }
        true
    }

    /// Something has arrived on a connection, which goes to the workers, or it has ended. Returns whether the workers got
    /// it.
    pub fn ready(&mut self, number: u32, common: &Common) -> bool {
        let Some(connection) = self.connections.remove(&number) else {
            return false;
        };
        let _ = common.epoll.delete(&connection);
        // What wakes the master and has nothing in it is none, either.
        let passed = look_at(connection.as_fd()) == Arrived::Bytes
            && self.place.ours.put(connection.as_fd()).is_ok();
        if !passed {
            end(connection);
        }
        passed
    }

    /// Puts all connections back to where they came from, for whoever looks after them next: another generation, or
    /// another program.
    pub fn put_back(&mut self, common: &Common) {
        for connection in std::mem::take(&mut self.connections).into_values() {
            let _ = common.epoll.delete(&connection);
            if self.place.theirs.put(connection.as_fd()).is_err() {
                end(connection);
            }
        }
    }

    /// Looks after none any more.
    pub fn leave(&mut self, common: &Common) {
        // Closing would not end that while another generation has it as well.
        let _ = common.epoll.delete(&self.place.ours);
        self.put_back(common);
    }
}

/// Ends a connection for everybody who holds it: a child that the application forked, say.
fn end(connection: OwnedFd) {
    // The peer may have left, which is as good.
    let _ = shutdown(connection.as_raw_fd(), Shutdown::Both);
    // Whoever held it may have changed that since it came.
    close_without_waiting(&connection);
}
