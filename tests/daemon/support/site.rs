//! The real Django site, the one that the project ships for trying it, in a pool behind a real nginx.

use std::path::Path;
use std::process::Command;

use super::daemon::Daemon;
use super::http::Browser;
use super::nginx::Nginx;
use super::setup::{Setup, as_pool_user};

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

/// What a case has otherwise than the site as it is.
#[derive(Debug, Default)]
pub struct Variant<'a> {
    /// Lines of Python behind those of the site's settings.
    pub settings: &'a str,
    /// Modules in the package `tour` besides the site's.
    pub modules: &'a [(&'a str, &'a str)],
    /// Commands of the site's `manage.py`, before it starts.
    pub commands: &'a [&'a [&'a str]],
    /// Lines of the pool.
    pub pool: &'a str,
}

impl Site {
    /// Starts the site as pool `tour`, with these lines added to the pool's.
    #[track_caller]
    pub fn start(pool: &str) -> Site {
        Site::vary(&Variant {
            pool,
            ..Variant::default()
        })
    }

    /// Starts a variant of it.
    #[track_caller]
    pub fn vary(variant: &Variant) -> Site {
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
        let settings = format!("from .settings import *\n{}", variant.settings);
        setup.folder.write("site/tour/variant.py", &settings);
        for (name, text) in variant.modules {
            setup.folder.write(&format!("site/tour/{name}.py"), text);
        }
        let state = setup.folder.writable("var");
        let statics = setup.folder.writable("static");

        let manage = |arguments: &[&str]| {
            let mut manage = Command::new(&python);
            manage
                .arg("manage.py")
                .args(arguments)
                .current_dir(&site)
                .env("DJANGO_SETTINGS_MODULE", "tour.variant")
                .env("TOUR_STATE", &state)
                .env("TOUR_STATIC", &statics)
                .env("TOUR_PASSWORD", PASSWORD);
            as_pool_user(&mut manage);
            let done = manage.status().expect("the interpreter runs");
            assert!(done.success(), "the site can be prepared: {arguments:?}");
        };
        manage(&["prepare"]);
        for command in variant.commands {
            manage(command);
        }
        setup.folder.write("run/.made", "");

        let pool = "listen = @DIR@/run/tour.sock\nwsgi = tour.wsgi\npython = @PYTHON@\npythonpath[] = @DIR@/site\n\
                    chdir = @DIR@/site\nenv[DJANGO_SETTINGS_MODULE] = tour.variant\nenv[TOUR_STATE] = @DIR@/var\n\
                    wsgi.warmup[] = /\ncatch_workers_output = yes\n";
        let daemon = setup
            .pool("tour", &format!("{pool}{}", variant.pool))
            .start();
        let nginx = Nginx::start(&daemon.folder);
        Site { nginx, daemon }
    }

    /// A browser that looks at the site.
    pub fn browser(&self) -> Browser {
        Browser::new(self.nginx.port)
    }
}
