//! Limits of this process and of what it forks.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;
use std::sync::OnceLock;

/// The soft limit of open files that this process was started with.
static FILES: OnceLock<u64> = OnceLock::new();

/// Raises the soft limit of open files to the hard one, and remembers what it was for [`restore_files`].
///
/// What fits under the soft limit still works if that fails.
pub fn raise_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok()
    {
        // A second call raises nothing any more.
        let _ = FILES.set(soft);
    }
}

/// Puts the soft limit of open files back to what it was before [`raise_files`].
///
/// Programs expect that of their starter: with a high limit `select(2)` writes past its sets, and what closes all
/// descriptors one by one takes long.
///
/// # Errors
/// The error of `setrlimit(2)`.
pub fn restore_files() -> io::Result<()> {
    match FILES.get() {
        Some(&soft) => {
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
            Ok(setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard)?)
        }
        None => Ok(()),
    }
}

/// Sets the soft and the hard limit of open files.
///
/// # Errors
/// EPERM above the hard limit without CAP_SYS_RESOURCE, or above `fs.nr_open`.
pub fn set_files(limit: u64) -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_NOFILE, limit, limit)?)
}

/// Sets the soft and the hard limit of the size of a core file, in bytes; `RLIM_INFINITY` is unlimited.
///
/// # Errors
/// EPERM above the hard limit without CAP_SYS_RESOURCE.
pub fn set_core(limit: u64) -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_CORE, limit, limit)?)
}
