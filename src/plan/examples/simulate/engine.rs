//! One pool of workers as a discrete-event simulation.
//!
//! Time jumps from event to event: a connection arrives, a worker has started, has finished its request or has gone,
//! a second has passed. After each the rule under test is asked what to fork and what to retire. Everything that is
//! not the rule is the same for all: what a start costs, in which order connections are accepted (first come, first
//! served), that an idle worker accepts at once.
//!
//! # Limits
//! * A request holds its worker for the same span however many are busy: it waits for something else than this
//!   machine's processors.
//! * The accept queue has no end, and no client gives up.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use preforkd_plan::scale::Census;
use preforkd_plan::time::Time;

use crate::load::{Request, Shape};

/// From the fork to the first `accept`.
const START: Duration = Duration::from_millis(5);
/// So many workers start at one time, being what two processors can do; the others wait for their turn.
const STARTS_AT_ONCE: usize = 2;
/// From being asked to leave to being gone.
const LEAVE: Duration = Duration::from_millis(1);
/// The period of the rules that tick, and the step of shrinking of those that do not.
const TICK: Duration = Duration::from_secs(1);

/// A rule that says when to fork and when to retire.
pub trait Rule {
    /// Its name in the table.
    fn name(&self) -> &'static str;

    /// Workers forked before the first connection.
    fn start(&self) -> u32;

    /// Which of the idle workers accepts the next connection.
    fn order(&self) -> Order;

    /// Something has happened: what is to be done?
    fn decide(&mut self, cause: Cause, pool: &Pool) -> Decision;
}

/// Which of the idle workers accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The one that was ready first (`EPOLLEXCLUSIVE` on a shared listener).
    FirstReady,
    /// The one that has waited longest (blocking `accept`).
    LongestIdle,
}

/// Why a rule is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A connection has arrived and no worker is idle.
    Waiting,
    /// A worker has accepted a connection.
    TurnedBusy,
    /// A worker has started.
    Ready,
    /// A worker has gone.
    Ended,
    /// A second has passed.
    Tick,
}

/// What a rule wants done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Workers to fork.
    pub fork: u32,
    /// Idle workers to retire, by [`Worker::number`].
    pub retire: Vec<u32>,
}

/// A worker as a rule sees it.
#[derive(Clone, Copy, Debug)]
pub struct Worker {
    /// In order of forks.
    pub number: u32,
    /// What it does.
    pub state: State,
    /// Since when.
    pub since: Time,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Forked, not ready.
    Starting,
    /// Waits for a connection.
    Idle,
    /// Serves one.
    Busy,
    /// Was asked to leave.
    Retiring,
}

/// The pool as a rule sees it.
#[derive(Debug, Default)]
pub struct Pool {
    /// The present.
    pub now: Time,
    /// The workers, earliest forked first.
    pub workers: Vec<Worker>,
    /// Connections that wait to be accepted.
    pub queue: VecDeque<Request>,
}

impl Pool {
    /// The workers counted by state.
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for worker in &self.workers {
            match worker.state {
                State::Starting => census.starting += 1,
                State::Idle => census.idle += 1,
                State::Busy => census.busy += 1,
                State::Retiring => census.retiring += 1,
            }
        }
        census
    }

    /// Length of the accept queue.
    pub fn queued(&self) -> u32 {
        count(self.queue.len())
    }

    /// The idle workers, earliest forked first.
    pub fn idle(&self) -> impl Iterator<Item = &Worker> {
        self.workers
            .iter()
            .filter(|worker| worker.state == State::Idle)
    }

    fn set(&mut self, number: u32, state: State) {
        let now = self.now;
        for worker in &mut self.workers {
            if worker.number == number {
                worker.state = state;
                worker.since = now;
            }
        }
    }
}

/// A length as the counts of a pool are kept.
pub fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The pool after one event.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When.
    pub at: Time,
    /// The workers.
    pub census: Census,
    /// Forks so far.
    pub forks: u32,
}

/// What happened when a rule met a shape.
pub struct Run {
    /// For each request its arrival and how long it waited for a worker, in order of service.
    pub waits: Vec<(Time, Duration)>,
    /// The pool after each event.
    pub samples: Vec<Sample>,
    /// Workers that have served a request.
    pub served: BTreeSet<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrived(usize),
    Started(u32),
    Finished(u32),
    Gone(u32),
    Tick,
}

