//! Telling systemd how the daemon is (sd_notify(3)).

use preforkd_sys::clock;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service manager, if there is one.
#[derive(Debug)]
pub struct Notifier(Option<UnixDatagram>);

impl Notifier {
    /// Whom `NOTIFY_SOCKET` names.
    #[must_use]
    pub fn from_environment() -> Self {
        Self(std::env::var_os("NOTIFY_SOCKET").and_then(|address| connect(&address).ok()))
    }

    /// Says that everybody who is to serve does so.
    pub fn ready(&self) {
        self.send(&format!(
            "READY=1\nMAINPID={}\nSTATUS=Ready to handle connections",
            std::process::id()
        ));
    }

    /// Says that the configuration is being read anew, until [`Self::ready`].
    pub fn reloading(&self) {
        let now = clock::now() / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
    }

    /// Sends `state`: lines of `NAME=VALUE`. Never waits; a manager that does not listen is none.
    pub fn send(&self, state: &str) {
        if let Some(socket) = &self.0 {
            let _ = socket.send(state.as_bytes());
        }
    }
}

fn connect(address: &OsStr) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match address.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(address)?,
    }
    Ok(socket)
}
