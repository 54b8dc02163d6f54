//! Signals of a mold: none of the program's handlers runs in it, and each program that is forked has them back.

use libc::{c_int, sigaction, sigset_t};
use std::mem::{self, MaybeUninit};
use std::ptr;

/// What is as by default in a mold: SIGTERM ends it, and its children wait to be reaped.
const DEFAULTED: [c_int; 2] = [libc::SIGTERM, libc::SIGCHLD];

/// The program's signals, put away.
#[derive(Clone, Copy)]
pub struct Signals {
    mask: sigset_t,
    actions: [sigaction; 2],
}

impl Signals {
    /// Blocks all signals and puts the program's actions away.
    pub fn put_away() -> Self {
        let mut all = MaybeUninit::<sigset_t>::uninit();
        let mut mask = MaybeUninit::<sigset_t>::uninit();
        // SAFETY: sigfillset fills the set in whole, and sigprocmask the old mask: it fails only for another first
        // argument.
        let mask = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), mask.as_mut_ptr());
            mask.assume_init()
        };
        // SAFETY: zeroes are the action SIG_DFL, with no flags and an empty mask.
        let default: sigaction = unsafe { mem::zeroed() };
        let actions = DEFAULTED.map(|signal| {
            let mut before = default;
            // SAFETY: SIG_DFL installs no code, and the old action goes into a variable that lives here.
            unsafe { sigaction(signal, &raw const default, &raw mut before) };
            before
        });
        Self { mask, actions }
    }

    /// What a mold waits with: SIGTERM ends it.
    pub fn of_mold() -> sigset_t {
        let mut mask = MaybeUninit::<sigset_t>::uninit();
        // SAFETY: sigfillset fills the set in whole.
        unsafe {
            libc::sigfillset(mask.as_mut_ptr());
            libc::sigdelset(mask.as_mut_ptr(), libc::SIGTERM);
            mask.assume_init()
        }
    }

    /// Puts everything back, in a program that has been forked.
    pub fn put_back(&self) {
        for (signal, action) in DEFAULTED.into_iter().zip(&self.actions) {
            // SAFETY: what is installed was installed before, by this program.
            unsafe { sigaction(signal, action, ptr::null_mut()) };
        }
        // SAFETY: the mask was filled in when it was put away.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.mask, ptr::null_mut()) };
    }
}
