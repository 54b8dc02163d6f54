//! Every web server in front of a pool: one table of servers ([`table`]), one table of cases ([`cases`]).
//!
//! Each server runs in the foreground with the configuration that users copy, `packaging/web-servers`, inside a frame
//! with what a machine's own configuration says otherwise: ports, modules, temporary folders. In the copied file only
//! what [`front`] lists is filled in. What a server cannot do is written in the table with what is seen instead, and is
//! checked as well. The table in `packaging/docs/web-servers.md` is made from both tables.

mod cases;
mod client;
mod document;
mod front;
mod table;
mod tap;

use crate::support::daemon::Daemon;
use crate::support::setup::{Setup, free_port};

use cases::{CASES, Case};
use front::{Front, Pools};
use table::Server;

const APPLICATION: &str = include_str!("servers/app.py");

/// Fewer than the connections that the cases open at once.
const WORKERS: usize = 2;

/// A daemon with an application at the root and one below `/shop`, both over a Unix socket and over TCP.
fn pools() -> (Daemon, Pools, Pools) {
    let ports = [free_port(), free_port()];
    let mut setup = Setup::new();
    setup.folder.writable("state");
    for (name, address, mount) in [
        ("site", "@DIR@/site.sock".to_owned(), ""),
        ("shop", "@DIR@/shop.sock".to_owned(), "mount = /shop"),
        ("site-tcp", format!("127.0.0.1:{}", ports[0]), ""),
        (
            "shop-tcp",
            format!("127.0.0.1:{}", ports[1]),
            "mount = /shop",
        ),
    ] {
        setup = setup.pool(
            name,
            &format!(
                "listen = {address}\nwsgi = app\npythonpath[] = @DIR@/code\npython = @PYTHON@\n\
                 pm = static\npm.max_children = {WORKERS}\ncatch_workers_output = yes\nenv[STATE] = @DIR@/state\n{mount}"
            ),
        );
    }
    setup.folder.write("code/app.py", APPLICATION);
    let daemon = setup.start();
    let unix = Pools {
        name: "site",
        site: daemon.folder.path("site.sock").display().to_string(),
        shop: daemon.folder.path("shop.sock").display().to_string(),
    };
    let tcp = Pools {
        name: "site-tcp",
        site: ports[0].to_string(),
        shop: ports[1].to_string(),
    };
    for pool in ["site", "shop", "site-tcp", "shop-tcp"] {
        daemon.wait_for_workers(pool, WORKERS);
    }
    (daemon, unix, tcp)
}

/// What is otherwise than the table says, if anything.
fn surprise(server: &Server, case: &Case, seen: Result<(), String>) -> Option<String> {
    let shortfall = server
        .shortfalls
        .iter()
        .find(|shortfall| shortfall.case == case.name);
    match (seen, shortfall) {
        (Ok(()), None) => None,
        (Ok(()), Some(shortfall)) if shortfall.is_rare => None,
        (Ok(()), Some(shortfall)) => Some(format!("works, not one of {:?}", shortfall.seen)),
        (Err(seen), None) => Some(seen),
        (Err(seen), Some(shortfall)) => {
            let is_known = shortfall.seen.iter().any(|part| seen.contains(part));
            (!is_known).then(|| format!("{seen}, not one of {:?}", shortfall.seen))
        }
    }
}

/// All cases with one server, over a Unix socket and over TCP.
fn check(server: &Server) {
    let (daemon, unix, tcp) = pools();
    for pools in [unix, tcp] {
        let over = if pools.is_tcp() {
            "TCP"
        } else {
            "a Unix socket"
        };
        let cases = CASES.iter().filter(|case| !(case.once && pools.is_tcp()));
        let front = Front::start(server, &daemon, pools.clone());
        let surprises: Vec<String> = cases
            .filter_map(|case| {
                let seen = (case.run)(&front).map_err(|error| error.to_string());
                let surprise = surprise(server, case, seen)?;
                Some(format!("{}: {surprise}", case.name))
            })
            .collect();
        assert!(
            surprises.is_empty(),
            "{} over {over}:\n{}",
            server.name,
            surprises.join("\n")
        );
    }
}

macro_rules! servers {
    ($($case:ident: $server:expr),* $(,)?) => {
        $(#[test] fn $case() { check(&$server); })*

        /// In the order of the document.
        const SERVERS: &[&Server] = &[$(&$server),*];
    };
}

servers! {
    nginx: table::NGINX,
    lighttpd: table::LIGHTTPD,
    apache: table::APACHE,
    caddy: table::CADDY,
    haproxy: table::HAPROXY,
    haproxy_multiplexing: table::HAPROXY_MULTIPLEXING,
    h2o: table::H2O,
    fcgid: table::FCGID,
    cgi_fcgi: table::CGI,
}
