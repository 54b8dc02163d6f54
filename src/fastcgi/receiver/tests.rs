use super::*;
use proptest::prelude::*;

#[derive(Debug, PartialEq, Eq, Default)]
struct Seen {
    requests: Vec<(Head, Vec<u8>)>,
    body: Vec<u8>,
    ends: u32,
    aborts: u32,
    replies: Vec<u8>,
    error: Option<Error>,
}

fn record(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let header = Header {
        version: 1,
        kind,
        id,
        content: u16::try_from(content.len()).unwrap(),
        padding,
    };
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(content);
    bytes.extend(std::iter::repeat_n(0xee, usize::from(padding)));
    bytes
}

fn begin(id: u16, flags: u8) -> Vec<u8> {
    record(kind::BEGIN_REQUEST, id, &[0, 1, flags, 0, 0, 0, 0, 0], 0)
}

/// Feeds `bytes` in pieces of the given sizes, over and over.
fn feed(bytes: &[u8], sizes: &[usize]) -> Seen {
    let mut receiver = Receiver::new(Limits::default(), 5);
    let mut seen = Seen::default();
    let mut at = 0;
    for size in sizes.iter().cycle() {
        loop {
            match receiver.next() {
                Ok(None) => break,
                Ok(Some(Event::Request)) => seen
                    .requests
                    .push((receiver.head(), receiver.params().as_bytes().to_vec())),
                Ok(Some(Event::Body(range))) => seen.body.extend_from_slice(receiver.bytes(range)),
                Ok(Some(Event::BodyEnd)) => {
                    seen.ends += 1;
                    receiver.finish();
                }
                Ok(Some(Event::Abort)) => {
                    seen.aborts += 1;
                    receiver.finish();
                }
                Ok(Some(Event::Reply { records, .. })) => seen.replies.extend(records),
                Err(error) => {
                    seen.error = Some(error);
                    return seen;
                }
            }
        }
        if at == bytes.len() {
            return seen;
        }
        let space = receiver.space();
        assert!(!space.is_empty());
        let count = (*size).min(space.len()).min(bytes.len() - at);
        space[..count].copy_from_slice(&bytes[at..at + count]);
        receiver.filled(count);
        at += count;
    }
    seen
}

fn request(id: u16, params: &[u8], body: &[u8], cut: usize, padding: u8) -> Vec<u8> {
    let mut bytes = begin(id, 1);
    for part in params.chunks(cut) {
        bytes.extend(record(kind::PARAMS, id, part, padding));
    }
    bytes.extend(record(kind::PARAMS, id, b"", 0));
    for part in body.chunks(cut) {
        bytes.extend(record(kind::STDIN, id, part, padding));
    }
    bytes.extend(record(kind::STDIN, id, b"", padding));
    bytes
}

#[test]
fn a_request_is_assembled() {
    let mut params = Vec::new();
    pairs::encode(&mut params, b"REQUEST_METHOD", b"GET");
    let seen = feed(&request(1, &params, b"body", 3, 5), &[usize::MAX]);
    assert_eq!(
        seen.requests,
        [(
            Head {
                id: 1,
                role: 1,
                keep: true
            },
            params
        )]
    );
    assert_eq!(
        (seen.body.as_slice(), seen.ends, seen.error),
        (&b"body"[..], 1, None)
    );
}

#[test]
fn get_values_and_unknown_types_are_answered() {
    let mut names = Vec::new();
    for name in [&b"FCGI_MPXS_CONNS"[..], b"FCGI_MAX_REQS", b"OTHER"] {
        pairs::encode(&mut names, name, b"");
    }
    let mut bytes = record(kind::GET_VALUES, 0, &names, 3);
    bytes.extend(record(77, 0, b"what", 0));
    let seen = feed(&bytes, &[7]);
    let mut expected = Vec::new();
    pairs::encode(&mut expected, b"FCGI_MPXS_CONNS", b"0");
    pairs::encode(&mut expected, b"FCGI_MAX_REQS", b"5");
    let mut expected = record(kind::GET_VALUES_RESULT, 0, &expected, 0);
    expected.extend(record::unknown_type(77));
    assert_eq!(seen.replies, expected);
}

