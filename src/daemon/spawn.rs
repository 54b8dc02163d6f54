//! Making processes: workers that the master forks itself, molds, and workers that a mold forks for it.

use crate::config::{Exec, Mount, Pool, Wsgi};
use crate::confine::confine;
use crate::output::Output;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, Uid, pipe2};
use preforkd_sys::channel::{self, Channel};
use preforkd_sys::parking::Parking;
use preforkd_sys::program::{Program, end_with};
use preforkd_sys::scoreboard::{Handle, Reporter};
use preforkd_sys::{fork, handover, title};
use preforkd_worker as worker;
use preforkd_worker::cgi::{Cgi, Target};
use preforkd_worker::hello::Hello;
use preforkd_worker::log_file::LogFiles;
use preforkd_worker::message::{
    BOOTSTRAP, LogSettings, MODULE_FD, MOLD_VARIABLE, MoldSettings, ToMold, WorkerSettings,
};
use preforkd_worker::relay::listener::Listener;
use preforkd_worker::relay::{self, Relay};
use preforkd_worker::run::{Equipment, run};
use preforkd_worker::status::Pages;
use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A process just made, as its maker holds it.
#[derive(Debug)]
pub struct Spawned {
    /// Its process id; None when a mold forks it, until it says hello itself.
    pub pid: Option<Pid>,
    /// The master's end of the channel to it.
    pub control: Channel,
    /// Its standard output and standard error; None when nobody reads them.
    pub output: Option<[Output; 2]>,
}

/// The other ends of a [`Spawned`].
struct Ends {
    control: Channel,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// What the workers of a pool share.
#[derive(Clone, Copy, Debug)]
pub struct Shared<'a> {
    /// The pool's configuration.
    pub pool: &'a Pool,
    /// Its listening socket.
    pub listener: BorrowedFd<'a>,
    /// Where its workers part with kept connections.
    pub parking: &'a Parking,
    /// Its scoreboard.
    pub board: Handle<'a>,
    /// Its generation.
    pub generation: u32,
    /// The pages that its workers answer themselves.
    pub pages: Option<&'a Pages>,
    /// Whether debug lines are logged.
    pub notes: bool,
    /// Its logs.
    pub logs: &'a LogFiles,
    /// What is written there.
    pub log_settings: &'a LogSettings,
}

impl Shared<'_> {
    fn worker_settings(&self) -> WorkerSettings {
        WorkerSettings {
            pool: self.pool.name.clone(),
            capacity: self.pool.limits.max_children,
            max_requests: self.pool.max_requests,
            max_memory: self.pool.max_memory,
            terminate_timeout: self.pool.request_terminate_timeout.unwrap_or_default(),
            track_finished: self.pool.track_finished,
            allowed_clients: self.pool.allowed_clients.clone(),
            notes: self.notes,
            pages: self.pages.cloned().map(Box::new),
            logs: self.log_settings.clone(),
        }
    }
}

/// Forks a worker with the built-in application.
///
/// # Errors
/// EAGAIN, EMFILE, ENOMEM and their like.
pub fn hello(shared: Shared<'_>, slot: u32) -> io::Result<Spawned> {
    fork_worker(shared, slot, |_| {
        confine(shared.pool)?;
        Ok(Hello::new(shared.worker_settings(), shared.board.attach()?))
    })
}

