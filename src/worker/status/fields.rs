//! What a status page tells, in its order: php-fpm's fields first, under its names, then preforkd's own.

use super::snapshot::{SECOND, Snapshot, Worker};
use preforkd_sys::scoreboard::Reloaded;

/// A name and what it has.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub(super) name: &'static str,
    pub(super) value: Value<'a>,
}

/// What a field has.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    /// Words, which may hold anything.
    Text(&'a str),
    /// A count.
    Number(u64),
    /// A number with so many digits after the point.
    Decimal(f64, usize),
    /// An instant, in seconds since 1970.
    Time(u64),
}

fn number(name: &'static str, value: impl Into<u64>) -> Field<'static> {
    Field {
        name,
        value: Value::Number(value.into()),
    }
}

fn text<'a>(name: &'static str, value: &'a str) -> Field<'a> {
    Field {
        name,
        value: Value::Text(value),
    }
}

fn time(name: &'static str, value: u64) -> Field<'static> {
    Field {
        name,
        value: Value::Time(value),
    }
}

/// What is told of a pool.
pub(super) fn of_pool<'a>(snapshot: &Snapshot<'a>) -> Vec<Field<'a>> {
    let totals = &snapshot.totals;
    let reloaded = totals.reloaded;
    vec![
        text("pool", &snapshot.facts.pool),
        text("process manager", &snapshot.facts.manager),
        time("start time", snapshot.started_at),
        number("start since", snapshot.since),
        number("accepted conn", totals.counts.requests),
        number("listen queue", snapshot.queue.length),
        number("max listen queue", totals.max_queue),
        number("listen queue len", snapshot.queue.capacity),
        number("idle processes", snapshot.idle),
        number("active processes", snapshot.active),
        number("total processes", snapshot.idle + snapshot.active),
        number("max active processes", totals.max_active),
        number("max children reached", totals.max_children_reached),
        number("slow requests", totals.counts.slow),
        // As of php-fpm 8.4.
        number("memory peak", totals.max_memory),
        number("max children", snapshot.max_children),
        number("starting processes", snapshot.starting),
        number("connections", totals.counts.connections),
        Field {
            name: "saturation time",
            value: Value::Decimal(seconds(totals.saturated), 3),
        },
        number("rejected conn", totals.rejected),
        number("generation", totals.generation),
        // The start, for a pool that has never been reloaded.
        time(
            "last reload",
            reloaded.map_or(snapshot.started_at, |last| last.at / SECOND),
        ),
        text(
            "last reload outcome",
            match reloaded {
                None => "none",
                Some(Reloaded {
                    succeeded: true, ..
                }) => "succeeded",
                Some(Reloaded {
                    succeeded: false, ..
                }) => "failed",
            },
        ),
    ]
}

/// What is told of a worker.
pub(super) fn of_worker(worker: &Worker) -> Vec<Field<'_>> {
    let request = &worker.request;
    let slowest = worker.slowest.as_ref();
    let slowest_request = slowest.map(|slowest| &slowest.request);
    vec![
        number("pid", worker.pid),
        text("state", worker.state),
        time("start time", worker.started_at),
        number("start since", worker.since),
        number("requests", worker.requests),
        number("request duration", worker.duration),
        text("request method", or_dash(&request.method)),
        text("request uri", or_dash(&request.uri)),
        number("content length", request.content_length),
        text("user", or_dash(&request.user)),
        text("script", or_dash(&request.script)),
        Field {
            name: "last request cpu",
            value: Value::Decimal(worker.cpu, 2),
        },
        number("last request memory", worker.memory),
        number("generation", worker.generation),
        number("private memory", worker.private),
        number(
            "slowest duration",
            slowest.map_or(0, |slowest| slowest.duration),
        ),
        number("slowest since", slowest.map_or(0, |slowest| slowest.since)),
        text(
            "slowest method",
            slowest_request.map_or("-", |request| or_dash(&request.method)),
        ),
        text(
            "slowest uri",
            slowest_request.map_or("-", |request| or_dash(&request.uri)),
        ),
    ]
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// Nanoseconds as seconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "shown with three digits after the point"
)]
pub(super) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}
