//! Where the application is, seen from another thread while it runs.
//!
//! With the interpreter's lock its frames can be read like any other object. An application that runs Python code, or
//! waits as Python's own functions wait, lets go of the lock soon. One that does not is most likely in C code which keeps
//! it, and while it is there no frame changes: [`Dump`] reads them without the lock.
//!
//! Likely is not sure: see [`Dump::write`]. An interpreter without such a lock does not load this library, which is built
//! for Python's stable ABI.

use crate::dump::Dump;
use nix::libc;
use preforkd_sys::signals;
use preforkd_worker::trace::{KernelView, Tracer, call};
use pyo3::prelude::*;
use pyo3::{ffi, types::PyDict};
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

/// The stack of the thread that serves requests.
#[derive(Debug)]
pub(crate) struct Stack {
    /// The thread as Python knows it.
    ident: libc::c_ulong,
    dump: Option<Dump>,
    /// A thread that was started earlier still waits for the lock.
    waits: Arc<AtomicBool>,
}

impl Stack {
    /// Of the calling thread.
    pub(crate) fn of_this_thread(py: Python<'_>) -> Self {
        Self {
            // SAFETY: it does nothing but look.
            ident: unsafe { ffi::PyThread_get_thread_ident() },
            dump: Dump::new(py),
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
    fn without_lock(&mut self, depth: usize) -> Option<Vec<String>> {
        let dump = self.dump.as_mut()?;
        // SAFETY: somebody has waited for the lock, many times as long as a thread that runs Python code keeps it. What is
        // left of the risk is that of `Dump::write`, and is taken only for a request that is to be logged as slow or ended.
        let text = unsafe { dump.write() }.ok()?;
        let calls = calls_of(self.ident, &text);
        let calls = without_bootstrap(
            calls.enumerate().map(|(place, line)| parse(place, line)),
            depth,
        );
        Some(calls).filter(|calls| !calls.is_empty())
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

/// The lines of a thread's calls in what `faulthandler` writes of all threads.
fn calls_of(ident: libc::c_ulong, text: &str) -> impl Iterator<Item = &str> {
    let head = format!("hread 0x{ident:0width$x} ", width = 2 * size_of_val(&ident));
    let from_head = text.lines().skip_while(move |line| !line.contains(&head));
    from_head.skip(1).map_while(|line| line.strip_prefix("  "))
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
