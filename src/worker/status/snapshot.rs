//! What a pool and its workers are doing, at one instant.

use super::summary::Summary;
use preforkd_sys::board::Board;
use preforkd_sys::queue::Queue;
use preforkd_sys::scoreboard::{Entry, RequestEntry, State, Totals};

pub(super) const SECOND: u64 = 1_000_000_000;

/// What is configured of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its name.
    pub pool: String,
    /// How it is managed: `static`, `dynamic` or `ondemand`.
    pub manager: String,
}

/// A pool.
#[derive(Clone, Debug)]
pub struct Snapshot<'a> {
    /// What is configured of it.
    pub facts: &'a Facts,
    /// Workers that it may have.
    pub max_children: u32,
    /// When it began, in seconds since 1970.
    pub started_at: u64,
    /// How many seconds ago that was.
    pub since: u64,
    /// What was counted.
    pub totals: Totals,
    /// Connections that wait now.
    pub queue: Queue,
    /// Workers that wait for a request.
    pub idle: u32,
    /// Workers that hold one.
    pub active: u32,
    /// Workers that have not come up yet.
    pub starting: u32,
    /// The workers, if they were asked for.
    pub workers: Vec<Worker>,
}

/// A worker.
#[derive(Clone, Debug, Default)]
pub struct Worker {
    /// Its process.
    pub pid: u32,
    /// What it does, in php-fpm's words.
    pub state: &'static str,
    /// When it began, in seconds since 1970.
    pub started_at: u64,
    /// How many seconds ago that was.
    pub since: u64,
    /// Requests that it has begun.
    pub requests: u64,
    /// How long its current or else its last request took, in microseconds.
    pub duration: u64,
    /// That request.
    pub request: Summary,
    /// What share of a processor that request took, in percent; 0 unless the worker is idle.
    pub cpu: f64,
    /// The most memory that the process ever had when that request had ended, in bytes; 0 unless the worker is idle.
    pub memory: u64,
    /// The generation it belongs to.
    pub generation: u32,
    /// Memory that it shares with no other process, in bytes, as it last measured it.
    pub private: u64,
    /// The slowest request it remembers.
    pub slowest: Option<Slowest>,
}

/// The slowest request that a worker remembers.
#[derive(Clone, Debug)]
pub struct Slowest {
    /// How long it took, in microseconds.
    pub duration: u64,
    /// How many seconds ago it ended.
    pub since: u64,
    /// The request.
    pub request: Summary,
}

impl<'a> Snapshot<'a> {
    /// Looks at a pool; `now` is on the monotonic clock. Workers one by one only when `full`.
    #[must_use]
    pub fn take(board: &Board, facts: &'a Facts, queue: Queue, now: u64, full: bool) -> Self {
        let totals = board.totals(now);
        let mut snapshot = Self {
            facts,
            max_children: board.slots(),
            started_at: totals.started_at / SECOND,
            since: now.saturating_sub(totals.started) / SECOND,
            totals,
            queue,
            idle: 0,
            active: 0,
            starting: 0,
            workers: Vec::new(),
        };
        for slot in 0..board.slots() {
            let Some(entry) = board.entry(slot) else {
                continue;
            };
            match entry.state {
                State::Vacant => continue,
                State::Starting => snapshot.starting += 1,
                State::Idle => snapshot.idle += 1,
                State::Busy if entry.serves => snapshot.active += 1,
                State::Busy => {}
            }
            if full {
                let mut worker = Worker::new(&entry, board.request(slot), board.slowest(slot), now);
                // From the same two clocks for all of them, so that it is the same whenever it is asked for.
                let after = entry.started.saturating_sub(totals.started);
                worker.started_at = totals.started_at.saturating_add(after) / SECOND;
                snapshot.workers.push(worker);
            }
        }
        // Each worker raised them, but between two of its steps.
        snapshot.totals.max_active = snapshot.totals.max_active.max(snapshot.active);
        snapshot.totals.max_queue = snapshot.totals.max_queue.max(queue.length);
        snapshot
    }
}

