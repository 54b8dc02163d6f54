//! `wsgi.input`: a binary file that can be read once, from the beginning to the end.

use crate::body::{Error, STEP};
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
        let mut left = limit(size).unwrap_or(usize::MAX);
        let mut piece = self.piece(left)?;
        if piece.len() == left || piece.len() < STEP {
            return Ok(PyBytes::new(py, &piece));
        }
        // Grows without moving what it has, and gives it away without a copy, so that a large body is there but once.
        let whole = py.import("io")?.getattr("BytesIO")?.call0()?;
        while !piece.is_empty() {
            whole.call_method1(intern!(py, "write"), (PyBytes::new(py, &piece),))?;
            left -= piece.len();
            piece = self.piece(left)?;
        }
        Ok(whole.call_method0("getvalue")?.cast_into()?)
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
        let mut filled = 0;
        loop {
            let piece = self.piece(room - filled)?;
            if piece.is_empty() {
                return Ok(filled);
            }
            let end = filled + piece.len();
            let part = PySlice::new(py, filled.cast_signed(), end.cast_signed(), 1);
            view.set_item(part, PyBytes::new(py, &piece))?;
            filled = end;
        }
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
    /// The next bytes, at most `size` and [`STEP`] of them; none at the end.
    fn piece(&self, size: usize) -> PyResult<Vec<u8>> {
        self.work(|state| state.body.read(&mut state.exchange, size))
    }

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
        exchange::Error::Gone | exchange::Error::Unreachable(_) => {
            PyConnectionResetError::new_err(text)
        }
        exchange::Error::Timeout(_) => PyTimeoutError::new_err(text),
        exchange::Error::Wire(_) | exchange::Error::Io(_) | exchange::Error::File(_) => {
            PyOSError::new_err(text)
        }
    }
}
