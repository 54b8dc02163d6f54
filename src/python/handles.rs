//! The Python objects through which an application reaches its request: `wsgi.input` and `start_response`.
//!
//! Most applications keep none of them beyond the request, so the next one gets the same objects: making and freeing
//! them costs as much as copying the environment. If any is still held somewhere it stays with the request that it
//! belongs to, which has ended, and the next request gets new ones.

use crate::api;
use crate::input::Input;
use crate::start_response::Responder;
use crate::transaction::Transaction;
use pyo3::prelude::*;
use pyo3::{ffi, intern};
use std::sync::Arc;

/// One set of them.
#[derive(Debug)]
pub(crate) struct Handles {
    /// What they all work on.
    pub(crate) transaction: Arc<Transaction>,
    /// `wsgi.input`.
    pub(crate) input: Py<Input>,
    /// `start_response`.
    pub(crate) start_response: Py<PyAny>,
    responder: Py<Responder>,
}

impl Handles {
    /// New ones, of no request.
    pub(crate) fn new(py: Python<'_>) -> PyResult<Self> {
        let transaction = Arc::new(Transaction::default());
        api::answers_through(&transaction);
        let input = Py::new(py, Input(Arc::clone(&transaction)))?;
        let responder = Bound::new(py, Responder::new(py, Arc::clone(&transaction))?)?;
        Ok(Self {
            transaction,
            input,
            start_response: responder.getattr(intern!(py, "start_response"))?.unbind(),
            responder: responder.unbind(),
        })
    }

    /// Whether nobody else holds one of those that an application is given, or can get at through them.
    pub(crate) fn are_free(&self) -> bool {
        let responder = self.responder.get();
        [
            (self.input.as_ptr(), 1),
            (self.start_response.as_ptr(), 1),
            (responder.write().as_ptr(), 1),
            // A method holds the object that it is of.
            (self.responder.as_ptr(), 2),
            (responder.writer().as_ptr(), 2),
        ]
        .into_iter()
        .all(|(object, holders)| {
            // SAFETY: `self` holds a reference to each of them. Where an interpreter keeps flags beside the count, the
            // number is larger, and the object counts as held.
            unsafe { ffi::Py_REFCNT(object) == holders }
        })
    }
}
