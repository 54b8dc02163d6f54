//! A pool and its processes, which do in no order of ours what processes can do.

use preforkd_plan::pool::{Action, Event, Phase, Pool, Timeouts, View};
use preforkd_plan::reload::Standing;
use preforkd_plan::scale::Limits;
use preforkd_plan::slot::State;
use preforkd_plan::time::Time;

/// Connections that wait, at most.
const QUEUE: u32 = 2;

/// What a worker is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Starting,
    Idle,
    Busy,
}

#[derive(Clone, Copy, Debug)]
struct Worker {
    doing: Doing,
    since: Time,
    served: bool,
    /// It has been asked to leave.
    retired: bool,
    /// It has been sent a signal.
    doomed: bool,
    worn_out: bool,
}

impl Worker {
    /// Whether its end is a failed start.
    fn fails(&self) -> bool {
        self.doing == Doing::Starting && !self.retired && !self.doomed
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mold {
    Starting,
    Ready,
}

/// A pool of one generation.
#[derive(Clone, Debug)]
pub struct Member {
    pool: Pool,
    max: u32,
    by_mold: bool,
    wears: bool,
    workers: Vec<Option<Worker>>,
    mold: Option<Mold>,
    queue: u32,
    taken: u64,
    stopped: Option<Phase>,
    /// When a start last failed.
    failed_at: Option<Time>,
}

struct Sight<'a>(&'a Member);

impl View for Sight<'_> {
    fn worker(&self, slot: u32) -> Option<(bool, Time)> {
        let worker = self.0.workers[slot as usize]?;
        (worker.doing != Doing::Starting).then_some((worker.doing == Doing::Busy, worker.since))
    }

    fn queue(&self) -> u32 {
        self.0.queue
    }

    fn accept_queue(&self) -> (u32, u64) {
        (self.0.queue, self.0.taken)
    }
}

impl Member {
    pub fn new(limits: Limits, timeouts: Timeouts, mold: bool) -> Self {
        Self {
            pool: {
                let mut pool = Pool::new(limits, timeouts, mold);
                pool.set_max_queue(Some(1));
                pool
            },
            max: limits.max_children,
            by_mold: mold,
            wears: true,
            workers: vec![None; limits.max_children as usize],
            mold: None,
            queue: 0,
            taken: 0,
            stopped: None,
            failed_at: None,
        }
    }

    pub fn standing(&self) -> Standing {
        self.pool.standing()
    }

    pub fn deadline(&self, now: Time) -> Option<Time> {
        self.pool.deadline(now)
    }

    /// Whether it has been told to end.
    pub fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// The same whose workers never wear out.
    pub fn lasting(self) -> Self {
        Self {
            wears: false,
            ..self
        }
    }

    /// The same when all its processes have come up.
    pub fn up(mut self, now: Time) -> Self {
        self.settle(now);
        if self.mold.is_some() {
            self.mold = Some(Mold::Ready);
            self.tell(now, Event::MoldReady);
            self.settle(now);
        }
        for index in 0..self.workers.len() {
            if let Some(event) = self.turn(index, now) {
                self.tell(now, event);
                self.settle(now);
            }
        }
        self
    }

    fn is_gone(&self) -> bool {
        self.workers.iter().all(Option::is_none) && self.mold.is_none()
    }

    /// Whether a worker has been asked to leave.
    pub fn has_retired(&self) -> bool {
        self.workers.iter().flatten().any(|worker| worker.retired)
    }

    /// All that its processes and clients can do next.
    pub fn nexts(&self, now: Time) -> Vec<Self> {
        let mut nexts = Vec::new();
        let mut add = |change: &dyn Fn(&mut Self) -> Option<Event>| {
            let mut next = self.clone();
            if let Some(event) = change(&mut next) {
                next.tell(now, event);
                next.settle(now);
                nexts.push(next);
            }
        };
        for (index, slot) in (0..self.max).enumerate() {
            add(&|it| it.turn(index, now));
            add(&|it| it.die(index, slot, now));
            add(&|it| {
                let worker = it.workers[index].as_mut()?;
                let news = it.wears && !worker.worn_out && worker.doing != Doing::Starting;
                worker.worn_out |= news;
                news.then_some(Event::WornOut { slot })
            });
            add(&|it| {
                let starting = it.workers[index].is_some_and(|it| it.doing == Doing::Starting);
                starting.then(|| {
                    it.die(index, slot, now);
                    Event::SpawnFailed { slot }
                })
            });
        }
        add(&|it| {
            (it.mold == Some(Mold::Starting)).then(|| {
                it.mold = Some(Mold::Ready);
                Event::MoldReady
            })
        });
        add(&|it| it.mold.take().map(|_| Event::MoldGone));
        add(&|it| {
            (it.queue < QUEUE).then(|| {
                it.queue += 1;
                Event::Notice
            })
        });
        add(&|it| (it.queue > 0).then_some(Event::Occupied));
        nexts
    }

