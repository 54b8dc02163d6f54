//! Many clients at once.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::fastcgi::{Address, Answer, Request};

/// `count` clients ask for a page at the same instant. How long each waited, and what for.
pub fn burst(address: &Address, count: usize, path: &str) -> Vec<(Duration, io::Result<Answer>)> {
    let start = Barrier::new(count);
    thread::scope(|scope| {
        let client = || {
            start.wait();
            let begun = Instant::now();
            let answer = address.get(path);
            (begun.elapsed(), answer)
        };
        let clients: Vec<_> = (0..count).map(|_| scope.spawn(client)).collect();
        clients
            .into_iter()
            .map(|client| client.join().expect("a client does not panic"))
            .collect()
    })
}

/// Like [`burst`], where every client must get status 200; returns how long each waited.
#[track_caller]
pub fn burst_served(address: &Address, count: usize, path: &str) -> Vec<Duration> {
    let check = |(waited, answer): (Duration, io::Result<Answer>)| {
        let answer = answer.expect("every client is answered");
        assert_eq!(answer.status, 200, "{}", answer.text());
        waited
    };
    burst(address, count, path).into_iter().map(check).collect()
}

/// Clients that ask for a page again and again, each on a new connection a time, until they are stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Outcome>>,
}

/// What became of the requests of a load.
#[derive(Debug, Default)]
pub struct Outcome {
    pub served: usize,
    /// What the others got.
    pub failures: Vec<String>,
}

impl Load {
    pub fn start(address: &Address, clients: usize, path: &str) -> Load {
        Load::of(address, clients, &Request::get(path))
    }

    /// The same with any request.
    pub fn of(address: &Address, clients: usize, request: &Request) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let client = || {
            let (stop, address, request) = (Arc::clone(&stop), address.clone(), request.clone());
            thread::spawn(move || {
                let mut outcome = Outcome::default();
                while !stop.load(Ordering::Relaxed) {
                    match address.ask(&request) {
                        Ok(answer) if answer.status == 200 => outcome.served += 1,
                        Ok(answer) => outcome.failures.push(format!(
                            "status {}: {}",
                            answer.status,
                            answer.text()
                        )),
                        Err(error) => outcome.failures.push(error.to_string()),
                    }
                }
                outcome
            })
        };
        let clients = (0..clients).map(|_| client()).collect();
        Load { stop, clients }
    }

    /// Lets every client finish its request, and adds up.
    pub fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = Outcome::default();
        for client in self.clients {
            let outcome = client.join().expect("a client does not panic");
            total.served += outcome.served;
            total.failures.extend(outcome.failures);
        }
        total
    }
}
