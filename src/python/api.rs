//! What an application finds when it imports `preforkd`.
//!
//! The interpreter has the module before the application is imported, and outside of preforkd has none of this name:
//! `packaging/docs/python.md` says how an application copes with that.

use crate::answer::Trouble;
use crate::transaction::Transaction;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

/// Which worker this process is.
#[derive(Debug)]
pub(crate) struct Place {
    /// The pool's name.
    pub(crate) pool: String,
    /// The number of the slot, from 0.
    pub(crate) slot: u32,
    /// The pool's generation, from 1.
    pub(crate) generation: u32,
}

static PLACE: OnceLock<Place> = OnceLock::new();

/// The named tuple made of it when it is first asked for: making its type takes longer than all else that a new worker
/// does.
static TUPLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

thread_local! {
    /// What the requests that this thread serves are answered through. The other threads of an application have none: one
    /// that an earlier request has left behind must not end the answer to a later one.
    static TRANSACTION: RefCell<Option<Arc<Transaction>>> = const { RefCell::new(None) };
}

/// This process is the worker at `place` from now on.
pub(crate) fn is_worker(place: Place) {
    // A worker is made once, in a process of its own.
    let _ = PLACE.set(place);
}

/// The requests that this thread serves are answered through `transaction` from now on.
pub(crate) fn answers_through(transaction: &Arc<Transaction>) {
    TRANSACTION.set(Some(Arc::clone(transaction)));
}

/// The worker that this process is, as a named tuple: the name of its pool, the number of its slot from 0, which no other
/// worker of the pool's generation has at the same time, and the generation, which each reload raises.
///
/// None in a process that is no worker, such as the one that imports the application for all of them.
#[pyfunction]
pub(crate) fn worker(py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
    let Some(place) = PLACE.get() else {
        return Ok(None);
    };
    let tuple = TUPLE.get_or_try_init(py, || {
        let options = PyDict::new(py);
        options.set_item("module", "preforkd")?;
        let make = py.import("collections")?.getattr("namedtuple")?;
        let fields = ("pool", "slot", "generation");
        let kind = make.call(("Worker", fields), Some(&options))?;
        let worker = kind.call1((&place.pool, place.slot, place.generation))?;
        Ok::<_, PyErr>(worker.unbind())
    })?;
    Ok(Some(tuple.clone_ref(py)))
}

/// Ends the answer to the current request with what there is of it, and sends it. The client waits no longer, whatever
/// the application still does, and whatever it still writes or yields is dropped. The worker is busy until it returns.
///
/// True if the web server has the whole answer now. False if nobody waits for one: there is no request, or the client
/// has gone; and on every thread but the one that the application was called on. ValueError if there is no answer that
/// could be ended: start_response was not called, or a Content-Length has been declared that has not been reached.
#[pyfunction]
pub(crate) fn finish_response() -> PyResult<bool> {
    let Some(transaction) = TRANSACTION.with_borrow(Clone::clone) else {
        return Ok(false);
    };
    let ended = transaction.try_with(|state| state.answer.end_now(&mut state.exchange))?;
    match ended {
        Some(Ok(())) => Ok(true),
        None | Some(Err(Trouble::Exchange(_))) => Ok(false),
        Some(Err(mistake)) => Err(PyValueError::new_err(mistake.to_string())),
    }
}
