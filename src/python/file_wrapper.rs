//! `wsgi.file_wrapper`: a file as the body of an answer.
//!
//! The kernel sends what is an ordinary file, opened by Python's own `open` or the like: there, `read` gives nothing but
//! the file's bytes. Everything else that has a `read` is read: whatever has a `fileno` besides may decompress or decrypt
//! the bytes of that file, or be a pipe.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCFunction, PyType};
use std::fs::File;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;

/// Bytes that are read from a file at once. The application's own idea of a good size is taken only if it is larger:
/// most say 8 KiB, which costs many reads.
const BLOCK: usize = 64 * 1024;

/// An iterable over the blocks of a file.
#[pyclass(frozen, module = "preforkd", name = "FileWrapper")]
pub(crate) struct FileWrapper {
    file: Py<PyAny>,
    size: usize,
}

/// What there is of an ordinary file from its position on.
#[derive(Debug)]
pub(crate) struct Rest {
    /// A descriptor of its own, so that it does not matter who closes the file meanwhile.
    pub(crate) file: File,
    /// The position.
    pub(crate) offset: u64,
    /// Bytes from there to the end.
    pub(crate) length: u64,
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

    /// The next block; None at the end.
    pub(crate) fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let block = self
            .file
            .bind(py)
            .call_method1(intern!(py, "read"), (self.size,))?;
        let at_end = block
            .cast::<PyBytes>()
            .is_ok_and(|block| block.as_bytes().is_empty());
        Ok((!at_end).then_some(block))
    }

    /// Whether the file can be read from anywhere: Werkzeug asks, and for a part of a file reads all that is before it if
    /// not.
    fn seekable(&self, py: Python<'_>) -> PyResult<bool> {
        match self.file.bind(py).getattr_opt(intern!(py, "seekable"))? {
            Some(seekable) => seekable.call0()?.is_truthy(),
            None => Ok(false),
        }
    }

    fn seek<'py>(
        &self,
        py: Python<'py>,
        offset: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let file = self.file.bind(py);
        file.call_method1(intern!(py, "seek"), (offset,))
    }

    fn tell<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.file.bind(py).call_method0(intern!(py, "tell"))
    }

    /// Closes the file, if it can be closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(close) = self.file.bind(py).getattr_opt(intern!(py, "close"))? {
            close.call0()?;
        }
        Ok(())
    }
}

impl FileWrapper {
    /// What the kernel can send of the file; None if it has to be read. Whatever is wrong with the file shows then.
    pub(crate) fn rest(&self, py: Python<'_>) -> Option<Rest> {
        let file = plain_file(self.file.bind(py)).ok().flatten()?;
        let offset = file.call_method0(intern!(py, "tell")).ok()?;
        let number: RawFd = file
            .call_method0(intern!(py, "fileno"))
            .ok()?
            .extract()
            .ok()?;
        if number < 0 {
            return None;
        }
        // SAFETY: `file` has it open; to close it takes the interpreter's lock.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        let file = File::from(borrowed.try_clone_to_owned().ok()?);
        let metadata = file.metadata().ok()?;
        let offset = offset.extract().ok()?;
        let length = metadata.len().checked_sub(offset)?;
        // What the kernel makes up when it is read, as in /proc and /sys, has no room on a disk, and a size that says
        // nothing.
        (metadata.is_file() && metadata.blocks() > 0).then_some(Rest {
            file,
            offset,
            length,
        })
    }
}

/// The file of Python's own whose method `read` is that of `like`.
fn plain_file<'py>(like: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = like.py();
    let read = like.getattr(intern!(py, "read"))?;
    let is_builtin = read.is_instance_of::<PyCFunction>();
    if !is_builtin || !read.getattr(intern!(py, "__name__"))?.eq("read")? {
        return Ok(None);
    }
    let file = read.getattr(intern!(py, "__self__"))?;
    let io = py.import(intern!(py, "io"))?;
    let is = |file: &Bound<'py, PyAny>, name| {
        let kind = io.getattr(name)?.cast_into::<PyType>()?;
        PyResult::Ok(file.get_type().is(&kind))
    };
    let raw =
        if is(&file, intern!(py, "BufferedReader"))? || is(&file, intern!(py, "BufferedRandom"))? {
            file.getattr(intern!(py, "raw"))?
        } else {
            file.clone()
        };
    let is_readable = || raw.call_method0(intern!(py, "readable"))?.is_truthy();
    Ok((is(&raw, intern!(py, "FileIO"))? && is_readable()?).then_some(file))
}
