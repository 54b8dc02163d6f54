//! The daemon and the web server before it, in a folder of their own; both are stopped, and the folder removed, at the
//! end.

use crate::http::{Client, Request};
use crate::process::{self, Process};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User, chown};
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const APPLICATION: &str = include_str!("shop.py");
const SCRIPT: &str = include_str!("shop.php");
const WEB_SERVER: &str = include_str!("nginx.conf.in");

/// Whom the pool runs as when the run is root's.
const POOL_USER: &str = "www-data";

/// How long anything may take that is expected to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The program of the other pool.
const PROGRAM: &str = "/usr/bin/php-cgi8.2";

/// Workers of each pool, where their number is fixed.
pub const WORKERS: u32 = 12;

/// A pool whose number of workers is fixed.
pub const STATIC: &str = "pm = static\npm.max_children = 12";

/// What the daemon and the web server before it are made from.
#[derive(Debug)]
pub struct Parts {
    /// The daemon; the extension module is beside it.
    pub program: PathBuf,
    /// The pool's interpreter.
    pub python: PathBuf,
}

/// The daemon and the web server.
#[derive(Debug)]
pub struct Stage {
    parts: Parts,
    // Before the folder that it is in.
    _disk: Option<Disk>,
    folder: TempDir,
    daemon: Child,
    web_server: Option<Child>,
    /// Where the web server listens.
    pub port: u16,
    status: Client,
    keeps_folder: bool,
}

/// What the pool says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// Its generation.
    pub generation: u32,
    /// Workers that wait or hold a request.
    pub strength: u32,
}

