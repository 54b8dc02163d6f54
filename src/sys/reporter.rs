//! What a worker writes to its cell of the scoreboard.

use crate::board::{Cell, RequestEntry, State};
use crate::scoreboard::Scoreboard;
use nix::libc;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// The one writer of a cell: the worker in the slot.
#[derive(Debug)]
pub struct Reporter {
    board: Scoreboard,
    slot: u32,
}

impl Reporter {
    /// The writer of `slot`, which becomes [`State::Starting`] with this process in it.
    ///
    /// # Errors
    /// `InvalidInput` for a slot that the board does not have.
    pub fn new(board: Scoreboard, slot: u32, generation: u32) -> io::Result<Self> {
        let Some(cell) = board.cell(slot) else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        cell.pid.store(std::process::id(), Ordering::Relaxed);
        cell.generation.store(generation, Ordering::Relaxed);
        cell.connections.store(0, Ordering::Relaxed);
        cell.requests.store(0, Ordering::Relaxed);
        cell.slow.store(0, Ordering::Relaxed);
        cell.private.store(0, Ordering::Relaxed);
        cell.slowest.ended.store(0, Ordering::Relaxed);
        cell.sequence.store(0, Ordering::Relaxed);
        cell.started.store(crate::clock::now(), Ordering::Relaxed);
        cell.state.store(
            State::Starting.since(crate::clock::now()),
            Ordering::Release,
        );
        let reporter = Self { board, slot };
        // Whoever was here before may have been let go alive.
        reporter.clear_bits();
        Ok(reporter)
    }

    /// The board it writes to.
    #[must_use]
    pub fn board(&self) -> &Scoreboard {
        &self.board
    }

    /// Waits for a connection from `now` on.
    pub fn idle(&self, now: u64) {
        self.cell()
            .state
            .store(State::Idle.since(now), Ordering::Release);
        self.idle_word().fetch_or(self.idle_bit(), Ordering::SeqCst);
        let ready = &self.board.ready_words()[self.slot as usize / 64];
        if ready.load(Ordering::Relaxed) & self.idle_bit() == 0 {
            ready.fetch_or(self.idle_bit(), Ordering::SeqCst);
        }
        if self.board.idle_count() > self.board.header().high.load(Ordering::SeqCst) {
            self.board.notify();
        }
    }

    /// Holds a connection from `now` on.
    pub fn busy(&self, now: u64) {
        self.cell()
            .state
            .store(State::Busy.since(now), Ordering::Release);
        self.idle_word()
            .fetch_and(!self.idle_bit(), Ordering::SeqCst);
        self.board.header().tally.active(self.board.active_count());
        if self.board.idle_count() < self.board.header().low.load(Ordering::SeqCst) {
            self.board.notify();
        }
    }

    /// Holds a connection that nobody waits for any more: how long is nobody's concern. Until the next [`Self::busy`].
    pub fn untimed(&self) {
        let word = State::Busy.since(u64::MAX);
        self.cell().state.store(word, Ordering::Release);
    }

    /// Leaves, which may take a while: nobody is to count on this worker meanwhile, nor to take it for one that serves.
    pub fn leave(&self, now: u64) {
        self.cell()
            .state
            .store(State::Busy.since(now), Ordering::Release);
        self.clear_bits();
        if self.board.idle_count() < self.board.header().low.load(Ordering::SeqCst) {
            self.board.notify();
        }
    }

    fn clear_bits(&self) {
        // In this order, since who is ready and not idle counts as active.
        for words in [self.board.ready_words(), self.board.idle_words()] {
            words[self.slot as usize / 64].fetch_and(!self.idle_bit(), Ordering::SeqCst);
        }
    }

    /// Counts a connection.
    pub fn connection(&self) {
        count(&self.cell().connections);
    }

    /// Counts a request that begins `now`, since when this worker is busy from here on, however long its connection has
    /// been there. Keeps `text`, its parts one after another, cut to [`TEXT_BYTES`].
    pub fn request(&self, now: u64, text: &[&[u8]]) {
        let cell = self.cell();
        cell.state.store(State::Busy.since(now), Ordering::Release);
        count(&cell.requests);
        self.write(|| {
            cell.last.begun.store(now, Ordering::Relaxed);
            cell.last.ended.store(0, Ordering::Relaxed);
            cell.last.write_text(text);
        });
    }

    /// The current or last request; None when it is just being written, or there is none. For other threads of the worker.
    #[must_use]
    pub fn current_request(&self) -> Option<RequestEntry> {
        self.board.request(self.slot)
    }

    /// Says that the request ended `now`.
    pub fn ended(&self, now: u64) {
        let cell = self.cell();
        self.write(|| cell.last.ended.store(now, Ordering::Relaxed));
    }

    /// Says what the request took that is answered `now`: `cpu` nanoseconds of processor time, and `memory` bytes, the
    /// most that the process ever had. Remembers the request if none of those since `oldest` took longer.
    pub fn took(&self, cpu: u64, memory: u64, now: u64, oldest: u64) {
        let Cell { last, slowest, .. } = self.cell();
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let ended = load(&slowest.ended);
        let slowest_span = ended.saturating_sub(load(&slowest.begun));
        let is_slowest = ended <= oldest || now.saturating_sub(load(&last.begun)) > slowest_span;
        self.board.header().tally.memory(memory);
        self.write(|| {
            last.cpu.store(cpu, Ordering::Relaxed);
            last.memory.store(memory, Ordering::Relaxed);
            if is_slowest {
                slowest.copy(last);
                slowest.ended.store(now, Ordering::Relaxed);
            }
        });
    }

    /// Says how many bytes of memory this process shares with no other.
    pub fn private_memory(&self, bytes: u64) {
        self.cell().private.store(bytes, Ordering::Relaxed);
    }

    /// Counts a request that was noted in the slow log. May be called by any thread of the worker.
    pub fn slow_request(&self) {
        self.cell().slow.fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests this worker has begun.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.cell().requests.load(Ordering::Relaxed)
    }

    fn write(&self, fields: impl FnOnce()) {
        let sequence = &self.cell().sequence;
        let before = sequence.load(Ordering::Relaxed);
        sequence.store(before.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        fields();
        sequence.store(before.wrapping_add(2), Ordering::Release);
    }

    fn cell(&self) -> &Cell {
        self.board
            .cell(self.slot)
            .expect("the slot was checked when this reporter was made")
    }

    fn idle_word(&self) -> &AtomicU64 {
        &self.board.idle_words()[self.slot as usize / 64]
    }

    fn idle_bit(&self) -> u64 {
        1 << (self.slot % 64)
    }
}

/// One more, by the only writer: cheaper than an atomic addition.
fn count(counter: &AtomicU64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(1),
        Ordering::Relaxed,
    );
}
