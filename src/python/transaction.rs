//! What the objects of one request share: the exchange, the body and the answer.
//!
//! The request takes the exchange back when it ends; from then on the objects are of no use and say so, unless they are
//! used again for the next request. Only one thread can be inside at a time. Another gets an error instead of waiting,
//! since the one inside may itself wait for the client, and since two that read one body have made a mistake anyhow.

use crate::answer::Answer;
use crate::body::Body;
use preforkd_worker::Exchange;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// One request, as long as it lasts.
#[derive(Debug, Default)]
pub(crate) struct Transaction(Mutex<Option<State>>);

/// The parts of a request.
#[derive(Debug)]
pub(crate) struct State {
    /// The connection.
    pub(crate) exchange: Box<Exchange>,
    /// What the client sends.
    pub(crate) body: Body,
    /// What the application answers.
    pub(crate) answer: Answer,
    /// A read or write failed, and the application has been told by an exception.
    pub(crate) failed: bool,
}

impl Transaction {
    /// A request begins.
    pub(crate) fn begin(&self, exchange: Box<Exchange>, body: Body, answer: Answer) {
        *self.lock() = Some(State {
            exchange,
            body,
            answer,
            failed: false,
        });
    }

    /// Works on the state. `work` must not call Python code, which might come back here.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> PyResult<T> {
        self.try_with(work)?
            .ok_or_else(|| PyValueError::new_err("the request has ended"))
    }

    /// The same, but None if there is no request.
    pub(crate) fn try_with<T>(&self, work: impl FnOnce(&mut State) -> T) -> PyResult<Option<T>> {
        let mut guard = match self.0.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(PyRuntimeError::new_err(
                    "another thread is reading or writing for this request",
                ));
            }
        };
        Ok(guard.as_mut().map(work))
    }

    /// Ends the request: waits until no thread is inside, and takes everything out. None if that was done before.
    pub(crate) fn take(&self, py: Python<'_>) -> Option<State> {
        if let Ok(mut guard) = self.0.try_lock() {
            return guard.take();
        }
        py.detach(|| self.lock().take())
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
