//! A process of a pool, as the master holds it: a worker or the mold.

use super::now;
use crate::config;
use crate::log::{self, Said};
use crate::output::{Held, Line, Output};
use crate::spawn::Spawned;
use nix::sys::epoll::Epoll;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use preforkd_plan::time::Time;

/// A worker or a mold.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) spawned: Spawned,
    pub(super) started: Time,
    /// Its output, while it starts.
    pub(super) held: Option<Held>,
    /// It was told to leave, or killed: its end is no news.
    pub(super) leaving: bool,
}

impl Process {
    pub(super) fn new(spawned: Spawned) -> Self {
        Self {
            spawned,
            started: now(),
            held: Some(Held::default()),
            leaving: false,
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.spawned.pid {
            // A process that is gone already is reaped in its time.
            let _ = kill(pid, signal);
        }
    }

    pub(super) fn pid_text(&self) -> String {
        self.spawned
            .pid
            .map_or_else(|| "-".to_owned(), |pid| pid.to_string())
    }
}

pub(super) fn take_output(
    process: &mut Process,
    stream: usize,
    kind: &str,
    pool: &config::Pool,
    epoll: &Epoll,
) {
    let pid = process.pid_text();
    let held = &mut process.held;
    if let Some(output) = process
        .spawned
        .output
        .as_mut()
        .and_then(|outputs| outputs.get_mut(stream))
    {
        let goes_on = output.take(&mut |line| said(line, held, stream, kind, &pid, pool));
        if !goes_on {
            let _ = epoll.delete(output.pipe());
        }
    }
}

pub(super) fn drain(process: &mut Process, kind: &str, pool: &config::Pool) {
    let pid = process.pid_text();
    let held = &mut process.held;
    for (stream, output) in process.spawned.output.iter_mut().flatten().enumerate() {
        Output::drain(output, &mut |line| {
            said(line, held, stream, kind, &pid, pool)
        });
    }
}

fn said(
    line: Line<'_>,
    held: &mut Option<Held>,
    stream: usize,
    kind: &str,
    pid: &str,
    pool: &config::Pool,
) {
    match held {
        Some(held) => held.push(stream, line),
        None => tell(line, stream, kind, pid, pool),
    }
}

pub(super) fn tell_held(held: &Held, process: &Process, kind: &str, pool: &config::Pool) {
    for line in held.lines() {
        let whole = Line {
            bytes: &line.bytes,
            closed: false,
        };
        tell(whole, line.stream, kind, &process.pid_text(), pool);
    }
}

fn tell(line: Line<'_>, stream: usize, kind: &str, pid: &str, pool: &config::Pool) {
    log::said(&Said {
        pool: &pool.name,
        kind,
        pid,
        stream: if stream == 0 { "stdout" } else { "stderr" },
        line: line.bytes,
        closed: line.closed,
        decorated: pool.decorate_workers_output,
    });
}

/// How a process ended, in php-fpm's words, and whether it did so by itself and without complaint.
pub(super) fn describe(status: WaitStatus) -> (String, bool) {
    match status {
        WaitStatus::Exited(_, code) => (format!("exited with code {code}"), code == 0),
        WaitStatus::Signaled(_, signal, dumped) => {
            let dumped = if dumped { " - core dumped" } else { "" };
            (
                format!("exited on signal {} ({signal}{dumped})", signal as i32),
                false,
            )
        }
        other => (format!("ended ({other:?})"), false),
    }
}
