//! Where a pool listens, whom it runs as, and in what surroundings.

use std::ffi::OsStr;

use super::{ignored, yes_or_no};
use crate::config::directive::Shape::{Map, One};
use crate::config::directive::Source::PhpFpm;
use crate::config::directive::{Directive, Reader, Shown};
use crate::config::raw::push;
use crate::config::{listen, value};

/// Where a pool listens, whom it runs as, and in what surroundings.
pub static POOL: &[Directive] = &[
    Directive {
        name: "prefix",
        shape: One,
        default: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.prefix.set(entry, value::absolute_path(&entry.text)),
            show: |_| Shown::Hidden,
        },
        text: "The folder that relative paths of the pool start at: an absolute path of an existing folder. Without it, paths have to be absolute.",
    },
    Directive {
        name: "listen",
        shape: One,
        default: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.listen.set(entry, listen::parse(&entry.text)),
            show: |pool| Shown::One(pool.listen.to_string()),
        },
        text: "Where the pool listens: the path of a Unix socket (at most 107 bytes), host:port, [v6]:port, or a port alone for all addresses. \
               Required; no two pools can have the same.",
    },
    Directive {
        name: "listen.backlog",
        shape: One,
        default: Some("-1"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.backlog.set(entry, value::backlog(&entry.text)),
            show: |pool| {
                Shown::One(
                    pool.backlog
                        .map_or("-1".to_owned(), |count| count.to_string()),
                )
            },
        },
        text: "Connections that may wait to be accepted. -1 is the system's limit (net.core.somaxconn), which also bounds any other number.",
    },
    Directive {
        name: "listen.owner",
        shape: One,
        default: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.listen_owner.set(entry, Ok(entry.text.clone())),
            show: |pool| pool.listen_owner.into(),
        },
        text: "The owner of a Unix socket, a name or a number; its primary group becomes the socket's group if listen.group is not set. \
               Without it the daemon's user. Only root can give a socket away: else it is ignored with a notice.",
    },
    Directive {
        name: "listen.group",
        shape: One,
        default: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.listen_group.set(entry, Ok(entry.text.clone())),
            show: |pool| pool.listen_group.into(),
        },
        text: "The group of a Unix socket, a name or a number. Without it the owner's, or else the daemon's.",
    },
    Directive {
        name: "listen.mode",
        shape: One,
        default: Some("0660"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.listen_mode.set(entry, value::mode(&entry.text)),
            show: |pool| Shown::One(format!("{:04o}", pool.listen_mode)),
        },
        text: "The permission bits of a Unix socket, in octal. The web server needs to write.",
    },
    ignored("listen.setfib", One, Reader::IgnoredInPool),
    Directive {
        name: "user",
        shape: One,
        default: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.user.set(entry, Ok(entry.text.clone())),
            show: |pool| pool.identity.as_ref().map(|identity| &identity.user).into(),
        },
        text: "The user that workers run as, a name or a number, but not root. Required if the daemon is root; else ignored with a notice.",
    },
    Directive {
        name: "group",
        shape: One,
        default: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.group.set(entry, Ok(entry.text.clone())),
            show: |pool| pool.identity.as_ref().map(|identity| identity.gid).into(),
        },
        text: "The group that workers run as, a name or a number, but not root's. Without it the user's primary group. Ignored with a notice if the daemon is not root.",
    },
    Directive {
        name: "chdir",
        shape: One,
        default: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.chdir.set(entry, Ok(entry.text.clone().into())),
            show: |pool| pool.chdir.as_ref().map(|path| path.display()).into(),
        },
        text: "The working directory of workers, an existing folder. Without it the daemon's.",
    },
    Directive {
        name: "env",
        shape: Map,
        default: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| push(&mut pool.env, entry, Ok(entry.text.clone())),
            show: |pool| {
                let text = |part: &OsStr| part.to_string_lossy().into_owned();
                let pairs = pool.env.iter();
                Shown::Many(pairs.map(|(key, value)| (text(key), text(value))).collect())
            },
        },
        text: "An environment variable of workers. A value of the form $NAME takes the daemon's variable of that name (empty if it is not set). \
               Words such as yes and none are passed on as they are written.",
    },
    Directive {
        name: "clear_env",
        shape: One,
        default: Some("yes"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.clear_env.set(entry, value::flag(&entry.text)),
            show: |pool| Shown::One(yes_or_no(pool.clear_env)),
        },
        text: "Whether workers start from an empty environment, to which USER, HOME and env[] are added, or from the daemon's.",
    },
    Directive {
        name: "catch_workers_output",
        shape: One,
        default: Some("yes"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.catch_workers_output
                    .set(entry, value::flag(&entry.text))
            },
            show: |pool| Shown::One(yes_or_no(pool.catch_workers_output)),
        },
        text: "Whether what workers write to standard output and standard error goes to the log. php-fpm's default is no, which loses it.",
    },
    Directive {
        name: "decorate_workers_output",
        shape: One,
        default: Some("yes"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.decorate_workers_output
                    .set(entry, value::flag(&entry.text))
            },
            show: |pool| Shown::One(yes_or_no(pool.decorate_workers_output)),
        },
        text: "Whether the log says which worker a line of output is from, or has the line as it is.",
    },
    ignored("security.limit_extensions", One, Reader::IgnoredInPool),
    ignored("php_value", Map, Reader::IgnoredInPool),
    ignored("php_flag", Map, Reader::IgnoredInPool),
    ignored("php_admin_value", Map, Reader::IgnoredInPool),
    ignored("php_admin_flag", Map, Reader::IgnoredInPool),
];
