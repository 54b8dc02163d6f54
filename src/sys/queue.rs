//! How many connections wait on a listening socket.
//!
//! TCP tells it in `TCP_INFO` (`tcpi_unacked` of a listening socket). Unix sockets tell it only over
//! `NETLINK_SOCK_DIAG` (`UDIAG_SHOW_RQLEN`, see sock_diag(7)); one netlink socket serves all listeners.

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use nix::sys::stat::fstat;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The accept queue of a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Queue {
    /// Connections that wait to be accepted.
    pub length: u32,
    /// Connections that may wait (the backlog, as the kernel clamped it).
    pub capacity: u32,
}

/// Asks the kernel for accept queues.
#[derive(Debug)]
pub struct Gauge {
    /// None where the kernel has no sock_diag or forbids it.
    netlink: Option<OwnedFd>,
}

/// A listening socket that a [`Gauge`] can ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// TCP; asked through the socket itself.
    Tcp,
    /// Unix; asked by the inode of the socket.
    Unix(u32),
}

impl Target {
    /// What `listener` is.
    ///
    /// # Errors
    /// The error of `getsockopt(2)` or `fstat(2)`.
    pub fn of(listener: BorrowedFd<'_>) -> io::Result<Self> {
        let family: libc::c_int = option(listener, libc::SOL_SOCKET, libc::SO_DOMAIN)?;
        if family != libc::AF_UNIX {
            return Ok(Self::Tcp);
        }
        // sock_diag knows 32 bits of inode numbers, and the kernel's sockets have no more.
        u32::try_from(fstat(listener)?.st_ino)
            .map(Self::Unix)
            .map_err(io::Error::other)
    }
}

#[repr(C)]
struct UnixDiagRequest {
    header: libc::nlmsghdr,
    family: u8,
    protocol: u8,
    pad: u16,
    states: u32,
    inode: u32,
    show: u32,
    cookie: [u32; 2],
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const UDIAG_SHOW_RQLEN: u32 = 0x10;
const UNIX_DIAG_RQLEN: u16 = 4;
const UNIX_DIAG_MESSAGE: usize = 16;
const NLMSG_HEADER: usize = size_of::<libc::nlmsghdr>();

// The C library's constants are wider than the fields that they are for.
const REQUEST_LENGTH: u32 = 40;
const REQUEST_FLAGS: u16 = 1;
const AF_UNIX: u8 = 1;
const NLMSG_ERROR: u16 = 2;
const _: () = assert!(size_of::<UnixDiagRequest>() == 40);
const _: () = assert!(libc::NLM_F_REQUEST == 1 && libc::AF_UNIX == 1 && libc::NLMSG_ERROR == 2);

impl Gauge {
    /// A gauge; where sock_diag is not to be had, the queues of Unix sockets read as empty.
    #[must_use]
    pub fn new() -> Self {
        let netlink = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkSockDiag,
        );
        Self {
            netlink: netlink.ok(),
        }
    }

    /// The accept queue of `listener`; never blocks.
    ///
    /// # Errors
    /// What the kernel answers; ENOSYS where it has no sock_diag.
    pub fn read(&self, listener: BorrowedFd<'_>, target: Target) -> io::Result<Queue> {
        match target {
            Target::Tcp => {
                let info: libc::tcp_info = option(listener, libc::IPPROTO_TCP, libc::TCP_INFO)?;
                Ok(Queue {
                    length: info.tcpi_unacked,
                    capacity: info.tcpi_sacked,
                })
            }
            Target::Unix(inode) => self.read_unix(inode),
        }
    }

    /// Whether the queues of Unix sockets can be read.
    #[must_use]
    pub fn has_netlink(&self) -> bool {
        self.netlink.is_some()
    }

