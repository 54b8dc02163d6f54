//! The stacks of all threads without the interpreter's lock, as `faulthandler` writes them when a process crashes.
//!
//! That function of `faulthandler` is a handler of signals: it needs no lock, allocates nothing, and may be called on any
//! thread. No version of Python exports it, but each installs it for the asking (`faulthandler.register`). So it is asked
//! for once, taken from the kernel's table, where what stood there before is put back at once, and called like any other
//! function: no signal is ever sent, and none is taken from the application.

use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use pyo3::prelude::*;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;

/// A signal of which nobody thinks: Linux never sends it.
const SIGNAL: Signal = Signal::SIGSTKFLT;

/// What is read of a dump at most. It has at most 100 threads, of 100 calls each.
const MOST: u64 = 4 * 1024 * 1024;

/// The handler, and the file that it writes to.
#[derive(Debug)]
pub(crate) struct Dump {
    handler: extern "C" fn(libc::c_int),
    file: File,
}

impl Dump {
    /// None when this Python has no `faulthandler`, or one that is made in another way.
    pub(crate) fn new(py: Python<'_>) -> Option<Self> {
        let file = File::from(memfd_create(c"stacks", MFdFlags::MFD_CLOEXEC).ok()?);
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: SIG_DFL installs no code.
        let before = unsafe { sigaction(SIGNAL, &default).ok()? };
        let (signal, fd, all_threads, chain) = (SIGNAL as i32, file.as_raw_fd(), true, false);
        let register = || {
            let faulthandler = py.import("faulthandler")?;
            faulthandler.call_method1("register", (signal, fd, all_threads, chain))
        };
        let registered = register();
        // SAFETY: what is installed was installed before.
        let installed = unsafe { sigaction(SIGNAL, &before).ok()? };
        let handler = match installed.handler() {
            SigHandler::Handler(handler) => handler,
            SigHandler::SigDfl | SigHandler::SigIgn | SigHandler::SigAction(_) => return None,
        };
        registered.is_ok().then_some(Self { handler, file })
    }

    /// What all threads are at, the newest thread first, each with its innermost call first.
    ///
    /// # Safety
    /// Nobody should run Python code: frames change only under the interpreter's lock, and are read without it. No caller
    /// without the lock can be sure of that. C code may give it back to Python code meanwhile, and threads that hand it to
    /// each other may keep everybody else from it; then the dump may be wrong, and, if a frame's memory goes just then, the
    /// process may die of it. Whoever uses `faulthandler.dump_traceback_later` takes the same risk.
    pub(crate) unsafe fn write(&mut self) -> io::Result<String> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        (self.handler)(SIGNAL as i32);
        self.file.rewind()?;
        let mut text = Vec::new();
        Read::by_ref(&mut self.file)
            .take(MOST)
            .read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
