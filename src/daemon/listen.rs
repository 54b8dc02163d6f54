//! The listening sockets of the pools.
//!
//! A socket that systemd passed is used for the pool that listens on its address. Any other is bound here: a Unix
//! socket with its permissions from the first moment on, and only after nobody was found to listen on its path.

mod connections;

use crate::config::{self, Acl, Listen};
use crate::pool::Place;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, fcntl, open as open_file};
use nix::libc;
use nix::sys::socket::sockopt::{AcceptConn, Ipv6V6Only, PeerCredentials, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, UnixAddr, bind, connect,
    getsockname, getsockopt, listen, setsockopt, socket,
};
use nix::sys::stat::{Mode, fstat, umask};
use nix::unistd::{Gid, Pid, Uid, fchownat};
use preforkd_sys::orphans;
use preforkd_sys::queue::Target;
use preforkd_sys::{acl, children};
use std::fs::Permissions;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Why a pool cannot listen.
#[derive(Debug, Error)]
pub enum Error {
    /// Somebody answers on the address.
    #[error("Another FPM instance seems to already listen on {0}")]
    Taken(String),
    /// Something that is not a socket is in the way.
    #[error(
        "unable to bind listening socket for address '{0}': there is a file that is not a socket"
    )]
    NotASocket(String),
    /// The system refuses.
    #[error("unable to bind listening socket for address '{address}': {} ({})", error.desc(), *error as i32)]
    System {
        /// The address as configured.
        address: String,
        /// Why.
        error: Errno,
    },
}

/// A pool's listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    /// Whether it was bound here, or by the program before; else the service manager has it as well.
    is_ours: bool,
    file: Option<Arc<SocketFile>>,
    /// Where connections to it are parked; None as long as no pool has wanted that.
    parking: Option<Place>,
}

