//! No two workers speak on one connection to a database or a cache.

use std::collections::HashMap;
use std::fs;
use std::thread;

use crate::support::fastcgi::{Address, Request};
use crate::support::setup::Setup;
use crate::support::site::{Site, Variant};
use crate::support::stores::{Memcached, Postgres};
use crate::support::wait::until;

use super::{PAGES, SETTINGS, filled, memcached, postgresql, recipe, site};

const WORKERS: usize = 4;
const POOL: &str = "pm = static\npm.max_children = 4";

const LOADED: &str = "[pool tour] mold * is ready";

/// Connections to the database besides the one that asks.
const CONNECTIONS: &str = "SELECT count(*) FROM pg_stat_activity \
     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

/// Asks until every worker has said several times whom it speaks with, and returns who that is, by the worker.
///
/// # Panics
/// If a worker speaks now with one and now with another, or two with the same.
#[track_caller]
fn partners(address: &Address, path: &str) -> HashMap<i32, i32> {
    let mut partners: HashMap<i32, i32> = HashMap::new();
    let mut times: HashMap<i32, usize> = HashMap::new();
    until("every worker has answered", || {
        let said: Vec<(i32, i32)> = thread::scope(|scope| {
            let request = Request::get(path).with("HTTP_HOST", "localhost");
            let clients: Vec<_> = (0..WORKERS)
                .map(|_| {
                    let request = request.clone();
                    scope.spawn(move || address.ask(&request).expect("the pool answers"))
                })
                .collect();
            let answers = clients.into_iter().map(|client| client.join());
            answers
                .map(|answer| pair(&answer.expect("a client does not panic").text()))
                .collect()
        });
        for (worker, partner) in said {
            assert_eq!(*partners.entry(worker).or_insert(partner), partner);
            *times.entry(worker).or_default() += 1;
        }
        times.len() == WORKERS && times.values().all(|&times| times > 1)
    });
    let mut distinct: Vec<i32> = partners.values().copied().collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), WORKERS, "workers share: {partners:?}");
    partners
}

#[track_caller]
fn pair(text: &str) -> (i32, i32) {
    let numbers: Vec<i32> = text.lines().map_while(|line| line.parse().ok()).collect();
    let [worker, partner] = numbers[..] else {
        panic!("a worker and its partner: {text}")
    };
    (worker, partner)
}

/// A page that is requested to warm up leaves Django's connection open in the mold, which closes it.
#[test]
fn workers_of_a_django_site_share_no_connection() {
    let postgres = Postgres::start();
    let kept = postgresql(&postgres);
    let pooled = filled(
        &kept,
        "\"CONN_MAX_AGE\": None",
        "\"OPTIONS\": {\"pool\": {\"min_size\": 1, \"max_size\": 1}}",
    );
    for settings in [kept, pooled] {
        let site = site(&settings, POOL);
        site.daemon.wait_for_line(LOADED);
        until("the mold's connection is closed", || {
            postgres.query(CONNECTIONS) == "0"
        });
        let address = Address::Unix(site.daemon.folder.path("run/tour.sock"));
        let before = partners(&address, "/backend");
        assert_eq!(postgres.query(CONNECTIONS), "4", "{settings}");
        // As a restart of the database does. No visitor notices.
        postgres.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        );
        let after = partners(&address, "/backend");
        assert!(
            before
                .iter()
                .all(|(worker, partner)| after[worker] != *partner)
        );
        for line in ["Traceback", "threads", "the import left"] {
            assert_eq!(site.daemon.lines_like(line), [""; 0], "{settings}");
        }
    }
}