#[test]
fn a_second_request_is_refused_and_skipped() {
    let mut bytes = begin(1, 1);
    bytes.extend(begin(2, 1));
    bytes.extend(record(kind::PARAMS, 2, b"\x01\x01A", 0));
    bytes.extend(record(kind::PARAMS, 1, b"", 0));
    bytes.extend(record(kind::STDIN, 2, b"other", 0));
    bytes.extend(record(kind::STDIN, 1, b"", 0));
    let seen = feed(&bytes, &[1000]);
    assert_eq!(
        seen.replies,
        record::end_request(2, 0, ProtocolStatus::CannotMultiplex)
    );
    assert_eq!(
        (seen.requests.len(), seen.body.len(), seen.ends, seen.error),
        (1, 0, 1, None)
    );
}

/// Only management records are looked at whole, and only they are bounded.
#[test]
fn get_values_for_a_request_is_skipped_whatever_its_size() {
    let mut bytes = begin(1, 1);
    bytes.extend(record(kind::GET_VALUES, 1, &[0; 65535], 0));
    bytes.extend(record(kind::PARAMS, 1, b"", 0));
    bytes.extend(record(kind::STDIN, 1, b"", 0));
    let seen = feed(&bytes, &[usize::MAX]);
    assert_eq!((seen.ends, seen.error), (1, None));
}

/// What follows the body of a request, as far as it has come.
fn after_a_body(rest: &[u8]) -> Receiver {
    let mut bytes = request(1, b"", b"", 1, 3);
    bytes.extend_from_slice(rest);
    let mut receiver = Receiver::new(Limits::default(), 5);
    receiver.space()[..bytes.len()].copy_from_slice(&bytes);
    receiver.filled(bytes.len());
    assert_eq!(receiver.next(), Ok(Some(Event::Request)));
    assert_eq!(receiver.next(), Ok(Some(Event::BodyEnd)));
    receiver
}

#[test]
fn padding_is_no_part_of_a_next_request() {
    let mut receiver = after_a_body(b"");
    receiver.finish();
    assert!(receiver.is_idle());
    let mut receiver = after_a_body(&[1]);
    receiver.finish();
    assert!(!receiver.is_idle());
}

#[test]
fn nobody_else_can_go_on_before_the_padding_has_come() {
    let whole = request(1, b"", b"", 1, 3);
    for (missing, expected) in [(0, true), (1, false)] {
        let mut receiver = Receiver::new(Limits::default(), 5);
        let count = whole.len() - missing;
        receiver.space()[..count].copy_from_slice(&whole[..count]);
        receiver.filled(count);
        while receiver.next() != Ok(Some(Event::BodyEnd)) {}
        assert_eq!(receiver.is_exhausted(), expected);
        receiver.finish();
        assert_eq!(receiver.is_exhausted(), expected);
        assert!(receiver.is_idle());
    }
}

#[test]
fn nothing_is_taken_of_what_follows_a_request_that_is_given_up() {
    let mut receiver = Receiver::new(Limits::default(), 5);
    let given_up = request(1, b"\x01\x01AB", b"body", 9, 0);
    let end = record(kind::STDIN, 1, b"", 0);
    let mut bytes = given_up[..given_up.len() - end.len()].to_vec();
    bytes.extend(record(kind::ABORT_REQUEST, 1, b"", 3));
    bytes.extend(request(1, b"\x01\x01CD", b"", 9, 0));
    receiver.space()[..bytes.len()].copy_from_slice(&bytes);
    receiver.filled(bytes.len());
    while receiver.next() != Ok(Some(Event::Abort)) {}
    assert!(receiver.is_aborted() && !receiver.body_complete());
    assert_eq!(receiver.next(), Ok(None));
    receiver.finish();
    assert!(!receiver.is_aborted());
    assert_eq!(receiver.next(), Ok(Some(Event::Request)));
    assert_eq!(receiver.params().as_bytes(), b"\x01\x01CD");
}

#[test]
fn a_request_given_up_is_told_from_one_that_is_followed_by_another() {
    assert!(after_a_body(&record(kind::ABORT_REQUEST, 1, b"", 0)).is_aborted());
    let others = [
        record(kind::ABORT_REQUEST, 2, b"", 0),
        begin(1, 1),
        vec![1, kind::ABORT_REQUEST],
    ];
    for rest in others {
        let mut receiver = after_a_body(&rest);
        assert!(!receiver.is_aborted());
        receiver.finish();
        assert!(!receiver.is_idle(), "nothing of it is gone");
    }
}

