//! Load shapes: when requests arrive and how long each keeps a worker.
//!
//! Every shape is a list made beforehand, so that all rules meet the same requests at the same instants. Even spacing
//! where the shape itself is the subject, a small generator with a fixed seed where chance is.

use std::f64::consts::TAU;
use std::time::Duration;

use preforkd_plan::time::Time;

/// A page that mostly waits, for a database or another service.
pub const PAGE: Duration = Duration::from_millis(200);

/// One request: a connection that arrives and then holds a worker for a span.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// When the connection is made.
    pub at: Time,
    /// How long it holds the worker that accepts it.
    pub takes: Duration,
}

/// A named list of requests in the order of their arrival.
pub struct Shape {
    /// One word for the table.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// The requests, earliest first.
    pub requests: Vec<Request>,
    /// Requests that arrive earlier warm the pool up and are not measured.
    pub measured_from: Time,
    /// The pool is watched at least so long.
    pub until: Time,
}

/// The shapes every rule is measured on; `gap` is the time between two connections of a burst.
pub fn shapes(gap: Duration) -> Vec<Shape> {
    vec![
        burst(gap),
        fast_burst(gap),
        ramp(),
        sine(),
        noise(),
        slow_page(),
    ]
}

/// 50 connections, half-way between two ticks of the rules that tick.
fn fifty(gap: Duration, takes: Duration) -> Vec<Request> {
    let first = seconds(5.5);
    (0..50)
        .map(|number| Request {
            at: first + gap * number,
            takes,
        })
        .collect()
}

/// 50 clients come at once.
fn burst(gap: Duration) -> Shape {
    Shape {
        name: "burst",
        about: "50 requests of 200 ms at once",
        requests: fifty(gap, PAGE),
        measured_from: Time(0),
        until: seconds(20.0),
    }
}

/// 50 clients come at once and are soon gone.
fn fast_burst(gap: Duration) -> Shape {
    Shape {
        name: "fast burst",
        about: "50 requests of 10 ms at once",
        requests: fifty(gap, Duration::from_millis(10)),
        measured_from: Time(0),
        until: seconds(20.0),
    }
}

/// From nothing to 200 requests a second in ten seconds, which then stay.
fn ramp() -> Shape {
    Shape {
        name: "ramp",
        about: "200 ms pages, from 2 to 200 a second in 10 s, then 200 a second for 20 s",
        requests: evenly(30.0, |t| (20.0 * t).clamp(2.0, 200.0)),
        measured_from: Time(0),
        until: seconds(30.0),
    }
}

/// Between 25 and 225 requests a second, twice a minute.
fn sine() -> Shape {
    Shape {
        name: "sine",
        about: "200 ms pages, between 25 and 225 a second, a wave each 30 s; the first wave is not measured",
        requests: evenly(150.0, |t| 125.0 - 100.0 * (TAU * t / 30.0).cos()),
        measured_from: seconds(30.0),
        until: seconds(150.0),
    }
}

/// Poisson arrivals that keep ten workers busy on average.
fn noise() -> Shape {
    let mut random = Random(1);
    let requests = by_chance(&mut random, 50.0, 180.0, |_| PAGE);
    Shape {
        name: "noise",
        about: "200 ms pages, 50 a second by chance (Poisson); the first minute is not measured",
        requests,
        measured_from: seconds(60.0),
        until: seconds(180.0),
    }
}

/// Fast pages, and one in fifty that takes a hundred times as long.
fn slow_page() -> Shape {
    let mut random = Random(2);
    let requests = by_chance(&mut random, 100.0, 180.0, |random| {
        if random.unit() < 0.02 {
            Duration::from_secs(2)
        } else {
            Duration::from_secs_f64(0.010 + 0.010 * random.unit())
        }
    });
    Shape {
        name: "slow page",
        about: "100 a second by chance, 10–20 ms each but one in fifty 2 s; the first minute is not measured",
        requests,
        measured_from: seconds(60.0),
        until: seconds(180.0),
    }
}

/// 200 ms pages for `length` seconds, at the instant t the reciprocal of `rate(t)` apart.
pub fn evenly(length: f64, rate: impl Fn(f64) -> f64) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut t = 0.0;
    while t < length {
        requests.push(Request {
            at: seconds(t),
            takes: PAGE,
        });
        t += 1.0 / rate(t);
    }
    requests
}

/// A Poisson process of `rate` a second for `length` seconds.
pub fn by_chance(
    random: &mut Random,
    rate: f64,
    length: f64,
    takes: impl Fn(&mut Random) -> Duration,
) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut t = 0.0;
    loop {
        t += -(1.0 - random.unit()).ln() / rate;
        if t >= length {
            return requests;
        }
        requests.push(Request {
            at: seconds(t),
            takes: takes(random),
        });
    }
}

/// The instant `t` seconds after the start.
pub fn seconds(t: f64) -> Time {
    Time(0) + Duration::from_secs_f64(t)
}

/// SplitMix64, which is small and good enough to draw arrivals from.
pub struct Random(pub u64);

impl Random {
    /// The next number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let [a, b, c, d, ..] = z.to_be_bytes();
        f64::from(u32::from_be_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0)
    }
}