/// Forks a worker with the application that `make` makes in it, once it is confined. `make` gets the worker's end of its
/// channel.
fn fork_worker<A: worker::Application>(
    shared: Shared<'_>,
    slot: u32,
    make: impl FnOnce(BorrowedFd<'_>) -> io::Result<A>,
) -> io::Result<Spawned> {
    let (mut spawned, ends) = prepare(shared)?;
    let null = null()?;
    let mut keep = vec![
        shared.listener,
        shared.parking.as_fd(),
        shared.board.memory,
        shared.board.notice,
        ends.control.as_fd(),
    ];
    keep.extend(shared.logs.fds());
    let stdio = [null.as_fd(), ends.stdout.as_fd(), ends.stderr.as_fd()];
    let pid = fork::fork_keeping(&keep, stdio, || {
        title::set(&format!("preforkd: pool {}", shared.pool.name));
        finish(make(ends.control.as_fd()).and_then(|mut application| {
            let settings = shared.worker_settings();
            let reporter = Reporter::new(shared.board.attach()?, slot, shared.generation)?;
            let control = Channel::from_fd(ends.control.as_fd().try_clone_to_owned()?);
            let listener = shared.listener.try_clone_to_owned()?;
            run(
                Equipment {
                    control,
                    listener,
                    parking: shared.parking.try_clone()?,
                    reporter,
                    settings,
                    logs: shared.logs.try_clone()?,
                },
                &mut application,
            )
        }))
    })?;
    spawned.pid = Some(pid);
    Ok(spawned)
}

/// What is told to php-cgi unless the pool's environment does: the workers are the pool's to count, and so are their
/// requests.
const PHP: [(&str, &str); 2] = [("PHP_FCGI_CHILDREN", "0"), ("PHP_FCGI_MAX_REQUESTS", "0")];

/// Addresses that a FastCGI program takes connections from (specification, 3.2); on a Unix socket they make no sense.
const ADDRESSES: &str = "FCGI_WEB_SERVER_ADDRS";

/// Part of `pm.start_timeout` that a relay waits for its program, so that it can still tell why it gives up.
const PATIENCE: (u32, u32) = (4, 5);

/// The environment of a FastCGI program.
fn environment_of_program(pool: &Pool) -> Vec<(OsString, OsString)> {
    let mut environment = environment(pool);
    environment.retain(|(name, _)| name != ADDRESSES);
    for (name, value) in PHP {
        if !environment.iter().any(|(known, _)| known == name) {
            environment.push((name.into(), value.into()));
        }
    }
    environment
}

/// Forks a worker that relays to a program of its own.
///
/// # Errors
/// EAGAIN, EMFILE, ENOMEM and their like.
pub fn relay(shared: Shared<'_>, exec: &Exec, slot: u32) -> io::Result<Spawned> {
    let pool = shared.pool;
    let settings = relay::Settings {
        program: Program {
            path: exec.program.clone(),
            arguments: exec.arguments.iter().map(OsString::from).collect(),
            environment: environment_of_program(pool),
        },
        ready: exec.ready,
        start_timeout: pool.start_timeout * PATIENCE.0 / PATIENCE.1,
    };
    let owner = pool.identity.as_ref().map(|user| (user.uid, user.gid));
    fork_worker(shared, slot, |control| {
        let listener = Listener::new(owner).map_err(|error| {
            let text = format!("cannot make a socket for the program: {error}");
            io::Error::new(error.kind(), text)
        })?;
        confine(pool)?;
        let control = Channel::from_fd(control.try_clone_to_owned()?);
        Relay::new(settings, listener, control)
    })
}

/// Forks a worker that starts a program for each request.
///
/// # Errors
/// EAGAIN, EMFILE, ENOMEM and their like.
pub fn cgi(shared: Shared<'_>, exec: &Exec, slot: u32) -> io::Result<Spawned> {
    let pool = shared.pool;
    let path = exec.program.clone();
    let target = if path.as_os_str().as_bytes().ends_with(b"/") {
        Target::Folder(path)
    } else {
        let arguments = exec.arguments.iter().map(OsString::from).collect();
        Target::Program { path, arguments }
    };
    fork_worker(shared, slot, |control| {
        confine(pool)?;
        let control = Channel::from_fd(control.try_clone_to_owned()?);
        Ok(Cgi::new(target, environment(pool), control))
    })
}

/// Asks a mold for a worker.
///
/// # Errors
/// EAGAIN when the mold does not read its channel; EMFILE and its like.
pub fn by_mold(shared: Shared<'_>, mold: &Channel, slot: u32) -> io::Result<Spawned> {
    let (spawned, ends) = prepare(shared)?;
    mold.send(
        &ToMold::Spawn { slot }.encode(),
        &[
            ends.control.as_fd(),
            ends.stdout.as_fd(),
            ends.stderr.as_fd(),
        ],
    )?;
    Ok(spawned)
}

/// Starts a mold: the pool's interpreter with the extension module, which waits for [`set_up_mold`].
///
/// # Errors
/// As [`hello`].
pub fn mold(shared: Shared<'_>, wsgi: &Wsgi, extension: &File) -> io::Result<Spawned> {
    let program = c_string(wsgi.python.as_os_str())?;
    let arguments = [
        program.clone(),
        CString::from(c"-c"),
        CString::new(BOOTSTRAP)?,
    ];
    let environment = environment(shared.pool);
    let null = null()?;
    start_mold(
        shared,
        null.as_fd(),
        &arguments,
        environment,
        extension,
        || Ok(()),
    )
}

/// Starts what is to be a mold, with `stdin`, and at the numbers that molds expect its channel to the master and `module`.
/// `arguments` begin with the program. `before` is called in the child, when it is confined.
fn start_mold(
    shared: Shared<'_>,
    stdin: BorrowedFd<'_>,
    arguments: &[CString],
    environment: Vec<(OsString, OsString)>,
    module: &File,
    before: impl FnOnce() -> io::Result<()>,
) -> io::Result<Spawned> {
    let pool = shared.pool;
    let (mut spawned, ends) = prepare(shared)?;
    let environment = variables(environment)?;
    let keep = [stdin, ends.control.as_fd(), module.as_fd()];
    let pid = fork::fork_keeping(
        &keep,
        [stdin, ends.stdout.as_fd(), ends.stderr.as_fd()],
        || {
            if let Err(error) = confine(pool).and_then(|()| before()) {
                return finish(Err(error));
            }
            let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
            let descriptors = [
                stdin.as_fd(),
                stdout.as_fd(),
                stderr.as_fd(),
                ends.control.as_fd(),
                module.as_fd(),
            ];
            fork::exec(&arguments[0], arguments, &environment, &descriptors)
        },
    )?;
    spawned.pid = Some(pid);
    Ok(spawned)
}

/// Tells a mold what it and its workers have to know, with a Python application what to load. Without `preload` each
/// worker imports that itself.
///
/// # Errors
/// As [`by_mold`].
pub fn set_up_mold(
    shared: Shared<'_>,
    wsgi: Option<&Wsgi>,
    mold: &Channel,
    preload: bool,
) -> io::Result<()> {
    let text = |of: fn(&Wsgi) -> &String| wsgi.map_or_else(String::new, |wsgi| of(wsgi).clone());
    let setup = MoldSettings {
        worker: shared.worker_settings(),
        dumpable: shared.pool.dumpable,
        generation: shared.generation,
        module: text(|wsgi| &wsgi.module),
        callable: text(|wsgi| &wsgi.callable),
        pythonpath: wsgi.map_or_else(Vec::new, |wsgi| {
            let paths = wsgi.pythonpath.iter();
            paths
                .map(|path| path.to_string_lossy().into_owned())
                .collect()
        }),
        preload: wsgi.is_some_and(|wsgi| wsgi.preload && preload),
        warmup: wsgi.map_or_else(Vec::new, |wsgi| wsgi.warmup.clone()),
        mount: wsgi.and_then(|wsgi| match &wsgi.mount {
            Mount::Auto => None,
            Mount::Prefix(prefix) => Some(prefix.clone()),
        }),
    };
    let mut fds = vec![
        shared.listener,
        shared.parking.as_fd(),
        shared.board.memory,
        shared.board.notice,
    ];
    fds.extend(shared.logs.fds());
    mold.send(&ToMold::Setup(Box::new(setup)).encode(), &fds)
}

/// Starts the program of a pool as its mold, with `library` preloaded, which makes it that.
///
/// # Errors
/// As [`hello`].
pub fn program_mold(shared: Shared<'_>, exec: &Exec, library: &File) -> io::Result<Spawned> {
    // It does not listen: a program that does not become a mold ends, instead of waiting for nobody.
    let socket = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut arguments = vec![c_string(exec.program.as_os_str())?];
    for argument in &exec.arguments {
        arguments.push(CString::new(argument.as_str())?);
    }
    let mut environment = environment_of_program(shared.pool);
    preload(&mut environment);
    let master = Pid::this();
    // As long as it has not come to its first accept, nothing else tells it that the master is gone.
    let before = || end_with(master);
    start_mold(
        shared,
        socket.as_fd(),
        &arguments,
        environment,
        library,
        before,
    )
}

/// Has the dynamic linker load the library from its descriptor, before what the pool has it load.
fn preload(environment: &mut Vec<(OsString, OsString)>) {
    const NAME: &str = "LD_PRELOAD";
    let mut list = OsString::from(format!("/proc/self/fd/{}", MODULE_FD));
    if let Some(place) = environment.iter().position(|(name, _)| name == NAME) {
        let (_, others) = environment.remove(place);
        list.push(":");
        list.push(others);
    }
    environment.push((NAME.into(), list));
    environment.push((MOLD_VARIABLE.into(), "1".into()));
}

/// Starts `program` to check the configuration: a process of the master's own, with what it prints.
///
/// # Errors
/// As [`hello`].
pub fn check(program: &CStr, arguments: &[CString]) -> io::Result<(Pid, [Output; 2])> {
    let null = null()?;
    let (stdout, out) = output_pipe()?;
    let (stderr, err) = output_pipe()?;
    let stdio = [null.as_fd(), out.as_fd(), err.as_fd()];
    let environment = variables(std::env::vars_os())?;
    let pid = fork::fork_keeping(&[], stdio, || {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let descriptors = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        fork::exec(program, arguments, &environment, &descriptors)
    })?;
    Ok((pid, [Output::new(stdout), Output::new(stderr)]))
}

/// The Python extension module.
///
/// # Errors
/// Where it was looked for, or that the pools' users cannot read it.
pub fn open_extension() -> Result<File, String> {
    open_library(
        "the Python extension module",
        ["libpreforkd_python.so", "preforkd.abi3.so"],
    )
}

/// What is preloaded into programs that are to be molds.
///
/// # Errors
/// As [`open_extension`].
pub fn open_preload() -> Result<File, String> {
    open_library(
        "the library that makes a program a mold",
        ["libpreforkd_preload.so"; 2],
    )
}

/// A library of the daemon's: beside the executable as it was built, or where it is installed, under these names.
fn open_library(what: &str, [built, installed]: [&str; 2]) -> Result<File, String> {
    let executable =
        std::env::current_exe().map_err(|error| format!("cannot find this executable: {error}"))?;
    let folder = executable.parent().unwrap_or(Path::new("/"));
    let places: [PathBuf; 2] = [
        folder.join(built),
        folder.join("../lib/preforkd").join(installed),
    ];
    for place in &places {
        let path = place.display();
        match File::open(place).and_then(|file| Ok((file.metadata()?.mode(), file))) {
            Ok((mode, file)) => {
                // Molds open it anew, by its descriptor, as their users: that root can open it proves nothing.
                if Uid::effective().is_root() && mode & 0o004 == 0 {
                    return Err(format!(
                        "the pools' users cannot read {what} {path}: chmod a+r {path}"
                    ));
                }
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(format!("cannot open {what} {path}: {error}"));
            }
        }
    }
    Err(format!(
        "{what} is neither at {} nor at {}; build it with the daemon (cargo build), or install it with it",
        places[0].display(),
        places[1].display()
    ))
}

fn prepare(shared: Shared<'_>) -> io::Result<(Spawned, Ends)> {
    let (ours, theirs) = channel::pair()?;
    if !shared.pool.catch_workers_output {
        let stdout = null()?;
        let stderr = stdout.try_clone()?;
        return Ok((
            Spawned {
                pid: None,
                control: ours,
                output: None,
            },
            Ends {
                control: theirs,
                stdout,
                stderr,
            },
        ));
    }
    let (stdout, out) = output_pipe()?;
    let (stderr, err) = output_pipe()?;
    let spawned = Spawned {
        pid: None,
        control: ours,
        output: Some([stdout, stderr].map(Output::new)),
    };
    Ok((
        spawned,
        Ends {
            control: theirs,
            stdout: out,
            stderr: err,
        },
    ))
}

/// A pipe whose reading end does not block; the writing end does, as programs expect.
///
/// # Errors
/// EMFILE and its like.
pub fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((reader, writer))
}

