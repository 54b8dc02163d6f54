//! What the names in the configuration stand for, before a reload.
//!
//! Users, groups and hosts may be known to servers alone, which answer when they like. So a process of its own reads the
//! configuration first, for the sake of what it asks the system then, and the master reads it with the answers.

use crate::cli::Exit;
use crate::config::Names;
use crate::control::{Outcome, Scope};
use crate::master::{Master, Read};
use crate::spawn;
use crate::status;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use preforkd_plan::pool::Phase;
use preforkd_plan::time::Time;
use preforkd_sys::children::{self, Death};
use preforkd_sys::{clock, fork, title};
use std::fs::File;
use std::io::{self, Read as _, Seek, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// How long the system may take to tell.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of answers that are read at most: many times those of the largest configuration.
const MOST: u64 = 64 * 1024 * 1024;

/// The process that asks.
#[derive(Debug)]
pub struct Inquiry {
    pid: Pid,
    /// What is to be reloaded.
    scope: Scope,
    /// Where it writes the answers.
    answers: File,
    /// When it is killed.
    deadline: Time,
    /// Whether that has been done.
    killed: bool,
}

impl Inquiry {
    /// Asks for all that `read` wants to know.
    ///
    /// # Errors
    /// EAGAIN, EMFILE, ENOMEM and their like.
    fn begin(read: &Read, scope: Scope) -> io::Result<Self> {
        let answers = File::from(memfd_create(c"preforkd-names", MFdFlags::MFD_CLOEXEC)?);
        let null = spawn::null()?;
        let stdio = [null.as_fd(); 3];
        let pid = fork::fork_keeping(&[answers.as_fd()], stdio, || {
            title::set("preforkd: reading the configuration");
            let names = Names::default();
            // What is wrong with it is told by the master, which comes to the same result.
            let _ = read(&names);
            status::identity(&names);
            spawn::finish((&answers).write_all(&names.written()))
        })?;
        Ok(Self {
            pid,
            scope,
            answers,
            deadline: Time(clock::now()) + TIMEOUT,
            killed: false,
        })
    }

    fn names(mut self) -> io::Result<Names> {
        let mut text = Vec::new();
        self.answers.rewind()?;
        self.answers.take(MOST).read_to_end(&mut text)?;
        Names::read(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Ends it. One that is gone already is reaped in its time.
    pub fn kill(&self) {
        children::signal(self.pid, Signal::SIGKILL);
    }

    /// When [`Master::settle_inquiry`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.deadline
    }
}

impl Master {
    /// Asks what the names in the configuration stand for, as the first part of a reload.
    pub(crate) fn inquire(&mut self, scope: Scope) {
        match Inquiry::begin(&self.read, scope.clone()) {
            Ok(inquiry) => self.inquiry = Some(inquiry),
            Err(error) => self.inquiry_failed(&scope, &error.to_string()),
        }
    }

    /// Kills who waits for an answer for too long.
    pub(crate) fn settle_inquiry(&mut self) {
        if let Some(inquiry) = &mut self.inquiry
            && inquiry.deadline <= Time(clock::now())
        {
            inquiry.deadline = inquiry.deadline + TIMEOUT;
            inquiry.killed = true;
            inquiry.kill();
        }
    }

    /// A process has died. Returns whether it was the one that asks, in which case what follows has been done.
    pub(crate) fn inquiry_reaped(&mut self, pid: Pid, death: Death) -> bool {
        let Some(inquiry) = self.inquiry.take_if(|inquiry| inquiry.pid == pid) else {
            return false;
        };
        if self.phase != Phase::Running {
            return true;
        }
        let scope = inquiry.scope.clone();
        match death {
            Death::Exited(0) => match inquiry.names() {
                Ok(names) => self.reload_knowing(&scope, names),
                Err(error) => self.inquiry_failed(&scope, &error.to_string()),
            },
            Death::Signaled { .. } if inquiry.killed => {
                let seconds = TIMEOUT.as_secs();
                let why = format!(
                    "users, groups and hosts could not be looked up within {seconds} seconds: is a name server (see \
                     /etc/nsswitch.conf) out of reach?"
                );
                self.inquiry_failed(&scope, &why);
            }
            Death::Exited(_) | Death::Signaled { .. } => {
                self.inquiry_failed(&scope, &format!("the process that does {death}"));
            }
        }
        true
    }

    fn inquiry_failed(&mut self, scope: &Scope, why: &str) {
        let why = Outcome::logged(
            Exit::Software,
            format!("cannot read the configuration: {why}"),
        );
        self.reload_failed(scope, &why);
    }
}
