//! `start_response` and the `write` that it returns.
//!
//! Whatever is wrong with the arguments raises here, so that the traceback leads to the application's line; nothing of
//! it reaches the wire.

use crate::answer::Trouble;
use crate::head::{Head, Mistake};
use crate::input::exchange_exception;
use crate::transaction::Transaction;
use pyo3::exceptions::{PyAssertionError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use std::borrow::Cow;
use std::sync::Arc;

/// The object whose method is `start_response`.
#[pyclass(frozen, module = "preforkd")]
pub(crate) struct Responder {
    transaction: Arc<Transaction>,
    writer: Py<Writer>,
    write: Py<PyAny>,
}

impl Responder {
    /// Of one transaction.
    pub(crate) fn new(py: Python<'_>, transaction: Arc<Transaction>) -> PyResult<Self> {
        let writer = Bound::new(py, Writer(Arc::clone(&transaction)))?;
        let write = writer.getattr(intern!(py, "write"))?.unbind();
        Ok(Self {
            transaction,
            writer: writer.unbind(),
            write,
        })
    }

    /// The object whose method is [`Self::write`], which holds it as well.
    pub(crate) fn writer(&self) -> &Py<Writer> {
        &self.writer
    }

    /// What `start_response` returns.
    pub(crate) fn write(&self) -> &Py<PyAny> {
        &self.write
    }
}

#[pymethods]
impl Responder {
    #[pyo3(signature = (status, headers, exc_info = None, /))]
    fn start_response(
        &self,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        exc_info: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let (has_head, is_sent) = self
            .transaction
            .with(|state| (state.answer.has_head(), state.answer.is_sent()))?;
        match exc_info {
            Some(raised) if is_sent => return Err(raised_before(raised)?),
            None if has_head => {
                return Err(PyAssertionError::new_err(
                    "start_response was called a second time, without exc_info",
                ));
            }
            _ => {}
        }
        let head = head(status, headers)?;
        self.transaction.with(|state| state.answer.set_head(head))?;
        Ok(self.write.clone_ref(status.py()))
    }
}

/// The object whose method is `write`.
#[pyclass(frozen, module = "preforkd")]
pub(crate) struct Writer(Arc<Transaction>);

#[pymethods]
impl Writer {
    #[pyo3(signature = (data, /))]
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = block(data)?;
        let written = self.0.with(|state| {
            let written = state
                .answer
                .add(&mut state.exchange, data)
                .and_then(|()| state.answer.flush(&mut state.exchange));
            state.failed |= matches!(written, Err(Trouble::Exchange(_)));
            written
        })?;
        written.map_err(|trouble| match trouble {
            Trouble::Exchange(error) => exchange_exception(&error),
            mistake => PyValueError::new_err(mistake.to_string()),
        })
    }
}

/// The bytes of one block of a body.
pub(crate) fn block<'a>(data: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    match data.cast::<PyBytes>() {
        Ok(bytes) => Ok(bytes.as_bytes()),
        Err(_) => Err(PyTypeError::new_err(format!(
            "the body of an answer is made of bytes, and not of {}",
            data.get_type().name()?
        ))),
    }
}

/// The exception in `exc_info`, with its traceback.
fn raised_before(exc_info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let (_, value, traceback) = exc_info
        .extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>, Bound<'_, PyAny>)>()
        .map_err(|_| PyTypeError::new_err("exc_info is not a tuple of three"))?;
    if value.is_none() {
        return Err(PyTypeError::new_err("exc_info holds no exception"));
    }
    let value = value.call_method1("with_traceback", (traceback,))?;
    Ok(PyErr::from_value(value))
}

fn head(status: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>) -> PyResult<Head> {
    let status = string(status, "the status")?;
    let headers = headers
        .cast::<PyList>()
        .map_err(|_| PyTypeError::new_err("the headers are not a list of tuples of two strings"))?;
    let mut head = Head::new(&latin1(status)?).map_err(value_error)?;
    for pair in headers {
        let pair = pair
            .cast::<PyTuple>()
            .ok()
            .filter(|pair| pair.len() == 2)
            .ok_or_else(|| PyTypeError::new_err("a header is not a tuple of two strings"))?;
        let name = pair.get_borrowed_item(0)?;
        let value = pair.get_borrowed_item(1)?;
        let (name, value) = (
            string(&name, "the name of a header")?,
            string(&value, "the value of a header")?,
        );
        head.header(&latin1(name)?, &latin1(value)?)
            .map_err(value_error)?;
    }
    Ok(head)
}

fn string<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    what: &str,
) -> PyResult<&'a Bound<'py, PyString>> {
    object.cast::<PyString>().map_err(|_| {
        let kind = object
            .get_type()
            .name()
            .map_or_else(|_| String::new(), |name| name.to_string());
        PyTypeError::new_err(format!("{what} is {kind}, and not str"))
    })
}

/// The bytes of a string that WSGI takes for Latin-1.
fn latin1<'a>(string: &'a Bound<'_, PyString>) -> PyResult<Cow<'a, [u8]>> {
    let text = string.to_str()?;
    if text.is_ascii() {
        return Ok(Cow::Borrowed(text.as_bytes()));
    }
    text.chars()
        .map(|character| u8::try_from(character).ok())
        .collect::<Option<Vec<u8>>>()
        .map(Cow::Owned)
        .ok_or_else(|| {
            PyValueError::new_err(format!("{text:?} has characters that are not Latin-1"))
        })
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn value_error(mistake: Mistake) -> PyErr {
    PyValueError::new_err(mistake.to_string())
}
