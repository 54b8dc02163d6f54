//! The loop of a worker.
//!
//! It waits for four things at once: its control channel, a connection that it keeps, the listening socket, and parked
//! connections, which other workers have had to part with and on which something has arrived. The last two are waited
//! for exclusively: of all idle workers the kernel wakes the first that registered, so the load gathers on few warm
//! workers and the others age and can go. A worker with a kept connection goes to the end of that line, since another
//! connection makes it part with the kept one. If it is woken for another one just as a request comes on the kept one, it
//! answers that first, and tells the master to find another worker for the other one. Where an application has to be
//! looked after between two requests, that is a fifth.

mod connections;
mod stretch;

use crate::access::AccessLog;
use crate::exchange::{DIRECT, Error, Exchange, Next};
use crate::log_file::LogFiles;
use crate::message::{FromWorker, ToWorker, WorkerSettings};
use crate::overdue::{SlowLog, Witness};
use crate::status::reception::{Reception, read_queue};
use crate::status::summary;
use crate::watchdog::{Timeouts, Watch, Watchdog};
use crate::wear::{Wear, Worn};
use crate::{Application, message};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::unistd::{dup2_stderr, dup2_stdout};
use preforkd_fastcgi::receiver::{Limits, Receiver};
use preforkd_sys::channel::Channel;
use preforkd_sys::parking::Parking;
use preforkd_sys::scoreboard::Reporter;
use preforkd_sys::{clock, signals};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use stretch::Stretch;

const CONTROL: u64 = 0;
const LISTENER: u64 = 1;
const KEPT: u64 = 2;
const PARKED: u64 = 3;
const NEWS: u64 = 4;

/// What a worker works with.
#[derive(Debug)]
pub struct Equipment {
    /// To and from the master.
    pub control: Channel,
    /// The pool's listening socket; it must not block.
    pub listener: OwnedFd,
    /// Where the pool's workers part with kept connections, and take them up again.
    pub parking: Parking,
    /// The worker's cell of the scoreboard.
    pub reporter: Reporter,
    /// The rest.
    pub settings: WorkerSettings,
    /// The pool's logs.
    pub logs: LogFiles,
}

/// Answers requests until the master says to leave, or is gone.
///
/// # Errors
/// What makes a worker impossible: no epoll instance, a control channel that fails.
pub fn run(equipment: Equipment, application: &mut impl Application) -> io::Result<()> {
    signals::ignore_sigpipe();
    let mut worker = Worker::new(equipment, application)?;
    if let Some(news) = application.news() {
        worker
            .epoll
            .add(news, EpollEvent::new(EpollFlags::EPOLLIN, NEWS))?;
    }
    if !worker.prepare(application)? {
        return Ok(());
    }
    worker.tell(&FromWorker::Ready)?;
    let served = match worker.settings.pages.clone() {
        None => worker.serve(application),
        Some(pages) => {
            let listener = worker.listener.try_clone()?;
            let reporter = Arc::clone(&worker.reporter);
            worker.serve(&mut Reception::new(pages, reporter, listener, application))
        }
    };
    worker.reporter.leave(clock::now());
    served
}

/// What the master has told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    retire: bool,
    /// Who waits is answered before.
    drain: bool,
    nudge: bool,
}

struct Worker {
    control: Arc<Channel>,
    listener: OwnedFd,
    parking: Arc<Parking>,
    reporter: Arc<Reporter>,
    settings: WorkerSettings,
    epoll: Epoll,
    watchdog: Option<Watchdog>,
    access: Option<AccessLog>,
    slow_log: Option<Arc<SlowLog>>,
    /// None when nothing wears it out, or it has said so.
    wear: Option<Wear>,
    /// What the master has told and the worker has not done yet.
    told: Told,
    /// Away while the application has it.
    exchange: Option<Box<Exchange>>,
    /// The exchange's connection waits for its next request.
    keeps: bool,
    /// The exchange's connection is in the poll set.
    watched: bool,
    /// Another worker had it before.
    taken_up: bool,
    stretch: Stretch,
}

