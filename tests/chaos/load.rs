//! The clients: requests of all kinds at a steady rate, each of which is known by an id.
//!
//! A client sends its next request when its time has come, or when the last one has been answered, whichever is later.
//! What a request waits is how long it took, less what it is meant to take.

use crate::http::{Answer, Client, Request};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// So many clients; each sends a request every [`PERIOD`] if it is answered in time: 320 a second in all.
const CLIENTS: u64 = 32;
const PERIOD: Duration = Duration::from_millis(100);

/// How long a client waits for an answer: longer than the daemon takes to notice the worst.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long each request of a burst takes.
const BURST_SPAN: Duration = Duration::from_millis(300);

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Page,
    Slow,
    Upload,
    Stream,
}

/// A request that a client has sent.
#[derive(Debug)]
pub struct Sent {
    /// The words that the application writes it down with.
    pub id: String,
    /// When it was sent.
    pub at: Instant,
    /// How long it took beyond what it is meant to take.
    pub waited: Duration,
    /// What went wrong, if it was not answered as it should be.
    pub failure: Option<String>,
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Sent>>>,
    watch: JoinHandle<Duration>,
}

impl Load {
    /// Sets them to work on the web server at `port`. `name` is the beginning of the ids.
    pub fn start(port: u16, name: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS).map(|number| {
            let stop = Arc::clone(&stop);
            let name = format!("{name}-{number}");
            thread::spawn(move || work(port, &name, number, &stop))
        });
        let clients = clients.collect();
        let watch = thread::spawn({
            let stop = Arc::clone(&stop);
            move || longest_stall(&stop)
        });
        Self {
            stop,
            clients,
            watch,
        }
    }

    /// Lets each client have its answer. Returns what all have sent, and how long the machine itself, busy with others,
    /// made a process wait at most.
    pub fn stop(self) -> (Vec<Sent>, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let stall = self.watch.join().expect("the watch does not panic");
        let mut sent = Vec::new();
        for client in self.clients {
            sent.extend(client.join().expect("a client does not panic"));
        }
        (sent, stall)
    }
}

fn longest_stall(stop: &AtomicBool) -> Duration {
    let nap = Duration::from_millis(5);
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        thread::sleep(nap);
        longest = longest.max(begun.elapsed().saturating_sub(nap));
    }
    longest
}

/// `count` clients ask for a page at once that takes its time.
pub fn burst(port: u16, name: &str, count: u64) -> Vec<Sent> {
    let clients: Vec<_> = (0..count)
        .map(|number| {
            let id = format!("{name}-{number}");
            thread::spawn(move || {
                let mut client = Client::new(port, PATIENCE);
                send(&mut client, Kind::Slow, BURST_SPAN, "kept", id, None, false)
            })
        })
        .collect();
    let clients = clients.into_iter();
    clients
        .map(|client| client.join().expect("a client does not panic"))
        .collect()
}

fn work(port: u16, name: &str, number: u64, stop: &AtomicBool) -> Vec<Sent> {
    let mut client = Client::new(port, PATIENCE);
    let mut dice = Dice((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut sent = Vec::new();
    let mut next = Instant::now() + dice.below(PERIOD);
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let id = format!("{name}-{}", sent.len());
        // Every other client keeps its connection.
        sent.push(one(&mut client, &mut dice, id, number.is_multiple_of(2)));
        next = (next + PERIOD / 2 + dice.below(PERIOD)).max(Instant::now());
    }
    sent
}

/// Sends one request, of a kind that the dice say.
fn one(client: &mut Client, dice: &mut Dice, id: String, keep: bool) -> Sent {
    let (kind, spared) = match dice.roll(100) {
        0..5 => (Kind::Slow, Duration::from_millis(20 + dice.roll(250))),
        5..15 => (Kind::Upload, Duration::ZERO),
        15..20 => (Kind::Stream, Duration::from_millis(1 + dice.roll(4))),
        _ => (Kind::Page, Duration::ZERO),
    };
    // To the Python pool with connections that are kept, that are not, and bodies handed on as they come; to the program.
    let way = ["kept", "new", "direct", "program"][usize::try_from(dice.roll(4)).unwrap_or(0)];
    let body = (kind == Kind::Upload).then(|| dice.bytes());
    send(client, kind, spared, way, id, body, keep)
}

/// Sends a request of a kind that pauses for `spared`, once or after each piece.
fn send(
    client: &mut Client,
    kind: Kind,
    spared: Duration,
    way: &str,
    id: String,
    body: Option<Vec<u8>>,
    keep: bool,
) -> Sent {
    let millis = spared.as_millis();
    let pieces: u32 = 16;
    let (target, meant) = match kind {
        Kind::Page => (format!("/{way}/page?id={id}"), spared),
        Kind::Slow => (format!("/{way}/slow?id={id}&ms={millis}"), spared),
        Kind::Upload => (format!("/{way}/upload?id={id}"), spared),
        Kind::Stream => (
            format!("/{way}/stream?id={id}&pieces={pieces}&ms={millis}"),
            spared * pieces,
        ),
    };
    let expected = match (&body, kind) {
        (Some(body), _) => format!("{:08x}", crc32fast::hash(body)).into_bytes(),
        (None, Kind::Stream) => text(&id, pieces as usize * 4096),
        (None, Kind::Page | Kind::Slow | Kind::Upload) => text(&id, 1000),
    };
    let at = Instant::now();
    let answer = client.ask(Request {
        target: &target,
        body: body.as_deref(),
        keep,
    });
    let waited = at.elapsed().saturating_sub(meant);
    let failure = judge(answer, &expected).map(|what| format!("{target}: {what}"));
    Sent {
        id,
        at,
        waited,
        failure,
    }
}

fn judge(answer: io::Result<Answer>, expected: &[u8]) -> Option<String> {
    match answer {
        Err(error) => Some(error.to_string()),
        Ok(answer) if answer.status != 200 => Some(format!("status {}", answer.status)),
        Ok(answer) if answer.body != expected => Some(format!(
            "a wrong body, {} bytes instead of {}",
            answer.body.len(),
            expected.len()
        )),
        Ok(_) => None,
    }
}

/// What the application answers.
fn text(id: &str, length: usize) -> Vec<u8> {
    format!("{id}\n").bytes().cycle().take(length).collect()
}

/// Numbers that are the same in each run, so that only the daemon makes a difference (Marsaglia's xorshift64).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % sides
    }

    fn below(&mut self, span: Duration) -> Duration {
        let nanoseconds = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.roll(nanoseconds))
    }

    /// A body to upload, mostly small, up to 256 KB.
    fn bytes(&mut self) -> Vec<u8> {
        let length = if self.roll(4) == 0 { 256 * 1024 } else { 4096 };
        let length = 1 + self.roll(length);
        (0..length.div_ceil(8))
            .flat_map(|_| self.roll(u64::MAX).to_ne_bytes())
            .collect()
    }
}
