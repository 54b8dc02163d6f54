//! What is told about requests, and how long they may take.

use super::{seconds, yes_or_no};
use crate::config::directive::Shape::{List, One};
use crate::config::directive::Source::{Differs, PhpFpm};
use crate::config::directive::{Directive, Reader, Shown};
use crate::config::raw::push;
use crate::config::{listen, value};

/// What is told about requests, and how long they may take.
pub static REQUESTS: &[Directive] = &[
    Directive {
        name: "request_terminate_timeout",
        shape: One,
        default: Some("0"),
        example: None,
        source: Differs {
            there: "the worker is ended by SIGTERM, and the web server says 502",
            here: "the answer is 504 if none has begun, the request and its stack are logged, then the worker is ended",
            why: "Who waits, and who looks for the cause, is told what happened.",
        },
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.request_terminate_timeout
                    .set(entry, value::time(&entry.text, 0))
            },
            show: |pool| Shown::One(seconds(pool.request_terminate_timeout.unwrap_or_default())),
        },
        text: "The longest a request may take, a time with s, m, h or d; then its stack is logged and its worker is ended. 0 is no limit.",
    },
    Directive {
        name: "request_terminate_timeout_track_finished",
        shape: One,
        default: Some("no"),
        example: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.request_terminate_timeout_track_finished
                    .set(entry, value::flag(&entry.text))
            },
            show: |pool| Shown::One(yes_or_no(pool.track_finished)),
        },
        text: "Whether request_terminate_timeout goes on to count when the answer has been sent but the application still works.",
    },
    Directive {
        name: "request_slowlog_timeout",
        shape: One,
        default: Some("0"),
        example: None,
        source: Differs {
            there: "the worker is stopped by ptrace while its stack is read",
            here: "the worker writes its stack itself",
            why: "Containers forbid ptrace, and it interrupts the system calls of the application.",
        },
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.request_slowlog_timeout
                    .set(entry, value::time(&entry.text, 0))
            },
            show: |pool| Shown::One(seconds(pool.request_slowlog_timeout.unwrap_or_default())),
        },
        text: "A request that takes longer has its stack written to slowlog, once; a time with s, m, h or d. 0 is never.",
    },
    Directive {
        name: "request_slowlog_trace_depth",
        shape: One,
        default: Some("20"),
        example: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.request_slowlog_trace_depth
                    .set(entry, value::number(&entry.text, 1..=u32::from(u16::MAX)))
            },
            show: |pool| Shown::One(pool.request_slowlog_trace_depth.to_string()),
        },
        text: "The most frames of a stack in slowlog, from 1 to 65535.",
    },
    Directive {
        name: "slowlog",
        shape: One,
        default: None,
        example: Some("/var/log/preforkd-$pool.slow.log"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.slowlog.set(entry, value::path(&entry.text)),
            show: |pool| pool.slowlog.as_ref().map(|path| path.display()).into(),
        },
        text: "The file that slow requests are appended to, and those that request_terminate_timeout ends, with their stacks: of a Python application its calls, of others what the kernel shows. \
               Required if request_slowlog_timeout is set. It is opened anew after SIGUSR1.",
    },
    Directive {
        name: "pm.status_path",
        shape: One,
        default: None,
        example: Some("/status"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.status_path
                    .set(entry, value::request_path(&entry.text))
            },
            show: |pool| pool.status_path.as_ref().into(),
        },
        text: "Requests for this path are answered with the state of the pool, as text, json, xml, html or openmetrics. A / and then letters, digits and / _ - . ~.",
    },
    Directive {
        name: "pm.status_listen",
        shape: One,
        default: None,
        example: Some("/run/preforkd-$pool-status.sock"),
        source: Differs {
            there: "a pool of two workers",
            here: "a process of its own, which also answers ping.path",
            why: "The state can be seen when every worker is busy, and many slow clients do not hide it.",
        },
        reader: Reader::Pool {
            set: |pool, entry| pool.status_listen.set(entry, listen::parse(&entry.text)),
            show: |pool| pool.status_listen.as_ref().into(),
        },
        text: "A further address, as in listen, that answers pm.status_path (/ if it is not set; on listen / stays the application's) and ping.path also when all workers are busy. Owner, mode and allowed clients are those of listen.",
    },
    Directive {
        name: "ping.path",
        shape: One,
        default: None,
        example: Some("/ping"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.ping_path.set(entry, value::request_path(&entry.text)),
            show: |pool| pool.ping_path.as_ref().into(),
        },
        text: "Requests for this path are answered with ping.response, to see whether the pool answers. A / and then letters, digits and / _ - . ~.",
    },
    Directive {
        name: "ping.response",
        shape: One,
        default: Some("pong"),
        example: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| pool.ping_response.set(entry, value::text(&entry.text)),
            show: |pool| Shown::One(pool.ping_response.clone()),
        },
        text: "The text that answers ping.path.",
    },
    Directive {
        name: "access.log",
        shape: One,
        default: None,
        example: Some("/var/log/preforkd-$pool.access.log"),
        source: Differs {
            there: "after SIGUSR1 all workers of all pools are replaced",
            here: "workers go on, in the new file",
            why: "Log rotation must not cost what a worker has warmed up.",
        },
        reader: Reader::Pool {
            set: |pool, entry| pool.access_log.set(entry, value::path(&entry.text)),
            show: |pool| pool.access_log.as_ref().map(|path| path.display()).into(),
        },
        text: "The file that a line is appended to for each request, by the worker, after the answer has left. It is made with mode 0600 and opened anew after SIGUSR1. \
               What a pipe has no room for is lost; nobody waits for whoever reads it.",
    },
    Directive {
        name: "access.format",
        shape: One,
        default: Some("%R - %u %t \"%m %r\" %s"),
        example: None,
        source: Differs {
            there: "values are written as they come; %r is SCRIPT_NAME, names of headers are compared to the letter, and %M is PHP's memory",
            here: "values are escaped as in JSON strings; %r is SCRIPT_NAME with PATH_INFO, names of headers are compared in any case, and %M is the most memory the worker has had",
            why: "No value can forge a line or end a quoted field, and lines written in JSON by hand stay JSON.",
        },
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.access_format
                    .set(entry, value::access_format(&entry.text))
            },
            show: |pool| Shown::One(pool.access_format.clone()),
        },
        text: "The form of the lines of access.log: json for an object a line, or text with codes. \
               %C processor time in percent (%{user}C, %{system}C, %{total}C), %d duration in seconds (%{milli}d, %{micro}d), %{NAME}e a parameter of the request, %f script, %l length of the body, %m method, \
               %M memory in bytes (%{kilo}M, %{mega}M), %n pool, %{NAME}o a header of the answer, %p pid, %P pid of the parent, %q query, %Q ? if there is a query, %r path, %R address of the web server, \
               %s status, %t and %T time of the request and of the line (%{FORM}t with a form of strftime), %u user, %% a percent sign.",
    },
    Directive {
        name: "access.suppress_path",
        shape: List,
        default: None,
        example: Some("/ping"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                push(
                    &mut pool.access_suppress_path,
                    entry,
                    value::suppressed(&entry.text),
                )
            },
            show: |pool| {
                Shown::Many(
                    pool.access_suppress
                        .iter()
                        .map(|path| (String::new(), path.clone()))
                        .collect(),
                )
            },
        },
        text: "Successful GET and HEAD requests for this path, without a query and a body, get no line in access.log.",
    },
];
