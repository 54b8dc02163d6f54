//! The memory of a scoreboard: how it is laid out, and reading it.
//!
//! One cell a slot and two bitmaps with a bit a slot: who is idle, and who has come up at all. Everything is atomics, and
//! no reader ever waits for a writer: what is longer than a word is counted in sequence, so that a reader sees that it
//! changed under it and looks again.

use crate::tally::{Counts, Tally, Totals};
use nix::libc;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};
use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Slots that a board may have: the bound of `pm.max_children`.
pub const MAX_SLOTS: u32 = 4096;

/// Bytes of text that a cell keeps of a request; longer ones are cut.
pub const TEXT_BYTES: usize = 8 * TEXT_WORDS;

const TEXT_WORDS: usize = 112;
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

    /// The state since `now` in one word.
    pub(crate) fn since(self, now: u64) -> u64 {
        let bits = match self {
            Self::Vacant => return 0,
            Self::Starting => 1,
            Self::Idle => 2,
            Self::Busy => 3,
        };
        (now / 1000) << STATE_BITS | bits
    }
}

#[repr(C, align(64))]
pub(crate) struct Header {
    pub(crate) slots: AtomicU32,
    pub(crate) low: AtomicU32,
    pub(crate) high: AtomicU32,
    pub(crate) pending: AtomicU32,
    pub(crate) tally: Tally,
}

#[repr(C, align(64))]
pub(crate) struct Cell {
    /// State in the low bits, above them the microsecond on the monotonic clock since when.
    pub(crate) state: AtomicU64,
    pub(crate) pid: AtomicU32,
    pub(crate) generation: AtomicU32,
    pub(crate) started: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) slow: AtomicU64,
    pub(crate) private: AtomicU64,
    /// Odd while a record below is being written.
    pub(crate) sequence: AtomicU64,
    pub(crate) last: Record,
    pub(crate) slowest: Record,
}

/// A request, as a cell keeps it.
#[repr(C)]
pub(crate) struct Record {
    pub(crate) begun: AtomicU64,
    pub(crate) ended: AtomicU64,
    pub(crate) cpu: AtomicU64,
    pub(crate) memory: AtomicU64,
    text_length: AtomicU64,
    text: [AtomicU64; TEXT_WORDS],
}

