//! What holds for any bytes whatever, on both sides of a connection: however they are cut into reads, the same comes out
//! of them; that ends, in memory that has a bound, and without a panic. And what one side writes, the other reads.

use crate::answer::{self, Answer};
use crate::pairs::{self, Params};
use crate::receiver::{self, Head, Limits, Receiver};
use crate::record::{Header, ProtocolStatus, RESPONDER, VERSION, header, kind, unknown_type};
use crate::request::Request;
use crate::response::Response;
use proptest::collection::vec;
use proptest::prelude::*;

/// Small, so that they are reached.
const LIMITS: Limits = Limits {
    params: 1500,
    pairs: 20,
    name: 40,
};

/// More than either side reads at once.
const MOST_SPACE: usize = 64 * 1024;

/// Bytes as a peer may send them: mostly records, of which hardly any two fit together.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let content = prop_oneof![
        4 => vec(any::<u8>(), 0..12),
        4 => vec(prop_oneof![Just(0_u8), Just(1), Just(3), any::<u8>()], 8),
        4 => vec(("[A-Z_]{0,50}", "[a-z]{0,90}"), 0..6).prop_map(|found| {
            let mut bytes = Vec::new();
            for (name, value) in found {
                pairs::encode(&mut bytes, name.as_bytes(), value.as_bytes());
            }
            bytes
        }),
        2 => Just(Vec::new()),
        1 => (0_usize..=65_535).prop_map(|length| vec![b'x'; length]),
    ];
    let record = (
        prop_oneof![30 => Just(VERSION), 1 => any::<u8>()],
        prop_oneof![12 => 1_u8..12, 1 => any::<u8>()],
        prop_oneof![12 => Just(1_u16), 3 => Just(0), 1 => any::<u16>()],
        content,
        prop_oneof![3 => Just(0), 1 => any::<u8>()],
        // Where a length lies.
        prop_oneof![30 => Just(0_u16), 1 => any::<u16>()],
    )
        .prop_map(|(version, kind, id, content, padding, lie)| {
            let length = u16::try_from(content.len()).unwrap().wrapping_add(lie);
            let header = Header {
                version,
                kind,
                id,
                content: length,
                padding,
            };
            let mut bytes = header.encode().to_vec();
            bytes.extend(content);
            bytes.resize(bytes.len() + usize::from(padding), 0xee);
            bytes
        });
    // One that gets as far as its body.
    let begun = (0_u8..2, 1_u8..4).prop_map(|(flags, role)| {
        let mut bytes = header(kind::BEGIN_REQUEST, 1, 8).to_vec();
        bytes.extend([0, role, flags, 0, 0, 0, 0, 0]);
        bytes.extend(header(kind::PARAMS, 1, 2));
        bytes.extend([0, 0]);
        bytes.extend(header(kind::PARAMS, 1, 0));
        bytes
    });
    let records = vec(prop_oneof![6 => record, 1 => begun], 0..12);
    prop_oneof![
        9 => records.prop_map(|records| records.concat()),
        1 => vec(any::<u8>(), 0..500),
    ]
}

/// How the bytes are cut: the sizes of reads, over and over.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![2 => 1_usize..20, 1 => 1_usize..3000];
    vec(size, 1..8)
}

/// Hands out `bytes` in reads of the given sizes, and counts what is asked for.
struct Peer<'a> {
    bytes: &'a [u8],
    cuts: std::iter::Cycle<std::slice::Iter<'a, usize>>,
    steps: usize,
}

impl<'a> Peer<'a> {
    fn new(bytes: &'a [u8], cuts: &'a [usize]) -> Self {
        Self {
            bytes,
            cuts: cuts.iter().cycle(),
            // Each byte is read, and is the last one of something, at most once.
            steps: 2 * bytes.len() + 2,
        }
    }

    fn step(&mut self) {
        self.steps = self.steps.checked_sub(1).expect("it comes to an end");
    }

    /// Reads into `space`; 0 when there is no more.
    fn read(&mut self, space: &mut [u8]) -> usize {
        assert!(!space.is_empty() && space.len() <= MOST_SPACE);
        let cut = *self.cuts.next().expect("they begin again");
        let count = cut.min(space.len()).min(self.bytes.len());
        let (now, later) = self.bytes.split_at(count);
        space[..count].copy_from_slice(now);
        self.bytes = later;
        count
    }
}

