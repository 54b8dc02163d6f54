//! What any mold does: takes the pool's things from the master, then orders to fork workers.

use crate::log_file::LogFiles;
use crate::message::{FromMold, MoldSettings, ToMold};
use preforkd_sys::channel::{Channel, MAX_MESSAGE};
use preforkd_sys::fork::{MAX_SIBLINGS, siblings};
use preforkd_sys::parking::Parking;
use preforkd_sys::scoreboard::Scoreboard;
use std::cell::RefCell;
use std::convert::Infallible;
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

/// A mold that has been set up, and forks workers.
#[derive(Debug)]
pub struct Mold {
    // A worker takes its copy out of the cells.
    channel: RefCell<Option<Channel>>,
    inheritance: RefCell<Option<Inheritance>>,
}

/// What forking workers has come to.
#[derive(Debug)]
pub struct Forked {
    /// The places of workers that could not be forked.
    pub failed: Vec<u32>,
    /// Why.
    pub error: Option<io::Error>,
}

impl Mold {
    /// A mold with its channel to the master.
    #[must_use]
    pub fn new(channel: Channel, inheritance: Inheritance) -> Self {
        Self {
            channel: RefCell::new(Some(channel)),
            inheritance: RefCell::new(Some(inheritance)),
        }
    }

    /// Tells the master something.
    ///
    /// # Errors
    /// Those of the channel.
    pub fn tell(&self, message: &FromMold) -> io::Result<()> {
        match &*self.channel.borrow() {
            Some(channel) => channel.send(&message.encode(), &[]),
            None => unreachable!("only a worker takes the channel, and does not come back"),
        }
    }

    /// Waits for orders to fork workers, and takes all that are there. None at all when the master has closed the
    /// channel. New logs are for the workers to come.
    ///
    /// # Errors
    /// `InvalidData` for what makes no sense.
    pub fn orders(&self) -> io::Result<Vec<Birth>> {
        match &*self.channel.borrow() {
            Some(channel) => orders(channel, &mut |fds| {
                let mut inheritance = self.inheritance.borrow_mut();
                let inheritance = inheritance.as_mut().ok_or_else(senseless)?;
                let settings = &inheritance.settings.worker.logs;
                inheritance.logs = LogFiles::from_fds(settings, fds).map_err(|_| senseless())?;
                Ok(())
            }),
            None => unreachable!("only a worker takes the channel, and does not come back"),
        }
    }

    /// Forks the workers. In each of them, which holds no more of the others and of the mold, `live` is called, after
    /// `begin`, which comes before anything else.
    pub fn fork(
        &self,
        births: Vec<Birth>,
        begin: impl Fn(),
        live: impl Fn(Birth, Inheritance) -> Infallible,
    ) -> Forked {
        let slots: Vec<u32> = births.iter().map(|birth| birth.slot).collect();
        let births: Vec<_> = births
            .into_iter()
            .map(|birth| RefCell::new(Some(birth)))
            .collect();
        let made = siblings(
            births.len(),
            |index| drop(births[index].take()),
            |index| {
                begin();
                let birth = births[index].take();
                for other in &births {
                    drop(other.take());
                }
                drop(self.channel.take());
                match (birth, self.inheritance.take()) {
                    (Some(birth), Some(inheritance)) => live(birth, inheritance),
                    _ => unreachable!("each worker takes its own once"),
                }
            },
        );
        let (made, error) = match made {
            Ok(made) => (made, None),
            Err(error) => (0, Some(error)),
        };
        Forked {
            failed: slots[made..].to_vec(),
            error,
        }
    }
}

/// As [`Mold::orders`]. New logs go to `logs`.
fn orders(
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
fn senseless() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the master sent a message that makes no sense",
    )
}
