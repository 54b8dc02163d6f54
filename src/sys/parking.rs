//! Where connections wait that no worker holds, between two of their requests.
//!
//! FastCGI has no word for the close of a kept connection: a request that the web server sends on it just then is lost.
//! So a worker that has to part with one does not close it but hands it to the master. The master watches it, and when
//! something has arrived hands it to whichever worker of the pool takes it first. The workers of all generations share
//! one end of a channel for that, and the master has the other.

use crate::channel::{self, Channel};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What goes with a connection: a message must not be empty, and a byte each can be counted.
const CONNECTION: [u8; 1] = [1];

/// One end.
#[derive(Debug)]
pub struct Parking(Channel);

/// The master's end and that of the workers.
///
/// # Errors
/// EMFILE or ENFILE.
pub fn pair() -> io::Result<(Parking, Parking)> {
    let (ours, theirs) = channel::pair_of_carriers()?;
    Ok((Parking(ours), Parking(theirs)))
}

impl Parking {
    /// The end that this process was given as `fd`.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(Channel::from_fd(fd))
    }

    /// The same end, with a descriptor of its own.
    ///
    /// # Errors
    /// EMFILE.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::from_fd(self.as_fd().try_clone_to_owned()?))
    }

    /// Hands a connection to the other side, which gets a descriptor of its own; never blocks.
    ///
    /// # Errors
    /// EAGAIN when some hundreds wait there; EPIPE or ECONNRESET when nobody has the other end any more.
    pub fn put(&self, connection: BorrowedFd<'_>) -> io::Result<()> {
        self.0.send(&CONNECTION, &[connection])
    }

    /// Takes a connection that the other side has put, if there still is one. None as well when the descriptors of this
    /// process have run out: then it is closed.
    ///
    /// # Errors
    /// EPIPE when nothing comes any more, since somebody has shut the other end down.
    pub fn take(&self) -> io::Result<Option<OwnedFd>> {
        let mut buffer = [0; CONNECTION.len()];
        match self.0.try_receive(&mut buffer) {
            Ok(received) if received.length == 0 => Err(Errno::EPIPE.into()),
            Ok(mut received) => Ok(received.fds.pop()),
            Err(_) => Ok(None),
        }
    }

    /// Lets nobody put anything more there for this end to take, and closes what waits for that, without waiting.
    pub fn discard(&self) {
        self.0.discard();
    }

    /// Whether nobody has the other end any more. What was put there before can still be taken.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        let mut polled = [PollFd::new(self.as_fd(), PollFlags::empty())];
        // It fails for nothing that is wrong with this end.
        let _ = poll(&mut polled, PollTimeout::ZERO);
        polled[0]
            .revents()
            .is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }

    /// How many wait to be taken from this end.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.0.unread()
    }
}

impl AsFd for Parking {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What there is on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// Something.
    Bytes,
    /// Nothing yet.
    Nothing,
    /// Its end, or it is no connection at all.
    End,
}

/// Looks at a connection, without waiting, and takes nothing.
#[must_use]
pub fn look_at(connection: BorrowedFd<'_>) -> Arrived {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    match recv(connection.as_raw_fd(), &mut [0], flags) {
        Ok(1..) => Arrived::Bytes,
        Err(Errno::EAGAIN | Errno::EINTR) => Arrived::Nothing,
        Ok(0) | Err(_) => Arrived::End,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{Shutdown, shutdown};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_connection_lives_on_in_whoever_takes_it() {
        let (ours, theirs) = pair().unwrap();
        let (mut peer, connection) = UnixStream::pair().unwrap();
        assert!(ours.take().unwrap().is_none());
        theirs.put(connection.as_fd()).unwrap();
        drop(connection);
        assert_eq!((ours.waiting(), theirs.waiting()), (1, 0));
        let taken = ours.take().unwrap().unwrap();
        assert_eq!(ours.waiting(), 0);
        assert_eq!(look_at(taken.as_fd()), Arrived::Nothing);
        peer.write_all(b"x").unwrap();
        assert_eq!(look_at(taken.as_fd()), Arrived::Bytes);
        let mut taken = UnixStream::from(taken);
        taken.read_exact(&mut [0]).unwrap();
        drop(peer);
        assert_eq!(look_at(taken.as_fd()), Arrived::End);
    }

    #[test]
    fn nobody_waits_for_room_or_for_who_has_gone() {
        let (ours, theirs) = pair().unwrap();
        let (_peer, connection) = UnixStream::pair().unwrap();
        let fitting = (0..10_000)
            .take_while(|_| ours.put(connection.as_fd()).is_ok())
            .count();
        assert!((200..10_000).contains(&fitting), "{fitting}");
        assert_eq!(theirs.waiting() as usize, fitting);
        shutdown(theirs.as_fd().as_raw_fd(), Shutdown::Write).unwrap();
        assert!(ours.take().is_err());
        assert!(!ours.is_given_up());
        drop(theirs);
        assert!(ours.is_given_up());
        let gone = ours.put(connection.as_fd()).unwrap_err();
        assert_ne!(gone.kind(), io::ErrorKind::WouldBlock);
    }
}
