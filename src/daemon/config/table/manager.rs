//! How many workers a pool has, and how long they live.

use preforkd_plan::scale::Mode;

use super::seconds;
use crate::config::directive::Shape::One;
use crate::config::directive::Source::{Ours, PhpFpm};
use crate::config::directive::{Directive, Reader, Shown};
use crate::config::raw::Manager;
use crate::config::{MAX_CHILDREN, value};

/// Orders that the channel to a mold holds, each with descriptors, at the kernel's stock `net.core.wmem_default`: 277.
const MAX_SPAWN_RATE: u32 = 256;

/// How many workers a pool has, and how long they live.
pub static MANAGER: &[Directive] = &[
    Directive {
        name: "pm",
        shape: One,
        default: None,
        example: Some("dynamic"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                const WORDS: &[(&str, Manager)] = &[
                    ("static", Manager::Static),
                    ("dynamic", Manager::Dynamic),
                    ("ondemand", Manager::Ondemand),
                ];
                let pm = value::word(&entry.text, WORDS);
                pool.pm.set(
                    entry,
                    pm.map_err(|rule| format!("invalid process manager: {rule}")),
                )
            },
            show: |pool| {
                let word = match pool.limits.mode {
                    Mode::Static => "static",
                    Mode::Dynamic { .. } => "dynamic",
                    Mode::Ondemand { .. } => "ondemand",
                };
                Shown::One(word.to_owned())
            },
        },
        text: "How the number of workers is managed. static: always pm.max_children; dynamic: the number of idle ones is kept between \
               pm.min_spare_servers and pm.max_spare_servers; ondemand: none until a connection waits. Required.",
    },
    Directive {
        name: "pm.max_children",
        shape: One,
        default: None,
        example: Some("16"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.max_children
                    .set(entry, value::number(&entry.text, 1..=MAX_CHILDREN))
            },
            show: |pool| Shown::One(pool.limits.max_children.to_string()),
        },
        text: "The most workers the pool ever has, from 1 to 4096, and so the most requests at one time. Required.",
    },
    Directive {
        name: "pm.start_servers",
        shape: One,
        default: None,
        example: Some("4"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.start_servers
                    .set(entry, value::number(&entry.text, 1..=MAX_CHILDREN))
            },
            show: |pool| match pool.limits.mode {
                Mode::Dynamic { start, .. } => Shown::One(start.to_string()),
                Mode::Static | Mode::Ondemand { .. } => Shown::Unset,
            },
        },
        text: "Workers forked at the start of a dynamic pool, between pm.min_spare_servers and pm.max_spare_servers. Without it the middle of the two.",
    },
    Directive {
        name: "pm.min_spare_servers",
        shape: One,
        default: None,
        example: Some("2"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.min_spare_servers
                    .set(entry, value::number(&entry.text, 1..=MAX_CHILDREN))
            },
            show: |pool| match pool.limits.mode {
                Mode::Dynamic { min_spare, .. } => Shown::One(min_spare.to_string()),
                Mode::Static | Mode::Ondemand { .. } => Shown::Unset,
            },
        },
        text: "A dynamic pool with fewer idle workers than this grows at once. From 1 to pm.max_spare_servers; required for dynamic.",
    },
    Directive {
        name: "pm.max_spare_servers",
        shape: One,
        default: None,
        example: Some("6"),
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.max_spare_servers
                    .set(entry, value::number(&entry.text, 1..=MAX_CHILDREN))
            },
            show: |pool| match pool.limits.mode {
                Mode::Dynamic { max_spare, .. } => Shown::One(max_spare.to_string()),
                Mode::Static | Mode::Ondemand { .. } => Shown::Unset,
            },
        },
        text: "A dynamic pool with more idle workers than this shrinks, by half of the excess each second. At most pm.max_children; required for dynamic.",
    },
    Directive {
        name: "pm.max_spawn_rate",
        shape: One,
        default: Some("32"),
        example: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.max_spawn_rate.set(
                    entry,
                    value::number(&entry.text, 1..=u32::MAX).map(|rate| rate.min(MAX_SPAWN_RATE)),
                )
            },
            show: |pool| Shown::One(pool.limits.max_spawn_rate.to_string()),
        },
        text: "The most workers of the pool that are starting at one time, at least 1; more than 256 counts as 256.",
    },
    Directive {
        name: "pm.process_idle_timeout",
        shape: One,
        default: Some("10s"),
        example: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.process_idle_timeout
                    .set(entry, value::time(&entry.text, 1))
            },
            show: |pool| match pool.limits.mode {
                Mode::Ondemand { idle_timeout } => Shown::One(seconds(idle_timeout)),
                Mode::Static | Mode::Dynamic { .. } => Shown::Unset,
            },
        },
        text: "How long a worker of an ondemand pool may be idle before it leaves; a time of at least 1s.",
    },
    Directive {
        name: "pm.start_timeout",
        shape: One,
        default: Some("60s"),
        example: None,
        source: Ours,
        reader: Reader::Pool {
            set: |pool, entry| pool.start_timeout.set(entry, value::time(&entry.text, 1)),
            show: |pool| Shown::One(seconds(pool.start_timeout)),
        },
        text: "How long a worker may take to get ready, and how long importing a Python application and all requests of wsgi.warmup[] may take together; who takes longer is killed, and tried again later. A time of at least 1s.",
    },
    Directive {
        name: "pm.max_queue",
        shape: One,
        default: None,
        example: Some("100"),
        source: Ours,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.max_queue
                    .set(entry, value::number(&entry.text, 0..=u32::MAX))
            },
            show: |pool| pool.max_queue.into(),
        },
        text: "When all pm.max_children workers are busy and more connections than this wait, those that have waited longest are answered with 503 and Retry-After at once, by the status service, \
               until no more are left than this. Without it as many wait as listen.backlog lets, until a worker is free or the web server gives up.",
    },
    Directive {
        name: "pm.max_requests",
        shape: One,
        default: Some("0"),
        example: None,
        source: PhpFpm,
        reader: Reader::Pool {
            set: |pool, entry| {
                pool.max_requests
                    .set(entry, value::number(&entry.text, 0..=u64::MAX))
            },
            show: |pool| Shown::One(pool.max_requests.to_string()),
        },
        text: "Requests after which a worker is replaced by a new one, against leaks; 0 is never. It goes on serving until the new one is ready, \
               or, where pm.max_children leaves no room for both, leaves first; one worker of a pool at a time.",
    },
    Directive {
        name: "pm.max_memory",
        shape: One,
        default: Some("0"),
        example: None,
        source: Ours,
        reader: Reader::Pool {
            set: |pool, entry| pool.max_memory.set(entry, value::bytes(&entry.text)),
            show: |pool| Shown::One(value::show_bytes(pool.max_memory)),
        },
        text: "A worker that has more memory to itself than this after a request is replaced as with pm.max_requests; a number of bytes, or with K, M or G after it; 0 is never. \
               What it shares with others, as with the mold, does not count. It is measured for at most a hundredth of the worker's time; a chroot needs a /proc for it.",
    },
    Directive {
        name: "pm.max_lifetime",
        shape: One,
        default: Some("0"),
        example: None,
        source: Ours,
        reader: Reader::Pool {
            set: |pool, entry| pool.max_lifetime.set(entry, value::time(&entry.text, 0)),
            show: |pool| Shown::One(seconds(pool.max_lifetime.unwrap_or_default())),
        },
        text: "How long a worker lives at most before it is replaced as with pm.max_requests, a time with s, m, h or d; 0 is for ever. \
               Workers live for three quarters of it at least, and each for another time, so that not all are replaced together.",
    },
];
