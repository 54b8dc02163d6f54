//! The master's side of the status service: it forks it, forks it anew when it dies or pools have changed, and lets it
//! go.

use super::desk::Desk;
use super::orders::{LENGTH, Surplus};
use super::service;
use crate::config::Names;
use crate::output::Output;
use crate::spawn::{c_string, finish, null, output_pipe};
use crate::token::Token;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, chdir, setsid};
use preforkd_plan::respawn::Respawn;
use preforkd_plan::time::Time;
use preforkd_sys::children::{self, Death};
use preforkd_sys::{clock, fork, privileges, title};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// Whom the service runs as when the master is root: a user that owns nothing.
const USER: &str = "nobody";

/// Its number where it has no name: the one the kernel shows for users that do not exist.
const OVERFLOW: u32 = 65534;

/// Messages taken in at one time.
const MESSAGES: usize = 64;

/// How long a service that was told to leave may take: longer than the answers on their way may.
const LEAVES_WITHIN: Duration = Duration::from_secs(2);

/// The status service, if there is to be one.
#[derive(Debug)]
pub struct Supervisor {
    /// Whom it runs as, if it cannot stay what the master is.
    identity: Option<(Uid, Gid)>,
    running: Option<Running>,
    /// Told to leave; each with the instant at which it is killed.
    leaving: Vec<(Pid, Time)>,
    /// When it is to be started, or started anew.
    due: Option<Time>,
    /// It is not started any more.
    ending: bool,
    respawn: Respawn,
    output: Option<(Output, OwnedFd)>,
}

#[derive(Debug)]
struct Running {
    pid: Pid,
    started: Time,
    /// The pools that it answers for, in the order in which it knows them.
    pools: Vec<u32>,
    /// Its end tells the service to leave.
    control: UnixStream,
}

fn now() -> Time {
    Time(clock::now())
}

impl Supervisor {
    /// For no pool yet. Its user is looked up once and for all, since that may wait for a directory service.
    #[must_use]
    pub fn new(names: &Names) -> Self {
        Self {
            identity: identity(names),
            running: None,
            leaving: Vec::new(),
            due: None,
            ending: false,
            respawn: Respawn::default(),
            output: None,
        }
    }

    /// Pools have changed: the service is to know.
    pub fn renew(&mut self) {
        self.due = Some(Time(0));
    }

    /// Everything ends: the service that runs goes on until [`Self::stop`], and is not started any more.
    pub fn end(&mut self) {
        self.ending = true;
        self.due = None;
    }

