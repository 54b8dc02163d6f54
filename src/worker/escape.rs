//! Text from outside in lines of a log.

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
        for &byte in chunk.valid().as_bytes() {
            match byte {
                b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
                b'\n' => line.extend_from_slice(b"\\n"),
                b'\r' => line.extend_from_slice(b"\\r"),
                b'\t' => line.extend_from_slice(b"\\t"),
                0..0x20 | 0x7f => line.extend_from_slice(&code(byte)),
                _ => line.push(byte),
            }
        }
        for &byte in chunk.invalid() {
            line.extend_from_slice(&code(byte));
        }
    }
}

/// `\u00XX`
fn code(byte: u8) -> [u8; 6] {
    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble & 0xf)];
    [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)]
}
