//! What the workers of a pool are doing, in memory that the master and the workers share.
//!
//! One cell a slot, written by the slot's worker alone, and one bitmap with a bit for each idle worker: counting the
//! idle is a population count, and nothing is counted twice. All of it is atomics; there is no lock, so a worker killed
//! at any instruction wedges nothing, and what it left is cleared by the master when it sees the death.
//!
//! The master says in two watermarks which idle counts it wants to hear of. A worker that turns busy and leaves fewer
//! than `low` idle, or turns idle and makes more than `high`, writes to the pool's eventfd, unless a notice is already
//! pending. The master first clears the pending mark and then looks; a worker first changes its state and then looks at
//! the watermarks; so one of the two always sees the other (sequentially consistent order).
//!
//! A worker runs code of the pool's user, who may scribble over the pool's board: readers take every value as possible
//! nonsense, and the memory is sealed so that it cannot be shrunk under them.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Slots that a board may have: the bound of `pm.max_children`.
pub const MAX_SLOTS: u32 = 4096;

/// Bytes of text that a cell keeps of a request; longer requests are cut.
pub const TEXT_BYTES: usize = 8 * TEXT_WORDS;

const TEXT_WORDS: usize = 64;
const LAYOUT: u32 = 0x7066_0001;
const STATE_BITS: u32 = 2;

/// What a worker is doing, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is no worker in the slot.
    Vacant,
    /// A worker is there and does not accept yet.
    Starting,
    /// It waits for a connection, or for the next request on one that it keeps.
    Idle,
    /// It holds a connection whose request has not ended.
    Busy,
}

impl State {
    fn from_bits(bits: u64) -> Self {
        match bits & ((1 << STATE_BITS) - 1) {
            0 => Self::Vacant,
            1 => Self::Starting,
            2 => Self::Idle,
            _ => Self::Busy,
        }
    }
}

#[repr(C, align(64))]
struct Header {
    layout: AtomicU32,
    slots: AtomicU32,
    low: AtomicU32,
    high: AtomicU32,
    pending: AtomicU32,
}

#[repr(C, align(64))]
struct Cell {
    /// State in the low bits, above them the microsecond on the monotonic clock since when.
    state: AtomicU64,
    pid: AtomicU32,
    generation: AtomicU32,
    started: AtomicU64,
    connections: AtomicU64,
    requests: AtomicU64,
    /// Odd while the fields below are being written.
    sequence: AtomicU64,
    begun: AtomicU64,
    ended: AtomicU64,
    text_length: AtomicU64,
    text: [AtomicU64; TEXT_WORDS],
}

/// A pool's board, mapped into this process.
#[derive(Debug)]
pub struct Scoreboard {
    memory: NonNull<c_void>,
    length: NonZeroUsize,
    slots: u32,
    fd: OwnedFd,
    notice: EventFd,
}

// SAFETY: the mapping is only ever read and written through atomics, and lives until the board is dropped.
unsafe impl Send for Scoreboard {}
// SAFETY: as above.
unsafe impl Sync for Scoreboard {}

/// What a cell says of its worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The worker's state.
    pub state: State,
    /// Since when it is in it, nanoseconds on the monotonic clock.
    pub since: u64,
    /// The worker's process id, as it says.
    pub pid: u32,
    /// The generation it belongs to.
    pub generation: u32,
    /// When it became ready, nanoseconds on the monotonic clock.
    pub started: u64,
    /// Connections it has accepted.
    pub connections: u64,
    /// Requests it has begun.
    pub requests: u64,
}

/// The current or last request of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestEntry {
    /// When its parameters were complete, nanoseconds on the monotonic clock.
    pub begun: u64,
    /// When it ended; 0 while it goes on.
    pub ended: u64,
    /// What the worker wrote of it, at most [`TEXT_BYTES`].
    pub text: Vec<u8>,
}