impl Stage {
    /// Starts both. Each pool is as `pool` says: `shop`, which is Python, and `program`.
    pub fn start(parts: Parts, pool: &str) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("preforkd-chaos-")
            .tempdir()?;
        let path = folder.path();
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
        for name in ["app", "log", "nginx"] {
            fs::create_dir(path.join(name))?;
        }
        let disk = Disk::mount(path.join("log"))?;
        fs::write(path.join("app/shop.py"), APPLICATION)?;
        fs::write(path.join("app/shop.php"), SCRIPT)?;
        fs::write(path.join("journal"), "")?;
        if Uid::effective().is_root() {
            let user = User::from_name(POOL_USER)?.ok_or(io::ErrorKind::NotFound)?;
            chown(&path.join("journal"), Some(user.uid), Some(user.gid))?;
        }
        install(&parts.program, path)?;
        write_configuration(path, &parts.python, pool, "")?;
        let daemon = Command::new(path.join("preforkd"))
            .args(["-F", "-y"])
            .arg(path.join("preforkd.conf"))
            .env_remove("NOTIFY_SOCKET")
            .env_remove("LISTEN_FDS")
            .stdin(Stdio::null())
            .stderr(fs::File::create(path.join("stderr"))?)
            .spawn()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let mut stage = Self {
            parts,
            _disk: disk,
            folder,
            daemon,
            web_server: None,
            port,
            status: Client::new(port, PATIENCE),
            keeps_folder: false,
        };
        stage.web_server = Some(start_web_server(stage.folder.path(), port)?);
        wait("the pool is at full strength", || {
            Ok(stage.status().is_some_and(|status| status.strength > 0))
        })?;
        Ok(stage)
    }

    /// A file of its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Leaves the folder where it is at the end, with the logs in `logs`.
    pub fn keep_folder(&mut self) -> &Path {
        self.keeps_folder = true;
        self.folder.disable_cleanup(true);
        self.folder.path()
    }

    /// The master's pid.
    pub fn master(&self) -> i32 {
        i32::try_from(self.daemon.id()).unwrap_or(0)
    }

    /// Sends the master a signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill(Pid::from_raw(self.master()), signal)?)
    }

    /// The daemon's processes whose title begins so.
    pub fn titled(&self, title: &str) -> Vec<Process> {
        let mut processes = process::below(self.master());
        processes.retain(|process| process.title.starts_with(title));
        processes
    }

    /// PHP's programs: those that serve, with workers inside, and the molds that these are forked from.
    pub fn programs(&self) -> (Vec<Process>, Vec<Process>) {
        let of = |kind| self.titled(&format!("preforkd: {kind} program"));
        (of("pool"), of("mold"))
    }

    /// Puts another file of the same program in the place of the daemon's.
    pub fn install(&self) -> io::Result<()> {
        install(&self.parts.program, self.folder.path())
    }

    /// Writes what the pools are to be from the next reload on.
    pub fn configure(&self, pool: &str) -> io::Result<()> {
        self.configure_with(pool, "")
    }

    /// The same, with `more` behind it.
    pub fn configure_with(&self, pool: &str, more: &str) -> io::Result<()> {
        write_configuration(self.folder.path(), &self.parts.python, pool, more)
    }

    /// Makes the pool what the configuration says, and waits until it is.
    pub fn reload(&mut self) -> io::Result<()> {
        let before = self.generation()?;
        self.signal(Signal::SIGUSR2)?;
        self.wait_for_generation_after(before)
    }

    /// Waits until a generation later than this one serves.
    pub fn wait_for_generation_after(&mut self, before: u32) -> io::Result<()> {
        wait("the next generation takes over", || {
            Ok(self
                .status()
                .is_some_and(|status| status.generation > before))
        })
    }

    /// The pool's generation now.
    pub fn generation(&mut self) -> io::Result<u32> {
        let mut generation = 0;
        wait("the status service answers", || {
            generation = self.status().map_or(0, |status| status.generation);
            Ok(generation > 0)
        })?;
        Ok(generation)
    }

    fn ask_for_status(&mut self, target: &str) -> Option<String> {
        let page = Request {
            target,
            body: None,
            keep: true,
        };
        let answer = self.status.ask(page).ok()?;
        let text = (answer.status == 200).then_some(answer.body)?;
        String::from_utf8(text).ok()
    }

    /// The pids of workers that hold a request.
    pub fn busy_workers(&mut self) -> Vec<i32> {
        let text = self.ask_for_status("/status?json&full").unwrap_or_default();
        let workers = text.split("\"pid\":").skip(1);
        workers
            .filter(|worker| worker.contains("\"Running\""))
            .filter_map(|worker| worker.split(',').next()?.trim().parse().ok())
            .collect()
    }

    /// What the pool says of itself; None when nobody answers.
    pub fn status(&mut self) -> Option<Status> {
        let text = self.ask_for_status("/status?json")?;
        let number = |name: &str| -> Option<u32> {
            let (_, rest) = text.split_once(&format!("\"{name}\":"))?;
            rest.split([',', '}']).next()?.trim().parse().ok()
        };
        Some(Status {
            generation: number("generation")?,
            strength: number("idle processes")? + number("active processes")?,
        })
    }

    /// Waits until as many workers serve as there are to be. Returns how long that took.
    pub fn recover(&mut self) -> io::Result<Duration> {
        let begun = Instant::now();
        wait("the pool is at full strength", || {
            Ok(self
                .status()
                .is_some_and(|status| status.strength >= WORKERS))
        })?;
        Ok(begun.elapsed())
    }

    /// How many lines of the log have this text.
    pub fn logged(&self, text: &str) -> io::Result<usize> {
        Ok(fs::read_to_string(self.path("log/error.log"))?
            .matches(text)
            .count())
    }

    /// Waits for one more line of the log with this text than there were `before`.
    pub fn wait_for_log(&self, text: &str, before: usize) -> io::Result<()> {
        wait(text, || Ok(self.logged(text)? > before))
    }
}

impl Stage {
    fn save_logs(&self) -> io::Result<()> {
        let logs = self.path("logs");
        fs::create_dir_all(&logs)?;
        for file in fs::read_dir(self.path("log"))? {
            let file = file?;
            fs::copy(file.path(), logs.join(file.file_name()))?;
        }
        Ok(())
    }
}

