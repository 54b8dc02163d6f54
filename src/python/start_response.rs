//! `start_response` and the `write` that it returns.
//!
//! Whatever is wrong with the arguments raises here, so that the traceback leads to the application's line; nothing of
//! it reaches the wire.

use crate::answer::Trouble;
use crate::head::{Head, Mistake, shown};
use crate::input::exchange_exception;
use crate::transaction::Transaction;
use pyo3::exceptions::{PyAssertionError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use std::borrow::Cow;
use std::sync::Arc;

/// What `start_response` is given, in the words of its errors.
const STATUS: &str = "the status";
const NAME: &str = "the name of a header";
const VALUE: &str = "the value of a header";

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
        if let Some(raised) = exc_info {
            three(raised)?;
        }
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

/// The parts of `exc_info`.
fn three<'py>(exc_info: &Bound<'py, PyAny>) -> PyResult<[Bound<'py, PyAny>; 3]> {
    exc_info
        .extract::<(Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>)>()
        .map(Into::into)
        .map_err(|_| PyTypeError::new_err("exc_info is not a tuple of three"))
}

/// The exception in `exc_info`, with its traceback.
fn raised_before(exc_info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let [_, value, traceback] = three(exc_info)?;
    if value.is_none() {
        return Err(PyTypeError::new_err("exc_info holds no exception"));
    }
    let value = value.call_method1("with_traceback", (traceback,))?;
    Ok(PyErr::from_value(value))
}

fn head(status: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>) -> PyResult<Head> {
    let status = string(status, STATUS)?;
    let headers = headers
        .cast::<PyList>()
        .map_err(|_| PyTypeError::new_err("the headers are not a list of tuples of two strings"))?;
    let mut head = Head::new(&latin1(status, STATUS)?).map_err(value_error)?;
    for pair in headers {
        let pair = pair
            .cast::<PyTuple>()
            .ok()
            .filter(|pair| pair.len() == 2)
            .ok_or_else(|| PyTypeError::new_err("a header is not a tuple of two strings"))?;
        let name = pair.get_borrowed_item(0)?;
        let value = pair.get_borrowed_item(1)?;
        let (name, value) = (string(&name, NAME)?, string(&value, VALUE)?);
        head.header(&latin1(name, NAME)?, &latin1(value, VALUE)?)
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
fn latin1<'a>(string: &'a Bound<'_, PyString>, what: &str) -> PyResult<Cow<'a, [u8]>> {
    match string.to_str() {
        Ok(text) if text.is_ascii() => Ok(Cow::Borrowed(text.as_bytes())),
        // What has no UTF-8, half of a surrogate pair, is no Latin-1 either.
        text => text
            .unwrap_or("\u{fffd}")
            .chars()
            .map(|character| u8::try_from(character).ok())
            .collect::<Option<Vec<u8>>>()
            .map(Cow::Owned)
            .ok_or_else(|| {
                let text = shown(string.to_string_lossy().as_bytes());
                PyValueError::new_err(format!(
                    "{what} has characters that are not Latin-1: {text}"
                ))
            }),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn value_error(mistake: Mistake) -> PyErr {
    PyValueError::new_err(mistake.to_string())
}
