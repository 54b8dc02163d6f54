//! One JSON object a line (RFC 8259), in UTF-8:
//! `{"time":"2026-11-23T08:15:10.123456+01:00","level":"notice","message":"…"}`, with `pool` where it is about one, and
//! with `process`, `pid` and `stream` where it is what a process of a pool printed, which then is the message as it is.

use super::line::{cut, pieces};
use super::{Record, Text};
use chrono::SecondsFormat;
use std::fmt::Write as _;

/// The lines of a record, each with its end: one, but for what a worker prints in more than `limit` bytes.
pub fn lines(record: &Record<'_>, limit: usize) -> Vec<u8> {
    let mut lines = String::new();
    match record.text {
        Text::Message(message) => {
            let mut message = message.to_owned();
            cut(&mut message, limit);
            object(&mut lines, record, &message);
        }
        Text::Said(said) => {
            for piece in pieces(said.line, limit) {
                object(&mut lines, record, &String::from_utf8_lossy(piece));
            }
        }
    }
    lines.into_bytes()
}

fn object(line: &mut String, record: &Record<'_>, message: &str) {
    let level = record.level.name().to_ascii_lowercase();
    let time = record.time.to_rfc3339_opts(SecondsFormat::Micros, false);
    // Writing to a String cannot fail.
    let _ = write!(line, "{{\"time\":\"{time}\",\"level\":\"{level}\"");
    if let Some(pool) = record.pool() {
        line.push_str(",\"pool\":");
        push_string(line, pool);
    }
    if let Text::Said(said) = record.text {
        // A pid that is not known yet is no number.
        let pid = said.pid.parse::<u32>().ok();
        let pid = pid.map_or("null".to_owned(), |pid| pid.to_string());
        let _ = write!(
            line,
            ",\"process\":\"{}\",\"pid\":{pid},\"stream\":\"{}\"",
            said.kind, said.stream
        );
    }
    if let Some(place) = record.place {
        let _ = write!(
            line,
            ",\"module\":\"{}\",\"line\":{}",
            place.module, place.line
        );
    }
    line.push_str(",\"message\":");
    push_string(line, message);
    line.push_str("}\n");
}

/// Appends a string in quotes, with what JSON does not allow in it escaped.
fn push_string(line: &mut String, text: &str) {
    line.push('"');
    for character in text.chars() {
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            // JSON allows the others; a terminal that shows the log might obey DEL and those above.
            // The separators end a line in JavaScript, and for some readers.
            '\u{2028}' | '\u{2029}' => {
                let _ = write!(line, "\\u{:04x}", u32::from(character));
            }
            character if character.is_control() => {
                let _ = write!(line, "\\u{:04x}", u32::from(character));
            }
            character => line.push(character),
        }
    }
    line.push('"');
}
