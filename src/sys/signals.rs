//! Signal dispositions and masks of a child.
//!
//! A child inherits its parent's handlers, ignored signals and mask. A handler of the master's must never run in a
//! worker (it would write into the master's self-pipe), so all signals are blocked around a fork, and the child puts
//! every disposition back to its default before it unblocks them.

use nix::libc;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask,
};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// All signals blocked until this is dropped, then the mask is as it was before.
pub(crate) struct Blocked(SigSet);

impl Blocked {
    pub(crate) fn all() -> io::Result<Self> {
        let mut old = SigSet::empty();
        sigprocmask(
            SigmaskHow::SIG_SETMASK,
            Some(&SigSet::all()),
            Some(&mut old),
        )?;
        Ok(Self(old))
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // Fails only for an invalid `how`.
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.0), None);
    }
}

/// A signal at its default disposition until this is dropped, then as it was before.
pub(crate) struct Defaulted {
    signal: Signal,
    before: SigAction,
}

impl Defaulted {
    pub(crate) fn new(signal: Signal) -> io::Result<Self> {
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: SIG_DFL installs no code.
        let before = unsafe { sigaction(signal, &default)? };
        Ok(Self { signal, before })
    }
}

impl Drop for Defaulted {
    fn drop(&mut self) {
        // SAFETY: what is installed was installed before.
        let _ = unsafe { sigaction(self.signal, &self.before) };
    }
}

/// What a process does on each signal, and which it has blocked: put away while it is something else.
#[derive(Debug)]
pub struct PutAway {
    actions: Vec<(libc::c_int, libc::sigaction)>,
    mask: SigSet,
}

impl PutAway {
    /// Puts them away: every signal is at its default, and none blocked.
    #[must_use]
    pub fn all() -> Self {
        let mut mask = SigSet::empty();
        // Fails only for an invalid `how`.
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, None, Some(&mut mask));
        let mut actions = Vec::new();
        for number in 1..=libc::SIGRTMAX() {
            let mut action = MaybeUninit::<libc::sigaction>::uninit();
            // SAFETY: without a new action it installs nothing, and fills in the whole of the old one unless it fails,
            // which it does for the two signals that the C library keeps for itself.
            unsafe {
                if libc::sigaction(number, ptr::null(), action.as_mut_ptr()) == 0 {
                    actions.push((number, action.assume_init()));
                }
            }
        }
        reset();
        Self { actions, mask }
    }

    /// Puts them back, but for SIGTERM, which stays at its default, and is not blocked.
    pub fn put_back(&self) {
        for (number, action) in &self.actions {
            if *number != libc::SIGTERM {
                // SAFETY: what is installed was installed before, by this program. It fails for the two that cannot be
                // caught, and changes nothing.
                unsafe { libc::sigaction(*number, action, ptr::null_mut()) };
            }
        }
        let mut mask = self.mask;
        mask.remove(Signal::SIGTERM);
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None);
    }
}

/// Puts every signal back to its default disposition, then unblocks all of them.
pub fn reset() {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: `signal` with SIG_DFL installs no code; for numbers that cannot be changed (KILL, STOP, the two that
        // the C library keeps for itself) it fails and changes nothing.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    // Fails only for an invalid `how`.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// Ignores what timers and descriptors send that somebody has set up in this process.
pub fn ignore_ticks() {
    let sent = [libc::SIGALRM, libc::SIGVTALRM, libc::SIGPROF, libc::SIGIO];
    for number in sent.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
        // SAFETY: `signal` with SIG_IGN installs no code.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
}

/// Ignores SIGPIPE, so that a write to a peer that has gone is an error and not the end of the process.
pub fn ignore_sigpipe() {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: SIG_IGN installs no code.
    let _ = unsafe { sigaction(Signal::SIGPIPE, &ignore) };
}

/// No SIGPIPE for the calling thread until this is dropped, whatever the application has made of that signal: for system
/// calls that cannot be asked to do without it, such as `sendfile`.
#[derive(Debug)]
pub struct WithoutSigpipe(Option<SigSet>);

impl WithoutSigpipe {
    /// Begins.
    #[must_use]
    pub fn new() -> Self {
        // Fails only for an invalid `how`.
        let before = sigpipe().thread_swap_mask(SigmaskHow::SIG_BLOCK).ok();
        Self(before.filter(|before| !before.contains(Signal::SIGPIPE)))
    }
}

impl Default for WithoutSigpipe {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for WithoutSigpipe {
    fn drop(&mut self) {
        let Some(before) = &self.0 else { return };
        let none = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: it reads a set and a time, both of which live here, and waits for nothing.
        unsafe { libc::sigtimedwait(sigpipe().as_ref(), ptr::null_mut(), &raw const none) };
        // Fails only for an invalid `how`.
        let _ = before.thread_set_mask();
    }
}

fn sigpipe() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGPIPE);
    set
}

/// Blocks all signals in the calling thread: for helper threads, so that the main thread gets them.
pub fn block_in_this_thread() {
    // Fails only for an invalid `how`.
    let _ = SigSet::all().thread_block();
}

/// Ends this process by `signal`, whatever handlers it has.
pub fn die_of(signal: Signal) -> ! {
    // SAFETY: SIG_DFL installs no code.
    let _ = unsafe {
        sigaction(
            signal,
            &SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty()),
        )
    };
    let mut mask = SigSet::empty();
    mask.add(signal);
    let _ = mask.thread_unblock();
    let _ = nix::sys::signal::raise(signal);
    // A signal whose default is not to end the process.
    crate::fork::exit_now(128 + signal as i32)
}

/// Lets all signals in that the program before has blocked; see [`crate::handover`].
pub fn unblock() {
    // Fails only for an invalid `how`.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}
