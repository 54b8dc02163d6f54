//! The process that imports a pool's application once, and forks the pool's workers from itself.
//!
//! Python's collector of cycles stays off here: it would touch every object, and with it every page that the workers are
//! to share. What there is after the import is frozen, so that the collectors of the workers leave it alone as well.
//!
//! A process with several threads cannot be forked safely. If importing the application started some, the mold executes
//! its interpreter anew, and each worker imports the application by itself.

use crate::application::Wsgi;
use crate::worker::live;
use crate::{connections, django, failure, loading, stray};
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::fchdir;
use preforkd_sys::channel::Channel;
use preforkd_sys::fork::{exit_now, thread_count};
use preforkd_sys::privileges;
use preforkd_sys::{fds, title};
use preforkd_worker::message::{CONTROL_FD, FromMold, MODULE_FD, PROTOCOL};
use preforkd_worker::mold::{Inheritance, Mold, set_up};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{ffi, types::PyDict};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a thread may take to end.
const LINGERING: Duration = Duration::from_millis(100);

/// Does what the master says over descriptor 3, and never returns.
#[pyfunction]
pub(crate) fn mold(py: Python<'_>) -> PyResult<()> {
    let status = match run(py) {
        Ok(()) => 0,
        Err(raised) => {
            failure::traceback(py, &raised);
            1
        }
    };
    failure::flush(py);
    exit_now(status)
}

/// What a mold is started with.
struct Given {
    channel: Channel,
    module: OwnedFd,
    /// The folder it is started in, unless its user may not enter that.
    folder: Option<OwnedFd>,
}

