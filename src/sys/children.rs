//! The deaths of children, and signals to them.
//!
//! The status of a death is decoded here, since the typed calls know no real-time signals: they fail for a child that
//! one has killed, after they have reaped it.

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt::{self, Display, Formatter};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// By itself.
    Exited(i32),
    /// By a signal.
    Signaled {
        /// The signal's number, which may be of a real-time one.
        number: i32,
        /// Whether it left a core dump.
        core: bool,
    },
}

impl Death {
    fn of(status: libc::c_int) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signaled {
                number: libc::WTERMSIG(status),
                core: libc::WCOREDUMP(status),
            }
        } else {
            Self::Exited(libc::WEXITSTATUS(status))
        }
    }
}

/// In php-fpm's words.
impl Display for Death {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exited(code) => write!(to, "exited with code {code}"),
            Self::Signaled { number, core } => {
                write!(to, "exited on signal {number}")?;
                // Real-time signals have none.
                let name = Signal::try_from(number).map_or("", Signal::as_str);
                match (name, core) {
                    ("", false) => Ok(()),
                    ("", true) => write!(to, " (core dumped)"),
                    (name, false) => write!(to, " ({name})"),
                    (name, true) => write!(to, " ({name} - core dumped)"),
                }
            }
        }
    }
}

/// A child that has ended and is to be reaped with [`wait_for`]; None when there is none now. Never waits. Until it is
/// reaped, its number is nobody else's, and neither is that of its group.
///
/// # Errors
/// What `waitid(2)` gives, but for ECHILD and EINTR.
pub fn ended() -> nix::Result<Option<Pid>> {
    match look(libc::P_ALL, 0) {
        Ok(0) | Err(Errno::ECHILD) => Ok(None),
        Ok(pid) => Ok(Some(Pid::from_raw(pid))),
        Err(error) => Err(error),
    }
}

/// Waits for the end of one child.
///
/// # Errors
/// ECHILD when it is no child, or when SIGCHLD is ignored, so that nothing is left to wait for.
pub fn wait_for(child: Pid) -> nix::Result<Death> {
    wait(child.as_raw(), 0).map(|(_, death)| death)
}

/// Reaps one child if it has ended. Never waits.
///
/// # Errors
/// ECHILD when it is no child.
pub fn try_wait_for(child: Pid) -> nix::Result<Option<Death>> {
    wait(child.as_raw(), libc::WNOHANG).map(|(pid, death)| (pid != 0).then_some(death))
}

fn wait(which: libc::pid_t, flags: libc::c_int) -> nix::Result<(libc::pid_t, Death)> {
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes the status into a variable that lives here.
        match Errno::result(unsafe { libc::waitpid(which, &raw mut status, flags) }) {
            Err(Errno::EINTR) => {}
            other => return other.map(|pid| (pid, Death::of(status))),
        }
    }
}

/// Whether `pid` is a child of this process that has not been reaped, so that nobody else can have its number.
#[must_use]
pub fn is_child(pid: Pid) -> bool {
    let Ok(id) = libc::id_t::try_from(pid.as_raw()) else {
        return false;
    };
    look(libc::P_PID, id).is_ok()
}

/// Looks for a child that has ended, and leaves it unreaped. 0 when none has.
fn look(which: libc::idtype_t, id: libc::id_t) -> nix::Result<libc::pid_t> {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    loop {
        // SAFETY: a siginfo is integers and pointers that are never followed, for which zeroes are a value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes into a variable that lives here.
        match Errno::result(unsafe { libc::waitid(which, id, &raw mut info, flags) }) {
            Err(Errno::EINTR) => {}
            // SAFETY: it is zero still, or the kernel has written what it writes of a child.
            other => return other.map(|_| unsafe { info.si_pid() }),
        }
    }
}

/// Whether somebody's process runs under this pid. One that has ended and was not reaped does not.
#[must_use]
pub fn runs(pid: Pid) -> bool {
    if kill(pid, None) == Err(Errno::ESRCH) {
        return false;
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the state may hold anything.
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    !state.is_some_and(|state| state.starts_with(['Z', 'X']))
}

/// Sends a signal to a child, and to nobody else: not to a process that has got the number of one that is gone, nor to
/// one whose number somebody made up. Returns whether it was sent.
pub fn signal(child: Pid, signal: Signal) -> bool {
    is_child(child) && kill(child, signal).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_are_told_in_php_fpms_words() {
        let signaled = |number, core| Death::Signaled { number, core }.to_string();
        assert_eq!(Death::Exited(3).to_string(), "exited with code 3");
        assert_eq!(signaled(9, false), "exited on signal 9 (SIGKILL)");
        assert_eq!(
            signaled(11, true),
            "exited on signal 11 (SIGSEGV - core dumped)"
        );
        assert_eq!(signaled(35, false), "exited on signal 35");
        assert_eq!(signaled(35, true), "exited on signal 35 (core dumped)");
    }
}