impl Record {
    /// Keeps `parts`, one after another, cut to [`TEXT_BYTES`].
    pub(crate) fn write_text(&self, parts: &[&[u8]]) {
        let mut line = [0; TEXT_BYTES];
        let mut filled = 0;
        for part in parts {
            let length = part.len().min(TEXT_BYTES - filled);
            line[filled..filled + length].copy_from_slice(&part[..length]);
            filled += length;
        }
        self.text_length.store(filled as u64, Ordering::Relaxed);
        for (word, bytes) in self
            .text
            .iter()
            .zip(line[..filled.next_multiple_of(8)].as_chunks::<8>().0)
        {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
    }

    pub(crate) fn copy(&self, other: &Self) {
        let store = |to: &AtomicU64, from: &AtomicU64| {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        store(&self.begun, &other.begun);
        store(&self.ended, &other.ended);
        store(&self.cpu, &other.cpu);
        store(&self.memory, &other.memory);
        store(&self.text_length, &other.text_length);
        for (to, from) in self.text.iter().zip(&other.text).take(other.words()) {
            store(to, from);
        }
    }

    fn length(&self) -> usize {
        usize::try_from(self.text_length.load(Ordering::Relaxed))
            .map_or(TEXT_BYTES, |length| length.min(TEXT_BYTES))
    }

    fn words(&self) -> usize {
        self.length().div_ceil(8)
    }

    fn read(&self) -> RequestEntry {
        let mut text = Vec::with_capacity(TEXT_BYTES);
        for word in &self.text[..self.words()] {
            text.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        text.truncate(self.length());
        RequestEntry {
            begun: self.begun.load(Ordering::Relaxed),
            ended: self.ended.load(Ordering::Relaxed),
            cpu: self.cpu.load(Ordering::Relaxed),
            memory: self.memory.load(Ordering::Relaxed),
            text,
        }
    }
}

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
    /// Whether it has come up, and does not leave yet.
    pub serves: bool,
    /// Memory that it shares with no other process, in bytes, as it last measured it; 0 before it has.
    pub private: u64,
}

/// The current, last or slowest request of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestEntry {
    /// When its parameters were complete, nanoseconds on the monotonic clock.
    pub begun: u64,
    /// When it ended; 0 while it goes on.
    pub ended: u64,
    /// Processor time that the process used for it, in nanoseconds; 0 until it ended, or if nobody measures it.
    pub cpu: u64,
    /// The most memory that the process ever had when it ended, in bytes; 0 likewise.
    pub memory: u64,
    /// What the worker wrote of it, at most [`TEXT_BYTES`].
    pub text: Vec<u8>,
}

/// A board in this process's memory, to be read.
#[derive(Debug)]
pub struct Board {
    memory: NonNull<c_void>,
    length: NonZeroUsize,
    slots: u32,
}

// SAFETY: the mapping is only ever read and written through atomics, and lives until the board is dropped.
unsafe impl Send for Board {}
// SAFETY: as above.
unsafe impl Sync for Board {}

impl Board {
    /// Maps a board that `create` is about to fill, of zeroes and `length_for(slots)` bytes, for this process alone: a
    /// child that it forks has nothing there.
    pub(crate) fn map_new(memory: impl AsFd, slots: u32) -> io::Result<Self> {
        let board = Self::map(memory, length_for(slots)?, slots, ProtFlags::PROT_WRITE)?;
        // SAFETY: the whole mapping, just made. In this process nothing changes. A forked child has a copy of this board
        // and no memory behind it, which would be unsound to use: no closure that becomes a child captures a board but
        // one mapped by `read_only` or in the child itself, by the `Handle` that it gets instead.
        unsafe { madvise(board.memory, board.length.get(), MmapAdvise::MADV_DONTFORK)? };
        let header = board.header();
        header.slots.store(slots, Ordering::Relaxed);
        header.high.store(u32::MAX, Ordering::Relaxed);
        Ok(board)
    }

    /// Maps a board for reading alone: a write to it, which no function of this type makes, would end the process.
    ///
    /// # Errors
    /// `InvalidData` when its size is not that of a board with its slots.
    pub fn read_only(memory: impl AsFd) -> io::Result<Self> {
        Self::map_existing(memory, ProtFlags::empty())
    }

    pub(crate) fn map_existing(memory: impl AsFd, more: ProtFlags) -> io::Result<Self> {
        let size = usize::try_from(nix::sys::stat::fstat(&memory)?.st_size).unwrap_or(0);
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not a scoreboard");
        let least = NonZeroUsize::new(size)
            .filter(|size| size.get() >= size_of::<Header>())
            .ok_or_else(invalid)?;
        let mut board = Self::map(memory, least, 0, more)?;
        let header = board.header();
        let slots = header.slots.load(Ordering::Relaxed);
        if length_for(slots)?.get() != size {
            return Err(invalid());
        }
        board.slots = slots;
        Ok(board)
    }

