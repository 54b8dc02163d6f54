//! What a pool's board counts of the pool as a whole.
//!
//! Each worker counts in its own cell, which no other process writes. When it is gone the master adds its counts to
//! those of all that went before it, here, and clears the cell, so that a total never goes back. A reader that meets the
//! master at it looks again (`folds` is odd meanwhile).
//!
//! What is the largest ever seen may be raised by anybody: an atomic maximum needs no single writer.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// How often a reader looks again before it takes what it sees: the master is done within nanoseconds unless it has to
/// wait for a processor, but the memory may be scribbled over.
const TRIES: u32 = 1000;

/// The pool's part of a board.
#[repr(C, align(64))]
pub(crate) struct Tally {
    started: AtomicU64,
    started_at: AtomicU64,
    max_active: AtomicU32,
    max_queue: AtomicU32,
    max_memory: AtomicU64,
    generation: AtomicU32,
    max_children_reached: AtomicU32,
    saturated_since: AtomicU64,
    saturated: AtomicU64,
    folds: AtomicU64,
    connections: AtomicU64,
    requests: AtomicU64,
    slow: AtomicU64,
    rejected: AtomicU64,
    /// Nanoseconds since 1970, the lowest bit being whether it was a success; 0 if there was none.
    reloaded: AtomicU64,
}

/// How a reload of a pool has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// When, in nanoseconds since 1970.
    pub at: u64,
    /// Whether the new generation has taken over.
    pub succeeded: bool,
}

/// Counts of one worker, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted.
    pub connections: u64,
    /// Requests begun.
    pub requests: u64,
    /// Requests that were noted in the slow log.
    pub slow: u64,
}

/// What is known of a pool besides its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// When the board was made, nanoseconds on the monotonic clock.
    pub started: u64,
    /// The same instant, nanoseconds since 1970.
    pub started_at: u64,
    /// The generation that new workers belong to.
    pub generation: u32,
    /// Of all workers there are and have been.
    pub counts: Counts,
    /// Most workers that were busy at once.
    pub max_active: u32,
    /// Most connections that were seen waiting.
    pub max_queue: u32,
    /// Most memory that a worker was seen to have after a request, in bytes.
    pub max_memory: u64,
    /// How often all workers that the pool may have turned out to be busy.
    pub max_children_reached: u32,
    /// Whether they are now.
    pub is_saturated: bool,
    /// How long they have been, in all, in nanoseconds.
    pub saturated: u64,
    /// Connections that were turned away then.
    pub rejected: u64,
    /// How the last reload has ended, if there was one.
    pub reloaded: Option<Reloaded>,
}

impl Counts {
    /// Both together. Counts that come from a scribbled board do not overflow.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            connections: self.connections.saturating_add(other.connections),
            requests: self.requests.saturating_add(other.requests),
            slow: self.slow.saturating_add(other.slow),
        }
    }
}

impl Tally {
    pub(crate) fn begin(&self, started: u64, started_at: u64) {
        self.started.store(started, Ordering::Relaxed);
        self.started_at.store(started_at, Ordering::Relaxed);
    }

    pub(crate) fn set_generation(&self, generation: u32) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    pub(crate) fn set_reloaded(&self, succeeded: bool, at: u64) {
        self.reloaded
            .store(at & !1 | u64::from(succeeded), Ordering::Relaxed);
    }

    fn reloaded(&self) -> Option<Reloaded> {
        let word = self.reloaded.load(Ordering::Relaxed);
        (word != 0).then_some(Reloaded {
            at: word,
            succeeded: word & 1 == 1,
        })
    }

    /// `active` workers are busy now.
    pub(crate) fn active(&self, active: u32) {
        if active > self.max_active.load(Ordering::Relaxed) {
            self.max_active.fetch_max(active, Ordering::Relaxed);
        }
    }

    pub(crate) fn queue(&self, length: u32) {
        self.max_queue.fetch_max(length, Ordering::Relaxed);
    }

    pub(crate) fn memory(&self, bytes: u64) {
        if bytes > self.max_memory.load(Ordering::Relaxed) {
            self.max_memory.fetch_max(bytes, Ordering::Relaxed);
        }
    }

    /// By the master alone: whether all workers that the pool may have are busy.
    pub(crate) fn saturation(&self, saturated: bool, now: u64) {
        let since = self.saturated_since.load(Ordering::Relaxed);
        if saturated && since == 0 {
            self.max_children_reached.fetch_add(1, Ordering::Relaxed);
            self.saturated_since.store(now.max(1), Ordering::Relaxed);
        } else if !saturated && since != 0 {
            let span = now.saturating_sub(since);
            self.saturated.fetch_add(span, Ordering::Relaxed);
            self.saturated_since.store(0, Ordering::Relaxed);
        }
    }

    /// By the master alone: so many connections have been turned away.
    pub(crate) fn reject(&self, count: u32) {
        self.rejected.fetch_add(count.into(), Ordering::Relaxed);
    }

    pub(crate) fn is_saturated(&self) -> bool {
        self.saturated_since.load(Ordering::Relaxed) != 0
    }