impl Scoreboard {
    /// A new board with all slots vacant.
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
        let board = Self::map(fd, length, slots, notice)?;
        let header = board.header();
        header.slots.store(slots, Ordering::Relaxed);
        header.high.store(u32::MAX, Ordering::Relaxed);
        header.layout.store(LAYOUT, Ordering::Release);
        Ok(board)
    }

    /// The board that another process created: its memory and its eventfd.
    ///
    /// # Errors
    /// `InvalidData` when it is not a board of this layout.
    pub fn attach(memory: OwnedFd, notice: OwnedFd) -> io::Result<Self> {
        let size = usize::try_from(nix::sys::stat::fstat(&memory)?.st_size).unwrap_or(0);
        let invalid = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "not a scoreboard of this version",
            )
        };
        let least = NonZeroUsize::new(size)
            .filter(|size| size.get() >= size_of::<Header>())
            .ok_or_else(invalid)?;
        // SAFETY: the sender handed over an eventfd of its own; any other descriptor fails at its first use.
        let notice = unsafe { EventFd::from_owned_fd(notice) };
        let mut board = Self::map(memory, least, 0, notice)?;
        let header = board.header();
        let slots = header.slots.load(Ordering::Relaxed);
        if header.layout.load(Ordering::Acquire) != LAYOUT || length_for(slots)?.get() != size {
            return Err(invalid());
        }
        board.slots = slots;
        Ok(board)
    }

    fn map(fd: OwnedFd, length: NonZeroUsize, slots: u32, notice: EventFd) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else refers to it.
        let memory = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                &fd,
                0,
            )?
        };
        Ok(Self {
            memory,
            length,
            slots,
            fd,
            notice,
        })
    }

    /// The descriptor of the memory, for [`Self::attach`] in another process.
    #[must_use]
    pub fn memory_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The eventfd that is readable when a notice is pending.
    #[must_use]
    pub fn notice_fd(&self) -> BorrowedFd<'_> {
        self.notice.as_fd()
    }

    /// How many slots it has.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// How many workers are idle.
    #[must_use]
    pub fn idle_count(&self) -> u32 {
        self.idle_words()
            .iter()
            .map(|word| word.load(Ordering::SeqCst).count_ones())
            .sum()
    }

    /// Which idle counts to hear of: fewer than `low`, or more than `high`.
    pub fn set_watermarks(&self, low: u32, high: u32) {
        self.header().low.store(low, Ordering::SeqCst);
        self.header().high.store(high, Ordering::SeqCst);
    }

    /// Takes the pending notice, if any: to be called before looking at the cells.
    pub fn take_notice(&self) {
        // EAGAIN: there was none.
        let _ = self.notice.read();
        self.header().pending.store(0, Ordering::SeqCst);
    }

    /// What the worker in `slot` says of itself; None for a slot that does not exist.
    #[must_use]
    pub fn entry(&self, slot: u32) -> Option<Entry> {
        let cell = self.cell(slot)?;
        let word = cell.state.load(Ordering::Acquire);
        Some(Entry {
            state: State::from_bits(word),
            since: (word >> STATE_BITS).saturating_mul(1000),
            pid: cell.pid.load(Ordering::Relaxed),
            generation: cell.generation.load(Ordering::Relaxed),
            started: cell.started.load(Ordering::Relaxed),
            connections: cell.connections.load(Ordering::Relaxed),
            requests: cell.requests.load(Ordering::Relaxed),
        })
    }

    /// The current or last request of the worker in `slot`; None when it is just being written, or there is none.
    #[must_use]
    pub fn request(&self, slot: u32) -> Option<RequestEntry> {
        let cell = self.cell(slot)?;
        // A writer is done within nanoseconds, but it may be stopped, or lie: give up after a few tries.
        for _ in 0..16 {
            let before = cell.sequence.load(Ordering::Acquire);
            if before == 0 {
                return None;
            }
            if before % 2 == 0 {
                let begun = cell.begun.load(Ordering::Relaxed);
                let ended = cell.ended.load(Ordering::Relaxed);
                let length = usize::try_from(cell.text_length.load(Ordering::Relaxed))
                    .map_or(TEXT_BYTES, |length| length.min(TEXT_BYTES));
                let mut text = Vec::with_capacity(TEXT_BYTES);
                for word in &cell.text[..length.div_ceil(8)] {
                    text.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
                }
                text.truncate(length);
                fence(Ordering::Acquire);
                if cell.sequence.load(Ordering::Relaxed) == before {
                    return Some(RequestEntry { begun, ended, text });
                }
            }
            std::hint::spin_loop();
        }
        None
    }

    /// Clears the slot of a worker that is gone. To be called by the master alone, after the death.
    pub fn vacate(&self, slot: u32) {
        if let Some(cell) = self.cell(slot) {
            cell.state.store(0, Ordering::Release);
            cell.pid.store(0, Ordering::Relaxed);
            self.idle_words()[slot as usize / 64].fetch_and(!(1 << (slot % 64)), Ordering::SeqCst);
        }
    }

    fn header(&self) -> &Header {
        // SAFETY: the mapping is at least a header long, page-aligned, and lives as long as `self`; all its bytes are
        // atomics, for which every value is valid.
        unsafe { self.memory.cast::<Header>().as_ref() }
    }

    fn idle_words(&self) -> &[AtomicU64] {
        // SAFETY: `length_for(slots)` bytes are mapped, of which the bitmap follows the header; `slots` is 0 until the
        // length has been checked, which makes the bitmap empty.
        unsafe {
            let first = self
                .memory
                .cast::<u8>()
                .add(size_of::<Header>())
                .cast::<AtomicU64>();
            std::slice::from_raw_parts(first.as_ptr(), bitmap_words(self.slots))
        }
    }

    fn cell(&self, slot: u32) -> Option<&Cell> {
        if slot >= self.slots {
            return None;
        }
        let cells = size_of::<Header>() + bitmap_bytes(self.slots);
        // SAFETY: the cells follow the bitmap, 64-aligned, and `slot` is one of them.
        Some(unsafe {
            self.memory
                .cast::<u8>()
                .add(cells)
                .cast::<Cell>()
                .add(slot as usize)
                .as_ref()
        })
    }

    fn notify(&self) {
        if self.header().pending.swap(1, Ordering::SeqCst) == 0 {
            // EAGAIN: the counter is full, so the master has enough to wake for.
            let _: Result<_, Errno> = self.notice.write(1);
        }
    }
}

