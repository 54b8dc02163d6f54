//! What the log and the client get when something goes wrong.

use preforkd_worker::Exchange;
use preforkd_worker::exchange::Result;
use preforkd_worker::status::summary::visible;
use pyo3::prelude::*;
use std::io::Write;

/// Bytes of a request line that the log shows.
const MAX_SHOWN: usize = 200;

/// Answers with a page of plain text that consists of one sentence; with its head alone if that was asked for.
pub(crate) fn refuse(exchange: &mut Exchange, status: &str, sentence: &str) -> Result<()> {
    let length = sentence.len() + 1;
    let head = format!(
        "Status: {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\r\n"
    );
    exchange.write(head.as_bytes())?;
    if exchange.params().get(b"REQUEST_METHOD") != Some(b"HEAD") {
        exchange.write(format!("{sentence}\n").as_bytes())?;
    }
    exchange.end(0)
}

/// Writes one line about the current request to the pool's log.
pub(crate) fn log(exchange: &Exchange, what: &str) {
    let (mut method, mut uri) = (&b"-"[..], &b"-"[..]);
    for (name, value) in exchange.params().iter() {
        match name {
            b"REQUEST_METHOD" => method = value,
            b"REQUEST_URI" => uri = value,
            _ => {}
        }
    }
    let shown = |bytes: &[u8]| {
        bytes[..bytes.len().min(MAX_SHOWN)]
            .escape_ascii()
            .to_string()
    };
    say(&format!("{} {}: {what}", shown(method), shown(uri)));
}

/// The kind of an exception and what it says, as far as that can be told in a line.
pub(crate) fn summary(py: Python<'_>, raised: &PyErr) -> String {
    let kind = raised.get_type(py).name();
    let mut text = kind.map_or_else(|_| "an exception".to_owned(), |kind| kind.to_string());
    if let Ok(words) = raised.value(py).str() {
        let words = words.to_string_lossy();
        if !words.is_empty() {
            text += ": ";
            text.extend(words.chars().take(MAX_SHOWN));
        }
    }
    visible(&text).into_owned()
}

/// Writes one line to the pool's log.
pub(crate) fn say(line: &str) {
    // A log that cannot be written to cannot be told so.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Writes an exception with its traceback to the pool's log.
pub(crate) fn traceback(py: Python<'_>, raised: &PyErr) {
    raised.display(py);
    flush(py);
}

/// Writes out what Python has buffered of its standard output and error.
pub(crate) fn flush(py: Python<'_>) {
    let Ok(sys) = py.import("sys") else { return };
    for name in ["stdout", "stderr"] {
        // An application may have put anything there, or closed it.
        let _ = sys
            .getattr(name)
            .and_then(|stream| stream.call_method0("flush"));
    }
}
