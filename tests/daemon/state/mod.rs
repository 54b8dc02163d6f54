//! What users have must not depend on which worker serves them: sessions, caches, databases.

mod databases;
mod failing;
mod sessions;
mod warnings;

use crate::support::site::{Site, Variant};
use crate::support::stores::Memcached;

/// Pages for these cases, and a way to log in without a password.
const PAGES: &str = include_str!("pages.py");

const SETTINGS: &str =
    "ROOT_URLCONF = 'tour.pages'\nAUTHENTICATION_BACKENDS = ['tour.pages.Visitors']\n";

/// The site with these pages, and these lines in its settings and its pool.
#[track_caller]
fn site(settings: &str, pool: &str) -> Site {
    Site::vary(&Variant {
        settings: &format!("{SETTINGS}{settings}"),
        modules: &[("pages", PAGES)],
        pool,
        ..Variant::default()
    })
}

/// Settings for sessions by an engine of Django's that uses a cache, in these servers.
fn memcached(engine: &str, servers: &[Memcached], options: &str) -> String {
    let locations: Vec<String> = servers
        .iter()
        .map(|server| format!("'127.0.0.1:{}'", server.port))
        .collect();
    format!(
        "SESSION_ENGINE = 'django.contrib.sessions.backends.{engine}'\n\
         CACHES = {{'default': {{'BACKEND': 'django.core.cache.backends.memcached.PyMemcacheCache', \
         'LOCATION': [{}], 'OPTIONS': {{{options}}}}}}}\n",
        locations.join(", ")
    )
}
