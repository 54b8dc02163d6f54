//! Importing the application, and calling it once or twice so that what it loads late is loaded before it is forked.

use crate::application::{Wsgi, close};
use crate::environ::{Environ, Refusal};
use crate::{failure, stray};
use preforkd_fastcgi::pairs;
use preforkd_worker::message::MoldSettings;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use std::sync::{Arc, Mutex, PoisonError};

/// Imports the application. Whatever it raises comes back.
pub(crate) fn load(py: Python<'_>, settings: &MoldSettings) -> PyResult<Wsgi> {
    let module = py.import(settings.module.as_str());
    let mut object = stray::sort_out(py, module)?.into_any();
    for name in settings.callable.split('.') {
        object = object.getattr(name)?;
    }
    if !object.is_callable() {
        return Err(PyTypeError::new_err(format!(
            "{}:{} is {}, which cannot be called",
            settings.module,
            settings.callable,
            object.get_type().name()?
        )));
    }
    Wsgi::new(object, settings)
}

/// Requests each path once. What goes wrong is logged: a page that fails now may succeed later.
pub(crate) fn warm_up(py: Python<'_>, application: &mut Wsgi, paths: &[String]) {
    let (callable, environ) = application.parts();
    for path in paths {
        if let Err(raised) = request(callable.bind(py), environ, path) {
            failure::say(&format!("the request for {path} to warm up failed:"));
            failure::traceback(py, &raised);
        }
    }
}

fn request(callable: &Bound<'_, PyAny>, environ: &mut Environ, path: &str) -> PyResult<()> {
    let py = callable.py();
    let environ = match environ.build(py, &params(path)) {
        Ok(request) => request.environ,
        Err(Refusal::Python(raised)) => return Err(raised),
        Err(Refusal::Nul | Refusal::Outside) => {
            return Err(PyRuntimeError::new_err("no request can have this path"));
        }
    };
    let empty = py.import("io")?.getattr("BytesIO")?.call0()?;
    environ.set_item(intern!(py, "wsgi.input"), empty)?;
    let status = Arc::new(Mutex::new(String::new()));
    let start_response = start_response(py, Arc::clone(&status))?;
    let returned = stray::sort_out(py, callable.call1((environ, start_response)))?;
    let iterated: PyResult<()> = stray::sort_out(py, returned.try_iter())
        .and_then(|mut blocks| blocks.try_for_each(|block| stray::sort_out(py, block).map(drop)));
    let closed = close(&returned);
    iterated.and(closed)?;
    let status = status.lock().unwrap_or_else(PoisonError::into_inner);
    if !status.starts_with(['2', '3']) {
        failure::say(&format!(
            "the request for {path} to warm up was answered {}",
            if status.is_empty() {
                "without a status"
            } else {
                &status
            }
        ));
    }
    Ok(())
}

/// The parameters of a request from this machine, the path decoded as web servers do.
fn params(path: &str) -> Vec<u8> {
    let (path_info, query) = path.split_once('?').unwrap_or((path, ""));
    let mut params = Vec::new();
    pairs::encode(&mut params, b"PATH_INFO", &decoded(path_info));
    for (name, value) in [
        ("REQUEST_METHOD", "GET"),
        ("SCRIPT_NAME", ""),
        ("QUERY_STRING", query),
        ("REQUEST_URI", path),
        ("SERVER_NAME", "localhost"),
        ("SERVER_PORT", "80"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("HTTP_HOST", "localhost"),
    ] {
        pairs::encode(&mut params, name.as_bytes(), value.as_bytes());
    }
    params
}

/// A path with each `%` and two hexadecimal digits replaced by the byte that they stand for.
fn decoded(path: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        let byte = match (digit(0), digit(1)) {
            (Some(high), Some(low)) if *first == b'%' => u8::try_from(16 * high + low).ok(),
            _ => None,
        };
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    bytes
}

/// A `start_response` that takes anything, notes the status, and answers nobody.
fn start_response(py: Python<'_>, to: Arc<Mutex<String>>) -> PyResult<Bound<'_, PyCFunction>> {
    let write = |_: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {};
    PyCFunction::new_closure(py, None, None, move |arguments, _| {
        let status = arguments.get_item(0)?.to_string();
        *to.lock().unwrap_or_else(PoisonError::into_inner) = status;
        PyCFunction::new_closure(arguments.py(), None, None, write).map(Bound::unbind)
    })
}
