//! Another program under the same pid, when the executable's file has been replaced.
//!
//! First the new program is asked to check the configuration, in a process of its own: if it refuses, or cannot even
//! run, nothing has happened. Then the master turns into it, and hands over its listening sockets and what it holds of
//! the processes that serve. Those go on as [`elders`](crate::elders) of the new program until its own workers are
//! ready.

use crate::cli::Exit;
use crate::config::Names;
use crate::control::{self, Outcome, Scope};
use crate::elders::Elder;
use crate::listen::{Inherited, Listener};
use crate::master::Master;
use crate::output::{self, Held, Output};
use crate::pool::{Place, Pool};
use crate::spawn;
use crate::token::Token;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use preforkd_plan::pool::Phase;
use preforkd_plan::time::Time;
use preforkd_sys::children::{self, Death};
use preforkd_sys::parking::Parking;
use preforkd_sys::{clock, handover};
use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// How long the new program may take to check the configuration.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// The file this program was started from, and how.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    stamp: Option<Stamp>,
    arguments: Vec<OsString>,
}

/// What tells one file from the one that takes its place: device, inode, time of change in seconds and nanoseconds.
type Stamp = (u64, u64, i64, i64);

impl Program {
    /// To be called at start: before anybody replaces the file, and before a title is written over the arguments.
    #[must_use]
    pub fn this() -> Self {
        let path = std::env::current_exe().unwrap_or_default();
        let stamp = stamp(&path);
        let arguments = std::env::args_os().collect();
        Self {
            path,
            stamp,
            arguments,
        }
    }

    fn file(&self) -> io::Result<CString> {
        Ok(CString::new(self.path.clone().into_os_string().into_vec())?)
    }

    /// The arguments, with `first` as the first one after the program's name.
    fn arguments(&self, first: Option<&str>) -> io::Result<Vec<CString>> {
        let mut arguments = self.arguments.clone();
        if let Some(first) = first {
            arguments.insert(arguments.len().min(1), first.into());
        }
        let arguments = arguments.into_iter();
        arguments
            .map(|argument| Ok(CString::new(argument.into_vec())?))
            .collect()
    }

    /// Whether another file is there now.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        stamp(&self.path).is_some_and(|now| Some(now) != self.stamp)
    }
}

fn stamp(path: &std::path::Path) -> Option<Stamp> {
    let data = fs::metadata(path).ok()?;
    Some((data.dev(), data.ino(), data.mtime(), data.mtime_nsec()))
}

/// The new program, checking the configuration.
#[derive(Debug)]
pub struct Check {
    pid: Pid,
    /// What the names in the configuration stand for.
    names: Names,
    output: [Output; 2],
    said: Held,
    /// When it is killed.
    deadline: Time,
}

impl Check {
    /// Ends it. One that is gone already is reaped in its time.
    pub fn kill(&self) {
        children::signal(self.pid, Signal::SIGKILL);
    }
}

/// What the program before left.
#[derive(Debug, Default)]
pub struct Heritage {
    /// The listening sockets.
    pub listeners: Vec<Inherited>,
    /// The processes that serve.
    pub elders: Vec<Elder>,
    /// The generation of each pool.
    pub generations: BTreeMap<String, u32>,
    /// The socket for commands, and who waits for the end of one.
    pub control: Option<OwnedFd>,
    /// See there.
    pub clients: Vec<(OwnedFd, control::State)>,
    /// What the names in the configuration stand for, as far as the program before knew.
    pub names: Names,
}