/// The file of a Unix socket that was bound here. The last one who gives the socket up removes it, also when binding goes
/// on to fail. Children and successors of this process give nothing up: they leave by `_exit` or exec.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> Option<Arc<Self>> {
        let identity = identity(path)?;
        let path = path.to_path_buf();
        Some(Arc::new(Self { path, identity }))
    }

    /// Whether nobody has put another in its place.
    fn is_there(&self) -> bool {
        identity(&self.path) == Some(self.identity)
    }

    /// Gives the file its mode and its owner and group, or lets those in that its list names. That is done to the file
    /// itself: whoever may write to its folder could put a link to another one in its place at any time.
    fn dress(&self, pool: &config::Pool) -> io::Result<()> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = open_file(&self.path, flags, Mode::empty())?;
        let data = fstat(&file)?;
        if (data.st_dev, data.st_ino) != self.identity || data.st_nlink != 1 {
            return Err(Errno::ESTALE.into());
        }
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        let name = Path::new(&name);
        if pool.listen_acl.is_none() {
            acl::clear(name)?;
        }
        std::fs::set_permissions(name, Permissions::from_mode(pool.listen_mode))?;
        let (owner, group) = match &pool.listen_acl {
            Some(Acl { users, groups }) => {
                acl::admit(name, pool.listen_mode, users, groups)?;
                (None, None)
            }
            None => (pool.listen_owner, pool.listen_group),
        };
        // Also when none is set: the configuration before may have given it away.
        let owner = owner.unwrap_or_else(Uid::effective);
        let group = group.unwrap_or_else(|| self.group_of_new());
        if (owner.as_raw(), group.as_raw()) != (data.st_uid, data.st_gid) {
            let (owner, group) = (Some(owner), Some(group));
            fchownat(&file, c"", owner, group, AtFlags::AT_EMPTY_PATH)?;
        }
        Ok(())
    }

    /// The group that the system gives to a file made in its folder.
    fn group_of_new(&self) -> Gid {
        let folder = self.path.parent().and_then(|folder| folder.metadata().ok());
        let folder = folder.filter(|folder| folder.mode() & libc::S_ISGID != 0);
        folder.map_or_else(Gid::effective, |folder| Gid::from_raw(folder.gid()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_there() {
            // Gone already is as good.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// The socket, not blocking.
    #[must_use]
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Whether this program bound it, or the one before; else it is the service manager's.
    #[must_use]
    pub fn was_bound_here(&self) -> bool {
        self.is_ours
    }

    /// The same socket for another generation of the pool, with a descriptor of its own.
    ///
    /// # Errors
    /// EMFILE.
    pub fn share(&self) -> io::Result<Self> {
        Ok(Self {
            socket: self.socket.try_clone()?,
            is_ours: self.is_ours,
            file: self.file.clone(),
            parking: self.parking.clone(),
        })
    }

    /// Whether the two are one socket.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let inode = |listener: &Self| fstat(&listener.socket).map(|data| data.st_ino);
        matches!((inode(self), inode(other)), (Ok(this), Ok(that)) if this == that)
    }

    /// Whether somebody may come to it, or could again: not to a Unix socket that has lost its name.
    #[must_use]
    pub fn can_be_reached(&self) -> bool {
        match &self.file {
            Some(file) => file.is_there(),
            None => {
                !self.is_ours
                    || Target::of(self.socket.as_fd()).is_ok_and(|kind| kind == Target::Tcp)
            }
        }
    }

    /// Where connections to it are parked.
    ///
    /// # Errors
    /// EMFILE.
    pub fn parking(&mut self) -> io::Result<&Place> {
        match &mut self.parking {
            Some(place) => Ok(place),
            none => Ok(none.insert(Place::new()?)),
        }
    }

    /// Where connections to it are parked, if there is such a place.
    #[must_use]
    pub fn known_parking(&self) -> Option<&Place> {
        self.parking.as_ref()
    }

    /// Connections to it are to be parked in another place from the next generation on.
    pub fn forget_parking(&mut self) {
        self.parking = None;
    }

    /// Lets nobody new come, when nobody goes on with it; who waits to be accepted goes on waiting. A Unix socket loses
    /// its name, and on a TCP port the kernel leaves unanswered what finds somebody waiting, and asks again a second
    /// later. To a socket of the service manager's they may come: it keeps them for whoever is next.
    pub fn shut_door(&mut self) {
        if self.is_ours && self.file.take().is_none() {
            // It listens, so it can.
            let _ = Backlog::new(0).and_then(|none| listen(&self.socket, none));
        }
    }

    /// Gives a socket that goes on listening what a new configuration says of it.
    ///
    /// # Errors
    /// The system refuses.
    pub fn adjust(&self, pool: &config::Pool) -> io::Result<()> {
        listen(&self.socket, backlog(pool))?;
        match &self.file {
            Some(file) => file.dress(pool),
            None => Ok(()),
        }
    }
}

/// A socket that was listened on before this program began.
#[derive(Debug)]
pub struct Inherited {
    /// The socket.
    pub socket: OwnedFd,
    /// Whether the program before, under this pid, bound it; else the service manager did, and keeps its file.
    pub is_ours: bool,
    /// Where connections to it are parked, if the program before had such a place.
    pub parking: Option<Place>,
}

impl Inherited {
    /// Closes it: it is no pool's. Its file goes with it, unless that is of one of those that are `used`, and was bound
    /// after this one's had been removed.
    pub fn close<'a>(self, used: impl Iterator<Item = &'a Listener>) {
        let bound = getsockname::<UnixAddr>(self.socket.as_raw_fd()).ok();
        let path = bound.as_ref().and_then(UnixAddr::path);
        let mut files = used.filter_map(|listener| listener.file.as_ref());
        let is_used = files.any(|file| Some(&*file.path) == path);
        tracing::info!(
            "closing inherited socket fd={}, which the configuration does not have",
            self.socket.as_raw_fd()
        );
        if let Some(path) = path.filter(|_| self.is_ours && !is_used) {
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
        }
        if let Some(place) = self.parking {
            place.give_up();
        }
    }
}

/// The listening sockets of a pool.
#[derive(Debug)]
pub struct Sockets {
    /// For requests (`listen`).
    pub requests: Listener,
    /// For its status alone (`pm.status_listen`).
    pub status: Option<Listener>,
}

impl Sockets {
    /// All sockets of `pool`, each of which `open` opens; none if one cannot be.
    ///
    /// # Errors
    /// The one of `open`.
    pub fn open<E>(
        pool: &config::Pool,
        mut open: impl FnMut(&Listen) -> Result<Listener, E>,
    ) -> Result<Self, E> {
        Ok(Self {
            requests: open(&pool.listen)?,
            status: pool.status_listen.as_ref().map(open).transpose()?,
        })
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Listener> {
        [&self.requests].into_iter().chain(&self.status)
    }
}

/// Listens on an address of `pool`, with the first of `inherited` that has the address, if there is one.
///
/// # Errors
/// See [`Error`].
pub fn open(
    pool: &config::Pool,
    listen: &Listen,
    inherited: &mut Vec<Inherited>,
) -> Result<Listener, Error> {
    let address = listen.to_string();
    let system = |error| Error::System {
        address: address.clone(),
        error,
    };
    let listener = match inherited
        .iter()
        .position(|inherited| listens_on(&inherited.socket, listen))
    {
        Some(index) => {
            let Inherited {
                socket,
                is_ours,
                parking,
            } = inherited.remove(index);
            tracing::info!(
                "using inherited socket fd={}, \"{address}\"",
                socket.as_raw_fd()
            );
            let file = match listen {
                Listen::Unix(path) if is_ours => SocketFile::at(path),
                _ => None,
            };
            let listener = Listener {
                socket,
                is_ours,
                file,
                parking,
            };
            if is_ours && let Err(error) = listener.adjust(pool) {
                tracing::warn!("cannot adjust the socket '{address}': {error}");
            }
            listener
        }
        None => match listen {
            Listen::Unix(path) => unix(pool, path, &address)?,
            Listen::Tcp(address) => tcp(pool, listen, *address).map_err(system)?,
            Listen::Port(port) => match tcp(
                pool,
                listen,
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port)),
            ) {
                Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => tcp(
                    pool,
                    listen,
                    SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port)),
                )
                .map_err(system)?,
                other => other.map_err(system)?,
            },
        },
    };
    fcntl(listener.socket(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(system)?;
    if !matches!(listen, Listen::Unix(_)) {
        connections::prepare(listener.socket()).map_err(system)?;
    }
    Ok(listener)
}

/// The same when there is nobody to serve yet: also where the workers of a master that was killed still have the TCP
/// port, with their socket, and with whoever waits there.
///
/// # Errors
/// See [`Error`].
pub fn open_at_start(
    pool: &config::Pool,
    listen: &Listen,
    inherited: &mut Vec<Inherited>,
) -> Result<Listener, Error> {
    match open(pool, listen, inherited) {
        Err(Error::System {
            address,
            error: Errno::EADDRINUSE,
        }) => {
            let error = Errno::EADDRINUSE;
            let Some(socket) = of_orphans(pool, listen) else {
                return Err(Error::System { address, error });
            };
            tracing::info!("taking over {address} from the workers of a master that is dead");
            inherited.push(Inherited {
                socket,
                is_ours: true,
                parking: None,
            });
            open(pool, listen, inherited)
        }
        other => other,
    }
}

/// What the workers of a dead master have of an address, if they are of the user of `pool`.
fn of_orphans(pool: &config::Pool, listen: &Listen) -> Option<OwnedFd> {
    let identity = pool.identity.as_ref();
    let user = identity.map_or_else(Uid::effective, |identity| identity.uid);
    let any = |port| {
        [
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        ]
    };
    let addresses = match listen {
        Listen::Unix(_) => Vec::new(),
        Listen::Tcp(address) => vec![*address],
        Listen::Port(port) => any(*port).to_vec(),
    };
    let mut found = addresses
        .into_iter()
        .filter_map(|address| orphans::listener_on(address, user));
    // Whoever had it may have put another in its place.
    found.find(|socket| listens_on(socket, listen))
}

fn listens_on(socket: &OwnedFd, address: &Listen) -> bool {
    if getsockopt(socket, AcceptConn) != Ok(true) {
        return false;
    }
    let Ok(bound) = getsockname::<SockaddrStorage>(socket.as_raw_fd()) else {
        return false;
    };
    let inet = match (bound.as_sockaddr_in(), bound.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::from((v4.ip(), v4.port()))),
        (_, Some(v6)) => Some(SocketAddr::from((v6.ip(), v6.port()))),
        (None, None) => None,
    };
    match address {
        Listen::Unix(path) => bound.as_unix_addr().and_then(UnixAddr::path) == Some(path),
        Listen::Tcp(address) => inet == Some(*address),
        Listen::Port(port) => {
            inet.is_some_and(|inet| inet.port() == *port && inet.ip().is_unspecified())
        }
    }
}

