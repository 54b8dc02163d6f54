//! The system's log: a datagram of RFC 3164 to `/dev/log` for each record,
//! `<29>Nov 23 08:15:10 preforkd[123]: [NOTICE] text`, at the record's own severity.
//!
//! The socket never waits. The log daemon may be restarted, or come later than this one: a send that fails connects anew
//! and is tried once more.

use super::line::{cut, lines_of_said, push_plain};
use super::{Record, Text, json};
use crate::config::LogFormat;
use std::io;
use std::os::unix::net::UnixDatagram;

/// Where the log daemon listens (syslog(3)).
const ADDRESS: &str = "/dev/log";

/// The system's log.
#[derive(Debug)]
pub struct Syslog {
    ident: String,
    facility: u8,
    socket: Option<UnixDatagram>,
}

impl Syslog {
    /// Messages of `facility`, a number of RFC 3164, by a program of the name `ident`.
    #[must_use]
    pub fn new(ident: &str, facility: u8) -> Self {
        Self {
            ident: ident.to_owned(),
            facility,
            socket: connect().ok(),
        }
    }

    /// Sends a record. Returns false when it is lost, all or part of it.
    pub fn put(&mut self, record: &Record<'_>, format: LogFormat, limit: usize) -> bool {
        let priority = u16::from(self.facility) * 8 + u16::from(record.level.severity());
        let head = format!(
            "<{priority}>{} {}[{}]: ",
            record.time.format("%b %e %H:%M:%S"),
            self.ident,
            std::process::id()
        );
        let lines = match (format, &record.text) {
            (LogFormat::Json, _) => json::lines(record, limit),
            (LogFormat::PhpFpm, Text::Message(message)) => {
                let mut text = format!("[{}] ", record.level.name());
                push_plain(&mut text, message);
                cut(&mut text, limit);
                text.into_bytes()
            }
            (LogFormat::PhpFpm, Text::Said(said)) => {
                lines_of_said(said, &format!("[{}] ", record.level.name()), limit)
            }
        };
        let mut all = true;
        for line in lines.split(|&byte| byte == b'\n') {
            if !line.is_empty() {
                all &= self.send(&[head.as_bytes(), line].concat());
            }
        }
        all
    }

    fn send(&mut self, datagram: &[u8]) -> bool {
        if let Some(socket) = &self.socket {
            match socket.send(datagram) {
                Ok(_) => return true,
                // It is there and has no room.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => {}
            }
        }
        self.socket = connect().ok();
        self.socket
            .as_ref()
            .is_some_and(|socket| socket.send(datagram).is_ok())
    }
}

fn connect() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(ADDRESS)?;
    Ok(socket)
}