fn run(py: Python<'_>) -> PyResult<()> {
    let gc = py.import("gc")?;
    gc.call_method0("disable")?;
    // SAFETY: the master put the two descriptors there for this module alone; Python does not know of them.
    let (control, module) = unsafe { (fds::inherited(CONTROL_FD)?, fds::inherited(MODULE_FD)?) };
    let given = Given {
        channel: Channel::from_fd(control),
        module,
        folder: open(".", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok(),
    };
    settle(py)?;
    stray::watch(py)?;
    given
        .channel
        .send(&FromMold::Hello { protocol: PROTOCOL }.encode(), &[])?;
    let Some(inheritance) = set_up(&given.channel)? else {
        return Ok(());
    };
    let settings = &inheritance.settings;
    privileges::set_dumpable(settings.dumpable)?;
    title::set(&format!(
        "preforkd: mold {} (gen {})",
        settings.worker.pool, settings.generation
    ));
    let environment = py.import("os")?.getattr("environ")?.call_method0("copy")?;
    extend_path(py, &settings.pythonpath)?;
    let mut application = None;
    if settings.preload {
        let mut loaded = loading::load(py, settings)?;
        loading::warm_up(py, &mut loaded, &settings.warmup);
        // A handler of the application's would not survive the fork, and Python would not know. Nor may the mold ignore
        // what ends it, or the deaths of its children, which it has to wait for.
        default_signals(py)?;
        django::close_connections(py);
        application = Some(loaded);
    }
    if !is_single_threaded(py) {
        return start_over(py, &given, settings.preload, &environment);
    }
    let channel = given.channel;
    drop((given.module, given.folder));
    if settings.worker.capacity > 1
        && let Some(text) = django::advice(py)
    {
        channel.send(&FromMold::Advice { text }.encode(), &[])?;
    }
    gc.call_method0("freeze")?;
    channel.send(&FromMold::Ready.encode(), &[])?;
    serve(py, channel, inheritance, application)
}

/// Makes the interpreter fit for a process that only waits: signals end it, each line printed is written at once, and
/// modules are found wherever the application goes.
fn settle(py: Python<'_>) -> PyResult<()> {
    default_signals(py)?;
    let sys = py.import("sys")?;
    let options = PyDict::new(py);
    options.set_item("line_buffering", true)?;
    for name in ["stdout", "stderr"] {
        // What a `sitecustomize` put there may not have lines.
        let _ = sys
            .getattr(name)
            .and_then(|stream| stream.call_method("reconfigure", (), Some(&options)));
    }
    let path = sys.getattr("path")?;
    // A folder that has been removed has no name, and nothing in it.
    if let Ok(folder) = std::env::current_dir()
        && path.len()? > 0
        && path.get_item(0)?.eq("")?
    {
        path.set_item(0, folder.as_os_str())?;
    }
    Ok(())
}

/// Puts every signal to what a fresh interpreter has: its default, but for two that Python ignores, so that a closed
/// connection and a file at its limit of size are errors.
fn default_signals(py: Python<'_>) -> PyResult<()> {
    let signal = py.import("signal")?;
    let (default, ignore) = (signal.getattr("SIG_DFL")?, signal.getattr("SIG_IGN")?);
    for number in signal.call_method0("valid_signals")?.try_iter()? {
        let number = number?;
        let wanted = match number.extract()? {
            libc::SIGPIPE | libc::SIGXFSZ => &ignore,
            _ => &default,
        };
        let current = signal.call_method1("getsignal", (&number,))?;
        // Python has none for a handler that it knows nothing of.
        if !current.is_none() && !current.eq(wanted)? {
            signal.call_method1("signal", (&number, wanted))?;
        }
    }
    Ok(())
}

fn extend_path(py: Python<'_>, entries: &[String]) -> PyResult<()> {
    let path = py.import("sys")?.getattr("path")?;
    for (at, entry) in entries.iter().enumerate() {
        path.call_method1("insert", (at, entry))?;
    }
    Ok(())
}

/// Forks workers until the master closes the channel.
fn serve(
    py: Python<'_>,
    channel: Channel,
    inheritance: Inheritance,
    application: Option<Wsgi>,
) -> PyResult<()> {
    let mold = Mold::new(channel, inheritance);
    // A worker takes its copy.
    let application = RefCell::new(application);
    let mut looks = true;
    loop {
        let births = mold.orders()?;
        if births.is_empty() {
            return Ok(());
        }
        failure::flush(py);
        // SAFETY: this is the process's only thread, and it holds the interpreter's lock.
        unsafe { ffi::PyOS_BeforeFork() };
        let forked = mold.fork(
            births,
            || {
                // SAFETY: this is the only thread of a process that was just forked; the one between it and the mold
                // has run no Python. The hooks before the fork have been called.
                unsafe { ffi::PyOS_AfterFork_Child() };
            },
            |birth, inheritance| live(py, birth, inheritance, application.take()),
        );
        // SAFETY: as before the fork, whose other side this is.
        unsafe { ffi::PyOS_AfterFork_Parent() };
        // Not before: hooks of the application's may have closed them for the fork.
        if std::mem::take(&mut looks)
            && let Some(text) = connections::advice(py)
        {
            mold.tell(&FromMold::Advice { text })?;
        }
        if let Some(error) = forked.error {
            failure::say(&format!("cannot fork: {error}"));
        }
        for slot in forked.failed {
            mold.tell(&FromMold::SpawnFailed { slot })?;
        }
    }
}

/// Tells the master that there are threads, and executes this interpreter anew, with the environment and in the folder
/// that it began with.
fn start_over(
    py: Python<'_>,
    given: &Given,
    preloaded: bool,
    environment: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let names = threads(py)?.join(", ");
    if !preloaded {
        return Err(PyRuntimeError::new_err(format!(
            "cannot fork: the interpreter starts threads by itself: {names}"
        )));
    }
    given
        .channel
        .send(&FromMold::Threads { names }.encode(), &[])?;
    failure::flush(py);
    if let Some(folder) = &given.folder {
        fchdir(folder).map_err(io::Error::from)?;
    }
    // SAFETY: both numbers are those of the descriptors in `given`, whose owners are neither used nor dropped before
    // the process ends or executes something else.
    unsafe { fds::place(CONTROL_FD, &[given.channel.as_fd(), given.module.as_fd()])? };
    let sys = py.import("sys")?;
    py.import("os")?.call_method1(
        "execve",
        (
            sys.getattr("executable")?,
            sys.getattr("orig_argv")?,
            environment,
        ),
    )?;
    Ok(())
}

/// Whether this is the only thread, once those that are ending have ended: who waits for a thread of Python's is told so
/// a moment before the kernel has taken it away.
fn is_single_threaded(py: Python<'_>) -> bool {
    let deadline = Instant::now() + LINGERING;
    loop {
        let is_single = thread_count() == 1;
        if is_single || Instant::now() > deadline {
            return is_single;
        }
        py.detach(|| sleep(Duration::from_millis(1)));
    }
}

/// The names of the threads besides this one: Python's where Python knows them, else the kernel's.
fn threads(py: Python<'_>) -> PyResult<Vec<String>> {
    let mut known = HashMap::new();
    for thread in py
        .import("threading")?
        .call_method0("enumerate")?
        .try_iter()?
    {
        let thread = thread?;
        let id: Option<u32> = thread.getattr("native_id")?.extract()?;
        known.insert(id, thread.getattr("name")?.extract::<String>()?);
    }
    let mut names = Vec::new();
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?;
        let id = task.file_name().to_string_lossy().parse::<u32>().ok();
        if id == Some(std::process::id()) {
            continue;
        }
        names.push(match known.remove(&id) {
            Some(name) => name,
            // It may have ended.
            None => std::fs::read_to_string(task.path().join("comm"))
                .unwrap_or_default()
                .trim_end()
                .to_owned(),
        });
    }
    Ok(names)
}
