//! From what an application returns to the end of the answer.
//!
//! A list or tuple is there as a whole: its length is known, and it leaves in as few writes as can be. Of any other
//! iterable each block is sent before the next is asked for; and it is not asked for when the client has gone. A wrapped
//! file (`wsgi.file_wrapper`) is sent up to the declared length; that it goes on is no mistake.

use crate::answer::Trouble;
use crate::file_wrapper::FileWrapper;
use crate::start_response::block;
use crate::stray;
use crate::transaction::{State, Transaction};
use preforkd_worker::exchange;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

/// Why there is no complete answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The application raised, or returned what makes no sense.
    Raised(PyErr),
    /// The answer cannot go on.
    Trouble(Trouble),
}

impl From<PyErr> for Failure {
    fn from(raised: PyErr) -> Self {
        Self::Raised(raised)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

/// Sends the whole body and ends the answer.
pub(crate) fn respond(
    transaction: &Transaction,
    returned: &Bound<'_, PyAny>,
) -> Result<(), Failure> {
    if let Ok(list) = returned.cast_exact::<PyList>() {
        whole(transaction, || list.iter())?;
    } else if let Ok(tuple) = returned.cast_exact::<PyTuple>() {
        whole(transaction, || tuple.iter())?;
    } else if let Ok(wrapper) = returned.cast_exact::<FileWrapper>() {
        file(transaction, wrapper)?;
    } else {
        let is_one_text =
            returned.is_instance_of::<PyBytes>() || returned.is_instance_of::<PyString>();
        if is_one_text || returned.is_none() {
            return Err(PyTypeError::new_err(format!(
                "the application returned {} instead of an iterable of bytes",
                returned.get_type().name()?
            ))
            .into());
        }
        stream(transaction, returned)?;
    }
    transaction.with(|state| state.answer.finish(&mut state.exchange))??;
    Ok(())
}

fn whole<'py, Blocks>(transaction: &Transaction, blocks: impl Fn() -> Blocks) -> Result<(), Failure>
where
    Blocks: Iterator<Item = Bound<'py, PyAny>>,
{
    let mut length = 0;
    for item in blocks() {
        length += block(&item)?.len() as u64;
    }
    transaction.with(|state| state.answer.know_length(length))??;
    for item in blocks() {
        let block = block(&item)?;
        transaction.with(|state| state.answer.add(&mut state.exchange, block))??;
    }
    Ok(())
}

fn stream(transaction: &Transaction, returned: &Bound<'_, PyAny>) -> Result<(), Failure> {
    let py = returned.py();
    for item in stray::sort_out(py, returned.try_iter())? {
        let item = stray::sort_out(py, item)?;
        let block = block(&item)?;
        transaction.with(|state| send(state, block))??;
    }
    Ok(())
}

fn file(transaction: &Transaction, wrapper: &Bound<'_, FileWrapper>) -> Result<(), Failure> {
    let py = wrapper.py();
    if let Some(rest) = wrapper.get().rest(py) {
        transaction.with(|state| {
            state.answer.know_length(rest.length)?;
            state
                .answer
                .add_file(&mut state.exchange, &rest.file, rest.offset, rest.length)
        })??;
        return Ok(());
    }
    while let room @ 1.. = transaction.with(|state| state.answer.room())?
        && let Some(item) = stray::sort_out(py, wrapper.get().__next__(py))?
    {
        let block = block(&item)?;
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        transaction.with(|state| send(state, &block[..block.len().min(room)]))??;
    }
    Ok(())
}

fn send(state: &mut State, block: &[u8]) -> Result<(), Trouble> {
    // An empty block before the first of the body sends nothing, not even the head.
    if !block.is_empty() || state.answer.is_sent() {
        state.answer.add(&mut state.exchange, block)?;
        state.answer.flush(&mut state.exchange)?;
    }
    // Many web servers close the connection when they have the announced length.
    if !state.exchange.is_ended() && state.exchange.is_peer_gone() {
        return Err(exchange::Error::Gone.into());
    }
    Ok(())
}
