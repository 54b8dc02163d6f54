//! What is tried with every web server.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::WORKERS;
use super::client::{Answer, Client, Head};
use super::front::Front;
use super::tap;

/// Nothing to say, or what was seen instead.
pub type Seen = Result<(), Box<dyn Error>>;

/// One case.
pub struct Case {
    pub name: &'static str,
    /// One transport is enough for it.
    pub once: bool,
    pub run: fn(&Front) -> Seen,
}

const fn case(name: &'static str, run: fn(&Front) -> Seen) -> Case {
    Case {
        name,
        once: false,
        run,
    }
}

const fn once(name: &'static str, run: fn(&Front) -> Seen) -> Case {
    Case {
        name,
        once: true,
        run,
    }
}

/// In the order of the document.
pub const CASES: &[Case] = &[
    case("GET", get),
    case("HEAD", head),
    case("POST, small", post),
    case("100 MB up", large_up),
    case("100 MB down", large_down),
    case("chunked body", chunked),
    case("`Expect: 100-continue`", expect),
    case("streamed answer", streamed),
    case("file (`wsgi.file_wrapper`)", file),
    once("file that becomes shorter", cut_file),
    once("connections are kept", kept),
    case("more connections than workers", crowd),
    case("client gone while it is answered", gone_reading),
    case("client gone while it sends", gone_sending),
    case("error before the headers", early_error),
    case("error after the headers", late_error),
    case("redirect to a path", redirect),
    case("204", no_content),
    case("304", not_modified),
    case("60 kB of headers", headers),
    case("encoded path", encoded),
    case("path that is no UTF-8", not_utf8),
    case("below a prefix", prefix),
    case("HTTPS told", https),
    case("password passed on", password),
];

/// A bound for what happens at once on an idle machine.
const SOON: Duration = Duration::from_secs(4);

const LARGE: usize = 100_000_000;

/// A worker may grow by so much, in bytes, whatever goes through it: a quarter of the large bodies.
const GROWTH: u64 = 25_000_000;

fn unless(wrong: bool, seen: impl Into<String>) -> Seen {
    if wrong {
        Err(seen.into().into())
    } else {
        Ok(())
    }
}

pub fn is(seen: &Answer, status: u16) -> Seen {
    unless(
        seen.status() != status,
        format!("status {}: {}", seen.status(), seen.text()),
    )
}

fn says(seen: &Answer, text: &str) -> Seen {
    is(seen, 200)?;
    unless(
        seen.text() != text,
        format!("not {text:?} but {:?}", seen.text()),
    )
}

/// What the application was told: its page names every string of the request.
fn told(answer: &Answer) -> Result<HashMap<String, String>, Box<dyn Error>> {
    is(answer, 200)?;
    Ok(answer
        .text()
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect())
}

fn tells(answer: &Answer, name: &str, value: &str) -> Seen {
    let told = told(answer)?;
    let seen = told.get(name).map(String::as_str);
    unless(seen != Some(value), format!("{name} is {seen:?}"))
}

