//! What the workers and the mold of a pool say.

use super::{Common, Pool};
use crate::config::Application;
use crate::output::Held;
use crate::spawn;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use preforkd_plan::pool::Event;
use preforkd_plan::scale::Mode;
use preforkd_sys::channel::Channel;
use preforkd_sys::children;
use preforkd_sys::program::Group;
use preforkd_worker::message::{
    FromMold, FromWorker, MAX_FROM_CHILD, Malformed, Overdue, PROTOCOL,
};
use preforkd_worker::status::summary::visible;
use std::io;

/// Messages taken from one process at one time, so that one that never stops keeps the master from nobody.
const MESSAGES: usize = 300;

/// Pieces of advice that are told in one generation; an application has no use for more.
const MAX_ADVICE: usize = 8;

/// What there is on a channel.
enum Heard<Message> {
    Nothing,
    /// It is closed.
    End,
    /// Who sends such is of no use any more.
    Nonsense,
    /// A message, and who sent it.
    Message(Message, Option<Pid>),
}

fn hear<Message>(
    channel: &Channel,
    decode: impl Fn(&[u8]) -> Result<Message, Malformed>,
) -> Heard<Message> {
    let mut buffer = [0; MAX_FROM_CHILD];
    match channel.try_receive(&mut buffer) {
        Ok(received) if received.length == 0 => Heard::End,
        Ok(received) => match decode(&buffer[..received.length]) {
            Ok(message) => Heard::Message(message, received.sender),
            Err(Malformed) => Heard::Nonsense,
        },
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Heard::Nothing,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Heard::Nonsense,
        Err(_) => Heard::End,
    }
}

impl Pool {
    /// Takes in what a worker says. Returns whether its channel has come to its end, or is of no use any more; see
    /// [`Self::channel_ended`].
    pub(super) fn worker_messages(&mut self, slot: u32, common: &Common) -> bool {
        let mut drained = false;
        let has_programs = matches!(self.config.application, Application::Exec(_));
        for _ in 0..MESSAGES {
            let Some(Some(process)) = self.workers.get_mut(slot as usize) else {
                return false;
            };
            let decode = |bytes: &[u8]| match FromWorker::decode(bytes)? {
                FromWorker::Started { .. } if !has_programs => Err(Malformed),
                message => Ok(message),
            };
            let (message, sender) = match hear(&process.spawned.control, decode) {
                Heard::Nothing => return false,
                Heard::Message(message, sender) => (message, sender),
                end @ (Heard::End | Heard::Nonsense) => {
                    let _ = common.epoll.delete(&process.spawned.control);
                    if matches!(end, Heard::Nonsense) {
                        tracing::warn!(
                            "[pool {}] child {} sends what makes no sense, killing it",
                            self.config.name,
                            process.pid_text()
                        );
                        process.signal(Signal::SIGKILL);
                    }
                    return true;
                }
            };
            match message {
                FromWorker::Hello => {
                    if process.spawned.pid.is_none()
                        && let Some(pid) = sender
                    {
                        process.spawned.pid = Some(pid);
                        self.log_started(pid);
                    }
                }
                FromWorker::Ready => {
                    process.came_up(&self.config);
                    self.decided = true;
                    self.last_failure = Held::default();
                    self.on(Event::Ready { slot });
                }
                FromWorker::WornOut => self.on(Event::WornOut { slot }),
                FromWorker::Outgrown { memory } => {
                    tracing::info!(
                        "[pool {}] child {} has {} MiB of memory to itself, more than pm.max_memory: it will be replaced",
                        self.config.name,
                        process.pid_text(),
                        memory >> 20
                    );
                    self.on(Event::WornOut { slot });
                }
                FromWorker::Occupied => self.on(Event::Occupied),
                FromWorker::Slow(overdue) => {
                    let what = told(&overdue, "executing too slow", "logging");
                    let pid = process.pid_text();
                    tracing::warn!("[pool {}] child {pid}, {what}", self.config.name);
                }
                FromWorker::TimedOut(overdue) => {
                    let what = told(&overdue, "execution timed out", "terminating");
                    let pid = process.pid_text();
                    tracing::warn!("[pool {}] child {pid}, {what}", self.config.name);
                    for line in overdue.trace.lines() {
                        let line = visible(line);
                        tracing::warn!("[pool {}] child {pid} was in: {line}", self.config.name);
                    }
                }
                FromWorker::Lost { text } => {
                    let pid = process.pid_text();
                    tracing::warn!("[pool {}] child {pid}: {text}", self.config.name);
                }
                FromWorker::Note { text } => {
                    tracing::debug!(
                        "[pool {}] child {}: {text}",
                        self.config.name,
                        process.pid_text()
                    );
                }
                FromWorker::Started { pid } => {
                    tracing::debug!(
                        "[pool {}] child {} has started program {pid}",
                        self.config.name,
                        process.pid_text()
                    );
                    // What is no program of its own, or has gone meanwhile, is nothing to remember.
                    process.program = process.spawned.pid.and_then(|parent| {
                        let leader = Pid::from_raw(i32::try_from(pid).ok()?);
                        Group::led_by(leader, parent)
                    });
                }
                FromWorker::Advice { text } => self.advise(text),
                FromWorker::Trouble { text } => {
                    // Once, since what is alive can go on for as long as it is read from.
                    if !std::mem::replace(&mut drained, true) {
                        process.drain(&self.config);
                    }
                    let last = match process.last_words() {
                        Some(words) => format!("; its last words: {}", visible(&words)),
                        None => String::new(),
                    };
                    tracing::warn!(
                        "[pool {}] child {}: {}{last}",
                        self.config.name,
                        process.pid_text(),
                        visible(&text)
                    );
                }
            }
        }
        false
    }

