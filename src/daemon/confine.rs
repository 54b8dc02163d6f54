//! Makes a child what its pool says, for good.
//!
//! The order is php-fpm's: what only root may do comes first, then the groups, then the user, and then what must not be
//! undone by a change of user. The working directory is entered as the user, inside of the new root.

use crate::config::Pool;
use crate::spawn::c_string;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{chdir, chroot, setsid};
use preforkd_sys::{limits, privileges};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

/// Where a process says which AppArmor profile it changes to: now, and before Linux 5.8.
const APPARMOR: [&str; 2] = [
    "/proc/self/attr/apparmor/current",
    "/proc/self/attr/current",
];

/// Makes this process, which is a child just forked, what `pool` says.
///
/// # Errors
/// What could not be done, and why; the process must not go on then. Limits that cannot be set are told on standard
/// error and do not matter further, as in php-fpm.
pub fn confine(pool: &Pool) -> io::Result<()> {
    // A session of its own, so that no key on a terminal signals it.
    setsid()?;
    limits::restore_files()?;
    for (resource, limit) in [
        (Resource::RLIMIT_NOFILE, pool.rlimit_files),
        (Resource::RLIMIT_CORE, pool.rlimit_core),
    ] {
        if let Some(limit) = limit
            && let Err(error) = setrlimit(resource, limit, limit)
        {
            eprintln!("failed to set {resource:?} for this pool: {error}");
        }
    }
    if let Some(priority) = pool.priority {
        privileges::set_priority(priority).map_err(context("cannot set the priority"))?;
    }
    // The new root may not have the system's user database.
    let groups = match &pool.identity {
        Some(identity) => {
            let user = c_string(OsStr::new(&identity.user))?;
            privileges::groups_of(&user, identity.gid)
                .map_err(context("cannot look up the user's groups"))?
        }
        None => Vec::new(),
    };
    let hat = pool.apparmor_hat.as_deref().map(open_hat).transpose();
    let hat = hat.map_err(context("cannot change the AppArmor profile"))?;
    if let Some(root) = &pool.chroot {
        chroot(root).map_err(context_of("cannot change to root", root))?;
        chdir("/").map_err(context("cannot enter the new root"))?;
    }
    if let Some(identity) = &pool.identity {
        privileges::become_user(&groups, identity.uid, identity.gid)
            .map_err(context_of("cannot become user", Path::new(&identity.user)))?;
    }
    if let Some(directory) = &pool.chdir {
        chdir(directory.as_path()).map_err(context_of("cannot change to directory", directory))?;
    }
    // A change of user has put it back.
    privileges::set_dumpable(pool.dumpable)?;
    if let Some((mut file, profile)) = hat {
        io::Write::write_all(&mut file, format!("changeprofile {profile}").as_bytes())
            .map_err(context("cannot change the AppArmor profile"))?;
    }
    // After the profile, which may not be changed to any other from here on.
    if pool.no_new_privs {
        privileges::no_new_privileges()?;
    }
    Ok(())
}

/// The file that changes the profile, and the profile: the present one's hat of that name, as in php-fpm. It is opened
/// while `/proc` can still be reached.
fn open_hat(hat: &str) -> io::Result<(fs::File, String)> {
    let open = |path| fs::OpenOptions::new().read(true).write(true).open(path);
    let mut file = open(APPARMOR[0]).or_else(|_| open(APPARMOR[1]))?;
    let mut present = String::new();
    io::Read::read_to_string(&mut file, &mut present)?;
    // In the form "profile (enforce)".
    let present = present.trim_end().split(" (").next().unwrap_or_default();
    Ok((file, format!("{present}//{hat}")))
}

fn context<E: Into<io::Error>>(what: &str) -> impl FnOnce(E) -> io::Error {
    move |error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("{what}: {error}"))
    }
}

fn context_of<E: Into<io::Error>>(what: &str, which: &Path) -> impl FnOnce(E) -> io::Error {
    move |error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("{what} {}: {error}", which.display()))
    }
}
