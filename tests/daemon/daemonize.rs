//! Going into the background, and the exit codes of it all, beside the real php-fpm where it is installed.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};

use crate::support::daemon::{self, Daemon, Turn};
use crate::support::fastcgi::Address;
use crate::support::process::{self, Process};
use crate::support::setup::{Setup, free_port};
use crate::support::wait::until;

const HELLO: &str = "app = hello\npm = static\npm.max_children = 1";
const FILES: &str = "pid = @DIR@/daemon.pid\nerror_log = @DIR@/daemon.log";

/// A daemon in the background, known by its pid file alone. It is ended with the case.
struct Background {
    log: PathBuf,
    pid_file: PathBuf,
    master: Process,
    _turn: Turn,
}

impl Background {
    fn of(setup: &Setup, turn: Turn) -> Background {
        let pid_file = setup.folder.path("daemon.pid");
        let pid =
            fs::read_to_string(&pid_file).expect("the pid file is there when the caller ends");
        let pid = pid.parse().expect("the pid file holds a number alone");
        Background {
            log: setup.folder.path("daemon.log"),
            pid_file,
            master: Process::of(pid).expect("the daemon runs when the caller ends"),
            _turn: turn,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("there is a log")
    }

    fn stop(&self, signal: Signal) {
        self.master.signal(signal);
        until("the daemon ends", || !self.master.runs());
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log);
            eprintln!("--- the daemon's log:\n{log:?}\n--- its end");
        }
        self.master.signal(Signal::SIGKILL);
    }
}

/// Runs preforkd in the background with the setup's configuration, and waits for the process that was called.
fn call(setup: &Setup, flag: &str) -> Output {
    call_program(setup, flag, Path::new(env!("CARGO_BIN_EXE_preforkd")))
}

fn call_program(setup: &Setup, flag: &str, program: &Path) -> Output {
    let configuration = setup.write();
    let mut command = daemon::command(&configuration);
    let arguments: Vec<_> = command.get_args().skip(1).map(ToOwned::to_owned).collect();
    let environment = command
        .get_envs()
        .map(|(name, _)| name.to_owned())
        .collect::<Vec<_>>();
    command = Command::new(program);
    command.arg(flag).args(arguments).stdin(Stdio::null());
    for name in environment {
        command.env_remove(name);
    }
    command.output().expect("it can be run")
}

#[test]
fn the_caller_ends_when_connections_are_answered() {
    let turn = Turn::shared();
    let setup = Setup::new().global(FILES).pool("hello", HELLO);
    let called = call(&setup, "-D");
    assert_eq!(called.status.code(), Some(0), "{called:?}");
    let daemon = Background::of(&setup, turn);
    assert_eq!(
        Address::Unix(setup.folder.path("hello.sock"))
            .get("/")
            .expect("it is ready when it says so")
            .status,
        200
    );
    let pid = daemon.master.pid;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(") ").expect("its form");
    let fields: Vec<&str> = fields.split(' ').collect();
    assert_ne!(fields[3], pid.to_string(), "it leads its session");
    assert_ne!(
        fields[3],
        std::os::unix::process::parent_id().to_string(),
        "it is in the caller's session"
    );
    assert_eq!(fields[4], "0", "it has a controlling terminal");
    let descriptor = |fd: u32| {
        let what = fs::read_link(format!("/proc/{pid}/fd/{fd}"));
        what.expect("it is open")
    };
    for fd in 0..2 {
        assert_eq!(descriptor(fd), Path::new("/dev/null"), "descriptor {fd}");
    }
    assert_eq!(descriptor(2), daemon.log);
    // After log rotation as well.
    fs::rename(&daemon.log, setup.folder.path("daemon.log.1")).expect("it can be renamed");
    daemon.master.signal(Signal::SIGUSR1);
    until("its standard error is the new log", || {
        descriptor(2) == daemon.log
    });
    fs::rename(setup.folder.path("daemon.log.1"), &daemon.log).expect("it can be renamed");
    daemon.master.signal(Signal::SIGUSR1);
    until("the first log goes on", || {
        daemon.log().matches("error log file re-opened").count() == 1
    });
    daemon.stop(Signal::SIGQUIT);
    assert!(!daemon.pid_file.exists(), "the pid file is left");
    let log = daemon.log();
    for line in [
        &format!("NOTICE: fpm is running, pid {pid}"),
        "NOTICE: ready to handle connections",
        "NOTICE: Finishing ...",
        "NOTICE: exiting, bye-bye!",
    ] {
        assert!(log.contains(line), "{log}");
    }
    assert_eq!(called.stderr, b"", "the caller was told of a success");
}

