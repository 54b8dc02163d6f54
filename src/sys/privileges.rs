//! Becoming a pool's user for good.

use nix::sys::prctl;
use nix::unistd::{Gid, Uid, initgroups, setresgid, setresuid};
use std::ffi::CStr;
use std::io;

/// Takes on `uid`, `gid` and the supplementary groups of `user`, for good.
///
/// The order matters: groups first, while this process may still set them; the user last.
///
/// # Errors
/// The error of the call that failed; the process must not go on then.
pub fn become_user(user: &CStr, uid: Uid, gid: Gid) -> io::Result<()> {
    initgroups(user, gid)?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    Ok(())
}

/// Makes sure that neither this process nor what it starts ever gains privileges by exec (set-user-id programs).
///
/// # Errors
/// The error of `prctl(2)`.
pub fn no_new_privileges() -> io::Result<()> {
    Ok(prctl::set_no_new_privs()?)
}

/// Makes orphans of this process's descendants its own children, so that it sees the deaths of workers that a mold forked.
///
/// # Errors
/// The error of `prctl(2)`.
pub fn become_subreaper() -> io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}
