//! Becoming a pool's user for good.

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, getgrouplist, setgroups, setresgid, setresuid};
use std::ffi::CStr;
use std::io;

/// The groups of `user`, `gid` among them.
///
/// # Errors
/// The error of `getgrouplist(3)`.
pub fn groups_of(user: &CStr, gid: Gid) -> io::Result<Vec<Gid>> {
    Ok(getgrouplist(user, gid)?)
}

/// Takes on `uid`, `gid` and the supplementary `groups`, for good.
///
/// The order matters: groups first, while this process may still set them; the user last.
///
/// # Errors
/// The error of the call that failed; the process must not go on then.
pub fn become_user(groups: &[Gid], uid: Uid, gid: Gid) -> io::Result<()> {
    setgroups(groups)?;
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

/// Sets this process's scheduling priority, -20 (first) to 19 (last). Less than before needs privileges.
///
/// # Errors
/// The error of `setpriority(2)`.
pub fn set_priority(priority: i32) -> io::Result<()> {
    // SAFETY: it takes numbers only; 0 is this process.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, priority) };
    Ok(Errno::result(result).map(drop)?)
}

/// Whether this process may leave a core file, and be traced by others of its user. An exec puts it back.
///
/// # Errors
/// The error of `prctl(2)`.
pub fn set_dumpable(dumpable: bool) -> io::Result<()> {
    Ok(prctl::set_dumpable(dumpable)?)
}

/// Makes orphans of this process's descendants its own children, so that it sees the deaths of workers that a mold
/// forked.
///
/// # Errors
/// The error of `prctl(2)`.
pub fn become_subreaper() -> io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}
