//! The real php-fpm, to compare with.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use super::fastcgi::Address;
use super::setup::{Folder, POOL_USER, free_port};

const PROGRAM: &str = "/usr/sbin/php-fpm8.2";

/// A running php-fpm with one pool, `www`.
#[derive(Debug)]
pub struct PhpFpm {
    pub address: Address,
    pub folder: Folder,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl PhpFpm {
    /// Starts it with these lines in its pool, and waits until it is ready. It listens on TCP.
    #[track_caller]
    pub fn start(lines: &str) -> PhpFpm {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        PhpFpm::start_on(Folder::new(), Address::Tcp(address), lines)
    }

    /// The same in a folder that has scripts, for which `@DIR@` stands in the lines, and at an address.
    #[track_caller]
    pub fn start_on(folder: Folder, address: Address, lines: &str) -> PhpFpm {
        let listen = match &address {
            Address::Unix(path) => path.display().to_string(),
            Address::Tcp(address) => address.to_string(),
        };
        let lines = lines.replace("@DIR@", &folder.root().display().to_string());
        let owner = if Uid::effective().is_root() {
            format!("user = {POOL_USER}\ngroup = {POOL_USER}\n")
        } else {
            String::new()
        };
        let configuration = folder.write(
            "php-fpm.conf",
            &format!("[global]\ndaemonize = no\n[www]\nlisten = {listen}\n{owner}{lines}\n"),
        );
        let mut child = Command::new(PROGRAM)
            .args(["-n", "-d", "expose_php=0", "-F", "-O", "-y"])
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("php-fpm 8.2 is installed; tests/run.sh does it");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped"))
            .lines()
            .map_while(Result::ok);
        let log: Vec<String> = lines
            .by_ref()
            .take_while(|line| !line.contains("ready to handle connections"))
            .collect();
        let ended = child.try_wait().expect("it is our child");
        assert!(ended.is_none(), "php-fpm gets ready: {log:?}");
        let log = Arc::new(Mutex::new(log));
        let reader = thread::spawn({
            let log = Arc::clone(&log);
            move || lines.for_each(|line| log.lock().expect("nobody fails here").push(line))
        });
        PhpFpm {
            address,
            folder,
            child,
            log,
            reader: Some(reader),
        }
    }

    /// What it has logged.
    pub fn log(&self) -> Vec<String> {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for PhpFpm {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).expect("a pid is positive");
        // It is our child, so that its pid is no other's.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if thread::panicking() {
            eprintln!("--- php-fpm's log:\n{}\n--- its end", self.log().join("\n"));
        }
    }
}
