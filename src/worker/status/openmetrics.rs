//! A status page as OpenMetrics (version 1.0.0 of its specification).
//!
//! php-fpm's metrics come first, under its names and without labels, so that what is built on them goes on working. It
//! types some as counters, which in OpenMetrics must end in `_total`; here they are gauges, if they may fall or stand for
//! a maximum, or of unknown type. Then come preforkd's own, labelled with the pool.

use super::fields::seconds;
use super::snapshot::{SECOND, Snapshot};
use std::fmt::Write;

enum Kind {
    Gauge,
    Unknown,
    Counter,
}

pub(super) fn write(to: &mut String, snapshot: &Snapshot<'_>) {
    let totals = &snapshot.totals;
    let up = format!(
        "Could pool {} using a {} PM on PHP-FPM be reached?",
        escape(&snapshot.facts.pool),
        escape(&snapshot.facts.manager)
    );
    let theirs: [(&str, Kind, &str, u64); 13] = [
        ("up", Kind::Gauge, &up, 1),
        (
            "start_since",
            Kind::Gauge,
            "The number of seconds since FPM has started.",
            snapshot.since,
        ),
        (
            "accepted_connections",
            Kind::Unknown,
            "The number of requests accepted by the pool.",
            totals.counts.requests,
        ),
        (
            "listen_queue",
            Kind::Gauge,
            "The number of requests in the queue of pending connections.",
            snapshot.queue.length.into(),
        ),
        (
            "max_listen_queue",
            Kind::Gauge,
            "The maximum number of requests in the queue of pending connections since FPM has started.",
            totals.max_queue.into(),
        ),
        (
            "listen_queue_length",
            Kind::Gauge,
            "The size of the socket queue of pending connections.",
            snapshot.queue.capacity.into(),
        ),
        (
            "idle_processes",
            Kind::Gauge,
            "The number of idle processes.",
            snapshot.idle.into(),
        ),
        (
            "active_processes",
            Kind::Gauge,
            "The number of active processes.",
            snapshot.active.into(),
        ),
        (
            "total_processes",
            Kind::Gauge,
            "The number of idle + active processes.",
            u64::from(snapshot.idle) + u64::from(snapshot.active),
        ),
        (
            "max_active_processes",
            Kind::Gauge,
            "The maximum number of active processes since FPM has started.",
            totals.max_active.into(),
        ),
        (
            "max_children_reached",
            Kind::Unknown,
            "The number of times that all processes the pool may have were busy.",
            totals.max_children_reached.into(),
        ),
        (
            "slow_requests",
            Kind::Unknown,
            "The number of requests that exceeded your 'request_slowlog_timeout' value.",
            totals.counts.slow,
        ),
        (
            "memory_peak",
            Kind::Gauge,
            "The most memory that a process had after a request, in bytes.",
            totals.max_memory,
        ),
    ];
    for (name, kind, help, value) in theirs {
        family(to, &format!("phpfpm_{name}"), &kind, help);
        let _ = writeln!(to, "phpfpm_{name} {value}");
    }
    let ours = [
        (
            "requests",
            Kind::Counter,
            "Requests that the pool's workers have begun.",
            totals.counts.requests.to_string(),
        ),
        (
            "connections",
            Kind::Counter,
            "Connections that the pool's workers have accepted.",
            totals.counts.connections.to_string(),
        ),
        (
            "slow_requests",
            Kind::Counter,
            "Requests that were noted in the slow log.",
            totals.counts.slow.to_string(),
        ),
        (
            "saturations",
            Kind::Counter,
            "How often all workers that the pool may have were busy.",
            totals.max_children_reached.to_string(),
        ),
        (
            "saturation_seconds",
            Kind::Counter,
            "How long all workers that the pool may have were busy.",
            format!("{:.3}", seconds(totals.saturated)),
        ),
        (
            "rejected_connections",
            Kind::Counter,
            "Connections that were turned away while all workers were busy.",
            totals.rejected.to_string(),
        ),
        (
            "saturated",
            Kind::Gauge,
            "Whether all workers that the pool may have are busy.",
            u8::from(totals.is_saturated).to_string(),
        ),
        (
            "max_children",
            Kind::Gauge,
            "Workers that the pool may have.",
            snapshot.max_children.to_string(),
        ),
        (
            "starting_processes",
            Kind::Gauge,
            "Workers that have not come up yet.",
            snapshot.starting.to_string(),
        ),
        (
            "generation",
            Kind::Gauge,
            "The pool's generation, which each reload raises.",
            totals.generation.to_string(),
        ),
        (
            "last_reload_successful",
            Kind::Gauge,
            "Whether the last reload has put a new generation in place; 1 if there was none.",
            u8::from(totals.reloaded.is_none_or(|last| last.succeeded)).to_string(),
        ),
        (
            "last_reload_timestamp_seconds",
            Kind::Gauge,
            "When that was, or else the start.",
            totals
                .reloaded
                .map_or(snapshot.started_at, |last| last.at / SECOND)
                .to_string(),
        ),
    ];
    let pool = escape(&snapshot.facts.pool);
    for (name, kind, help, value) in ours {
        let name = format!("preforkd_{name}");
        family(to, &name, &kind, help);
        let suffix = if matches!(kind, Kind::Counter) {
            "_total"
        } else {
            ""
        };
        let _ = writeln!(to, "{name}{suffix}{{pool=\"{pool}\"}} {value}");
    }
    to.push_str("# EOF\n");
}

/// The lines before a metric. Writing to a String cannot fail.
fn family(to: &mut String, name: &str, kind: &Kind, help: &str) {
    let kind = match kind {
        Kind::Gauge => "gauge",
        Kind::Unknown => "unknown",
        Kind::Counter => "counter",
    };
    let _ = write!(to, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

/// As texts and the values of labels want it.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '"' => {
                out.push('\\');
                out.push(character);
            }
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out
}
