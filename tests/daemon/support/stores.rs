//! Stores that several workers share: a real PostgreSQL, a real memcached.
//!
//! Each is the case's own: it listens on a port of the loopback interface, keeps what it has in a folder of its own, runs
//! as the pool's user, and ends with the value that stands for it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::setup::{Folder, as_pool_user, free_port};
use super::wait::{PATIENCE, until};

/// Where Debian has the programs of each version of PostgreSQL.
const POSTGRESQL: &str = "/usr/lib/postgresql";

/// A process that is ended with this signal, and waited for.
#[derive(Debug)]
struct Server {
    child: Child,
    end: Signal,
}

impl Server {
    fn start(command: &mut Command, end: Signal) -> Server {
        as_pool_user(command);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run.sh installs it"));
        Server { child, end }
    }

    #[track_caller]
    fn wait_for(&mut self, what: &str, ready: impl Fn() -> bool) {
        until(what, || {
            let ended = self.child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "it ended instead: {what}");
            ready()
        });
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a pid is positive"));
        // It is our child, so that its pid is no other's; it may have ended.
        let _ = kill(pid, signal);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(self.end);
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("it is our child").is_none() {
            if Instant::now() > deadline {
                let _ = self.child.kill();
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A PostgreSQL server with one empty database.
#[derive(Debug)]
pub struct Postgres {
    // First, so that it has ended when its folder goes.
    _server: Server,
    _folder: Folder,
    programs: PathBuf,
    address: Ipv4Addr,
    pub port: u16,
}

impl Postgres {
    /// The user whom all are.
    pub const USER: &str = "tour";
    /// The database.
    pub const NAME: &str = "postgres";

    /// Starts one, and waits until it takes connections.
    #[track_caller]
    pub fn start() -> Postgres {
        Postgres::start_at(Ipv4Addr::LOCALHOST, free_port())
    }

    /// The same at an address of a case's own network, from all of which it takes connections.
    #[track_caller]
    pub fn start_at(address: Ipv4Addr, port: u16) -> Postgres {
        let programs = programs();
        let folder = Folder::new();
        let data = folder.writable("data");
        let log = File::create(folder.path("log")).expect("a file can be made");
        let mut initdb = Command::new(programs.join("initdb"));
        initdb
            .args(["--no-sync", "--no-instructions", "--auth=trust"])
            .args(["--encoding=UTF8", "--locale=C"])
            .arg(format!("--username={}", Postgres::USER))
            .arg("-D")
            .arg(&data)
            .stdout(Stdio::null());
        as_pool_user(&mut initdb);
        assert!(initdb.status().expect("initdb runs").success());

        if !address.is_loopback() {
            folder.write("data/pg_hba.conf", "host all all samenet trust\n");
        }

        let mut command = Command::new(programs.join("postgres"));
        command.arg("-D").arg(&data);
        for setting in [
            &format!("listen_addresses={address}"),
            &format!("port={port}"),
            "unix_socket_directories=",
            "fsync=off",
            "shared_buffers=8MB",
            "log_min_messages=warning",
        ] {
            command.args(["-c", setting]);
        }
        command.stderr(log);
        // A fast shutdown: who is connected is disconnected.
        let mut server = Server::start(&mut command, Signal::SIGINT);
        server.wait_for("PostgreSQL takes connections", || {
            Command::new(programs.join("pg_isready"))
                .args(["--quiet", &format!("--host={address}")])
                .arg(format!("--port={port}"))
                .status()
                .is_ok_and(|status| status.success())
        });
        Postgres {
            _server: server,
            _folder: folder,
            programs,
            address,
            port,
        }
    }

    /// What psycopg connects with.
    pub fn conninfo(&self) -> String {
        let (address, port) = (self.address, self.port);
        let (user, name) = (Postgres::USER, Postgres::NAME);
        format!("host={address} port={port} user={user} dbname={name}")
    }

    /// The answer to a query, a line a row.
    #[track_caller]
    pub fn query(&self, sql: &str) -> String {
        let output = Command::new(self.programs.join("psql"))
            .args(["-X", "-A", "-t", "-q", "-c", sql])
            .arg(self.conninfo())
            .output()
            .expect("psql runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}: {error}");
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    }
}

fn programs() -> PathBuf {
    let versions = fs::read_dir(POSTGRESQL).expect("postgresql is installed; tests/run.sh does it");
    versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|programs| programs.join("initdb").exists())
        .max()
        .unwrap_or_else(|| Path::new(POSTGRESQL).to_owned())
}

/// A memcached.
#[derive(Debug)]
pub struct Memcached {
    server: Server,
    address: Ipv4Addr,
    pub port: u16,
}

impl Memcached {
    /// Starts one, and waits until it takes connections.
    #[track_caller]
    pub fn start() -> Memcached {
        Memcached::start_at(Ipv4Addr::LOCALHOST, free_port())
    }

    /// The same at an address of a case's own network.
    #[track_caller]
    pub fn start_at(address: Ipv4Addr, port: u16) -> Memcached {
        let mut command = Command::new("memcached");
        command
            .args(["--memory-limit=16", "--threads=1"])
            .arg(format!("--listen={address}"))
            .arg(format!("--port={port}"));
        let mut server = Server::start(&mut command, Signal::SIGTERM);
        server.wait_for("memcached takes connections", || {
            TcpStream::connect((address, port)).is_ok()
        });
        Memcached {
            server,
            address,
            port,
        }
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        self.server.signal(Signal::SIGKILL);
        self.server.child.wait().expect("it is our child");
    }

    /// Starts it again where it was, empty.
    #[track_caller]
    pub fn revive(&mut self) {
        *self = Memcached::start_at(self.address, self.port);
    }

    /// Has it forget all entries.
    #[track_caller]
    pub fn forget(&self) {
        let said = self.say("flush_all").expect("it answers");
        assert_eq!(said, "OK");
    }

    /// A number out of its statistics; the connection that asks counts as one.
    #[track_caller]
    pub fn stat(&self, name: &str) -> u64 {
        let mut connection = self.connect().expect("it takes connections");
        connection.write_all(b"stats\r\n").expect("it reads");
        BufReader::new(connection)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix(&format!("STAT {name} "))?.parse().ok())
            .expect("it tells this number")
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let connection = TcpStream::connect((self.address, self.port))?;
        connection.set_read_timeout(Some(PATIENCE))?;
        Ok(connection)
    }

    fn say(&self, command: &str) -> io::Result<String> {
        let mut connection = self.connect()?;
        connection.write_all(format!("{command}\r\n").as_bytes())?;
        let mut line = String::new();
        BufReader::new(connection).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}
