//! Decisions of the master, as pure functions: no I/O, no clock, only `std`.
//!
//! The daemon tells what happened and what it sees; this crate says what to do about it.
//! Everything here can be run a million times in a test, and is.
//!
//! # Layout
//! * [`time`]: instants on the caller's monotonic clock
//! * [`scale`]: how many workers to fork or to retire
//! * [`slot`]: the life of one worker, as a table
//! * [`respawn`]: back-off of a pool whose workers die at start
//! * [`pool`]: the three above put together for one pool
//! * [`saturation`]: what happens while all workers are busy
//! * [`crashes`]: workers that crash, counted over time
//! * [`reload`]: whether a new generation takes over

#![forbid(unsafe_code)]

pub mod crashes;
pub mod pool;
pub mod reload;
pub mod respawn;
pub mod saturation;
pub mod scale;
pub mod slot;
pub mod time;
