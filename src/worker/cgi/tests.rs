//! Scripts in sh, asked over a socket pair.

use super::*;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use preforkd_fastcgi::answer::{Answer, Event};
use preforkd_fastcgi::pairs::{Params, encode};
use preforkd_fastcgi::receiver::{Limits, Receiver};
use preforkd_fastcgi::record::{RESPONDER, kind};
use preforkd_fastcgi::request::Request;
use std::fs::File;
use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

const HEAD: &str = "printf 'Content-Type: text/plain\\n\\n'; ";

/// What came of a request: the output and the status, if the answer has an end.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    end: Option<u32>,
}

/// Asks a script with a body, all of which is sent before anything is read if `first`.
fn ask(script: &str, body: &[u8], first: bool) -> Got {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .unwrap();
    nix::fcntl::fcntl(&theirs, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let script = script.to_owned();
    let worker = thread::spawn(move || {
        let target = Target::Program {
            path: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
        };
        let path = ("PATH".into(), "/usr/bin:/bin".into());
        let (_, parking) = preforkd_sys::parking::pair().unwrap();
        let receiver = Receiver::new(Limits::default(), 1);
        let mut exchange = Box::new(Exchange::new(receiver, None, Arc::new(parking)));
        exchange.open(theirs);
        exchange.next_request().unwrap();
        let (control, _master) = preforkd_sys::channel::pair().unwrap();
        Cgi::new(target, vec![path], control)
            .serve(exchange)
            .finish();
    });

    let mut params = Vec::new();
    encode(
        &mut params,
        b"CONTENT_LENGTH",
        body.len().to_string().as_bytes(),
    );
    let mut request = Request::default();
    request.begin(RESPONDER, &Params::from_bytes(params));
    let mut bytes = request.unsent().to_vec();
    request.sent(bytes.len());
    for part in body.chunks(30_000) {
        let fill = |space: &mut [u8]| {
            space[..part.len()].copy_from_slice(part);
            Ok::<_, ()>(part.len())
        };
        request.piece(kind::STDIN, fill).unwrap();
        bytes.extend_from_slice(request.unsent());
        request.sent(request.unsent().len());
    }
    request.end(kind::STDIN);
    bytes.extend_from_slice(&request.unsent()[request.unsent().len() - 8..]);

    let mut client = File::from(ours);
    let mut writing = client.try_clone().unwrap();
    // A worker that needs no more of it closes.
    let mut send = move || drop(writing.write_all(&bytes));
    let sender = if first {
        send();
        None
    } else {
        Some(thread::spawn(send))
    };
    let mut got = Got {
        stdout: Vec::new(),
        stderr: Vec::new(),
        end: None,
    };
    let mut answer = Answer::default();
    answer.begin();
    while got.end.is_none() {
        // An answer that is broken off ends with bytes that are no FastCGI.
        match answer.next().unwrap_or(None) {
            Some(Event::Stdout(range)) => got.stdout.extend_from_slice(answer.bytes(range)),
            Some(Event::Stderr(range)) => got.stderr.extend_from_slice(answer.bytes(range)),
            Some(Event::End { application, .. }) => got.end = Some(application),
            None => match client.read(answer.space()) {
                Ok(count @ 1..) => answer.filled(count),
                Ok(0) | Err(_) => break,
            },
        }
    }
    drop(client);
    sender.into_iter().for_each(|sender| sender.join().unwrap());
    worker.join().unwrap();
    got
}

fn text(got: &Got) -> String {
    String::from_utf8_lossy(&got.stdout).into_owned()
}

#[test]
fn a_body_goes_through_in_any_order() {
    let body: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    for script in [
        "cat",
        "cat > $(mktemp) < /dev/null; cat",
        "head -c 1000000; cat",
    ] {
        for first in [false, true] {
            let got = ask(&format!("{HEAD}{script}"), &body, first);
            assert_eq!(got.end, Some(0), "{script}");
            let at = got.stdout.len() - body.len();
            assert!(
                got.stdout[at..] == body,
                "{script}: {} bytes",
                got.stdout.len()
            );
        }
    }
}

#[test]
fn a_body_that_is_not_read_is_no_trouble() {
    let body = vec![b'x'; 3_000_000];
    for script in [
        "echo done",
        "exec <&-; sleep 0.1; echo done",
        "head -c 10 >/dev/null; echo done",
    ] {
        for first in [false, true] {
            let got = ask(&format!("{HEAD}{script}"), &body, first);
            assert_eq!(
                (text(&got).as_str(), got.end),
                ("Content-Type: text/plain\n\ndone\n", Some(0)),
                "{script}"
            );
        }
    }
}

#[test]
fn what_fails_is_told_as_far_as_it_can_be() {
    for (script, status) in [
        ("exit 3", 502),
        ("echo hello; exit 3", 502),
        ("echo hello; exec sleep 600", 502),
        ("kill -9 $$", 502),
    ] {
        let got = ask(script, b"", false);
        assert!(
            text(&got).starts_with(&format!("Status: {status} ")),
            "{script}: {}",
            text(&got)
        );
    }
    for script in ["echo some; kill -9 $$", "kill -9 $$"] {
        let got = ask(&format!("{HEAD}{script}"), b"", false);
        assert_eq!(got.end, None, "{script}: {}", text(&got));
    }
    let cut = ask(
        "printf 'Status: 200 OK\\nContent-Length: 10\\n\\n12345'",
        b"",
        false,
    );
    assert_eq!(cut.end, None);
    // The length is that of the page that the client has.
    let unchanged = "printf 'Status: 304 Not Modified\\nContent-Length: 10\\n\\n'";
    assert_eq!(ask(unchanged, b"", false).end, Some(0));
    assert_eq!(ask(&format!("{HEAD}exit 3"), b"", false).end, Some(3));
}

#[test]
fn standard_error_is_passed_on() {
    let got = ask(&format!("{HEAD}echo careful >&2; echo done"), b"", false);
    assert_eq!(got.stderr, b"careful\n");
}

/// Neither a process that holds standard output nor one that has closed it holds the answer up.
#[test]
fn the_end_is_the_programs() {
    let begun = Instant::now();
    let got = ask(&format!("{HEAD}sleep 600 & echo $!"), b"", false);
    let pid: i32 = text(&got)
        .trim()
        .rsplit('\n')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(got.end, Some(0));
    let got = ask(&format!("{HEAD}echo done; exec >&-; sleep 2"), b"", false);
    assert_eq!(got.end, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(20));
}
