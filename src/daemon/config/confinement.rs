//! Whom a pool's workers run as, what they are kept in, and who may connect to them.

use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};
use preforkd_worker::allowed::AllowedClients;

use super::check::PoolChecker;
use super::raw::{Entry, Setting};
use super::{Acl, Identity};

/// Where a path of workers is for the daemon.
pub fn inside(root: Option<&Path>, path: &Path) -> PathBuf {
    match root {
        Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    }
}

impl PoolChecker<'_, '_> {
    /// The owner and the group of a Unix socket.
    pub fn socket_owner(&mut self) -> (Option<Uid>, Option<Gid>) {
        let owner = match self.raw.listen_owner.given() {
            Some(owner) if self.surroundings.effective_uid.is_root() => {
                self.account(&owner.entry, &owner.value)
            }
            Some(_) => {
                self.ignored("listen.owner");
                None
            }
            None => None,
        };
        let group = match self.raw.listen_group.given() {
            Some(group) => self.group(&group.entry, &group.value),
            None => owner.as_ref().and_then(|owner| owner.gid),
        };
        (owner.map(|owner| owner.uid), group)
    }

    /// Whom workers run as; none if the daemon is not root, or if `-R` allows them to be root and nothing else is said.
    pub fn identity(&mut self) -> Option<Identity> {
        if !self.surroundings.effective_uid.is_root() {
            for (name, setting) in [("user", &self.raw.user), ("group", &self.raw.group)] {
                if setting.given().is_some() {
                    self.ignored(name);
                }
            }
            return None;
        }
        let forbidden = !self.surroundings.allow_root;
        let group = self.raw.group.given().and_then(|group| {
            let gid = self.group(&group.entry, &group.value)?;
            if gid.as_raw() == 0 && forbidden {
                let rule = "please specify user and group other than root".to_owned();
                self.wrong(&group.entry, rule);
            }
            Some(gid)
        });
        let user = match &self.raw.user {
            Setting::Given(user) => user,
            Setting::Wrong => return None,
            Setting::Unset if !forbidden => {
                return group.map(|gid| Identity {
                    user: "root".to_owned(),
                    uid: self.surroundings.effective_uid,
                    gid,
                    home: PathBuf::from("/root"),
                });
            }
            Setting::Unset => {
                self.missing(
                    "user has not been defined: preforkd is root here, and workers run as another user; add user = NAME"
                        .to_owned(),
                );
                return None;
            }
        };
        let account = self.account(&user.entry, &user.value)?;
        if account.uid.is_root() && forbidden {
            let rule = "please specify user and group other than root".to_owned();
            self.wrong(&user.entry, rule);
            return None;
        }
        let gid = match (self.raw.group.given(), account.gid) {
            (Some(_), _) => group?,
            (None, Some(gid)) if gid.as_raw() != 0 || !forbidden => gid,
            (None, Some(_)) => {
                let rule = "please specify user and group other than root: the user's group is root's, add group = NAME".to_owned();
                self.wrong(&user.entry, rule);
                return None;
            }
            (None, None) => {
                let rule = "the system has no such user, and so no group for it: add group = NAME";
                self.wrong(&user.entry, rule.to_owned());
                return None;
            }
        };
        Some(Identity {
            user: account.name,
            uid: account.uid,
            gid,
            home: account.home,
        })
    }

    /// Who may connect to a Unix socket besides its owner and group, if that is set.
    pub fn acl(&mut self) -> Option<Acl> {
        let (users, groups) = (&self.raw.listen_acl_users, &self.raw.listen_acl_groups);
        if users.given().is_none() && groups.given().is_none() {
            return None;
        }
        for (name, setting) in [
            ("listen.owner", &self.raw.listen_owner),
            ("listen.group", &self.raw.listen_group),
        ] {
            if let Some(given) = setting.given() {
                self.warning(&format!("ACL set, {name} = '{}' is ignored", given.value));
            }
        }
        let users = each(users, |entry, name| {
            self.account(entry, name).map(|user| user.uid)
        });
        let groups = each(groups, |entry, name| self.group(entry, name));
        Some(Acl { users, groups })
    }

    /// Who may connect over TCP.
    pub fn allowed_clients(&mut self) -> Option<AllowedClients> {
        let (allowed, wrong) = self.raw.allowed_clients.value()?.clone();
        for address in wrong {
            self.warning(&format!(
                "Wrong IP address '{address}' in listen.allowed_clients"
            ));
        }
        if allowed.is_empty() {
            self.warning("There are no allowed addresses");
        }
        Some(allowed)
    }

    /// The root folder of workers.
    pub fn chroot(&mut self) -> Option<PathBuf> {
        let given = self.raw.chroot.given()?;
        if !self.surroundings.effective_uid.is_root() {
            self.ignored("chroot");
            return None;
        }
        let path = match given.value.strip_prefix("$prefix") {
            Ok(rest) => self.absolute(&given.entry, Path::new("."))?.join(rest),
            Err(_) => self.absolute(&given.entry, &given.value)?,
        };
        self.folder(&given.entry, &path);
        // A root of `.` components would show in the titles of errors, and means nothing.
        Some(path.components().collect())
    }

    /// The working directory of workers, inside of `root` if there is one.
    pub fn chdir(&mut self, root: Option<&Path>) -> Option<PathBuf> {
        let Some(given) = self.raw.chdir.given() else {
            return root.map(|_| PathBuf::from("/"));
        };
        let path = match root {
            Some(_) => Path::new("/").join(&given.value),
            None => self.absolute(&given.entry, &given.value)?,
        };
        self.folder(&given.entry, &inside(root, &path));
        Some(path)
    }

    /// The nice value of workers.
    pub fn priority(&mut self) -> Option<i32> {
        let priority = *self.raw.process_priority.value()?;
        if !self.surroundings.effective_uid.is_root() {
            self.ignored("process.priority");
            return None;
        }
        Some(priority)
    }
}

/// The ids of some names, each once; those that cannot be found have been reported.
fn each<T: PartialEq>(
    names: &Setting<Vec<String>>,
    mut find: impl FnMut(&Entry, &str) -> Option<T>,
) -> Vec<T> {
    let mut found = Vec::new();
    if let Some(names) = names.given() {
        for name in &names.value {
            if let Some(id) = find(&names.entry, name)
                && !found.contains(&id)
            {
                found.push(id);
            }
        }
    }
    found
}
