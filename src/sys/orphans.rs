//! The listening socket of a TCP address that only the workers of a dead master still have.
//!
//! While one of them answers a last request the address is taken. Its socket, with those who wait in the queue, is what a
//! new master wants: /proc tells who has it (proc(5), tcp(7)), and the kernel gives a copy to whoever may trace that
//! process (pidfd_getfd(2), Linux 5.6; root, with CAP_SYS_PTRACE).
//!
//! That the master is dead is the kernel's word as well: whoever it started has an end of a socket pair, of which the
//! kernel knows who made it (`SO_PEERCRED`, unix(7)).

use crate::children;
use nix::libc;
use nix::sys::socket::{
    SockType, UnixAddr, UnixCredentials, getpeername, getsockname, getsockopt, sockopt,
};
use nix::unistd::{Pid, Uid};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// State of a listening socket in /proc/net/tcp.
const LISTEN: &str = "0A";

/// The socket that listens on `address`, from a process of `user`, if all that have it were started by somebody of this
/// process's own user who is dead. None as well where that cannot be known, or the socket cannot be had.
///
/// Looks through all processes of the machine.
#[must_use]
pub fn listener_on(address: SocketAddr, user: Uid) -> Option<OwnedFd> {
    let table = match address.ip() {
        IpAddr::V4(_) => "/proc/net/tcp",
        IpAddr::V6(_) => "/proc/net/tcp6",
    };
    let inode = inode_in(&fs::read_to_string(table).ok()?, address)?;
    let name = format!("socket:[{inode}]");
    let mut found = None;
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let has_it = |(_, target): &(RawFd, String)| *target == name;
        // This one has what was found.
        if pid == std::process::id() || !descriptors(pid).any(|descriptor| has_it(&descriptor)) {
            continue;
        }
        // From here on it is this process, or nothing can be had of it. It may have gone since.
        let Ok(holder) = Process::open(pid) else {
            continue;
        };
        let Some((fd, _)) = descriptors(pid).find(has_it) else {
            continue;
        };
        if !holder.is_orphan() {
            return None;
        }
        // Others are about to let go of it.
        if user_of(pid) == Some(user) {
            found = holder.copy(fd).ok();
        }
    }
    found
}

/// A process that cannot be taken for another one.
struct Process {
    pid: u32,
    pidfd: OwnedFd,
}

impl Process {
    fn open(pid: u32) -> io::Result<Self> {
        let number = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
        // SAFETY: pidfd_open takes two numbers and touches no memory.
        let pidfd = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) })?;
        Ok(Self { pid, pidfd })
    }

    /// A copy of its descriptor, close-on-exec.
    fn copy(&self, fd: RawFd) -> io::Result<OwnedFd> {
        // SAFETY: pidfd_getfd takes three numbers and touches no memory.
        owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.pidfd.as_raw_fd(), fd, 0) })
    }

    /// Whether it was started by a process of this one's user that is dead, and by nobody who lives.
    fn is_orphan(&self) -> bool {
        let mut has_lost = false;
        for (fd, target) in descriptors(self.pid) {
            if !target.starts_with("socket:") {
                continue;
            }
            let Ok(socket) = self.copy(fd) else {
                return false;
            };
            let Some(maker) = maker_of(&socket) else {
                continue;
            };
            let pid = Pid::from_raw(maker.pid());
            // What it made itself says nothing.
            if u32::try_from(maker.pid()) == Ok(self.pid) {
                continue;
            }
            // Of one that cannot be seen from here the kernel tells no pid.
            if maker.pid() > 0 && !children::runs(pid) {
                has_lost |= maker.uid() == Uid::effective().as_raw();
            } else if getsockopt(&socket, sockopt::SockType) == Ok(SockType::SeqPacket) {
                // A channel, and not what some launcher gave it for its output.
                return false;
            }
        }
        has_lost
    }
}

