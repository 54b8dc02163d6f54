//! What a program mold, the master and the relays agree on. `preforkd-sys` has this very file as well.

use std::ffi::CStr;

/// The variable that tells the library that it is in a program that is to become a mold. Its value is [`VERSION`].
pub const VARIABLE: &CStr = c"PREFORKD_MOLD";

/// Version of everything in this file; raised with every change.
pub const VERSION: &CStr = c"1";

/// The descriptor at which the program has its channel to the master.
pub const CONTROL_FD: i32 = 3;

/// The descriptor at which it has the library's file, for the dynamic linker, which is told to load it from there.
pub const LIBRARY_FD: i32 = 4;

/// The descriptor at which it gets the orders of relays.
pub const ORDERS_FD: i32 = 5;

/// To the master: programs can be forked. The message has nothing else.
pub const READY: u8 = 2;

/// To the master: this program cannot be a mold, and ends. The reason follows, its length (8 bytes, little-endian)
/// before it.
pub const UNFIT: u8 = 5;

/// The descriptors that come with an order: the listening socket, standard output, standard error, the line to the relay,
/// and the end of the pipe by which the relay holds the program. Its bytes are the relay's pid (4 bytes, little-endian).
pub const ORDER_FDS: usize = 5;

/// On the line, with the pid: the program has been forked. Its descriptor (pidfd_open(2)) comes with it.
pub const BORN: u8 = 1;

/// On the line, with an errno: it could not be.
pub const FAILED: u8 = 2;

/// On the line, with its status as waitpid(2) gives it: it has ended. It is reaped when the line ends.
pub const ENDED: u8 = 3;

/// A message on the line: what it is, and a number (4 bytes, little-endian).
pub const LINE_BYTES: usize = 5;
