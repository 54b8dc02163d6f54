//! A program just forked: made what its relay has ordered.

use crate::descriptors::{Order, close, is_alone};
use crate::signals::Signals;
use libc::c_int;

/// Of fcntl(2): linux/fcntl.h has them, the `libc` crate does not.
const F_SETSIG: c_int = 10;
const F_SETOWN_EX: c_int = 15;
const F_OWNER_PGRP: c_int = 2;

#[repr(C)]
struct Owner {
    kind: c_int,
    pid: libc::pid_t,
}

/// Makes this process, which was forked a moment ago with all signals blocked, the program of `order`. What the mold had
/// open for others is closed already.
pub fn begin(order: &Order, signals: &Signals) {
    let [listener, stdout, stderr, line, leash] = order.fds;
    // SAFETY: these calls take integers and touch no memory. The numbers that are written over are the standard streams of
    // the mold, whose places the new ones take.
    unsafe {
        libc::setpgid(0, 0);
        // Else the mold would die with it.
        if libc::getpgrp() != libc::getpid() {
            libc::_exit(0);
        }
        libc::dup2(listener, 0);
        libc::dup2(stdout, 1);
        libc::dup2(stderr, 2);
        // The relay looks at what the program does if a request takes long; where only ancestors may (Yama), it is let in.
        libc::prctl(libc::PR_SET_PTRACER, libc::c_ulong::from(order.relay));
    }
    for fd in [listener, stdout, stderr, line] {
        close(fd);
    }
    if !hang_on(leash) {
        // SAFETY: it ends the process and touches none of its memory.
        unsafe { libc::_exit(0) };
    }
    signals.put_back();
}

/// Has the kernel kill this process's group as soon as the other end of the pipe is closed, however that comes about:
/// the program's life hangs on its relay, whatever else dies. Returns false if that has happened already, or if it cannot
/// be had.
///
/// A pipe whose writer goes signals its readers that have asked for that (O_ASYNC), with the signal that they have chosen
/// (F_SETSIG).
fn hang_on(leash: c_int) -> bool {
    // SAFETY: getpgrp always works.
    let group = unsafe { libc::getpgrp() };
    let owner = Owner {
        kind: F_OWNER_PGRP,
        pid: group,
    };
    // SAFETY: fcntl reads the owner, which lives here; else it takes integers.
    let armed = unsafe {
        libc::fcntl(leash, F_SETOWN_EX, &raw const owner) == 0
            && libc::fcntl(leash, F_SETSIG, libc::SIGKILL) == 0
            && libc::fcntl(leash, libc::F_SETFL, libc::O_ASYNC) == 0
    };
    armed && !is_alone(leash)
}
