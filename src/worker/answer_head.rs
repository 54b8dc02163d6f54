//! The beginning of an answer: its header lines, for those who tell of it.

/// Bytes of header lines that are kept; what comes after them is not seen.
const MOST: usize = 16 * 1024;

/// The header lines of an answer, gathered while it is written.
#[derive(Debug, Default)]
pub struct AnswerHead {
    lines: Vec<u8>,
    is_whole: bool,
}

impl AnswerHead {
    /// An answer begins; the one before is forgotten.
    pub fn begin(&mut self) {
        self.lines.clear();
        self.is_whole = false;
    }

    /// Takes the next piece of the answer.
    pub fn take(&mut self, data: &[u8]) {
        if self.is_whole {
            return;
        }
        let seen = self.lines.len();
        let room = MOST - seen;
        self.lines.extend_from_slice(&data[..data.len().min(room)]);
        // The end may lie across two pieces.
        let from = seen.saturating_sub(2);
        match end(&self.lines[from..]) {
            Some(end) => self.lines.truncate(from + end),
            None if data.len() >= room => {}
            None => return,
        }
        self.is_whole = true;
    }

    /// The lines, without the empty one at their end.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }
}

/// The number of bytes up to the end of the last line before an empty one.
fn end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|&byte| byte == b'\n') {
        let after = from + at + 1;
        match &bytes[after..] {
            [b'\n', ..] | [b'\r', b'\n', ..] => return Some(after),
            _ => from = after,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_however_the_answer_is_cut() {
        for answer in [
            &b"Status: 200 OK\r\nX: y\r\n\r\nbody\r\n\r\n"[..],
            b"Status: 200 OK\r\nX: y\r\n\nbody",
        ] {
            for cut in 0..answer.len() {
                let mut head = AnswerHead::default();
                head.take(&answer[..cut]);
                head.take(&answer[cut..]);
                head.take(b"more");
                assert_eq!(head.lines(), b"Status: 200 OK\r\nX: y\r\n", "cut at {cut}");
            }
        }
    }

    #[test]
    fn it_has_a_bound_and_forgets_the_answer_before() {
        let mut head = AnswerHead::default();
        for _ in 0..3 {
            head.take(&[b'x'; MOST / 2]);
        }
        assert_eq!(head.lines().len(), MOST);
        head.begin();
        head.take(b"A: b\n\nbody");
        assert_eq!(head.lines(), b"A: b\n");
    }
}