    /// The worker goes on: it gets ready, takes a request, or has answered it.
    fn turn(&mut self, index: usize, now: Time) -> Option<Event> {
        let worker = self.workers[index].as_mut()?;
        let slot = u32::try_from(index).ok()?;
        worker.since = now;
        let (doing, event) = match worker.doing {
            Doing::Starting => (Doing::Idle, Event::Ready { slot }),
            Doing::Idle => {
                let taken = self.queue.min(1);
                self.queue -= taken;
                self.taken += u64::from(taken);
                (Doing::Busy, Event::Notice)
            }
            Doing::Busy => {
                worker.served = true;
                (Doing::Idle, Event::Notice)
            }
        };
        worker.doing = doing;
        Some(event)
    }

    fn die(&mut self, index: usize, slot: u32, now: Time) -> Option<Event> {
        let worker = self.workers[index].take()?;
        if worker.fails() {
            self.failed_at = Some(now);
        }
        let served = worker.served;
        Some(Event::Gone { slot, served })
    }

    fn tell(&mut self, now: Time, event: Event) {
        let mut actions = Vec::new();
        self.pool.on(now, event, &mut actions);
        self.perform(now, actions);
    }

    pub fn stop(&mut self, now: Time, phase: Phase) {
        self.stopped = self.stopped.max(Some(phase));
        self.tell(now, Event::Stop(phase));
        self.settle(now);
    }

    /// As the daemon does it: until nothing follows any more.
    pub fn settle(&mut self, now: Time) {
        for round in 0.. {
            assert!(round < 16, "it never comes to rest");
            let mut actions = Vec::new();
            let mut pool = self.pool.clone();
            pool.settle(now, &Sight(self), &mut actions);
            self.pool = pool;
            if actions.is_empty() {
                break;
            }
            self.perform(now, actions);
        }
        self.check(now);
    }

    fn perform(&mut self, now: Time, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Spawn { slot } => {
                    assert_eq!(self.stopped, None, "nobody is started at the end");
                    assert_ne!(self.failed_at, Some(now), "a failed start is backed off");
                    assert!(!self.by_mold || self.mold == Some(Mold::Ready));
                    let before = self.workers[slot as usize].replace(Worker {
                        doing: Doing::Starting,
                        since: now,
                        served: false,
                        retired: false,
                        doomed: false,
                        worn_out: false,
                    });
                    assert!(before.is_none(), "slot {slot} is taken");
                }
                Action::Retire { slot } => {
                    let worker = self.workers[slot as usize].as_mut();
                    let worker = worker.expect("a worker to ask");
                    assert!(!worker.retired, "it is asked once");
                    worker.retired = true;
                }
                Action::SignalTerm { slot } | Action::SignalKill { slot } => {
                    let worker = self.workers[slot as usize].as_mut();
                    let worker = worker.expect("a worker to signal");
                    if worker.fails() {
                        self.failed_at = Some(now);
                    }
                    worker.doomed = true;
                }
                Action::Nudge { slot } => {
                    let worker = self.workers[slot as usize].expect("a worker to nudge");
                    assert!(!worker.retired && worker.doing != Doing::Starting);
                }
                Action::StartMold => {
                    assert!(self.by_mold && self.stopped.is_none());
                    let before = self.mold.replace(Mold::Starting);
                    assert_eq!(before, None, "there is a mold");
                }
                Action::KillMold => assert!(self.mold.is_some(), "a mold to kill"),
                Action::TurnAway { count } => {
                    assert!(count > 0 && count <= self.queue, "nobody is turned away");
                    assert!(self.pool.is_saturated(), "there is room");
                    self.queue -= count;
                    self.taken += u64::from(count);
                }
                Action::ReportSaturated
                | Action::ReportRelieved(_)
                | Action::ReportBackOff { .. } => {}
            }
        }
    }

    /// What holds in every state.
    fn check(&self, now: Time) {
        let census = self.pool.census();
        let count = |is: &dyn Fn(&Worker) -> bool| {
            let workers = self.workers.iter().flatten();
            u32::try_from(workers.filter(|worker| is(worker)).count()).expect("few")
        };
        let alive = count(&|_| true);
        assert!(alive <= self.max, "more workers than max_children");
        assert_eq!(census.total(), alive, "each worker is counted once");
        let idle = count(&|worker| worker.doing == Doing::Idle && !worker.retired);
        assert!(census.idle <= idle, "an idle worker is counted once");
        for (slot, worker) in (0..).zip(&self.workers) {
            assert_eq!(self.pool.state(slot) == State::Vacant, worker.is_none());
        }
        let waits = census.starting > 0
            || self.mold == Some(Mold::Starting)
            || self.is_stopped() && !self.is_gone();
        assert!(
            !waits || self.pool.deadline(now).is_some(),
            "who never answers is waited for until a deadline"
        );
    }
}
