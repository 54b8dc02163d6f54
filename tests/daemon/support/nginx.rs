//! A real nginx with the configuration that the project ships for trying it.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};

use super::setup::{Folder, POOL_USER, free_port};
use super::wait::until;

const CONFIGURATION: &str = include_str!("../../../packaging/try/nginx.conf.in");

/// An nginx that hands requests to `run/tour.sock` in a folder. Dropping it stops it.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    pub port: u16,
}

impl Nginx {
    /// Starts it and waits until it takes connections.
    pub fn start(folder: &Folder) -> Nginx {
        Nginx::start_with(folder, CONFIGURATION)
    }

    /// The same with another configuration, in which the same words stand for the folder, the user and the port.
    pub fn start_with(folder: &Folder, configuration: &str) -> Nginx {
        let port = free_port();
        let user = if Uid::effective().is_root() {
            POOL_USER.to_owned()
        } else {
            User::from_uid(Uid::effective())
                .expect("users can be looked up")
                .expect("this user exists")
                .name
        };
        for name in ["log", "nginx", "run"] {
            fs::create_dir_all(folder.path(name)).expect("folders can be made");
        }
        let text = configuration
            .replace("@STATE@", &folder.root().display().to_string())
            .replace("@USER@ @GROUP@", &user)
            .replace("@PORT@", &port.to_string());
        let configuration = folder.write("nginx.conf", &text);
        let mut child = Command::new("nginx")
            .env(
                "PATH",
                format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()),
            )
            .arg("-e")
            .arg(folder.path("log/nginx.log"))
            .arg("-p")
            .arg(folder.path("nginx/"))
            .arg("-c")
            .arg(configuration)
            .args(["-g", "daemon off;"])
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx is installed (tests/run.sh does it)");
        until("nginx listens", || {
            let ended = child.try_wait().expect("it is our child");
            assert!(
                ended.is_none(),
                "nginx ended: {}",
                fs::read_to_string(folder.path("log/nginx.log")).unwrap_or_default()
            );
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        Nginx { child, port }
    }

    /// Has it read its configuration anew, which it does while it serves.
    pub fn reload(&self) {
        kill(self.pid(), Signal::SIGHUP).expect("it runs");
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("a pid is positive"))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = kill(self.pid(), Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.child.try_wait().expect("it is our child").is_none() {
            if Instant::now() > deadline {
                let _ = self.child.kill();
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}
