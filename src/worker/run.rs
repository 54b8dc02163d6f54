//! The loop of a worker.
//!
//! It waits for three things at once: its control channel, a connection that it keeps, and the listening socket. The
//! listening socket is waited for exclusively: of all idle workers the kernel wakes the first that registered, so the
//! load gathers on few warm workers and the others age and can go. A worker with a kept connection goes to the end of
//! that line, since a new connection makes it close the kept one.

use crate::exchange::{DIRECT, Error, Exchange};
use crate::message::{FromWorker, ToWorker, WorkerSettings};
use crate::status::reception::Reception;
use crate::status::summary;
use crate::watchdog::{Watch, Watchdog};
use crate::{Application, message};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{SockaddrStorage, getpeername};
use preforkd_fastcgi::receiver::Limits;
use preforkd_sys::channel::Channel;
use preforkd_sys::scoreboard::Reporter;
use preforkd_sys::{clock, fds, signals};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

const CONTROL: u64 = 0;
const LISTENER: u64 = 1;
const KEPT: u64 = 2;

/// How long a worker that cannot accept for want of descriptors or memory waits before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a worker works with.
#[derive(Debug)]
pub struct Equipment {
    /// To and from the master.
    pub control: Channel,
    /// The pool's listening socket; it must not block.
    pub listener: OwnedFd,
    /// The worker's cell of the scoreboard.
    pub reporter: Reporter,
    /// The rest.
    pub settings: WorkerSettings,
}

/// Answers requests until the master says to leave, or is gone.
///
/// # Errors
/// What makes a worker impossible: no epoll instance, a control channel that fails.
pub fn run(equipment: Equipment, application: &mut impl Application) -> io::Result<()> {
    signals::ignore_sigpipe();
    let mut worker = Worker::new(equipment)?;
    worker.tell(&FromWorker::Ready)?;
    let served = match worker.settings.pages.clone() {
        None => worker.serve(application),
        Some(pages) => {
            let listener = worker.listener.try_clone()?;
            let reporter = Arc::clone(&worker.reporter);
            worker.serve(&mut Reception::new(pages, reporter, listener, application))
        }
    };
    // Leaving may take a while; nobody is to count on this worker meanwhile.
    worker.reporter.busy(clock::now());
    served
}

struct Worker {
    control: Arc<Channel>,
    listener: OwnedFd,
    reporter: Arc<Reporter>,
    settings: WorkerSettings,
    epoll: Epoll,
    watchdog: Option<Watchdog>,
    exchange: Option<Box<Exchange>>,
    /// The exchange's connection waits for its next request.
    keeps: bool,
    worn_out: bool,
}

