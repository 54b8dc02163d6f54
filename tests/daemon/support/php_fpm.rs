//! The real php-fpm, to compare with.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
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
    child: Child,
    reader: Option<JoinHandle<()>>,
    _folder: Folder,
}

impl PhpFpm {
    /// Starts it with these lines in its pool, and waits until it is ready.
    #[track_caller]
    pub fn start(lines: &str) -> PhpFpm {
        let folder = Folder::new();
        let port = free_port();
        let owner = if Uid::effective().is_root() {
            format!("user = {POOL_USER}\ngroup = {POOL_USER}\n")
        } else {
            String::new()
        };
        let configuration = folder.write(
            "php-fpm.conf",
            &format!(
                "[global]\ndaemonize = no\n[www]\nlisten = 127.0.0.1:{port}\n{owner}{lines}\n"
            ),
        );
        let mut child = Command::new(PROGRAM)
            .args(["-n", "-d", "expose_php=0", "-F", "-O", "-y"])
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("php-fpm 8.2 is installed; tests/run.sh does it");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains("ready to handle connections"))
            .expect("php-fpm gets ready");
        let reader = thread::spawn(move || lines.for_each(drop));
        PhpFpm {
            address: Address::Tcp((Ipv4Addr::LOCALHOST, port).into()),
            child,
            reader: Some(reader),
            _folder: folder,
        }
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
    }
}
