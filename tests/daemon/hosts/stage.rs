//! The machines of the recipe, packaging/docs/two-hosts.md, with what runs on each: its own words are what is run.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use super::network::Network;
use crate::support::daemon::Daemon;
use crate::support::fastcgi::{Address, Request};
use crate::support::nginx::Nginx;
use crate::support::process::{self, Process};
use crate::support::setup::{Folder, Setup, as_pool_user};
use crate::support::stores::{Memcached, Postgres};
use crate::support::wait::until;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging");

const DOCUMENT: &str = include_str!("../../../packaging/docs/two-hosts.md");

const FRONT: &str = "front";
const STORE: &str = "store";

/// The most that a parameter of the kernel is here, seconds or tries: no case waits as long as people do.
const SHORT: u32 = 2;

const STORE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// Around what the recipe has for nginx.
const FRAME: &str = "user @USER@ @GROUP@;
worker_processes 2;
pid @STATE@/run/nginx.pid;
error_log @STATE@/log/nginx.log;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path @STATE@/nginx/body;
    fastcgi_temp_path @STATE@/nginx/fastcgi;
    proxy_temp_path @STATE@/nginx/proxy;
    scgi_temp_path @STATE@/nginx/scgi;
    uwsgi_temp_path @STATE@/nginx/uwsgi;
    # Whom it has asked.
    add_header X-Hosts $upstream_addr always;
";

/// A host of the site.
#[derive(Debug)]
pub struct Host {
    pub name: &'static str,
    /// As nginx names it.
    pub address: &'static str,
    pub daemon: Daemon,
}

/// All of them. The thread that makes them is on the front from then on.
#[derive(Debug)]
pub struct Stage {
    // In the order in which they stop.
    pub nginx: Nginx,
    pub hosts: [Host; 2],
    _memcached: Memcached,
    pub postgres: Postgres,
    front: Folder,
    settings: String,
    pub network: Network,
}

/// The lines of the recipe from this one on, as far as they are indented.
fn block(first: &str) -> String {
    let lines = DOCUMENT.lines().skip_while(|line| line.trim() != first);
    let block: Vec<&str> = lines
        .map_while(|line| line.strip_prefix("    ").or(line.is_empty().then_some("")))
        .collect();
    assert!(!block.is_empty(), "the recipe says {first}");
    block.join("\n")
}

impl Stage {
    /// Starts everything, with sessions by this engine of Django's.
    #[track_caller]
    pub fn start(engine: &str) -> Stage {
        let network = Network::new(&[
            (FRONT, "10.0.0.1"),
            (STORE, "10.0.0.2"),
            ("host-a", "10.0.0.11"),
            ("host-b", "10.0.0.12"),
        ]);
        let parameters = block("net.ipv4.tcp_retries2 = 6");
        for machine in [FRONT, STORE, "host-a", "host-b"] {
            network.set(machine, &parameters, SHORT);
        }
        let (postgres, memcached) = network.on(STORE, || {
            let postgres = Postgres::start_at(STORE_ADDRESS, 5432);
            postgres.query(
                &block("ALTER DATABASE site SET idle_in_transaction_session_timeout = '10s';")
                    .replace("DATABASE site", "DATABASE postgres"),
            );
            (postgres, Memcached::start_at(STORE_ADDRESS, 11211))
        });

        network.move_to(FRONT);
        let front = Folder::new();
        let server = fs::read_to_string(
            Path::new(SHIPPED).join("web-servers/nginx-two-hosts.conf"),
        )
        .expect("it is there")
        .replace("listen 80;", "listen 127.0.0.1:@PORT@;")
        // As every port but 80 and 443 needs it.
        .replace(
            "include /etc/nginx/fastcgi_params;",
            "include /etc/nginx/fastcgi_params;\n    fastcgi_param HTTP_HOST $host:$server_port;",
        );
        let nginx = Nginx::start_with(&front, &format!("{FRAME}{server}}}\n"));

        let recipe = block("SECRET_KEY = Path(\"/srv/site/secret_key\").read_text()")
            .replace(
                "Path(\"/srv/site/secret_key\").read_text()",
                "'the same on both hosts'",
            )
            .replace(
                "\"tcp_user_timeout\": 10_000",
                "\"tcp_user_timeout\": 3_000",
            )
            .replace("\"NAME\": \"site\"", "\"NAME\": \"postgres\"")
            .replace("\"USER\": \"site\"", "\"USER\": \"tour\"");
        let settings = format!(
            "from .settings import *\n{recipe}\nSESSION_ENGINE = 'django.contrib.sessions.backends.{engine}'\n\
             ROOT_URLCONF = 'tour.more_pages'\nAUTHENTICATION_BACKENDS = ['tour.pages.Visitors']\n"
        );
        let first = prepare(&settings);
        network.on("host-a", || manage(&first.folder));
        let a = host(&network, "host-a", "10.0.0.11:9000", first, Setup::start);
        let b = host(
            &network,
            "host-b",
            "10.0.0.12:9000",
            prepare(&settings),
            |setup| setup.start_beside(&a.daemon),
        );
        Stage {
            nginx,
            hosts: [a, b],
            _memcached: memcached,
            postgres,
            front,
            settings,
            network,
        }
    }

