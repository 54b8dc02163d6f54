//! The life of a worker's program: started, ready, dead, started anew; ended with its worker.
//!
//! A program that has ended after it has served, or has lasted for a while, is started anew at once. One that does not
//! get ready, or ends right after its start, ends its worker as well: whether and when to try again is the master's
//! to decide, who knows of the other workers.

use super::listener::Listener;
use crate::message::FromWorker;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use preforkd_sys::channel::Channel;
use preforkd_sys::children::{self, Death};
use preforkd_sys::program::{Program, Started, kill_group, signal_group};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The pauses between two looks at a program that starts: the first, doubled up to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// How long a program must have been there for its end to be no failure to start, if it has not served.
const PROBATION: Duration = Duration::from_secs(1);

/// How long a program has to end by itself when its connections have ended.
const END_OF_FILE: Duration = Duration::from_secs(1);

/// How long it has after SIGTERM, before SIGKILL.
const TERMINATION: Duration = Duration::from_secs(2);

/// How the end of a process is waited for whose connections have ended already.
const DYING: Duration = Duration::from_millis(100);

/// When a program counts as ready (`exec.ready`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// When it has accepted a connection.
    Accept,
    /// At once: connections wait until it accepts.
    Connect,
    /// After a time, if it is still there.
    Delay(Duration),
}

/// What a relay is to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it starts.
    pub program: Program,
    /// When that is ready.
    pub ready: Ready,
    /// How long getting ready may take.
    pub start_timeout: Duration,
}

#[derive(Debug)]
struct Running {
    program: Started,
    since: Instant,
    ready: bool,
    served: bool,
    /// Its end is no news.
    condemned: bool,
}

/// A worker's program.
#[derive(Debug)]
pub(super) struct Life {
    settings: Settings,
    listener: Listener,
    /// The working directory of programs.
    directory: OwnedFd,
    control: Channel,
    /// Readable when a program has ended, or when there is to be none any more.
    news: Epoll,
    running: Option<Running>,
    /// A program that has ended with a request, and how.
    ended: Option<(Pid, Death)>,
    /// Why there is to be no program any more.
    failure: Option<io::Error>,
    /// What makes news of that, or of there being no program.
    calling: Option<EventFd>,
    /// The pid of the program that runs, or of the last one; shared with who looks at it.
    pid: Arc<AtomicU32>,
}

impl Life {
    pub(super) fn new(
        settings: Settings,
        listener: Listener,
        control: Channel,
    ) -> io::Result<Self> {
        Ok(Self {
            settings,
            directory: listener.enter()?,
            listener,
            control,
            news: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            running: None,
            ended: None,
            failure: None,
            calling: None,
            pid: Arc::default(),
        })
    }

