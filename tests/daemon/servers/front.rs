//! A web server, running in front of a pool.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::client::Client;
use super::table::Server;
use crate::support::daemon::Daemon;
use crate::support::setup::{Folder, as_pool_user, free_port};
use crate::support::wait::until;

/// A web server that still waits for connections that its clients keep is not waited for any longer.
const STOPS_WITHIN: Duration = Duration::from_secs(2);

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/web-servers");

/// The pools that a server is put before: two paths, or two ports.
#[derive(Clone, Debug)]
pub struct Pools {
    /// The name of the one at the root.
    pub name: &'static str,
    pub site: String,
    pub shop: String,
}

impl Pools {
    pub fn is_tcp(&self) -> bool {
        !self.site.starts_with('/')
    }
}

/// A web server in front of a pool. Dropping it stops it, and prints its log if the test failed.
#[derive(Debug)]
pub struct Front<'a> {
    pub server: &'a Server,
    pub daemon: &'a Daemon,
    pub pools: Pools,
    pub port: u16,
    pub tls_port: u16,
    child: Child,
    folder: Folder,
}

impl<'a> Front<'a> {
    /// Starts the server and waits until it takes connections.
    pub fn start(server: &'a Server, daemon: &'a Daemon, pools: Pools) -> Front<'a> {
        let folder = Folder::new();
        folder.writable("");
        let [port, tls_port] = [free_port(), free_port()];
        make_certificate(&folder);
        let fill_in = |text: &str| {
            text.replace("@DIR@", &folder.root().display().to_string())
                .replace("@SITE@", &folder.path(server.file).display().to_string())
                .replace(
                    "@FRAME@",
                    &folder.path(server.frame.0).display().to_string(),
                )
                .replace("@PORT@", &port.to_string())
                .replace("@TLS_PORT@", &tls_port.to_string())
        };
        let mut text =
            fs::read_to_string(Path::new(SHIPPED).join(server.file)).expect("it is there");
        for (part, other) in server.edits {
            assert!(text.contains(part), "{} says {part}", server.file);
            text = text.replace(part, other);
        }
        folder.write(
            server.file,
            &addressed(&text, &folder, &pools, port, tls_port),
        );
        folder.write(server.frame.0, &fill_in(server.frame.1));
        if let Some(script) = server.script {
            fs::copy(Path::new(SHIPPED).join(script), folder.path(script)).expect("it is there");
        }

        let log = File::create(folder.path("log")).expect("a file can be made");
        // Apache opens it by a name.
        log.set_permissions(Permissions::from_mode(0o666))
            .expect("it is ours");
        let mut command = Command::new(server.command[0]);
        command
            .args(server.command[1..].iter().map(|word| fill_in(word)))
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", folder.root())
            .current_dir(folder.root())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor is free"))
            .stderr(log)
            .process_group(0);
        as_pool_user(&mut command);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; tests/run.sh installs it", server.name));
        let mut front = Front {
            server,
            daemon,
            pools,
            port,
            tls_port,
            child,
            folder,
        };
        for port in [port, tls_port] {
            until(&format!("{} listens", server.name), || {
                let ended = front.child.try_wait().expect("it is our child");
                assert!(ended.is_none(), "{} ended", server.name);
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
            });
        }
        front
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        let log = fs::read(self.folder.path("log")).expect("it has a log");
        String::from_utf8_lossy(&log).into_owned()
    }

    /// A new connection to it.
    pub fn connect(&self) -> io::Result<Client> {
        Client::new(self.port)
    }
}

/// The file as a user fills it in. For TCP, a line takes the place of the one below it.
fn addressed(text: &str, folder: &Folder, pools: &Pools, port: u16, tls_port: u16) -> String {
    let mut lines = text.lines();
    let mut chosen = String::new();
    while let Some(line) = lines.next() {
        match line.split_once("# Over TCP: ") {
            Some((indent, other)) if pools.is_tcp() => {
                lines.next();
                chosen += indent;
                chosen += other;
            }
            _ => chosen += line,
        }
        chosen.push('\n');
    }
    let hosts = format!("http://127.0.0.1:{port}, https://127.0.0.1:{tls_port}");
    let mut filled = chosen
        .replace("0.0.0.0:80", &format!("127.0.0.1:{port}"))
        .replace("0.0.0.0:443", &format!("127.0.0.1:{tls_port}"))
        .replace("0.0.0.0", "127.0.0.1")
        .replace("port: 80\n", &format!("port: {port}\n"))
        .replace("port: 443\n", &format!("port: {tls_port}\n"))
        .replace("site.example", &hosts);
    for folder_of_file in ["/etc/ssl/certs/", "/etc/ssl/private/", "/usr/lib/cgi-bin/"] {
        filled = filled.replace(folder_of_file, &format!("{}/", folder.root().display()));
    }
    let addresses = if pools.is_tcp() {
        ["9000", "9001"]
    } else {
        ["/run/site.sock", "/run/shop.sock"]
    };
    for (address, own) in addresses.into_iter().zip([&pools.site, &pools.shop]) {
        assert!(filled.contains(address), "the file names {address}");
        filled = filled.replace(address, own);
    }
    filled
}

fn make_certificate(folder: &Folder) {
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1".split(' '))
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "site.key", "-out", "site.pem"])
        .current_dir(folder.root())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("openssl is installed; tests/run.sh does it");
    assert!(made.success(), "a certificate can be made");
    let read = |name: &str| fs::read_to_string(folder.path(name)).expect("it was made");
    let (certificate, key) = (read("site.pem"), read("site.key"));
    folder.write("site-and-key.pem", &(certificate + &key));
    // A private key of this test alone, for whoever the server runs as.
    fs::set_permissions(folder.path("site.key"), Permissions::from_mode(0o644))
        .expect("it is ours");
}

impl Drop for Front<'_> {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a pid is positive"));
        // It is our child, and leads a group of its own: both numbers are no other's until it has been waited for.
        let _ = kill(pid, Signal::SIGTERM);
        let deadline = Instant::now() + STOPS_WITHIN;
        while self.child.try_wait().expect("it is our child").is_none() && Instant::now() < deadline
        {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = killpg(pid, Signal::SIGKILL);
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the web server's log:\n{}\n--- its end", self.log());
        }
    }
}
