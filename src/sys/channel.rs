//! Messages between the master, molds and workers: whole, with descriptors, and with the sender's pid from the kernel.
//!
//! A channel is a socket pair of type SEQPACKET: one send is one message. The end of the other side is an empty message.
//! No call blocks unless the channel was set to.

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, getsockopt, sendmsg,
    setsockopt, shutdown, socketpair, sockopt,
};
use nix::unistd::{Pid, getppid};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Descriptors that one message may carry.
pub const MAX_FDS: usize = 8;

/// Descriptors that the kernel lets one message carry (`SCM_MAX_FD`, unix(7)).
const MOST_FDS: libc::c_uint = 253;

/// Bytes of what may come beside those of a message: the sender's credentials, and descriptors.
// SAFETY: both take a number and touch no memory.
const CONTROL: usize =
    unsafe { libc::CMSG_SPACE(CREDENTIALS) + libc::CMSG_SPACE(MOST_FDS * INT) } as usize;

// The C library counts in another type than Rust.
const CREDENTIALS: libc::c_uint = 12;
const INT: libc::c_uint = 4;
const _: () = assert!(size_of::<libc::ucred>() == 12 && size_of::<libc::c_int>() == 4);

/// Bytes that one message may have.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// One end of a channel.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// A message as it arrived.
#[derive(Debug)]
pub struct Received {
    /// Its length in the buffer given; 0 means that the other side has gone.
    pub length: usize,
    /// The descriptors that came with it, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// The process that sent it, as the kernel vouches; only at an end made by [`pair`]'s first half.
    pub sender: Option<Pid>,
}

impl Received {
    /// Takes in what came beside the bytes. Also of a message of which the kernel says that it is cut
    /// (`MSG_CTRUNC`): the descriptors that it has made until this process could have no more are open.
    ///
    /// # Safety
    /// `message` must be as a successful recvmsg(2) has left it, with a buffer that is aligned for headers.
    unsafe fn take_control(&mut self, message: &libc::msghdr) {
        // SAFETY: the caller vouches for the buffer; the macros stay within it.
        let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
        while !header.is_null() {
            // SAFETY: the kernel has written a header here, and behind it as much as its length says.
            unsafe {
                let data = libc::CMSG_DATA(header);
                let head = data.offset_from_unsigned(header.cast::<u8>());
                let length = (*header).cmsg_len.saturating_sub(head);
                match ((*header).cmsg_level, (*header).cmsg_type) {
                    (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                        for place in 0..length / size_of::<RawFd>() {
                            let fd = data.cast::<RawFd>().add(place).read_unaligned();
                            // The kernel has just made it for this process; nothing else owns it.
                            let fd = OwnedFd::from_raw_fd(fd);
                            close_without_waiting(&fd);
                            self.fds.push(fd);
                        }
                    }
                    (libc::SOL_SOCKET, libc::SCM_CREDENTIALS)
                        if length >= size_of::<libc::ucred>() =>
                    {
                        let sender = data.cast::<libc::ucred>().read_unaligned();
                        self.sender = Some(Pid::from_raw(sender.pid));
                    }
                    _ => {}
                }
                header = libc::CMSG_NXTHDR(message, header);
            }
        }
    }
}

/// A pair of connected ends: the first learns each sender's pid and takes no descriptors.
///
/// # Errors
/// The error of `socketpair(2)`: EMFILE or ENFILE.
pub fn pair() -> io::Result<(Channel, Channel)> {
    let (ours, theirs) = pair_of_carriers()?;
    take_no_descriptors(&ours.0);
    Ok((ours, theirs))
}

/// The same, where the first end takes descriptors as well.
///
/// # Errors
/// As [`pair`].
pub fn pair_of_carriers() -> io::Result<(Channel, Channel)> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    setsockopt(&ours, sockopt::PassCred, &true)?;
    Ok((Channel(ours), Channel(theirs)))
}

