//! Stands before an application and answers the pages about the pool itself.

use super::Pages;
use super::meter::Meter;
use crate::exchange::{DIRECT, Exchange};
use crate::{Application, Blocking};
use preforkd_sys::queue::{Gauge, Queue, Target};
use preforkd_sys::scoreboard::Reporter;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// An application with the pages before it. Measures what each request costs, which the pages show.
#[derive(Debug)]
pub struct Reception<'a, A> {
    pages: Box<Pages>,
    meter: Meter,
    reporter: Arc<Reporter>,
    listener: OwnedFd,
    application: &'a mut A,
}

impl<'a, A: Application> Reception<'a, A> {
    /// Before `application`, in the worker of this reporter, which accepts from `listener`.
    pub fn new(
        pages: Box<Pages>,
        reporter: Arc<Reporter>,
        listener: OwnedFd,
        application: &'a mut A,
    ) -> Self {
        Self {
            pages,
            meter: Meter::default(),
            reporter,
            listener,
            application,
        }
    }

    fn answer(&mut self, mut exchange: Box<Exchange>) -> Box<Exchange> {
        let Some(page) = self.pages.asked(exchange.params()) else {
            return self.application.serve(exchange);
        };
        exchange.set_blocking(DIRECT);
        let board = self.reporter.board();
        let queue = || read_queue(&self.listener);
        let answer = self.pages.page(page, exchange.params(), board, queue);
        if answer.send(&mut exchange).is_err() {
            exchange.abort();
        }
        exchange
    }
}

impl<A: Application> Application for Reception<'_, A> {
    fn serve(&mut self, exchange: Box<Exchange>) -> Box<Exchange> {
        self.meter.begin();
        let exchange = self.answer(exchange);
        self.meter.end(&self.reporter);
        exchange
    }

    fn news(&self) -> Option<BorrowedFd<'_>> {
        self.application.news()
    }

    fn prepare(&mut self) -> io::Result<bool> {
        self.application.prepare()
    }

    fn is_leaving(&self) -> bool {
        self.application.is_leaving()
    }

    fn ended(&mut self) {
        self.meter.measure_memory(&self.reporter);
        self.application.ended();
    }

    fn process(&self) -> u32 {
        self.application.process()
    }

    fn blocking(&self) -> Blocking {
        self.application.blocking()
    }
}

/// The accept queue of `listener`; a queue that cannot be read counts as empty.
#[must_use]
pub fn read_queue(listener: &OwnedFd) -> Queue {
    Target::of(listener.as_fd())
        .and_then(|target| Gauge::new().read(listener.as_fd(), target))
        .unwrap_or_default()
}