fn backlog(pool: &config::Pool) -> Backlog {
    // The kernel clamps it to net.core.somaxconn.
    let wanted = pool.backlog.and_then(|wanted| i32::try_from(wanted).ok());
    wanted
        .and_then(|wanted| Backlog::new(wanted).ok())
        .unwrap_or(Backlog::MAXALLOWABLE)
}

fn tcp(pool: &config::Pool, written: &Listen, address: SocketAddr) -> nix::Result<Listener> {
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    if address.is_ipv6() {
        // A bare port means IPv4 as well; a given IPv6 address means what it says.
        setsockopt(&socket, Ipv6V6Only, &!matches!(written, Listen::Port(_)))?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, backlog(pool))?;
    Ok(Listener {
        socket,
        is_ours: true,
        file: None,
        parking: None,
    })
}

fn unix(pool: &config::Pool, path: &Path, address: &str) -> Result<Listener, Error> {
    let system = |error| Error::System {
        address: address.to_owned(),
        error,
    };
    let socket = bind_unix(SockType::Stream, path, pool.listen_mode, address)?;
    let file = SocketFile::at(path);
    let io = |error: io::Error| system(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw));
    match &file {
        Some(file) => file.dress(pool).map_err(io)?,
        None => return Err(system(Errno::ESTALE)),
    }
    listen(&socket, backlog(pool)).map_err(system)?;
    Ok(Listener {
        socket,
        is_ours: true,
        file,
        parking: None,
    })
}

