//! What a pool's workers run. All of it is preforkd's own.

use super::yes_or_no;
use crate::config::directive::Shape::{List, One};
use crate::config::directive::Source::Ours;
use crate::config::directive::{Directive, Reader, Shown};
use crate::config::raw::{BuiltIn, push};
use crate::config::{Application, Exec, Mount, Pool, Protocol, Wsgi, command, value};
use preforkd_worker::relay::Ready;

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
                Application::Wsgi(_) | Application::Exec(_) => Shown::Unset,
            },
        },
        text: "Answers with a built-in application. hello: a page with the request's parameters and the pool's counts, to prove a web server's set-up. \
               A pool has one of app, wsgi and exec.",
    },
    Directive {
        name: "exec",
        shape: One,
        default: None,
        example: Some("/usr/bin/php-cgi8.2"),
        source: Ours,
        reader: Reader::Pool {
            set: |pool, entry| pool.exec.set(entry, command::parse(&entry.text)),
            show: |pool| show_exec(pool, |exec| Shown::One(command::line(exec))),
        },
        text: "Hosts a program that speaks FastCGI, in any language: the absolute path of the program (inside of chroot) and its arguments, with blanks between them; \
               an argument with blanks in it is quoted, as in \"/usr/bin/program 'one argument'\". Each worker has a program of its own, whose descriptor 0 is a listening socket. \
               PHP_FCGI_CHILDREN and PHP_FCGI_MAX_REQUESTS are 0 in its environment unless env[] sets them; \
               a program that is still at a request 12 s after the web server has given it up is ended.",
    },
    Directive {
        name: "exec.ready",
        shape: One,
        default: Some("accept"),
        example: None,
        source: Ours,
        reader: Reader::Pool {
            set: |pool, entry| pool.exec_ready.set(entry, command::ready(&entry.text)),
            show: |pool| {
                show_exec(pool, |exec| {
                    Shown::One(match exec.ready {
                        Ready::Accept => "accept".to_owned(),
                        Ready::Connect => "connect".to_owned(),
                        Ready::Delay(delay) => format!("delay {}ms", delay.as_millis()),
                    })
                })
            },
        },
        text: "When a program is ready for requests: accept, when it has accepted a connection, which the worker makes; connect, as soon as it runs; \
               delay and a time such as 500ms or 2s, if it still runs then.",
    },
    Directive {
        name: "exec.protocol",
        shape: One,
        default: Some("fastcgi"),
        example: None,
        source: Ours,
        reader: Reader::Pool {
            set: |pool, entry| {
                let words = [("fastcgi", Protocol::Fastcgi), ("cgi", Protocol::Cgi)];
                pool.exec_protocol
                    .set(entry, value::word(&entry.text, &words))
            },
            show: |pool| {
                show_exec(pool, |exec| {
                    Shown::One(
                        match exec.protocol {
                            Protocol::Fastcgi => "fastcgi",
                            Protocol::Cgi => "cgi",
                        }
                        .to_owned(),
                    )
                })
            },
        },
        text: "What the program of exec speaks: fastcgi, or cgi, for which it is started anew for each request, in its own folder and with the request's parameters as environment. \
               With cgi exec may be a folder, written with a / at its end: then the script in it is run that SCRIPT_FILENAME names, or without it DOCUMENT_ROOT and SCRIPT_NAME. \
               Scripts that write an HTTP response of their own (nph-) are not supported.",
    },
    Directive {
        name: "exec.mold",
        shape: One,
        default: None,
        example: Some("yes"),
        source: Ours,
        reader: Reader::Pool {
            set: |pool, entry| pool.exec_mold.set(entry, value::flag(&entry.text)),
            show: |pool| {
                show_exec(pool, |exec| match exec.protocol {
                    Protocol::Fastcgi => Shown::One(yes_or_no(exec.mold)),
                    Protocol::Cgi => Shown::Unset,
                })
            },
        },
        text: "Whether the program of exec is started once, and forked for each worker when it is about to accept its first connection, with the worker inside of it: \
               no other process takes part in a request, and all share what the program has loaded; also what it has opened and seeded by then, \
               and connections (to databases, say) and random numbers must not be, so that the default is no, and yes for a program whose name begins with php-cgi, which forks itself there under other managers. \
               It has to be a dynamically linked program with one thread that has one connection at a time, by accept, read, write, recv, send and their like of the C library, \
               and no script that starts another program; where no such mold can be had, the log says why and each worker starts its own. \
               A program that crashes takes its worker along, so that it is the web server that answers 502; a request that the web server has given up is ended by request_terminate_timeout alone, \
               and nobody ends what the program has started before its first accept, of which each reload starts another.",
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
        Application::Hello | Application::Exec(_) => Shown::Unset,
    }
}

fn show_exec(pool: &Pool, show: fn(&Exec) -> Shown) -> Shown {
    match &pool.application {
        Application::Exec(exec) => show(exec),
        Application::Hello | Application::Wsgi(_) => Shown::Unset,
    }
}

fn list(values: impl Iterator<Item = String>) -> Shown {
    Shown::Many(values.map(|value| (String::new(), value)).collect())
}
