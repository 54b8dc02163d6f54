//! What runs in a worker: it accepts from the pool's socket, answers one request at a time, and says what it does.
//!
//! A worker is told to leave over its control channel, which it reads before it accepts, so that nothing ever ends it
//! while it holds a request. If the master is gone the channel says so, and the worker leaves too.
//!
//! # Layout
//! * [`run`]: the loop
//! * [`exchange`]: one request and its answer, with deadlines on each wait
//! * `deadline`: by when a peer must have done its part
//! * [`answer_head`]: the beginning of an answer, for logs
//! * [`spool`]: what is kept of a body that cannot be handed on yet
//! * [`watchdog`]: looks after requests that take long
//! * [`overdue`], [`trace`]: what is told of them, and where the application is
//! * [`hello`]: the built-in application
//! * [`relay`]: a program that speaks FastCGI
//! * [`cgi`]: a program that is started for each request
//! * [`status`]: the pages about the pool itself
//! * [`access`]: the access log
//! * [`log_file`]: files that workers append to
//! * [`escape`]: text from outside in lines of a log
//! * [`zone`]: the local time zone
//! * [`allowed`]: who may connect
//! * `wear`, `memory`: when a worker is to be replaced
//! * [`mold`]: what any mold does
//! * [`message`]: what goes over the channels between master, mold and workers

#![forbid(unsafe_code)]

pub mod access;
pub mod allowed;
pub mod answer_head;
pub mod cgi;
mod deadline;
pub mod escape;
pub mod exchange;
pub mod hello;
pub mod log_file;
mod memory;
pub mod message;
pub mod mold;
pub mod overdue;
pub mod relay;
pub mod run;
pub mod spool;
pub mod status;
pub mod trace;
pub mod watchdog;
mod wear;
pub mod zone;

pub use exchange::Exchange;

use std::io;
use std::os::fd::BorrowedFd;

/// Runs a wait, with whatever lock of the application's that others may want meanwhile let go.
pub type Blocking = fn(&mut dyn FnMut());

/// What answers requests.
pub trait Application {
    /// Answers one request. The exchange comes back with its answer ended, or given up.
    fn serve(&mut self, exchange: Box<Exchange>) -> Box<Exchange>;

    /// The answer has left and the request is accounted for: what takes time and is for nobody's answer is done here.
    fn ended(&mut self) {}

    /// Whether it takes no more requests and its process ends.
    fn is_leaving(&self) -> bool {
        false
    }

    /// The process that it is in, whose memory counts (`pm.max_memory`).
    fn process(&self) -> u32 {
        std::process::id()
    }

    /// Whether it serves the roles of an authorizer and a filter, besides that of a responder.
    fn serves_all_roles(&self) -> bool {
        false
    }

    /// What becomes readable when the application has to be looked after between requests by [`Self::prepare`].
    fn news(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Makes ready for requests: before the first one, and when there are [`Self::news`]. Returns false when it has been
    /// interrupted by what the master says, and is to be called again.
    ///
    /// # Errors
    /// Why there can be no requests: the worker leaves.
    fn prepare(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    /// What tells where it is while it serves. The thread that is going to serve asks for it, once, if anybody is to be
    /// told.
    fn tracer(&self) -> Box<dyn trace::Tracer> {
        Box::new(trace::KernelView::of(std::process::id()))
    }

    /// How to wait during [`Self::serve`].
    fn blocking(&self) -> Blocking {
        |wait| wait()
    }
}