/// `daemonize` is yes if nothing is said, and the command line counts more.
#[test]
fn the_background_is_where_it_goes_by_itself() {
    let turn = Turn::shared();
    let setup = Setup::new().global(FILES).pool("hello", HELLO);
    // -n is a flag that does nothing.
    let called = call(&setup, "-n");
    assert_eq!(called.status.code(), Some(0), "{called:?}");
    Background::of(&setup, turn).stop(Signal::SIGTERM);
}

#[test]
fn a_port_in_use_is_told_to_the_caller() {
    let _turn = Turn::shared();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it has an address");
    let setup = Setup::new()
        .global(FILES)
        .pool("hello", &format!("listen = {address}\n{HELLO}"));
    let called = call(&setup, "-D");
    assert_eq!(called.status.code(), Some(70), "{called:?}");
    let told = String::from_utf8_lossy(&called.stderr).into_owned();
    let logged = fs::read_to_string(setup.folder.path("daemon.log")).expect("there is a log");
    assert_eq!(told, logged, "the caller and the log are told the same");
    assert!(
        told.contains("ERROR: unable to bind listening socket"),
        "{told}"
    );
    assert!(told.contains("ERROR: FPM initialization failed"), "{told}");
    assert!(!setup.folder.path("daemon.pid").exists());
}

/// Here it is the pid file that takes for ever: a pipe that nobody reads.
#[test]
fn a_daemon_that_does_not_answer_in_time_is_told_of() {
    let _turn = Turn::shared();
    let setup = Setup::new().global(FILES).pool("hello", HELLO);
    let path = setup.folder.path("daemon.pid");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe can be made");
    let begun = Instant::now();
    // A pipe would be open as long as the daemon is.
    let stderr = setup.folder.path("stderr");
    let status = Command::new(env!("CARGO_BIN_EXE_preforkd"))
        .arg("-D")
        .arg("-y")
        .arg(setup.write())
        .env_remove("NOTIFY_SOCKET")
        .stderr(fs::File::create(&stderr).expect("it can be made"))
        .status()
        .expect("it can be run");
    assert_eq!(status.code(), Some(70));
    assert!(begun.elapsed() >= Duration::from_secs(10));
    let told = fs::read_to_string(stderr).expect("it is there");
    assert!(
        told.contains("ERROR: the master process didn't send back its status"),
        "{told}"
    );
    // The daemon goes on when the pipe is read, and tells its pid.
    let pid = fs::read_to_string(&path).expect("it writes its pid");
    let master = Process::of(pid.parse().expect("a number")).expect("it runs");
    until("it is ready", || {
        fs::read_to_string(setup.folder.path("daemon.log"))
            .is_ok_and(|log| log.contains("ready to handle"))
    });
    master.signal(Signal::SIGTERM);
    until("it ends", || !master.runs());
}

