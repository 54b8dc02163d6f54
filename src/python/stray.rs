//! Children that the application forks and that fall out of it, by returning or raising.
//!
//! Such a process has all that its parent has: the connection, the channel to the master, the cell of the scoreboard.
//! If it went on it would be a second worker, or a second mold, that nobody knows of. So it ends where it falls out, with
//! the status that a script would have. A hook of Python's forks finds them, which costs a request nothing.

use crate::failure;
use preforkd_sys::fork::exit_now;
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether this process was forked, and not by the mold.
static STRAY: AtomicBool = AtomicBool::new(false);

/// Has each process that is forked from now on known for a stray, until it says [`is_worker`].
pub(crate) fn watch(py: Python<'_>) -> PyResult<()> {
    let hook =
        PyCFunction::new_closure(py, None, None, |_, _| STRAY.store(true, Ordering::Relaxed))?;
    let hooks = PyDict::new(py);
    hooks.set_item("after_in_child", hook)?;
    py.import("os")?
        .call_method("register_at_fork", (), Some(&hooks))?;
    Ok(())
}

/// This process was forked by the mold, to be a worker.
pub(crate) fn is_worker() {
    STRAY.store(false, Ordering::Relaxed);
}

/// Hands on what came of calling the application's code, unless this is a stray: that ends.
pub(crate) fn sort_out<T>(py: Python<'_>, outcome: PyResult<T>) -> PyResult<T> {
    if STRAY.load(Ordering::Relaxed) {
        let status = outcome
            .as_ref()
            .err()
            .map_or(0, |raised| status(py, raised));
        failure::flush(py);
        exit_now(status);
    }
    outcome
}

/// What a script that ends by this exception exits with. What it would print is printed.
fn status(py: Python<'_>, raised: &PyErr) -> i32 {
    if !raised.is_instance_of::<PySystemExit>(py) {
        failure::traceback(py, raised);
        return 1;
    }
    let Ok(code) = raised.value(py).getattr("code") else {
        return 1;
    };
    if code.is_none() {
        return 0;
    }
    code.extract().unwrap_or_else(|_| {
        failure::say(&code.to_string());
        1
    })
}