impl Worker {
    fn new(
        entry: &Entry,
        request: Option<RequestEntry>,
        slowest: Option<RequestEntry>,
        now: u64,
    ) -> Self {
        let mut worker = Self {
            pid: entry.pid,
            since: now.saturating_sub(entry.started) / SECOND,
            requests: entry.requests,
            generation: entry.generation,
            private: entry.private,
            slowest: slowest.map(|request| Slowest {
                duration: request.ended.saturating_sub(request.begun) / 1000,
                since: now.saturating_sub(request.ended) / SECOND,
                request: Summary::parse(&request.text),
            }),
            ..Self::default()
        };
        worker.state = state(entry, request.as_ref(), now);
        let Some(request) = request.filter(|_| !matches!(worker.state, STARTING | READING)) else {
            return worker;
        };
        worker.request = Summary::parse(&request.text);
        let end = if worker.state == RUNNING {
            now
        } else {
            request.ended
        };
        let span = end.saturating_sub(request.begun);
        worker.duration = span / 1000;
        if worker.state == IDLE {
            worker.memory = request.memory;
            worker.cpu = percent(request.cpu, span);
        }
        worker
    }
}

const STARTING: &str = "Starting";
const IDLE: &str = "Idle";
const READING: &str = "Reading headers";
const RUNNING: &str = "Running";
const FINISHING: &str = "Finishing";
const ENDING: &str = "Ending";

fn state(entry: &Entry, request: Option<&RequestEntry>, now: u64) -> &'static str {
    match (entry.state, request) {
        (State::Vacant | State::Starting, _) => STARTING,
        (State::Idle, _) => IDLE,
        (State::Busy, _) if !entry.serves => ENDING,
        (State::Busy, None) => READING,
        (State::Busy, Some(request)) if request.ended == 0 => RUNNING,
        // Its answer is complete; for how long it goes on does not matter.
        (State::Busy, Some(_)) if entry.since > now => FINISHING,
        // Busy since before the request ended, or with a connection that came after. A state's time is in microseconds.
        (State::Busy, Some(request)) if entry.since.saturating_add(1000) > request.ended => READING,
        (State::Busy, Some(_)) => FINISHING,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shown with two digits after the point"
)]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64 * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use preforkd_sys::scoreboard::{Reporter, Scoreboard};

    fn facts() -> Facts {
        Facts {
            pool: "site".into(),
            manager: "static".into(),
        }
    }

    #[test]
    fn a_worker_is_told_in_all_its_states() {
        let board = Scoreboard::create(3).unwrap();
        let facts = facts();
        let start = board.totals(0).started;
        let at = |milliseconds: u64| start + milliseconds * 1_000_000;
        let worker = Reporter::new(board.handle().attach().unwrap(), 1, 1).unwrap();
        let seen = |now: u64| {
            let snapshot = Snapshot::take(&board, &facts, Queue::default(), now, true);
            assert_eq!(snapshot.workers.len(), 1);
            let counts = (snapshot.starting, snapshot.idle, snapshot.active);
            (counts, snapshot.workers[0].clone())
        };
        let (counts, shown) = seen(at(1));
        assert_eq!((counts, shown.state), ((1, 0, 0), STARTING));
        worker.idle(at(1));
        let (counts, shown) = seen(at(2));
        assert_eq!((counts, shown.state), ((0, 1, 0), IDLE));
        worker.busy(at(5));
        let (counts, shown) = seen(at(6));
        assert_eq!((counts, shown.state), ((0, 0, 1), READING));
        worker.request(at(10), &[b"GET\0/a"]);
        let (_, shown) = seen(at(14));
        assert_eq!(
            (shown.state, shown.duration, shown.memory),
            (RUNNING, 4000, 0)
        );
        assert_eq!(
            (shown.request.method.as_str(), shown.request.uri.as_str()),
            ("GET", "/a")
        );
        worker.ended(at(20));
        worker.took(5_000_000, 77, at(20), 0);
        assert_eq!(seen(at(21)).1.state, FINISHING);
        worker.idle(at(22));
        let (_, shown) = seen(at(30));
        assert_eq!(
            (shown.state, shown.duration, shown.memory),
            (IDLE, 10_000, 77)
        );
        assert!((shown.cpu - 50.0).abs() < 0.01);
        assert_eq!(shown.slowest.unwrap().duration, 10_000);
        worker.busy(at(40));
        assert_eq!(seen(at(41)).1.state, READING);
        worker.request(at(42), &[]);
        worker.ended(at(43));
        worker.untimed();
        assert_eq!(seen(at(50)).1.state, FINISHING);
        worker.leave(at(60));
        let (counts, shown) = seen(at(61));
        assert_eq!((counts, shown.state), ((0, 0, 0), ENDING));
    }

    #[test]
    fn the_most_is_never_less_than_what_is() {
        let board = Scoreboard::create(1).unwrap();
        let facts = facts();
        let queue = Queue {
            length: 4,
            capacity: 9,
        };
        let snapshot = Snapshot::take(&board, &facts, queue, 0, false);
        assert_eq!((snapshot.totals.max_queue, snapshot.workers.len()), (4, 0));
    }
}