impl Channel {
    /// The end that this process was given as `fd`.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Sends one message; never blocks.
    ///
    /// # Errors
    /// EAGAIN when the other side has not read what it was sent before; EPIPE when it has gone.
    pub fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[] } else { &rights[..] };
        sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(message)],
            control,
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        Ok(())
    }

    /// Receives one message, if there is one.
    ///
    /// # Errors
    /// EAGAIN when there is none; `InvalidData` for one that is longer than the buffer or carries too many descriptors.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.receive_with(buffer, MsgFlags::MSG_DONTWAIT)
    }

    /// Waits for one message.
    ///
    /// # Errors
    /// `InvalidData` as in [`Self::try_receive`].
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.receive_with(buffer, MsgFlags::empty())
    }

    /// Lets nobody send anything more to this end, made by [`pair`]'s first half, and throws away what has been: what its
    /// last close finds there is closed as whoever sent it wants, who may want that to wait (see
    /// [`close_without_waiting`]).
    pub fn discard(&self) {
        // It is connected, or its peer has gone.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Read);
        // An empty message has a sender, the end has none. It comes twice at least: a peer that goes away with messages
        // unread is told of once, before those that it has sent.
        let mut ends = 0;
        while ends < 2 {
            match self.try_receive(&mut [0]) {
                Ok(received) if received.length == 0 && received.sender.is_none() => ends += 1,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(_) => return,
            }
        }
    }

    /// Bytes of the messages that wait to be received.
    #[must_use]
    pub fn unread(&self) -> u32 {
        let mut count: libc::c_int = 0;
        // SAFETY: FIONREAD writes an int, which `count` is, and keeps no pointer to it.
        let asked = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::FIONREAD, &raw mut count) };
        if asked < 0 {
            return 0;
        }
        u32::try_from(count).unwrap_or(0)
    }

    /// Whether the process that made this channel is this one's parent, as the master of a worker is as long as it runs,
    /// whatever program it runs.
    #[must_use]
    pub fn is_peer_parent(&self) -> bool {
        getsockopt(&self.0, sockopt::PeerCredentials)
            .is_ok_and(|maker| Pid::from_raw(maker.pid()) == getppid())
    }

    fn receive_with(&self, buffer: &mut [u8], flags: MsgFlags) -> io::Result<Received> {
        let mut control = [0_u64; CONTROL.div_ceil(size_of::<u64>())];
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: a struct of numbers and pointers, of which none is what zeroes mean.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
        let length = loop {
            // SAFETY: the kernel writes to `message`, and to the two buffers that it names no more than they hold.
            let count =
                unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, flags.bits()) };
            match usize::try_from(count) {
                Ok(count) => break count,
                Err(_) => match Errno::last() {
                    Errno::EINTR => {}
                    Errno::ECONNRESET => break 0,
                    error => return Err(error.into()),
                },
            }
        };
        let mut received = Received {
            length,
            fds: Vec::new(),
            sender: None,
        };
        // SAFETY: `message` is as the kernel has left it, and its buffer has been aligned for headers.
        unsafe { received.take_control(&message) };
        let truncated = message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
        if truncated || received.fds.len() > MAX_FDS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a message on a channel is too long, or carries too many descriptors",
            ));
        }
        Ok(received)
    }
}

/// Has the kernel refuse descriptors that somebody sends to this end (`SO_PASSRIGHTS`, since Linux 6.16): before, they
/// are closed when they have been received.
fn take_no_descriptors(socket: &OwnedFd) {
    // The C library's headers do not have it yet. SPARC has a number of its own.
    const SO_PASSRIGHTS: libc::c_int = if cfg!(target_arch = "sparc64") {
        0x5c
    } else {
        83
    };
    let no: libc::c_int = 0;
    // SAFETY: the kernel reads an int, which `no` is, and keeps no pointer to it. Where it does not know the option,
    // nothing has changed.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const no).cast(),
            INT,
        );
    }
}

