//! The program as the pool's mold: it forks workers as the master asks for them.
//!
//! It does that on a stack of its own, which a worker leaves for ever: so the program goes on in a worker where it had
//! begun to wait, and in the mold never.

use corosensei::{Coroutine, CoroutineResult, Yielder};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use preforkd_sys::channel::Channel;
use preforkd_sys::fork::{EX_SOFTWARE, exit_now, thread_count};
use preforkd_sys::signals::{PutAway, ignore_ticks};
use preforkd_sys::{fds, privileges, title};
use preforkd_worker::message::{CONTROL_FD, FromMold, MODULE_FD, PROTOCOL};
use preforkd_worker::mold::{Birth, Inheritance, Mold, set_up};
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};

/// The process that the master has started.
static FIRST: AtomicU32 = AtomicU32::new(0);

/// Keeps what the master has put there from what the program starts, and closes what the dynamic linker has read.
pub fn take_channel() {
    FIRST.store(std::process::id(), Ordering::Relaxed);
    // SAFETY: the master has put both there, and nobody else knows of them.
    unsafe {
        let control = BorrowedFd::borrow_raw(CONTROL_FD);
        let _ = fcntl(control, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
        drop(fds::inherited(MODULE_FD));
    }
}

/// Turns this process into its pool's mold. Returns in each worker that is forked, and nowhere else.
pub fn become_mold() -> (Birth, Inheritance) {
    let signals = PutAway::all();
    // A timer of the program's goes on here; its workers have none (fork(2)).
    ignore_ticks();
    let mut mold = Coroutine::new(|leave: &Yielder<(), (Birth, Inheritance)>, ()| {
        if let Err(error) = run(leave) {
            let _ = writeln!(io::stderr(), "the mold cannot go on: {error}");
            exit_now(EX_SOFTWARE)
        }
        exit_now(0)
    });
    match mold.resume(()) {
        CoroutineResult::Yield(life) => {
            // What lies on that stack is the mold's.
            std::mem::forget(mold);
            signals.put_back();
            life
        }
        CoroutineResult::Return(()) => unreachable!("a mold ends with its process"),
    }
}

/// Why this process cannot be a mold, if it cannot.
fn unfitness() -> Option<&'static str> {
    if std::process::id() != FIRST.load(Ordering::Relaxed) {
        return Some("it has forked itself before its first accept");
    }
    if thread_count() != 1 {
        return Some("it has started threads before its first accept");
    }
    match fcntl(io::stdin(), FcntlArg::F_GETFL) {
        Ok(flags) if OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK) => {
            Some("it does not wait for connections in accept")
        }
        _ => None,
    }
}

fn run(leave: &Yielder<(), (Birth, Inheritance)>) -> io::Result<()> {
    // SAFETY: the master has put it there for this library alone.
    let channel = Channel::from_fd(unsafe { fds::inherited(CONTROL_FD)? });
    if let Some(why) = unfitness() {
        let why = why.to_owned();
        return channel.send(&FromMold::Unfit { why }.encode(), &[]);
    }
    channel.send(&FromMold::Hello { protocol: PROTOCOL }.encode(), &[])?;
    let Some(inheritance) = set_up(&channel)? else {
        return Ok(());
    };
    privileges::set_dumpable(inheritance.settings.dumpable)?;
    title::set(&format!(
        "preforkd: mold {} (gen {})",
        inheritance.settings.worker.pool, inheritance.settings.generation
    ));
    channel.send(&FromMold::Ready.encode(), &[])?;
    let mold = Mold::new(channel, inheritance);
    loop {
        let births = mold.orders()?;
        if births.is_empty() {
            return Ok(());
        }
        let forked = mold.fork(
            births,
            || (),
            |birth, inheritance| {
                leave.suspend((birth, inheritance));
                unreachable!("nobody comes back here")
            },
        );
        if let Some(error) = forked.error {
            let _ = writeln!(io::stderr(), "cannot fork: {error}");
        }
        for slot in forked.failed {
            mold.tell(&FromMold::SpawnFailed { slot })?;
        }
    }
}
