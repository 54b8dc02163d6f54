//! A folder with a configuration and applications in it, from which a daemon is started.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;

use nix::unistd::{Group, Uid, User, mkdtemp};

use super::daemon::{self, Daemon, Turn};

/// The application most cases ask for pages; what each path does is said in the file.
pub const PROBE: &str = include_str!("../apps/probe.py");

/// Whom the pools run as when the tests run as root.
pub const POOL_USER: &str = "www-data";

/// A folder under the temporary folder that the pool's user can enter; removed at the end.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        let path = mkdtemp(&std::env::temp_dir().join("preforkd-test-XXXXXX"))
            .expect("a temporary folder can be made");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("its mode can be set");
        Folder(path)
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, and the folders above it.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        let above = path.parent().expect("a file has a folder");
        fs::create_dir_all(above).expect("folders can be made");
        fs::write(&path, text).expect("a file can be written");
        path
    }

    /// Makes a folder that the pool's user can write to.
    pub fn writable(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).expect("folders can be made");
        if Uid::effective().is_root() {
            let user = User::from_name(POOL_USER)
                .expect("users can be looked up")
                .expect("the pool's user exists");
            chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .expect("root can give it away");
        }
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left in the temporary folder; a failure here would hide the test's own.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a daemon is going to be started from. In all texts `@DIR@` stands for the folder and `@PYTHON@` for the
/// interpreter.
#[derive(Debug)]
pub struct Setup {
    pub folder: Folder,
    global: String,
    pools: String,
    pub python: PathBuf,
}

impl Setup {
    pub fn new() -> Setup {
        Setup {
            folder: Folder::new(),
            global: "process_control_timeout = 5s\n".into(),
            pools: String::new(),
            python: python(),
        }
    }

    /// Adds lines to `[global]`.
    pub fn global(mut self, lines: &str) -> Setup {
        self.global += lines;
        self.global += "\n";
        self
    }

    /// Adds a pool. It listens on `NAME.sock` in the folder unless its lines say otherwise, and runs as the pool's user.
    pub fn pool(mut self, name: &str, lines: &str) -> Setup {
        self.pools += &format!("\n[{name}]\n{}", ownership());
        if !lines
            .lines()
            .any(|line| line.trim_start().starts_with("listen ="))
        {
            self.pools += &format!("listen = @DIR@/{name}.sock\n");
        }
        self.pools += lines;
        self.pools += "\n";
        self
    }

    /// Adds a pool that hosts `application`, the text of a Python module.
    pub fn wsgi(self, name: &str, application: &str, lines: &str) -> Setup {
        self.folder
            .write(&format!("{name}-code/{name}_app.py"), application);
        let lines = format!(
            "wsgi = {name}_app\npythonpath[] = @DIR@/{name}-code\npython = @PYTHON@\n{lines}"
        );
        self.pool(name, &lines)
    }

    /// Writes the configuration as it is now.
    pub fn write(&self) -> PathBuf {
        let text = format!("[global]\n{}{}", self.global, self.pools);
        self.folder.write("preforkd.conf", &self.fill_in(&text))
    }

    /// Starts the daemon and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Daemon {
        self.launch(Turn::shared()).ready()
    }

    /// The same when no other case runs, for those that measure time.
    #[track_caller]
    pub fn start_alone(self) -> Daemon {
        self.launch(Turn::alone()).ready()
    }

    /// The same in the turn of another daemon of the same case.
    #[track_caller]
    pub fn start_beside(self, _other: &Daemon) -> Daemon {
        self.launch(Turn::OfTheCase).ready()
    }

    /// Starts the daemon, which is expected to refuse, and waits for its end.
    #[track_caller]
    pub fn refused(self) -> (ExitStatus, Daemon) {
        let mut daemon = self.launch(Turn::shared());
        (daemon.wait_for_end(), daemon)
    }

    fn launch(self, turn: Turn) -> Daemon {
        let mut command = daemon::command(&self.write());
        Daemon::launch(self.folder, &mut command, turn)
    }

    fn fill_in(&self, text: &str) -> String {
        text.replace("@DIR@", &self.folder.root().display().to_string())
            .replace("@PYTHON@", &self.python.display().to_string())
    }
}

/// Starts a daemon that sees other mounts than the rest of the machine: `mounts` is a shell script that makes them in the
/// daemon's folder, `run` then runs the program `$0` with the configuration `$1`. Root alone can, so that for anybody
/// else there is none.
pub fn with_own_mounts(mounts: &str, setup: Setup, run: &str) -> Option<Daemon> {
    if !is_root() {
        return None;
    }
    let folder = setup.folder.root().display().to_string();
    let configuration = setup.write();
    let script = format!("set -e\ncd {folder}\n{mounts}\n{run}");
    let mut command = Command::new("/usr/bin/unshare");
    command
        .args([
            "--mount",
            "--propagation",
            "private",
            "/bin/sh",
            "-c",
            &script,
        ])
        .arg(env!("CARGO_BIN_EXE_preforkd"))
        .arg(configuration)
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null());
    Some(Daemon::launch(setup.folder, &mut command, Turn::shared()))
}

/// The lines that say whom a pool belongs to: none unless the tests run as root.
fn ownership() -> String {
    if !Uid::effective().is_root() {
        return String::new();
    }
    let group = Group::from_name(POOL_USER)
        .expect("groups can be looked up")
        .expect("the pool's group exists")
        .name;
    format!(
        "user = {POOL_USER}\ngroup = {group}\nlisten.owner = {POOL_USER}\nlisten.group = {group}\n"
    )
}

/// Has a command run as the pool's user.
pub fn as_pool_user(command: &mut Command) {
    if Uid::effective().is_root() {
        let user = User::from_name(POOL_USER)
            .expect("users can be looked up")
            .expect("the pool's user exists");
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
}

/// The interpreter that PREFORKD_TEST_PYTHON names, else that of the tests' virtual environment if there is one, else the
/// system's.
pub fn python() -> PathBuf {
    let of_venv = || {
        let venv = std::env::var_os("PREFORKD_TEST_VENV")?;
        Some(Path::new(&venv).join("bin/python3"))
    };
    match std::env::var_os("PREFORKD_TEST_PYTHON") {
        Some(python) => python.into(),
        None => of_venv().unwrap_or_else(|| "/usr/bin/python3".into()),
    }
}

/// A TCP port of the loopback interface that is free and that no other case is given.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut given = GIVEN.lock().expect("no case fails here");
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        if !given.contains(&port) {
            given.push(port);
            return port;
        }
    }
}

/// Whether the tests run as root. On a machine of continuous integration they have to.
pub fn is_root() -> bool {
    let root = Uid::effective().is_root();
    assert!(
        root || std::env::var_os("CI").is_none(),
        "these cases need root"
    );
    if !root {
        eprintln!("not run: this case needs root");
    }
    root
}