    /// The length of the accept queue of `listener`; where that cannot be had, 1 if somebody waits.
    #[must_use]
    pub fn length(&self, listener: BorrowedFd<'_>, target: Target) -> u32 {
        match self.read(listener, target) {
            Ok(queue) => queue.length,
            Err(_) => {
                let mut polled = [PollFd::new(listener, PollFlags::POLLIN)];
                u32::from(poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0))
            }
        }
    }

    fn read_unix(&self, inode: u32) -> io::Result<Queue> {
        let Some(netlink) = &self.netlink else {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        };
        let request = UnixDiagRequest {
            header: libc::nlmsghdr {
                nlmsg_len: REQUEST_LENGTH,
                nlmsg_type: SOCK_DIAG_BY_FAMILY,
                nlmsg_flags: REQUEST_FLAGS,
                nlmsg_seq: inode,
                nlmsg_pid: 0,
            },
            family: AF_UNIX,
            protocol: 0,
            pad: 0,
            states: u32::MAX,
            inode,
            show: UDIAG_SHOW_RQLEN,
            cookie: [u32::MAX; 2],
        };
        // SAFETY: a plain struct of integers without padding, read as the bytes it consists of.
        let bytes = unsafe {
            std::slice::from_raw_parts(
                (&raw const request).cast::<u8>(),
                size_of::<UnixDiagRequest>(),
            )
        };
        send(netlink.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT)?;
        // The kernel answers within the send. An answer to an earlier question that was given up is skipped.
        let mut answer = [0; 512];
        loop {
            let length = recv(
                netlink.as_fd().as_raw_fd(),
                &mut answer,
                MsgFlags::MSG_DONTWAIT,
            )?;
            if let Some(queue) = parse(&answer[..length], inode)? {
                return Ok(queue);
            }
        }
    }
}

impl Default for Gauge {
    fn default() -> Self {
        Self::new()
    }
}

/// The queue in a netlink answer about `inode`; None when the answer is about something else.
fn parse(answer: &[u8], inode: u32) -> io::Result<Option<Queue>> {
    let word = |at: usize| {
        answer
            .get(at..at + 4)
            .map(|bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let half = |at: usize| {
        answer
            .get(at..at + 2)
            .map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]))
    };
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "sock_diag: malformed answer");
    if word(8).ok_or_else(malformed)? != inode {
        return Ok(None);
    }
    if half(4) == Some(NLMSG_ERROR) {
        let code = word(NLMSG_HEADER).ok_or_else(malformed)?.cast_signed();
        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
    }
    let mut at = NLMSG_HEADER + UNIX_DIAG_MESSAGE;
    while let (Some(length), Some(kind)) = (half(at), half(at + 2)) {
        if kind == UNIX_DIAG_RQLEN {
            let length = word(at + 4).ok_or_else(malformed)?;
            let capacity = word(at + 8).ok_or_else(malformed)?;
            return Ok(Some(Queue { length, capacity }));
        }
        at += usize::from(length.max(4)).next_multiple_of(4);
    }
    Err(malformed())
}

fn option<T: Copy>(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int) -> io::Result<T> {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes, the size of `value`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: only used with plain integers and structs of them, for which all bytes, zeroed at first, are valid.
    Ok(unsafe { value.assume_init() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    #[test]
    fn the_queue_of_a_unix_socket_is_true() {
        let address =
            SocketAddr::from_abstract_name(format!("preforkd-queue-test-{}", std::process::id()))
                .unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let target = Target::of(listener.as_fd()).unwrap();
        let gauge = Gauge::new();
        assert_eq!(gauge.read(listener.as_fd(), target).unwrap().length, 0);
        let waiting: Vec<UnixStream> = (0..3)
            .map(|_| UnixStream::connect_addr(&address).unwrap())
            .collect();
        let queue = gauge.read(listener.as_fd(), target).unwrap();
        assert_eq!(queue.length, 3);
        assert!(queue.capacity >= 3);
        let accepted = listener.accept().unwrap();
        assert_eq!(gauge.read(listener.as_fd(), target).unwrap().length, 2);
        drop((accepted, waiting));
    }

    #[test]
    fn the_queue_of_a_tcp_socket_is_true() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::of(listener.as_fd()).unwrap();
        assert_eq!(target, Target::Tcp);
        let gauge = Gauge::new();
        let _waiting: Vec<TcpStream> = (0..2)
            .map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap())
            .collect();
        assert_eq!(gauge.read(listener.as_fd(), target).unwrap().length, 2);
    }

    #[test]
    fn without_netlink_it_is_known_whether_somebody_waits() {
        let name = format!("preforkd-no-netlink-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let target = Target::of(listener.as_fd()).unwrap();
        let gauge = Gauge { netlink: None };
        assert_eq!(gauge.length(listener.as_fd(), target), 0);
        let _waiting = [0; 3].map(|_| UnixStream::connect_addr(&address).unwrap());
        assert_eq!(gauge.length(listener.as_fd(), target), 1);
    }

    #[test]
    fn a_socket_that_is_not_there_is_an_error() {
        assert_eq!(
            Gauge::new().read_unix(1).unwrap_err().raw_os_error(),
            Some(libc::ENOENT)
        );
    }
}