impl Heritage {
    /// What the program before left, if there was one. To be called before anything else is opened.
    ///
    /// # Errors
    /// It cannot be understood.
    pub fn take() -> io::Result<Option<Self>> {
        let Some((text, fds)) = handover::take()? else {
            return Ok(None);
        };
        let mut fds: Vec<Option<OwnedFd>> = fds.into_iter().map(Some).collect();
        let mut heritage = Self::default();
        for line in text
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            heritage
                .add(line, &mut fds)
                .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        }
        Ok(Some(heritage))
    }

    fn add(&mut self, line: &[u8], fds: &mut [Option<OwnedFd>]) -> Option<()> {
        let mut words = line.splitn(6, |&byte| byte == b' ');
        let kind = words.next()?;
        let mut word = || words.next().and_then(|word| std::str::from_utf8(word).ok());
        let mut take = |word: &str| fds.get_mut(word.parse::<usize>().ok()?)?.take();
        match kind {
            b"listener" => {
                let socket = take(word()?)?;
                let is_ours = word()? == "ours";
                let ends = word().and_then(&mut take).zip(word().and_then(&mut take));
                let parking = ends.map(|(ours, theirs)| {
                    Place::of(Parking::from_fd(ours), Parking::from_fd(theirs))
                });
                self.listeners.push(Inherited {
                    socket,
                    is_ours,
                    parking,
                });
            }
            b"process" => {
                let pid = Pid::from_raw(word()?.parse().ok()?);
                let control = take(word()?);
                let (out, err) = (word()?, word()?);
                let output = match (take(out), take(err)) {
                    (Some(out), Some(err)) => Some([Output::new(out), Output::new(err)]),
                    _ => None,
                };
                let pool = word()?.to_owned();
                self.elders.push(Elder::new(pid, pool, control, output));
            }
            b"group" => {
                let pid = Pid::from_raw(word()?.parse().ok()?);
                let mut elders = self.elders.iter_mut();
                elders.find(|elder| elder.is(pid))?.lead_group();
            }
            b"generation" => {
                let generation = word()?.parse().ok()?;
                // The rest of the line: a name may have spaces.
                let rest = line.splitn(3, |&byte| byte == b' ').nth(2)?;
                let pool = String::from_utf8(rest.to_vec()).ok()?;
                self.generations.insert(pool, generation);
            }
            b"control" => self.control = Some(take(word()?)?),
            b"names" => {
                let mut text = Vec::new();
                let mut file = File::from(take(word()?)?);
                file.rewind().ok()?;
                file.read_to_end(&mut text).ok()?;
                self.names = Names::read(&text)?.reopened();
            }
            b"client" => {
                let client = take(word()?)?;
                let state = word()?;
                let name = line.splitn(4, |&byte| byte == b' ').nth(3)?;
                // Who waits in a way that this program does not know sees the end of the connection.
                if let Some(state) =
                    control::State::from_word(state, std::str::from_utf8(name).ok()?)
                {
                    self.clients.push((client, state));
                }
            }
            // Of a later program, which this one takes the place of again.
            _ => {}
        }
        Some(())
    }
}

/// What is written for a successor.
#[derive(Debug, Default)]
pub struct Testament<'a> {
    text: String,
    keep: Vec<BorrowedFd<'a>>,
}

impl<'a> Testament<'a> {
    fn fd(&mut self, fd: BorrowedFd<'a>) -> usize {
        self.keep.push(fd);
        self.keep.len() - 1
    }

    fn number(&mut self, fd: Option<BorrowedFd<'a>>) -> String {
        fd.map_or_else(|| "-".to_owned(), |fd| self.fd(fd).to_string())
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _ = self.text.write_fmt(line);
        self.text.push('\n');
    }

    /// A listening socket.
    pub fn listener(&mut self, listener: &'a Listener) {
        let socket = self.fd(listener.socket().as_fd());
        let whose = if listener.was_bound_here() {
            "ours"
        } else {
            "given"
        };
        let parking = listener.known_parking();
        let [ours, theirs] = [
            parking.map(|place| place.ours().as_fd()),
            parking.map(|place| place.theirs().as_fd()),
        ]
        .map(|end| self.number(end));
        self.line(format_args!("listener {socket} {whose} {ours} {theirs}"));
    }

    /// The socket for commands.
    pub fn control(&mut self, listener: &'a Listener) {
        let socket = self.fd(listener.socket().as_fd());
        self.line(format_args!("control {socket}"));
    }

    /// Who waits for the end of one, how, and for which pool.
    pub fn client(&mut self, client: BorrowedFd<'a>, waits: &str, pool: &str) {
        let client = self.fd(client);
        self.line(format_args!("client {client} {waits} {pool}"));
    }

    /// What the names in the configuration stand for, in a file.
    fn names(&mut self, file: BorrowedFd<'a>) {
        let file = self.fd(file);
        self.line(format_args!("names {file}"));
    }

    /// The last generation of a pool.
    pub fn generation(&mut self, pool: &str, generation: u32) {
        self.line(format_args!("generation {generation} {pool}"));
    }

    /// A process; without a channel it has been told to leave. What is in a group that it leads ends with it.
    pub fn process(
        &mut self,
        pool: &str,
        pid: Pid,
        control: Option<BorrowedFd<'a>>,
        output: Option<&'a [Output; 2]>,
        leads_group: bool,
    ) {
        let output = output.map(|[out, err]| [out.pipe(), err.pipe()]);
        let [out, err] = output.map_or([None; 2], |output| output.map(Some));
        let [control, out, err] = [control, out, err].map(|fd| self.number(fd));
        self.line(format_args!("process {pid} {control} {out} {err} {pool}"));
        if leads_group {
            self.line(format_args!("group {pid}"));
        }
    }
}

