//! Access control lists of files (acl(5)), as the kernel keeps them: the extended attribute `system.posix_acl_access`.

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{Gid, Uid};
use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `POSIX_ACL_XATTR_VERSION` of linux/posix_acl_xattr.h.
const VERSION: u32 = 2;

/// The tags of entries (linux/posix_acl.h), which have to be in this order.
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The id of entries that have none.
const NO_ID: u32 = u32::MAX;

const READ_WRITE: u16 = 6;

const ATTRIBUTE: &CStr = c"system.posix_acl_access";

/// Takes the list of a file away, so that its mode alone counts.
///
/// # Errors
/// The error of `removexattr(2)`.
pub fn clear(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: two strings that end in NUL; the call keeps none of them.
    let result = unsafe { libc::removexattr(path.as_ptr(), ATTRIBUTE.as_ptr()) };
    match Errno::result(result) {
        // There is none, or there cannot be one.
        Ok(_) | Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Lets `users` and `groups`, each named once, read and write the file beside those that its `mode` lets in.
///
/// # Errors
/// The error of `setxattr(2)`: EOPNOTSUPP where the file system has no such lists.
pub fn admit(path: &Path, mode: u32, users: &[Uid], groups: &[Gid]) -> io::Result<()> {
    let bits = |shift: u32| u16::try_from(mode >> shift & 7).unwrap_or(0);
    let mut users: Vec<u32> = users.iter().map(|user| user.as_raw()).collect();
    let mut groups: Vec<u32> = groups.iter().map(|group| group.as_raw()).collect();
    users.sort_unstable();
    groups.sort_unstable();
    let entries = [(USER_OBJ, bits(6), NO_ID)]
        .into_iter()
        .chain(users.into_iter().map(|id| (USER, READ_WRITE, id)))
        .chain([(GROUP_OBJ, bits(3), NO_ID)])
        .chain(groups.into_iter().map(|id| (GROUP, READ_WRITE, id)))
        .chain([(MASK, READ_WRITE | bits(3), NO_ID), (OTHER, bits(0), NO_ID)]);
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: two strings that end in NUL, and a buffer with its length; the call keeps none of them.
    let result = unsafe {
        libc::setxattr(
            path.as_ptr(),
            ATTRIBUTE.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    Ok(Errno::result(result).map(drop)?)
}
