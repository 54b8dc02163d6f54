//! The real Django site, the one that the project ships for trying it, in a pool behind a real nginx.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Uid, User};

use super::daemon::Daemon;
use super::http::Browser;
use super::nginx::Nginx;
use super::setup::{POOL_USER, Setup};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/try/site");

/// The password of the site's user `demo`.
pub const PASSWORD: &str = "correct horse";

/// The site, running.
#[derive(Debug)]
pub struct Site {
    // nginx first: it stops before what it hands requests to.
    pub nginx: Nginx,
    pub daemon: Daemon,
}

impl Site {
    /// Starts the site as pool `tour`, with these lines added to the pool's.
    pub fn start(lines: &str) -> Site {
        let venv = std::env::var_os("PREFORKD_TEST_VENV")
            .expect("PREFORKD_TEST_VENV names a virtual environment with Django; tests/run.sh makes it and sets this");
        let python = Path::new(&venv).join("bin/python3");
        let setup = Setup::new();
        let site = setup.folder.path("site");
        let copied = Command::new("cp")
            .arg("-R")
            .args([Path::new(SOURCE), &site])
            .status()
            .expect("cp runs");
        assert!(copied.success(), "the site cannot be copied");
        let state = setup.folder.writable("var");

        let mut prepare = Command::new(python);
        prepare
            .args(["manage.py", "prepare"])
            .current_dir(&site)
            .env("TOUR_STATE", &state)
            .env("TOUR_PASSWORD", PASSWORD);
        if Uid::effective().is_root() {
            let user = User::from_name(POOL_USER)
                .expect("users can be looked up")
                .expect("the pool's user exists");
            prepare.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        assert!(
            prepare.status().expect("the interpreter runs").success(),
            "the site cannot be prepared"
        );
        setup.folder.write("run/.made", "");

        let pool = "listen = @DIR@/run/tour.sock\nwsgi = tour.wsgi\npython = @PYTHON@\npythonpath[] = @DIR@/site\n\
                    chdir = @DIR@/site\nenv[TOUR_STATE] = @DIR@/var\nwsgi.warmup[] = /\ncatch_workers_output = yes\n";
        let daemon = setup.pool("tour", &format!("{pool}{lines}")).start();
        let nginx = Nginx::start(&daemon.folder);
        Site { nginx, daemon }
    }

    /// A browser that looks at the site.
    pub fn browser(&self) -> Browser {
        Browser::new(self.nginx.port)
    }
}
