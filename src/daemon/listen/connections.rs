//! What the connections to a TCP socket inherit from it (tcp(7)): options that cost no system call a connection.

use nix::sys::socket::sockopt::{
    KeepAlive, TcpKeepCount, TcpKeepIdle, TcpKeepInterval, TcpNoDelay,
};
use nix::sys::socket::{GetSockOpt, SetSockOpt, getsockopt, setsockopt};
use std::os::fd::OwnedFd;

/// For how many seconds a connection may be quiet before the kernel asks whether its peer is still there; how many lie
/// between two questions; and how many of them without an answer end it: a minute in all. Linux's own are two hours, 75
/// seconds and 9 (`net.ipv4.tcp_keepalive_time`, `_intvl`, `_probes`).
const KEEP_IDLE: u32 = 30;
const KEEP_INTERVAL: u32 = 10;
const KEEP_COUNT: u32 = 3;

/// Sets them.
///
/// # Errors
/// See setsockopt(2).
pub fn prepare(socket: &OwnedFd) -> nix::Result<()> {
    // Each write of an answer is a whole piece of it, which otherwise waits until the peer has acknowledged the piece
    // before: 40 ms on Linux.
    setsockopt(socket, TcpNoDelay, &true)?;
    // Nobody says that a kept connection has ended when its peer's network is gone. Where the machine's own times are
    // shorter, they stay. TCP_USER_TIMEOUT would also end those that a slow but living peer does not read from.
    setsockopt(socket, KeepAlive, &true)?;
    shorten(socket, TcpKeepIdle, KEEP_IDLE)?;
    shorten(socket, TcpKeepInterval, KEEP_INTERVAL)?;
    shorten(socket, TcpKeepCount, KEEP_COUNT)
}

fn shorten<O>(socket: &OwnedFd, option: O, most: u32) -> nix::Result<()>
where
    O: GetSockOpt<Val = u32> + SetSockOpt<Val = u32>,
{
    if getsockopt(socket, option)? > most {
        setsockopt(socket, option, &most)?;
    }
    Ok(())
}