    /// By the master alone: adds what a worker that is gone has counted. `take` clears it in the worker's cell.
    pub(crate) fn fold(&self, take: impl FnOnce() -> Counts) {
        let before = self.folds.load(Ordering::Relaxed);
        self.folds.store(before.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let counts = self.past().plus(take());
        self.connections
            .store(counts.connections, Ordering::Relaxed);
        self.requests.store(counts.requests, Ordering::Relaxed);
        self.slow.store(counts.slow, Ordering::Relaxed);
        self.folds.store(before.wrapping_add(2), Ordering::Release);
    }

    /// Everything; `present` sums up the counts of the workers there are.
    pub(crate) fn totals(&self, now: u64, present: impl Fn() -> Counts) -> Totals {
        let since = self.saturated_since.load(Ordering::Relaxed);
        let current = if since == 0 {
            0
        } else {
            now.saturating_sub(since)
        };
        Totals {
            started: self.started.load(Ordering::Relaxed),
            started_at: self.started_at.load(Ordering::Relaxed),
            generation: self.generation.load(Ordering::Relaxed),
            counts: self.counts(present),
            max_active: self.max_active.load(Ordering::Relaxed),
            max_queue: self.max_queue.load(Ordering::Relaxed),
            max_memory: self.max_memory.load(Ordering::Relaxed),
            max_children_reached: self.max_children_reached.load(Ordering::Relaxed),
            is_saturated: since != 0,
            saturated: self
                .saturated
                .load(Ordering::Relaxed)
                .saturating_add(current),
            rejected: self.rejected.load(Ordering::Relaxed),
            reloaded: self.reloaded(),
        }
    }

    fn counts(&self, present: impl Fn() -> Counts) -> Counts {
        let mut counts = Counts::default();
        for _ in 0..TRIES {
            let before = self.folds.load(Ordering::Acquire);
            counts = self.past().plus(present());
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.folds.load(Ordering::Relaxed) == before {
                break;
            }
            std::thread::yield_now();
        }
        counts
    }

    fn past(&self) -> Counts {
        Counts {
            connections: self.connections.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            slow: self.slow.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::board::Board;
    use crate::scoreboard::{Counts, Reporter, Scoreboard};
    use std::sync::atomic::{AtomicBool, Ordering};

    fn reporter(board: &Scoreboard, slot: u32) -> Reporter {
        Reporter::new(board.handle().attach().unwrap(), slot, 1).unwrap()
    }

    #[test]
    fn what_a_worker_counted_outlives_it() {
        let board = Scoreboard::create(2).unwrap();
        for round in 1..=3 {
            let worker = reporter(&board, 0);
            worker.connection();
            worker.request(0, &[]);
            worker.request(0, &[]);
            worker.slow_request();
            let counts = Counts {
                connections: round,
                requests: 2 * round,
                slow: round,
            };
            assert_eq!(board.totals(0).counts, counts);
            board.vacate(0);
            assert_eq!(board.totals(0).counts, counts);
        }
    }

    #[test]
    fn a_total_never_goes_back_while_workers_come_and_go() {
        let board = Scoreboard::create(1).unwrap();
        let reading = Board::read_only(board.handle().memory).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    let worker = reporter(&board, 0);
                    (0..10).for_each(|_| worker.request(0, &[]));
                    board.vacate(0);
                }
                over.store(true, Ordering::SeqCst);
            });
            let mut seen = 0;
            while !over.load(Ordering::SeqCst) {
                let requests = reading.totals(0).counts.requests;
                assert!(requests >= seen, "{requests} after {seen}");
                seen = requests;
            }
        });
        assert_eq!(reading.totals(0).counts.requests, 20_000);
    }

    #[test]
    fn most_workers_busy_at_once_are_remembered() {
        let board = Scoreboard::create(70).unwrap();
        let workers: Vec<Reporter> = (0..70).map(|slot| reporter(&board, slot)).collect();
        assert_eq!(board.totals(0).max_active, 0, "none has come up");
        workers.iter().for_each(|worker| worker.idle(0));
        workers[3..69].iter().for_each(|worker| worker.busy(0));
        workers.iter().for_each(|worker| worker.idle(0));
        workers[0].busy(0);
        assert_eq!(board.totals(0).max_active, 66);
        board.vacate(0);
        workers[1].busy(0);
        assert_eq!(board.totals(0).max_active, 66);
    }

    #[test]
    fn saturation_is_counted_by_episodes_and_in_time() {
        let board = Scoreboard::create(1).unwrap();
        for (saturated, now) in [(false, 1), (true, 10), (true, 15), (false, 20), (true, 100)] {
            board.set_saturated(saturated, now);
        }
        let totals = board.totals(103);
        assert_eq!(
            (
                totals.max_children_reached,
                totals.saturated,
                totals.is_saturated,
                board.is_saturated(),
            ),
            (2, 13, true, true)
        );
    }

    #[test]
    fn the_slowest_request_is_remembered_until_it_is_old() {
        let board = Scoreboard::create(1).unwrap();
        let worker = reporter(&board, 0);
        let serve = |begun: u64, ended: u64, text: &[u8], oldest: u64| {
            worker.request(begun, &[text]);
            worker.took(7, 4096, ended, oldest);
        };
        let slowest = || board.slowest(0).map(|request| request.text);
        assert_eq!(slowest(), None);
        serve(10, 20, b"first", 0);
        serve(30, 35, b"faster", 0);
        assert_eq!(slowest().as_deref(), Some(&b"first"[..]));
        serve(40, 60, b"slower", 0);
        assert_eq!(slowest().as_deref(), Some(&b"slower"[..]));
        serve(70, 71, b"later", 61);
        assert_eq!(slowest().as_deref(), Some(&b"later"[..]));
        let request = board.request(0).unwrap();
        assert_eq!((request.cpu, request.memory), (7, 4096));
        assert_eq!(board.totals(0).max_memory, 4096);
    }

    #[test]
    fn the_queue_and_the_generation_are_kept() {
        let board = Scoreboard::create(1).unwrap();
        board.saw_queue(5);
        board.saw_queue(3);
        board.set_generation(4);
        let totals = board.totals(0);
        assert_eq!((totals.max_queue, totals.generation), (5, 4));
        assert!(totals.started > 0 && totals.started_at > totals.started);
    }
}
