//! One request, from its parameters to its end.
//!
//! Whatever the application does, the exchange comes back, `close` has been called once on what the application
//! returned, and the worker can go on. After the beginning of an answer is on its way an error can only be shown by
//! closing the connection without a clean end, so that no web server takes the rest for a whole page.
//!
//! A wait for the client within `wsgi.input` or `write` is not cut short by a signal: a handler in Python runs when the
//! wait is over, which the exchange's deadlines bound, and what it raises comes out of the application's own code.

use crate::answer::{Answer, Trouble};
use crate::body::{self, Body};
use crate::environ::{Environ, Refusal, Request};
use crate::failure;
use crate::file_wrapper::FileWrapper;
use crate::handles::Handles;
use crate::respond::{Failure, respond};
use crate::stack::Stack;
use crate::stray;
use crate::transaction::State;
use preforkd_worker::message::MoldSettings;
use preforkd_worker::trace::Tracer;
use preforkd_worker::{Application, Blocking, Exchange, exchange};
use pyo3::exceptions::{PyConnectionError, PyTimeoutError};
use pyo3::types::{PyDict, PyList, PyTuple};
use pyo3::{ffi, intern, prelude::*};

/// A Python application in a worker.
#[derive(Debug)]
pub(crate) struct Wsgi {
    callable: Py<PyAny>,
    environ: Environ,
    /// Those of the last request.
    handles: Option<Handles>,
}

impl Wsgi {
    /// Hosts `callable`.
    pub(crate) fn new(callable: Bound<'_, PyAny>, settings: &MoldSettings) -> PyResult<Self> {
        let py = callable.py();
        let constants = PyDict::new(py);
        constants.set_item(intern!(py, "wsgi.version"), (1, 0))?;
        constants.set_item(
            intern!(py, "wsgi.errors"),
            py.import("sys")?.getattr("stderr")?,
        )?;
        constants.set_item(intern!(py, "wsgi.multithread"), false)?;
        constants.set_item(
            intern!(py, "wsgi.multiprocess"),
            settings.worker.capacity > 1,
        )?;
        constants.set_item(intern!(py, "wsgi.run_once"), false)?;
        constants.set_item(intern!(py, "wsgi.input_terminated"), true)?;
        constants.set_item(
            intern!(py, "wsgi.file_wrapper"),
            py.get_type::<FileWrapper>(),
        )?;
        Ok(Self {
            environ: Environ::new(&constants, settings.mount.clone())?,
            callable: callable.unbind(),
            handles: None,
        })
    }

    /// The parts that warming up needs.
    pub(crate) fn parts(&mut self) -> (&Py<PyAny>, &mut Environ) {
        (&self.callable, &mut self.environ)
    }

    fn answer(&mut self, py: Python<'_>, mut exchange: Box<Exchange>) -> Box<Exchange> {
        let (request, body) = match self.prepare(py, &mut exchange) {
            Ok(prepared) => prepared,
            Err(unanswered) => {
                if unanswered.is_err() {
                    exchange.abort();
                }
                return exchange;
            }
        };
        let handles = match self.handles.take().filter(Handles::are_free) {
            Some(handles) => handles,
            None => match Handles::new(py) {
                Ok(handles) => handles,
                Err(raised) => {
                    if internal_error(py, &mut exchange, &raised).is_err() {
                        exchange.abort();
                    }
                    return exchange;
                }
            },
        };
        let handles = self.handles.insert(handles);
        let transaction = &handles.transaction;
        transaction.begin(exchange, body, Answer::new(request.is_head));
        let outcome = call(py, &self.callable, &request.environ, handles);
        let Some(mut state) = transaction.take(py) else {
            unreachable!("only this function ends a transaction, once");
        };
        if let Err(failure) = outcome {
            fail(py, &mut state, failure);
        }
        state.exchange
    }

    /// The request as the application gets it. In the error case it is refused already, or cannot even be.
    fn prepare<'py>(
        &mut self,
        py: Python<'py>,
        exchange: &mut Exchange,
    ) -> Result<(Request<'py>, Body), exchange::Result<()>> {
        let request = self.environ.build(py, exchange.params().as_bytes());
        let request = request.map_err(|refusal| match refusal {
            Refusal::Nul => failure::refuse(
                exchange,
                "400 Bad Request",
                "There is a NUL character in the path.",
            ),
            Refusal::Outside => failure::refuse(
                exchange,
                "404 Not Found",
                "The application is not mounted at this path.",
            ),
            Refusal::Python(raised) => internal_error(py, exchange, &raised),
        })?;
        let body = match request.content_length {
            Some(length) => Body::announced(length),
            None => {
                let body = Body::measured(exchange).map_err(|error| unreadable(exchange, error))?;
                if body.length() > 0 {
                    let length = body.length().to_string();
                    request
                        .environ
                        .set_item(intern!(py, "CONTENT_LENGTH"), length)
                        .map_err(|raised| internal_error(py, exchange, &raised))?;
                }
                body
            }
        };
        Ok((request, body))
    }
}