    pub(super) fn news(&self) -> BorrowedFd<'_> {
        self.news.0.as_fd()
    }

    pub(super) fn pid(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.pid)
    }

    /// Readable when the program has ended; None when there is none.
    pub(super) fn end_of_program(&self) -> Option<BorrowedFd<'_>> {
        Some(self.running.as_ref()?.program.end.as_fd())
    }

    /// Has a program run that is ready. A connection that is made on the way is left in `connection`.
    ///
    /// While the worker is `idle`, a connection to a program that has ended is of no use, and false is returned as soon
    /// as the master says something.
    ///
    /// # Errors
    /// Why there is no program, and why the worker must not go on.
    pub(super) fn settle(
        &mut self,
        connection: &mut Option<OwnedFd>,
        idle: bool,
    ) -> io::Result<bool> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let mut pause = PAUSES.0;
        loop {
            if let Some((running, death)) = self.bury() {
                if idle {
                    *connection = None;
                } else if connection.is_some() && !self.listener.has_waiting() {
                    // Its answer, or its end, is to be read from the connection that it took.
                    self.ended = Some((running.program.pid, death));
                    self.call();
                    return Ok(true);
                }
                self.judge(&running, death)?;
            }
            if self.running.is_none() {
                self.start()?;
            }
            if self.is_ready(connection)? {
                return Ok(true);
            }
            if self.pause(pause, idle) {
                return Ok(false);
            }
            pause = (2 * pause).min(PAUSES.1);
        }
    }

    /// The same for a request that has nothing else to wait for. When that fails, the worker will hear of it, too.
    ///
    /// # Errors
    /// Why there is no program, in words.
    pub(super) fn settle_for_request(
        &mut self,
        connection: &mut Option<OwnedFd>,
    ) -> Result<(), String> {
        self.settle(connection, false).map(drop).map_err(|failure| {
            let text = failure.to_string();
            self.give_up(failure);
            text
        })
    }

    /// A connection to the program.
    pub(super) fn connect(&self) -> io::Result<OwnedFd> {
        self.listener.connect()
    }

    /// The same for a request. Where no later one can be made either, the worker will hear of it, too.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(super) fn connect_for_request(&mut self) -> Result<OwnedFd, String> {
        self.connect().map_err(|failure| {
            let text = failure.to_string();
            if let ErrorKind::ConnectionRefused | ErrorKind::WouldBlock = failure.kind() {
                self.give_up(failure);
            }
            text
        })
    }

    /// The program has answered.
    pub(super) fn has_served(&mut self) {
        if let Some(running) = &mut self.running {
            running.served = true;
        }
    }

    /// The program has ended its connection. Returns how it has ended itself; None when it goes on.
    pub(super) fn autopsy(&mut self) -> Option<(Pid, Death)> {
        if let Some(ended) = self.ended.take() {
            return Some(ended);
        }
        self.wait_for_end(DYING);
        let (running, death) = self.bury()?;
        // The next request is not to wait for the next program.
        self.call();
        Some((running.program.pid, death))
    }

    /// Ends a program that is of no use any more, if it has not ended itself, and says why; another one will be started.
    pub(super) fn condemn(&mut self, why: String) {
        if self.wait_for_end(Duration::ZERO) {
            return;
        }
        if let Some(running) = &mut self.running {
            running.condemned = true;
            kill_group(running.program.pid);
            self.tell(why);
        }
    }

    /// Waits until all connections have been accepted. Returns whether they were.
    pub(super) fn comes_back(&self, within: Duration) -> bool {
        let from = Instant::now();
        let mut pause = PAUSES.0;
        while self.listener.has_waiting() {
            if from.elapsed() > within || self.wait_for_end(pause) {
                return false;
            }
            pause = (2 * pause).min(PAUSES.1);
        }
        true
    }

    /// Tells the master what the log is to have of the program.
    pub(super) fn tell(&self, text: String) {
        // The master may be gone, and if it does not listen just now there is more in the log than anybody reads.
        let _ = self
            .control
            .send(&FromWorker::Trouble { text }.encode(), &[]);
    }

    /// Ends the program with its worker: it is shown that nobody will come any more, then asked, then killed.
    fn end(&mut self) {
        self.listener.shut_down();
        let Some(running) = &self.running else { return };
        let pid = running.program.pid;
        if !self.wait_for_end(END_OF_FILE) {
            signal_group(pid, Signal::SIGTERM);
            self.wait_for_end(TERMINATION);
        }
        kill_group(pid);
        // A process that was killed ends.
        let _ = children::wait_for(pid);
        self.running = None;
    }

    fn start(&mut self) -> io::Result<()> {
        let Settings { program, .. } = &self.settings;
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let stdio = [self.listener.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let started = program
            .start(stdio, self.directory.as_fd())
            .map_err(|error| {
                let path = program.path.display();
                io::Error::other(format!("cannot execute {path}: {error}"))
            })?;
        self.pid
            .store(started.pid.as_raw().unsigned_abs(), Ordering::Relaxed);
        let event = EpollEvent::new(EpollFlags::EPOLLIN, 0);
        self.news.add(&started.end, event)?;
        self.calling = None;
        self.ended = None;
        // Should this be lost, the kernel still ends the program with its worker, though not what it has started.
        let pid = started.pid.as_raw().unsigned_abs();
        let _ = self
            .control
            .send(&FromWorker::Started { pid }.encode(), &[]);
        self.running = Some(Running {
            program: started,
            since: Instant::now(),
            ready: false,
            served: false,
            condemned: false,
        });
        Ok(())
    }

    /// Takes leave of a program that has ended, and of what it has started.
    fn bury(&mut self) -> Option<(Running, Death)> {
        if !self.wait_for_end(Duration::ZERO) {
            return None;
        }
        let running = self.running.take()?;
        kill_group(running.program.pid);
        let death = children::wait_for(running.program.pid).ok()?;
        Some((running, death))
    }

    /// Whether another program may be started after this one.
    fn judge(&self, running: &Running, death: Death) -> io::Result<()> {
        let path = self.settings.program.path.display();
        let when = match self.settings.ready {
            _ if running.condemned => return Ok(()),
            Ready::Accept if !self.has_accepted(running) => "before it accepted a connection",
            Ready::Delay(_) if !running.ready => "before it was ready",
            _ if !running.served && running.since.elapsed() < PROBATION => "right after its start",
            _ if death == Death::Exited(0) => return Ok(()),
            _ => {
                let pid = running.program.pid;
                self.tell(format!("the program {pid} {death} between two requests"));
                return Ok(());
            }
        };
        Err(io::Error::other(format!(
            "the program {path} {death} {when}"
        )))
    }

    /// Whether a program that waits for that has accepted the connection that was made for it.
    fn has_accepted(&self, running: &Running) -> bool {
        running.ready || self.settings.ready == Ready::Accept && !self.listener.has_waiting()
    }

    fn is_ready(&mut self, connection: &mut Option<OwnedFd>) -> io::Result<bool> {
        let Some(running) = &mut self.running else {
            return Ok(false);
        };
        let since = running.since.elapsed();
        running.ready = running.ready
            || match self.settings.ready {
                Ready::Connect => true,
                Ready::Delay(delay) => since >= delay,
                Ready::Accept => {
                    if connection.is_none() {
                        *connection = Some(self.listener.connect()?);
                    }
                    !self.listener.has_waiting()
                }
            };
        if !running.ready && since > self.settings.start_timeout {
            kill_group(running.program.pid);
            let path = self.settings.program.path.display();
            let limit = self.settings.start_timeout.as_secs();
            return Err(io::Error::other(format!(
                "the program {path} runs, and has accepted no connection on its descriptor 0 within {limit} s; it does so only if it speaks FastCGI"
            )));
        }
        Ok(running.ready)
    }

    fn give_up(&mut self, failure: io::Error) {
        self.failure = Some(failure);
        self.call();
    }

    /// Has the worker look after the program when it is idle.
    fn call(&mut self) {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, 0);
        // Without these, the next request has to.
        if let Ok(set) = EventFd::from_value_and_flags(1, EfdFlags::EFD_CLOEXEC) {
            let _ = self.news.add(&set, event);
            self.calling = Some(set);
        }
    }

    /// Waits; with `heed`, returns true at once when the master says something.
    fn pause(&self, pause: Duration, heed: bool) -> bool {
        let control = self.control.as_fd();
        let heeded = heed.then_some(control);
        let [_, said] = wait([self.end_of_program(), heeded], pause);
        said
    }

    /// Waits for the end of the program, if there is one. Returns whether it has ended.
    fn wait_for_end(&self, within: Duration) -> bool {
        let [ended, _] = wait([self.end_of_program(), None], within);
        ended
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits until one of two descriptors can be read, and tells which.
fn wait(watched: [Option<BorrowedFd<'_>>; 2], within: Duration) -> [bool; 2] {
    let until = Instant::now() + within;
    let mut polled: Vec<PollFd<'_>> = watched
        .iter()
        .flatten()
        .map(|&fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up, so that it does not spin.
        let left = left + Duration::from_micros(if left.is_zero() { 0 } else { 999 });
        match poll(
            &mut polled,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        ) {
            Err(Errno::EINTR) => {}
            _ => break,
        }
    }
    let mut ready = polled.iter().map(|polled| polled.any().unwrap_or(false));
    watched.map(|fd| fd.is_some() && ready.next().unwrap_or(false))
}
