//! preforkd inside a Python interpreter: the mold, its workers, and WSGI (PEP 3333).
//!
//! The master starts the pool's own interpreter with [`preforkd_worker::message::BOOTSTRAP`], which loads this module
//! and calls `preforkd.mold`. That imports the application once and from then on forks workers when it is told to. A
//! worker is the loop of `preforkd_worker` with the application behind it; the interpreter's lock is held only while the
//! application runs.
//!
//! The objects that an application gets (`start_response`, `wsgi.input`) share one [`transaction`], which the request
//! takes back from them when it ends: whatever the application keeps of them can do nothing to later requests.
//!
//! # Layout
//! * [`api`]: what the application can call
//! * [`mold`]: the process that imports the application and forks
//! * [`loading`]: importing, warming up
//! * [`connections`]: what the import left open
//! * [`django`]: what only Django has
//! * [`worker`]: what a forked process does until it leaves
//! * [`application`]: one request from its parameters to its end
//! * [`environ`], [`mount`]: the dictionary that the application gets
//! * [`transaction`], [`handles`]: what the objects of one request share, and those objects
//! * [`input`], [`body`]: the request's body
//! * [`start_response`], [`head`]: the beginning of the answer
//! * [`respond`], [`answer`]: the rest of it
//! * [`file_wrapper`]: what an application may wrap a file in
//! * [`stray`]: children of the application that must not become workers
//! * [`stack`], [`dump`]: where the application is, for the slow log
//! * [`failure`]: what the log and the client get when something goes wrong

mod answer;
mod api;
mod application;
mod body;
mod connections;
mod django;
mod dump;
mod environ;
mod failure;
mod file_wrapper;
mod handles;
mod head;
mod input;
mod loading;
mod mold;
mod mount;
mod respond;
mod stack;
mod start_response;
mod stray;
mod transaction;
mod worker;

/// What preforkd does for the application that it hosts.
#[pyo3::pymodule]
mod preforkd {
    #[pymodule_export]
    use crate::api::{finish_response, worker};
    /// For who has loaded the module, and takes it away.
    #[pymodule_export]
    use crate::mold::mold;
}
