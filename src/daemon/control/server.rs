//! The master's side: who has connected, and what they wait for.

use super::wire::{MAX_REQUEST, Outcome, Reply, Scope};
use crate::cli::Exit;
use crate::listen::{self, Error, Listener};
use crate::token::Token;
use crate::upgrade::Testament;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Uid;
use preforkd_sys::channel::Channel;
use preforkd_sys::fds;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Clients at one time.
pub const MOST: usize = 32;

/// Clients that tokens can tell apart.
const MAX_CLIENTS: u32 = 1 << 28;

/// What a client waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It has not said what it wants.
    Silent,
    /// A reload that has not begun.
    Asked(Scope),
    /// The one that goes on.
    Reloading,
    /// This program took the place of another one for it, and its pools have not come up yet.
    Upgraded,
}

impl State {
    /// As a word for another program, behind which the name of a pool may follow.
    #[must_use]
    fn word(&self) -> (&'static str, &str) {
        match self {
            Self::Silent => ("silent", ""),
            Self::Asked(Scope::All) => ("all", ""),
            Self::Asked(Scope::Pool(name)) => ("pool", name),
            Self::Reloading | Self::Upgraded => ("upgraded", ""),
        }
    }

    /// Reads what [`Self::word`] says.
    #[must_use]
    pub fn from_word(word: &str, name: &str) -> Option<Self> {
        match word {
            "silent" => Some(Self::Silent),
            "all" => Some(Self::Asked(Scope::All)),
            "pool" => Some(Self::Asked(Scope::Pool(name.to_owned()))),
            "upgraded" => Some(Self::Upgraded),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Client {
    channel: Channel,
    state: State,
}

/// The socket and the clients.
#[derive(Debug, Default)]
pub struct Control {
    path: Option<PathBuf>,
    listener: Option<Listener>,
    /// By the number that tokens have, the oldest first.
    clients: BTreeMap<u32, Client>,
    next: u32,
}

impl Control {
    /// Listens on `path`, if there is one, with the socket of the program before if that has the path.
    ///
    /// # Errors
    /// As [`listen::control`].
    pub fn open(path: Option<PathBuf>, before: Option<OwnedFd>) -> Result<Self, Error> {
        let listener = listen::control(path.as_deref(), before)?;
        Ok(Self {
            path,
            listener,
            ..Self::default()
        })
    }

    /// Has no socket on `path`, where it should listen.
    #[must_use]
    pub fn without(path: Option<PathBuf>) -> Self {
        Self {
            path,
            ..Self::default()
        }
    }

    /// Takes over `clients` of the program before, and watches everybody.
    ///
    /// # Errors
    /// The socket cannot be watched.
    pub fn begin(&mut self, clients: Vec<(OwnedFd, State)>, epoll: &Epoll) -> io::Result<()> {
        self.watch(epoll)?;
        for (fd, state) in clients {
            self.add(fd, state, epoll);
        }
        // Edge-triggered: those that came before the watch are no event.
        self.accept(epoll);
        Ok(())
    }

    fn watch(&self, epoll: &Epoll) -> io::Result<()> {
        if let Some(listener) = &self.listener {
            // Edge-triggered: a connection that cannot be accepted, for want of descriptors, must not wake the master
            // again and again.
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
            let event = EpollEvent::new(flags, Token::Control.into());
            epoll.add(listener.socket(), event)?;
        }
        Ok(())
    }

    /// A socket for the path that a new configuration names, which [`Self::adopt`] takes; none if this one has the path, and
    /// nobody has removed it. Where it was removed and cannot be had anew, that is logged: pools need no commands.
    ///
    /// # Errors
    /// As [`listen::control`], if the path is another one.
    pub fn prepare(&self, path: Option<PathBuf>) -> Result<Option<Self>, Error> {
        if path != self.path {
            return Self::open(path, None).map(Some);
        }
        let listener = self.listener.as_ref();
        if path.is_none() || listener.is_some_and(Listener::can_be_reached) {
            return Ok(None);
        }
        let opened = Self::open(path, None);
        Ok(opened.map_err(|error| tracing::error!("{error}")).ok())
    }

    /// Listens on another socket from now on. The clients stay.
    pub fn adopt(&mut self, other: Option<Self>, epoll: &Epoll) {
        let Some(Self { path, listener, .. }) = other else {
            return;
        };
        self.accept(epoll);
        if let Some(old) = &self.listener {
            let _ = epoll.delete(old.socket());
        }
        (self.path, self.listener) = (path, listener);
        if let Err(error) = self.watch(epoll) {
            tracing::error!("cannot take commands: {error}");
        }
        self.accept(epoll);
    }

    /// Takes in those who have come.
    pub fn accept(&mut self, epoll: &Epoll) {
        while let Some(listener) = &self.listener
            && let Ok(client) = fds::accept(listener.socket().as_fd())
        {
            if !is_allowed(client.as_fd()) {
                let text = "only root and the master's own user may tell it what to do";
                refuse(client, text);
                continue;
            }
            if self.clients.len() >= MOST && !self.remove_silent(epoll) {
                refuse(client, "too many others wait for reloads");
                continue;
            }
            self.add(client, State::Silent, epoll);
        }
    }

    /// Removes the one that has been silent for the longest time. Returns whether there is one.
    fn remove_silent(&mut self, epoll: &Epoll) -> bool {
        let mut clients = self.clients.iter();
        let silent = clients.find(|(_, client)| client.state == State::Silent);
        let Some(number) = silent.map(|(number, _)| *number) else {
            return false;
        };
        self.remove(number, epoll);
        true
    }

    fn add(&mut self, client: OwnedFd, state: State, epoll: &Epoll) {
        let number = self.next;
        let token = Token::Client { client: number };
        let event = EpollEvent::new(EpollFlags::EPOLLIN, token.into());
        if epoll.add(&client, event).is_ok() {
            self.next = (number + 1) % MAX_CLIENTS;
            let channel = Channel::from_fd(client);
            self.clients.insert(number, Client { channel, state });
        }
    }

    fn remove(&mut self, number: u32, epoll: &Epoll) {
        if let Some(client) = self.clients.remove(&number) {
            // A child that is being forked may still have a copy.
            let _ = epoll.delete(&client.channel);
        }
    }

    /// A client says something, or has gone. Who has asked and goes before the reload has begun has not asked.
    pub fn hear(&mut self, number: u32, epoll: &Epoll) {
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        let mut buffer = [0; MAX_REQUEST];
        let heard = match client.channel.try_receive(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Ok(received) => Scope::decode(&buffer[..received.length]),
            Err(_) => None,
        };
        match heard {
            Some(scope) if client.state == State::Silent => {
                client.state = State::Asked(scope);
                if client.channel.send(&Reply::Heard.encode(), &[]).is_ok() {
                    return;
                }
            }
            Some(_) | None => {}
        }
        self.remove(number, epoll);
    }

    /// What the one who waits for the longest time wants.
    #[must_use]
    pub fn wanted(&self) -> Option<Scope> {
        let mut states = self.clients.values().map(|client| &client.state);
        states.find_map(|state| match state {
            State::Asked(scope) => Some(scope.clone()),
            State::Silent | State::Reloading | State::Upgraded => None,
        })
    }

    /// A reload begins: all who want it wait for this one.
    pub fn begins(&mut self, scope: &Scope) {
        for client in self.clients.values_mut() {
            if matches!(&client.state, State::Asked(wanted) if wanted == scope) {
                client.state = State::Reloading;
            }
        }
    }

    /// Tells those who wait what has come of it.
    pub fn tell(&mut self, waits: impl Fn(&State) -> bool, outcome: &Outcome, epoll: &Epoll) {
        let message = Reply::Over(outcome.clone()).encode();
        for (_, client) in self
            .clients
            .extract_if(.., |_, client| waits(&client.state))
        {
            // Who does not take it has gone, or has no room for two small messages.
            let _ = client.channel.send(&message, &[]);
            let _ = epoll.delete(&client.channel);
        }
    }

    /// Leaves the socket and the clients to another program.
    pub fn bequeath<'a>(&'a self, testament: &mut Testament<'a>) {
        let listener = self.listener.as_ref();
        // Another program binds one that has lost its name anew.
        if let Some(listener) = listener.filter(|listener| listener.can_be_reached()) {
            testament.control(listener);
        }
        for client in self.clients.values() {
            let (word, name) = client.state.word();
            testament.client(client.channel.as_fd(), word, name);
        }
    }
}

/// Whether who has connected may tell this process what to do: root, and who could signal it as well.
fn is_allowed(client: BorrowedFd<'_>) -> bool {
    let peer = getsockopt(&client, PeerCredentials).map(|peer| Uid::from_raw(peer.uid()));
    peer.is_ok_and(|uid| uid.is_root() || uid == Uid::effective())
}

fn refuse(client: OwnedFd, text: &str) {
    let over = Reply::Over(Outcome::new(Exit::Unavailable, text));
    // Who does not hear it sees the end.
    let _ = Channel::from_fd(client).send(&over.encode(), &[]);
}
