//! What the clients have got, beside what the application has written down.

use crate::load::Sent;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Ledger {
    /// How many there were.
    pub requests: usize,
    /// Those without the right answer.
    pub losses: Vec<Loss>,
    /// How many workers have served them.
    pub workers: u32,
    /// Those that were begun more than once.
    pub twice: Vec<String>,
    /// The longest wait of one that was answered, beyond what it was meant to take.
    pub slowest: Duration,
}

/// A request without the right answer.
#[derive(Debug)]
pub struct Loss {
    /// When it was sent.
    pub at: Instant,
    /// What it was and what became of it.
    pub what: String,
}

impl Ledger {
    /// Compares what was `sent` with the application's journal.
    pub fn settle(sent: Vec<Sent>, journal: &Path) -> io::Result<Self> {
        let journal = fs::read_to_string(journal)?;
        // How often each was begun and ended.
        let mut served: HashMap<&str, (usize, usize)> = HashMap::new();
        let mut workers = HashSet::new();
        for line in journal.lines() {
            match *line.split(' ').collect::<Vec<_>>() {
                ["begun", id, worker] => {
                    served.entry(id).or_default().0 += 1;
                    workers.insert(worker);
                }
                ["ended", id, _] => served.entry(id).or_default().1 += 1,
                _ => return Err(io::Error::other(format!("a line of the journal: {line}"))),
            }
        }
        let mut ledger = Self {
            requests: sent.len(),
            workers: u32::try_from(workers.len()).unwrap_or(u32::MAX),
            ..Self::default()
        };
        for Sent {
            id,
            at,
            waited,
            failure,
        } in sent
        {
            let (begun, ended) = served.get(id.as_str()).copied().unwrap_or_default();
            if begun > 1 {
                ledger.twice.push(format!("{id}: begun {begun} times"));
            }
            match failure {
                None if begun == 0 => ledger.losses.push(Loss {
                    at,
                    what: format!("{id}: answered by nobody"),
                }),
                None => ledger.slowest = ledger.slowest.max(waited),
                Some(failure) => ledger.losses.push(Loss {
                    at,
                    what: format!("{failure}; begun {begun}, ended {ended} times"),
                }),
            }
        }
        ledger.losses.sort_by_key(|loss| loss.at);
        Ok(ledger)
    }
}
