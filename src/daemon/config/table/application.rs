//! What a pool's workers run. All of it is preforkd's own.

use super::yes_or_no;
use crate::config::directive::Shape::{List, One};
use crate::config::directive::Source::Ours;
use crate::config::directive::{Directive, Reader, Shown};
use crate::config::raw::{BuiltIn, push};
use crate::config::{Application, Mount, Pool, Wsgi, value};

/// What a pool's workers run. All of it is preforkd's own.
pub static APPLICATION: &[Directive] = &[
    Directive {
        name: "app",
        shape: One,
        default: None,
        example: Some("hello"),
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
        example: Some("mysite.wsgi:application"),
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
        example: None,
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
        example: Some("src"),
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
        example: None,
        source: Ours,
        reader: Reader::Pool {
            set: |pool, entry| pool.preload.set(entry, value::flag(&entry.text)),
            show: |pool| show_wsgi(pool, |wsgi| Shown::One(yes_or_no(wsgi.preload))),
        },
        text: "Whether the application is imported once and its memory shared by all workers, or imported by each worker. \
               Connections that the import or wsgi.warmup opens (to databases, to Redis) are shared by all workers, too, and must not be: \
               close them in os.register_at_fork(before=...), or say no here.",
    },
    Directive {
        name: "wsgi.warmup",
        shape: List,
        default: None,
        example: Some("/"),
        source: Ours,
        reader: Reader::Pool {
            set: |pool, entry| push(&mut pool.warmup, entry, value::url(&entry.text)),
            show: |pool| show_wsgi(pool, |wsgi| list(wsgi.warmup.iter().cloned())),
        },
        text: "A URL's path, beginning with /, that is requested once before workers are forked, so that they share what the request loads. \
               The Host is localhost, which Django's ALLOWED_HOSTS has to have. For connections that the request opens see wsgi.preload.",
    },
    Directive {
        name: "mount",
        shape: One,
        default: Some("auto"),
        example: None,
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

fn show_wsgi(pool: &Pool, show: fn(&Wsgi) -> Shown) -> Shown {
    match &pool.application {
        Application::Wsgi(wsgi) => show(wsgi),
        Application::Hello => Shown::Unset,
    }
}

fn list(values: impl Iterator<Item = String>) -> Shown {
    Shown::Many(values.map(|value| (String::new(), value)).collect())
}
