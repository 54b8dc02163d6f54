//! A request on its way through a relay: what the program reads is what the web server sent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use preforkd_fastcgi::pairs::Params;
use preforkd_fastcgi::receiver::{Event, Limits, Receiver};
use preforkd_fastcgi::record::{RESPONDER, kind};
use preforkd_fastcgi::request::Request;

/// The requests and the bodies in `bytes`, up to the first mistake.
fn requests(mut bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut receiver = Receiver::new(Limits::default(), 1);
    let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    loop {
        match receiver.next() {
            Ok(Some(Event::Request)) => {
                found.push((receiver.params().as_bytes().to_vec(), Vec::new()))
            }
            Ok(Some(Event::Body(range))) => {
                let (_, body) = found.last_mut().expect("the parameters came first");
                body.extend_from_slice(receiver.bytes(range));
            }
            Ok(Some(Event::BodyEnd | Event::Abort)) => receiver.finish(),
            Ok(Some(Event::Reply { .. })) => {}
            Ok(None) if bytes.is_empty() => return found,
            Ok(None) => {
                let space = receiver.space();
                let count = space.len().min(bytes.len());
                space[..count].copy_from_slice(&bytes[..count]);
                receiver.filled(count);
                bytes = &bytes[count..];
            }
            Err(_) => return found,
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    for (params, body) in requests(bytes) {
        let params = Params::from_bytes(params);
        let mut request = Request::default();
        let mut sent = Vec::new();
        request.begin(RESPONDER, &params);
        sent.extend_from_slice(request.unsent());
        request.sent(request.unsent().len());
        let mut rest = body.as_slice();
        while !rest.is_empty() {
            let piece: Result<_, ()> = request.piece(kind::STDIN, |space| {
                let count = space.len().min(rest.len());
                space[..count].copy_from_slice(&rest[..count]);
                rest = &rest[count..];
                Ok(count)
            });
            assert!(piece.is_ok());
            sent.extend_from_slice(request.unsent());
            request.sent(request.unsent().len());
        }
        request.end(kind::STDIN);
        sent.extend_from_slice(request.unsent());

        let read = requests(&sent);
        assert_eq!(read.len(), 1);
        let read_params = Params::from_bytes(read[0].0.clone());
        assert!(
            params
                .iter()
                .filter(|(name, _)| *name != b"HTTP_PROXY")
                .eq(read_params.iter())
        );
        assert_eq!(read[0].1, body);
    }
});
