//! Django, where the application has imported it: what it must not have open when it is forked, and where it must not
//! keep what users have.
//!
//! Nothing is imported for this: all is looked up among what the application has loaded itself. What is asked of Django
//! it has had since 3.2, the oldest for the interpreters that there are.

use crate::failure;
use pyo3::prelude::*;

/// The cache that each process has for itself, and that Django takes where no setting says otherwise.
const LOCAL_MEMORY: &str = "django.core.cache.backends.locmem.LocMemCache";

/// The session engines that read a session from a cache.
const CACHED_SESSIONS: [&str; 2] = [
    "django.contrib.sessions.backends.cache",
    "django.contrib.sessions.backends.cached_db",
];

/// What stands at the beginning of the names of the middleware that keeps whole pages in a cache.
const CACHE_MIDDLEWARE: &str = "django.middleware.cache.";

/// Has Django close its connections to databases and caches, which importing the application or warming it up has left
/// open: two workers that speak on one hear each other's answers. Each worker opens its own when it needs one.
///
/// A database in memory stays, and each worker has a copy of it.
pub(crate) fn close_connections(py: Python<'_>) {
    for closed in [close_databases(py), close_caches(py)] {
        if let Err(raised) = closed {
            failure::say("Django's connections could not be closed before workers are forked:");
            failure::traceback(py, &raised);
        }
    }
}

fn close_databases(py: Python<'_>) -> PyResult<()> {
    let (Some(_), Some(database)) = (settings(py)?, loaded(py, "django.db")?) else {
        return Ok(());
    };
    let connections = database.getattr("connections")?;
    connections.call_method0("close_all")?;
    // A pool of connections (since Django 5.1) has threads as well, with which nothing could be forked.
    if let Some(backend) = loaded(py, "django.db.backends.postgresql.base")?
        && backend.getattr("DatabaseWrapper")?.hasattr("close_pool")?
    {
        let only_used = (true,);
        for connection in connections.call_method1("all", only_used)?.try_iter()? {
            let connection = connection?;
            if connection.hasattr("close_pool")? {
                connection.call_method0("close_pool")?;
            }
        }
    }
    Ok(())
}

fn close_caches(py: Python<'_>) -> PyResult<()> {
    let (Some(_), Some(cache)) = (settings(py)?, loaded(py, "django.core.cache")?) else {
        return Ok(());
    };
    cache.call_method0("close_caches")?;
    let caches = cache.getattr("caches")?;
    // Some (pylibmc's, Redis's) do not close when they are told to, but all do when nobody has them any more.
    for alias in caches.try_iter()? {
        // Not there unless it has been used.
        let _ = caches.del_item(alias?);
    }
    Ok(())
}

/// What to tell of a site that keeps in one worker's memory what all workers should have; None if it does not.
///
/// A site that has no setting for caches, and uses none by its settings, is told nothing, although Django would give it
/// one in memory.
pub(crate) fn advice(py: Python<'_>) -> Option<String> {
    // Settings that cannot be read as Django's are are nobody's mistake here.
    kept_in_memory(py).ok().flatten()
}

fn kept_in_memory(py: Python<'_>) -> PyResult<Option<String>> {
    let Some(settings) = settings(py)? else {
        return Ok(None);
    };
    let caches = settings.getattr("CACHES")?;
    let mut local = Vec::new();
    for alias in caches.try_iter()? {
        let alias: String = alias?.extract()?;
        let backend = caches
            .get_item(&alias)?
            .call_method1("get", ("BACKEND",))?
            .to_string();
        if backend == LOCAL_MEMORY {
            local.push(alias);
        }
    }
    let text = |name: &str| settings.getattr(name)?.extract::<String>();

    let engine = text("SESSION_ENGINE")?;
    let alias = text("SESSION_CACHE_ALIAS")?;
    if CACHED_SESSIONS.contains(&engine.as_str()) && local.contains(&alias) {
        return Ok(Some(format!(
            "Django keeps sessions in each worker's own memory (SESSION_ENGINE is {engine}, and CACHES[\"{alias}\"] is \
             LocMemCache), where other workers do not find them: set SESSION_ENGINE to \
             django.contrib.sessions.backends.db, or CACHES[\"{alias}\"] to memcached or Redis"
        )));
    }
    let is_set = settings
        .call_method1("is_overridden", ("CACHES",))?
        .is_truthy()?;
    if !is_set {
        let alias = text("CACHE_MIDDLEWARE_ALIAS")?;
        let is_used = keeps_pages(&settings)?;
        local.retain(|known| is_used && *known == alias);
    }
    if local.is_empty() {
        return Ok(None);
    }
    let named: Vec<_> = local
        .iter()
        .map(|alias| format!("CACHES[\"{alias}\"]"))
        .collect();
    Ok(Some(format!(
        "Django's cache is in each worker's own memory ({}: LocMemCache), where other workers do not see what is stored or \
         deleted: use memcached, Redis, the database or files instead",
        named.join(", ")
    )))
}

fn keeps_pages(settings: &Bound<'_, PyAny>) -> PyResult<bool> {
    for name in settings.getattr("MIDDLEWARE")?.try_iter()? {
        if name?.to_string().starts_with(CACHE_MIDDLEWARE) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Django's settings, if the application has any.
fn settings(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let Some(module) = loaded(py, "django.conf")? else {
        return Ok(None);
    };
    let settings = module.getattr("settings")?;
    let configured = settings.getattr("configured")?.is_truthy()?;
    Ok(configured.then_some(settings))
}

/// A module, if it has been imported.
fn loaded<'py>(py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    let modules = py.import("sys")?.getattr("modules")?;
    let module = modules.call_method1("get", (name,))?;
    Ok((!module.is_none()).then_some(module))
}
