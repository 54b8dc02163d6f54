//! The pages about pools: which ones each pool answers itself, and the status service, which answers them besides.
//!
//! # Layout
//! * [`supervisor`]: the master's side of the service
//! * [`service`]: the process; [`intake`]: what stands between the network and tokio-fastcgi
//! * [`surplus`]: who is turned away; [`orders`]: how the master says whom
//! * [`desk`]: what the service has of a pool
//! * [`ask`]: what asks, on the command line

mod ask;
mod desk;
mod intake;
mod orders;
mod service;
mod supervisor;
mod surplus;

pub use ask::show;
pub use desk::{Desk, Sockets};
pub use supervisor::{Supervisor, identity};

use crate::config::Pool;
use crate::request_logs;
use preforkd_plan::scale::Mode;
use preforkd_worker::status::Pages;
use preforkd_worker::status::snapshot::Facts;

/// The pages that the workers of a pool answer.
#[must_use]
pub fn pages_of(pool: &Pool) -> Option<Pages> {
    // On its own socket a pool's / is the application's; php-fpm takes it for the status as soon as there is a
    // pm.status_listen without a pm.status_path.
    let status_path = pool.status_path.clone().filter(|path| path != "/");
    // The service shows what workers measure only where there is a page.
    let are_shown = status_path.is_some() || pool.status_listen.is_some();
    if !are_shown && pool.ping_path.is_none() {
        return None;
    }
    Some(pages(pool, status_path))
}

fn pages(pool: &Pool, status_path: Option<String>) -> Pages {
    let manager = match pool.limits.mode {
        Mode::Static => "static",
        Mode::Dynamic { .. } => "dynamic",
        Mode::Ondemand { .. } => "ondemand",
    };
    Pages {
        facts: Facts {
            pool: pool.name.clone(),
            manager: manager.to_owned(),
        },
        status_path,
        ping_path: pool.ping_path.clone(),
        ping_response: pool.ping_response.clone(),
        zone: request_logs::local_zone(),
    }
}