    fn map(
        memory: impl AsFd,
        length: NonZeroUsize,
        slots: u32,
        more: ProtFlags,
    ) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else refers to it.
        let memory = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ | more,
                MapFlags::MAP_SHARED,
                memory,
                0,
            )?
        };
        Ok(Self {
            memory,
            length,
            slots,
        })
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

    /// How many workers have come up and are not idle.
    pub(crate) fn active_count(&self) -> u32 {
        self.ready_words()
            .iter()
            .zip(self.idle_words())
            .map(|(ready, idle)| {
                (ready.load(Ordering::SeqCst) & !idle.load(Ordering::SeqCst)).count_ones()
            })
            .sum()
    }

    /// What is known of the pool besides its workers; `now` is on the monotonic clock.
    #[must_use]
    pub fn totals(&self, now: u64) -> Totals {
        self.header().tally.totals(now, || {
            (0..self.slots)
                .filter_map(|slot| self.cell(slot))
                .map(Cell::counts)
                .fold(Counts::default(), Counts::plus)
        })
    }

    /// Whether all workers that the pool may have are busy, as far as the master has seen.
    #[must_use]
    pub fn is_saturated(&self) -> bool {
        self.header().tally.is_saturated()
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
            serves: self.ready_words()[slot as usize / 64].load(Ordering::Relaxed)
                & (1 << (slot % 64))
                != 0,
            private: cell.private.load(Ordering::Relaxed),
        })
    }

    /// The current or last request of the worker in `slot`; None when it is just being written, or there is none.
    #[must_use]
    pub fn request(&self, slot: u32) -> Option<RequestEntry> {
        self.record(slot, |cell| &cell.last)
    }

    /// The slowest request that the worker in `slot` remembers; None as in [`Self::request`].
    #[must_use]
    pub fn slowest(&self, slot: u32) -> Option<RequestEntry> {
        self.record(slot, |cell| &cell.slowest)
            .filter(|request| request.ended != 0)
    }

    fn record(&self, slot: u32, record: fn(&Cell) -> &Record) -> Option<RequestEntry> {
        let cell = self.cell(slot)?;
        // A writer is done within nanoseconds, but it may be stopped, or lie: give up after a few tries.
        for _ in 0..16 {
            let before = cell.sequence.load(Ordering::Acquire);
            if before == 0 {
                return None;
            }
            if before.is_multiple_of(2) {
                let request = record(cell).read();
                fence(Ordering::Acquire);
                if cell.sequence.load(Ordering::Relaxed) == before {
                    return Some(request);
                }
            }
            std::hint::spin_loop();
        }
        None
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the mapping is at least a header long, page-aligned, and lives as long as `self`; all its bytes are
        // atomics, for which every value is valid.
        unsafe { self.memory.cast::<Header>().as_ref() }
    }

    pub(crate) fn idle_words(&self) -> &[AtomicU64] {
        self.bitmap(0)
    }

    pub(crate) fn ready_words(&self) -> &[AtomicU64] {
        self.bitmap(1)
    }

    fn bitmap(&self, index: usize) -> &[AtomicU64] {
        // SAFETY: `length_for(slots)` bytes are mapped, of which two bitmaps follow the header; `slots` is 0 until the
        // length has been checked, which makes them empty.
        unsafe {
            let first = self
                .memory
                .cast::<u8>()
                .add(size_of::<Header>() + index * bitmap_bytes(self.slots))
                .cast::<AtomicU64>();
            std::slice::from_raw_parts(first.as_ptr(), bitmap_words(self.slots))
        }
    }

    pub(crate) fn cell(&self, slot: u32) -> Option<&Cell> {
        if slot >= self.slots {
            return None;
        }
        let cells = size_of::<Header>() + 2 * bitmap_bytes(self.slots);
        // SAFETY: the cells follow the bitmaps, 64-aligned, and `slot` is one of them.
        Some(unsafe {
            self.memory
                .cast::<u8>()
                .add(cells)
                .cast::<Cell>()
                .add(slot as usize)
                .as_ref()
        })
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length; no reference into it outlives `self`.
        let _ = unsafe { munmap(self.memory, self.length.get()) };
    }
}

impl Cell {
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            connections: self.connections.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            slow: self.slow.load(Ordering::Relaxed),
        }
    }

    /// By the master alone, when no worker is there any more.
    pub(crate) fn take_counts(&self) -> Counts {
        Counts {
            connections: self.connections.swap(0, Ordering::Relaxed),
            requests: self.requests.swap(0, Ordering::Relaxed),
            slow: self.slow.swap(0, Ordering::Relaxed),
        }
    }
}

fn bitmap_words(slots: u32) -> usize {
    (slots as usize).div_ceil(64)
}

/// Whole cache lines, so that the cells stay aligned and a bitmap shares none with them.
fn bitmap_bytes(slots: u32) -> usize {
    (bitmap_words(slots) * 8).next_multiple_of(64)
}

pub(crate) fn length_for(slots: u32) -> io::Result<NonZeroUsize> {
    if !(1..=MAX_SLOTS).contains(&slots) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a scoreboard has 1 to {MAX_SLOTS} slots"),
        ));
    }
    let length = size_of::<Header>() + 2 * bitmap_bytes(slots) + slots as usize * size_of::<Cell>();
    NonZeroUsize::new(length).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}