impl Master {
    /// Asks the new program whether it can take over.
    pub fn check_program(&mut self, names: Names) {
        tracing::info!("the program has changed: {}", self.program.path.display());
        let program = &self.program;
        let begun = program
            .arguments(Some("-t"))
            .and_then(|arguments| spawn::check(&program.file()?, &arguments));
        let (pid, output) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                let why = format!("cannot start the new program: {error}");
                self.reload_failed(&Scope::All, &Outcome::logged(Exit::Config, why));
                return;
            }
        };
        let token = |stream| Token::CheckOutput { stream };
        // Else what it says is read at its end.
        let _ = output::watch(&self.common.epoll, &output, token);
        self.check = Some(Check {
            pid,
            names,
            output,
            said: Held::default(),
            deadline: Time(clock::now()) + CHECK_TIMEOUT,
        });
    }

    /// The new program says something.
    pub fn check_output(&mut self, stream: u8) {
        let Some(check) = &mut self.check else { return };
        let said = &mut check.said;
        if let Some(output) = check.output.get_mut(usize::from(stream))
            && !output.take(&mut |line| said.push(1, line))
        {
            let _ = self.common.epoll.delete(output.pipe());
        }
    }

    /// When a new program that does not answer is killed.
    pub fn check_deadline(&self) -> Option<Time> {
        self.check.as_ref().map(|check| check.deadline)
    }

    /// Kills a new program that does not answer.
    pub fn settle_check(&mut self) {
        if let Some(check) = &mut self.check
            && check.deadline <= Time(clock::now())
        {
            check.deadline = check.deadline + CHECK_TIMEOUT;
            check.kill();
        }
    }

    /// A process has died. Returns whether it was the new program, in which case what follows has been done.
    pub fn check_reaped(&mut self, pid: Pid, death: Death) -> bool {
        let Some(mut check) = self.check.take_if(|check| check.pid == pid) else {
            return false;
        };
        if self.phase != Phase::Running {
            return true;
        }
        if death == Death::Exited(0) {
            self.become_successor(&check.names);
            return true;
        }
        let said = &mut check.said;
        for output in &mut check.output {
            output.drain(&mut |line| said.push(1, line));
        }
        let mut why = String::new();
        for line in check.said.lines() {
            why += &format!("the new program says: {}\n", line.text());
        }
        why += &format!("the new program refuses to take over: it {death}");
        self.reload_failed(&Scope::All, &Outcome::logged(Exit::Config, why));
        true
    }

    /// Returns only if that fails.
    fn become_successor(&mut self, names: &Names) {
        let error = match self.try_to_become_successor(names) {
            Ok(error) | Err(error) => error,
        };
        let why = format!("cannot become the new program: {error}");
        self.reload_failed(&Scope::All, &Outcome::logged(Exit::Software, why));
    }

    fn try_to_become_successor(&mut self, names: &Names) -> io::Result<io::Error> {
        let bound = self.sockets_to_come(names)?;
        let mut known = File::from(memfd_create(c"preforkd-names", MFdFlags::MFD_CLOEXEC)?);
        known.write_all(&names.written())?;
        for pool in self.pools.values_mut() {
            pool.put_back_connections(&self.common);
        }
        // What nobody takes over is closed by the kernel when the new program begins.
        for pool in self.pools.values().filter(|pool| pool.is_leaving()) {
            let has_heir = |(_, other): (_, &Pool)| pool.heir(other).connections;
            if !self.current().any(has_heir) {
                pool.discard_parked();
            }
        }
        let mut testament = Testament::default();
        // First: one of the same name that a pool has cannot be reached any more, and the program takes the first.
        for listener in &bound {
            testament.listener(listener);
        }
        for pool in self.pools.values() {
            pool.bequeath(&mut testament);
        }
        self.elders.bequeath(&mut testament);
        self.control.bequeath(&mut testament);
        testament.names(known.as_fd());
        let program = self.program.file()?;
        let arguments = self.program.arguments(None)?;
        tracing::info!(
            "reloading: execvp(\"{}\", {{{}}})",
            self.program.path.display(),
            arguments
                .iter()
                .map(|argument| format!("\"{}\"", argument.to_string_lossy()))
                .collect::<Vec<_>>()
                .join(", ")
        );
        let own = std::env::vars_os().filter(|(name, _)| name != handover::VARIABLE);
        let environment = spawn::variables(own)?;
        let signals = &mut self.signals;
        Ok(handover::exec(
            &program,
            &arguments,
            environment,
            testament.text.as_bytes(),
            &testament.keep,
            || signals.pending().collect(),
        ))
    }

    /// The sockets of the configuration that no pool which goes on listens on, bound while there is still a way back.
    fn sockets_to_come(&self, names: &Names) -> io::Result<Vec<Listener>> {
        let Ok(config) = (self.read)(names) else {
            // The new program understands it.
            return Ok(Vec::new());
        };
        let mut bound = Vec::new();
        for pool in &config.pools {
            for address in [&pool.listen].into_iter().chain(&pool.status_listen) {
                if self
                    .current()
                    .any(|(_, old)| old.listener_on(address).is_some())
                {
                    continue;
                }
                bound.push(self.share_or_open(pool, address)?);
            }
        }
        Ok(bound)
    }
}
