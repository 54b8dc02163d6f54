//! `preforkd reload`: asks the master, and waits for what comes of it.

use super::wire::{MAX_REPLY, Outcome, Reply, Scope};
use crate::cli::Exit;
use crate::config::Problems;
use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::time::TimeVal;
use preforkd_sys::channel::Channel;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

/// Seconds within which the master says that it has heard. How long a reload takes is bounded by the master.
const PATIENCE: i64 = 10;

/// Reloads what `scope` says. `control` is where the master takes commands, as far as the configuration says.
#[must_use]
pub fn reload(control: Result<Option<PathBuf>, Problems>, scope: &Scope) -> Exit {
    let path = match control {
        Ok(Some(path)) => path,
        Ok(None) => {
            eprintln!(
                "the configuration does not say where the master takes commands: set control, or pid"
            );
            return Exit::Config;
        }
        Err(problems) => {
            eprintln!("{problems}");
            return Exit::Config;
        }
    };
    match ask(&path, scope) {
        Ok(Outcome { exit, text }) => {
            // Nobody is left to tell if the output is closed.
            let _ = match exit {
                Exit::Success => writeln!(io::stdout(), "{text}"),
                _ => writeln!(io::stderr(), "{text}"),
            };
            exit
        }
        Err(error) => {
            let path = path.display();
            match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                    eprintln!("no master takes commands on {path}: {error}");
                }
                ErrorKind::WouldBlock => {
                    eprintln!("the master on {path} has not answered in {PATIENCE} seconds");
                }
                _ => eprintln!("cannot ask the master on {path}: {error}"),
            }
            Exit::Unavailable
        }
    }
}

fn ask(path: &Path, scope: &Scope) -> io::Result<Outcome> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    // That holds for connecting as well (socket(7)).
    setsockopt(&socket, SendTimeout, &TimeVal::new(PATIENCE, 0))?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let channel = Channel::from_fd(socket);
    match channel.send(&scope.encode(), &[]) {
        // It has hung up already, and has said why.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        sent => sent?,
    }
    loop {
        match receive(&channel)? {
            Reply::Heard => setsockopt(&channel.as_fd(), ReceiveTimeout, &TimeVal::new(0, 0))?,
            Reply::Over(outcome) => return Ok(outcome),
        }
    }
}

fn receive(channel: &Channel) -> io::Result<Reply> {
    let mut buffer = [0; MAX_REPLY];
    let mut received = channel.receive(&mut buffer)?;
    if received.length == 0 {
        // Where it has not read the request, that is told before what it has said.
        received = channel.receive(&mut buffer)?;
    }
    if received.length == 0 {
        return Err(io::Error::other(
            "it has hung up without a word; its log may say why",
        ));
    }
    Reply::decode(&buffer[..received.length])
        .ok_or_else(|| io::Error::other("it says what this program does not understand"))
}
