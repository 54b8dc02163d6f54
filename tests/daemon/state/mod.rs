//! What users have must not depend on which worker serves them: sessions, caches, databases.
//!
//! The settings are those that `packaging/docs/state.md` tells people to have.

mod databases;
mod failing;
mod sessions;
mod warnings;

use crate::support::site::{Site, Variant};
use crate::support::stores::{Memcached, Postgres};

const DOCUMENT: &str = include_str!("../../../packaging/docs/state.md");

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

/// The lines of Python in the document that have this among them.
#[track_caller]
fn recipe(has: &str) -> String {
    let mut recipes = vec![String::new()];
    for line in DOCUMENT.lines() {
        match line.strip_prefix("    ") {
            Some(line) => recipes.last_mut().expect("there is one").push_str(line),
            None if line.is_empty() => {}
            None => recipes.push(String::new()),
        }
        recipes.last_mut().expect("there is one").push('\n');
    }
    let found = recipes.into_iter().find(|recipe| recipe.contains(has));
    found.expect("the document has it")
}

/// The same with the word of the document replaced, which has to be there.
#[track_caller]
fn filled(recipe: &str, word: &str, with: &str) -> String {
    assert!(recipe.contains(word), "{word} is in {recipe}");
    recipe.replace(word, with)
}

/// Settings for sessions by an engine of Django's that uses a cache, in these servers.
fn memcached(engine: &str, servers: &[Memcached; 2]) -> String {
    let mut caches = recipe("PyMemcacheCache");
    for (server, example) in servers.iter().zip(["192.0.2.1:11211", "192.0.2.2:11211"]) {
        caches = filled(&caches, example, &format!("127.0.0.1:{}", server.port));
    }
    format!("SESSION_ENGINE = 'django.contrib.sessions.backends.{engine}'\n{caches}")
}

/// Settings for a database.
pub fn postgresql(postgres: &Postgres) -> String {
    let database = filled(&recipe("backends.postgresql"), "192.0.2.3", "127.0.0.1");
    let database = filled(&database, "5432", &postgres.port.to_string());
    let name = format!("\"NAME\": \"{}\"", Postgres::NAME);
    let user = format!("\"USER\": \"{}\"", Postgres::USER);
    let database = filled(&database, "\"NAME\": \"site\"", &name);
    filled(&database, "\"USER\": \"site\"", &user)
}
