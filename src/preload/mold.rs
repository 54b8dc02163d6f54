//! The mold: forks a program for each order, and tells each one's relay how it has ended.
//!
//! A program that has ended stays unreaped until its relay has let go of the line, so that until then its pid, and that
//! of its group, are nobody else's. A line that ends before its program does has lost its relay: the program is killed,
//! should the kernel not have done so already.
//!
//! The mold leaves when the master is gone. Its programs go on: they hang on their relays alone.

use crate::descriptors::{
    NoOrder, Order, close, errno, has_ended, is_alone, receive_order, send, wait,
};
use crate::program;
use crate::signals::Signals;
use crate::wire::{BORN, CONTROL_FD, ENDED, FAILED, LINE_BYTES, ORDERS_FD, READY, UNFIT};
use libc::{c_int, pid_t, pollfd};
use std::{mem, ptr};

/// What is waited for besides programs: the master and orders.
const OTHERS: usize = 2;

/// A program that has been forked and not been reaped.
struct Forked {
    pid: pid_t,
    /// Readable from its end on; -1 when that has been seen.
    end: c_int,
    /// To its relay; -1 when that has let go.
    line: c_int,
}

/// Turns this process into its pool's mold, which was started as `awaited`. Returns in each program that is forked, and
/// nowhere else.
pub fn become_mold(awaited: pid_t) {
    if let Some(reason) = unfitness(awaited) {
        tell_unfit(reason);
        // SAFETY: it ends the process and touches none of its memory.
        unsafe { libc::_exit(0) };
    }
    let signals = Signals::put_away();
    let mask = Signals::of_mold();
    send(CONTROL_FD, &[READY], None);
    let mut programs: Vec<Forked> = Vec::new();
    let mut polled: Vec<pollfd> = Vec::new();
    loop {
        polled.clear();
        polled.extend([CONTROL_FD, ORDERS_FD].map(readable));
        for program in &programs {
            polled.extend([readable(program.end), readable(program.line)]);
        }
        wait(&mut polled, &mask);
        if polled[0].revents != 0 && has_ended(CONTROL_FD) {
            // SAFETY: as above.
            unsafe { libc::_exit(0) };
        }
        let mut ready = polled[OTHERS..].chunks_exact(2);
        programs.retain_mut(|program| {
            let [end, line] = ready.next().unwrap_or_default() else {
                return true;
            };
            program.go_on(end.revents != 0, line.revents != 0)
        });
        if polled[1].revents == 0 {
            continue;
        }
        let order = match receive_order(ORDERS_FD) {
            Ok(order) => order,
            Err(NoOrder::Nothing) => continue,
            // SAFETY: as above.
            Err(NoOrder::End) => unsafe { libc::_exit(0) },
        };
        match fork(&order, &programs) {
            Fork::Program => {
                program::begin(&order, &signals);
                return;
            }
            Fork::Made(program) => programs.push(program),
            Fork::Failed => {}
        }
        let [listener, stdout, stderr, _, leash] = order.fds;
        for fd in [listener, stdout, stderr, leash] {
            close(fd);
        }
    }
}

fn readable(fd: c_int) -> pollfd {
    pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    }
}

/// Why this process cannot be a mold, if it cannot.
fn unfitness(awaited: pid_t) -> Option<&'static str> {
    // SAFETY: getpid always works.
    if unsafe { libc::getpid() } != awaited {
        return Some("it has forked itself before its first accept");
    }
    match std::fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(1) => {}
        Ok(_) => return Some("it has started threads before its first accept"),
        Err(_) => return Some("/proc, which tells its threads, is not there"),
    }
    // SAFETY: it takes integers and touches no memory.
    let flags = unsafe { libc::fcntl(0, libc::F_GETFL) };
    if flags & libc::O_NONBLOCK != 0 {
        return Some("it does not wait for connections in accept");
    }
    None
}

fn tell_unfit(reason: &str) {
    let mut message = vec![UNFIT];
    message.extend_from_slice(&(reason.len() as u64).to_le_bytes());
    message.extend_from_slice(reason.as_bytes());
    send(CONTROL_FD, &message, None);
}

enum Fork {
    /// This is the program.
    Program,
    Made(Forked),
    /// Its relay has been told, or is gone.
    Failed,
}

fn fork(order: &Order, others: &[Forked]) -> Fork {
    let line = order.fds[3];
    if is_alone(line) {
        close(line);
        return Fork::Failed;
    }
    // SAFETY: this process has a single thread, which has just been seen, and nothing has run since that could start one.
    // Signals are blocked but for SIGTERM while it waits, which it does not now.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        close(CONTROL_FD);
        close(ORDERS_FD);
        for other in others {
            close(other.end);
            close(other.line);
        }
        return Fork::Program;
    }
    if pid < 0 {
        report(line, FAILED, errno(), None);
        close(line);
        return Fork::Failed;
    }
    // SAFETY: these calls take integers. The child does the first as well; who comes first does it for both.
    let end = unsafe {
        libc::setpgid(pid, pid);
        libc::syscall(libc::SYS_pidfd_open, pid, 0)
    };
    let Ok(end @ 0..) = c_int::try_from(end) else {
        report(line, FAILED, errno(), None);
        close(line);
        kill_group(pid);
        reap(pid);
        return Fork::Failed;
    };
    report(line, BORN, pid, Some(end));
    Fork::Made(Forked { pid, end, line })
}

impl Forked {
    /// Does what follows from its end, or the end of its line. Returns false when it is over.
    fn go_on(&mut self, ended: bool, let_go: bool) -> bool {
        if ended {
            close(self.end);
            self.end = -1;
            report(self.line, ENDED, status(self.pid), None);
        }
        if let_go {
            close(self.line);
            self.line = -1;
            kill_group(self.pid);
        }
        if self.end < 0 && self.line < 0 {
            reap(self.pid);
            return false;
        }
        true
    }
}

fn report(line: c_int, what: u8, number: c_int, fd: Option<c_int>) {
    let mut message = [what; LINE_BYTES];
    message[1..].copy_from_slice(&number.to_le_bytes());
    send(line, &message, fd);
}

/// Of a child that is not reaped.
fn kill_group(pid: pid_t) {
    // SAFETY: it takes integers and touches no memory.
    unsafe { libc::kill(-pid, libc::SIGKILL) };
}

/// How a child has ended, in the form of waitpid(2), which leaves it unreaped.
fn status(pid: pid_t) -> c_int {
    // SAFETY: zeroes are a value of this; waitid writes into a variable that lives here, and what is read is what it
    // writes for a child's end.
    let (code, status) = unsafe {
        let mut info: libc::siginfo_t = mem::zeroed();
        let flags = libc::WEXITED | libc::WNOWAIT;
        libc::waitid(
            libc::P_PID,
            libc::id_t::try_from(pid).unwrap_or_default(),
            &raw mut info,
            flags,
        );
        (info.si_code, info.si_status())
    };
    match code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status | 0x80,
        _ => status,
    }
}

/// Of a child that has ended, or is about to.
fn reap(pid: pid_t) {
    // SAFETY: it takes integers and a null pointer, for a status that nobody wants.
    unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
}
