//! Programs that are forked from their pool's mold: a program that was started once and stopped where it would have
//! accepted its first connection (`src/preload` makes it that).
//!
//! A relay orders a program over a socket that all relays of the pool have; the mold has the other end, and so has its
//! successor. What holds the program is a pipe whose writing end the relay has: when that is closed, however that comes
//! about, the kernel kills the program and its group, whatever else has died before. The mold is the program's parent;
//! it tells how the program has ended over a line of the relay's own, and reaps it when the relay has let go of that.
//! Should the mold die first, its programs go on, and nobody is told how they end.

use crate::channel::{self, Channel};
use crate::children::Death;
#[path = "../preload/wire.rs"]
pub mod wire;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, pipe2, write};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a mold has to fork a program.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a mold has to tell how a program has ended that has.
const REPORT: Duration = Duration::from_millis(500);

/// Where relays order programs.
#[derive(Debug)]
pub struct Orders {
    /// What relays have.
    pub relays: Channel,
    /// What the mold has.
    pub mold: Channel,
}

impl Orders {
    /// For the molds of a pool, one after the other. Orders wait for the next one.
    ///
    /// # Errors
    /// EMFILE or ENFILE.
    pub fn new() -> io::Result<Self> {
        let (relays, mold) = channel::pair()?;
        Ok(Self { relays, mold })
    }
}

/// What a relay holds of a program that its mold has forked.
#[derive(Debug)]
pub(crate) struct Hold {
    line: Channel,
    leash: OwnedFd,
    /// As long as it is open the leash works, also for what the program leaves behind in its group.
    _end: OwnedFd,
}

/// Has the mold fork a program with `stdio` as its standard input, output and error. Returns its pid, a descriptor that
/// is readable from its end on, and what holds it.
///
/// # Errors
/// The mold's error of fork(2); EAGAIN and its like when it does not read; `TimedOut` when it does not fork within 2 s,
/// `ConnectionAborted` when it dies meanwhile. Then there is no program.
pub(crate) fn order(
    orders: &Channel,
    stdio: [BorrowedFd<'_>; 3],
) -> io::Result<(Pid, OwnedFd, Hold)> {
    let (line, its_line) = channel::pair_of_carriers()?;
    let (end, leash) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let [stdin, stdout, stderr] = stdio;
    let fds: [BorrowedFd<'_>; wire::ORDER_FDS] =
        [stdin, stdout, stderr, its_line.as_fd(), end.as_fd()];
    orders.send(&std::process::id().to_le_bytes(), &fds)?;
    drop(its_line);
    let (what, number, fd) = receive(&line, PATIENCE)?;
    match (what, fd) {
        (wire::BORN, Some(descriptor)) => {
            let hold = Hold {
                line,
                leash,
                _end: end,
            };
            Ok((Pid::from_raw(number), descriptor, hold))
        }
        (wire::FAILED, _) => Err(io::Error::from_raw_os_error(number)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

impl Hold {
    /// Kills the program and what it has started, as far as that is in its group.
    pub(crate) fn kill(&self) {
        // A writer that wakes its readers is to the kernel what one that goes is. A pipe that is full has done so.
        let _ = write(&self.leash, &[0]);
    }

    /// How it has ended, once it has.
    pub(crate) fn death(&self) -> Death {
        match receive(&self.line, REPORT) {
            Ok((wire::ENDED, status, _)) => Death::of(status),
            _ => Death::Unseen,
        }
    }
}

fn receive(line: &Channel, within: Duration) -> io::Result<(u8, i32, Option<OwnedFd>)> {
    let until = Instant::now() + within;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut polled = [PollFd::new(line.as_fd(), PollFlags::POLLIN)];
        match poll(
            &mut polled,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        ) {
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
        }
        let mut message = [0; wire::LINE_BYTES];
        let mut received = line.try_receive(&mut message)?;
        if received.length == 0 {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let [what, a, b, c, d] = message;
        return Ok((what, i32::from_le_bytes([a, b, c, d]), received.fds.pop()));
    }
}
