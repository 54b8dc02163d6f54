//! Connections that the import left open.
//!
//! A worker inherits them, and so do all the others: two that speak on one connection to a database hear each other's
//! answers.

use crate::failure;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// Writes a line to the log about the connections of this process, if there are any.
pub(crate) fn report(py: Python<'_>) {
    // A process that cannot look at its descriptors has nothing to tell.
    let peers = peers(py).unwrap_or_default();
    if !peers.is_empty() {
        failure::say(&format!(
            "the import left {} connection(s) open, which all workers share: {}; \
             close them in os.register_at_fork(before=...), or set wsgi.preload = no",
            peers.len(),
            peers.join(", ")
        ));
    }
}

/// Whom this process is connected to by streams that have an address.
///
/// Pairs of sockets have none, and stay within this process; a datagram is whole whoever sends it.
fn peers(py: Python<'_>) -> PyResult<Vec<String>> {
    let mut peers = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        let number = entry.file_name().to_string_lossy().parse::<i32>();
        if let Ok(fd) = number
            && target.to_string_lossy().starts_with("socket:")
        {
            // Not connected, most likely.
            peers.extend(peer(py, fd).unwrap_or_default());
        }
    }
    Ok(peers)
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
