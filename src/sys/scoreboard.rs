//! What the workers of a pool are doing, in memory that the master and the workers share.
//!
//! One cell a slot, written by the slot's worker alone, and one bitmap with a bit for each idle worker: counting the
//! idle is a population count, and nothing is counted twice. All of it is atomics; there is no lock, so a worker killed
//! at any instruction wedges nothing, and what it left is cleared by the master when it sees the death.
//!
//! The master says in two watermarks which idle counts it wants to hear of. A worker that turns busy and leaves fewer
//! than `low` idle, or turns idle and makes more than `high`, writes to the pool's eventfd, unless a notice is already
//! pending. The master first clears the pending mark and then looks; a worker first changes its state and then looks at
//! the watermarks; so one of the two always sees the other (sequentially consistent order). The master never reads the
//! eventfd, which is one open file for all: each write to it is a new event for an edge-triggered epoll.
//!
//! A worker runs code of the pool's user, who may scribble over the pool's board: readers take every value as possible
//! nonsense, and the memory is sealed so that it cannot be shrunk under them. Over that of another pool it cannot: what
//! the master has mapped is not there in what it forks.

use crate::board::{Board, length_for};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::ProtFlags;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

pub use crate::board::{Entry, MAX_SLOTS, RequestEntry, State, TEXT_BYTES};
pub use crate::reporter::Reporter;
pub use crate::tally::{Counts, Reloaded, Totals};

/// A pool's board, mapped into this process.
#[derive(Debug)]
pub struct Scoreboard {
    board: Board,
    fd: OwnedFd,
    notice: EventFd,
}

/// A board's descriptors: all that a forked child has of it.
#[derive(Clone, Copy, Debug)]
pub struct Handle<'a> {
    /// The memory.
    pub memory: BorrowedFd<'a>,
    /// The eventfd that is written to when a notice becomes pending. It is never read: to be waited for edge-triggered.
    pub notice: BorrowedFd<'a>,
}

impl Handle<'_> {
    /// The board, mapped into this process.
    ///
    /// # Errors
    /// The error of `dup(2)` or `mmap(2)`.
    pub fn attach(self) -> io::Result<Scoreboard> {
        let own = |fd: BorrowedFd<'_>| fd.try_clone_to_owned();
        Scoreboard::attach(own(self.memory)?, own(self.notice)?)
    }
}

impl Deref for Scoreboard {
    type Target = Board;

    fn deref(&self) -> &Board {
        &self.board
    }
}

impl Scoreboard {
    /// A new board with all slots vacant. It is this process's alone: children get its [`Handle`], since this mapping is
    /// not there after a fork.
    ///
    /// # Errors
    /// `InvalidInput` for no slot or more than [`MAX_SLOTS`]; the error of the system call otherwise.
    pub fn create(slots: u32) -> io::Result<Self> {
        let length = length_for(slots)?;
        let fd = memfd_create(
            c"preforkd-scoreboard",
            MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
        )?;
        nix::unistd::ftruncate(
            &fd,
            libc::off_t::try_from(length.get()).map_err(io::Error::other)?,
        )?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
        let notice = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let board = Board::map_new(&fd, slots)?;
        board
            .header()
            .tally
            .begin(crate::clock::now(), crate::clock::epoch());
        Ok(Self { board, fd, notice })
    }

    /// The board that another process created: its memory and its eventfd.
    ///
    /// # Errors
    /// `InvalidData` when it is not a board with its slots.
    pub fn attach(memory: OwnedFd, notice: OwnedFd) -> io::Result<Self> {
        let board = Board::map_existing(&memory, ProtFlags::PROT_WRITE)?;
        // SAFETY: the sender handed over an eventfd of its own; any other descriptor fails at its first use.
        let notice = unsafe { EventFd::from_owned_fd(notice) };
        Ok(Self {
            board,
            fd: memory,
            notice,
        })
    }

