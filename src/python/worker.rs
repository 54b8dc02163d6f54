//! A worker from its fork to its end.
//!
//! It has inherited the mold's memory and descriptors. Those of the mold's own it lets go; those that the application
//! opened when it was imported it keeps.

use crate::api::{self, Place};
use crate::application::Wsgi;
use crate::{django, failure, loading, stray};
use nix::libc;
use nix::unistd::{dup2_stderr, dup2_stdout, setsid};
use preforkd_sys::fork::{EX_SOFTWARE, exit_now};
use preforkd_sys::scoreboard::Reporter;
use preforkd_sys::{signals, title};
use preforkd_worker::message::FromWorker;
use preforkd_worker::mold::{Birth, Inheritance};
use preforkd_worker::run::{Equipment, run};
use pyo3::prelude::*;
use std::convert::Infallible;
use std::time::Duration;

/// How long the application's threads and exit functions may take when their worker leaves.
const FAREWELL: Duration = Duration::from_secs(10);

/// The life of a worker, in the process forked for it; without an application it imports that itself.
pub(crate) fn live(
    py: Python<'_>,
    birth: Birth,
    inheritance: Inheritance,
    application: Option<Wsgi>,
) -> Infallible {
    let status = match serve(py, birth, inheritance, application) {
        Ok(()) => 0,
        Err(Failed::Application(raised)) => {
            failure::traceback(py, &raised);
            1
        }
        Err(Failed::System(error)) => {
            failure::say(&format!("the worker cannot go on: {error}"));
            EX_SOFTWARE
        }
    };
    leave(py, status)
}

enum Failed {
    Application(PyErr),
    System(std::io::Error),
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::System(error)
    }
}

impl From<nix::Error> for Failed {
    fn from(error: nix::Error) -> Self {
        Self::System(error.into())
    }
}

fn serve(
    py: Python<'_>,
    birth: Birth,
    inheritance: Inheritance,
    application: Option<Wsgi>,
) -> Result<(), Failed> {
    let Birth {
        slot,
        control,
        stdout,
        stderr,
    } = birth;
    let Inheritance {
        listener,
        parking,
        board,
        logs,
        settings,
    } = inheritance;
    dup2_stdout(&stdout)?;
    dup2_stderr(&stderr)?;
    drop((stdout, stderr));
    signals::ignore_sigpipe();
    control.send(&FromWorker::Hello.encode(), &[])?;
    title::set(&format!("preforkd: pool {}", settings.worker.pool));
    // So that an application that kills its own group hits no other worker. Fails only for the leader of a group, which
    // a process that was just forked is not.
    let _ = setsid();
    stray::is_worker();
    api::is_worker(Place {
        pool: settings.worker.pool.clone(),
        slot,
        generation: settings.generation,
    });
    let reporter = Reporter::new(board, slot, settings.generation)?;
    enliven(py).map_err(Failed::Application)?;
    let mut application = match application {
        Some(application) => application,
        None => {
            let loaded = loading::load(py, &settings).map_err(Failed::Application)?;
            if settings.worker.capacity > 1
                && let Some(text) = django::advice(py)
            {
                control.send(&FromWorker::Advice { text }.encode(), &[])?;
            }
            loaded
        }
    };
    let equipment = Equipment {
        control,
        listener,
        parking,
        reporter,
        settings: settings.worker,
        logs,
    };
    py.detach(|| run(equipment, &mut application))?;
    Ok(())
}

/// Turns the interpreter of a mold into that of a worker.
fn enliven(py: Python<'_>) -> PyResult<()> {
    py.import("gc")?.call_method0("enable")?;
    // The fork has put all dispositions back to their defaults. Python does not know that, and ignored these two.
    let signal = py.import("signal")?;
    for number in [libc::SIGPIPE, libc::SIGXFSZ] {
        signal.call_method1("signal", (number, signal.getattr("SIG_IGN")?))?;
    }
    Ok(())
}

/// Ends the process as Python would, without taking the interpreter apart, but waits for the application no longer than
/// [`FAREWELL`]. Who has failed does not wait for threads: the master does not know yet that it is to be replaced.
fn leave(py: Python<'_>, status: i32) -> Infallible {
    lose_patience(status);
    if status == 0
        && let Err(raised) = join_threads(py)
    {
        failure::traceback(py, &raised);
    }
    if let Err(raised) = py
        .import("atexit")
        .and_then(|atexit| atexit.call_method0("_run_exitfuncs"))
    {
        failure::traceback(py, &raised);
    }
    failure::flush(py);
    exit_now(status)
}

/// Waits for the threads that Python waits for, which are those that are not daemons.
fn join_threads(py: Python<'_>) -> PyResult<()> {
    let modules = py.import("sys")?.getattr("modules")?;
    if modules.contains("threading")? {
        modules.get_item("threading")?.call_method0("_shutdown")?;
    }
    Ok(())
}

/// Ends the process when it has not left after [`FAREWELL`]: its slot is taken until then.
fn lose_patience(status: i32) {
    let patience = std::thread::Builder::new().name("patience".into());
    // Without it the master's deadlines, where it has any, are what is left.
    let _ = patience.spawn(move || {
        signals::block_in_this_thread();
        std::thread::sleep(FAREWELL);
        failure::say(&format!(
            "threads or exit functions of the application have not ended in {} seconds; leaving without them",
            FAREWELL.as_secs()
        ));
        exit_now(status)
    });
}
