//! `wsgi.input`: a binary file that can be read once, from the beginning to the end.

use crate::body::Error;
use crate::transaction::{State, Transaction};
use preforkd_worker::exchange;
use pyo3::exceptions::{PyConnectionResetError, PyOSError, PyTimeoutError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PySlice};
use std::sync::Arc;

/// The object.
#[pyclass(frozen, module = "preforkd")]
pub(crate) struct Input(pub(crate) Arc<Transaction>);

#[pymethods]
impl Input {
    /// Reads so many bytes, or all that are left.
    #[pyo3(signature = (size = None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let size = limit(size);
        let data = self.work(|state| state.body.read(&mut state.exchange, size))?;
        Ok(PyBytes::new(py, &data))
    }

    /// Reads a line with its end, or so many bytes of it.
    #[pyo3(signature = (size = None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let line = self.line(limit(size))?;
        Ok(PyBytes::new(py, &line))
    }

    /// Reads lines until they have so many bytes together, or all that are left.
    #[pyo3(signature = (hint = None, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<isize>) -> PyResult<Bound<'py, PyList>> {
        let enough = limit(hint).filter(|&hint| hint > 0).unwrap_or(usize::MAX);
        let lines = PyList::empty(py);
        let mut total = 0;
        while total < enough {
            let line = self.line(None)?;
            if line.is_empty() {
                break;
            }
            total += line.len();
            lines.append(PyBytes::new(py, &line))?;
        }
        Ok(lines)
    }

    /// Reads into a writable buffer and tells how many bytes.
    #[pyo3(signature = (buffer, /))]
    fn readinto(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let view = PyMemoryView::from(buffer)?.call_method1(intern!(py, "cast"), ("B",))?;
        let room = view.len()?;
        let data = self.work(|state| state.body.read(&mut state.exchange, Some(room)))?;
        let part = PySlice::new(py, 0, data.len().cast_signed(), 1);
        view.set_item(part, PyBytes::new(py, &data))?;
        Ok(data.len())
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.line(None)?;
        Ok((!line.is_empty()).then(|| PyBytes::new(py, &line)))
    }

    /// What `io.BufferedReader` asks before it reads.
    fn readable(&self) -> bool {
        true
    }

    /// As above.
    #[getter]
    fn closed(&self) -> bool {
        false
    }
}

impl Input {
    fn line(&self, size: Option<usize>) -> PyResult<Vec<u8>> {
        self.work(|state| state.body.read_line(&mut state.exchange, size))
    }

    fn work<T>(&self, work: impl FnOnce(&mut State) -> Result<T, Error>) -> PyResult<T> {
        self.0
            .with(|state| work(state).inspect_err(|_| state.failed = true))?
            .map_err(exception)
    }
}

/// None and negative numbers ask for all there is.
fn limit(size: Option<isize>) -> Option<usize> {
    size.and_then(|size| usize::try_from(size).ok())
}

fn exception(error: Error) -> PyErr {
    match error {
        Error::Short(_) => PyConnectionResetError::new_err(error.to_string()),
        Error::Exchange(error) => exchange_exception(&error),
        Error::Io(_) | Error::TooLarge => PyOSError::new_err(error.to_string()),
    }
}

/// The exception for an exchange that failed.
pub(crate) fn exchange_exception(error: &exchange::Error) -> PyErr {
    let text = error.to_string();
    match error {
        exchange::Error::Gone => PyConnectionResetError::new_err(text),
        exchange::Error::Timeout(_) => PyTimeoutError::new_err(text),
        exchange::Error::Wire(_) | exchange::Error::Io(_) => PyOSError::new_err(text),
    }
}