    /// What another process needs of it.
    #[must_use]
    pub fn handle(&self) -> Handle<'_> {
        Handle {
            memory: self.fd.as_fd(),
            notice: self.notice.as_fd(),
        }
    }

    /// Which idle counts to hear of: fewer than `low`, or more than `high`.
    pub fn set_watermarks(&self, low: u32, high: u32) {
        self.header().low.store(low, Ordering::SeqCst);
        self.header().high.store(high, Ordering::SeqCst);
    }

    /// Takes the pending notice, if any: to be called before looking at the cells.
    pub fn take_notice(&self) {
        // Reads the mark as well, so that what the worker did before it set it is seen from here on.
        self.header().pending.swap(0, Ordering::SeqCst);
    }

    /// Clears the slot of a worker that is gone. To be called by the master alone, after the death and before it looks
    /// at the cells again.
    pub fn vacate(&self, slot: u32) {
        // The worker may have died between setting the mark and writing to the eventfd, and nobody else would write.
        self.take_notice();
        if let Some(cell) = self.cell(slot) {
            self.header().tally.fold(|| cell.take_counts());
            cell.state.store(0, Ordering::Release);
            cell.pid.store(0, Ordering::Relaxed);
            // In this order, since who is ready and not idle counts as active.
            for words in [self.ready_words(), self.idle_words()] {
                words[slot as usize / 64].fetch_and(!(1 << (slot % 64)), Ordering::SeqCst);
            }
        }
    }

    /// New workers belong to `generation`.
    pub fn set_generation(&self, generation: u32) {
        self.header().tally.set_generation(generation);
    }

    /// How a reload of the pool has ended, at a time in nanoseconds since 1970. To be said by the master alone.
    pub fn set_reloaded(&self, succeeded: bool, at: u64) {
        self.header().tally.set_reloaded(succeeded, at);
    }

    /// So many connections were seen waiting.
    pub fn saw_queue(&self, length: u32) {
        self.header().tally.queue(length);
    }

    /// Whether all workers that the pool may have are busy. To be said by the master alone, as often as it looks.
    pub fn set_saturated(&self, saturated: bool, now: u64) {
        self.header().tally.saturation(saturated, now);
    }

    /// So many connections have been turned away. To be said by the master alone.
    pub fn rejected(&self, count: u32) {
        self.header().tally.reject(count);
    }

    pub(crate) fn notify(&self) {
        if self.header().pending.swap(1, Ordering::SeqCst) == 0 {
            // EAGAIN: the counter is full, so the master has enough to wake for.
            let _: Result<_, Errno> = self.notice.write(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;

    fn reporter(board: &Scoreboard, slot: u32) -> Reporter {
        Reporter::new(board.handle().attach().unwrap(), slot, 1).unwrap()
    }

    fn noticed(board: &Scoreboard) -> bool {
        board.notice.read().is_ok()
    }

    #[test]
    fn a_worker_is_seen_in_its_states() {
        let board = Scoreboard::create(130).unwrap();
        let worker = reporter(&board, 129);
        assert_eq!(board.entry(129).unwrap().state, State::Starting);
        assert_eq!(board.entry(129).unwrap().pid, std::process::id());
        worker.idle(5_000_000);
        assert_eq!(
            (
                board.entry(129).unwrap().state,
                board.entry(129).unwrap().since
            ),
            (State::Idle, 5_000_000)
        );
        assert_eq!(board.idle_count(), 1);
        worker.busy(6_000_000);
        assert_eq!(board.entry(129).unwrap().state, State::Busy);
        assert_eq!(board.idle_count(), 0);
        worker.untimed();
        let entry = board.entry(129).unwrap();
        assert_eq!(entry.state, State::Busy);
        assert!(entry.since > crate::clock::now() * 2, "no time runs out");
        worker.idle(7_000_000);
        board.vacate(129);
        assert_eq!(
            (board.entry(129).unwrap().state, board.idle_count()),
            (State::Vacant, 0)
        );
        assert_eq!(board.entry(130), None);
    }

    #[test]
    fn a_notice_is_written_once_below_the_low_watermark() {
        let board = Scoreboard::create(4).unwrap();
        let workers: Vec<Reporter> = (0..4).map(|slot| reporter(&board, slot)).collect();
        workers.iter().for_each(|worker| worker.idle(0));
        board.set_watermarks(3, u32::MAX);
        workers[0].busy(0);
        assert!(!noticed(&board), "three are idle");
        workers[1].busy(0);
        workers[2].busy(0);
        assert!(noticed(&board), "two are idle");
        workers[3].busy(0);
        assert!(!noticed(&board), "one notice is pending");
        board.take_notice();
        workers[3].idle(0);
        workers[3].busy(0);
        assert!(noticed(&board));
    }

    #[test]
    fn a_death_between_mark_and_write_silences_nobody() {
        let board = Scoreboard::create(2).unwrap();
        let workers: Vec<Reporter> = (0..2).map(|slot| reporter(&board, slot)).collect();
        workers.iter().for_each(|worker| worker.idle(0));
        board.set_watermarks(2, u32::MAX);
        board.header().pending.store(1, Ordering::SeqCst);
        board.vacate(0);
        workers[1].busy(0);
        assert!(noticed(&board));
    }

    #[test]
    fn taking_a_notice_waits_for_nobody_whatever_a_worker_does_to_the_eventfd() {
        let board = Scoreboard::create(1).unwrap();
        fcntl(&board.notice, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        let (done, waiting) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            board.take_notice();
            done.send(()).unwrap();
        });
        waiting
            .recv_timeout(std::time::Duration::from_secs(10))
            .unwrap();
    }

    #[test]
    fn a_worker_is_busy_since_its_request_began() {
        let board = Scoreboard::create(1).unwrap();
        let worker = reporter(&board, 0);
        worker.busy(5_000_000);
        worker.request(9_000_000, &[]);
        let entry = board.entry(0).unwrap();
        assert_eq!((entry.state, entry.since), (State::Busy, 9_000_000));
    }

    #[test]
    fn who_leaves_is_not_counted_and_says_so() {
        let board = Scoreboard::create(3).unwrap();
        let workers: Vec<Reporter> = (0..3).map(|slot| reporter(&board, slot)).collect();
        workers[..2].iter().for_each(|worker| worker.idle(0));
        board.set_watermarks(2, u32::MAX);
        workers[0].leave(1);
        assert!(noticed(&board));
        assert_eq!((board.idle_count(), board.active_count()), (1, 0));
        assert_eq!(board.entry(0).unwrap().state, State::Busy);
        // One that was let go alive says that it is idle, in a slot that is another's by then.
        workers[2].idle(2);
        let _new = reporter(&board, 2);
        assert_eq!(board.idle_count(), 1);
    }

    #[test]
    fn a_notice_is_written_above_the_high_watermark() {
        let board = Scoreboard::create(2).unwrap();
        let workers: Vec<Reporter> = (0..2).map(|slot| reporter(&board, slot)).collect();
        board.set_watermarks(0, 1);
        workers[0].idle(0);
        assert!(!noticed(&board));
        workers[1].idle(0);
        assert!(noticed(&board));
    }

    #[test]
    fn a_request_is_read_whole_and_cut_to_its_bound() {
        let board = Scoreboard::create(1).unwrap();
        let worker = reporter(&board, 0);
        assert_eq!(board.request(0), None);
        worker.request(9, &[b"GET", b"\0", b"/a/b?c=d"]);
        let request = board.request(0).unwrap();
        assert_eq!(
            (request.begun, request.ended, request.text.as_slice()),
            (9, 0, &b"GET\0/a/b?c=d"[..])
        );
        worker.ended(11);
        assert_eq!(board.request(0).unwrap().ended, 11);
        worker.request(12, &[&[b'x'; TEXT_BYTES + 1]]);
        assert_eq!(board.request(0).unwrap().text.len(), TEXT_BYTES);
        assert_eq!(worker.requests(), 2);
    }

    #[test]
    fn a_reader_never_sees_a_torn_request() {
        let board = Scoreboard::create(1).unwrap();
        let worker = reporter(&board, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..20_000_u64 {
                    let byte = [b'a' + u8::try_from(round % 26).unwrap()];
                    worker.request(round, &[&byte.repeat(100)]);
                }
            });
            for _ in 0..20_000 {
                if let Some(request) = board.request(0) {
                    assert!(request.text.iter().all(|&byte| byte == request.text[0]));
                }
            }
        });
    }

    #[test]
    fn what_is_not_a_board_is_refused() {
        let file = memfd_create(c"other", MFdFlags::MFD_CLOEXEC).unwrap();
        nix::unistd::ftruncate(&file, 8192).unwrap();
        let notice = EventFd::new()
            .unwrap()
            .as_fd()
            .try_clone_to_owned()
            .unwrap();
        assert!(Scoreboard::attach(file, notice).is_err());
        assert!(Scoreboard::create(0).is_err());
        assert!(Scoreboard::create(MAX_SLOTS + 1).is_err());
    }
}
