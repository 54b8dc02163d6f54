//! What is otherwise in php-fpm: directives, from their definitions, and what is no directive's.

use crate::config::directive::{Reader, Source};
use crate::config::table::table;

/// One difference.
pub struct Difference {
    /// The directive, or what else differs.
    pub subject: String,
    /// How it is in php-fpm.
    pub there: &'static str,
    /// How it is here.
    pub here: &'static str,
    /// Why.
    pub why: &'static str,
}

const OTHERS: &[(&str, &str, &str, &str)] = &[
    (
        "mistakes",
        "the first one ends the start, with its line",
        "all are told at once, each with its file, line, value and what would be right",
        "One run of -t is enough to mend a file.",
    ),
    (
        "values without quotes",
        "words such as yes and none become 1 and nothing; | & ^ ~ ! ( ) are operators of arithmetic",
        "words stay as they are written; an operator is an error that says to put the value in quotes",
        "env[DEBUG] = True is to reach an application as True, and nobody calculates in a configuration.",
    ),
    (
        "addresses of pools",
        "two pools on one port collide at the start",
        "addresses that overlap, such as 9000 and 127.0.0.1:9000, are told by -t",
        "A check that passes is to be a start that succeeds.",
    ),
    (
        "-g",
        "the file's pid silently counts more",
        "it counts more, and a notice says so",
        "Who passes a flag is to know that it has no effect.",
    ),
    (
        "-i, -m",
        "what PHP and its modules are",
        "the version",
        "There is no PHP.",
    ),
    (
        "default configuration",
        "php-fpm.conf in the compiled folder",
        "/etc/preforkd/preforkd.conf, or etc/preforkd.conf in the folder of -p",
        "The two can be installed beside each other.",
    ),
    (
        "growth of a dynamic pool",
        "once a second by 1, 2, 4 and so on, never by more than are missing to pm.min_spare_servers",
        "at once, by as many as are missing for the requests that wait and for pm.min_spare_servers",
        "With few spare workers php-fpm takes many seconds to meet a burst.",
    ),
    (
        "shrinking",
        "one worker a second, the oldest idle one, by a signal",
        "half of the excess a second, those idle longest; they are asked, and none is ended that holds a request",
        "Requests are not to be lost to a count.",
    ),
    (
        "workers that cannot start",
        "forked again at once, for ever",
        "forked again with growing pauses, and the reason is told once",
        "A loop of forks hides its cause and takes the machine's time.",
    ),
    (
        "USR1",
        "if there is an access log, every worker is replaced",
        "files are opened anew in place",
        "Rotating logs is no reason to lose warm workers.",
    ),
    (
        "reload (USR2)",
        "new requests wait until the last old one has ended; a wrong configuration ends the service",
        "the new generation starts beside the old one; with a wrong configuration all goes on as it was",
        "A reload is not to be an outage.",
    ),
    (
        "HUP",
        "ends the master (Debian's package reloads)",
        "reloads",
        "That is what HUP means to everybody.",
    ),
    (
        "error_log = syslog",
        "every message has the level of log_level",
        "every message has its own level",
        "Else nobody can filter by level.",
    ),
    (
        "kept connections",
        "one that waits for its next request holds a worker, which counts as active",
        "its worker counts as idle and lets it go when another connection comes",
        "Silent connections are not to starve others.",
    ),
];

/// All of them, those of directives first.
pub fn differences() -> Vec<Difference> {
    let directives = table().filter_map(|directive| match directive.source {
        Source::Differs { there, here, why } => Some(Difference {
            subject: match directive.reader {
                Reader::Global { .. } | Reader::IgnoredInGlobal => {
                    format!("{} in [global]", directive.spelling())
                }
                Reader::Include | Reader::Pool { .. } | Reader::IgnoredInPool => {
                    directive.spelling()
                }
            },
            there,
            here,
            why,
        }),
        Source::PhpFpm | Source::PhpOnly | Source::Ours => None,
    });
    let others = OTHERS
        .iter()
        .map(|&(subject, there, here, why)| Difference {
            subject: subject.to_owned(),
            there,
            here,
            why,
        });
    directives.chain(others).collect()
}