struct Engine<'a> {
    rule: &'a mut dyn Rule,
    pool: Pool,
    /// By time, then in the order in which they were foreseen.
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    foreseen: u64,
    /// Forked workers that wait for a processor to start on.
    unstarted: VecDeque<u32>,
    starts: usize,
    forks: u32,
    run: Run,
}

/// Lets a rule manage a pool under a load.
pub fn run(rule: &mut dyn Rule, shape: &Shape) -> Run {
    let start = rule.start();
    let mut engine = Engine {
        rule,
        pool: Pool::default(),
        events: BinaryHeap::new(),
        foreseen: 0,
        unstarted: VecDeque::new(),
        starts: 0,
        forks: 0,
        run: Run {
            waits: Vec::new(),
            samples: Vec::new(),
            served: BTreeSet::new(),
        },
    };
    for (index, request) in shape.requests.iter().enumerate() {
        engine.foresee(request.at, Event::Arrived(index));
    }
    engine.foresee(Time(0) + TICK, Event::Tick);
    engine.fork(start);
    while let Some(Reverse((at, _, event))) = engine.events.pop() {
        if at > shape.until && engine.run.waits.len() == shape.requests.len() {
            break;
        }
        engine.pool.now = at;
        engine.take(event, shape);
        engine.run.samples.push(Sample {
            at,
            census: engine.pool.census(),
            forks: engine.forks,
        });
    }
    engine.run
}

impl Engine<'_> {
    fn take(&mut self, event: Event, shape: &Shape) {
        match event {
            Event::Arrived(index) => {
                self.pool.queue.push_back(shape.requests[index]);
                if self.accept() {
                    self.ask(Cause::TurnedBusy);
                } else {
                    self.ask(Cause::Waiting);
                }
            }
            Event::Started(number) => {
                self.starts -= 1;
                self.start_next();
                self.pool.set(number, State::Idle);
                self.accept();
                self.ask(Cause::Ready);
            }
            Event::Finished(number) => {
                self.pool.set(number, State::Idle);
                if self.accept() {
                    self.ask(Cause::TurnedBusy);
                }
            }
            Event::Gone(number) => {
                self.pool.workers.retain(|worker| worker.number != number);
                self.ask(Cause::Ended);
            }
            Event::Tick => {
                self.foresee(self.pool.now + TICK, Event::Tick);
                self.ask(Cause::Tick);
            }
        }
    }

    fn foresee(&mut self, at: Time, event: Event) {
        self.foreseen += 1;
        self.events.push(Reverse((at, self.foreseen, event)));
    }

    /// Hands the first waiting connection to an idle worker, if there are both.
    fn accept(&mut self) -> bool {
        let chosen = match self.rule.order() {
            Order::FirstReady => self.pool.idle().next(),
            Order::LongestIdle => self.pool.idle().min_by_key(|worker| worker.since),
        };
        let Some(number) = chosen.map(|worker| worker.number) else {
            return false;
        };
        let Some(request) = self.pool.queue.pop_front() else {
            return false;
        };
        let now = self.pool.now;
        self.run.waits.push((request.at, now.since(request.at)));
        self.run.served.insert(number);
        self.pool.set(number, State::Busy);
        self.foresee(now + request.takes, Event::Finished(number));
        true
    }

    fn ask(&mut self, cause: Cause) {
        let decision = self.rule.decide(cause, &self.pool);
        self.fork(decision.fork);
        for number in decision.retire {
            self.pool.set(number, State::Retiring);
            self.foresee(self.pool.now + LEAVE, Event::Gone(number));
        }
    }

    fn fork(&mut self, count: u32) {
        for _ in 0..count {
            self.forks += 1;
            self.pool.workers.push(Worker {
                number: self.forks,
                state: State::Starting,
                since: self.pool.now,
            });
            self.unstarted.push_back(self.forks);
            self.start_next();
        }
    }

    fn start_next(&mut self) {
        if self.starts == STARTS_AT_ONCE {
            return;
        }
        if let Some(number) = self.unstarted.pop_front() {
            self.starts += 1;
            self.foresee(self.pool.now + START, Event::Started(number));
        }
    }
}
