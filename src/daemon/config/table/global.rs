//! What concerns the daemon as a whole.

use super::{ignored, rlimit, seconds, yes_or_no};
use crate::config::directive::Shape::One;
use crate::config::directive::Source::{Differs, Ours, PhpFpm};
use crate::config::directive::{Directive, Reader, Shown};
use crate::config::{ErrorLog, LogFormat, value};

/// Longest line of the log, in bytes: so much is kept of what each worker has begun to print.
const MAX_LOG_LIMIT: usize = 1024 * 1024;

/// What concerns the daemon as a whole.
pub static GLOBAL: &[Directive] = &[
    Directive {
        name: "include",
        shape: One,
        default: None,
        example: Some("conf.d/*.conf"),
        source: Differs {
            there: "a relative path starts at the compiled prefix (/usr)",
            here: "it starts at the folder of the file that it is written in",
            why: "A configuration that is moved, or tried in a folder of its own, goes on to mean the same. With -p it starts there, as in php-fpm.",
        },
        reader: Reader::Include,
        text: "Reads other files here: a path or a pattern (*, ?, [..]), whose files are read in the order of their names. \
               A relative path starts at the folder of the file it is written in, or at that of -p. At most 5 files deep.",
    },
    Directive {
        name: "pid",
        shape: One,
        default: None,
        example: Some("/run/preforkd.pid"),
        source: PhpFpm,
        reader: Reader::Global {
            set: |global, entry| global.pid.set(entry, value::path(&entry.text)),
            show: |global| global.pid.as_ref().map(|path| path.display()).into(),
        },
        text: "The file that the master's pid is written to once its sockets are bound, and that is removed at a clean end. A relative path starts at /var, or at the folder of -p. Without it the one of -g, or none.",
    },
    Directive {
        name: "control",
        shape: One,
        default: None,
        example: Some("/run/preforkd.control"),
        source: Ours,
        reader: Reader::Global {
            set: |global, entry| global.control.set(entry, value::path(&entry.text)),
            show: |global| global.control.as_ref().map(|path| path.display()).into(),
        },
        text: "The Unix socket on which the master takes commands, such as preforkd reload; nobody but root and the master's own user gets in. \
               A relative path starts at /var, or at the folder of -p. Without it the pid file's path with the ending .control, or none where there is no pid file.",
    },
    Directive {
        name: "error_log",
        shape: One,
        default: None,
        example: Some("/var/log/preforkd.log"),
        source: Differs {
            there: "log/php-fpm.log, also in the foreground if standard error is no terminal",
            here: "standard error in the foreground; in the background /var/log/preforkd.log",
            why: "Service managers and containers read standard error; there a file nobody asked for hides the log and fills the disk.",
        },
        reader: Reader::Global {
            set: |global, entry| global.error_log.set(entry, value::error_log(&entry.text)),
            show: |global| match &global.error_log {
                ErrorLog::Stderr => Shown::Unset,
                ErrorLog::Syslog => Shown::One("syslog".to_owned()),
                ErrorLog::File(path) => Shown::One(path.display().to_string()),
            },
        },
        text: "The file that the log is appended to, or syslog. A relative path starts at /var, or at the folder of -p. Without it, or as /dev/stderr, the log goes to standard error, or to /var/log/preforkd.log in the background.",
    },
    Directive {
        name: "syslog.ident",
        shape: One,
        default: Some("preforkd"),
        example: None,
        source: Differs {
            there: "php-fpm",
            here: "preforkd",
            why: "The log says which program wrote it.",
        },
        reader: Reader::Global {
            set: |global, entry| global.syslog_ident.set(entry, value::ident(&entry.text)),
            show: |global| Shown::One(global.syslog_ident.clone()),
        },
        text: "The name of the daemon in the system's log. Where standard error is the journal it is preforkd in any case.",
    },
    Directive {
        name: "syslog.facility",
        shape: One,
        default: Some("daemon"),
        example: None,
        source: PhpFpm,
        reader: Reader::Global {
            set: |global, entry| {
                global
                    .syslog_facility
                    .set(entry, value::facility(&entry.text))
            },
            show: |global| Shown::One(global.syslog_facility.to_string()),
        },
        text: "The subject of the messages in the system's log, in the words of syslog(3): daemon, user, local0 to local7 and so on.",
    },
    Directive {
        name: "log_level",
        shape: One,
        default: Some("notice"),
        example: None,
        source: PhpFpm,
        reader: Reader::Global {
            set: |global, entry| global.log_level.set(entry, value::log_level(&entry.text)),
            show: |global| Shown::One(global.log_level.to_string()),
        },
        text: "The least level that is logged: debug, notice, warning, error or alert.",
    },
    Directive {
        name: "log_format",
        shape: One,
        default: Some("php-fpm"),
        example: None,
        source: Ours,
        reader: Reader::Global {
            set: |global, entry| global.log_format.set(entry, value::log_format(&entry.text)),
            show: |global| {
                Shown::One(
                    match global.log_format {
                        LogFormat::PhpFpm => "php-fpm",
                        LogFormat::Json => "json",
                    }
                    .to_owned(),
                )
            },
        },
        text: "The form of the log's lines. php-fpm: a time, a level and text; json: one object a line. Where standard error is the journal the log has the journal's own fields instead.",
    },
    Directive {
        name: "log_limit",
        shape: One,
        default: Some("8192"),
        example: None,
        source: Differs {
            there: "1024",
            here: "8192",
            why: "Lines of JSON and of tracebacks are longer than 1024 bytes, and what is wrapped cannot be read by a machine any more.",
        },
        reader: Reader::Global {
            set: |global, entry| {
                global.log_limit.set(
                    entry,
                    value::number(&entry.text, 512..=usize::MAX)
                        .map(|bytes| bytes.min(MAX_LOG_LIMIT)),
                )
            },
            show: |global| Shown::One(global.log_limit.to_string()),
        },
        text: "The longest line of the log in bytes, at least 512; more than 1048576 counts as that. What workers print is wrapped there, other lines are cut.",
    },
    Directive {
        name: "log_buffering",
        shape: One,
        default: Some("yes"),
        example: None,
        source: PhpFpm,
        reader: Reader::Global {
            set: |global, entry| global.log_buffering.set(entry, value::flag(&entry.text)),
            show: |global| Shown::One(yes_or_no(global.log_buffering)),
        },
        text: "Whether a line that a worker prints in pieces is put together before it is written, or each piece is written at once.",
    },
    Directive {
        name: "emergency_restart_threshold",
        shape: One,
        default: Some("0"),
        example: None,
        source: PhpFpm,
        reader: Reader::Global {
            set: |global, entry| {
                global
                    .emergency_restart_threshold
                    .set(entry, value::number(&entry.text, 0..=4096))
            },
            show: |global| Shown::One(global.emergency_restart_threshold.to_string()),
        },
        text: "So many workers that die of SIGSEGV or SIGBUS within emergency_restart_interval lead to a reload; at most 4096, and 0 is never.",
    },
    Directive {
        name: "emergency_restart_interval",
        shape: One,
        default: Some("0"),
        example: None,
        source: PhpFpm,
        reader: Reader::Global {
            set: |global, entry| {
                global
                    .emergency_restart_interval
                    .set(entry, value::time(&entry.text, 0))
            },
            show: |global| Shown::One(seconds(global.emergency_restart_interval)),
        },
        text: "The time that emergency_restart_threshold counts over, with s, m, h or d; 0 turns it off.",
    },
    Directive {
        name: "process_control_timeout",
        shape: One,
        default: Some("30s"),
        example: None,
        source: Differs {
            there: "0",
            here: "30s",
            why: "At 0 every reload and stop breaks off the requests that are being answered.",
        },
        reader: Reader::Global {
            set: |global, entry| {
                global
                    .process_control_timeout
                    .set(entry, value::time(&entry.text, 0))
            },
            show: |global| Shown::One(seconds(global.process_control_timeout)),
        },
        text: "How long workers may go on with the requests they hold when they are asked to leave; a time with s, m, h or d. 0 breaks requests off at once.",
    },
    Directive {
        name: "process.max",
        shape: One,
        default: Some("0"),
        example: None,
        source: PhpFpm,
        reader: Reader::Global {
            set: |global, entry| {
                global
                    .process_max
                    .set(entry, value::number(&entry.text, 0..=u32::MAX))
            },
            show: |global| Shown::One(global.process_max.unwrap_or(0).to_string()),
        },
        text: "The most workers of all pools together; 0 is no limit.",
    },
    Directive {
        name: "process.priority",
        shape: One,
        default: None,
        example: Some("-5"),
        source: PhpFpm,
        reader: Reader::Global {
            set: |global, entry| {
                global
                    .process_priority
                    .set(entry, value::priority(&entry.text))
            },
            show: |global| global.process_priority.into(),
        },
        text: "The nice value of the master, from -20 (most urgent) to 20; only root can have it below 0. Pools have one of their own.",
    },
    Directive {
        name: "daemonize",
        shape: One,
        default: Some("yes"),
        example: None,
        source: PhpFpm,
        reader: Reader::Global {
            set: |global, entry| global.daemonize.set(entry, value::flag(&entry.text)),
            show: |global| Shown::One(yes_or_no(global.daemonize)),
        },
        text: "Whether preforkd goes into the background once its pools can be reached. -D and -F on the command line count more.",
    },
    Directive {
        name: "rlimit_files",
        shape: One,
        default: Some("0"),
        example: None,
        source: PhpFpm,
        reader: Reader::Global {
            set: |global, entry| global.rlimit_files.set(entry, value::limit(&entry.text)),
            show: |global| Shown::One(rlimit(global.rlimit_files)),
        },
        text: "The most files that the master may have open, soft and hard limit; 0 leaves what there is.",
    },
    Directive {
        name: "rlimit_core",
        shape: One,
        default: Some("0"),
        example: None,
        source: PhpFpm,
        reader: Reader::Global {
            set: |global, entry| {
                global
                    .rlimit_core
                    .set(entry, value::limit_or_none(&entry.text))
            },
            show: |global| Shown::One(rlimit(global.rlimit_core)),
        },
        text: "The largest core file of the master in bytes, or unlimited, soft and hard limit; 0 leaves what there is.",
    },
    Directive {
        name: "systemd_interval",
        shape: One,
        default: Some("10s"),
        example: None,
        source: PhpFpm,
        reader: Reader::Global {
            set: |global, entry| {
                global
                    .systemd_interval
                    .set(entry, value::time(&entry.text, 0))
            },
            show: |global| Shown::One(seconds(global.systemd_interval.unwrap_or_default())),
        },
        text: "How often systemd is told the counts of workers and requests; 0 is never.",
    },
    ignored("events.mechanism", One, Reader::IgnoredInGlobal),
];
