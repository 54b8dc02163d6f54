//! Every directive, in the order of the reference.
//!
//! An entry is all there is to know about a directive by itself; what it has to do with others is in [`super::check`].

use std::time::Duration;

use preforkd_plan::scale::Mode;

use super::directive::Shape::{List, Map, One};
use super::directive::Source::{Ours, PhpFpm, PhpOnly};
use super::directive::{Directive, Reader, Shown};
use super::raw::{BuiltIn, Manager, push};
use super::{Application, MAX_CHILDREN, Mount, Pool, Wsgi, value};

/// Every directive.
pub static TABLE: &[Directive] = &[
    Directive {
        name: "include",
        shape: One,
        default: None,
        source: PhpFpm,
        reader: Reader::Include,
        text: "Reads other files here: a path or a pattern (*, ?, [..]), whose files are read in the order of their names. \
               A relative path starts at the folder of the file it is written in. At most 5 files deep.",
    },
    Directive {
        name: "pid",
        shape: One,
        default: None,
        source: PhpFpm,
        reader: Reader::Global {
            set: |global, entry| global.pid.set(entry, value::absolute_path(&entry.text)),
            show: |global| global.pid.as_ref().map(|path| path.display()).into(),
        },
        text: "The file that the master's pid is written to, an absolute path.",
    },
    Directive {
        name: "error_log",
        shape: One,
        default: None,
        source: PhpFpm,
        reader: Reader::Global {
            set: |global, entry| {
                global
                    .error_log
                    .set(entry, value::absolute_path(&entry.text))
            },
            show: |global| global.error_log.as_ref().map(|path| path.display()).into(),
        },
        text: "The file that the log is appended to, an absolute path. Without it, or as /dev/stderr, the log goes to standard error.",
    },
    Directive {
        name: "log_level",
        shape: One,
        default: Some("notice"),
        source: PhpFpm,
        reader: Reader::Global {
            set: |global, entry| global.log_level.set(entry, value::log_level(&entry.text)),
            show: |global| Shown::One(global.log_level.to_string()),
        },
        text: "The least level that is logged: debug, notice, warning, error or alert.",
    },
    Directive {
        name: "process_control_timeout",
        shape: One,
        default: Some("30s"),
        source: PhpFpm,
        reader: Reader::Global {
            set: |global, entry| {
                global
                    .process_control_timeout
                    .set(entry, value::time(&entry.text, 0))
            },
            show: |global| Shown::One(seconds(global.process_control_timeout)),
        },
        text: "How long workers may go on with the requests they hold when they are asked to leave; a time with s, m, h or d. \
               0 breaks requests off at once, which is php-fpm's default.",
    },
    Directive {
        name: "daemonize",
        shape: One,
        default: Some("no"),
        source: PhpFpm,
        reader: Reader::Global {
            set: |global, entry| global.daemonize.set(entry, value::flag(&entry.text)),
            show: |_| Shown::Hidden,
        },
        text: "Accepted, yes or no, but preforkd always stays in the foreground: a service manager puts it in the background.",
    },
    ignored("events.mechanism", One, Reader::IgnoredInGlobal),
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
            set: |pool, entry| pool.listen.set(entry, super::listen::parse(&entry.text)),
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
            set: |pool, entry| pool.listen_owner.set(entry, value::text(&entry.text)),
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
            set: |pool, entry| pool.listen_group.set(entry, value::text(&entry.text)),
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
            set: |pool, entry| pool.user.set(entry, value::text(&entry.text)),
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
            set: |pool, entry| pool.group.set(entry, value::text(&entry.text)),
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
            set: |pool, entry| pool.chdir.set(entry, value::path(&entry.text)),
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
            set: |pool, entry| push(&mut pool.env, entry, value::text(&entry.text)),
            show: |pool| {
                let text = |part: &std::ffi::OsString| part.to_string_lossy().into_owned();
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
        name: "pm",
        shape: One,
        default: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                const WORDS: &[(&str, Manager)] = &[
                    ("static", Manager::Static),
                    ("dynamic", Manager::Dynamic),
                    ("ondemand", Manager::Ondemand),
                ];
                pool.pm.set(entry, value::word(&entry.text, WORDS))
            },
            show: |pool| {
                let word = match pool.limits.mode {
                    Mode::Static => "static",
                    Mode::Dynamic { .. } => "dynamic",
                    Mode::Ondemand { .. } => "ondemand",
                };
                Shown::One(word.to_owned())
            },
        },
        text: "How the number of workers is managed. static: always pm.max_children; dynamic: the number of idle ones is kept between \
               pm.min_spare_servers and pm.max_spare_servers; ondemand: none until a connection waits. Required.",
    },
    Directive {
        name: "pm.max_children",
        shape: One,
        default: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.max_children
                    .set(entry, value::number(&entry.text, 1..=MAX_CHILDREN))
            },
            show: |pool| Shown::One(pool.limits.max_children.to_string()),
        },
        text: "The most workers the pool ever has, from 1 to 4096, and so the most requests at one time. Required.",
    },
    Directive {
        name: "pm.start_servers",
        shape: One,
        default: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.start_servers
                    .set(entry, value::number(&entry.text, 1..=MAX_CHILDREN))
            },
            show: |pool| match pool.limits.mode {
                Mode::Dynamic { start, .. } => Shown::One(start.to_string()),
                Mode::Static | Mode::Ondemand { .. } => Shown::Unset,
            },
        },
        text: "Workers forked at the start of a dynamic pool, between pm.min_spare_servers and pm.max_spare_servers. Without it the middle of the two.",
    },
    Directive {
        name: "pm.min_spare_servers",
        shape: One,
        default: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.min_spare_servers
                    .set(entry, value::number(&entry.text, 1..=MAX_CHILDREN))
            },
            show: |pool| match pool.limits.mode {
                Mode::Dynamic { min_spare, .. } => Shown::One(min_spare.to_string()),
                Mode::Static | Mode::Ondemand { .. } => Shown::Unset,
            },
        },
        text: "A dynamic pool with fewer idle workers than this grows at once. From 1 to pm.max_spare_servers; required for dynamic.",
    },
    Directive {
        name: "pm.max_spare_servers",
        shape: One,
        default: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.max_spare_servers
                    .set(entry, value::number(&entry.text, 1..=MAX_CHILDREN))
            },
            show: |pool| match pool.limits.mode {
                Mode::Dynamic { max_spare, .. } => Shown::One(max_spare.to_string()),
                Mode::Static | Mode::Ondemand { .. } => Shown::Unset,
            },
        },
        text: "A dynamic pool with more idle workers than this shrinks, by half of the excess each second. At most pm.max_children; required for dynamic.",
    },
    Directive {
        name: "pm.max_spawn_rate",
        shape: One,
        default: Some("32"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.max_spawn_rate
                    .set(entry, value::number(&entry.text, 1..=u32::MAX))
            },
            show: |pool| Shown::One(pool.limits.max_spawn_rate.to_string()),
        },
        text: "The most workers of the pool that are starting at one time; at least 1.",
    },
    Directive {
        name: "pm.process_idle_timeout",
        shape: One,
        default: Some("10s"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.process_idle_timeout
                    .set(entry, value::time(&entry.text, 1))
            },
            show: |pool| match pool.limits.mode {
                Mode::Ondemand { idle_timeout } => Shown::One(seconds(idle_timeout)),
                Mode::Static | Mode::Dynamic { .. } => Shown::Unset,
            },
        },
        text: "How long a worker of an ondemand pool may be idle before it leaves; a time of at least 1s.",
    },
    Directive {
        name: "pm.max_requests",
        shape: One,
        default: Some("0"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.max_requests
                    .set(entry, value::number(&entry.text, 0..=u64::MAX))
            },
            show: |pool| Shown::One(pool.max_requests.to_string()),
        },
        text: "Requests after which a worker is replaced by a new one, against leaks; 0 is never.",
    },
    Directive {
        name: "request_terminate_timeout",
        shape: One,
        default: Some("0"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.request_terminate_timeout
                    .set(entry, value::time(&entry.text, 0))
            },
            show: |pool| {
                Shown::One(
                    pool.request_terminate_timeout
                        .map_or("0".to_owned(), seconds),
                )
            },
        },
        text: "The longest a request may take, a time with s, m, h or d; then its worker is ended. 0 is no limit.",
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
    Directive {
        name: "app",
        shape: One,
        default: None,
        source: Ours,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.app.set(
                    entry,
                    value::word(&entry.text, &[("hello", BuiltIn::Hello)]),
                )
            },
            show: |pool| match pool.application {
                Application::Hello => Shown::One("hello".to_owned()),
                Application::Wsgi(_) => Shown::Unset,
            },
        },
        text: "Answers with a built-in application. hello: a page with the request's parameters and the pool's counts, to prove a web server's set-up. \
               A pool has either app or wsgi.",
    },
    Directive {
        name: "wsgi",
        shape: One,
        default: None,
        source: Ours,
        reader: Reader::Pool {
            set: |pool, entry| pool.wsgi.set(entry, value::target(&entry.text)),
            show: |pool| {
                show_wsgi(pool, |wsgi| {
                    Shown::One(format!("{}:{}", wsgi.module, wsgi.callable))
                })
            },
        },
        text: "Hosts a Python application: package.module:callable, where :application may be left out.",
    },
    Directive {
        name: "python",
        shape: One,
        default: Some("/usr/bin/python3"),
        source: Ours,
        reader: Reader::Pool {
            set: |pool, entry| pool.python.set(entry, value::path(&entry.text)),
            show: |pool| show_wsgi(pool, |wsgi| Shown::One(wsgi.python.display().to_string())),
        },
        text: "The interpreter of a wsgi pool, CPython 3.10 or later; that of a virtual environment brings the environment's packages.",
    },
    Directive {
        name: "pythonpath",
        shape: List,
        default: None,
        source: Ours,
        reader: Reader::Pool {
            set: |pool, entry| push(&mut pool.pythonpath, entry, value::path(&entry.text)),
            show: |pool| {
                show_wsgi(pool, |wsgi| {
                    list(
                        wsgi.pythonpath
                            .iter()
                            .map(|path| path.display().to_string()),
                    )
                })
            },
        },
        text: "A folder (or archive) put before the interpreter's module search path, first first; it must exist.",
    },
    Directive {
        name: "wsgi.preload",
        shape: One,
        default: Some("yes"),
        source: Ours,
        reader: Reader::Pool {
            set: |pool, entry| pool.preload.set(entry, value::flag(&entry.text)),
            show: |pool| show_wsgi(pool, |wsgi| Shown::One(yes_or_no(wsgi.preload))),
        },
        text: "Whether the application is imported once and its memory shared by all workers, or imported by each worker.",
    },
    Directive {
        name: "wsgi.warmup",
        shape: List,
        default: None,
        source: Ours,
        reader: Reader::Pool {
            set: |pool, entry| push(&mut pool.warmup, entry, value::url(&entry.text)),
            show: |pool| show_wsgi(pool, |wsgi| list(wsgi.warmup.iter().cloned())),
        },
        text: "A URL's path, beginning with /, that is requested once before workers are forked, so that they share what the request loads.",
    },
    Directive {
        name: "mount",
        shape: One,
        default: Some("auto"),
        source: Ours,
        reader: Reader::Pool {
            set: |pool, entry| pool.mount.set(entry, value::mount(&entry.text)),
            show: |pool| {
                show_wsgi(pool, |wsgi| {
                    Shown::One(match &wsgi.mount {
                        Mount::Auto => "auto".to_owned(),
                        Mount::Prefix(prefix) if prefix.is_empty() => "/".to_owned(),
                        Mount::Prefix(prefix) => prefix.clone(),
                    })
                })
            },
        },
        text: "The prefix of URL paths that becomes SCRIPT_NAME, such as /app (/ for none); auto takes it from what the web server sends.",
    },
];

/// A directive that is accepted so that files written for php-fpm load.
const fn ignored(name: &'static str, shape: super::directive::Shape, reader: Reader) -> Directive {
    Directive {
        name,
        shape,
        default: None,
        source: PhpOnly,
        reader,
        text: "Accepted for php-fpm's sake, with a notice, and ignored.",
    }
}

fn show_wsgi(pool: &Pool, show: fn(&Wsgi) -> Shown) -> Shown {
    match &pool.application {
        Application::Wsgi(wsgi) => show(wsgi),
        Application::Hello => Shown::Unset,
    }
}

fn list(values: impl Iterator<Item = String>) -> Shown {
    Shown::Many(values.map(|value| (String::new(), value)).collect())
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs())
}

fn yes_or_no(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_owned()
}