impl Application for Wsgi {
    fn serve(&mut self, exchange: Box<Exchange>) -> Box<Exchange> {
        Python::attach(|py| self.answer(py, exchange))
    }

    fn tracer(&self) -> Box<dyn Tracer> {
        Python::attach(|py| Box::new(Stack::of_this_thread(py)))
    }

    fn blocking(&self) -> Blocking {
        |wait| {
            let _detached = Detached::new();
            wait();
        }
    }
}

/// The interpreter's lock is let go while this lives. [`Python::detach`] does the same, but only for closures that may
/// change threads.
struct Detached(*mut ffi::PyThreadState);

impl Detached {
    fn new() -> Self {
        // SAFETY: an exchange waits like this only between `set_blocking` and the end of `serve`, on a thread that
        // holds the lock: the worker's own within `serve`, or one that runs Python code which called into an object of
        // the request. The waits themselves, `poll`s and what reads and sends files, touch no Python object.
        Self(unsafe { ffi::PyEval_SaveThread() })
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        // SAFETY: the state that `PyEval_SaveThread` gave on this same thread.
        unsafe { ffi::PyEval_RestoreThread(self.0) };
    }
}

/// Ends a request that has no complete answer.
fn fail(py: Python<'_>, state: &mut State, failure: Failure) {
    let exchange = &mut state.exchange;
    match failure {
        Failure::Raised(raised) => {
            let is_of_the_connection = state.failed
                && (raised.is_instance_of::<PyConnectionError>(py)
                    || raised.is_instance_of::<PyTimeoutError>(py));
            if !is_of_the_connection {
                let summary = failure::summary(py, &raised);
                failure::log(exchange, &format!("the application raised {summary}"));
                failure::traceback(py, &raised);
                if !state.answer.is_sent() && internal_error_page(exchange).is_ok() {
                    return;
                }
            }
        }
        Failure::Trouble(Trouble::Exchange(error))
            if !matches!(error, exchange::Error::File(_)) => {}
        Failure::Trouble(mistake) => {
            failure::log(exchange, &mistake.to_string());
            if !state.answer.is_sent() && internal_error_page(exchange).is_ok() {
                return;
            }
        }
    }
    if !exchange.is_ended() {
        exchange.abort();
    }
}

/// Calls the application, sends what it returns, and closes that.
fn call(
    py: Python<'_>,
    callable: &Py<PyAny>,
    environ: &Bound<'_, PyDict>,
    handles: &Handles,
) -> Result<(), Failure> {
    let transaction = &handles.transaction;
    environ.set_item(intern!(py, "wsgi.input"), &handles.input)?;
    let returned = callable.bind(py).call1((environ, &handles.start_response));
    let returned = stray::sort_out(py, returned)?;
    let outcome = respond(transaction, &returned);
    if let Err(raised) = close(&returned) {
        // What the exception says may be code of the application's.
        let summary = failure::summary(py, &raised);
        transaction.with(|state| {
            failure::log(
                &state.exchange,
                &format!("closing the answer raised {summary}"),
            );
        })?;
        failure::traceback(py, &raised);
    }
    outcome
}

/// Calls the `close` of what an application returned, if it has one.
pub(crate) fn close(returned: &Bound<'_, PyAny>) -> PyResult<()> {
    if returned.is_exact_instance_of::<PyList>() || returned.is_exact_instance_of::<PyTuple>() {
        return Ok(());
    }
    if let Some(close) = returned.getattr_opt(intern!(returned.py(), "close"))? {
        stray::sort_out(returned.py(), close.call0())?;
    }
    Ok(())
}

/// Answers a request whose body of unknown length could not be read.
fn unreadable(exchange: &mut Exchange, error: body::Error) -> exchange::Result<()> {
    match error {
        body::Error::Exchange(error) => Err(error),
        body::Error::TooLarge => failure::refuse(
            exchange,
            "413 Content Too Large",
            "The body is too large to be taken without its length being announced.",
        ),
        body::Error::Short(_) | body::Error::Io(_) => {
            failure::log(
                exchange,
                &format!("cannot keep the request's body: {error}"),
            );
            internal_error_page(exchange)
        }
    }
}

fn internal_error(py: Python<'_>, exchange: &mut Exchange, raised: &PyErr) -> exchange::Result<()> {
    failure::log(exchange, "the request could not be prepared");
    failure::traceback(py, raised);
    internal_error_page(exchange)
}

fn internal_error_page(exchange: &mut Exchange) -> exchange::Result<()> {
    failure::refuse(
        exchange,
        "500 Internal Server Error",
        "The application failed. Its log says why.",
    )
}