/// A disk of its own for the logs, which can be filled; there is one only where root runs this.
#[derive(Debug)]
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf) -> io::Result<Option<Self>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        let options = Some("size=32m,mode=755");
        mount(Some("none"), &at, Some("tmpfs"), MsFlags::empty(), options)?;
        Ok(Some(Self(at)))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("chaos: umount {}: {error}", self.0.display());
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(web_server) = &mut self.web_server {
            end(web_server, Signal::SIGTERM);
        }
        let left = process::below(self.master());
        end(&mut self.daemon, Signal::SIGTERM);
        for process in left {
            // It is stopped, say.
            process.signal(Signal::SIGKILL);
        }
        if self.keeps_folder
            && let Err(error) = self.save_logs()
        {
            eprintln!("chaos: the logs: {error}");
        }
    }
}

fn end(child: &mut Child, signal: Signal) {
    // It may have ended already, and then there is nothing to do.
    let _ = kill(
        Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)),
        signal,
    );
    let deadline = Instant::now() + Duration::from_secs(20);
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            let _ = child.kill();
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Looks again and again until it is so.
pub fn wait(what: &str, mut look: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !look()? {
        if Instant::now() > deadline {
            let text = format!("not within {} s: {what}", PATIENCE.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn install(program: &Path, folder: &Path) -> io::Result<()> {
    for name in [
        "preforkd",
        "libpreforkd_python.so",
        "libpreforkd_preload.so",
    ] {
        let new = folder.join("new");
        fs::copy(program.with_file_name(name), &new)?;
        fs::rename(new, folder.join(name))?;
    }
    Ok(())
}

/// The lines that say whom a pool belongs to.
pub fn owner() -> &'static str {
    if Uid::effective().is_root() {
        "user = www-data\nlisten.owner = www-data\n"
    } else {
        ""
    }
}

fn write_configuration(folder: &Path, python: &Path, pool: &str, more: &str) -> io::Result<()> {
    let (folder_name, python) = (folder.display(), python.display());
    let owner = owner();
    let text = format!(
        "[global]\n\
         error_log = {folder_name}/log/error.log\n\
         process_control_timeout = 30s\n\n\
         [shop]\n{owner}\
         listen = {folder_name}/shop.sock\n\
         wsgi = shop\n\
         python = {python}\n\
         pythonpath[] = {folder_name}/app\n\
         env[CHAOS_JOURNAL] = {folder_name}/journal\n\
         access.log = {folder_name}/log/access.log\n\
         catch_workers_output = yes\n\
         request_terminate_timeout = 5s\n\
         pm.status_listen = {folder_name}/status.sock\n\
         pm.status_path = /status\n\
         {pool}\n\n\
         [program]\n{owner}\
         listen = {folder_name}/program.sock\n\
         exec = {PROGRAM}\n\
         env[CHAOS_JOURNAL] = {folder_name}/journal\n\
         catch_workers_output = yes\n\
         request_terminate_timeout = 5s\n\
         {pool}\n\
         {more}"
    );
    let mut file = fs::File::create(folder.join("new.conf"))?;
    file.write_all(text.as_bytes())?;
    fs::rename(folder.join("new.conf"), folder.join("preforkd.conf"))
}

fn start_web_server(folder: &Path, port: u16) -> io::Result<Child> {
    let user = User::from_uid(Uid::effective())?.map_or_else(String::new, |user| user.name);
    let user = if user == "root" { POOL_USER } else { &user };
    let text = WEB_SERVER
        .replace("@DIR@", &folder.display().to_string())
        .replace("@USER@", user)
        .replace("@PORT@", &port.to_string());
    let configuration = folder.join("nginx.conf");
    fs::write(&configuration, text)?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut child = Command::new("nginx")
        .env("PATH", format!("{path}:/usr/sbin"))
        .arg("-e")
        .arg(folder.join("log/nginx.log"))
        .arg("-p")
        .arg(folder)
        .arg("-c")
        .arg(configuration)
        .args(["-g", "daemon off;"])
        .stdin(Stdio::null())
        .spawn()?;
    wait("nginx listens", || {
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("nginx ended with {status}")));
        }
        Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
    })?;
    Ok(child)
}
