//! Users and groups, by name or by number, as the system knows them.

use std::path::PathBuf;

use nix::unistd::{Gid, Group, Uid, User};

use super::names::Names;
use super::value;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name, or its number if the system does not know it.
    pub name: String,
    /// Its number.
    pub uid: Uid,
    /// Its primary group, if the system knows the user.
    pub gid: Option<Gid>,
    /// Its home directory, or `/` if the system does not know the user.
    pub home: PathBuf,
}

/// The user of a name or number. A number need not be known to the system.
///
/// # Errors
/// The rule that is broken.
pub fn account(text: &str, names: &Names) -> Result<Account, String> {
    let (known, uid) = if is_number(text) {
        let uid = Uid::from_raw(number(text)?);
        (names.user_of_number(uid), Some(uid))
    } else {
        (names.user(text), None)
    };
    let known = known.map_err(|error| format!("the user cannot be looked up: {error}"))?;
    match (known, uid) {
        (Some(user), _) => Ok(Account {
            name: user.name,
            uid: user.uid,
            gid: Some(user.gid),
            home: user.home,
        }),
        (None, Some(uid)) => Ok(Account {
            name: uid.to_string(),
            uid,
            gid: None,
            home: PathBuf::from("/"),
        }),
        (None, None) => Err(format!(
            "cannot get uid for user '{text}': add it (adduser --system), or choose another"
        )),
    }
}

/// The group of a name or number. A number need not be known to the system.
///
/// # Errors
/// The rule that is broken.
pub fn group(text: &str, names: &Names) -> Result<Gid, String> {
    if is_number(text) {
        return Ok(Gid::from_raw(number(text)?));
    }
    match names.group(text) {
        Ok(Some(gid)) => Ok(gid),
        Ok(None) => Err(format!(
            "cannot get gid for group '{text}': add it (addgroup --system), or choose another"
        )),
        Err(error) => Err(format!("the group cannot be looked up: {error}")),
    }
}

/// The name of a user, or its number if it has none.
pub fn name_of_user(uid: Uid) -> String {
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => uid.to_string(),
    }
}

/// The name of a group, or its number if it has none.
pub fn name_of_group(gid: Gid) -> String {
    match Group::from_gid(gid) {
        Ok(Some(group)) => group.name,
        Ok(None) | Err(_) => gid.to_string(),
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn number(text: &str) -> Result<u32, String> {
    // The highest number means "no change" to the system calls that set users and groups.
    value::number(text, 0..=u32::MAX - 1)
}