impl Worker {
    fn new(equipment: Equipment) -> io::Result<Self> {
        let Equipment {
            control,
            listener,
            reporter,
            settings,
        } = equipment;
        let control = Arc::new(control);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&*control, EpollEvent::new(EpollFlags::EPOLLIN, CONTROL))?;
        epoll.add(
            &listener,
            EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE, LISTENER),
        )?;
        let (watchdog, watch) = if settings.terminate_timeout.is_zero() {
            (None, None)
        } else {
            let watch = Arc::new(Watch::default());
            let channel = Arc::clone(&control);
            let tell = move || {
                // The master may be gone; the process ends either way.
                let _ = channel.send(&FromWorker::TimedOut.encode(), &[]);
            };
            (
                Some(Watchdog::start(
                    settings.terminate_timeout,
                    Arc::clone(&watch),
                    tell,
                )?),
                Some(watch),
            )
        };
        let exchange = Some(Box::new(Exchange::new(
            Limits::default(),
            settings.capacity,
            watch,
        )));
        Ok(Self {
            control,
            listener,
            reporter: Arc::new(reporter),
            settings,
            epoll,
            watchdog,
            exchange,
            keeps: false,
            worn_out: false,
        })
    }

    fn serve(&mut self, application: &mut impl Application) -> io::Result<()> {
        self.reporter.idle(clock::now());
        loop {
            let mut events = [EpollEvent::empty(); 3];
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let ready = |token| events[..count].iter().any(|event| event.data() == token);
            let mut listener_ready = ready(LISTENER);
            if ready(CONTROL) {
                match self.order()? {
                    Some(ToWorker::Nudge) => listener_ready = true,
                    None => {}
                    Some(ToWorker::Retire) => {
                        // The kernel may have woken this worker, and no other, for a connection that waits.
                        self.epoll.delete(&self.listener)?;
                        if self.keeps && ready(KEPT) {
                            self.answer(application);
                        }
                        self.accept(application)?;
                        return Ok(());
                    }
                }
            }
            if self.keeps && ready(KEPT) {
                self.answer(application);
                if listener_ready {
                    // It has had its turn; the peer learns it together with its answer.
                    self.drop_kept();
                }
            }
            if listener_ready {
                self.accept(application)?;
            }
        }
    }

    /// What the master says; None when there is nothing.
    fn order(&self) -> io::Result<Option<ToWorker>> {
        let mut buffer = [0; 16];
        match self.control.try_receive(&mut buffer) {
            // The master is gone.
            Ok(received) if received.length == 0 => Ok(Some(ToWorker::Retire)),
            Ok(received) => ToWorker::try_from(&buffer[..received.length])
                .map(Some)
                .map_err(|message::Malformed| io::Error::from(io::ErrorKind::InvalidData)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn tell(&self, message: &FromWorker) -> io::Result<()> {
        match self.control.send(&message.encode(), &[]) {
            // The end of the channel will be seen when it is read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    /// Accepts a connection, if there still is one, and answers its first request.
    fn accept(&mut self, application: &mut impl Application) -> io::Result<()> {
        let connection = match fds::accept(self.listener.as_fd()) {
            Ok(connection) => connection,
            // Another worker was faster, or the peer has left.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED | Errno::EPROTO) => {
                return Ok(());
            }
            Err(error @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)) => {
                eprintln!(
                    "cannot accept: {error}; trying again in {} ms",
                    ACCEPT_PAUSE.as_millis()
                );
                std::thread::sleep(ACCEPT_PAUSE);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if !self.is_allowed(&connection) {
            return Ok(());
        }
        self.drop_kept();
        self.reporter.connection();
        if let Some(exchange) = &mut self.exchange {
            exchange.open(connection);
        }
        self.answer(application);
        if self.keeps
            && let Some(connection) = self
                .exchange
                .as_ref()
                .and_then(|exchange| exchange.connection())
        {
            self.epoll.add(
                connection,
                EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP, KEPT),
            )?;
            self.wait_last_for_connections()?;
        }
        Ok(())
    }

    /// Whether `listen.allowed_clients` lets this peer in; who comes over a Unix socket always is.
    fn is_allowed(&self, connection: &OwnedFd) -> bool {
        let Some(allowed) = &self.settings.allowed_clients else {
            return true;
        };
        let peer = match getpeername::<SockaddrStorage>(connection.as_raw_fd()) {
            Ok(peer) => match (peer.as_sockaddr_in(), peer.as_sockaddr_in6()) {
                (Some(v4), _) => IpAddr::from(v4.ip()),
                (None, Some(v6)) => IpAddr::from(v6.ip()),
                (None, None) => return true,
            },
            // It has left already.
            Err(_) => return false,
        };
        let is_allowed = allowed.admits(peer);
        if !is_allowed {
            eprintln!(
                "Connection disallowed: IP address '{}' has been dropped.",
                peer.to_canonical()
            );
        }
        is_allowed
    }

    /// Goes to the end of the line of those that wait for connections.
    fn wait_last_for_connections(&self) -> io::Result<()> {
        self.epoll.delete(&self.listener)?;
        self.epoll.add(
            &self.listener,
            EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE, LISTENER),
        )?;
        Ok(())
    }

    fn drop_kept(&mut self) {
        if self.keeps {
            self.keeps = false;
            if let Some(exchange) = &mut self.exchange {
                exchange.close();
            }
        }
    }

    /// Answers the next request on the connection, and those that have come with it.
    fn answer(&mut self, application: &mut impl Application) {
        self.reporter.busy(clock::now());
        self.keeps = false;
        while let Some(mut exchange) = self.exchange.take() {
            let now = match exchange.next_request() {
                Ok(Some(head)) => {
                    self.begin(&exchange, head.id);
                    exchange.set_blocking(application.blocking());
                    exchange = application.serve(exchange);
                    exchange.set_blocking(DIRECT);
                    self.keeps = exchange.finish();
                    self.end()
                }
                other => {
                    if let Err(error) = other {
                        self.note(&error);
                    }
                    exchange.close();
                    self.keeps = false;
                    clock::now()
                }
            };
            let more = self.keeps && exchange.has_input();
            self.exchange = Some(exchange);
            if !more {
                self.reporter.idle(now);
                break;
            }
        }
    }

    fn begin(&self, exchange: &Exchange, id: u16) {
        let now = clock::now();
        // Whoever shows a request, and the master when it ends one, wants to know all of it.
        let whole = self.settings.pages.is_some() || !self.settings.terminate_timeout.is_zero();
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
        if self.settings.notes && !matches!(error, Error::Gone) {
            // A note that finds the channel full is not worth a wait.
            let _ = self.tell(&FromWorker::Note {
                text: format!("connection dropped: {error}"),
            });
        }
    }

    /// Returns when the request ended.
    fn end(&mut self) -> u64 {
        if let Some(watchdog) = &self.watchdog {
            watchdog.end();
        }
        let now = clock::now();
        self.reporter.ended(now);
        let max = self.settings.max_requests;
        if max > 0 && !self.worn_out && self.reporter.requests() >= max {
            // If it cannot be said now it is said after the next request.
            self.worn_out = self.tell(&FromWorker::WornOut).is_ok();
        }
        now
    }
}
