//! Where a pool listens, whom it runs as, and in what surroundings.

use std::ffi::OsStr;

use super::{ignored, rlimit, yes_or_no};
use crate::config::directive::Shape::{Map, One};
use crate::config::directive::Source::{Differs, Ours, PhpFpm};
use crate::config::directive::{Directive, Reader, Shown};
use crate::config::raw::push;
use crate::config::{Acl, Pool, identity, listen, value};

/// Where a pool listens, whom it runs as, and in what surroundings.
pub static POOL: &[Directive] = &[
    Directive {
        name: "prefix",
        shape: One,
        default: None,
        example: Some("/srv/site"),
        source: Differs {
            there: "without it and -p, relative paths start at the compiled prefix (/usr)",
            here: "without it and -p, a relative path is an error",
            why: "Nobody wants sockets and logs below /usr.",
        },
        reader: Reader::Pool {
            set: |pool, entry| pool.prefix.set(entry, value::path(&entry.text)),
            show: |pool| pool.prefix.as_ref().map(|path| path.display()).into(),
        },
        text: "The folder that relative paths of the pool start at, an existing one. Without it that of -p; without both, paths have to be absolute.",
    },
    Directive {
        name: "listen",
        shape: One,
        default: None,
        example: Some("/run/preforkd-$pool.sock"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.listen.set(entry, listen::parse(&entry.text)),
            show: |pool| Shown::One(pool.listen.to_string()),
        },
        text: "Where the pool listens: the path of a Unix socket (at most 107 bytes), host:port, [v6]:port, or a port alone for all addresses. \
               Required; no two pools can have the same. The name of a host is looked up at the start and at a reload, which fails if that takes more than 10s.",
    },
    Directive {
        name: "listen.backlog",
        shape: One,
        default: Some("-1"),
        example: None,
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
        example: Some("www-data"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.listen_owner.set(entry, value::account(&entry.text)),
            show: |pool| pool.listen_owner.map(identity::name_of_user).into(),
        },
        text: "The owner of a Unix socket, a name or a number; its primary group becomes the socket's group if listen.group is not set. \
               Without it the daemon's user. Only root can give a socket away: else it is ignored with a notice.",
    },
    Directive {
        name: "listen.group",
        shape: One,
        default: None,
        example: Some("www-data"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.listen_group.set(entry, value::account(&entry.text)),
            show: |pool| pool.listen_group.map(identity::name_of_group).into(),
        },
        text: "The group of a Unix socket, a name or a number. Without it the owner's, or else the daemon's.",
    },
    Directive {
        name: "listen.mode",
        shape: One,
        default: Some("0660"),
        example: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.listen_mode.set(entry, value::mode(&entry.text)),
            show: |pool| Shown::One(format!("{:04o}", pool.listen_mode)),
        },
        text: "The permission bits of a Unix socket, in octal. The web server needs to write.",
    },
    Directive {
        name: "listen.acl_users",
        shape: One,
        default: None,
        example: Some("www-data"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.listen_acl_users.set(entry, value::names(&entry.text)),
            show: |pool| {
                show_acl(pool, |acl| {
                    acl.users
                        .iter()
                        .copied()
                        .map(identity::name_of_user)
                        .collect()
                })
            },
        },
        text: "Users that may connect to a Unix socket, names or numbers with commas between them. With it, listen.owner and listen.group are ignored.",
    },
    Directive {
        name: "listen.acl_groups",
        shape: One,
        default: None,
        example: Some("www-data"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.listen_acl_groups.set(entry, value::names(&entry.text)),
            show: |pool| {
                show_acl(pool, |acl| {
                    acl.groups
                        .iter()
                        .copied()
                        .map(identity::name_of_group)
                        .collect()
                })
            },
        },
        text: "Groups whose members may connect to a Unix socket, as in listen.acl_users.",
    },
    Directive {
        name: "listen.allowed_clients",
        shape: One,
        default: None,
        example: Some("127.0.0.1, 10.0.0.0/8"),
        source: Differs {
            there: "only the first 12 of the 16 bytes of an IPv6 address count, and there are no networks",
            here: "addresses count in full, and networks (10.0.0.0/8, 2001:db8::/32) can be written, too",
            why: "An address that is not in the list must not get in.",
        },
        reader: Reader::Pool {
            set: |pool, entry| pool.allowed_clients.set(entry, value::clients(&entry.text)),
            show: |pool| pool.allowed_clients.as_ref().into(),
        },
        text: "Addresses and networks that may connect over TCP, with commas between them; without it, anybody may. If none of them is an address, nobody may.",
    },
    ignored("listen.setfib", One, Reader::IgnoredInPool),
    Directive {
        name: "user",
        shape: One,
        default: None,
        example: Some("www-data"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.user.set(entry, value::account(&entry.text)),
            show: |pool| pool.identity.as_ref().map(|identity| &identity.user).into(),
        },
        text: "The user that workers run as, a name or a number, but not root (unless -R allows it). Required if the daemon is root; else ignored with a notice.",
    },
    Directive {
        name: "group",
        shape: One,
        default: None,
        example: Some("www-data"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.group.set(entry, value::account(&entry.text)),
            show: |pool| {
                pool.identity
                    .as_ref()
                    .map(|identity| identity::name_of_group(identity.gid))
                    .into()
            },
        },
        text: "The group that workers run as, a name or a number, but not root's (unless -R allows it). Without it the user's primary group. Ignored with a notice if the daemon is not root.",
    },
    Directive {
        name: "chroot",
        shape: One,
        default: None,
        example: Some("$prefix"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.chroot.set(entry, value::path(&entry.text)),
            show: |pool| pool.chroot.as_ref().map(|path| path.display()).into(),
        },
        text: "The folder that becomes the root of workers, an existing one; $prefix at its start is the pool's prefix. Ignored with a notice if the daemon is not root.",
    },
    Directive {
        name: "chdir",
        shape: One,
        default: None,
        example: Some("/srv/site"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.chdir.set(entry, value::path(&entry.text)),
            show: |pool| pool.chdir.as_ref().map(|path| path.display()).into(),
        },
        text: "The working directory of workers, an existing folder, inside of chroot if there is one. Without it the daemon's, or / in a chroot.",
    },
    Directive {
        name: "process.priority",
        shape: One,
        default: None,
        example: Some("5"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.process_priority
                    .set(entry, value::priority(&entry.text))
            },
            show: |pool| pool.priority.into(),
        },
        text: "The nice value of workers, from -20 (most urgent) to 20. Ignored with a notice if the daemon is not root.",
    },
    Directive {
        name: "process.dumpable",
        shape: One,
        default: Some("no"),
        example: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.process_dumpable.set(entry, value::flag(&entry.text)),
            show: |pool| Shown::One(yes_or_no(pool.dumpable)),
        },
        text: "Whether workers may dump core, and be traced by processes of their user, although they were root once.",
    },
    Directive {
        name: "no_new_privs",
        shape: One,
        default: Some("yes"),
        example: None,
        source: Ours,
        reader: Reader::Pool {
            set: |pool, entry| pool.no_new_privs.set(entry, value::flag(&entry.text)),
            show: |pool| Shown::One(yes_or_no(pool.no_new_privs)),
        },
        text: "Whether workers, and all they start, are kept from gaining privileges. With yes, sudo and programs with the set-user-ID bit do not work for the application.",
    },
    Directive {
        name: "apparmor_hat",
        shape: One,
        default: None,
        example: Some("site"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.apparmor_hat.set(entry, value::text(&entry.text)),
            show: |pool| pool.apparmor_hat.as_ref().into(),
        },
        text: "The AppArmor profile that workers change to.",
    },
    Directive {
        name: "rlimit_files",
        shape: One,
        default: Some("0"),
        example: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.rlimit_files.set(entry, value::limit(&entry.text)),
            show: |pool| Shown::One(rlimit(pool.rlimit_files)),
        },
        text: "The most files that a worker may have open, soft and hard limit; 0 leaves what there is.",
    },
    Directive {
        name: "rlimit_core",
        shape: One,
        default: Some("0"),
        example: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.rlimit_core
                    .set(entry, value::limit_or_none(&entry.text))
            },
            show: |pool| Shown::One(rlimit(pool.rlimit_core)),
        },
        text: "The largest core file of a worker in bytes, or unlimited, soft and hard limit; 0 leaves what there is.",
    },
    Directive {
        name: "env",
        shape: Map,
        default: None,
        example: Some("DJANGO_SETTINGS_MODULE=mysite.settings"),
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
        example: None,
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
        example: None,
        source: Differs {
            there: "no, which sends it to /dev/null",
            here: "yes",
            why: "What an application prints when it cannot start is what a person needs to see.",
        },
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.catch_workers_output
                    .set(entry, value::flag(&entry.text))
            },
            show: |pool| Shown::One(yes_or_no(pool.catch_workers_output)),
        },
        text: "Whether what workers write to standard output and standard error goes to the log.",
    },
    Directive {
        name: "decorate_workers_output",
        shape: One,
        default: Some("yes"),
        example: None,
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

fn show_acl(pool: &Pool, ids: fn(&Acl) -> Vec<String>) -> Shown {
    match pool.listen_acl.as_ref().map(ids) {
        Some(ids) if !ids.is_empty() => Shown::One(ids.join(",")),
        Some(_) | None => Shown::Unset,
    }
}
