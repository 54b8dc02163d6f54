//! The processes that a program before this one, under the same pid, has left.
//!
//! They serve until this program's own workers of their pool are ready, or the pool is no more. Then their channels are
//! closed, which tells them to leave, and who does not is ended by signals as any worker is.

use crate::config;
use crate::log::{self, Said};
use crate::output::{self, Line, Output};
use crate::pool::Common;
use crate::token::Token;
use crate::upgrade::Testament;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use preforkd_plan::pool::KILL_INTERVAL;
use preforkd_plan::time::Time;
use preforkd_sys::channel::Channel;
use preforkd_sys::program::kill_group;
use preforkd_sys::{children, clock};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// One of them.
#[derive(Debug)]
pub struct Elder {
    pid: Pid,
    pool: String,
    /// None when it has been told to leave.
    control: Option<OwnedFd>,
    output: Option<[Output; 2]>,
    /// Whether the log says that it printed a line.
    decorated: bool,
    /// When it gets the next signal.
    deadline: Option<Time>,
    signal: Signal,
    leads_group: bool,
}

impl Elder {
    /// A process of `pool`; without a channel it has been told to leave.
    #[must_use]
    pub fn new(
        pid: Pid,
        pool: String,
        control: Option<OwnedFd>,
        output: Option<[Output; 2]>,
    ) -> Self {
        Self {
            pid,
            pool,
            control,
            output,
            decorated: true,
            deadline: None,
            signal: Signal::SIGTERM,
            leads_group: false,
        }
    }

    /// What it has started is to be ended with it, as far as that is in the group that it leads.
    pub fn lead_group(&mut self) {
        self.leads_group = true;
    }

    /// Whether this is its pid.
    #[must_use]
    pub fn is(&self, pid: Pid) -> bool {
        self.pid == pid
    }
}

/// All of them. Their number in tokens is their place; it does not change.
#[derive(Debug, Default)]
pub struct Elders(Vec<Option<Elder>>);

impl Elders {
    /// Watches what they print, which is told as the configuration now says for `pools`. Those that have been told to
    /// leave have `timeout` for it.
    #[must_use]
    pub fn new(
        mut elders: Vec<Elder>,
        pools: &[config::Pool],
        timeout: Duration,
        common: &Common,
    ) -> Self {
        for (elder, index) in elders.iter_mut().zip(0..) {
            let pool = pools.iter().find(|pool| pool.name == elder.pool);
            elder.decorated = pool.is_none_or(|pool| pool.decorate_workers_output);
            if elder.control.is_none() {
                elder.deadline = Some(Time(clock::now()) + timeout);
            }
            if let Some(outputs) = &elder.output {
                let token = |stream| Token::ElderOutput {
                    elder: index,
                    stream,
                };
                // Else what it says is read at its end.
                let _ = output::watch(&common.epoll, outputs, token);
            }
        }
        Self(elders.into_iter().map(Some).collect())
    }

    /// Whether all have gone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The next instant at which [`Self::settle`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.0
            .iter()
            .flatten()
            .filter_map(|elder| elder.deadline)
            .min()
    }

    /// Tells those whose pool is meant to leave, within `timeout`.
    pub fn release(&mut self, timeout: Duration, is_meant: impl Fn(&str) -> bool) {
        let now = Time(clock::now());
        for elder in self.0.iter_mut().flatten() {
            if is_meant(&elder.pool)
                && let Some(control) = elder.control.take()
            {
                Channel::from_fd(control).discard();
                elder.deadline = Some(now + timeout);
            }
        }
    }

    /// Ends all at once.
    pub fn terminate(&mut self) {
        self.release(Duration::ZERO, |_| true);
        for elder in self.0.iter_mut().flatten() {
            elder.deadline = Some(Time(0));
        }
        self.settle();
    }

    /// Signals those that are over their time.
    pub fn settle(&mut self) {
        let now = Time(clock::now());
        for place in &mut self.0 {
            if let Some(elder) = place
                && elder.deadline.is_some_and(|deadline| deadline <= now)
            {
                if children::signal(elder.pid, elder.signal) {
                    elder.signal = Signal::SIGKILL;
                    elder.deadline = Some(now + KILL_INTERVAL);
                } else {
                    // It is no child, so that its death would never be heard of.
                    *place = None;
                }
            }
        }
    }

    /// One of them prints something.
    pub fn take_output(&mut self, elder: u32, stream: u8, common: &Common) {
        if let Some(Some(elder)) = self.0.get_mut(elder as usize)
            && let Some(outputs) = &mut elder.output
            && let Some(output) = outputs.get_mut(usize::from(stream))
        {
            let (pool, pid, decorated) = (&elder.pool, elder.pid, elder.decorated);
            if !output.take(&mut |line| tell(pool, pid, decorated, stream.into(), line)) {
                let _ = common.epoll.delete(output.pipe());
            }
        }
    }

    /// Ends what one of them has started in its group. It has not been reaped.
    pub fn end_group_of(&self, pid: Pid) {
        let mut elders = self.0.iter().flatten();
        if elders.any(|elder| elder.leads_group && elder.is(pid)) {
            kill_group(pid);
        }
    }

    /// A process has died. Returns whether it was one of these.
    pub fn reaped(&mut self, pid: Pid) -> bool {
        let is_it = |elder: &Option<Elder>| elder.as_ref().is_some_and(|elder| elder.is(pid));
        let Some(place) = self.0.iter().position(is_it) else {
            return false;
        };
        if let Some(mut elder) = self.0[place].take() {
            for (stream, output) in elder.output.iter_mut().flatten().enumerate() {
                let (pool, decorated) = (&elder.pool, elder.decorated);
                output.drain(&mut |line| tell(pool, pid, decorated, stream, line));
            }
            tracing::debug!(
                "[pool {}] {pid}, of the program before, has ended",
                elder.pool
            );
        }
        true
    }

    /// Leaves them to another program.
    pub fn bequeath<'a>(&'a self, testament: &mut Testament<'a>) {
        for elder in self.0.iter().flatten() {
            let control = elder.control.as_ref().map(AsFd::as_fd);
            let output = elder.output.as_ref();
            testament.process(&elder.pool, elder.pid, control, output, elder.leads_group);
        }
    }
}

fn tell(pool: &str, pid: Pid, decorated: bool, stream: usize, line: Line<'_>) {
    log::said(&Said {
        pool,
        kind: "child",
        pid: &pid.to_string(),
        stream: if stream == 0 { "stdout" } else { "stderr" },
        line: line.bytes,
        closed: line.closed,
        decorated,
    });
}
