//! The built-in application (`app = hello`): shows what the web server sent and who answered, so that a set-up can be
//! proved without Python.

use crate::exchange::{Exchange, Result};
use crate::{Application, message::WorkerSettings};
use preforkd_sys::scoreboard::{Scoreboard, State};
use std::fmt::Write;

/// The application.
#[derive(Debug)]
pub struct Hello {
    settings: WorkerSettings,
    board: Scoreboard,
    process: u32,
}

impl Hello {
    /// For this process, a worker of the pool with these settings and this board.
    #[must_use]
    pub fn new(settings: WorkerSettings, board: Scoreboard) -> Self {
        Self {
            settings,
            board,
            process: std::process::id(),
        }
    }

    fn page(&self, exchange: &Exchange) -> String {
        let mut page = String::with_capacity(8 * 1024);
        let pool = escape(self.settings.pool.as_bytes());
        let (mut idle, mut busy, mut starting) = (0, 0, 0);
        for slot in 0..self.board.slots() {
            match self.board.entry(slot).map(|entry| entry.state) {
                Some(State::Idle) => idle += 1,
                Some(State::Busy) => busy += 1,
                Some(State::Starting) => starting += 1,
                Some(State::Vacant) | None => {}
            }
        }
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>preforkd: {pool}</title>\n\
             <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}\
             td{{padding:.1rem 1rem .1rem 0;vertical-align:top;word-break:break-all}}</style></head>\n\
             <body><h1>It works</h1>\n\
             <p>Pool <b>{pool}</b>, worker process <b>{}</b>, of at most {} workers now {busy} busy, {idle} idle, {starting} starting.</p>\n\
             <h2>What the web server sent</h2>\n<table>\n",
            self.process, self.settings.capacity,
        );
        for (name, value) in exchange.params().iter() {
            let _ = writeln!(
                page,
                "<tr><td><code>{}</code></td><td><code>{}</code></td></tr>",
                escape(name),
                escape(value)
            );
        }
        page.push_str("</table></body></html>\n");
        page
    }
}

impl Application for Hello {
    fn serve(&mut self, mut exchange: Box<Exchange>) -> Box<Exchange> {
        let page = self.page(&exchange);
        let head = exchange.params().get(b"REQUEST_METHOD") == Some(b"HEAD");
        if answer(&mut exchange, &page, head).is_err() {
            exchange.abort();
        }
        exchange
    }
}

fn answer(exchange: &mut Exchange, page: &str, head: bool) -> Result<()> {
    let length = page.len();
    let headers = format!(
        "Status: 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\nContent-Length: {length}\r\n\r\n"
    );
    exchange.write(headers.as_bytes())?;
    if !head {
        exchange.write(page.as_bytes())?;
    }
    exchange.end(0)
}

fn escape(bytes: &[u8]) -> String {
    let mut out = String::new();
    for character in String::from_utf8_lossy(bytes).chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}
