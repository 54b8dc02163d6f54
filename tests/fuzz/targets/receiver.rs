//! The server side of a connection.
//!
//! However the bytes are cut into reads, the same must come out; what is kept of them is bounded; nothing panics or
//! hangs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use preforkd_fastcgi::pairs;
use preforkd_fastcgi::receiver::{Error, Event, Head, Limits, Receiver};

/// Small, so that short inputs reach them.
const LIMITS: Limits = Limits {
    params: 2048,
    pairs: 32,
    name: 64,
};

/// All that one stream of bytes was taken for.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    requests: Vec<(Head, Vec<u8>)>,
    body: Vec<u8>,
    ends: u32,
    aborts: u32,
    replies: Vec<u8>,
    error: Option<Error>,
}

/// Feeds the bytes in reads of `size`.
fn feed(bytes: &[u8], size: usize) -> Seen {
    let mut receiver = Receiver::new(LIMITS, 5);
    let mut seen = Seen::default();
    let mut rest = bytes;
    loop {
        match receiver.next() {
            Ok(Some(Event::Request)) => {
                let params = receiver.params();
                assert!(params.as_bytes().len() <= LIMITS.params);
                assert!(params.iter().count() <= LIMITS.pairs);
                assert!(params.iter().all(|(name, _)| name.len() <= LIMITS.name));
                let mut again = Vec::new();
                for (name, value) in params.iter() {
                    pairs::encode(&mut again, name, value);
                }
                assert!(again.len() <= params.as_bytes().len());
                seen.requests
                    .push((receiver.head(), params.as_bytes().to_vec()));
            }
            Ok(Some(Event::Body(range))) => seen.body.extend_from_slice(receiver.bytes(range)),
            Ok(Some(Event::BodyEnd)) => {
                seen.ends += 1;
                receiver.is_aborted();
                receiver.finish();
            }
            Ok(Some(Event::Abort)) => {
                seen.aborts += 1;
                receiver.finish();
            }
            Ok(Some(Event::Reply { records, .. })) => {
                // An answer is not much larger than what it answers.
                assert!(records.len() <= 1024);
                seen.replies.extend(records);
            }
            Ok(None) if rest.is_empty() => return seen,
            Ok(None) => {
                let space = receiver.space();
                assert!(!space.is_empty());
                let count = size.min(space.len()).min(rest.len());
                let (now, later) = rest.split_at(count);
                space[..count].copy_from_slice(now);
                receiver.filled(count);
                rest = later;
            }
            Err(error) => {
                seen.error = Some(error);
                return seen;
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    // Some size that follows from the input, which stays a stream as a web server sends it.
    let size = 1 + usize::from(
        bytes
            .iter()
            .fold(0, |sum: u8, byte| sum.wrapping_add(*byte)),
    );
    assert_eq!(feed(bytes, usize::MAX), feed(bytes, size));
});
