//! A program in a pool, behind nginx.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::daemon::Daemon;
use crate::support::fastcgi::Address;
use crate::support::nginx::Nginx;
use crate::support::process::{self, Process};
use crate::support::setup::{Folder, Setup};
use crate::support::wait::{PATIENCE, until_some};

use super::transfer;

const NGINX: &str = include_str!("nginx.conf.in");
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/programs");

/// The pool's name.
pub const POOL: &str = "program";

/// A program of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Cgi,
    Cplusplus,
    Go,
    Hostile,
    Perl,
    Php,
    /// Forked from a mold that was asked for; php-cgi is so without.
    MoldedCplusplus,
    MoldedPerl,
    MoldedBare,
}

impl Program {
    /// Puts it into a folder and returns the value of `exec`.
    pub fn install(self, folder: &Folder) -> String {
        static BARE: OnceLock<PathBuf> = OnceLock::new();
        static CPLUSPLUS: OnceLock<PathBuf> = OnceLock::new();
        static GO: OnceLock<PathBuf> = OnceLock::new();
        let at = folder.root().display();
        match self {
            Program::Cplusplus | Program::MoldedCplusplus => {
                let built = CPLUSPLUS.get_or_init(|| {
                    build(
                        "probe.cpp",
                        &["g++", "-O1", "-Wall"],
                        &["-lfcgi++", "-lfcgi"],
                    )
                });
                copy(built, folder, "probe")
            }
            Program::MoldedBare => copy(
                BARE.get_or_init(|| build("bare.c", &["gcc", "-O1", "-Wall"], &[])),
                folder,
                "bare",
            ),
            Program::Go => copy(
                GO.get_or_init(|| build("probe.go", &["go", "build"], &[])),
                folder,
                "probe",
            ),
            Program::Cgi => {
                let script = copy(&source("cgi/probe.py"), folder, "probe.py");
                fs::set_permissions(&script, Permissions::from_mode(0o755))
                    .expect("its mode can be set");
                script
            }
            Program::Perl | Program::MoldedPerl => format!(
                "/usr/bin/perl {}",
                copy(&source("probe.pl"), folder, "probe.pl")
            ),
            Program::Hostile => format!(
                "/usr/bin/python3 {}",
                copy(&source("hostile.py"), folder, "hostile.py")
            ),
            Program::Php => {
                for script in ["php/probe.php", "php/album.php"] {
                    copy(&source(script), folder, script);
                }
                folder.writable("var");
                format!(
                    "/usr/bin/php-cgi8.2 -n -d extension=posix -d expose_php=0 -d post_max_size=0 -d upload_max_filesize=1G \
                     -d upload_tmp_dir={at}/var -d session.save_path={at}/var"
                )
            }
        }
    }
}

fn source(name: &str) -> PathBuf {
    Path::new(SOURCES).join(name)
}

/// Puts a copy where the pool's user can read it, and returns its path.
fn copy(from: &Path, folder: &Folder, name: &str) -> String {
    let to = folder.write(name, "");
    fs::copy(from, &to).expect("a file can be copied");
    to.display().to_string()
}

/// Builds a program once for all cases.
fn build(source: &str, compiler: &[&str], libraries: &[&str]) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = target.join(format!("{source}.{}", std::process::id()));
    let status = Command::new(compiler[0])
        .args(&compiler[1..])
        .arg("-o")
        .arg(&program)
        .arg(source)
        .args(libraries)
        .current_dir(SOURCES)
        .env("GOCACHE", target.join("go"))
        .env("GO111MODULE", "off")
        .status()
        .expect("the compiler is installed; tests/run.sh does it");
    assert!(status.success(), "{source} cannot be built");
    // Under a name that stays, so that no run leaves one of its own.
    let built = target.join(format!("{source}.program"));
    fs::rename(&program, &built).expect("a file can be renamed");
    built
}

/// A program in a pool, behind nginx.
#[derive(Debug)]
pub struct Host {
    // nginx first: it stops before what it hands requests to.
    pub nginx: Nginx,
    pub daemon: Daemon,
}

impl Host {
    /// Starts a program with these lines in its pool, which listens where nginx expects it.
    #[track_caller]
    pub fn start(program: Program, lines: &str) -> Host {
        Host::start_with(program, "", lines)
    }

    /// The same with arguments for the program.
    #[track_caller]
    pub fn start_with(program: Program, arguments: &str, lines: &str) -> Host {
        let setup = Setup::new();
        let exec = program.install(&setup.folder);
        let kind = match program {
            Program::Cgi => "exec.protocol = cgi",
            Program::MoldedBare | Program::MoldedCplusplus | Program::MoldedPerl => {
                "exec.mold = yes"
            }
            _ => "",
        };
        Host::of(
            setup,
            &format!("exec = {exec} {arguments}\n{kind}\n{lines}"),
        )
    }

    /// The same of a set-up, and with all lines but those of the socket.
    #[track_caller]
    pub fn of(setup: Setup, lines: &str) -> Host {
        setup.folder.write("run/.made", "");
        let lines = format!("listen = @DIR@/run/tour.sock\ncatch_workers_output = yes\n{lines}");
        let daemon = setup.pool(POOL, &lines).start();
        let nginx = Nginx::start_with(&daemon.folder, NGINX);
        Host { nginx, daemon }
    }

    /// Where the pool listens.
    pub fn address(&self) -> Address {
        Address::Unix(self.socket())
    }

    /// The same as a path.
    pub fn socket(&self) -> PathBuf {
        self.daemon.folder.path("run/tour.sock")
    }

    /// Asks for a page through nginx, and returns its text.
    ///
    /// # Panics
    /// When it is not status 200, or not whole.
    #[track_caller]
    pub fn page(&self, path: &str) -> String {
        let answer = transfer::get(self.nginx.port, path).expect("nginx answers");
        assert!(
            answer.status == 200 && answer.is_whole,
            "{path}: {answer:?}"
        );
        answer.text()
    }

    /// The status of a page.
    #[track_caller]
    pub fn status(&self, path: &str) -> u16 {
        transfer::get(self.nginx.port, path)
            .expect("nginx answers")
            .status
    }

    /// The workers.
    pub fn workers(&self) -> Vec<Process> {
        self.daemon.workers(POOL)
    }

    /// The programs of the workers: those that they are inside of, if there is a mold, or else started.
    pub fn programs(&self) -> Vec<Process> {
        let workers = self.workers();
        if !self.molds().is_empty() {
            return workers;
        }
        let below = |worker: &Process| process::below(worker.pid);
        workers.iter().flat_map(below).collect()
    }

    /// The molds that there have been.
    pub fn molds(&self) -> Vec<i32> {
        let lines = self
            .daemon
            .lines_like(&format!("[pool {POOL}] mold * is ready"));
        let pid = |line: &String| line.split(" mold ").nth(1)?.split(' ').next()?.parse().ok();
        lines.iter().filter_map(pid).collect()
    }

    /// Waits until there are so many workers, each with a program.
    #[track_caller]
    pub fn wait_for_programs(&self, count: usize) -> Vec<Process> {
        until_some(&format!("{count} programs"), PATIENCE, || {
            Some(self.programs())
                .filter(|programs| programs.len() == count && self.workers().len() == count)
        })
    }
}
