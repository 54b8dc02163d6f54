//! The running daemon: its log, its processes, its end.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::fastcgi::Address;
use super::process::{self, Process};
use super::setup::Folder;
use super::wait::{PATIENCE, until, until_some};

/// How long a daemon may take to stop, workers included: more than the `process_control_timeout` of the tests.
const STOPS_WITHIN: Duration = Duration::from_secs(15);

/// As many lines of a log are kept. No case needs more; a daemon that writes without end needs more memory than there is.
const MOST_LINES: usize = 100_000;

/// A daemon of this test. Dropping it stops it, sees that nothing of it is left, and prints its log if the test failed.
#[derive(Debug)]
pub struct Daemon {
    pub folder: Folder,
    child: Child,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
    _turn: Turn,
}

/// Cases that measure time run alone, the others beside each other. A case therefore has one turn, however many daemons:
/// waiting for a second one while somebody waits to be alone would never end.
static TURNS: RwLock<()> = RwLock::new(());

/// Leave to run a daemon. A failed case gives its turn back as well as any.
#[derive(Debug)]
pub enum Turn {
    Shared(#[expect(dead_code, reason = "held for its lifetime")] RwLockReadGuard<'static, ()>),
    Alone(#[expect(dead_code, reason = "held for its lifetime")] RwLockWriteGuard<'static, ()>),
    /// Another daemon of the same case has it.
    OfTheCase,
}

impl Turn {
    pub fn shared() -> Turn {
        Turn::Shared(TURNS.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn alone() -> Turn {
        Turn::Alone(TURNS.write().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Daemon {
    /// Starts `command`, which is a daemon or becomes one, and waits for nothing.
    pub fn launch(folder: Folder, command: &mut Command, turn: Turn) -> Daemon {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon can be started");
        let stderr = child.stderr.take().expect("it is piped");
        let log = Arc::new(Log::default());
        let reader = thread::spawn({
            let log = Arc::clone(&log);
            move || log.read(BufReader::new(stderr))
        });
        Daemon {
            folder,
            child,
            log,
            reader: Some(reader),
            _turn: turn,
        }
    }

    /// Waits until it says that it is ready.
    #[track_caller]
    pub fn ready(self) -> Daemon {
        // At log_level = debug the place in the program is between the two.
        self.wait_for_line("NOTICE: *ready to handle connections");
        self
    }

    /// The master's pid.
    pub fn pid(&self) -> i32 {
        self.child.id().try_into().expect("a pid is positive")
    }

    /// Sends the master a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(master) = Process::of(self.pid()) {
            master.signal(signal);
        }
    }

    /// Where a pool listens, unless its lines said otherwise.
    pub fn address(&self, pool: &str) -> Address {
        Address::Unix(self.folder.path(&format!("{pool}.sock")))
    }

    /// The master's processes with this title.
    pub fn titled(&self, title: &str) -> Vec<Process> {
        let of_daemon = process::below(self.pid());
        of_daemon
            .into_iter()
            .filter(|process| process.parent == self.pid() && process.title == title)
            .collect()
    }

    /// The workers of a pool.
    pub fn workers(&self, pool: &str) -> Vec<Process> {
        self.titled(&format!("preforkd: pool {pool}"))
    }

    /// The pids of the workers of a pool, in order.
    pub fn worker_pids(&self, pool: &str) -> Vec<i32> {
        let mut pids: Vec<i32> = self.workers(pool).iter().map(|worker| worker.pid).collect();
        pids.sort_unstable();
        pids
    }

    /// The mold of a pool, if it has one now.
    pub fn mold(&self, pool: &str) -> Option<Process> {
        let start = format!("preforkd: mold {pool} ");
        process::below(self.pid())
            .into_iter()
            .find(|process| process.title.starts_with(&start))
    }

    /// Waits until a pool has this many workers, neither more nor fewer.
    #[track_caller]
    pub fn wait_for_workers(&self, pool: &str, count: usize) {
        until(&format!("pool {pool} has {count} workers"), || {
            self.workers(pool).len() == count
        });
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        // A test that fails while it looks at the lines leaves them whole.
        self.log
            .lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines of the log until now that match.
    pub fn lines_like(&self, pattern: &str) -> Vec<String> {
        self.lines()
            .iter()
            .filter(|line| matches(pattern, line))
            .cloned()
            .collect()
    }

    /// Waits until a line of the log matches, from the log's begin on, and returns it.
    ///
    /// # Panics
    /// If there is none within [`PATIENCE`], or if the log ends without one.
    #[track_caller]
    pub fn wait_for_line(&self, pattern: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lines();
        let mut seen = 0;
        loop {
            if let Some(line) = lines[seen..].iter().find(|line| matches(pattern, line)) {
                return line.clone();
            }
            seen = lines.len();
            let ended = self.reader.as_ref().is_none_or(JoinHandle::is_finished);
            assert!(!ended, "the log ended without a line like '{pattern}'");
            assert!(
                Instant::now() < deadline,
                "not within {PATIENCE:?}: a line like '{pattern}'"
            );
            let look_again = Duration::from_millis(100);
            lines = self
                .log
                .grown
                .wait_timeout(lines, look_again)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits for the daemon's end, which somebody has caused, and returns how it ended.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status = until_some("the daemon ends", STOPS_WITHIN, || {
            child.try_wait().expect("it is our child")
        });
        // Its pipe is open until the last of its processes has ended.
        if let Some(reader) = self.reader.take() {
            until("the daemon's processes leave its log", || {
                reader.is_finished()
            });
        }
        status
    }

    /// Asks for the end with a signal, and waits for it.
    #[track_caller]
    pub fn stop(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.wait_for_end()
    }
}

/// The daemon's command line, in an environment without a service manager.
pub fn command(configuration: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_preforkd"));
    command
        .args([
            OsStr::new("-F"),
            OsStr::new("-y"),
            configuration.as_os_str(),
        ])
        .stdin(Stdio::null());
    for name in [
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
    ] {
        command.env_remove(name);
    }
    command
}

impl Log {
    /// The lines, also after a case has failed while it looked at them.
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, stderr: impl BufRead) {
        for line in stderr.split(b'\n') {
            let Ok(line) = line else { break };
            let mut lines = self.lines();
            if lines.len() < MOST_LINES {
                lines.push(String::from_utf8_lossy(&line).into_owned());
            }
            drop(lines);
            self.grown.notify_all();
        }
        self.grown.notify_all();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let of_daemon = process::below(self.pid());
        let ended = self.child.try_wait().expect("it is our child").is_some();
        let mut stopped = ended;
        if !ended {
            self.signal(Signal::SIGTERM);
            let deadline = Instant::now() + STOPS_WITHIN;
            while !stopped && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(10));
                stopped = self.child.try_wait().expect("it is our child").is_some();
            }
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while of_daemon.iter().any(Process::runs) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let left: Vec<&Process> = of_daemon.iter().filter(|process| process.runs()).collect();
        if !stopped {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait();
        }
        for process in &left {
            process.signal(Signal::SIGKILL);
        }
        if thread::panicking() {
            eprintln!(
                "--- the daemon's log:\n{}\n--- its end",
                self.lines().join("\n")
            );
        } else {
            assert!(stopped, "the daemon did not stop within {STOPS_WITHIN:?}");
            assert!(left.is_empty(), "the daemon left processes: {left:?}");
        }
    }
}

/// Whether the parts of `pattern` between its `*` are in the line, in their order.
pub fn matches(pattern: &str, line: &str) -> bool {
    let mut rest = line;
    pattern.split('*').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}
