//! A worker just forked from the mold.

use crate::desk::Desk;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::{dup2_stderr, dup2_stdout, getpgrp, getpid, getppid, setsid};
use preforkd_sys::fork::{EX_SOFTWARE, exit_now};
use preforkd_sys::program::kill_group;
use preforkd_sys::scoreboard::Reporter;
use preforkd_sys::{signals, title};
use preforkd_worker::message::FromWorker;
use preforkd_worker::mold::{Birth, Inheritance};
use preforkd_worker::run::Equipment;
use std::io::{self, Write};
use std::sync::atomic::{AtomicI32, Ordering};

/// The master.
static MASTER: AtomicI32 = AtomicI32::new(0);

/// The worker.
static WORKER: AtomicI32 = AtomicI32::new(0);

/// Whether this process is the worker itself. A child of vfork(2), which no handler of pthread_atfork(3) tells of, has its
/// memory.
pub fn is_here() -> bool {
    getpid().as_raw() == WORKER.load(Ordering::Relaxed)
}

/// The process is about to end. What the program has started ends with it: the master sees to that, or else nobody is
/// left who would ask how this process has ended.
pub fn end_group() {
    if getppid().as_raw() != MASTER.load(Ordering::Relaxed) {
        kill_group(getpgrp());
    }
}

/// Makes this process the worker that the master has asked for, or ends it.
pub fn begin(birth: Birth, inheritance: Inheritance) -> Desk {
    let desk = equip(birth, inheritance).and_then(Desk::new);
    desk.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "the worker cannot begin: {error}");
        exit_now(EX_SOFTWARE)
    })
}

fn equip(birth: Birth, inheritance: Inheritance) -> io::Result<Equipment> {
    let Birth {
        slot,
        control,
        stdout,
        stderr,
    } = birth;
    dup2_stdout(&stdout)?;
    dup2_stderr(&stderr)?;
    let master = getsockopt(&control, PeerCredentials)?.pid();
    MASTER.store(master, Ordering::Relaxed);
    WORKER.store(getpid().as_raw(), Ordering::Relaxed);
    signals::ignore_sigpipe();
    control.send(&FromWorker::Hello.encode(), &[])?;
    let mut settings = inheritance.settings;
    // What a program does behind its answer it does before it comes for the next request, which nobody else would end.
    settings.worker.track_finished = true;
    title::set(&format!("preforkd: pool {}", settings.worker.pool));
    // So that a program that kills its own group hits no other worker. Fails only for the leader of a group, which a
    // process that was just forked is not.
    let _ = setsid();
    Ok(Equipment {
        control,
        listener: inheritance.listener,
        parking: inheritance.parking,
        reporter: Reporter::new(inheritance.board, slot, settings.generation)?,
        settings: settings.worker,
        logs: inheritance.logs,
    })
}