    /// Has nginx hand the second host no requests, or requests again.
    pub fn take_out_second(&self, is_out: bool) {
        let server = "server 10.0.0.12:9000";
        let (from, to) = (format!("{server} max"), format!("{server} down max"));
        let (from, to) = if is_out { (from, to) } else { (to, from) };
        let text = fs::read_to_string(self.front.path("nginx.conf")).expect("it is there");
        assert!(text.contains(&from), "nginx is told {from}");
        self.front.write("nginx.conf", &text.replace(&from, &to));
        self.nginx.reload();
    }

    /// Kills all that runs for the second host's pool, without warning.
    pub fn kill_second(&mut self) {
        let daemon = &self.hosts[1].daemon;
        let mut all = vec![Process::of(daemon.pid()).expect("it runs")];
        all.extend(process::below(daemon.pid()));
        for process in &all {
            process.signal(Signal::SIGKILL);
        }
        until("all of it has ended", || !all.iter().any(Process::runs));
    }

    /// Starts the second host anew.
    #[track_caller]
    pub fn revive_second(&mut self) {
        let [a, b] = &mut self.hosts;
        *b = host(
            &self.network,
            b.name,
            b.address,
            prepare(&self.settings),
            |setup| setup.start_beside(&a.daemon),
        );
    }

    /// A field of a host's status.
    #[track_caller]
    pub fn status(&self, host: &Host, field: &str) -> u64 {
        let address = Address::Unix(host.daemon.folder.path("preforkd-site-status.sock"));
        let answer = address.ask(&Request::get("/")).expect("it answers");
        let text = answer.text();
        text.lines()
            .find_map(|line| {
                line.strip_prefix(field)?
                    .strip_prefix(':')?
                    .trim()
                    .parse()
                    .ok()
            })
            .unwrap_or_else(|| panic!("no {field} in {text}"))
    }

    /// How many connections to a host's pool the kernel of a machine, of that host or of another one, holds for established.
    pub fn established(&self, machine: &str, host: &Host) -> usize {
        let address: SocketAddrV4 = host.address.parse().expect("an address and a port");
        // As proc(5) has them.
        let ip = u32::from_le_bytes(address.ip().octets());
        let address = format!("{ip:08X}:{:04X}", address.port());
        self.network.on(machine, || {
            let table = fs::read_to_string("/proc/thread-self/net/tcp").expect("/proc has it");
            let connections = table.lines().filter(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words[1..3].contains(&address.as_str()) && words[3] == "01"
            });
            connections.count()
        })
    }
}

/// A folder with the site and its configuration.
fn prepare(settings: &str) -> Setup {
    let setup = Setup::new();
    let copied = Command::new("cp")
        .arg("-R")
        .args([
            Path::new(SHIPPED).join("try/site"),
            setup.folder.path("site"),
        ])
        .status();
    assert!(copied.expect("cp runs").success(), "the site can be copied");
    for (name, text) in [
        ("pages", include_str!("../state/pages.py")),
        ("more_pages", include_str!("pages.py")),
        ("two_hosts", settings),
    ] {
        setup.folder.write(&format!("site/tour/{name}.py"), text);
    }
    setup.folder.writable("var");
    setup
}

/// Makes the tables.
fn manage(folder: &Folder) {
    let mut manage = Command::new(venv());
    manage
        .args(["manage.py", "migrate", "--verbosity=0"])
        .current_dir(folder.path("site"))
        .env("DJANGO_SETTINGS_MODULE", "tour.two_hosts")
        .env("TOUR_STATE", folder.path("var"));
    as_pool_user(&mut manage);
    assert!(manage.status().expect("the interpreter runs").success());
}

fn venv() -> PathBuf {
    let venv = std::env::var_os("PREFORKD_TEST_VENV")
        .expect("PREFORKD_TEST_VENV names a virtual environment with Django; tests/run.sh makes it and sets this");
    Path::new(&venv).join("bin/python3")
}

/// Starts the recipe's pool on a machine.
#[track_caller]
fn host(
    network: &Network,
    name: &'static str,
    address: &'static str,
    setup: Setup,
    start: impl FnOnce(Setup) -> Daemon,
) -> Host {
    let pool = block("[site]")
        .replace("[site]\n", "")
        .replace("user = www-data\n", "")
        .replace("10.0.0.11:9000", address)
        .replace("/srv/site/venv/bin/python3", "@PYTHON@")
        .replace("/srv/site", "@DIR@/site")
        .replace("mysite.wsgi", "tour.wsgi")
        .replace("/run/", "@DIR@/");
    let surroundings = "env[DJANGO_SETTINGS_MODULE] = tour.two_hosts\nenv[TOUR_STATE] = @DIR@/var\ncatch_workers_output = yes\n";
    let setup = setup.pool("site", &format!("{pool}\n{surroundings}"));
    let daemon = network.on(name, || start(setup));
    Host {
        name,
        address,
        daemon,
    }
}
