//! The head of a script's answer: kept back until it is whole and proves to be one (RFC 3875, 6.2 and 6.3).

/// Bytes that a head may have.
const MOST: usize = 64 * 1024;

/// What is wrong with what a script has said first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Not a header.
    Line,
    /// It begins as an HTTP response does: such scripts (`nph-`) are for servers that hand their connection over.
    NonParsed,
    /// No end within the bound.
    Endless,
    /// Neither of the headers that tell what the answer is.
    Empty,
}

impl Mistake {
    /// The mistake in words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Line => "its output does not begin with headers",
            Self::NonParsed => {
                "its output begins with an HTTP status line (NPH), and CGI headers such as Status are wanted"
            }
            Self::Endless => "its headers have more than 64 kB",
            Self::Empty => "its headers have neither Content-Type nor Location nor Status",
        }
    }
}

/// The first bytes of an answer.
#[derive(Debug, Default)]
pub struct Head {
    bytes: Vec<u8>,
    /// Where the first line begins that has not been checked.
    line: usize,
    tells: bool,
    length: Option<u64>,
    /// Whether the status is one of an answer that has no body, whatever the length of the page would be
    /// (RFC 9110, 8.6).
    is_bodiless: bool,
}

impl Head {
    /// Takes the next bytes. Once they have the end of the head in them, how many bytes it has.
    ///
    /// # Errors
    /// See [`Mistake`].
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<usize>, Mistake> {
        let mut from = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        while let Some(at) = self.bytes[from..].iter().position(|&byte| byte == b'\n') {
            let end = from + at;
            let line = &self.bytes[self.line..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                return if self.tells {
                    Ok(Some(end + 1))
                } else {
                    Err(Mistake::Empty)
                };
            }
            self.check(self.line..self.line + line.len())?;
            self.line = end + 1;
            from = self.line;
        }
        if self.bytes.len() > MOST {
            return Err(Mistake::Endless);
        }
        Ok(None)
    }

    /// All bytes that have been taken.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The declared length of the body, if there is to be one.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.length.filter(|_| !self.is_bodiless)
    }

    fn check(&mut self, line: std::ops::Range<usize>) -> Result<(), Mistake> {
        let line = &self.bytes[line];
        if self.line == 0 && line.starts_with(b"HTTP/") {
            return Err(Mistake::NonParsed);
        }
        // A line that begins with a space goes on with the header before it.
        if self.line > 0 && matches!(line[0], b' ' | b'\t') {
            return Ok(());
        }
        let colon = line
            .iter()
            .position(|&byte| byte == b':')
            .ok_or(Mistake::Line)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            return Err(Mistake::Line);
        }
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        self.tells |= ["Content-Type", "Location", "Status"].into_iter().any(is);
        if is("Status") {
            let code = value.trim_ascii_start().get(..3);
            self.is_bodiless =
                code.is_some_and(|code| code[0] == b'1' || matches!(code, b"204" | b"304"));
        }
        if is("Content-Length") {
            self.length = std::str::from_utf8(value)
                .ok()
                .and_then(|value| value.trim().parse().ok());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_whole(bytes: &[u8]) -> Result<Option<usize>, Mistake> {
        Head::default().take(bytes)
    }

    #[test]
    fn the_end_is_found_however_the_output_is_cut() {
        for head in [
            &b"Content-Type: text/plain\r\n\r\n"[..],
            b"Status: 404 Not Found\nX: y\n\n",
            b"Location:/x\r\n\n",
            b"X: a\r\n folded: on\r\ncontent-type: b\r\n\r\n",
        ] {
            let output = [head, b"a body\n\nwith lines"].concat();
            assert_eq!(taken_whole(&output), Ok(Some(head.len())));
            let mut taken = Head::default();
            let mut found = None;
            for (at, byte) in output.iter().enumerate() {
                found = taken.take(&[*byte]).unwrap();
                if found.is_some() {
                    assert_eq!(at + 1, head.len());
                    break;
                }
            }
            assert_eq!(found, Some(head.len()));
        }
    }

    #[test]
    fn what_is_no_head_is_told() {
        for (output, mistake) in [
            (&b"hello\n"[..], Mistake::Line),
            (b"two words: x\n", Mistake::Line),
            (b": x\n", Mistake::Line),
            (b" Content-Type: x\n", Mistake::Line),
            (b"HTTP/1.1 200 OK\r\n", Mistake::NonParsed),
            (b"\n", Mistake::Empty),
            (b"X: y\n\nbody", Mistake::Empty),
        ] {
            assert_eq!(taken_whole(output), Err(mistake), "{output:?}");
        }
        assert_eq!(taken_whole(&[b'x'; MOST + 1]), Err(Mistake::Endless));
        assert_eq!(taken_whole(b"Content-Type: x\nNo-End: y"), Ok(None));
    }

    #[test]
    fn the_declared_length_is_known() {
        let mut head = Head::default();
        head.take(b"Content-Type: x\r\nContent-Length: 12 \r\n\r\n")
            .unwrap();
        assert_eq!(head.length(), Some(12));
        for (status, length) in [
            ("200 OK", Some(12)),
            ("204", None),
            ("304 Not Modified", None),
        ] {
            let mut head = Head::default();
            let text = format!("Content-Length: 12\nStatus: {status}\n\n");
            head.take(text.as_bytes()).unwrap();
            assert_eq!(head.length(), length, "{status}");
        }
    }
}
