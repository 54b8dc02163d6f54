//! Name-value pairs: two lengths of one byte or four each, then the name, then the value (specification, 3.4).
//!
//! The four-byte form is legal for short lengths too; cgi-fcgi uses it at random.

/// One pair from the front of `bytes`, and what follows it. None when the bytes end before the pair does.
#[must_use]
pub fn split_first(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name_length, rest) = length(bytes)?;
    let (value_length, rest) = length(rest)?;
    let (name, rest) = rest.split_at_checked(name_length)?;
    let (value, rest) = rest.split_at_checked(value_length)?;
    Some((name, value, rest))
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match *bytes {
        [short @ 0..=127, ref rest @ ..] => Some((usize::from(short), rest)),
        [a, b, c, d, ref rest @ ..] => {
            Some((u32::from_be_bytes([a & 0x7f, b, c, d]) as usize, rest))
        }
        _ => None,
    }
}

/// Appends a pair to `to`.
///
/// # Panics
/// When the name or the value is 2 GiB or longer.
pub fn encode(to: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, value] {
        match u8::try_from(part.len()) {
            Ok(short @ 0..=127) => to.push(short),
            _ => {
                let long = u32::try_from(part.len())
                    .ok()
                    .filter(|&long| long < 1 << 31);
                let long = long.expect("a length below 2 GiB") | 1 << 31;
                to.extend_from_slice(&long.to_be_bytes());
            }
        }
    }
    to.extend_from_slice(name);
    to.extend_from_slice(value);
}

/// The pairs of a request, checked when they were complete.
#[derive(Debug, Default)]
pub struct Params {
    bytes: Vec<u8>,
}

impl Params {
    /// The pairs in the order they came. Of duplicate names the last counts: nginx sends an overridden parameter twice.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (name, value, after) = split_first(rest)?;
            rest = after;
            Some((name, value))
        })
    }

    /// Parameters that are known to be whole pairs, as [`encode`] makes them.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// The value of `name`: the last one, if there are several.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter()
            .filter(|pair| pair.0 == name)
            .last()
            .map(|pair| pair.1)
    }

    /// The pairs as they came.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether the bytes are whole pairs, at most `pairs` of them, with names of at most `name` bytes.
    pub(crate) fn check(&self, pairs: usize, name: usize) -> Result<(), &'static str> {
        let mut rest = self.bytes.as_slice();
        let mut count = 0;
        while !rest.is_empty() {
            let (found, _, after) = split_first(rest)
                .ok_or("a parameter's length goes beyond the end of the parameters")?;
            if found.len() > name {
                return Err("a parameter's name is too long");
            }
            count += 1;
            if count > pairs {
                return Err("too many parameters");
            }
            rest = after;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_one_and_four_bytes() {
        assert_eq!(
            split_first(b"\x01\x02ABCrest"),
            Some((&b"A"[..], &b"BC"[..], &b"rest"[..]))
        );
        assert_eq!(
            split_first(b"\x80\0\0\x01\x02ABC"),
            Some((&b"A"[..], &b"BC"[..], &b""[..]))
        );
        assert_eq!(split_first(b"\0\0"), Some((&b""[..], &b""[..], &b""[..])));
        for cut in [
            &b""[..],
            b"\x01",
            b"\x80\0\0",
            b"\x01\x01A",
            b"\x01\x80\0\0",
            b"\xff\xff\xff\xff\0A",
        ] {
            assert_eq!(split_first(cut), None, "{cut:?}");
        }
    }

    #[test]
    fn the_last_of_duplicate_names_counts() {
        let mut params = Params::default();
        for (name, value) in [
            (&b"SCRIPT_NAME"[..], &b"/a"[..]),
            (b"X", b""),
            (b"SCRIPT_NAME", b""),
        ] {
            encode(&mut params.bytes, name, value);
        }
        assert_eq!(params.get(b"SCRIPT_NAME"), Some(&b""[..]));
        assert_eq!(params.get(b"Y"), None);
    }

    #[test]
    fn bounds_are_kept() {
        let mut params = Params::default();
        encode(&mut params.bytes, &[b'N'; 200], b"1");
        encode(&mut params.bytes, b"M", &[b'v'; 70_000]);
        assert_eq!(params.check(2, 200), Ok(()));
        assert!(params.check(1, 200).is_err());
        assert!(params.check(2, 199).is_err());
        params.bytes.pop();
        assert!(params.check(2, 200).is_err());
    }
}
