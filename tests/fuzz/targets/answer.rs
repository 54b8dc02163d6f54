//! The client side of a connection: what a program answers.
//!
//! However the bytes are cut into reads, the same must come out; nothing panics or hangs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use preforkd_fastcgi::answer::{Answer, Error, Event};
use preforkd_fastcgi::record::ProtocolStatus;

/// All that one stream of bytes was taken for.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    end: Option<(u32, ProtocolStatus)>,
    error: Option<Error>,
}

/// Feeds the bytes in reads of `size`, up to the end of the request.
fn feed(bytes: &[u8], size: usize) -> Seen {
    let mut answer = Answer::default();
    answer.begin();
    let mut seen = Seen::default();
    let mut rest = bytes;
    loop {
        match answer.next() {
            Ok(Some(Event::Stdout(range))) => seen.stdout.extend_from_slice(answer.bytes(range)),
            Ok(Some(Event::Stderr(range))) => seen.stderr.extend_from_slice(answer.bytes(range)),
            Ok(Some(Event::End {
                application,
                protocol,
            })) => {
                seen.end = Some((application, protocol));
                let _ = answer.is_clean();
                return seen;
            }
            Ok(None) if rest.is_empty() => return seen,
            Ok(None) => {
                let space = answer.space();
                assert!(!space.is_empty());
                let count = size.min(space.len()).min(rest.len());
                let (now, later) = rest.split_at(count);
                space[..count].copy_from_slice(now);
                answer.filled(count);
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
    // Some size that follows from the input, which stays a stream as a program sends it.
    let size = 1 + usize::from(
        bytes
            .iter()
            .fold(0, |sum: u8, byte| sum.wrapping_add(*byte)),
    );
    assert_eq!(feed(bytes, usize::MAX), feed(bytes, size));
});