#[derive(Debug, Default, PartialEq)]
struct Requests {
    requests: Vec<(Head, Vec<u8>)>,
    body: Vec<u8>,
    ends: usize,
    aborts: usize,
    replies: Vec<u8>,
    error: Option<receiver::Error>,
}

fn requests(limits: Limits, all_roles: bool, bytes: &[u8], cuts: &[usize]) -> Requests {
    let mut receiver = Receiver::new(limits, u32::MAX);
    if all_roles {
        receiver.serve_all_roles();
    }
    let mut peer = Peer::new(bytes, cuts);
    let mut seen = Requests::default();
    loop {
        peer.step();
        let next = receiver.next();
        assert!(receiver.params().as_bytes().len() <= limits.params);
        match next {
            Ok(Some(receiver::Event::Request)) => {
                let params = receiver.params();
                assert!(params.iter().count() <= limits.pairs);
                assert!(params.iter().all(|(name, _)| name.len() <= limits.name));
                seen.requests
                    .push((receiver.head(), params.as_bytes().to_vec()));
                if receiver.body_complete() {
                    receiver.finish();
                }
            }
            Ok(Some(receiver::Event::Body(range))) => {
                seen.body.extend_from_slice(receiver.bytes(range));
            }
            Ok(Some(receiver::Event::BodyEnd)) => {
                seen.ends += 1;
                receiver.is_aborted();
                receiver.finish();
            }
            Ok(Some(receiver::Event::Abort)) => {
                seen.aborts += 1;
                receiver.finish();
            }
            Ok(Some(receiver::Event::Reply { records, .. })) => seen.replies.extend(records),
            Ok(None) => {
                let count = peer.read(receiver.space());
                if count == 0 {
                    break;
                }
                receiver.filled(count);
            }
            Err(error) => {
                seen.error = Some(error);
                break;
            }
        }
    }
    // Nobody gets much more than what was asked of them.
    assert!(seen.replies.len() <= 2 * bytes.len());
    seen
}

#[derive(Debug, Default, PartialEq)]
struct Answered {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    end: Option<(u32, ProtocolStatus)>,
    error: Option<answer::Error>,
}

fn answered(bytes: &[u8], cuts: &[usize]) -> Answered {
    let mut answer = Answer::default();
    answer.begin();
    let mut peer = Peer::new(bytes, cuts);
    let mut seen = Answered::default();
    loop {
        peer.step();
        match answer.next() {
            Ok(Some(answer::Event::Stdout(range))) => {
                seen.stdout.extend_from_slice(answer.bytes(range));
            }
            Ok(Some(answer::Event::Stderr(range))) => {
                seen.stderr.extend_from_slice(answer.bytes(range));
            }
            Ok(Some(answer::Event::End {
                application,
                protocol,
            })) => {
                seen.end = Some((application, protocol));
                let _ = answer.is_clean();
                return seen;
            }
            Ok(None) => {
                let count = peer.read(answer.space());
                if count == 0 {
                    return seen;
                }
                answer.filled(count);
            }
            Err(error) => {
                seen.error = Some(error);
                return seen;
            }
        }
    }
}

