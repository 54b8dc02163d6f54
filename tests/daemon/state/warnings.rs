//! Who keeps in one worker what all should have is told.

use nix::sys::signal::Signal;

use crate::support::setup::Setup;

/// A Django site of one file, with these settings.
fn django(settings: &str) -> String {
    format!(
        "from django.conf import settings\n\
         settings.configure(SECRET_KEY='secret', ALLOWED_HOSTS=['*'], ROOT_URLCONF=__name__, {settings})\n\
         from django.core.wsgi import get_wsgi_application\n\
         urlpatterns = []\n\
         application = get_wsgi_application()\n"
    )
}

fn caches(backend: &str) -> String {
    format!(
        "CACHES={{'default': {{'BACKEND': 'django.core.cache.backends.{backend}', 'LOCATION': '/nowhere'}}}},"
    )
}

const SESSIONS: &str = "SESSION_ENGINE='django.contrib.sessions.backends.cache',";
const POOL: &str = "pm = static\npm.max_children = 3";

const KEEPS: &str = "Django keeps sessions in each worker's own memory \
     (SESSION_ENGINE is django.contrib.sessions.backends.cache, and CACHES[\"default\"] is LocMemCache)";
const CACHE: &str =
    "Django's cache is in each worker's own memory (CACHES[\"default\"]: LocMemCache)";

#[test]
fn a_django_site_that_keeps_its_state_in_a_worker_is_told_once() {
    let local = caches("locmem.LocMemCache");
    let alone = POOL.replace('3', "1");
    let separate = format!("{POOL}\nwsgi.preload = no");
    let quiet = format!("{POOL}\ncatch_workers_output = no");
    let pages = "MIDDLEWARE=['django.middleware.cache.UpdateCacheMiddleware']";
    let cases: [(&str, String, &str, Option<&str>); 13] = [
        ("default", SESSIONS.into(), POOL, Some(KEEPS)),
        ("sessions", format!("{SESSIONS}{local}"), POOL, Some(KEEPS)),
        (
            "separate",
            format!("{SESSIONS}{local}"),
            &separate,
            Some(KEEPS),
        ),
        ("cache", local.clone(), &quiet, Some(CACHE)),
        ("pages", pages.into(), POOL, Some(CACHE)),
        ("alone", format!("{SESSIONS}{local}"), &alone, None),
        ("unset", String::new(), POOL, None),
        ("dummy", caches("dummy.DummyCache"), POOL, None),
        ("database", caches("db.DatabaseCache"), POOL, None),
        ("files", caches("filebased.FileBasedCache"), POOL, None),
        (
            "memcached",
            format!("{SESSIONS}{}", caches("memcached.PyMemcacheCache")),
            POOL,
            None,
        ),
        (
            "redis",
            format!("{SESSIONS}{}", caches("redis.RedisCache")),
            POOL,
            None,
        ),
        (
            "cookies",
            "SESSION_ENGINE='django.contrib.sessions.backends.signed_cookies',".into(),
            POOL,
            None,
        ),
    ];
    let mut setup = Setup::new();
    for (name, settings, pool, _) in &cases {
        setup = setup.wsgi(name, &django(settings), pool);
    }
    let daemon = setup.start();
    for generation in 1..=2 {
        if generation == 2 {
            daemon.signal(Signal::SIGUSR2);
        }
        for (name, _, pool, advice) in &cases {
            daemon.wait_for_line(&format!("[pool {name}] mold * (generation {generation})"));
            if let Some(advice) = advice {
                daemon.wait_for_line(&format!("WARNING: [pool {name}] {advice}"));
            }
            if generation == 2 {
                daemon.wait_for_line(&format!("[pool {name}] generation 2 has taken over"));
            }
            daemon.wait_for_workers(name, if *pool == alone { 1 } else { 3 });
        }
        for (name, _, _, advice) in &cases {
            let told = daemon.lines_like(&format!("[pool {name}] Django"));
            let times = if advice.is_some() { generation } else { 0 };
            assert_eq!(told.len(), times, "{name}: {told:?}");
        }
    }
}
