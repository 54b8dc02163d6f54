//! As much of the FastCGI wire format as a benchmark needs.
//!
//! Written from the specification (FastCGI 1.0, sections 3 and 5) and on purpose apart from the daemon's own code:
//! the load generator would not notice a mistake that it shared with the server.

#![forbid(unsafe_code)]

use std::iter;

/// Bytes of a record's header.
pub const HEADER_LEN: usize = 8;
/// The one request id of a connection that carries one request at a time.
pub const REQUEST_ID: u16 = 1;

/// Opens a request: role, flags.
pub const BEGIN_REQUEST: u8 = 1;
/// Closes a request: application status, protocol status.
pub const END_REQUEST: u8 = 3;
/// Name-value pairs.
pub const PARAMS: u8 = 4;
/// The request's body.
pub const STDIN: u8 = 5;
/// The answer.
pub const STDOUT: u8 = 6;

/// The role of an ordinary application.
pub const RESPONDER: u8 = 1;
/// Flag of `BEGIN_REQUEST`: the client wants the connection kept.
pub const KEEP_CONN: u8 = 1;
/// Protocol status of `END_REQUEST`: the request was answered.
pub const REQUEST_COMPLETE: u8 = 0;

/// One record, its padding cut off.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its type.
    pub kind: u8,
    /// The request that it belongs to.
    pub id: u16,
    /// Its content, at most 65535 bytes.
    pub content: &'a [u8],
}

/// Splits the first record off `bytes`: the record and what follows it, or `None` while it is not whole.
///
/// # Errors
/// A version other than 1.
pub fn split_record(bytes: &[u8]) -> Result<Option<(Record<'_>, &[u8])>, String> {
    let Some((&header, rest)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let [
        version,
        kind,
        id_high,
        id_low,
        len_high,
        len_low,
        padding,
        _,
    ] = header;
    if version != 1 {
        return Err(format!("a record of version {version}"));
    }
    let len = usize::from(u16::from_be_bytes([len_high, len_low]));
    let Some((padded, rest)) = rest.split_at_checked(len + usize::from(padding)) else {
        return Ok(None);
    };
    let id = u16::from_be_bytes([id_high, id_low]);
    let content = &padded[..len];
    Ok(Some((Record { kind, id, content }, rest)))
}

/// Appends a record of request [`REQUEST_ID`], padded to a multiple of eight bytes.
///
/// # Panics
/// If `content` is longer than 65535 bytes.
pub fn push_record(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    let len = u16::try_from(content.len()).expect("a record holds at most 65535 bytes");
    let padding = len.wrapping_neg().to_be_bytes()[1] & 7;
    let [id_high, id_low] = REQUEST_ID.to_be_bytes();
    let [len_high, len_low] = len.to_be_bytes();
    out.extend([
        1,
        kind,
        id_high,
        id_low,
        len_high,
        len_low,
        (len.wrapping_neg() & 7) as u8,
        0,
    ]);
    out.extend_from_slice(content);
    out.extend(iter::repeat_n(0, usize::from(padding)));
}

/// Appends a name-value pair.
pub fn push_pair(out: &mut Vec<u8>, name: &str, value: &str) {
    for text in [name, value] {
        match u8::try_from(text.len()) {
            Ok(len @ 0..=127) => out.push(len),
            _ => {
                let len = u32::try_from(text.len()).expect("a short text");
                out.extend_from_slice(&(len | 1 << 31).to_be_bytes());
            }
        }
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// Splits the first name-value pair off `bytes`: name, value, rest; `None` at the end or if it is cut short.
#[must_use]
pub fn split_pair(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name_len, rest) = split_len(bytes)?;
    let (value_len, rest) = split_len(rest)?;
    let (name, rest) = rest.split_at_checked(name_len)?;
    let (value, rest) = rest.split_at_checked(value_len)?;
    Some((name, value, rest))
}

fn split_len(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first < 128 {
        return Some((usize::from(first), rest));
    }
    let (&long, rest) = bytes.split_first_chunk::<4>()?;
    Some((
        usize::try_from(u32::from_be_bytes(long) & !(1 << 31)).ok()?,
        rest,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_round_trip() {
        let mut bytes = Vec::new();
        push_record(&mut bytes, STDOUT, b"Hello");
        assert_eq!(bytes.len(), 16);
        for cut in 0..bytes.len() {
            assert!(
                split_record(&bytes[..cut]).unwrap().is_none(),
                "whole at {cut} bytes"
            );
        }
        let (record, rest) = split_record(&bytes).unwrap().unwrap();
        assert_eq!(
            (record.kind, record.id, record.content, rest),
            (STDOUT, REQUEST_ID, &b"Hello"[..], &b""[..])
        );
        assert!(split_record(&[2; 16]).is_err());
    }

    #[test]
    fn pairs_survive_the_round_trip() {
        let long = "v".repeat(200);
        let mut bytes = Vec::new();
        push_pair(&mut bytes, "NAME", &long);
        push_pair(&mut bytes, "EMPTY", "");
        let (name, value, rest) = split_pair(&bytes).unwrap();
        assert_eq!((name, value), (&b"NAME"[..], long.as_bytes()));
        assert_eq!(split_pair(rest), Some((&b"EMPTY"[..], &b""[..], &b""[..])));
        assert_eq!(split_pair(&bytes[..20]), None);
    }
}
