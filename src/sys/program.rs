//! Starting a program that belongs to this process and dies with it.
//!
//! The child gets a process group of its own, so that what it starts can be ended with it, and the kernel kills it when
//! the thread that started it ends, however that comes about. Unlike [`crate::fork`] this works with other threads
//! about: between fork and exec the child runs nothing but system calls.

use crate::children;
use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getppid};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A program and what it is started with.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its file, an absolute path.
    pub path: PathBuf,
    /// Its arguments, without its name.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
}

/// A program that was started and has not been reaped: its pid is nobody else's.
#[derive(Debug)]
pub struct Started {
    /// Its process id, which is that of its group as well.
    pub pid: Pid,
    /// Readable from its end on (pidfd_open(2)).
    pub end: OwnedFd,
}

impl Program {
    /// Starts it with `stdio` as its standard input, output and error, nothing else open, `directory` as working
    /// directory, every signal at its default and none blocked.
    ///
    /// # Errors
    /// Those of fork(2), and of execve(2): ENOENT, EACCES, ENOEXEC and their like.
    pub fn start(
        &self,
        stdio: [BorrowedFd<'_>; 3],
        directory: BorrowedFd<'_>,
    ) -> io::Result<Started> {
        let [stdin, stdout, stderr] = stdio.map(|fd| fd.try_clone_to_owned().map(Stdio::from));
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(stdin?)
            .stdout(stdout?)
            .stderr(stderr?)
            .process_group(0);
        let parent = Pid::this();
        let directory = directory.as_raw_fd();
        // SAFETY: the closure makes three system calls, which take and give integers, and allocates nothing. The
        // directory is open for as long as the command runs.
        unsafe {
            command.pre_exec(move || {
                if libc::fchdir(directory) < 0
                    || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0
                {
                    return Err(io::Error::last_os_error());
                }
                // It may have ended before the kernel was asked to tell.
                if libc::getppid() == parent.as_raw() {
                    Ok(())
                } else {
                    Err(io::Error::from_raw_os_error(libc::ESRCH))
                }
            });
        }
        // Dropping the handle neither ends nor reaps it.
        let pid = Pid::from_raw(command.spawn()?.id().cast_signed());
        match descriptor(pid) {
            Ok(end) => Ok(Started { pid, end }),
            Err(error) => {
                kill_group(pid);
                let _ = children::wait_for(pid);
                Err(error)
            }
        }
    }
}

/// Has the kernel kill this process, which is a child just forked, and the program that it turns into, when its parent
/// ends. To be called by the user that it stays.
///
/// # Errors
/// ESRCH when `parent` has ended already.
pub fn end_with(parent: Pid) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // It may have ended before the kernel was asked to tell.
    if getppid() == parent {
        Ok(())
    } else {
        Err(Errno::ESRCH.into())
    }
}

/// Kills a program and what it has started, as far as that is in its group. To be called before it is reaped.
pub fn kill_group(program: Pid) {
    signal_group(program, Signal::SIGKILL);
}

/// Sends a signal to a program and what it has started, as far as that is in its group. To be called before it is
/// reaped.
pub fn signal_group(program: Pid, signal: Signal) {
    // Who is gone needs no signal.
    let _ = killpg(program, signal);
}

/// The process group that a program leads which a child of this process has started.
///
/// The child is not to be trusted, so that the kernel is asked: a program is known by its number and the time of its
/// start, and taken for nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    leader: Pid,
    /// Clock ticks since the machine started.
    since: u64,
}

impl Group {
    /// The group of `leader`, if `parent` has started that, and it leads one. None as well when it has gone.
    #[must_use]
    pub fn led_by(leader: Pid, parent: Pid) -> Option<Self> {
        // To killpg(3) numbers below 2 are this process's own group, or everybody.
        if leader.as_raw() < 2 {
            return None;
        }
        let stat = std::fs::read_to_string(format!("/proc/{leader}/stat")).ok()?;
        // The name, in parentheses, may hold anything. Then: state, parent, group, and 17 fields on the start (proc(5)).
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let is = |at, pid: Pid| number(at) == Some(u64::from(pid.as_raw().unsigned_abs()));
        let is_it = is(1, parent) && is(2, leader);
        number(19)
            .filter(|_| is_it)
            .map(|since| Self { leader, since })
    }

    /// Kills it, if the child has died and has left its leader to this process, which has not reaped that yet: until
    /// then the number is nobody else's.
    pub fn kill_if_inherited(self) {
        if Self::led_by(self.leader, Pid::this()) == Some(self) {
            kill_group(self.leader);
        }
    }
}

fn descriptor(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: it takes integers and gives a descriptor, close-on-exec.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = libc::c_int::try_from(Errno::result(result)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Bytes that were sent over a Unix socket and that the other side has not read yet, in the kernel's measure: 0 exactly
/// when all has been read.
///
/// # Errors
/// The error of `ioctl(2)`.
pub fn unread(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes an integer into a variable that lives here.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    Errno::result(result)?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}