/// Who made a pair of sockets, of which this is one. None for any other socket.
fn maker_of(socket: &OwnedFd) -> Option<UnixCredentials> {
    let has_no_name = |name: nix::Result<UnixAddr>| name.is_ok_and(|name| name.is_unnamed());
    let fd = socket.as_raw_fd();
    if !has_no_name(getsockname(fd)) || !has_no_name(getpeername(fd)) {
        return None;
    }
    getsockopt(socket, sockopt::PeerCredentials).ok()
}

/// The real user of a process; None when it has gone.
fn user_of(pid: u32) -> Option<Uid> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace()
        .next()?
        .parse()
        .ok()
        .map(Uid::from_raw)
}

/// The inode of the socket that listens on `address`, from the text of /proc/net/tcp or tcp6.
fn inode_in(table: &str, address: SocketAddr) -> Option<u64> {
    // Each word of an address stands there as a number of this machine's.
    let words = match address.ip() {
        IpAddr::V4(ip) => format!("{:08X}", u32::from_ne_bytes(ip.octets())),
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            let (words, _) = octets.as_chunks::<4>();
            words
                .iter()
                .map(|word| format!("{:08X}", u32::from_ne_bytes(*word)))
                .collect()
        }
    };
    let local = format!("{words}:{:04X}", address.port());
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let is_it = fields.nth(1) == Some(&*local) && fields.nth(1) == Some(LISTEN);
        // After the state: queues, timer, retransmits, uid, timeout, inode.
        let inode = fields.nth(5).filter(|_| is_it)?;
        inode.parse().ok()
    })
}

/// The descriptors of a process and what they are, in the words of proc(5); none if that may not be known.
fn descriptors(pid: u32) -> impl Iterator<Item = (RawFd, String)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    entries.into_iter().flatten().flatten().filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        let fd = entry.file_name().to_str()?.parse().ok()?;
        Some((fd, target.to_str()?.to_owned()))
    })
}

/// The descriptor that a system call returned, or its error.
fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(result) {
        // SAFETY: the kernel has just made it for this process; nothing else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Channel;
    use std::net::TcpListener;
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn the_kernel_knows_who_made_a_pair_of_sockets() {
        let (ours, theirs) = crate::channel::pair().unwrap();
        let (stream, _) = UnixStream::pair().unwrap();
        let end = |channel: &Channel| channel.as_fd().try_clone_to_owned().unwrap();
        for socket in [end(&ours), end(&theirs), OwnedFd::from(stream)] {
            let maker = maker_of(&socket).unwrap();
            assert_eq!(u32::try_from(maker.pid()), Ok(std::process::id()));
            assert_eq!(maker.uid(), Uid::effective().as_raw());
        }
        let path = std::env::temp_dir().join(format!("preforkd-maker-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        fs::remove_file(path).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        for socket in [listener.into(), client.into(), server.into(), tcp.into()] {
            let socket: OwnedFd = socket;
            assert!(maker_of(&socket).is_none());
        }
    }

    #[test]
    fn the_socket_of_who_is_no_orphan_is_left_to_him() {
        for ip in ["127.0.0.1", "::1"] {
            let listener = TcpListener::bind((ip, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let table = if ip == "::1" {
                "/proc/net/tcp6"
            } else {
                "/proc/net/tcp"
            };
            let text = fs::read_to_string(table).unwrap();
            let inode = inode_in(&text, address).unwrap();
            let fd = listener.as_raw_fd();
            let is_it = |found: (RawFd, String)| found == (fd, format!("socket:[{inode}]"));
            assert!(descriptors(std::process::id()).any(is_it));
            assert!(listener_on(address, Uid::current()).is_none());
            drop(listener);
            assert!(listener_on(address, Uid::current()).is_none());
        }
    }

    #[test]
    fn a_process_has_its_user() {
        assert_eq!(user_of(std::process::id()), Some(nix::unistd::getuid()));
        assert_eq!(user_of(u32::MAX), None);
    }
}
