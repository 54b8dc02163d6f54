//! Looks after requests that take long: one that is slow is told of (`request_slowlog_timeout`), one that takes too long
//! is ended (`request_terminate_timeout`).
//!
//! A thread of the worker's own, which needs no lock of the application's. It sleeps until the running request's next
//! deadline; while requests are answered in time it wakes once per timeout, and not at all while the worker is idle.
//! When the last deadline passes it answers `504` if nothing was sent yet, has the master and the slow log told, and
//! ends the process.
//!
//! The worker and the watchdog agree through one word: the request's number and its stage. Whoever moves it first wins,
//! so that never two answers are on the wire.

use crate::overdue::Witness;
use preforkd_fastcgi::record::ProtocolStatus;
use preforkd_fastcgi::response::Response;
use preforkd_sys::scoreboard::Reporter;
use preforkd_sys::{clock, signals};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};

const STAGE_BITS: u64 = 0b11;
const IDLE: u64 = 0;
const UNSENT: u64 = 1;
const SENDING: u64 = 2;
const EXPIRED: u64 = 3;
const ONE_REQUEST: u64 = 4;

/// Room for the stack of a thread that calls nothing deep; what is not used of it takes no memory.
const STACK: usize = 256 * 1024;

/// What the worker and its watchdog share.
#[derive(Debug, Default)]
pub struct Watch {
    /// The number of the request above, its stage in the two low bits.
    word: AtomicU64,
    since: AtomicU64,
    connection: AtomicI32,
    id: AtomicU32,
    /// The watchdog sleeps without a deadline and wants to be woken.
    parked: AtomicBool,
    /// For whom a request is over as soon as its answer is complete; None when it is not until the application returns.
    reporter: Option<Arc<Reporter>>,
}

/// How long a request may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until it is told of; None is never.
    pub slow: Option<Duration>,
    /// Until it is ended; None is never.
    pub terminate: Option<Duration>,
}

/// The worker's side of the watchdog.
#[derive(Debug)]
pub struct Watchdog {
    watch: Arc<Watch>,
    thread: Thread,
}

impl Watch {
    /// Requests are watched until the application returns; or, with a reporter, until their answers are complete, and
    /// what the application does then takes as long as it takes (`request_terminate_timeout_track_finished`).
    #[must_use]
    pub fn new(reporter: Option<Arc<Reporter>>) -> Self {
        Self {
            reporter,
            ..Self::default()
        }
    }

    /// The answer has been sent. Does not return when the watchdog was first.
    pub(crate) fn answered(&self) {
        if let Some(reporter) = &self.reporter {
            self.rest();
            reporter.untimed();
        }
    }

    fn rest(&self) {
        let word = self.word.load(Ordering::SeqCst);
        let ended = (word & !STAGE_BITS) | IDLE;
        if word & STAGE_BITS == EXPIRED
            || self
                .word
                .compare_exchange(word, ended, Ordering::SeqCst, Ordering::SeqCst)
                .is_err()
        {
            await_the_end();
        }
    }

    /// The worker is about to send. Does not return when the watchdog was first.
    pub(crate) fn claim(&self) {
        let word = self.word.load(Ordering::SeqCst);
        if word & STAGE_BITS == UNSENT
            && self
                .word
                .compare_exchange(
                    word,
                    (word & !STAGE_BITS) | SENDING,
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                )
                .is_ok()
        {
            return;
        }
        if self.word.load(Ordering::SeqCst) & STAGE_BITS == EXPIRED {
            await_the_end();
        }
    }

    fn answer_504(&self) {
        let connection: RawFd = self.connection.load(Ordering::SeqCst);
        let mut response = Response::default();
        response.begin(u16::try_from(self.id.load(Ordering::SeqCst)).unwrap_or(1));
        let text = b"Status: 504 Gateway Timeout\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nThe application did not answer in time.\n";
        response.stdout(text, text.len());
        response.end(1, ProtocolStatus::Complete);
        // A few hundred bytes into a buffer that nothing was written to.
        let _ = send(
            connection,
            response.take(),
            MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
        );
        // Telling of it takes a while: the web server must not send its next request to a worker that ends.
        let _ = shutdown(connection, Shutdown::Write);
    }
}

impl Watchdog {
    /// Starts a watchdog with these timeouts, of which there is at least one. `witness` tells of what it finds.
    ///
    /// # Errors
    /// EAGAIN when there can be no further thread.
    pub fn start(timeouts: Timeouts, watch: Arc<Watch>, witness: Witness) -> std::io::Result<Self> {
        let shared = Arc::clone(&watch);
        let handle = thread::Builder::new()
            .name("watchdog".into())
            .stack_size(STACK)
            .spawn(move || {
                signals::block_in_this_thread();
                keep_watch(&shared, timeouts, witness)
            })?;
        Ok(Self {
            watch,
            thread: handle.thread().clone(),
        })
    }

    /// A request begins: its answer goes to `connection` under request id `id`.
    pub fn begin(&self, now: u64, connection: BorrowedFd<'_>, id: u16) {
        self.watch.since.store(now, Ordering::SeqCst);
        self.watch
            .connection
            .store(connection.as_raw_fd(), Ordering::SeqCst);
        self.watch.id.store(u32::from(id), Ordering::SeqCst);
        let number =
            (self.watch.word.load(Ordering::SeqCst) & !STAGE_BITS).wrapping_add(ONE_REQUEST);
        self.watch.word.store(number | UNSENT, Ordering::SeqCst);
        if self.watch.parked.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
    }

    /// The request has ended. Does not return when the watchdog was first.
    pub fn end(&self) {
        self.watch.rest();
    }
}

fn keep_watch(watch: &Watch, timeouts: Timeouts, mut witness: Witness) {
    let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let (slow, terminate) = (timeouts.slow.map(nanos), timeouts.terminate.map(nanos));
    // The number of the request that has been told of.
    let mut told = None;
    loop {
        let word = watch.word.load(Ordering::SeqCst);
        let number = word & !STAGE_BITS;
        let since = watch.since.load(Ordering::SeqCst);
        let slow = slow
            .filter(|_| told != Some(number))
            .map(|span| since.saturating_add(span));
        let over = terminate.map(|span| since.saturating_add(span));
        let due = [slow, over].into_iter().flatten().min();
        let Some(due) = due.filter(|_| word & STAGE_BITS != IDLE) else {
            watch.parked.store(true, Ordering::SeqCst);
            if watch.word.load(Ordering::SeqCst) == word {
                thread::park();
            }
            continue;
        };
        let now = clock::now();
        if now < due {
            thread::park_timeout(Duration::from_nanos(due - now));
            continue;
        }
        let elapsed = Duration::from_nanos(now.saturating_sub(since));
        if over.is_none_or(|over| now < over) {
            told = Some(number);
            let goes_on = || {
                let word = watch.word.load(Ordering::SeqCst);
                word & !STAGE_BITS == number && word & STAGE_BITS != IDLE
            };
            witness.slow(elapsed, goes_on);
            continue;
        }
        let expired = number | EXPIRED;
        if watch
            .word
            .compare_exchange(word, expired, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            if word & STAGE_BITS == UNSENT {
                watch.answer_504();
            }
            witness.timed_out(elapsed);
            signals::die_of(Signal::SIGTERM);
        }
    }
}

fn await_the_end() -> ! {
    loop {
        thread::park();
    }
}
