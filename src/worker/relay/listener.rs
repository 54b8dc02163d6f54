//! The socket that a program listens on: no name leads to it, so nobody else can connect.
//!
//! It is made under a name in a folder that only its maker can enter, and the folder is gone a moment later. What stays
//! is a descriptor of the name's file, through which the kernel still finds the socket: `/proc/self/fd/N` is a link to
//! the file itself, whether it has a name or not. The relay makes the folder of these links its working directory before
//! a new root hides it; its own working directory matters to nobody.
//!
//! The relay keeps the socket for as long as it lives. A connection that the program has not accepted when it ends
//! waits for its successor.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, UnixAddr, bind, connect, listen,
    setsockopt, shutdown, socket, sockopt,
};
use nix::sys::stat::Mode;
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::{Gid, Uid, fchdir};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};

/// Connections that may wait. The relay makes one at a time, and leaves few behind that were given up.
const BACKLOG: i32 = 32;

/// How long a receive on a connection may wait that is allowed to: long enough for most answers, too short for anybody
/// to notice that nothing else is looked at meanwhile.
pub(super) const RECEIVE_MS: i64 = 10;

/// How long making a connection may wait while too many wait already: those that were given up and that no program has
/// taken.
const CONNECT_MS: i64 = 1000;

/// The listening socket of a program.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    /// The socket's file (`O_PATH`).
    file: OwnedFd,
    /// The folder of links to this process's descriptors (`O_PATH`).
    links: OwnedFd,
}

impl Listener {
    /// A socket that `owner` can connect to. To be called before the process gives up what it may do, in the process
    /// that is going to use it.
    ///
    /// # Errors
    /// What making a file in the temporary folder gives; EMFILE and its like.
    pub fn new(owner: Option<(Uid, Gid)>) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("preforkd-").tempdir()?;
        let path = folder.path().join("program");
        let socket = stream()?;
        bind(socket.as_raw_fd(), &UnixAddr::new(&path)?)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        if let Some((user, group)) = owner {
            chown(&path, Some(user.as_raw()), Some(group.as_raw()))?;
        }
        listen(&socket, Backlog::new(BACKLOG)?)?;
        let path_only = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let file = open(&path, path_only, Mode::empty())?;
        folder.close()?;
        let links = open(
            "/proc/self/fd",
            path_only | OFlag::O_DIRECTORY,
            Mode::empty(),
        )?;
        Ok(Self {
            socket,
            file,
            links,
        })
    }

    /// Goes to where [`Self::connect`] works, and returns the working directory until now.
    ///
    /// # Errors
    /// EMFILE and its like.
    pub(super) fn enter(&self) -> io::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(".", flags, Mode::empty())?;
        fchdir(&self.links)?;
        Ok(directory)
    }

    /// A connection to the program. Receives that are allowed to wait do so for [`RECEIVE_MS`].
    ///
    /// # Errors
    /// ECONNREFUSED when the program has shut the socket down, EAGAIN when nothing was accepted for [`CONNECT_MS`];
    /// EMFILE and its like.
    pub(super) fn connect(&self) -> io::Result<OwnedFd> {
        let connection = stream()?;
        let wait = TimeVal::milliseconds(RECEIVE_MS);
        setsockopt(&connection, sockopt::ReceiveTimeout, &wait)?;
        // connect(2) waits for so long as well; sends never wait.
        let wait = TimeVal::milliseconds(CONNECT_MS);
        setsockopt(&connection, sockopt::SendTimeout, &wait)?;
        let name = self.file.as_raw_fd().to_string();
        connect(connection.as_raw_fd(), &UnixAddr::new(name.as_str())?).map_err(|error| {
            let error = io::Error::from(error);
            let text = format!("the program cannot be connected to: {error}");
            io::Error::new(error.kind(), text)
        })?;
        Ok(connection)
    }

    /// Whether a connection waits to be accepted.
    pub(super) fn has_waiting(&self) -> bool {
        let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        loop {
            match poll(&mut polled, PollTimeout::ZERO) {
                Err(Errno::EINTR) => {}
                ready => return ready.is_ok_and(|count| count > 0),
            }
        }
    }

    /// Ends it for everybody who has it: who waits for connections sees that there will be none.
    pub(super) fn shut_down(&self) {
        // There is nothing that it could fail for.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn stream() -> nix::Result<OwnedFd> {
    socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
}
