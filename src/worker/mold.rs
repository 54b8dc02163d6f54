//! What any mold does: takes the pool's things from the master, then orders to fork workers.

use crate::log_file::LogFiles;
use crate::message::{MoldSettings, ToMold};
use preforkd_sys::channel::{Channel, MAX_MESSAGE};
use preforkd_sys::fork::MAX_SIBLINGS;
use preforkd_sys::parking::Parking;
use preforkd_sys::scoreboard::Scoreboard;
use std::io;
use std::os::fd::OwnedFd;

/// What the master hands to a mold, and a mold leaves to each of its workers.
#[derive(Debug)]
pub struct Inheritance {
    /// The pool's listening socket.
    pub listener: OwnedFd,
    /// Where the pool's workers part with kept connections.
    pub parking: Parking,
    /// The pool's scoreboard.
    pub board: Scoreboard,
    /// The pool's logs.
    pub logs: LogFiles,
    /// The settings.
    pub settings: MoldSettings,
}

/// What one worker is given.
#[derive(Debug)]
pub struct Birth {
    /// Its place in the pool.
    pub slot: u32,
    /// To and from the master.
    pub control: Channel,
    /// Its standard output.
    pub stdout: OwnedFd,
    /// Its standard error.
    pub stderr: OwnedFd,
}

/// Waits for the settings; None when the master has gone or wants no mold of this version.
///
/// # Errors
/// `InvalidData` for what makes no sense.
pub fn set_up(channel: &Channel) -> io::Result<Option<Inheritance>> {
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let received = channel.receive(&mut buffer)?;
        if received.length == 0 {
            return Ok(None);
        }
        let settings = match ToMold::decode(&buffer[..received.length]) {
            Ok(ToMold::Setup(settings)) => settings,
            // The settings will come with them.
            Ok(ToMold::Logs) => continue,
            _ => return Err(senseless()),
        };
        let mut fds = received.fds.into_iter();
        let (Some(listener), Some(parking), Some(memory), Some(notice)) =
            (fds.next(), fds.next(), fds.next(), fds.next())
        else {
            return Err(senseless());
        };
        return Ok(Some(Inheritance {
            logs: LogFiles::from_fds(&settings.worker.logs, fds).map_err(|_| senseless())?,
            settings: *settings,
            listener,
            parking: Parking::from_fd(parking),
            board: Scoreboard::attach(memory, notice)?,
        }));
    }
}

/// Waits for orders to fork workers, and takes all that are there. None at all when the master has closed the channel.
/// New logs go to `logs`.
///
/// # Errors
/// `InvalidData` for what makes no sense, and those of `logs`.
pub fn orders(
    channel: &Channel,
    logs: &mut dyn FnMut(Vec<OwnedFd>) -> io::Result<()>,
) -> io::Result<Vec<Birth>> {
    let mut buffer = [0; 64];
    let mut births = Vec::new();
    while births.len() < MAX_SIBLINGS {
        let received = if births.is_empty() {
            channel.receive(&mut buffer)?
        } else {
            match channel.try_receive(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                other => other?,
            }
        };
        if received.length == 0 {
            return Ok(Vec::new());
        }
        let slot = match ToMold::decode(&buffer[..received.length]) {
            Ok(ToMold::Spawn { slot }) => slot,
            Ok(ToMold::Logs) => {
                logs(received.fds)?;
                continue;
            }
            _ => return Err(senseless()),
        };
        let fds: Result<[OwnedFd; 3], _> = received.fds.try_into();
        let [control, stdout, stderr] = fds.map_err(|_| senseless())?;
        births.push(Birth {
            slot,
            control: Channel::from_fd(control),
            stdout,
            stderr,
        });
    }
    Ok(births)
}

/// The error for a message that makes no sense.
#[must_use]
pub fn senseless() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the master sent a message that makes no sense",
    )
}
