//! What a web server sends on its connections to a pool, byte for byte.
//!
//! The streams of a few requests are the seeds of the fuzzer of `src/fastcgi`. They differ from run to run in ports and
//! times, so they are not compared; they are written anew with
//!
//! ```text
//! PREFORKD_WRITE_DOCS=1 cargo test --test daemon servers::tap
//! ```

use std::env;
use std::error::Error;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use preforkd_fastcgi::receiver::{Event, Limits, Receiver};

use super::cases::{is, pattern};
use super::client::Client;
use super::front::{Front, Pools};
use super::{SERVERS, pools};

/// Starts the web server of `front` anew, before a tap on the pool at the root, has `ask` ask it, and returns what it
/// sent on each connection.
pub fn listen(
    front: &Front,
    ask: impl FnOnce(&mut Client) -> Result<(), Box<dyn Error>>,
) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let path = front.daemon.folder.path("tap.sock");
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o777))?;
    let is_over = AtomicBool::new(false);
    let pools = Pools {
        site: path.display().to_string(),
        ..front.pools.clone()
    };
    let streams = thread::scope(|scope| {
        let accepting = scope.spawn(|| {
            let mut streams = Vec::new();
            for stream in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                let stream = stream.expect("a connection can be accepted");
                let pool = UnixStream::connect(&front.pools.site).expect("the pool listens");
                streams.push(scope.spawn(move || hand_on(stream, pool)));
            }
            streams
        });
        let through = Front::start(front.server, front.daemon, pools);
        let asked = through
            .connect()
            .map_err(Into::into)
            .and_then(|mut client| ask(&mut client));
        drop(through);
        is_over.store(true, Ordering::SeqCst);
        UnixStream::connect(&path).expect("the tap listens");
        let streams = accepting.join().expect("it does not panic");
        let streams = streams
            .into_iter()
            .map(|stream| stream.join().expect("it does not panic"));
        asked.map(|()| streams.collect::<Vec<_>>())
    });
    fs::remove_file(&path)?;
    streams
}

/// Hands on what comes from the web server to the pool, and back, until the web server leaves.
fn hand_on(server: UnixStream, pool: UnixStream) -> Vec<u8> {
    let mut stream = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut from, mut to) = (&pool, &server);
            // Whichever side leaves first ends the other one's connection.
            let _ = io::copy(&mut from, &mut to);
            let _ = server.shutdown(Shutdown::Both);
        });
        let mut buffer = [0; 4096];
        while let Ok(length) = (&server).read(&mut buffer)
            && length > 0
            && (&pool).write_all(&buffer[..length]).is_ok()
        {
            stream.extend_from_slice(&buffer[..length]);
        }
        let _ = pool.shutdown(Shutdown::Both);
    });
    stream
}

/// How many whole requests a stream has.
fn requests(mut stream: &[u8]) -> usize {
    let mut receiver = Receiver::new(Limits::default(), 1);
    let mut whole = 0;
    loop {
        match receiver.next().expect("web servers keep to the protocol") {
            Some(Event::BodyEnd) => {
                whole += 1;
                receiver.finish();
            }
            Some(_) => {}
            None if stream.is_empty() => return whole,
            None => {
                let space = receiver.space();
                let count = space.len().min(stream.len());
                space[..count].copy_from_slice(&stream[..count]);
                receiver.filled(count);
                stream = &stream[count..];
            }
        }
    }
}

/// Every web server's stream of a plain request, of one with a body, of one with many headers, and of several requests
/// on a kept connection.
#[test]
fn every_server_has_seeds_for_the_fuzzer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/receiver");
    let (daemon, unix, _) = pools();
    let large: String = (0..20)
        .map(|number| format!("X-Large-{number}: {}\r\n", "value,".repeat(100)))
        .collect();
    let post = "POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3000\r\n\r\n";
    type Asks<'a> = &'a dyn Fn(&mut Client) -> Result<(), Box<dyn Error>>;
    let get: Asks = &|client| {
        is(
            &client.ask("GET", "/a/b?c=d%20e", "Cookie: one=1\r\n")?,
            200,
        )
    };
    let cases: [(&str, Asks); 4] = [
        ("get", get),
        ("post", &|client| {
            client.send(post.as_bytes())?;
            client.send(&pattern(3000))?;
            is(&client.answer("POST")?, 200)
        }),
        ("headers", &|client| {
            is(&client.ask("GET", "/", &large)?, 200)
        }),
        ("kept", &|client| (0..3).try_for_each(|_| get(client))),
    ];
    for server in SERVERS {
        let front = Front::start(server, &daemon, unix.clone());
        for (name, asks) in cases {
            let streams = listen(&front, asks).expect("the server answers");
            // Without kept connections there is nothing new in several requests.
            if name == "kept" && streams.len() > 1 {
                continue;
            }
            let file: String = server
                .name
                .to_lowercase()
                .chars()
                .filter(|letter| letter.is_ascii_alphanumeric())
                .collect();
            let asked = if name == "kept" { 3 } else { 1 };
            assert_eq!(requests(&streams[0]), asked, "{} {name}", server.name);
            let seed = folder.join(format!("{file}-{name}"));
            if env::var_os("PREFORKD_WRITE_DOCS").is_some() {
                fs::write(&seed, &streams[0]).expect("the seed can be written");
            }
            let kept = fs::read(&seed).expect("the seed is in the tree");
            assert_eq!(requests(&kept), asked, "{}", seed.display());
        }
    }
}