fn get(front: &Front) -> Seen {
    let mut client = front.connect()?;
    let answer = client.ask("GET", "/a/b?c=d%20e", "Cookie: one=1; two=2\r\n")?;
    for (name, value) in [
        ("REQUEST_METHOD", "GET"),
        ("SCRIPT_NAME", ""),
        ("PATH_INFO", "/a/b"),
        ("QUERY_STRING", "c=d%20e"),
        ("HTTP_COOKIE", "one=1; two=2"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("wsgi.url_scheme", "http"),
    ] {
        tells(&answer, name, value)?;
    }
    let root = client.ask("GET", "/", "")?;
    tells(&root, "SCRIPT_NAME", "")?;
    tells(&root, "PATH_INFO", "/")
}

fn head(front: &Front) -> Seen {
    let mut client = front.connect()?;
    let answer = client.ask("HEAD", "/pattern?bytes=3000", "")?;
    is(&answer, 200)?;
    let length = answer.head.header("Content-Length");
    unless(
        length != Some("3000"),
        format!("Content-Length is {length:?}"),
    )?;
    in_step(front, client, &answer)
}

/// What comes next on the connection is the next answer, if the web server keeps it.
fn in_step(front: &Front, mut client: Client, answer: &Answer) -> Seen {
    if answer.head.header("Connection") == Some("close") {
        client = front.connect()?;
    }
    is(&client.ask("GET", "/", "")?, 200)
}

pub fn pattern(length: usize) -> Vec<u8> {
    (0u8..251).cycle().take(length).collect()
}

fn post(front: &Front) -> Seen {
    let mut client = front.connect()?;
    for length in [0, 1, 3000] {
        let head =
            format!("POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n");
        client.send(head.as_bytes())?;
        client.send(&pattern(length))?;
        says(&client.answer("POST")?, &format!("{length} same"))?;
    }
    Ok(())
}

/// The most memory that a worker of the pool has had.
fn peak(front: &Front) -> u64 {
    let peaks = front
        .daemon
        .workers(front.pools.name)
        .into_iter()
        .map(|worker| {
            let status =
                fs::read_to_string(format!("/proc/{}/status", worker.pid)).expect("it runs");
            let line = status
                .lines()
                .find(|line| line.starts_with("VmHWM:"))
                .expect("it has memory");
            let kib: u64 = line
                .split_whitespace()
                .nth(1)
                .and_then(|word| word.parse().ok())
                .expect("a number");
            kib * 1024
        });
    peaks.max().expect("there are workers")
}

fn bounded(front: &Front, before: u64) -> Seen {
    let growth = peak(front) - before;
    unless(
        growth > GROWTH,
        format!("a worker has grown by {growth} bytes"),
    )
}

fn large_up(front: &Front) -> Seen {
    let before = peak(front);
    let mut client = front.connect()?;
    let head = format!("POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {LARGE}\r\n\r\n");
    client.send(head.as_bytes())?;
    let block = pattern(251 * 4096);
    let mut left = LARGE;
    while left > 0 {
        let step = left.min(block.len());
        client.send(&block[..step])?;
        left -= step;
    }
    says(&client.answer("POST")?, &format!("{LARGE} same"))?;
    bounded(front, before)
}

fn large_down(front: &Front) -> Seen {
    let before = peak(front);
    let mut client = front.connect()?;
    client.request("GET", &format!("/pattern?bytes={LARGE}"), "")?;
    let mut head = client.head("GET")?;
    unless(head.status != 200, format!("status {}", head.status))?;
    let block = pattern(251 * 512);
    let mut length = 0;
    loop {
        let part = client.part(&mut head)?;
        if part.is_empty() {
            break;
        }
        let at = length % 251;
        unless(block[at..at + part.len()] != part, "the answer is garbled")?;
        length += part.len();
    }
    unless(length != LARGE, format!("{length} bytes"))?;
    bounded(front, before)
}

fn chunked(front: &Front) -> Seen {
    let mut client = front.connect()?;
    for chunk in [&pattern(2000)[..], &pattern(70_000)] {
        let begin = b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let size = format!("{:x}\r\n", chunk.len());
        // In one piece, so that a server that refuses it has read it.
        client.send(&[begin, size.as_bytes(), chunk, b"\r\n0\r\n\r\n"].concat())?;
        says(&client.answer("POST")?, &format!("{} same", chunk.len()))?;
    }
    Ok(())
}

fn expect(front: &Front) -> Seen {
    let mut client = front.connect()?;
    client.send(
        b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n",
    )?;
    let interim = client.head("POST")?;
    unless(
        interim.status != 100,
        format!("status {} at once", interim.status),
    )?;
    client.send(&pattern(5000))?;
    says(&client.answer("POST")?, "5000 same")
}

/// Asks for an answer whose second part waits until the first one has arrived.
fn first_part(front: &Front, path: &str) -> Result<(Client, Head), Box<dyn Error>> {
    let mut client = front.connect()?;
    let name = format!("{}-{}", front.port, path.len());
    client.request("GET", &format!("{path}?until={name}"), "")?;
    let mut head = client.head("GET")?;
    let first = client.part(&mut head)?;
    fs::write(front.daemon.folder.path("state").join(name), "").expect("a file can be written");
    let first = String::from_utf8_lossy(&first);
    unless(
        first != "first\n",
        format!("the first part came as {first:?}"),
    )?;
    Ok((client, head))
}

fn streamed(front: &Front) -> Seen {
    let (mut client, mut head) = first_part(front, "/stream")?;
    let second = client.part(&mut head)?;
    unless(
        second != b"second\n",
        format!("then {:?}", String::from_utf8_lossy(&second)),
    )
}

/// Makes a file for `/file`, and returns its path and what to ask for.
fn make_file(front: &Front, length: usize) -> (PathBuf, String) {
    let name = format!("file-{}", front.port);
    let path = front.daemon.folder.path("state").join(&name);
    fs::write(&path, pattern(length)).expect("a file can be written");
    (path, format!("/file?name={name}"))
}

fn file(front: &Front) -> Seen {
    const LENGTH: usize = 3_000_000;
    let (_, target) = make_file(front, LENGTH);
    let mut client = front.connect()?;
    let answer = client.ask("GET", &target, "")?;
    is(&answer, 200)?;
    unless(
        answer.body != pattern(LENGTH),
        format!("{} bytes, or others", answer.body.len()),
    )?;
    let length = answer.head.header("Content-Length");
    unless(
        length.is_some_and(|length| length != LENGTH.to_string()),
        format!("Content-Length is {length:?}"),
    )?;
    in_step(front, client, &answer)
}

/// Who has not got all of it yet sees that it is not the whole. A server may have had all of it in time.
fn cut_file(front: &Front) -> Seen {
    const LENGTH: usize = 40_000_000;
    let (path, target) = make_file(front, LENGTH);
    let mut client = front.connect()?;
    client.request("GET", &target, "")?;
    let mut head = client.head("GET")?;
    let mut got = client.part(&mut head)?;
    let file = File::options().write(true).open(path).expect("it is there");
    file.set_len(1_000_000).expect("it can be cut");
    let end = loop {
        match client.part(&mut head) {
            Ok(part) if part.is_empty() => break Ok(()),
            Ok(part) => got.extend(part),
            Err(error) => break Err(error),
        }
    };
    let right = pattern(LENGTH);
    if let Some(at) = got.iter().zip(&right).position(|(got, right)| got != right) {
        let other = String::from_utf8_lossy(&got[at..]).into_owned();
        return Err(format!("behind {at} bytes of the file comes {other:?}").into());
    }
    unless(
        end.is_ok() && got.len() < LENGTH,
        format!("{} bytes seem to be the whole file", got.len()),
    )?;
    all_free(front)
}

fn redirect(front: &Front) -> Seen {
    let mut client = front.connect()?;
    let answer = client.ask("GET", "/redirect", "")?;
    is(&answer, 302)?;
    let place = answer.head.header("Location");
    unless(
        !place.is_some_and(|place| place.ends_with("/elsewhere?a=b")),
        format!("Location is {place:?}"),
    )?;
    in_step(front, client, &answer)
}

fn kept(front: &Front) -> Seen {
    let streams = tap::listen(front, |client| {
        for _ in 0..5 {
            is(&client.ask("GET", "/", "")?, 200)?;
        }
        Ok(())
    })?;
    let count = streams.len();
    unless(count != 1, format!("{count} connections for 5 requests"))
}

/// More clients than workers, all with connections that stay open: everybody gets every page, and so does whoever comes
/// then.
fn crowd(front: &Front) -> Seen {
    let begun = Instant::now();
    let ask = |client: &mut Client| -> Result<(), String> {
        for round in 0..10 {
            // No web server repeats a POST that met a closed connection.
            let (method, headers) = [("GET", ""), ("POST", "Content-Length: 0\r\n")][round % 2];
            let answer = client
                .ask(method, "/crowd", headers)
                .map_err(|error| error.to_string())?;
            is(&answer, 200).map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    let mut clients = (0..6 * WORKERS)
        .map(|_| front.connect())
        .collect::<Result<Vec<_>, _>>()?;
    thread::scope(|scope| {
        let askers: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(|| ask(client)))
            .collect();
        askers
            .into_iter()
            .try_for_each(|asker| asker.join().expect("a client does not panic"))
    })?;
    ask(&mut front.connect()?)?;
    let took = begun.elapsed();
    unless(took > 2 * SOON, format!("only after {took:?}"))
}

/// The pool has its workers back: as many pages as there are workers at once, through the web server.
fn all_free(front: &Front) -> Seen {
    let begun = Instant::now();
    for _ in 0..WORKERS {
        is(&front.connect()?.ask("GET", "/free", "")?, 200)?;
    }
    let took = begun.elapsed();
    unless(
        took > SOON,
        format!("the workers are free only after {took:?}"),
    )
}

fn gone_reading(front: &Front) -> Seen {
    let ended = || {
        front
            .daemon
            .lines_like(&format!("[pool {}] *closed", front.pools.name))
            .len()
    };
    let before = ended();
    for _ in 0..WORKERS {
        let mut client = front.connect()?;
        client.request("GET", "/endless", "")?;
        let mut head = client.head("GET")?;
        client.part(&mut head)?;
    }
    all_free(front)?;
    let deadline = Instant::now() + SOON;
    while ended() < before + WORKERS {
        unless(Instant::now() > deadline, "the application goes on")?;
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn gone_sending(front: &Front) -> Seen {
    for _ in 0..2 * WORKERS {
        let mut client = front.connect()?;
        client
            .send(b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000000\r\n\r\n")?;
        client.send(&pattern(200_000))?;
    }
    all_free(front)
}

fn early_error(front: &Front) -> Seen {
    let mut client = front.connect()?;
    let answer = client.ask("GET", "/raise", "")?;
    is(&answer, 500)?;
    in_step(front, client, &answer)
}

fn late_error(front: &Front) -> Seen {
    let (mut client, mut head) = first_part(front, "/raise-late")?;
    unless(!head.tells_its_end(), "the end is not told from a break")?;
    while let Ok(part) = client.part(&mut head) {
        unless(part.is_empty(), "the answer seems whole")?;
    }
    Ok(())
}

fn no_content(front: &Front) -> Seen {
    let mut client = front.connect()?;
    let answer = client.ask("GET", "/status?is=204", "")?;
    is(&answer, 204)?;
    in_step(front, client, &answer)
}

fn not_modified(front: &Front) -> Seen {
    let mut client = front.connect()?;
    let answer = client.ask("GET", "/status?is=304", "")?;
    is(&answer, 304)?;
    let tag = answer.head.header("ETag");
    unless(tag != Some("\"as asked\""), format!("ETag is {tag:?}"))?;
    in_step(front, client, &answer)
}

fn headers(front: &Front) -> Seen {
    let value = |number: usize| format!("{number:02},").repeat(2000 / 3);
    let lines: String = (0..30)
        .map(|number| format!("X-Large-{number}: {}\r\n", value(number)))
        .collect();
    let answer = front.connect()?.ask("GET", "/", &lines)?;
    (0..30).try_for_each(|number| tells(&answer, &format!("HTTP_X_LARGE_{number}"), &value(number)))
}

/// UTF-8, a blank, a percent sign and a question mark. The application is told in Latin-1.
fn encoded(front: &Front) -> Seen {
    let answer = front
        .connect()?
        .ask("GET", "/caf%C3%A9/a%20b/100%25%3F+", "")?;
    tells(&answer, "PATH_INFO", "/cafÃ©/a b/100%?+")
}

fn not_utf8(front: &Front) -> Seen {
    let answer = front.connect()?.ask("GET", "/caf%E9", "")?;
    tells(&answer, "PATH_INFO", "/café")
}

fn prefix(front: &Front) -> Seen {
    let mut client = front.connect()?;
    for (target, path) in [("/shop/a/b", "/a/b"), ("/shop/", "/"), ("/shop", "")] {
        let answer = client.ask("GET", target, "")?;
        tells(&answer, "SCRIPT_NAME", "/shop")?;
        tells(&answer, "PATH_INFO", path)?;
    }
    let beside = client.ask("GET", "/shopping", "")?;
    tells(&beside, "SCRIPT_NAME", "")?;
    tells(&beside, "PATH_INFO", "/shopping")
}

fn https(front: &Front) -> Seen {
    let curl = Command::new("curl")
        .args(["-s", "-S", "-k", "--max-time", "20"])
        .arg(format!("https://127.0.0.1:{}/", front.tls_port))
        .output()
        .expect("curl is installed; tests/run.sh does it");
    let page = String::from_utf8_lossy(&curl.stdout);
    unless(
        !page.contains("wsgi.url_scheme='https'\n"),
        format!("{page}{}", String::from_utf8_lossy(&curl.stderr)),
    )
}

fn password(front: &Front) -> Seen {
    let answer = front
        .connect()?
        .ask("GET", "/", "Authorization: Basic QWRhOnNlY3JldA==\r\n")?;
    tells(&answer, "HTTP_AUTHORIZATION", "Basic QWRhOnNlY3JldA==")
}