/// What has nothing to say.
///
/// # Errors
/// EMFILE and its like.
pub fn null() -> io::Result<OwnedFd> {
    Ok(open(
        "/dev/null",
        OFlag::O_RDWR | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?)
}

/// Ends a child with its result.
pub fn finish(result: io::Result<()>) -> Infallible {
    match result {
        Ok(()) => fork::exit_now(0),
        Err(error) => {
            eprintln!("preforkd: {error}");
            fork::exit_now(fork::EX_SOFTWARE)
        }
    }
}

/// Variables that are between the service manager, or the program before, and the master.
const MANAGER_VARIABLES: [&str; 8] = [
    handover::VARIABLE,
    "JOURNAL_STREAM",
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
];

fn environment(pool: &Pool) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<(OsString, OsString)> = Vec::new();
    if !pool.clear_env {
        variables.extend(
            std::env::vars_os()
                .filter(|(name, _)| !MANAGER_VARIABLES.iter().any(|manager| name == manager)),
        );
    }
    let mut set = |name: OsString, value: OsString| {
        variables.retain(|(known, _)| *known != name);
        variables.push((name, value));
    };
    if let Some(identity) = &pool.identity {
        set("USER".into(), identity.user.clone().into());
        set("HOME".into(), identity.home.clone().into_os_string());
    }
    for (name, value) in &pool.env {
        set(name.clone(), value.clone());
    }
    variables
}

/// Variables in the form that exec takes.
///
/// # Errors
/// A NUL, which the system lets nobody pass.
pub fn variables(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> io::Result<Vec<CString>> {
    variables
        .into_iter()
        .map(|(mut pair, value)| {
            pair.push("=");
            pair.push(value);
            Ok(CString::new(pair.into_vec())?)
        })
        .collect()
}

pub(crate) fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}