    /// A worker's channel is of no use any more, and its death, if it was not reaped just now, is still to come.
    pub(super) fn channel_ended(&mut self, slot: u32) {
        let Some(Some(process)) = self.workers.get(slot as usize) else {
            return;
        };
        match process.spawned.pid {
            Some(pid) if children::is_child(pid) => {}
            Some(_) => self.let_go(slot),
            None => {
                if let Some(process) = self.workers[slot as usize].take() {
                    self.worker_died(slot, process, None);
                }
            }
        }
    }

    pub(super) fn mold_messages(&mut self, common: &Common) {
        for _ in 0..MESSAGES {
            let Some(mold) = &mut self.mold else { return };
            let message = match hear(&mold.spawned.control, FromMold::decode) {
                Heard::Nothing => return,
                Heard::Message(message, _) => message,
                Heard::End => {
                    // Its death will be seen. One that has not come up is about to say why; if it hangs instead, its
                    // deadline ends it.
                    let _ = common.epoll.delete(&mold.spawned.control);
                    if mold.held.is_none() {
                        mold.signal(Signal::SIGTERM);
                    }
                    return;
                }
                Heard::Nonsense => {
                    let _ = common.epoll.delete(&mold.spawned.control);
                    tracing::warn!(
                        "[pool {}] mold {} sends what makes no sense, killing it",
                        self.config.name,
                        mold.pid_text()
                    );
                    mold.signal(Signal::SIGKILL);
                    return;
                }
            };
            match message {
                FromMold::Hello { protocol } if protocol != PROTOCOL => {
                    tracing::error!(
                        "[pool {}] {} speaks protocol {protocol} and this daemon {PROTOCOL}; they have to be of one version",
                        self.config.name,
                        match self.config.application {
                            Application::Wsgi(_) => "the Python extension module",
                            Application::Hello | Application::Exec(_) =>
                                "what makes a program a mold",
                        }
                    );
                    mold.signal(Signal::SIGKILL);
                }
                FromMold::Hello { .. } => self.set_up_mold(common),
                FromMold::Ready => {
                    mold.came_up(&self.config);
                    self.has_molded = true;
                    tracing::info!(
                        "[pool {}] mold {} is ready (generation {})",
                        self.config.name,
                        mold.pid_text(),
                        self.generation
                    );
                    // Without anybody who comes, nobody else is going to.
                    self.decided |= matches!(self.config.limits.mode, Mode::Ondemand { .. });
                    self.on(Event::MoldReady);
                }
                FromMold::Threads { names } => {
                    tracing::warn!(
                        "[pool {}] importing the application started threads ({names}), so that it cannot be forked; each worker imports it itself",
                        self.config.name
                    );
                    self.preload = false;
                }
                FromMold::Unfit { why } => self.forgo_mold(&why),
                FromMold::Advice { text } => self.advise(text),
                FromMold::SpawnFailed { slot } => {
                    if let Some(Some(process)) = self.workers.get(slot as usize)
                        && process.spawned.pid.is_none()
                    {
                        tracing::error!("[pool {}] the mold could not fork", self.config.name);
                        self.workers[slot as usize] = None;
                        self.on(Event::SpawnFailed { slot });
                    }
                }
            }
        }
    }

    /// The program cannot be a mold, so that each worker starts its own from now on.
    pub(super) fn forgo_mold(&mut self, why: &str) {
        if !std::mem::take(&mut self.molds_program) {
            return;
        }
        tracing::warn!(
            "[pool {}] the program cannot be a mold: {}; each worker starts its own",
            self.config.name,
            visible(why)
        );
        if let Some(mold) = &mut self.mold {
            mold.leaving = true;
            mold.signal(Signal::SIGKILL);
        }
        // Without anybody who comes, nobody else is going to.
        self.decided |= matches!(self.config.limits.mode, Mode::Ondemand { .. });
        self.on(Event::MoldUnfit);
    }

    /// Once a generation: workers that import the application by themselves find the same each.
    fn advise(&mut self, text: String) {
        if self.advice.len() < MAX_ADVICE && !self.advice.contains(&text) {
            tracing::warn!("[pool {}] {}", self.config.name, visible(&text));
            self.advice.push(text);
        }
    }

    fn set_up_mold(&self, common: &Common) {
        let wsgi = match &self.config.application {
            Application::Wsgi(wsgi) => Some(wsgi),
            Application::Hello | Application::Exec(_) => None,
        };
        if let Some(mold) = &self.mold
            && let Err(error) = spawn::set_up_mold(
                self.shared(common),
                wsgi,
                &mold.spawned.control,
                self.preload,
            )
        {
            tracing::error!(
                "[pool {}] cannot set up the mold: {error}",
                self.config.name
            );
            mold.signal(Signal::SIGKILL);
        }
    }
}

/// A request that takes long, in php-fpm's words.
fn told(overdue: &Overdue, what: &str, consequence: &str) -> String {
    format!(
        "script '{}' (request: \"{} {}\") {what} ({:.6} sec), {consequence}",
        visible(&overdue.script),
        visible(&overdue.method),
        visible(&overdue.uri),
        overdue.elapsed.as_secs_f64()
    )
}
