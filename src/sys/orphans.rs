//! The listening socket of a TCP address that only the workers of a dead master still have.
//!
//! While one of them answers a last request the address is taken. Its socket, with those who wait in the queue, is what a
//! new master wants: /proc tells who has it (proc(5), tcp(7)), and the kernel gives a copy to whoever may trace that
//! process (pidfd_getfd(2), Linux 5.6; root, with CAP_SYS_PTRACE).

use nix::libc;
use nix::unistd::Uid;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// State of a listening socket in /proc/net/tcp.
const LISTEN: &str = "0A";

/// What a process is that has the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// It may be taken from this one.
    Orphan,
    /// It is about to let go of it.
    Leaving,
    /// It is this one's by right.
    Owner,
}

/// The socket that listens on `address`, if none of the processes that have it is its owner; `judge` knows them by their
/// pids and command lines. None as well where it cannot be had.
pub fn listener_on(address: SocketAddr, judge: impl Fn(u32, &str) -> Holder) -> Option<OwnedFd> {
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
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Some(fd) = descriptor(pid, &name) else {
            continue;
        };
        let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        match judge(pid, &String::from_utf8_lossy(&title)) {
            Holder::Owner => return None,
            Holder::Leaving => {}
            Holder::Orphan => found = Some((pid, fd)),
        }
    }
    let (pid, fd) = found?;
    copy_of(pid, fd).ok()
}

/// The real user of a process; None when it has gone.
#[must_use]
pub fn user_of(pid: u32) -> Option<Uid> {
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

/// The descriptor of a process at which it has what `name` says.
fn descriptor(pid: u32, name: &str) -> Option<RawFd> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    entries.flatten().find_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        let fd = entry.file_name().to_str()?.parse().ok()?;
        (target.as_os_str() == name).then_some(fd)
    })
}

/// A copy of a process's descriptor, close-on-exec.
fn copy_of(pid: u32, fd: RawFd) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: pidfd_open takes two numbers and touches no memory.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: pidfd_getfd takes three numbers and touches no memory.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) })
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
    use std::net::TcpListener;

    #[test]
    fn a_socket_is_found_by_its_address_and_had_from_whom_it_may_be() {
        for ip in ["127.0.0.1", "::1"] {
            let listener = TcpListener::bind((ip, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let judge = |pid, _: &str| {
                if pid == std::process::id() {
                    Holder::Orphan
                } else {
                    Holder::Owner
                }
            };
            let found = listener_on(address, judge).unwrap();
            let same = TcpListener::from(found).local_addr().unwrap();
            assert_eq!(same, address);
            for other in [Holder::Owner, Holder::Leaving] {
                assert!(listener_on(address, |_, _| other).is_none());
            }
            drop(listener);
            assert!(listener_on(address, judge).is_none());
        }
    }

    #[test]
    fn a_process_has_its_user() {
        assert_eq!(user_of(std::process::id()), Some(nix::unistd::getuid()));
        assert_eq!(user_of(u32::MAX), None);
    }
}
