//! The two pages that a pool answers itself: its status (`pm.status_path`) and a sign of life (`ping.path`).
//!
//! A worker answers them like any request, so that they count, and stand in the log, as in php-fpm; the application never
//! sees them. The status service answers them on `pm.status_listen` as well, also when every worker is busy.
//!
//! # Layout
//! * [`snapshot`]: what a pool is doing, from its scoreboard
//! * [`summary`]: what a scoreboard keeps of a request
//! * [`render`]: a snapshot in each format; `fields`: which fields a page has; `openmetrics`: the format apart
//! * [`reception`]: answers them in a worker; [`meter`]: what its requests cost

pub mod meter;
pub mod reception;
pub mod render;
pub mod snapshot;
pub mod summary;

mod fields;
mod openmetrics;
#[cfg(test)]
mod tests;

use crate::access::path;
use crate::exchange::{Exchange, Result};
use crate::zone::Zone;
use preforkd_fastcgi::pairs::Params;
use preforkd_sys::board::Board;
use preforkd_sys::clock;
use preforkd_sys::queue::Queue;
use render::{Query, render};
use snapshot::{Facts, Snapshot};

/// What keeps a page from being kept, as php-fpm says it.
const NO_CACHE: &str = "Expires: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
                        Cache-Control: no-cache, no-store, must-revalidate, max-age=0\r\n";

/// Which pages a pool answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    /// What is configured of the pool.
    pub facts: Facts,
    /// The path of its status.
    pub status_path: Option<String>,
    /// The path of the sign of life.
    pub ping_path: Option<String>,
    /// The sign of life.
    pub ping_response: String,
    /// The zone of times that people read.
    pub zone: Zone,
}

/// A page that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The status.
    Status(Query),
    /// The sign of life.
    Ping,
}

/// An answer: its header lines with the empty one, and its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Header lines, each with its end, and the empty line.
    pub head: String,
    /// The page; empty for a HEAD request.
    pub body: String,
}

impl Pages {
    /// The page that a request asks for; None when it is the application's.
    ///
    /// The path of a request is its `SCRIPT_NAME`, as in php-fpm, or else what follows from that and `PATH_INFO`, where
    /// a web server's configuration for Python puts the path. It is compared whole.
    #[must_use]
    pub fn asked(&self, params: &Params) -> Option<Page> {
        if self.ping_path.is_none() && self.status_path.is_none() {
            return None;
        }
        let script = params.get(b"SCRIPT_NAME").unwrap_or_default();
        let path = path(params);
        let is = |page: &Option<String>| {
            page.as_deref()
                .is_some_and(|page| page.as_bytes() == script || page.as_bytes() == &*path)
        };
        if is(&self.ping_path) {
            Some(Page::Ping)
        } else if is(&self.status_path) {
            let query = params.get(b"QUERY_STRING").unwrap_or_default();
            Some(Page::Status(Query::parse(query)))
        } else {
            None
        }
    }

    /// Makes a page of the pool with this board; `queue` is read when it is needed.
    #[must_use]
    pub fn page(
        &self,
        page: Page,
        params: &Params,
        board: &Board,
        queue: impl FnOnce() -> Queue,
    ) -> Answer {
        let head_only = params.get(b"REQUEST_METHOD") == Some(b"HEAD");
        let (head, body) = match page {
            Page::Ping => (
                format!("Content-type: text/plain;charset=UTF-8\r\n{NO_CACHE}\r\n"),
                self.ping_response.clone(),
            ),
            Page::Status(query) if head_only => (status_head(query), String::new()),
            Page::Status(query) => {
                let snapshot =
                    Snapshot::take(board, &self.facts, queue(), clock::now(), query.full);
                (status_head(query), render(&snapshot, query, &self.zone))
            }
        };
        Answer {
            head,
            body: if head_only { String::new() } else { body },
        }
    }
}

fn status_head(query: Query) -> String {
    format!("{NO_CACHE}{}\r\n\r\n", query.format.content_type())
}

impl Answer {
    /// Sends it as the whole answer to a request.
    ///
    /// # Errors
    /// As [`Exchange::write`].
    pub fn send(&self, exchange: &mut Exchange) -> Result<()> {
        exchange.write(self.head.as_bytes())?;
        exchange.write(self.body.as_bytes())?;
        exchange.end(0)
    }
}