/// A cache that is used by the import has a connection as well, and some do not close it when they are told to.
#[test]
fn workers_of_a_django_site_share_no_cache_connection() {
    let keeps = "from django.core.cache.backends.memcached import PyMemcacheCache\n\
                 class Keeps(PyMemcacheCache):\n    \
                     def close(self, **kwargs):\n        \
                         'As that of pylibmc: the client looks after its connections itself.'\n";
    let uses = format!(
        "{PAGES}\nfrom django.core.cache import caches\nfor name in caches: caches[name].set_many({{str(key): name for key in range(20)}})\n"
    );
    let servers = [Memcached::start(), Memcached::start()];
    let nobody = servers
        .each_ref()
        .map(|server| server.stat("curr_connections"));
    let settings = format!(
        "{SETTINGS}{}CACHES['keeps'] = {{**CACHES['default'], 'BACKEND': 'tour.keeps.Keeps'}}\n",
        memcached("cache", &servers)
    );
    let site = Site::vary(&Variant {
        settings: &settings,
        modules: &[("pages", &uses), ("keeps", keeps)],
        pool: POOL,
        ..Variant::default()
    });
    site.daemon.wait_for_line(LOADED);
    assert!(servers.iter().all(|server| server.stat("curr_items") > 0));
    until("the mold's connections are closed", || {
        servers
            .each_ref()
            .map(|server| server.stat("curr_connections"))
            == nobody
    });
    let address = Address::Unix(site.daemon.folder.path("run/tour.sock"));
    for (worker, cached) in partners(&address, "/cached") {
        assert_eq!(worker, cached);
    }
    assert_eq!(site.daemon.lines_like("the import left"), [""; 0]);
}

/// Nor is a file of SQLite's, whose locks a fork would break.
#[test]
fn the_mold_of_a_django_site_has_no_database_open() {
    let site = site("DATABASES['default']['CONN_MAX_AGE'] = None\n", POOL);
    site.daemon.wait_for_line(LOADED);
    let mold = site.daemon.mold("tour").expect("it has one");
    let open = fs::read_dir(format!("/proc/{}/fd", mold.pid)).expect("it runs");
    for file in open {
        let target = fs::read_link(file.expect("it can be listed").path()).unwrap_or_default();
        assert!(!target.to_string_lossy().contains("sqlite"), "{target:?}");
    }
    site.daemon.wait_for_workers("tour", WORKERS);
}

/// Without Django it is the application's to do, in one of the two ways that the docs show; else the log says so.
#[test]
fn workers_share_no_connection_that_the_application_looks_after() {
    let postgres = Postgres::start();
    let application = |opens: &str, pid: &str| {
        format!(
            "{opens}\n\
             import os, time\n\
             def application(environ, start_response):\n    \
                 time.sleep(.1)\n    \
                 ((pid,),) = {pid}\n    \
                 start_response('200 OK', [('Content-Type', 'text/plain')])\n    \
                 return [f'{{os.getpid()}}\\n{{pid}}\\n'.encode()]\n"
        )
    };
    let opens = |recipe: &str| filled(recipe, "dbname=site", &postgres.conninfo());
    let late = opens(&recipe("def query(sql)"));
    let hooks = opens(&recipe("after_in_child=connect"));
    let early = filled(&hooks, "os.register_at_fork", "dict");
    let file = "import os, sqlite3\n\
                file = sqlite3.connect(os.environ['STATE'] + '/notes.db')\n\
                file.execute('CREATE TABLE notes (text)')";
    let pid = "database.execute('SELECT pg_backend_pid()').fetchall()";
    let setup = Setup::new();
    setup.folder.writable("state");
    let daemon = setup
        .wsgi("hooks", &application(&hooks, pid), POOL)
        .wsgi(
            "late",
            &application(&late, "query('SELECT pg_backend_pid()')"),
            POOL,
        )
        .wsgi("early", &application(&early, pid), POOL)
        .wsgi(
            "file",
            &application(file, "((0,),)"),
            &format!("{POOL}\nenv[STATE] = @DIR@/state"),
        )
        .start();
    for pool in ["hooks", "late"] {
        partners(&daemon.address(pool), "/");
        assert_eq!(
            daemon.lines_like(&format!("[pool {pool}] the import left")),
            [""; 0]
        );
    }
    let left = |pool: &str, what: &str| {
        let line = format!(
            "WARNING: [pool {pool}] the import left 1 connection(s) open, which all workers share: {what}; \
             open them when they are first needed, close them in os.register_at_fork(before=...), or set wsgi.preload = no"
        );
        daemon.wait_for_line(&line);
    };
    left("early", &format!("127.0.0.1:{}", postgres.port));
    left(
        "file",
        &daemon.folder.path("state/notes.db").display().to_string(),
    );
}
