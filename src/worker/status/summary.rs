//! What a worker keeps of a request on the scoreboard, as text.
//!
//! The parts stand one after another with a NUL between them. Each has a bound of its own, so that a long URI takes
//! nothing away from the script; php-fpm's are like these.

use crate::access::{content_length, path, user};
use preforkd_fastcgi::pairs::Params;
use preforkd_sys::scoreboard::TEXT_BYTES;
use std::borrow::Cow;
use std::fmt::Write;

const METHOD: usize = 16;
const URI: usize = 511;
const USER: usize = 64;
const SCRIPT: usize = 256;

const _: () = assert!(METHOD + URI + 20 + USER + SCRIPT + 4 <= TEXT_BYTES);

/// The parts of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub uri: String,
    /// The length of its body, as announced.
    pub content_length: u64,
    /// Who asks.
    pub user: String,
    /// The file that the web server takes the application to be.
    pub script: String,
}

impl Summary {
    /// Reads what [`text`] wrote. What it left out, or a board says otherwise, reads as nothing.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut parts = text.split(|&byte| byte == 0);
        let mut part = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        Self {
            method: part(),
            uri: part(),
            content_length: part().parse().unwrap_or(0),
            user: part(),
            script: part(),
        }
    }
}

/// Hands the text of a request to `keep`, in parts. All that is wanted on a busy machine is the method and the URI;
/// somebody who will read the rest has to ask for it.
pub fn text<T>(params: &Params, whole: bool, keep: impl FnOnce(&[&[u8]]) -> T) -> T {
    let (mut method, mut uri, mut script) = (None, None, None);
    for (name, value) in params.iter() {
        match name {
            b"REQUEST_METHOD" => method = Some(value),
            b"REQUEST_URI" => uri = Some(value),
            b"SCRIPT_FILENAME" => script = Some(value),
            _ => continue,
        }
        if method.is_some() && uri.is_some() && (script.is_some() || !whole) {
            break;
        }
    }
    let uri = uri.map_or_else(|| path_and_query(params), Cow::Borrowed);
    let method = cut(method.unwrap_or_default(), METHOD);
    let uri = cut(&uri, URI);
    if !whole {
        return keep(&[method, b"\0", uri]);
    }
    let length = content_length(params).to_string();
    let user = user(params);
    keep(&[
        method,
        b"\0",
        uri,
        b"\0",
        length.as_bytes(),
        b"\0",
        cut(&user, USER),
        b"\0",
        cut(script.unwrap_or_default(), SCRIPT),
    ])
}

/// For a client that sends no `REQUEST_URI`.
fn path_and_query(params: &Params) -> Cow<'_, [u8]> {
    let path = path(params);
    match params.get(b"QUERY_STRING") {
        Some(query) if !query.is_empty() => Cow::Owned([&path, &b"?"[..], query].concat()),
        _ => path,
    }
}

/// With control characters as `\xHH`, so that no value forges a line.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() {
            let _ = write!(out, "\\x{:02x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// At most so many bytes, and none from a NUL on: what clients send could forge the part behind it.
fn cut(bytes: &[u8], most: usize) -> &[u8] {
    let bytes = &bytes[..bytes.len().min(most)];
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use preforkd_fastcgi::pairs::encode;

    fn params(pairs: &[(&str, &str)]) -> Params {
        let mut bytes = Vec::new();
        for (name, value) in pairs {
            encode(&mut bytes, name.as_bytes(), value.as_bytes());
        }
        Params::from_bytes(bytes)
    }

    fn summary(pairs: &[(&str, &str)], whole: bool) -> Summary {
        text(&params(pairs), whole, |parts| {
            Summary::parse(&parts.concat())
        })
    }

    #[test]
    fn a_request_is_summed_up() {
        let pairs = [
            ("SCRIPT_FILENAME", "/srv/a.py"),
            ("REQUEST_METHOD", "POST"),
            ("CONTENT_LENGTH", "12"),
            ("REQUEST_URI", "/a?b=c"),
            ("REMOTE_USER", "ann"),
        ];
        let short = Summary {
            method: "POST".into(),
            uri: "/a?b=c".into(),
            ..Summary::default()
        };
        assert_eq!(summary(&pairs, false), short);
        let whole = Summary {
            content_length: 12,
            user: "ann".into(),
            script: "/srv/a.py".into(),
            ..short
        };
        assert_eq!(summary(&pairs, true), whole);
    }

    #[test]
    fn without_a_uri_there_is_the_path() {
        let pairs = [("SCRIPT_NAME", "/status"), ("QUERY_STRING", "json&full")];
        assert_eq!(summary(&pairs, true).uri, "/status?json&full");
        assert_eq!(summary(&[("SCRIPT_NAME", "/status")], true).uri, "/status");
        assert_eq!(summary(&[], true), Summary::default());
    }

    #[test]
    fn no_part_forges_another() {
        let pairs = [
            ("REQUEST_METHOD", "GET\0x"),
            ("REQUEST_URI", "/a\0/b"),
            ("REMOTE_USER", "root\0/srv/forged.py"),
            ("SCRIPT_FILENAME", "/srv/a.py\0y"),
        ];
        let expected = Summary {
            method: "GET".into(),
            uri: "/a".into(),
            user: "root".into(),
            script: "/srv/a.py".into(),
            ..Summary::default()
        };
        assert_eq!(summary(&pairs, true), expected);
    }

    #[test]
    fn no_part_takes_the_room_of_another() {
        let long = "x".repeat(5000);
        let pairs = [
            "REQUEST_METHOD",
            "REQUEST_URI",
            "REMOTE_USER",
            "SCRIPT_FILENAME",
        ];
        let summary = summary(&pairs.map(|name| (name, long.as_str())), true);
        let lengths = [summary.method, summary.uri, summary.user, summary.script];
        assert_eq!(lengths.map(|part| part.len()), [METHOD, URI, USER, SCRIPT]);
    }
}
