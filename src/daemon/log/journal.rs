//! The journal's own fields, where standard error is the journal's: systemd.journal-fields(7), over the datagram socket
//! of sd_journal_sendv(3).
//!
//! A service's standard error is a stream to the journal, which takes every line at one priority. `JOURNAL_STREAM` tells
//! such a stream by device and inode, so that a standard error that has been redirected since is not mistaken for it.

use super::line::{cut, lines_of_said, push_plain};
use super::{Record, Text};
use nix::sys::stat::fstat;
use std::io;
use std::os::unix::net::UnixDatagram;

/// Where the journal listens.
const ADDRESS: &str = "/run/systemd/journal/socket";

/// What the journal calls this program.
const IDENTIFIER: &str = "preforkd";

/// The journal.
#[derive(Debug)]
pub struct Journal(UnixDatagram);

impl Journal {
    /// The journal, if standard error is a stream to it and it can be reached.
    #[must_use]
    pub fn of_standard_error() -> Option<Self> {
        let stream = std::env::var("JOURNAL_STREAM").ok()?;
        let (device, inode) = stream.split_once(':')?;
        let stat = fstat(io::stderr()).ok()?;
        let is_it = device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino);
        is_it.then(connect)?.ok().map(Self)
    }

    /// Sends a record. Returns false when it is lost, all or part of it.
    pub fn put(&mut self, record: &Record<'_>, limit: usize) -> bool {
        let mut fields = Vec::new();
        push(
            &mut fields,
            "PRIORITY",
            &record.level.severity().to_string(),
        );
        push(&mut fields, "SYSLOG_IDENTIFIER", IDENTIFIER);
        if let Some(pool) = record.pool() {
            push(&mut fields, "PREFORKD_POOL", pool);
        }
        if let Some(place) = record.place {
            push(&mut fields, "CODE_FUNC", place.module);
            push(&mut fields, "CODE_LINE", &place.line.to_string());
        }
        let lines = match &record.text {
            Text::Message(message) => {
                let mut text = String::new();
                push_plain(&mut text, message);
                cut(&mut text, limit);
                text.into_bytes()
            }
            Text::Said(said) => {
                push(&mut fields, "PREFORKD_PROCESS", said.kind);
                push(&mut fields, "PREFORKD_PID", said.pid);
                push(&mut fields, "PREFORKD_STREAM", said.stream);
                lines_of_said(said, "", limit)
            }
        };
        let mut all = true;
        for line in lines.split(|&byte| byte == b'\n') {
            if !line.is_empty() {
                all &= self.send(&[&fields, &b"MESSAGE="[..], line, b"\n"].concat());
            }
        }
        all
    }

    fn send(&mut self, datagram: &[u8]) -> bool {
        match self.0.send(datagram) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            // The journal was restarted.
            Err(_) => connect().is_ok_and(|socket| {
                self.0 = socket;
                self.0.send(datagram).is_ok()
            }),
        }
    }
}

/// Appends `NAME=value`. No value of ours has an end of line in it, which would need another form.
fn push(fields: &mut Vec<u8>, name: &str, value: &str) {
    fields.extend_from_slice(name.as_bytes());
    fields.push(b'=');
    fields.extend_from_slice(value.replace('\n', " ").as_bytes());
    fields.push(b'\n');
}

fn connect() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(ADDRESS)?;
    Ok(socket)
}