/// What is done to an answer while it is written.
#[derive(Clone, Debug)]
enum Act {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// Content that is not in the buffer.
    File(Vec<u8>),
    /// An answer to something else.
    Reply,
    /// So many bytes of it can be sent.
    Send(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let data = || vec(any::<u8>(), 1..300);
    let act = prop_oneof![
        data().prop_map(Act::Stdout),
        Just(Act::Stdout(vec![b'x'; 40_000])),
        data().prop_map(Act::Stderr),
        data().prop_map(Act::File),
        Just(Act::Reply),
        (1_usize..70_000).prop_map(Act::Send),
    ];
    vec(act, 0..30)
}

/// Sends at most `most` bytes of what can be sent; the content of a file comes from `file`.
fn send(response: &mut Response, file: &mut Vec<u8>, most: usize, wire: &mut Vec<u8>) {
    let ready = response.take();
    let count = ready.len().min(most);
    wire.extend_from_slice(&ready[..count]);
    response.sent(count);
    if response.take().is_empty() && response.owed() > 0 {
        let count = response.owed().min(most);
        wire.extend(file.drain(..count));
        response.paid(count);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_the_same_requests_however_they_are_cut(bytes in stream(), cuts in cuts(), all_roles: bool) {
        let whole = requests(LIMITS, all_roles, &bytes, &[usize::MAX]);
        prop_assert_eq!(requests(LIMITS, all_roles, &bytes, &cuts), whole);
    }

    #[test]
    fn any_bytes_are_the_same_answer_however_they_are_cut(bytes in stream(), cuts in cuts()) {
        prop_assert_eq!(answered(&bytes, &cuts), answered(&bytes, &[usize::MAX]));
    }

    #[test]
    fn any_answer_arrives(acts in acts(), status: u32, cuts in cuts()) {
        let mut response = Response::default();
        response.begin(1);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (mut wire, mut file) = (Vec::new(), Vec::new());
        for act in acts {
            // The content of a file goes before the rest of the answer.
            while response.owed() > 0 && !matches!(act, Act::Send(_) | Act::Reply) {
                send(&mut response, &mut file, usize::MAX, &mut wire);
            }
            match act {
                Act::Stdout(data) => {
                    let mut taken = 0;
                    while taken < data.len() {
                        taken += response.stdout(&data[taken..], 50_000);
                        if taken < data.len() {
                            send(&mut response, &mut file, 30_000, &mut wire);
                        }
                    }
                    stdout.extend(data);
                }
                Act::Stderr(data) => {
                    response.stderr(&data);
                    stderr.extend(data);
                }
                Act::File(data) => {
                    response.stdout_elsewhere(u16::try_from(data.len()).unwrap());
                    stdout.extend_from_slice(&data);
                    file = data;
                }
                Act::Reply => response.records(&unknown_type(99)),
                Act::Send(most) => send(&mut response, &mut file, most, &mut wire),
            }
        }
        while response.owed() > 0 {
            send(&mut response, &mut file, usize::MAX, &mut wire);
        }
        response.end(status, ProtocolStatus::Complete);
        while response.pending() > 0 {
            send(&mut response, &mut file, usize::MAX, &mut wire);
        }
        let seen = answered(&wire, &cuts);
        prop_assert_eq!(seen.error, None);
        prop_assert_eq!(seen.end, Some((status, ProtocolStatus::Complete)));
        prop_assert_eq!((seen.stdout, seen.stderr), (stdout, stderr));
    }

    #[test]
    fn any_request_arrives(
        found in vec((vec(any::<u8>(), 0..30), prop_oneof![9 => vec(any::<u8>(), 0..200), 1 => Just(vec![b'v'; 70_000])]), 0..10),
        body in vec(vec(any::<u8>(), 1..500), 0..10),
        cuts in cuts(),
    ) {
        let mut bytes = Vec::new();
        for (name, value) in &found {
            pairs::encode(&mut bytes, name, value);
        }
        let limits = Limits { params: 1 << 20, ..Limits::default() };
        let mut request = Request::default();
        request.begin(RESPONDER, &Params::from_bytes(bytes.clone()));
        let mut wire = request.unsent().to_vec();
        request.sent(wire.len());
        for piece in &body {
            let filled: Result<_, ()> = request.piece(kind::STDIN, |space| {
                space[..piece.len()].copy_from_slice(piece);
                Ok(piece.len())
            });
            prop_assert_eq!(filled, Ok(piece.len()));
            wire.extend_from_slice(request.unsent());
            request.sent(request.unsent().len());
        }
        request.end(kind::STDIN);
        wire.extend_from_slice(request.unsent());
        let seen = requests(limits, false, &wire, &cuts);
        prop_assert_eq!((seen.error, seen.ends), (None, 1));
        prop_assert_eq!(seen.requests.len(), 1);
        prop_assert_eq!(&seen.requests[0].1, &bytes);
        prop_assert_eq!(seen.body, body.concat());
    }
}