/// A socket whose file nobody gets at for whom `mode` is not meant.
fn bind_unix(kind: SockType, path: &Path, mode: u32, address: &str) -> Result<OwnedFd, Error> {
    let system = |error| Error::System {
        address: address.to_owned(),
        error,
    };
    make_way(kind, path, address)?;
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, kind, flags, None).map_err(system)?;
    let unix_address = UnixAddr::new(path).map_err(system)?;
    let before = umask(Mode::from_bits_truncate(0o777 & !mode));
    let bound = bind(socket.as_raw_fd(), &unix_address);
    umask(before);
    bound.map_err(system)?;
    Ok(socket)
}

/// Listens for commands on `path`, if there is one: with the socket that the program before left if that has the path,
/// else with one of whole messages that only the master's own user, and root, can connect to.
///
/// # Errors
/// See [`Error`].
pub fn control(path: Option<&Path>, before: Option<OwnedFd>) -> Result<Option<Listener>, Error> {
    let address = path.map(|path| Listen::Unix(path.to_path_buf()));
    let is_it = |socket: &OwnedFd| {
        address
            .as_ref()
            .is_some_and(|path| listens_on(socket, path))
    };
    let (same, other) = match before {
        Some(socket) if is_it(&socket) => (Some(socket), None),
        other => (None, other),
    };
    if let Some(socket) = other {
        let is_ours = true;
        Inherited {
            socket,
            is_ours,
            parking: None,
        }
        .close(std::iter::empty());
    }
    let Some(path) = path else { return Ok(None) };
    let name = path.display().to_string();
    let system = |error| Error::System {
        address: name.clone(),
        error,
    };
    let socket = match same {
        Some(socket) => socket,
        None => bind_unix(SockType::SeqPacket, path, 0o600, &name)?,
    };
    let file = SocketFile::at(path);
    listen(&socket, Backlog::MAXCONN).map_err(system)?;
    fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(system)?;
    Ok(Some(Listener {
        socket,
        is_ours: true,
        file,
        parking: None,
    }))
}

/// Removes a socket of this kind that nobody listens on any more.
fn make_way(kind: SockType, path: &Path, address: &str) -> Result<(), Error> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        // Nothing is there; what else is wrong, binding will tell.
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(Error::NotASocket(address.to_owned()));
    }
    let system = |error| Error::System {
        address: address.to_owned(),
        error,
    };
    let probe = socket(
        AddressFamily::Unix,
        kind,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )
    .map_err(system)?;
    match connect(
        probe.as_fd().as_raw_fd(),
        &UnixAddr::new(path).map_err(system)?,
    ) {
        // A master that was killed has left workers that answer who came before. Nobody else is to come to them.
        Ok(()) if has_lost_its_master(&probe) => {
            tracing::info!("taking the place of {address}, whose master is dead");
            // As below.
            let _ = std::fs::remove_file(path);
            Ok(())
        }
        // EAGAIN: somebody listens and has a full queue.
        Ok(()) | Err(Errno::EAGAIN) => Err(Error::Taken(address.to_owned())),
        Err(Errno::ECONNREFUSED) => {
            // If it cannot be removed, binding fails and says why.
            let _ = std::fs::remove_file(path);
            Ok(())
        }
        Err(Errno::ENOENT) => Ok(()),
        // Such as a datagram socket, or one that may not be connected to: whose it is cannot be known.
        Err(error) => Err(system(error)),
    }
}

/// Whether the process that listened on the socket that `probe` is connected to (unix(7), `SO_PEERCRED`) is dead. One
/// that cannot be seen from here lives, and so does one whose pid is another's by now.
fn has_lost_its_master(probe: &OwnedFd) -> bool {
    getsockopt(probe, PeerCredentials)
        .is_ok_and(|listener| listener.pid() > 0 && !children::runs(Pid::from_raw(listener.pid())))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path)
        .ok()
        .map(|metadata| (metadata.dev(), metadata.ino()))
}
