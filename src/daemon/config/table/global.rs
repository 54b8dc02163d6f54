//! What concerns the daemon as a whole.

use super::{ignored, seconds};
use crate::config::directive::Shape::One;
use crate::config::directive::Source::PhpFpm;
use crate::config::directive::{Directive, Reader, Shown};
use crate::config::value;

/// What concerns the daemon as a whole.
pub static GLOBAL: &[Directive] = &[
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
];