impl Worker {
    fn new(equipment: Equipment, application: &impl Application) -> io::Result<Self> {
        let Equipment {
            control,
            listener,
            parking,
            reporter,
            settings,
            logs,
        } = equipment;
        let control = Arc::new(control);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&*control, EpollEvent::new(EpollFlags::EPOLLIN, CONTROL))?;
        epoll.add(&listener, exclusive(LISTENER))?;
        epoll.add(&parking, exclusive(PARKED))?;
        let reporter = Arc::new(reporter);
        let slow_log = logs.slow.map(|file| Arc::new(SlowLog::new(file)));
        let some = |span: Duration| Some(span).filter(|span| !span.is_zero());
        let timeouts = Timeouts {
            slow: some(settings.logs.slow_timeout),
            terminate: some(settings.terminate_timeout),
        };
        let (watchdog, watch) = if timeouts.slow.or(timeouts.terminate).is_none() {
            (None, None)
        } else {
            let over = (!settings.track_finished).then(|| Arc::clone(&reporter));
            let watch = Arc::new(Watch::new(over));
            let witness = Witness::new(
                &settings,
                slow_log.clone(),
                Arc::clone(&control),
                Arc::clone(&reporter),
                application.tracer(),
            );
            let watchdog = Watchdog::start(timeouts, Arc::clone(&watch), witness)?;
            (Some(watchdog), Some(watch))
        };
        let wear = Wear::new(settings.max_requests, settings.max_memory);
        let parking = Arc::new(parking);
        let receiver = Receiver::new(Limits::default(), settings.capacity);
        let mut exchange = Box::new(Exchange::new(receiver, watch, Arc::clone(&parking)));
        let access = match (&settings.logs.access, logs.access) {
            (Some(access), Some(file)) => Some(AccessLog::new(&settings, access, file)?),
            _ => None,
        };
        if access.as_ref().is_some_and(AccessLog::needs_head) {
            exchange.keep_heads();
        }
        if application.serves_all_roles() {
            exchange.serve_all_roles();
        }
        Ok(Self {
            control,
            listener,
            parking,
            reporter,
            settings,
            epoll,
            watchdog,
            access,
            slow_log,
            wear,
            told: Told::default(),
            exchange: Some(exchange),
            keeps: false,
            watched: false,
            taken_up: false,
            stretch: Stretch::default(),
        })
    }

    fn serve(&mut self, application: &mut impl Application) -> io::Result<()> {
        self.reporter.idle(clock::now());
        loop {
            let mut events = [EpollEvent::empty(); 5];
            let timeout = if self.told == Told::default() {
                EpollTimeout::NONE
            } else {
                EpollTimeout::ZERO
            };
            let count = match self.epoll.wait(&mut events, timeout) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let ready = |token| events[..count].iter().any(|event| event.data() == token);
            let (mut called, mut parked) = (ready(LISTENER), ready(PARKED));
            if ready(CONTROL) {
                self.hear()?;
            }
            if ready(NEWS) && !self.told.retire {
                // Nobody is to count on it meanwhile.
                self.reporter.busy(clock::now());
                if let Err(failure) = self.prepare(application) {
                    // Who waits is for another worker to answer.
                    self.part();
                    if called || parked || self.told.nudge {
                        self.tell(&FromWorker::Occupied)?;
                    }
                    return Err(failure);
                }
                self.reporter.idle(clock::now());
            }
            let told = std::mem::take(&mut self.told);
            if told.retire {
                return self.leave(application, told.drain);
            }
            called |= told.nudge;
            parked |= told.nudge;
            let other = called || parked;
            if self.keeps && (ready(KEPT) || other && self.exchange().has_arrived()) {
                self.answer(application, other);
            }
            if called && !application.is_leaving() {
                self.accept(application)?;
            }
            if parked && !application.is_leaving() {
                self.take_parked(application);
            }
            if application.is_leaving() {
                self.reporter.busy(clock::now());
                self.part();
                // Of who waits, others have to hear.
                return self.tell(&FromWorker::Occupied);
            }
            if self.keeps && !self.watched {
                self.watch_connection()?;
            }
        }
    }

    /// Makes the application ready for requests. Returns false when the master says to leave first.
    fn prepare(&mut self, application: &mut impl Application) -> io::Result<bool> {
        while !application.prepare()? {
            self.hear()?;
            if self.told.retire {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Answers what nobody else may know of: a request on the connection that it keeps, and a connection for which the
    /// kernel may have woken this worker and no other. With `drain` also who waits now, be it that the other workers that
    /// leave take them as well; who comes later may come without end. What an application that ends meanwhile cannot
    /// answer stays where it is, for them.
    fn leave(&mut self, application: &mut impl Application, drain: bool) -> io::Result<()> {
        self.epoll.delete(&self.listener)?;
        self.epoll.delete(&self.parking)?;
        if self.keeps && self.exchange().has_arrived() {
            self.answer(application, true);
        }
        let waiting = if drain {
            read_queue(&self.listener).length
        } else {
            0
        };
        for _ in 0..waiting.max(1) {
            if application.is_leaving() || !self.accept(application)? {
                break;
            }
        }
        self.part();
        if !application.is_leaving() {
            self.take_parked(application);
        }
        // Who is parked has sent a request, and nobody else is going to take it. Those that are answered are not kept, so
        // that this comes to an end.
        while drain && !application.is_leaving() && self.parking.waiting() > 0 {
            self.close_if_quiet();
            self.take_parked(application);
        }
        if drain {
            self.close_if_quiet();
        }
        self.part();
        if application.is_leaving() {
            // Of who waits, others have to hear.
            return self.tell(&FromWorker::Occupied);
        }
        Ok(())
    }

    /// Takes in what the master says: new logs at once, the rest to be done in its turn.
    fn hear(&mut self) -> io::Result<()> {
        let invalid = |message::Malformed| io::Error::from(io::ErrorKind::InvalidData);
        let mut buffer = [0; 16];
        loop {
            let received = match self.control.try_receive(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                other => other?,
            };
            if received.length == 0 {
                // The master is gone; or it is another program now, whose workers answer who waits if it has the pool.
                self.told.retire = true;
                let is_gone = !self.control.is_peer_parent();
                self.told.drain = is_gone || self.parking.is_given_up();
                if is_gone {
                    silence();
                }
                return Ok(());
            }
            match ToWorker::try_from(&buffer[..received.length]).map_err(invalid)? {
                ToWorker::Logs => {
                    let logs = LogFiles::from_fds(&self.settings.logs, received.fds);
                    self.reopen(logs.map_err(invalid)?);
                }
                ToWorker::Retire => self.told.retire = true,
                ToWorker::Drain => {
                    self.told.retire = true;
                    self.told.drain = true;
                }
                ToWorker::Nudge => self.told.nudge = true,
            }
        }
    }

    fn reopen(&mut self, logs: LogFiles) {
        if let (Some(access), Some(file)) = (&mut self.access, logs.access) {
            access.reopen(file);
        }
        if let (Some(slow), Some(file)) = (&self.slow_log, logs.slow) {
            slow.reopen(file);
        }
    }

    /// Writes the line of a request whose answer has left.
    fn log_access(&mut self, exchange: &Exchange) {
        if self.access.is_none() {
            return;
        }
        // During a long request the log may have been rotated. An error of the channel is met again in the loop.
        let _ = self.hear();
        if let Some(access) = &mut self.access {
            access.end(clock::now(), exchange);
        }
    }

    fn tell(&self, message: &FromWorker) -> io::Result<()> {
        match self.control.send(&message.encode(), &[]) {
            // The end of the channel will be seen when it is read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    fn exchange(&mut self) -> &mut Exchange {
        self.exchange
            .as_mut()
            .expect("the application has given it back")
    }

    /// Answers the next request on the connection, and those that have come with it. `called` says that another
    /// connection waits as well.
    fn answer(&mut self, application: &mut impl Application, called: bool) {
        let now = clock::now();
        self.reporter.busy(now);
        self.stretch.go_on(now);
        if called {
            // It counts as busy already, so it will not be asked itself. The channel is full only of what makes the
            // master look at this pool as well.
            let _ = self.tell(&FromWorker::Occupied);
        }
        loop {
            let now = match self.exchange().next_request() {
                Ok(Next::Request(_)) if self.is_abandoned() => {
                    // The web server may have given up the request alone.
                    self.keeps = self.exchange().finish();
                    clock::now()
                }
                Ok(Next::Request(head)) => self.respond(application, head.id),
                other => {
                    self.keeps = matches!(other, Ok(Next::Quiet));
                    if let Err(error) = other {
                        self.note(&error);
                    }
                    clock::now()
                }
            };
            if !self.keeps {
                self.hang_up();
            }
            if !self.keeps || application.is_leaving() || !self.exchange().has_input() {
                self.reporter.idle(now);
                self.stretch.pause(now);
                return;
            }
        }
    }

    /// Whether nobody is there any more for the answer. That is asked only while requests may have had to wait for long:
    /// all workers are busy, and this one has been for a while.
    fn is_abandoned(&mut self) -> bool {
        self.stretch.is_long()
            && self.reporter.board().is_saturated()
            && self.exchange().is_peer_gone()
    }

    /// Returns when the request ended.
    fn respond(&mut self, application: &mut impl Application, id: u16) -> u64 {
        let Some(mut exchange) = self.exchange.take() else {
            unreachable!("its next request has just been read");
        };
        self.begin(&exchange, id);
        exchange.set_blocking(application.blocking());
        let mut exchange = application.serve(exchange);
        exchange.set_blocking(DIRECT);
        if let Some(watchdog) = &self.watchdog {
            watchdog.end();
        }
        self.log_access(&exchange);
        self.keeps = exchange.finish();
        self.exchange = Some(exchange);
        let now = self.end();
        application.ended();
        self.wear(application);
        now
    }

    fn begin(&mut self, exchange: &Exchange, id: u16) {
        let now = clock::now();
        if let Some(access) = &mut self.access {
            access.begin(now);
        }
        // Whoever shows a request, and the master when it ends one, wants to know all of it.
        let whole = self.settings.pages.is_some() || self.watchdog.is_some();
        summary::text(exchange.params(), whole, |text| {
            self.reporter.request(now, text);
        });
        if let (Some(watchdog), Some(connection)) = (&self.watchdog, exchange.connection()) {
            watchdog.begin(now, connection, id);
        }
    }

    /// Notes a connection that ended before its request was whole. Web servers close unused connections all the time,
    /// and that is no news.
    fn note(&self, error: &Error) {
        if self.settings.notes && !matches!(error, Error::Gone | Error::Unreachable(_)) {
            // A note that finds the channel full is not worth a wait.
            let _ = self.tell(&FromWorker::Note {
                text: format!("connection dropped: {error}"),
            });
        }
    }

    /// Returns when the request ended.
    fn end(&mut self) -> u64 {
        let now = clock::now();
        self.reporter.ended(now);
        now
    }

    /// Asks to be replaced when it is time. What cannot be said now is said after the next request.
    fn wear(&mut self, application: &impl Application) {
        let Some(wear) = &mut self.wear else { return };
        let requests = self.reporter.requests();
        let message = match wear.look(requests, || application.process()) {
            None => return,
            Some(Worn::Requests) => FromWorker::WornOut,
            Some(Worn::Memory(memory)) => FromWorker::Outgrown { memory },
        };
        if self.tell(&message).is_ok() {
            self.wear = None;
        }
    }
}

/// An event that wakes one of the workers that wait for it.
fn exclusive(token: u64) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE, token)
}

/// Sends what the application prints from now on nowhere, since nobody is left to read it: a write would be an error, and
/// might be taken for the request's.
fn silence() {
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        // Both descriptors are open, and if they cannot be replaced they stay as they are.
        let _ = dup2_stdout(&null).and(dup2_stderr(&null));
    }
}
