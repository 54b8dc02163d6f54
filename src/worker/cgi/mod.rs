//! Plain CGI programs (`exec.protocol = cgi`): one process for each request (RFC 3875).
//!
//! The worker stays and a program comes and goes with each request. What is read from the web server is written to the
//! program's standard input, what the program says becomes the answer, and neither waits for the other; see
//! [`passage`]. Nothing is held in memory but a buffer a direction.
//!
//! # Layout
//! * [`script`]: which script a request is for
//! * [`environment`]: what it is given
//! * [`head`]: the head of its answer
//! * [`passage`]: the request on its way through the program

pub mod environment;
pub mod head;
mod passage;
pub mod script;
#[cfg(test)]
mod tests;

use crate::Application;
use crate::exchange::{Exchange, Result};
use crate::message::FromWorker;
use crate::trace::{KernelView, Tracer};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use passage::Passage;
use preforkd_sys::channel::Channel;
use preforkd_sys::program::{Program, kill_group};
use script::{Refusal, Script};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// What runs for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One program, whatever the request names.
    Program {
        /// Its file, an absolute path.
        path: PathBuf,
        /// Its arguments.
        arguments: Vec<OsString>,
    },
    /// The script in this folder that the request names; an absolute path.
    Folder(PathBuf),
}

/// The application.
#[derive(Debug)]
pub struct Cgi {
    target: Target,
    environment: Vec<(OsString, OsString)>,
    /// To the master.
    control: Channel,
    /// The pid of the program that runs; 0 for none.
    running: Arc<AtomicI32>,
}

impl Cgi {
    /// Runs `target` for each request, with these variables besides those of the request. `control` goes to the master.
    #[must_use]
    pub fn new(target: Target, environment: Vec<(OsString, OsString)>, control: Channel) -> Self {
        Self {
            target,
            environment,
            control,
            running: Arc::default(),
        }
    }

    fn answer(&self, exchange: &mut Exchange) -> Result<()> {
        let script = match self.script(exchange) {
            Ok(script) => script,
            Err(refusal) => return refuse(exchange, refusal),
        };
        let path = script.program.display().to_string();
        let passage = self
            .start(exchange, script)
            .and_then(|(program, directory)| {
                Passage::begin(self, exchange, &program, directory.as_fd())
            });
        match passage {
            Ok(passage) => passage.run(&path),
            Err(error) if error.raw_os_error() == Some(Errno::E2BIG as i32) => {
                self.complain(format!(
                    "cannot execute {path}: a parameter of the request has more than the 128 KiB that a variable of an \
                     environment may have (execve(2))"
                ));
                // RFC 6585, 5: they are the request's header fields, the cookies most of all.
                say(
                    exchange,
                    "431 Request Header Fields Too Large",
                    "A header field of the request is too large.",
                )
            }
            Err(error) => {
                self.complain(format!("cannot execute {path}: {error}"));
                say(
                    exchange,
                    "500 Internal Server Error",
                    "The program cannot be started.",
                )
            }
        }
    }

    fn script(&self, exchange: &Exchange) -> std::result::Result<Script, Refusal> {
        match &self.target {
            Target::Program { path, .. } => Ok(Script {
                program: path.clone(),
                split: None,
            }),
            Target::Folder(folder) => {
                let folder = folder.canonicalize().map_err(|_| Refusal::NotFound)?;
                script::find(&folder, exchange.params())
            }
        }
    }

    /// The program as it is to be started, and the folder it is in, which is its working directory.
    fn start(&self, exchange: &Exchange, script: Script) -> io::Result<(Program, OwnedFd)> {
        let arguments = match &self.target {
            Target::Program { arguments, .. } => arguments.clone(),
            Target::Folder(_) => Vec::new(),
        };
        let variables =
            environment::variables(&self.environment, exchange.params(), script.split.as_ref());
        let folder = script.program.parent().unwrap_or(Path::new("/"));
        // A folder can be entered that cannot be read.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(folder, flags, Mode::empty())?;
        let program = Program {
            path: script.program,
            arguments,
            environment: variables.into_iter().collect(),
        };
        Ok((program, directory))
    }

    /// Tells the master of a program, which it ends with all that it has started if this worker can no more.
    fn announce(&self, program: Pid) {
        let pid = program.as_raw().unsigned_abs();
        // Should this be lost, the kernel still ends the program with its worker, though not what it has started.
        let _ = self
            .control
            .send(&FromWorker::Started { pid }.encode(), &[]);
    }

    /// Tells the master what the log is to have of a program.
    fn complain(&self, text: String) {
        // The master may be gone, and if it does not listen just now there is more in the log than anybody reads.
        let _ = self
            .control
            .send(&FromWorker::Trouble { text }.encode(), &[]);
    }
}

impl Application for Cgi {
    fn serve(&mut self, mut exchange: Box<Exchange>) -> Box<Exchange> {
        if self.answer(&mut exchange).is_err() {
            exchange.abort();
        }
        exchange
    }

    fn tracer(&self) -> Box<dyn Tracer> {
        Box::new(ProgramView(Arc::clone(&self.running)))
    }
}

/// The program that runs, for the watchdog.
struct ProgramView(Arc<AtomicI32>);

impl ProgramView {
    fn pid(&self) -> Option<i32> {
        Some(self.0.load(Ordering::SeqCst)).filter(|&pid| pid > 0)
    }
}

impl Tracer for ProgramView {
    fn trace(&mut self, depth: usize) -> Vec<String> {
        let pid = self.pid().map_or(0, i32::unsigned_abs);
        KernelView::of(pid).trace(depth)
    }

    fn end(&mut self) {
        if let Some(pid) = self.pid() {
            kill_group(Pid::from_raw(pid));
        }
    }
}

fn refuse(exchange: &mut Exchange, refusal: Refusal) -> Result<()> {
    match refusal {
        Refusal::Forbidden => say(exchange, "403 Forbidden", "This is not to be run."),
        Refusal::NotFound => say(exchange, "404 Not Found", "There is no such script."),
    }
}

/// Answers with a page of the worker's own.
fn say(exchange: &mut Exchange, status: &str, text: &str) -> Result<()> {
    let page =
        format!("Status: {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\n");
    exchange.write(page.as_bytes())?;
    exchange.end(1)
}
