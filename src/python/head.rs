//! The status and headers of an answer: checked, and turned into the bytes of a CGI header block.
//!
//! `Status` always comes first, since without it some web servers take a `Location` for an internal redirect. Headers
//! that speak of a connection (hop-by-hop) are left out: the connection to the client is the web server's.

use thiserror::Error;

/// What is wrong with a status or header that an application gives.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub(crate) struct Mistake(String);

/// A checked status with headers.
#[derive(Debug)]
pub(crate) struct Head {
    /// The block without the empty line at its end.
    pub(crate) bytes: Vec<u8>,
    /// The status code.
    code: u16,
    /// The declared length of the body.
    pub(crate) length: Option<u64>,
}

/// Headers of HTTP/1.1 that concern one connection only (PEP 3333; RFC 9110, 7.6.1).
const HOP_BY_HOP: [&[u8]; 8] = [
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];

impl Head {
    /// Begins with a status line such as `200 OK`. The reason may be missing.
    pub(crate) fn new(status: &[u8]) -> Result<Self, Mistake> {
        let code = match *status {
            [
                a @ b'1'..=b'9',
                b @ b'0'..=b'9',
                c @ b'0'..=b'9',
                ref rest @ ..,
            ] if rest.is_empty() || rest[0] == b' ' => [a, b, c]
                .iter()
                .fold(0, |code, digit| code * 10 + u16::from(digit - b'0')),
            _ => {
                return Err(Mistake(format!(
                    "the status {} is not three digits, a space and a reason",
                    shown(status)
                )));
            }
        };
        if let Some(byte) = status.iter().copied().find(is_control) {
            return Err(Mistake(format!(
                "the status {} has the control character {byte:#04x} in it",
                shown(status)
            )));
        }
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(b"Status: ");
        bytes.extend_from_slice(status);
        bytes.extend_from_slice(b"\r\n");
        Ok(Self {
            bytes,
            code,
            length: None,
        })
    }

    /// Adds a header.
    pub(crate) fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), Mistake> {
        if name.is_empty() || !name.iter().all(is_token) {
            return Err(Mistake(format!("{} is no name for a header", shown(name))));
        }
        if let Some(byte) = value.iter().copied().find(is_control) {
            return Err(Mistake(format!(
                "the header {} has the control character {byte:#04x} in it",
                shown(name)
            )));
        }
        // Few names have these lengths and initials, so that most are compared with nothing.
        match name[0] | 0x20 {
            b'c' if name.eq_ignore_ascii_case(b"content-length") => {
                return self.content_length(value);
            }
            b's' if name.eq_ignore_ascii_case(b"status") => {
                return Err(Mistake(
                    "the status is given as the first argument, and not as a header".into(),
                ));
            }
            b'c' | b'k' | b'p' | b't' | b'u'
                if HOP_BY_HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop)) =>
            {
                return Ok(());
            }
            _ => {}
        }
        self.line(name, value);
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Mistake> {
        let length = decimal(value)
            .ok_or_else(|| Mistake(format!("the Content-Length {} is no length", shown(value))))?;
        match self.length {
            Some(before) if before != length => Err(Mistake(format!(
                "two Content-Lengths, {before} and {length}"
            ))),
            Some(_) => Ok(()),
            None => {
                self.length = Some(length);
                // An answer that has no body by definition must not speak of its length, but for 304 (RFC 9110, 8.6).
                if self.has_body() || self.code == 304 {
                    self.line(b"Content-Length", value);
                }
                Ok(())
            }
        }
    }

    fn line(&mut self, name: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(b": ");
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Whether an answer with this status has a body, if the request was not a HEAD.
    pub(crate) fn has_body(&self) -> bool {
        !matches!(self.code, 100..=199 | 204 | 304)
    }

    /// Adds the length of a body whose length was not declared but is known.
    pub(crate) fn declare(&mut self, length: u64) {
        self.length = Some(length);
        self.line(b"Content-Length", length.to_string().as_bytes());
    }
}

/// A number of decimal digits alone.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Whether a byte may not be in the value of a header. A tab may.
fn is_control(byte: &u8) -> bool {
    matches!(byte, 0..=8 | 10..=31 | 127)
}

/// Whether a byte may be in a name (`tchar` of RFC 9110, 5.6.2).
fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

/// For a message: quoted, cut, and without control characters.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(100)];
    let dots = if cut.len() < bytes.len() { "…" } else { "" };
    format!("\"{}{dots}\"", cut.escape_ascii())
}
