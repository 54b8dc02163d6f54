//! Every directive, by subject.
//!
//! An entry is all there is to know about a directive by itself; what it has to do with others is in [`super::check`].

use std::time::Duration;

use nix::sys::resource::RLIM_INFINITY;

use super::directive::Source::PhpOnly;
use super::directive::{Directive, Reader, Shape};

mod application;
mod global;
mod manager;
mod pool;
mod requests;

/// Every directive, in the order of the reference.
pub fn table() -> impl Iterator<Item = &'static Directive> {
    [
        global::GLOBAL,
        pool::POOL,
        manager::MANAGER,
        requests::REQUESTS,
        application::APPLICATION,
    ]
    .into_iter()
    .flatten()
}

/// A directive that is accepted so that files written for php-fpm load.
const fn ignored(name: &'static str, shape: Shape, reader: Reader) -> Directive {
    Directive {
        name,
        shape,
        default: None,
        example: None,
        source: PhpOnly,
        reader,
        text: "Accepted for php-fpm's sake, with a notice, and ignored.",
    }
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs())
}

/// A resource limit.
fn rlimit(limit: Option<u64>) -> String {
    match limit {
        None => "0".to_owned(),
        Some(RLIM_INFINITY) => "unlimited".to_owned(),
        Some(limit) => limit.to_string(),
    }
}

fn yes_or_no(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_owned()
}
