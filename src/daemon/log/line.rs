//! php-fpm's lines: `[23-Nov-2026 08:15:10] NOTICE: text`, in local time; at `log_level = debug` with microseconds and
//! with the place in the program.
//!
//! A line has at most `log_limit` bytes with its end. A message that is longer is cut, and ends in `...`; what a worker
//! prints is wrapped into several lines, each of which says who printed it unless `decorate_workers_output` is off.

use super::{Place, Record, Said, Text};

/// The lines of a record, each with its end.
pub fn lines(record: &Record<'_>, limit: usize, micros: bool) -> Vec<u8> {
    let form = if micros {
        "[%d-%b-%Y %H:%M:%S%.6f]"
    } else {
        "[%d-%b-%Y %H:%M:%S]"
    };
    let place = match record.place {
        Some(Place { module, line }) => {
            format!("pid {}, {module}(), line {line}: ", std::process::id())
        }
        None => String::new(),
    };
    let head = format!(
        "{} {}: {place}",
        record.time.format(form),
        record.level.name()
    );
    match record.text {
        Text::Message(message) => {
            let mut line = head;
            push_plain(&mut line, message);
            cut(&mut line, limit - 1);
            line.push('\n');
            line.into_bytes()
        }
        Text::Said(said) => lines_of_said(said, &head, limit),
    }
}

/// What a process printed, as lines of at most `limit` bytes, each after `head`.
pub fn lines_of_said(said: &Said<'_>, head: &str, limit: usize) -> Vec<u8> {
    let (before, after, closed) = if said.decorated {
        let before = format!(
            "{head}[pool {}] {} {} said into {}: \"",
            said.pool, said.kind, said.pid, said.stream
        );
        let closed = if said.closed { ", pipe is closed" } else { "" };
        (before, "\"", closed)
    } else {
        (String::new(), "", "")
    };
    // However long the pool's name is, each line has some room left.
    let room = limit
        .saturating_sub(before.len() + after.len() + closed.len() + 1)
        .max(64);
    let mut lines = Vec::with_capacity(said.line.len() + before.len() + 32);
    for piece in pieces(said.line, room) {
        if !lines.is_empty() {
            lines.push(b'\n');
        }
        lines.extend_from_slice(before.as_bytes());
        lines.extend_from_slice(piece);
        lines.extend_from_slice(after.as_bytes());
    }
    lines.extend_from_slice(closed.as_bytes());
    lines.push(b'\n');
    lines
}

/// Cuts a line into pieces of at most `room` bytes (at least 4), but not in the middle of a UTF-8 character.
pub fn pieces(line: &[u8], room: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = line;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len().min(room);
        if end < rest.len() {
            // A character has at most four bytes; more continuations than that are no text.
            let back = rest[..=end]
                .iter()
                .rev()
                .take(4)
                .position(|byte| byte & 0xc0 != 0x80)
                .unwrap_or(0);
            end -= back;
        }
        let (piece, left) = rest.split_at(end);
        rest = left;
        Some(piece)
    })
}

/// Appends a message with its control characters escaped, so that nothing that a client sent can look like a line of its
/// own. Tabs stay, which php-fpm's dump of a configuration has.
pub fn push_plain(line: &mut String, message: &str) {
    for character in message.chars() {
        if character.is_control() && character != '\t' {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
}

/// Cuts what is longer than `limit` bytes, and ends it in `...` then.
pub fn cut(line: &mut String, limit: usize) {
    if line.len() > limit {
        line.truncate(line.floor_char_boundary(limit.saturating_sub(3)));
        line.push_str("...");
    }
}