/// It stays in the background, and nobody waits for it.
#[test]
fn a_new_program_takes_over_in_the_background() {
    let turn = Turn::shared();
    let setup = Setup::new().global(FILES).pool("hello", HELLO);
    let program = setup.folder.path("preforkd");
    let install = || {
        let new = setup.folder.path("new");
        fs::copy(env!("CARGO_BIN_EXE_preforkd"), &new).expect("it was built");
        fs::rename(new, &program).expect("it can be put in its place");
    };
    install();
    assert_eq!(call_program(&setup, "-D", &program).status.code(), Some(0));
    let daemon = Background::of(&setup, turn);
    install();
    daemon.master.signal(Signal::SIGUSR2);
    until("the new program serves", || {
        let log = daemon.log();
        let (_, after) = log.split_once("reloading: execvp(").unwrap_or_default();
        after.contains("ready to handle connections")
    });
    assert!(daemon.master.runs(), "another process took over");
    let answer = Address::Unix(setup.folder.path("hello.sock")).get("/");
    assert_eq!(answer.expect("the pool answers").status, 200);
    daemon.stop(Signal::SIGQUIT);
    assert!(daemon.log().ends_with("NOTICE: exiting, bye-bye!\n"));
}

/// A log that cannot be opened any more is no reason to end what is served.
#[test]
fn a_new_program_serves_on_without_a_log() {
    let turn = Turn::shared();
    let setup = Setup::new()
        .global("pid = @DIR@/daemon.pid\nerror_log = @DIR@/logs/daemon.log")
        .pool("hello", HELLO);
    let logs = setup.folder.path("logs");
    fs::create_dir(&logs).expect("it can be made");
    let program = setup.folder.path("preforkd");
    fs::copy(env!("CARGO_BIN_EXE_preforkd"), &program).expect("it was built");
    assert_eq!(call_program(&setup, "-D", &program).status.code(), Some(0));
    let daemon = Background::of(&setup, turn);
    let before = process::below(daemon.master.pid);
    fs::remove_dir_all(&logs).expect("it can be removed");
    let new = setup.folder.path("new");
    fs::copy(&program, &new).expect("it is there");
    fs::rename(new, &program).expect("it can be put in its place");
    daemon.master.signal(Signal::SIGUSR2);
    until("the new program has workers of its own", || {
        let now = process::below(daemon.master.pid);
        let is_new =
            |worker: &Process| worker.title.ends_with("pool hello") && !before.contains(worker);
        now.iter().any(is_new) && !now.iter().any(|worker| before.contains(worker))
    });
    let answer = Address::Unix(setup.folder.path("hello.sock")).get("/");
    assert_eq!(answer.expect("the pool answers").status, 200);
    daemon.stop(Signal::SIGQUIT);
}

/// What goes wrong before the fork is told by the caller itself.
#[test]
fn a_wrong_configuration_is_refused_by_the_caller() {
    let _turn = Turn::shared();
    let setup = Setup::new().global("nonsense = 1").pool("hello", HELLO);
    assert_eq!(call(&setup, "-D").status.code(), Some(78));
    let setup = Setup::new()
        .global("error_log = @DIR@/missing/daemon.log")
        .pool("hello", HELLO);
    let called = call(&setup, "-D");
    assert_eq!(called.status.code(), Some(78));
    let told = String::from_utf8_lossy(&called.stderr).into_owned();
    assert!(told.contains("ERROR: failed to open error_log ("), "{told}");
}

#[test]
fn a_log_that_was_moved_is_opened_anew() {
    let turn = Turn::shared();
    let setup = Setup::new().global(FILES).pool("hello", HELLO);
    call(&setup, "-D");
    let daemon = Background::of(&setup, turn);
    let below = || process::below(daemon.master.pid);
    until("the worker has its title", || {
        below()
            .iter()
            .any(|worker| worker.title.ends_with("pool hello"))
    });
    let workers = below();
    let moved = setup.folder.path("daemon.log.1");
    fs::rename(&daemon.log, &moved).expect("it can be renamed");
    daemon.master.signal(Signal::SIGUSR1);
    until("a new log is there", || {
        fs::read_to_string(&daemon.log)
            .is_ok_and(|log| log.contains("NOTICE: error log file re-opened"))
    });
    assert_eq!(below(), workers, "a worker went");
    let mode = fs::metadata(&daemon.log)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    daemon.stop(Signal::SIGTERM);
    let old = fs::read_to_string(moved).expect("it is there");
    assert!(!old.contains("exiting"), "the old log is written to: {old}");
    assert!(daemon.log().contains("exiting, bye-bye!"));
}

