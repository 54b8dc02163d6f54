//! The messages between `preforkd reload` and the master: each one packet, with a bound.
//!
//! A program and the one that takes its place may be of two versions, so that a message begins with the version of this
//! form, and what is not understood is an error and no more.

use crate::cli::Exit;
use preforkd_worker::status::summary::visible;
use std::fmt::Display;

/// The version of the form.
const VERSION: u8 = 1;

/// Bytes of a request at most: a name of a pool has at most 64.
pub const MAX_REQUEST: usize = 128;

/// Bytes of a reply at most.
pub const MAX_REPLY: usize = 32 * 1024;

/// Bytes that the text of a reply has at each end, where it has to be cut: the first mistake of a configuration and the
/// last line of a traceback are what matters.
const MAX_END: usize = 12 * 1024;

/// What is to be reloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole configuration.
    All,
    /// The pool of this name: it is replaced, added, or, if the configuration does not have it any more, removed.
    Pool(String),
}

impl Scope {
    /// For a pool, or for all of them.
    #[must_use]
    pub fn of(pool: Option<String>) -> Self {
        pool.map_or(Self::All, Self::Pool)
    }

    /// Whether the pool of this name is part of it.
    #[must_use]
    pub fn covers(&self, pool: &str) -> bool {
        match self {
            Self::All => true,
            Self::Pool(name) => name == pool,
        }
    }

    /// As a request.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut message = vec![VERSION];
        match self {
            Self::All => message.push(b'r'),
            Self::Pool(name) => {
                message.push(b'p');
                message.extend_from_slice(name.as_bytes());
            }
        }
        message
    }

    /// Reads a request; none if it is not one.
    #[must_use]
    pub fn decode(message: &[u8]) -> Option<Self> {
        match message.strip_prefix(&[VERSION])? {
            b"r" => Some(Self::All),
            [b'p', name @ ..] => Some(Self::Pool(std::str::from_utf8(name).ok()?.to_owned())),
            _ => None,
        }
    }
}

/// What has come of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the command exits with.
    pub exit: Exit,
    /// What it tells, line by line, without anything that a terminal would obey.
    pub text: String,
}

impl Outcome {
    /// An outcome with lines that may come from anywhere.
    #[must_use]
    pub fn new(exit: Exit, text: &str) -> Self {
        let lines: Vec<_> = text.lines().map(visible).collect();
        Self {
            exit,
            text: lines.join("\n"),
        }
    }

    /// A failure, logged line by line.
    #[must_use]
    pub fn logged(exit: Exit, why: impl Display) -> Self {
        let why = why.to_string();
        for line in why.lines() {
            tracing::error!("{line}");
        }
        Self::new(exit, &why)
    }
}

/// What the master answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It has heard the request.
    Heard,
    /// The reload is over.
    Over(Outcome),
}

impl Reply {
    /// As a message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Heard => vec![VERSION, b'h'],
            Self::Over(Outcome { exit, text }) => {
                let mut message = vec![VERSION, b'o', *exit as u8];
                message.extend_from_slice(cut(text).as_bytes());
                message
            }
        }
    }

    /// Reads a message; none if it is no reply.
    #[must_use]
    pub fn decode(message: &[u8]) -> Option<Self> {
        match message.strip_prefix(&[VERSION])? {
            b"h" => Some(Self::Heard),
            [b'o', exit, text @ ..] => Some(Self::Over(Outcome {
                exit: Exit::from_number(*exit)?,
                text: String::from_utf8_lossy(text).into_owned(),
            })),
            _ => None,
        }
    }
}

/// The text, with as much left out in its middle as is too much.
fn cut(text: &str) -> String {
    if text.len() <= 2 * MAX_END {
        return text.to_owned();
    }
    let (head, tail) = (
        text.floor_char_boundary(MAX_END),
        text.ceil_char_boundary(text.len() - MAX_END),
    );
    format!("{}\n...\n{}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written() {
        for scope in [Scope::All, Scope::Pool("r".into()), Scope::Pool("ü".into())] {
            assert_eq!(Scope::decode(&scope.encode()), Some(scope));
        }
        for exit in [Exit::Success, Exit::Config, Exit::Software] {
            let over = Reply::Over(Outcome::new(exit, "one\ntwo"));
            assert_eq!(Reply::decode(&over.encode()), Some(over));
        }
        assert_eq!(Reply::decode(&Reply::Heard.encode()), Some(Reply::Heard));
    }

    #[test]
    fn what_makes_no_sense_is_none() {
        for message in [
            &b""[..],
            b"\x01",
            b"\x02r",
            b"r",
            b"\x01x",
            b"\x01p\xff",
            b"\x01rr",
        ] {
            assert_eq!(Scope::decode(message), None, "{message:?}");
        }
        for message in [
            &b""[..],
            b"\x01",
            b"\x01o",
            b"\x01o\xfe",
            b"\x02h",
            b"\x01hh",
        ] {
            assert_eq!(Reply::decode(message), None, "{message:?}");
        }
    }

    #[test]
    fn a_long_text_keeps_its_ends_and_nothing_of_it_commands_a_terminal() {
        let long = format!("first\n{}\nla\u{1b}st", "ü".repeat(MAX_REPLY));
        let message = Reply::Over(Outcome::new(Exit::Config, &long)).encode();
        assert!(message.len() <= MAX_REPLY);
        let Some(Reply::Over(Outcome { text, .. })) = Reply::decode(&message) else {
            panic!("it is a reply");
        };
        assert!(text.starts_with("first\n") && text.contains("\n...\n"));
        assert!(text.ends_with("\nla\\x1bst"), "{text:?}");
    }
}
