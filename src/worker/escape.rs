//! Text from outside in lines of a log.

use std::io::Write;

/// Appends at most `most` bytes of a value, escaped as in a JSON string: what it becomes is UTF-8 of one line, and
/// cannot end a string in quotation marks. A byte that is no UTF-8 becomes `\u00XX`.
pub fn escape(line: &mut Vec<u8>, value: &[u8], most: usize) {
    let mut value = value;
    if value.len() > most {
        let mut end = most;
        // Not within a character.
        while end > 0 && value[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        value = &value[..end];
    }
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => line.extend_from_slice(b"\\\""),
                '\\' => line.extend_from_slice(b"\\\\"),
                '\n' => line.extend_from_slice(b"\\n"),
                '\r' => line.extend_from_slice(b"\\r"),
                '\t' => line.extend_from_slice(b"\\t"),
                // The separators end a line in JavaScript, and for some readers.
                '\u{2028}' | '\u{2029}' => push_code(line, character.into()),
                _ if character.is_control() => push_code(line, character.into()),
                _ => {
                    let mut utf8 = [0; 4];
                    line.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
                }
            }
        }
        for &byte in chunk.invalid() {
            push_code(line, byte.into());
        }
    }
}

/// Appends `\uXXXX`.
fn push_code(line: &mut Vec<u8>, code: u32) {
    // Writing to a Vec cannot fail.
    let _ = write!(line, "\\u{code:04x}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_line_or_tells_a_terminal_what_to_do() {
        let mut line = Vec::new();
        let value = "a\"\\\n\r\t\0\x1b\x7f\u{85}\u{9b}\u{2028}\u{2029}\u{e9}";
        escape(&mut line, &[value.as_bytes(), b"\xff"].concat(), 100);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "a\\\"\\\\\\n\\r\\t\\u0000\\u001b\\u007f\\u0085\\u009b\\u2028\\u2029\u{e9}\\u00ff"
        );
    }
}
