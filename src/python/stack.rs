//! Where the application is, seen from another thread while it runs.
//!
//! With the interpreter's lock its frames can be read like any other object. An application that runs Python code, or
//! waits as Python's own functions wait, lets go of the lock soon. One that does not is in C code which keeps it, and
//! then no frame changes: the function that `faulthandler` reads stacks with, which needs no lock, reads them soundly.
//! Not every version of Python exports it; where it is missing, what the kernel shows has to do.

use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use preforkd_sys::signals;
use preforkd_worker::trace::{KernelView, Tracer, call};
use pyo3::prelude::*;
use pyo3::{ffi, types::PyDict};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// How long the interpreter's lock is waited for: many times the 5 ms that Python lets a thread keep it which another
/// waits for, so that the threads of an application may be many.
const PATIENCE: Duration = Duration::from_secs(1);

/// Room for the stack of a thread that reads frames.
const STACK: usize = 512 * 1024;

/// `void (int fd, PyThreadState *)`: writes the stack of a thread, without the lock, allocating nothing.
type Dump = unsafe extern "C" fn(libc::c_int, *mut ffi::PyThreadState);

/// What [`Dump`] is called in versions of Python that export it.
const DUMPS: [&std::ffi::CStr; 2] = [c"_Py_DumpTraceback", c"PyUnstable_DumpTraceback"];

/// The stack of the thread that serves requests.
#[derive(Debug)]
pub(crate) struct Stack {
    /// The thread as Python knows it.
    ident: libc::c_ulong,
    /// The address of its state, which lasts as long as the thread: to the end of the process.
    state: usize,
    dump: Option<Dump>,
    /// A thread that was started earlier still waits for the lock.
    waits: Arc<AtomicBool>,
}

impl Stack {
    /// Of the calling thread.
    pub(crate) fn of_this_thread(_py: Python<'_>) -> Self {
        // SAFETY: the token says that this thread has a state and the lock; neither call does more than look.
        let (ident, state) =
            unsafe { (ffi::PyThread_get_thread_ident(), ffi::PyThreadState_Get()) };
        Self {
            ident,
            state: state as usize,
            dump: DUMPS.iter().find_map(|name| find(name)),
            waits: Arc::default(),
        }
    }

    /// The frames as Python has them; None when the lock could not be had.
    fn with_lock(&self, depth: usize) -> Option<Vec<String>> {
        if self.waits.swap(true, Ordering::SeqCst) {
            return None;
        }
        let (sender, receiver) = channel();
        let (ident, waits) = (self.ident, Arc::clone(&self.waits));
        let asked = thread::Builder::new()
            .name("tracer".into())
            .stack_size(STACK)
            .spawn(move || {
                signals::block_in_this_thread();
                // Fails when nobody waits for it any more.
                let _ = sender.send(Python::attach(|py| frames(py, ident, depth)));
                waits.store(false, Ordering::SeqCst);
            });
        if asked.is_err() {
            self.waits.store(false, Ordering::SeqCst);
            return None;
        }
        receiver.recv_timeout(PATIENCE).ok()?.ok()
    }

    /// The frames as `faulthandler` sees them; None when this Python does not let us.
    fn without_lock(&self, depth: usize) -> Option<Vec<String>> {
        let dump = self.dump?;
        let mut file = File::from(memfd_create(c"stack", MFdFlags::MFD_CLOEXEC).ok()?);
        // SAFETY: the state is that of a thread that lives as long as the process. Its frames stand still: they change
        // only under the lock, for which somebody has waited long enough for any thread that runs Python code to let go.
        unsafe { dump(file.as_raw_fd(), self.state as *mut ffi::PyThreadState) };
        let mut text = Vec::new();
        file.rewind().ok()?;
        file.read_to_end(&mut text).ok()?;
        let text = String::from_utf8_lossy(&text);
        let calls = text.lines().filter_map(|line| line.strip_prefix("  "));
        Some(without_bootstrap(
            calls.enumerate().map(|(place, line)| parse(place, line)),
            depth,
        ))
    }
}

impl Tracer for Stack {
    fn trace(&mut self, depth: usize) -> Vec<String> {
        self.with_lock(depth)
            .or_else(|| self.without_lock(depth))
            .unwrap_or_else(|| {
                let why = "(in C code that keeps the interpreter's lock, without which this Python shows no stack)";
                let kernel = KernelView::of(std::process::id()).trace(depth);
                std::iter::once(why.to_owned()).chain(kernel).collect()
            })
    }
}

fn find(name: &std::ffi::CStr) -> Option<Dump> {
    // SAFETY: the name ends with a NUL; looking a symbol up changes nothing.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // SAFETY: under these names every Python that exports them has a function with this signature.
    (!symbol.is_null()).then(|| unsafe { std::mem::transmute::<*mut libc::c_void, Dump>(symbol) })
}

/// The frames of a thread, the innermost first. Runs no Python code: neither that of an import hook nor, by collecting
/// garbage, that of a finalizer.
fn frames(py: Python<'_>, ident: libc::c_ulong, depth: usize) -> PyResult<Vec<String>> {
    // SAFETY: the lock is held; this only sets a flag.
    let collects = unsafe { ffi::PyGC_Disable() } != 0;
    let read = read_frames(py, ident, depth);
    if collects {
        // SAFETY: as above.
        unsafe { ffi::PyGC_Enable() };
    }
    read
}

fn read_frames(py: Python<'_>, ident: libc::c_ulong, depth: usize) -> PyResult<Vec<String>> {
    // SAFETY: the lock is held, and the name ends with a NUL; what comes back is borrowed, or null for a name that sys
    // does not have.
    let current = unsafe {
        Bound::from_borrowed_ptr_or_opt(py, ffi::PySys_GetObject(c"_current_frames".as_ptr()))
    };
    let Some(current) = current else {
        return Ok(Vec::new());
    };
    let all = current.call0()?;
    let mut frame = all.cast::<PyDict>()?.get_item(ident)?;
    let mut calls = Vec::new();
    // One more, by which the outermost call is known.
    while let Some(this) = frame.filter(|_| calls.len() <= depth) {
        let code = this.getattr("f_code")?;
        let name = code
            .getattr("co_qualname")
            .or_else(|_| code.getattr("co_name"))?;
        let line = this.getattr("f_lineno")?.extract::<u32>();
        calls.push(call(
            calls.len(),
            &name.to_string(),
            &code.getattr("co_filename")?.to_string(),
            &line.map_or_else(|_| "?".to_owned(), |line| line.to_string()),
        ));
        frame = Some(this.getattr("f_back")?).filter(|back| !back.is_none());
    }
    Ok(without_bootstrap(calls.into_iter(), depth))
}

/// `File "/srv/app.py", line 7 in view`, in the form of the slow log.
fn parse(place: usize, line: &str) -> String {
    let parts = line
        .strip_prefix("File ")
        .and_then(|rest| rest.rsplit_once(", line "))
        .and_then(|(file, rest)| Some((file.trim_matches('"'), rest.split_once(" in ")?)));
    match parts {
        Some((file, (line, function))) => call(place, function, file, line),
        None => line.to_owned(),
    }
}

/// The innermost `depth` calls, but for the outermost of all, in which the mold was started.
fn without_bootstrap(calls: impl Iterator<Item = String>, depth: usize) -> Vec<String> {
    let mut calls: Vec<String> = calls.collect();
    calls.pop_if(|last| last.contains("] <module>() <string>:"));
    calls.truncate(depth);
    calls
}