/// The master takes what it may have; its workers have what was there.
#[test]
fn workers_have_the_limit_of_files_that_the_daemon_was_started_with() {
    let setup = Setup::new().pool("hello", HELLO);
    let configuration = setup.write();
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "ulimit -Sn 300; exec \"$0\" -F -y \"$1\""])
        .arg(env!("CARGO_BIN_EXE_preforkd"))
        .arg(configuration)
        .env_remove("NOTIFY_SOCKET");
    let daemon = Daemon::launch(setup.folder, &mut command, Turn::shared()).ready();
    daemon.wait_for_workers("hello", 1);
    let limits = |pid: i32| {
        let all = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
        let line = all.lines().find(|line| line.starts_with("Max open files"));
        let numbers: Vec<String> = line
            .expect("there is such a limit")
            .split_whitespace()
            .filter(|word| word.parse::<u64>().is_ok())
            .map(str::to_owned)
            .collect();
        (numbers[0].clone(), numbers[1].clone())
    };
    let (soft, hard) = limits(daemon.pid());
    assert_eq!(soft, hard);
    let worker = daemon.worker_pids("hello")[0];
    // It has its title before it has them.
    until("the worker has its limits", || {
        limits(worker) == ("300".to_owned(), hard.clone())
    });
}

/// The real one, which `tests/run.sh` installs.
const PHP_FPM: &str = "/usr/sbin/php-fpm8.2";

/// Runs both with what is as near to one configuration as can be, and gives back exit codes and log lines without
/// times and pids.
struct Both {
    folder: Setup,
    global: String,
    listen: String,
}

impl Both {
    fn new(global: &str, listen: &str) -> Option<Both> {
        if !Uid::effective().is_root() {
            eprintln!("not compared with php-fpm, which wants to be started by root");
            return None;
        }
        assert!(Path::new(PHP_FPM).exists(), "{PHP_FPM} is not installed");
        let root = Setup::new();
        let dir = root.folder.root().display().to_string();
        Some(Both {
            global: global.replace("@DIR@", &dir),
            listen: listen.replace("@DIR@", &dir),
            folder: root,
        })
    }

    fn configuration(&self, name: &str, application: &str) -> PathBuf {
        let text = format!(
            "[global]\npid = {dir}/{name}.pid\nerror_log = {dir}/{name}.log\n{}\n[www]\nuser = www-data\ngroup = www-data\n\
             listen = {}\npm = static\npm.max_children = 1\n{application}\n",
            self.global,
            self.listen,
            dir = self.folder.folder.root().display(),
        );
        self.folder.folder.write(&format!("{name}.conf"), &text)
    }

    /// Starts `program`, stops it with `signal` once it says that it is ready, and returns exit code and log.
    fn run(
        &self,
        name: &str,
        program: &mut Command,
        flag: &str,
        signal: Signal,
    ) -> (Option<i32>, String) {
        let path = |end: &str| self.folder.folder.path(&format!("{name}.{end}"));
        let application = if name == "php" { "" } else { "app = hello" };
        let configuration = self.configuration(name, application);
        let child = program
            .arg(flag)
            .arg("-y")
            .arg(&configuration)
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.expect("it can be started");
        let mut ended = None;
        until("it is ready, or has ended", || {
            let log = fs::read_to_string(path("log")).unwrap_or_default();
            ended = child.try_wait().expect("it is our child");
            log.contains("ready to handle") && (flag == "-F" || ended.is_some())
                || ended.is_some_and(|status| status.code() != Some(0))
        });
        let pid = fs::read_to_string(path("pid"))
            .ok()
            .and_then(|pid| pid.parse().ok());
        if let Some(master) = pid.and_then(Process::of) {
            master.signal(signal);
            // The caller is no zombie of ours in the background.
            until("it ends", || {
                ended = child.try_wait().expect("it is our child");
                !master.runs()
            });
        }
        let code = child.wait().expect("it is our child").code();
        assert!(!path("pid").exists(), "{name} leaves its pid file");
        let log = fs::read_to_string(path("log")).unwrap_or_default();
        (code, plain(&log, name))
    }