    /// Whether it is to be started now.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= now())
    }

    /// When it wants to be looked at.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let kill = self.leaving.iter().map(|(_, deadline)| *deadline);
        kill.chain(self.due).min()
    }

    /// Whether no process of it is left.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.running.is_none() && self.leaving.is_empty()
    }

    /// Starts it for these pools, in the place of the one that runs; none is needed for no pool.
    pub fn start(&mut self, desks: Vec<(u32, Desk)>, epoll: &Epoll) {
        self.due = None;
        let before = self.running.take();
        if !desks.is_empty() {
            match self.fork(desks, epoll) {
                Ok(running) => {
                    tracing::debug!("status service {} started", running.pid);
                    self.running = Some(running);
                }
                Err(error) => {
                    tracing::error!("cannot start the status service: {error}");
                    self.running = before;
                    self.back_off();
                    return;
                }
            }
        }
        // Only now, so that somebody answers at any time.
        if let Some(before) = before {
            self.let_go(before);
        }
    }

    /// Tells it to leave.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            self.let_go(running);
        }
    }

    /// Kills who was told to leave and does not.
    pub fn settle(&mut self) {
        for (pid, deadline) in &mut self.leaving {
            if *deadline <= now() {
                // One that is gone already is reaped in its time.
                children::signal(*pid, Signal::SIGKILL);
                *deadline = now() + LEAVES_WITHIN;
            }
        }
    }

    /// A process has died. Returns whether it was the service.
    pub fn reaped(&mut self, pid: Pid, death: Death) -> bool {
        if let Some(running) = self.running.take_if(|running| running.pid == pid) {
            tracing::warn!("the status service, {pid}, {death}");
            self.respawn.survived(now(), running.started, false);
            self.back_off();
            return true;
        }
        let before = self.leaving.len();
        self.leaving.retain(|(left, _)| *left != pid);
        self.leaving.len() < before
    }

    /// It has printed something.
    pub fn take_output(&mut self) {
        if let Some((output, _)) = &mut self.output {
            output.take(&mut |line| tracing::warn!("[status service] {}", line.text()));
        }
    }

    /// Has `count` connections to a pool turned away. Without a service, or while it is slow, they go on waiting.
    pub fn turn_away(&self, pool: u32, count: u32) {
        let Some(running) = &self.running else { return };
        let desk = running.pools.iter().position(|&known| known == pool);
        if let Some(desk) = desk.and_then(|desk| u32::try_from(desk).ok()) {
            let order = Surplus { desk, count };
            // As said above; and the next look comes soon.
            let _ = (&running.control).write(&order.encode());
        }
    }

    /// How many connections to which pool have been turned away since this was last asked.
    pub fn turned_away(&mut self, epoll: &Epoll) -> Vec<(u32, u32)> {
        let mut counts = Vec::new();
        let Some(running) = &self.running else {
            return counts;
        };
        let mut messages = [0; LENGTH * MESSAGES];
        match (&running.control).read(&mut messages) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => {
                // It has died, which will be heard of.
                let _ = epoll.delete(&running.control);
            }
            Ok(length) => {
                let (done, _) = messages[..length].as_chunks();
                for done in done.iter().map(|message| Surplus::decode(*message)) {
                    let pool = running.pools.get(done.desk as usize);
                    counts.extend(pool.map(|pool| (*pool, done.count)));
                }
            }
        }
        counts
    }

    fn back_off(&mut self) {
        self.respawn.failed(now());
        if !self.ending {
            self.due = Some(self.respawn.blocked_until(now()).unwrap_or_else(now));
        }
    }

    fn let_go(&mut self, running: Running) {
        self.leaving.push((running.pid, now() + LEAVES_WITHIN));
    }

    /// One pipe for all services there will be, since the master reads it until its own end.
    fn stderr(&mut self, epoll: &Epoll) -> io::Result<BorrowedFd<'_>> {
        if self.output.is_none() {
            let (reader, writer) = output_pipe()?;
            epoll.add(
                &reader,
                EpollEvent::new(EpollFlags::EPOLLIN, Token::ServiceOutput.into()),
            )?;
            self.output = Some((Output::new(reader), writer));
        }
        let Some((_, writer)) = &self.output else {
            unreachable!("it has just been made");
        };
        Ok(writer.as_fd())
    }

    fn fork(&mut self, desks: Vec<(u32, Desk)>, epoll: &Epoll) -> io::Result<Running> {
        let identity = self.identity;
        let (pools, desks): (Vec<u32>, Vec<Desk>) = desks.into_iter().unzip();
        let desks: Vec<Arc<Desk>> = desks.into_iter().map(Arc::new).collect();
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let token = EpollEvent::new(EpollFlags::EPOLLIN, Token::ServiceControl.into());
        epoll.add(&ours, token)?;
        let null = null()?;
        let stderr = self.stderr(epoll)?;
        let fds = desks.iter().flat_map(|desk| desk.fds());
        let keep: Vec<BorrowedFd<'_>> = fds.chain([theirs.as_fd()]).collect();
        let pid = fork::fork_keeping(&keep, [null.as_fd(), null.as_fd(), stderr], || {
            title::set("preforkd: status service");
            finish(confine(identity).and_then(|()| {
                let control = theirs.try_clone()?;
                service::serve(desks.clone(), control)
            }))
        })?;
        Ok(Running {
            pid,
            started: now(),
            pools,
            control: ours,
        })
    }
}

/// Whom the service runs as, if it cannot stay what the master is. Whoever asks for the names of a configuration asks for
/// this one as well.
pub fn identity(names: &Names) -> Option<(Uid, Gid)> {
    if !Uid::effective().is_root() {
        return None;
    }
    // One that cannot be looked up is as good as one without a name.
    let nobody = names.user(USER).ok().flatten();
    let nobody = nobody.filter(|user| !user.uid.is_root());
    let overflow = (Uid::from_raw(OVERFLOW), Gid::from_raw(OVERFLOW));
    Some(nobody.map_or(overflow, |user| (user.uid, user.gid)))
}

/// Makes this process, which was just forked, one that can do nothing but what it is for.
fn confine(identity: Option<(Uid, Gid)>) -> io::Result<()> {
    setsid()?;
    chdir(c_string("/".as_ref())?.as_c_str())?;
    if let Some((uid, gid)) = identity {
        privileges::become_user(&[gid], uid, gid)?;
    }
    privileges::no_new_privileges()?;
    privileges::set_dumpable(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_over_knows_the_user_of_the_service() {
        let names = Names::default();
        let Some(asked) = identity(&names) else {
            return;
        };
        let there = Names::read(&names.written()).unwrap();
        assert_eq!(identity(&there), Some(asked));
        assert!(there.user(USER).is_ok(), "it would have to be asked for");
    }
}
