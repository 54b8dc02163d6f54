//! What the system says of users, groups and hosts.
//!
//! Whom it asks is its own affair (nsswitch.conf(5)): a file, or a server on the network that does not answer. The master
//! waits for nobody, and so never asks once it serves: before a reload a process of its own asks, and hands over the
//! answers ([`crate::inquiry`]), which a program that takes over gets as well.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::unistd::{Gid, Group, Uid, User};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    User,
    UserOfNumber,
    Group,
    Host,
}

const KINDS: [Kind; 4] = [Kind::User, Kind::UserOfNumber, Kind::Group, Kind::Host];

/// The fields of what was found, none if there is no such thing; or why it cannot be known.
type Answer = Result<Vec<OsString>, String>;

/// A user, as the system knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: Uid,
    /// Its primary group.
    pub gid: Gid,
    /// Its home directory.
    pub home: PathBuf,
}

/// The answers there are. Each question is asked once.
#[derive(Debug, Default)]
pub struct Names {
    answers: RefCell<BTreeMap<(Kind, String), Answer>>,
    /// Nobody is asked any more.
    is_closed: bool,
}

impl Names {
    /// The user of a name.
    ///
    /// # Errors
    /// The system cannot tell.
    pub fn user(&self, name: &str) -> Result<Option<Known>, String> {
        self.known(Kind::User, name, || User::from_name(name))
    }

    /// The user of a number.
    ///
    /// # Errors
    /// The system cannot tell.
    pub fn user_of_number(&self, uid: Uid) -> Result<Option<Known>, String> {
        self.known(Kind::UserOfNumber, &uid.to_string(), || User::from_uid(uid))
    }

    fn known(
        &self,
        kind: Kind,
        text: &str,
        look_up: impl FnOnce() -> nix::Result<Option<User>>,
    ) -> Result<Option<Known>, String> {
        let fields = self.answer(kind, text, || {
            let user = look_up().map_err(|error| error.to_string())?;
            Ok(user.map_or_else(Vec::new, |user| {
                let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
                vec![user.name.into(), uid.into(), gid.into(), user.dir.into()]
            }))
        })?;
        let [name, uid, gid, home] = fields.as_slice() else {
            return Ok(None);
        };
        Ok(Some(Known {
            name: name.to_string_lossy().into_owned(),
            uid: Uid::from_raw(number(uid)?),
            gid: Gid::from_raw(number(gid)?),
            home: home.into(),
        }))
    }

    /// The group of a name.
    ///
    /// # Errors
    /// The system cannot tell.
    pub fn group(&self, name: &str) -> Result<Option<Gid>, String> {
        let fields = self.answer(Kind::Group, name, || {
            let group = Group::from_name(name).map_err(|error| error.to_string())?;
            let gid = group.map(|group| group.gid.to_string().into());
            Ok(gid.into_iter().collect())
        })?;
        let gid = fields.first().map(|gid| number(gid)).transpose()?;
        Ok(gid.map(Gid::from_raw))
    }

    /// The addresses of a host, each once, in the system's order.
    ///
    /// # Errors
    /// The system cannot tell, or knows no such host.
    pub fn host(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        // An address is its own name.
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let fields = self.answer(Kind::Host, name, || {
            let found = (name, 0).to_socket_addrs();
            let found = found.map_err(|error| error.to_string())?;
            Ok(found.map(|found| found.ip().to_string().into()).collect())
        })?;
        let mut addresses: Vec<IpAddr> = fields
            .iter()
            .filter_map(|address| address.to_str()?.parse().ok())
            .collect();
        addresses.dedup();
        Ok(addresses)
    }

    /// The same answers; the system is asked for what is not among them.
    #[must_use]
    pub fn reopened(self) -> Self {
        Self {
            is_closed: false,
            ..self
        }
    }

    fn answer(&self, kind: Kind, text: &str, ask: impl FnOnce() -> Answer) -> Answer {
        let question = (kind, text.to_owned());
        if let Some(answer) = self.answers.borrow().get(&question) {
            return answer.clone();
        }
        if self.is_closed {
            return Err("the configuration has changed while it was being read".to_owned());
        }
        let answer = ask();
        self.answers.borrow_mut().insert(question, answer.clone());
        answer
    }

    /// All answers, for [`Self::read`] in another process.
    #[must_use]
    pub fn written(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut field = |field: &OsStr| {
            // What comes from the system's own functions has no NUL.
            text.extend_from_slice(field.as_bytes());
            text.push(0);
        };
        for ((kind, name), answer) in &*self.answers.borrow() {
            let number = KINDS.iter().position(|known| known == kind);
            let (what, fields) = match answer {
                Ok(fields) => ("found", fields.clone()),
                Err(why) => ("failed", vec![why.into()]),
            };
            for head in [
                number.unwrap_or_default().to_string().as_str(),
                name,
                what,
                &fields.len().to_string(),
            ] {
                field(head.as_ref());
            }
            fields.iter().for_each(|text| field(text));
        }
        text
    }

    /// The answers that another process has [`Self::written`]; nobody else is asked. None if they make no sense.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        let mut answers = BTreeMap::new();
        let mut fields = text.split(|&byte| byte == 0).map(OsStr::from_bytes);
        while let Some(number) = fields.next().filter(|number| !number.is_empty()) {
            let kind = *KINDS.get(number.to_str()?.parse::<usize>().ok()?)?;
            let name = fields.next()?.to_str()?.to_owned();
            let is_found = fields.next()? == "found";
            let count = fields.next()?.to_str()?.parse().ok()?;
            let found: Vec<OsString> = fields.by_ref().take(count).map(OsStr::to_owned).collect();
            if found.len() < count {
                return None;
            }
            let answer = if is_found {
                Ok(found)
            } else {
                Err(found.first()?.to_string_lossy().into_owned())
            };
            answers.insert((kind, name), answer);
        }
        Some(Self {
            answers: RefCell::new(answers),
            is_closed: true,
        })
    }
}

fn number(field: &OsStr) -> Result<u32, String> {
    let number = field.to_str().and_then(|number| number.parse().ok());
    number.ok_or_else(|| "the answer of the system makes no sense".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_knows_what_was_asked_and_nothing_else() {
        let names = Names::default();
        let root = names.user("root").unwrap().expect("every system has it");
        let same = names.user_of_number(root.uid).unwrap();
        assert_eq!(same.as_ref(), Some(&root));
        assert_eq!(names.user("no such user"), Ok(None));
        let group = names.group("root").unwrap();
        let localhost = names.host("localhost").unwrap();
        assert!(localhost[0].is_loopback());
        let unknown = names.host("no such host");
        assert!(unknown.is_err());

        let there = Names::read(&names.written()).unwrap();
        assert_eq!(there.user("root"), Ok(Some(root)));
        assert_eq!(there.user_of_number(Uid::from_raw(0)), Ok(same));
        assert_eq!(there.user("no such user"), Ok(None));
        assert_eq!(there.group("root"), Ok(group));
        assert_eq!(there.host("localhost"), Ok(localhost));
        assert_eq!(there.host("no such host"), unknown);
        assert_eq!(there.host("::1"), Ok(vec!["::1".parse().unwrap()]));
        let changed = there.user("daemon").unwrap_err();
        assert!(changed.contains("has changed"), "{changed}");
        assert!(there.reopened().user("daemon").unwrap().is_some());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(Names::read(b"").is_some());
        for text in [
            "9\0a\0found\x000\0",
            "0\0a\0found\0",
            "x\0",
            "0\0a\0failed\x000\0",
        ] {
            assert!(Names::read(text.as_bytes()).is_none(), "{text:?}");
        }
    }
}
