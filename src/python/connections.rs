//! Connections that the import left open.
//!
//! A worker inherits them, and so do all the others: two that speak on one connection to a database hear each other's
//! answers. A database of SQLite's is broken by it.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// What a database of SQLite's begins with.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// What to tell of the connections of this process, if there are any.
pub(crate) fn advice(py: Python<'_>) -> Option<String> {
    // A process that cannot look at its descriptors has nothing to tell.
    let peers = peers(py).unwrap_or_default();
    (!peers.is_empty()).then(|| {
        format!(
            "the import left {} connection(s) open, which all workers share: {}; open them when they are first needed, \
             close them in os.register_at_fork(before=...), or set wsgi.preload = no",
            peers.len(),
            peers.join(", ")
        )
    })
}

/// Whom this process is connected to by streams that have an address, and the databases that it has open as files.
///
/// Pairs of sockets have no address, and stay within this process; a datagram is whole whoever sends it.
fn peers(py: Python<'_>) -> PyResult<Vec<String>> {
    let mut peers = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        let target = target.to_string_lossy();
        let Ok(fd) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        if target.starts_with("socket:") {
            // Not connected, most likely.
            peers.extend(peer(py, fd).unwrap_or_default());
        } else if target.starts_with('/') && is_sqlite(py, fd).unwrap_or_default() {
            peers.push(target.into_owned());
        }
    }
    Ok(peers)
}

/// Whether the file is a database of SQLite's. It is not opened anew: closing that would take away the locks.
fn is_sqlite(py: Python<'_>, fd: i32) -> PyResult<bool> {
    let begin = py
        .import("os")?
        .call_method1("pread", (fd, SQLITE.len(), 0))?;
    Ok(begin.extract::<&[u8]>()? == SQLITE)
}

/// The address at the other end of a stream; an error for a socket that is not connected.
fn peer(py: Python<'_>, fd: i32) -> PyResult<Option<String>> {
    let module = py.import("socket")?;
    let copy = py.import("os")?.call_method1("dup", (fd,))?;
    let arguments = PyDict::new(py);
    arguments.set_item("fileno", copy)?;
    // Finds out the family and the type by itself.
    let socket = module.getattr("socket")?.call((), Some(&arguments))?;
    let is_stream = socket.getattr("type")?.eq(module.getattr("SOCK_STREAM")?)?;
    let name = socket.call_method0("getpeername");
    socket.call_method0("close")?;
    let name = name?;
    Ok(if !is_stream || !name.is_truthy()? {
        None
    } else if let Ok(internet) = name.cast::<PyTuple>() {
        Some(format!(
            "{}:{}",
            internet.get_item(0)?,
            internet.get_item(1)?
        ))
    } else {
        Some(name.to_string())
    })
}