#[test]
fn other_roles_are_served_where_they_are_wanted() {
    let begin = |role| record(kind::BEGIN_REQUEST, 9, &[0, role, 1, 0, 0, 0, 0, 0], 0);
    let pairs = b"\x01\x01AB";
    let head = |role| {
        [
            begin(role),
            record(kind::PARAMS, 9, pairs, 3),
            record(kind::PARAMS, 9, b"", 0),
        ]
        .concat()
    };
    let body = [
        record(kind::STDIN, 9, b"form", 5),
        record(kind::STDIN, 9, b"", 1),
        record(kind::DATA, 9, b"file", 0),
        record(kind::DATA, 9, b"", 0),
    ]
    .concat();
    let expected = [
        record(kind::STDIN, 1, b"form", 0),
        record(kind::STDIN, 1, b"", 0),
        record(kind::DATA, 1, b"file", 0),
        record(kind::DATA, 1, b"", 0),
    ]
    .concat();
    // What a web server may send to an authorizer all the same.
    let extra = record(kind::STDIN, 9, b"", 0);
    for (role, bytes, passed) in [
        (2, [head(2), extra].concat(), &[][..]),
        (3, [head(3), body].concat(), &expected),
    ] {
        for piece in [1, 5, 1000] {
            let mut receiver = Receiver::new(Limits::default(), 4);
            receiver.serve_all_roles();
            let (mut seen, mut begun) = (Vec::new(), false);
            for piece in bytes.chunks(piece) {
                receiver.space()[..piece.len()].copy_from_slice(piece);
                receiver.filled(piece.len());
                while let Some(event) = receiver.next().unwrap() {
                    match event {
                        Event::Request => begun = receiver.head().role == role,
                        Event::Body(range) => seen.extend_from_slice(receiver.bytes(range)),
                        Event::BodyEnd => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            assert!(begun && receiver.body_complete(), "{role}");
            assert_eq!(seen, passed, "{role}");
        }
    }
}

#[test]
fn another_role_is_refused() {
    let seen = feed(
        &record(kind::BEGIN_REQUEST, 9, &[0, 2, 0, 0, 0, 0, 0, 0], 0),
        &[1],
    );
    assert_eq!(
        seen.replies,
        record::end_request(9, 0, ProtocolStatus::UnknownRole)
    );
}

#[test]
fn nonsense_is_an_error() {
    let after = |more: Vec<u8>| [begin(1, 0), more].concat();
    let body = |more: Vec<u8>| [begin(1, 0), record(kind::PARAMS, 1, b"", 0), more].concat();
    let cases = [
        vec![2, 1, 0, 1, 0, 8, 0, 0],
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        record(kind::BEGIN_REQUEST, 0, &[0; 8], 0),
        record(kind::BEGIN_REQUEST, 1, &[0], 0),
        record(kind::GET_VALUES, 0, &[0; 1025], 0),
        after(begin(1, 0)),
        after(record(kind::STDIN, 1, b"x", 0)),
        body(record(kind::PARAMS, 1, b"\0\0", 0)),
        body([record(kind::STDIN, 1, b"", 0), begin(1, 0)].concat()),
        after(
            [
                record(kind::PARAMS, 1, b"\x05\x01A", 0),
                record(kind::PARAMS, 1, b"", 0),
            ]
            .concat(),
        ),
        after(record(kind::PARAMS, 1, &[0; 65535], 0).repeat(5)),
        after(
            [
                record(kind::PARAMS, 1, &[0; 2050], 0),
                record(kind::PARAMS, 1, b"", 0),
            ]
            .concat(),
        ),
    ];
    for (number, case) in cases.iter().enumerate() {
        // The one that repeats the BEGIN after the end has been finished by `feed`, and so is a new request.
        let expect_error = number != 8;
        assert_eq!(
            feed(case, &[usize::MAX]).error.is_some(),
            expect_error,
            "case {number}"
        );
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same_requests(
        params in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), prop::collection::vec(any::<u8>(), 0..300)), 0..20),
        body in prop::collection::vec(any::<u8>(), 0..3000),
        cut in 1_usize..500,
        padding: u8,
        sizes in prop::collection::vec(1_usize..200, 1..20),
    ) {
        let mut pairs = Vec::new();
        for (name, value) in &params {
            pairs::encode(&mut pairs, name, value);
        }
        let mut bytes = request(1, &pairs, &body, cut, padding);
        bytes.extend(request(7, &pairs, b"second", cut, 0));
        let seen = feed(&bytes, &sizes);
        prop_assert_eq!(&seen, &feed(&bytes, &[usize::MAX]));
        prop_assert_eq!(seen.error, None);
        prop_assert_eq!(seen.requests.len(), 2);
        prop_assert_eq!(&seen.requests[0].1, &pairs);
        let mut expected = body.clone();
        expected.extend_from_slice(b"second");
        prop_assert_eq!(seen.body, expected);
    }
}