    fn compare(&self, flag: &str, signal: Signal) -> (Option<i32>, String) {
        let php = self.run("php", Command::new(PHP_FPM).arg("-n"), flag, signal);
        let ours = self.run(
            "ours",
            &mut Command::new(env!("CARGO_BIN_EXE_preforkd")),
            flag,
            signal,
        );
        assert_eq!(ours, php, "ours and php-fpm's with {flag}");
        ours
    }
}

/// Log lines without what differs from run to run, and without the notice of the service manager's clock, which php-fpm
/// prints also when there is none.
fn plain(log: &str, name: &str) -> String {
    let mut plain = String::new();
    for line in log.lines().filter(|line| !line.contains("systemd monitor")) {
        let line = line.split_once("] ").map_or(line, |(_, rest)| rest);
        let line = line.replace(&format!("{name}."), "NAME.");
        let line: String = line
            .split(' ')
            .map(|word| {
                if word.parse::<u32>().is_ok() {
                    "N"
                } else {
                    word
                }
            })
            .collect::<Vec<_>>()
            .join(" ");
        plain.push_str(&line);
        plain.push('\n');
    }
    plain
}

#[test]
fn start_and_stop_are_as_with_php_fpm() {
    let _turn = Turn::shared();
    let Some(both) = Both::new("", "@DIR@/www.sock") else {
        return;
    };
    for (flag, signal, word) in [
        ("-F", Signal::SIGTERM, "Terminating"),
        ("-F", Signal::SIGINT, "Terminating"),
        ("-F", Signal::SIGQUIT, "Finishing"),
        ("-D", Signal::SIGTERM, "Terminating"),
    ] {
        let (code, log) = both.compare(flag, signal);
        assert_eq!(code, Some(0), "{flag}");
        assert!(log.contains(&format!("NOTICE: {word} ...\n")), "{log}");
        for name in ["php", "ours"] {
            fs::remove_file(both.folder.folder.path(&format!("{name}.log"))).expect("a log");
        }
    }
}

#[test]
fn a_port_in_use_is_as_with_php_fpm() {
    let _turn = Turn::shared();
    let port = free_port();
    let _taken = TcpListener::bind(("127.0.0.1", port)).expect("it is free");
    for (flag, expected) in [("-F", 78), ("-D", 70)] {
        let Some(both) = Both::new("", &format!("127.0.0.1:{port}")) else {
            return;
        };
        let (code, log) = both.compare(flag, Signal::SIGTERM);
        assert_eq!(code, Some(expected), "{flag}: {log}");
    }
}

#[test]
fn what_cannot_be_set_up_is_as_with_php_fpm() {
    let _turn = Turn::shared();
    for (global, flag, expected) in [
        ("pid = /nonexistent/x.pid", "-F", 78),
        ("pid = /nonexistent/x.pid", "-D", 70),
        ("rlimit_files = 99999999", "-F", 78),
        ("rlimit_files = 99999999", "-D", 78),
        ("error_log = /nonexistent/x.log", "-D", 78),
        ("nonsense = 1", "-F", 78),
        ("nonsense = 1", "-D", 78),
    ] {
        let Some(both) = Both::new(global, "@DIR@/www.sock") else {
            return;
        };
        let php = both.run(
            "php",
            Command::new(PHP_FPM).arg("-n"),
            flag,
            Signal::SIGTERM,
        );
        let ours = both.run(
            "ours",
            &mut Command::new(env!("CARGO_BIN_EXE_preforkd")),
            flag,
            Signal::SIGTERM,
        );
        assert_eq!(ours.0, Some(expected), "{global} {flag}: {}", ours.1);
        assert_eq!(php.0, Some(expected), "{global} {flag}: {}", php.1);
        assert_eq!(ours.1, php.1, "{global} {flag}");
    }
}