/// Has the close of a connection that came from elsewhere not wait until its peer has taken all, for as long as whoever
/// sent it has chosen (`SO_LINGER`, socket(7)).
pub fn close_without_waiting(fd: &OwnedFd) {
    let never = libc::linger {
        l_onoff: 0,
        l_linger: 0,
    };
    // What is no socket has nothing of the kind.
    let _ = setsockopt(fd, sockopt::Linger, &never);
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_message_carries_descriptors_and_the_senders_pid() {
        let (ours, theirs) = pair_of_carriers().unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        theirs.send(b"hello", &[writer.as_fd()]).unwrap();
        drop(writer);
        let mut buffer = [0; 64];
        let received = ours.try_receive(&mut buffer).unwrap();
        assert_eq!(&buffer[..received.length], b"hello");
        assert_eq!(received.sender, Some(nix::unistd::getpid()));
        let mut passed = std::fs::File::from(received.fds.into_iter().next().unwrap());
        passed.write_all(b"through").unwrap();
        drop(passed);
        let mut text = String::new();
        std::fs::File::from(reader)
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn the_close_of_what_came_does_not_wait() {
        let (ours, theirs) = pair_of_carriers().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let sent = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let long = libc::linger {
            l_onoff: 1,
            l_linger: 3600,
        };
        setsockopt(&sent, sockopt::Linger, &long).unwrap();
        theirs.send(b"x", &[sent.as_fd()]).unwrap();
        let received = ours.try_receive(&mut [0; 8]).unwrap();
        let linger = getsockopt(&received.fds[0], sockopt::Linger).unwrap();
        assert_eq!(linger.l_onoff, 0);
    }

    #[test]
    fn nothing_waiting_is_would_block_and_a_gone_peer_is_empty() {
        let (ours, theirs) = pair().unwrap();
        let mut buffer = [0; 8];
        assert_eq!(
            ours.try_receive(&mut buffer).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(theirs);
        assert_eq!(ours.try_receive(&mut buffer).unwrap().length, 0);
    }

    #[test]
    fn descriptors_that_are_too_many_are_closed() {
        let (ours, theirs) = pair_of_carriers().unwrap();
        for count in [MAX_FDS + 1, MOST_FDS as usize] {
            let (reader, writer) = nix::unistd::pipe().unwrap();
            theirs.send(b"x", &vec![writer.as_fd(); count]).unwrap();
            drop(writer);
            assert_eq!(
                ours.try_receive(&mut [0; 8]).unwrap_err().kind(),
                io::ErrorKind::InvalidData
            );
            let mut rest = String::new();
            let mut reader = std::fs::File::from(reader);
            nix::fcntl::fcntl(
                &reader,
                nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
            )
            .unwrap();
            assert_eq!(reader.read_to_string(&mut rest).unwrap(), 0);
        }
    }

    #[test]
    fn where_none_are_due_nobody_can_leave_descriptors() {
        let (ours, theirs) = pair().unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let refused = theirs.send(b"x", &[writer.as_fd()]);
        drop(writer);
        let received = ours.try_receive(&mut [0; 8]);
        // Older kernels take them for the receiver, who closes them.
        match (refused, received) {
            (Err(error), Err(_)) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
            (sent, received) => assert!(sent.is_ok() && received.is_ok()),
        }
        assert_eq!(std::fs::File::from(reader).read(&mut [0]).unwrap(), 0);
        // The other way they are due.
        let (_, writer) = nix::unistd::pipe().unwrap();
        ours.send(b"x", &[writer.as_fd()]).unwrap();
        assert_eq!(theirs.receive(&mut [0; 8]).unwrap().fds.len(), 1);
    }

    #[test]
    fn a_message_longer_than_the_buffer_is_an_error() {
        let (ours, theirs) = pair().unwrap();
        theirs.send(&[1; 16], &[]).unwrap();
        assert_eq!(
            ours.try_receive(&mut [0; 8]).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
