//! A process of a pool, as the master holds it: a worker or the mold.

use super::now;
use crate::config::{self, Application, Protocol};
use crate::log::{self, Said};
use crate::output::{Held, Line, Output};
use crate::spawn::Spawned;
use nix::sys::epoll::Epoll;
use nix::sys::signal::Signal;
use preforkd_plan::time::Time;
use preforkd_sys::children;
use preforkd_sys::program::Group;
use std::time::Duration;

/// How long what a process prints is held back while it starts: a person who waits for it is to see what it does.
const HOLD: Duration = Duration::from_secs(5);

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Worker,
    /// A worker inside of a program that was forked. It leads a group, in which is what the program has started.
    Inside,
    Mold,
}

impl Kind {
    /// In the words of the log.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Worker | Self::Inside => "child",
            Self::Mold => "mold",
        }
    }
}

/// A worker or a mold.
#[derive(Debug)]
pub(super) struct Process {
    kind: Kind,
    pub(super) spawned: Spawned,
    pub(super) started: Time,
    /// Its output, while it starts.
    pub(super) held: Option<Held>,
    /// When what it has printed while it starts is told; None when it has been, and what it prints is told at once.
    tell_at: Option<Time>,
    /// It was told to leave, or killed: its end is no news.
    pub(super) leaving: bool,
    /// The program that it relays to, with what that has started.
    pub(super) program: Option<Group>,
    /// What it has printed last to standard error, if anybody may ask.
    last_words: Vec<u8>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.spawned.control.discard();
    }
}

/// Bytes of a process's last words that are remembered.
const WORDS: usize = 1024;

impl Process {
    pub(super) fn new(kind: Kind, spawned: Spawned) -> Self {
        let started = now();
        Self {
            kind,
            spawned,
            started,
            held: Some(Held::default()),
            tell_at: Some(started + HOLD),
            leaving: false,
            program: None,
            last_words: Vec::new(),
        }
    }

    /// Whether what it has started is to be ended with it.
    pub(super) fn leads_group(&self) -> bool {
        self.kind == Kind::Inside
    }

    /// Sends it a signal. Returns whether it is there to get it: one that has died and has not been reaped is.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        self.spawned
            .pid
            .is_some_and(|pid| children::signal(pid, signal))
    }

    pub(super) fn pid_text(&self) -> String {
        self.spawned
            .pid
            .map_or_else(|| "-".to_owned(), |pid| pid.to_string())
    }

    /// What it is, and its pid.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.kind.word(), self.pid_text())
    }

    /// Takes in what it has printed to a stream.
    pub(super) fn take_output(&mut self, stream: usize, pool: &config::Pool, epoll: &Epoll) {
        self.with_outputs(pool, |number, output, line| {
            if number == stream && !output.take(line) {
                let _ = epoll.delete(output.pipe());
            }
        });
    }

    /// Takes in all that it has printed, when it is dead.
    pub(super) fn drain(&mut self, pool: &config::Pool) {
        self.with_outputs(pool, |_, output, line| output.drain(line));
    }

    fn with_outputs(
        &mut self,
        pool: &config::Pool,
        mut act: impl FnMut(usize, &mut Output, &mut dyn FnMut(Line<'_>)),
    ) {
        let mut outputs = self.spawned.output.take();
        let relays = matches!(&pool.application, Application::Exec(exec) if exec.protocol == Protocol::Fastcgi);
        for (stream, output) in outputs.iter_mut().flatten().enumerate() {
            act(stream, output, &mut |line| {
                if stream == 1 && relays && !line.bytes.is_empty() {
                    self.last_words.clear();
                    let words = &line.bytes[..line.bytes.len().min(WORDS)];
                    self.last_words.extend_from_slice(words);
                }
                if let Some(held) = &mut self.held {
                    held.push(stream, line);
                }
                if self.tell_at.is_none() {
                    self.tell(stream, line, pool);
                }
            });
        }
        self.spawned.output = outputs;
    }

    /// What its program has printed last to standard error since this was asked for last.
    pub(super) fn last_words(&mut self) -> Option<String> {
        let words = std::mem::take(&mut self.last_words);
        (!words.is_empty()).then(|| String::from_utf8_lossy(&words).into_owned())
    }

    /// When it wants to be looked at by [`Self::tell_if_slow`].
    pub(super) fn tell_at(&self) -> Option<Time> {
        self.tell_at
    }

    /// Tells what it has printed, if it has been starting for long, and has not just said the same as the one before it
    /// that did not come up.
    pub(super) fn tell_if_slow(&mut self, last_failure: &Held, pool: &config::Pool) {
        let now = now();
        if self.tell_at.is_some_and(|at| at <= now) {
            let held = self.held.as_ref();
            if held.is_some_and(|held| !held.is_empty() && last_failure.begins_with(held)) {
                self.tell_at = Some(now + HOLD);
            } else {
                self.tell_held(pool);
            }
        }
    }

    /// Tells what it has printed until now; from now on that is told at once. What it prints until it is ready is still
    /// remembered, to be compared with what the next one prints.
    pub(super) fn tell_held(&mut self, pool: &config::Pool) {
        if self.tell_at.take().is_some() {
            for line in self.held.iter().flat_map(Held::lines) {
                let whole = Line {
                    bytes: &line.bytes,
                    closed: false,
                };
                self.tell(line.stream, whole, pool);
            }
        }
    }

    /// It is ready: what it printed is of no further use.
    pub(super) fn came_up(&mut self, pool: &config::Pool) {
        self.tell_held(pool);
        self.held = None;
    }

    fn tell(&self, stream: usize, line: Line<'_>, pool: &config::Pool) {
        log::said(&Said {
            pool: &pool.name,
            kind: self.kind.word(),
            pid: &self.pid_text(),
            stream: if stream == 0 { "stdout" } else { "stderr" },
            line: line.bytes,
            closed: line.closed,
            decorated: pool.decorate_workers_output,
        });
    }
}
