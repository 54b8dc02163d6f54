//! Ends a request that takes too long (`request_terminate_timeout`).
//!
//! A thread of the worker's own, which needs no lock of the application's. It sleeps until the running request's
//! deadline; while requests are answered in time it wakes once per timeout, and not at all while the worker is idle.
//! When the deadline passes it answers `504` if nothing was sent yet, tells the master, and ends the process.
//!
//! The worker and the watchdog agree through one word: the request's number and its stage. Whoever moves it first wins,
//! so that never two answers are on the wire.

use preforkd_fastcgi::record::ProtocolStatus;
use preforkd_fastcgi::response::Response;
use preforkd_sys::{clock, signals};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, send};

const STAGE_BITS: u64 = 0b11;
const IDLE: u64 = 0;
const UNSENT: u64 = 1;
const SENDING: u64 = 2;
const EXPIRED: u64 = 3;
const ONE_REQUEST: u64 = 4;

/// Room for the stack of a thread that calls nothing deep.
const STACK: usize = 64 * 1024;

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
}

/// The worker's side of the watchdog.
#[derive(Debug)]
pub struct Watchdog {
    watch: Arc<Watch>,
    thread: Thread,
}

impl Watch {
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
    }
}

impl Watchdog {
    /// Starts a watchdog that gives each request `timeout`. `tell` is called before it ends the process.
    ///
    /// # Errors
    /// EAGAIN when there can be no further thread.
    pub fn start(
        timeout: Duration,
        watch: Arc<Watch>,
        tell: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let shared = Arc::clone(&watch);
        let handle = thread::Builder::new()
            .name("watchdog".into())
            .stack_size(STACK)
            .spawn(move || {
                signals::block_in_this_thread();
                keep_watch(&shared, timeout, &tell)
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
        let word = self.watch.word.load(Ordering::SeqCst);
        let ended = (word & !STAGE_BITS) | IDLE;
        if word & STAGE_BITS == EXPIRED
            || self
                .watch
                .word
                .compare_exchange(word, ended, Ordering::SeqCst, Ordering::SeqCst)
                .is_err()
        {
            await_the_end();
        }
    }
}

fn keep_watch(watch: &Watch, timeout: u64, tell: &impl Fn()) {
    loop {
        let word = watch.word.load(Ordering::SeqCst);
        if word & STAGE_BITS == IDLE {
            watch.parked.store(true, Ordering::SeqCst);
            if watch.word.load(Ordering::SeqCst) == word {
                thread::park();
            }
            continue;
        }
        let due = watch.since.load(Ordering::SeqCst).saturating_add(timeout);
        let now = clock::now();
        if now < due {
            thread::park_timeout(Duration::from_nanos(due - now));
            continue;
        }
        let expired = (word & !STAGE_BITS) | EXPIRED;
        if watch
            .word
            .compare_exchange(word, expired, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            if word & STAGE_BITS == UNSENT {
                watch.answer_504();
            }
            tell();
            signals::die_of(Signal::SIGTERM);
        }
    }
}

fn await_the_end() -> ! {
    loop {
        thread::park();
    }
}
