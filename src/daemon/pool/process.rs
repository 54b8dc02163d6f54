//! A process of a pool, as the master holds it: a worker or the mold.

use super::now;
use crate::config;
use crate::log::{self, Said};
use crate::output::{Held, Line, Output};
use crate::spawn::Spawned;
use nix::sys::epoll::Epoll;
use nix::sys::signal::Signal;
use preforkd_plan::time::Time;
use preforkd_sys::children::{self, Death};

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

/// How a process ended, in php-fpm's words.
pub fn describe(death: Death) -> String {
    match death {
        Death::Exited(code) => format!("exited with code {code}"),
        Death::Signaled { number, core } => {
            // Real-time signals have none.
            let name = Signal::try_from(number).map_or("", Signal::as_str);
            let dumped = if core { "core dumped" } else { "" };
            let between = if name.is_empty() || dumped.is_empty() {
                ""
            } else {
                " - "
            };
            match format!("{name}{between}{dumped}").as_str() {
                "" => format!("exited on signal {number}"),
                more => format!("exited on signal {number} ({more})"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_are_told_in_php_fpms_words() {
        let signaled = |number, core| describe(Death::Signaled { number, core });
        assert_eq!(describe(Death::Exited(3)), "exited with code 3");
        assert_eq!(signaled(9, false), "exited on signal 9 (SIGKILL)");
        assert_eq!(
            signaled(11, true),
            "exited on signal 11 (SIGSEGV - core dumped)"
        );
        assert_eq!(signaled(35, false), "exited on signal 35");
        assert_eq!(signaled(35, true), "exited on signal 35 (core dumped)");
    }
}
