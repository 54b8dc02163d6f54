//! Messages between the master, molds and workers: whole, with descriptors, and with the sender's pid from the kernel.
//!
//! A channel is a socket pair of type SEQPACKET: one send is one message. The end of the other side is an empty message.
//! No call blocks unless the channel was set to.

use nix::cmsg_space;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    UnixCredentials, getsockopt, recvmsg, sendmsg, setsockopt, socketpair, sockopt,
};
use nix::unistd::{Pid, getppid};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Descriptors that one message may carry.
pub const MAX_FDS: usize = 8;

/// Descriptors that the kernel lets one message carry (`SCM_MAX_FD`, unix(7)). There must be room for all of them: of a
/// message that is cut, those that fit are open in this process and nobody knows them.
const MOST_FDS: usize = 253;

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

/// A pair of connected ends: the first is not blocking and learns each sender's pid, the second blocks.
///
/// # Errors
/// The error of `socketpair(2)`: EMFILE or ENFILE.
pub fn pair() -> io::Result<(Channel, Channel)> {
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
        let mut control = cmsg_space!(UnixCredentials, [RawFd; MOST_FDS]);
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
        let message = loop {
            match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut control), flags) {
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::ECONNRESET) => {
                    return Ok(Received {
                        length: 0,
                        fds: Vec::new(),
                        sender: None,
                    });
                }
                other => break other?,
            }
        };
        let mut received = Received {
            length: message.bytes,
            fds: Vec::new(),
            sender: None,
        };
        let truncated = message.flags.contains(MsgFlags::MSG_TRUNC);
        for part in message.cmsgs()? {
            match part {
                ControlMessageOwned::ScmRights(fds) => {
                    // SAFETY: the kernel has just made these descriptors for this process; nothing else owns them.
                    received.fds.extend(
                        fds.into_iter()
                            .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
                    );
                    received.fds.iter().for_each(close_without_waiting);
                }
                ControlMessageOwned::ScmCredentials(sender) => {
                    received.sender = Some(Pid::from_raw(sender.pid()))
                }
                _ => {}
            }
        }
        if truncated || received.fds.len() > MAX_FDS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a message on a channel is too long, or carries too many descriptors",
            ));
        }
        Ok(received)
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
        let (ours, theirs) = pair().unwrap();
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
        let (ours, theirs) = pair().unwrap();
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
        let (ours, theirs) = pair().unwrap();
        for count in [MAX_FDS + 1, MOST_FDS] {
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
    fn a_message_longer_than_the_buffer_is_an_error() {
        let (ours, theirs) = pair().unwrap();
        theirs.send(&[1; 16], &[]).unwrap();
        assert_eq!(
            ours.try_receive(&mut [0; 8]).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