impl Drop for Scoreboard {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length; no reference into it outlives `self`.
        let _ = unsafe { munmap(self.memory, self.length.get()) };
    }
}

fn bitmap_words(slots: u32) -> usize {
    (slots as usize).div_ceil(64)
}

/// Whole cache lines, so that the cells stay aligned and the bitmap shares none with them.
fn bitmap_bytes(slots: u32) -> usize {
    (bitmap_words(slots) * 8).next_multiple_of(64)
}

fn length_for(slots: u32) -> io::Result<NonZeroUsize> {
    if !(1..=MAX_SLOTS).contains(&slots) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a scoreboard has 1 to {MAX_SLOTS} slots"),
        ));
    }
    let length = size_of::<Header>() + bitmap_bytes(slots) + slots as usize * size_of::<Cell>();
    NonZeroUsize::new(length).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

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
        cell.sequence.store(0, Ordering::Relaxed);
        cell.started.store(crate::clock::now(), Ordering::Relaxed);
        cell.state
            .store(pack(1, crate::clock::now()), Ordering::Release);
        Ok(Self { board, slot })
    }

    /// The board it writes to.
    #[must_use]
    pub fn board(&self) -> &Scoreboard {
        &self.board
    }

    /// The slot it writes.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Waits for a connection from `now` on.
    pub fn idle(&self, now: u64) {
        self.cell().state.store(pack(2, now), Ordering::Release);
        self.idle_word().fetch_or(self.idle_bit(), Ordering::SeqCst);
        if self.board.idle_count() > self.board.header().high.load(Ordering::SeqCst) {
            self.board.notify();
        }
    }

    /// Holds a connection from `now` on.
    pub fn busy(&self, now: u64) {
        self.cell().state.store(pack(3, now), Ordering::Release);
        self.idle_word()
            .fetch_and(!self.idle_bit(), Ordering::SeqCst);
        if self.board.idle_count() < self.board.header().low.load(Ordering::SeqCst) {
            self.board.notify();
        }
    }

    /// Counts a connection.
    pub fn connection(&self) {
        count(&self.cell().connections);
    }

    /// Counts a request that begins `now` and keeps `text`, its parts one after another, cut to [`TEXT_BYTES`].
    pub fn request(&self, now: u64, text: &[&[u8]]) {
        let cell = self.cell();
        count(&cell.requests);
        self.write(|| {
            cell.begun.store(now, Ordering::Relaxed);
            cell.ended.store(0, Ordering::Relaxed);
            let mut line = [0; TEXT_BYTES];
            let mut filled = 0;
            for part in text {
                let length = part.len().min(TEXT_BYTES - filled);
                line[filled..filled + length].copy_from_slice(&part[..length]);
                filled += length;
            }
            cell.text_length.store(filled as u64, Ordering::Relaxed);
            for (word, bytes) in cell
                .text
                .iter()
                .zip(line[..filled.next_multiple_of(8)].as_chunks::<8>().0)
            {
                word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
            }
        });
    }

    /// Says that the request ended `now`.
    pub fn ended(&self, now: u64) {
        let cell = self.cell();
        self.write(|| cell.ended.store(now, Ordering::Relaxed));
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

fn pack(state: u64, now: u64) -> u64 {
    (now / 1000) << STATE_BITS | state
}

impl Scoreboard {
    /// A second handle on the same board, for a child that will own it.
    ///
    /// # Errors
    /// The error of `dup(2)` or `mmap(2)`.
    pub fn try_clone(&self) -> io::Result<Self> {
        Self::attach(
            self.fd.try_clone()?,
            self.notice.as_fd().try_clone_to_owned()?,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reporter(board: &Scoreboard, slot: u32) -> Reporter {
        Reporter::new(board.try_clone().unwrap(), slot, 1).unwrap()
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
