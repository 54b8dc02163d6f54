//! `wsgi.file_wrapper`: a file as the body of an answer.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Bytes that are read from a file at once. The application's own idea of a good size is taken only if it is larger:
/// most say 8 KiB, which costs many reads.
const BLOCK: usize = 64 * 1024;

/// An iterable over the blocks of a file.
#[pyclass(frozen, module = "preforkd", name = "FileWrapper")]
pub(crate) struct FileWrapper {
    file: Py<PyAny>,
    size: usize,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, blksize = 8192))]
    fn new(filelike: Py<PyAny>, blksize: usize) -> Self {
        Self {
            file: filelike,
            size: blksize.max(BLOCK),
        }
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let block = self
            .file
            .bind(py)
            .call_method1(intern!(py, "read"), (self.size,))?;
        let at_end = block
            .cast::<PyBytes>()
            .is_ok_and(|block| block.as_bytes().is_empty());
        Ok((!at_end).then_some(block))
    }

    /// Closes the file, if it can be closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(close) = self.file.bind(py).getattr_opt(intern!(py, "close"))? {
            close.call0()?;
        }
        Ok(())
    }
}
