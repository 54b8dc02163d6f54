//! Puts a pool's worker inside of a FastCGI program: what is preloaded into it.
//!
//! The program is started once, with a socket that does not listen as descriptor 0, and loads what it has to load. At
//! its first accept(2) it turns into the pool's mold ([`mold`]), which forks the workers. In each of them the program's
//! accept goes on, into a worker's loop ([`desk`]) as that of any other application, which waits, accepts and reads.
//! Accept returns when there is a request: the program believes that it has a connection. What it reads from that comes
//! out of memory, and what it writes goes from there to the web server. Between two requests nothing is copied, sent or
//! woken that a worker without a program would not.
//!
//! accept, here, and the functions in [`calls`] take the place of the C library's. All but accept look at one number
//! before they do what they always do.

mod calls;
mod desk;
mod mold;
mod worker;

use calls::next;
use desk::Desk;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc::{self, c_char, c_int, c_void, sockaddr, socklen_t, ssize_t};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, socketpair};
use preforkd_sys::title;
use preforkd_worker::message::MOLD_VARIABLE;
use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};

/// The program is to become a mold at its first accept.
static AWAITED: AtomicBool = AtomicBool::new(false);

/// The descriptor that the program takes for its connection; -1 when it has none.
pub(crate) static CONNECTION: AtomicI32 = AtomicI32::new(-1);

/// This process is a worker.
pub(crate) static IS_WORKER: AtomicBool = AtomicBool::new(false);

/// The program has forked children here, which have the connections that it had at the time.
pub(crate) static HAS_FORKED: AtomicBool = AtomicBool::new(false);

/// This process was forked by a worker.
static IS_STRAY: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The worker, once this process is one; in the thread that accepts alone.
    static DESK: RefCell<Option<ManuallyDrop<Desk>>> = const { RefCell::new(None) };
}

/// Runs at the very end of exit(3).
#[used]
#[unsafe(link_section = ".fini_array")]
static FAREWELL: extern "C" fn() = farewell;

extern "C" fn farewell() {
    if !IS_WORKER.load(Ordering::Relaxed) || !worker::is_here() {
        return;
    }
    with_desk(|desk| {
        desk.leave();
        Ok(0)
    });
    worker::end_group();
}

#[used]
#[unsafe(link_section = ".init_array")]
static PREPARE: unsafe extern "C" fn(c_int, *mut *mut c_char) = prepare;

/// Runs when the library has been loaded, before the program's own code. The C library passes what it is going to pass to
/// the program.
///
/// # Safety
/// There are as many `words`, C strings, in a list that may be changed.
unsafe extern "C" fn prepare(count: c_int, words: *mut *mut c_char) {
    if std::env::var_os(MOLD_VARIABLE).is_none() {
        return;
    }
    // SAFETY: no thread has been started yet that could look at the environment meanwhile.
    unsafe { std::env::remove_var(MOLD_VARIABLE) };
    restore_preload();
    // Where its words lie there will be the title of a mold, or of a worker.
    for place in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: it is one of as many; what replaces it is a copy that is never freed.
        unsafe {
            let word = words.add(place);
            let copy = libc::strdup(*word);
            if !copy.is_null() {
                *word = copy;
            }
        }
    }
    title::init();
    mold::take_channel();
    AWAITED.store(true, Ordering::Relaxed);
}

/// Takes this library out of what the program's own children preload: it is the first there.
fn restore_preload() {
    let name = c"LD_PRELOAD".as_ptr();
    // SAFETY: the list is a C string, and so is what follows its first colon. setenv copies it before it puts it in the
    // place of the list.
    unsafe {
        let list: *mut c_char = libc::getenv(name);
        if list.is_null() {
            return;
        }
        let rest = libc::strchr(list, c_int::from(b':'));
        if rest.is_null() {
            libc::unsetenv(name);
        } else {
            libc::setenv(name, rest.add(1), 1);
        }
    }
}

/// accept(2) as programs call it.
///
/// # Safety
/// That of accept(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept(
    socket: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
) -> c_int {
    if !is_ours(socket) {
        // SAFETY: the caller's.
        return unsafe {
            next!(
                accept: fn(c_int, *mut sockaddr, *mut socklen_t) -> c_int;
                socket, address, length
            )
        };
    }
    // SAFETY: the caller vouches for the pointers.
    unsafe { accept_next(address, length, 0) }
}

/// What accept and accept4 do where the worker accepts.
///
/// # Safety
/// That of accept4(2).
unsafe fn accept_next(address: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int {
    let mode = OFlag::from_bits_retain(flags & libc::SOCK_NONBLOCK);
    let fd = with_desk(|desk| next_connection(desk, mode));
    if fd >= 0 {
        // SAFETY: the caller vouches for the pointers: for as many bytes as it says, of which the family is the first.
        unsafe { tell_address(address, length) };
    }
    c_int::try_from(fd).unwrap_or(-1)
}

/// accept4(2) as programs call it. What stands for a connection is never inherited, whatever the flags say.
///
/// # Safety
/// That of accept4(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept4(
    socket: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
    flags: c_int,
) -> c_int {
    if !is_ours(socket) {
        // SAFETY: the caller's.
        return unsafe {
            next!(
                accept4: fn(c_int, *mut sockaddr, *mut socklen_t, c_int) -> c_int;
                socket, address, length, flags
            )
        };
    }
    // SAFETY: the caller's.
    unsafe { accept_next(address, length, flags) }
}

/// Whether a worker accepts for the program. At its first accept the program turns into the mold that it is to be, and
/// goes on in the workers.
fn is_ours(socket: c_int) -> bool {
    if socket == 0 && AWAITED.swap(false, Ordering::Relaxed) {
        let (birth, inheritance) = mold::become_mold();
        IS_WORKER.store(true, Ordering::Relaxed);
        DESK.set(Some(ManuallyDrop::new(worker::begin(birth, inheritance))));
        // SAFETY: it is a function without conditions. It fails for want of memory alone.
        unsafe { libc::pthread_atfork(None, Some(has_forked), Some(is_stray)) };
    }
    socket == 0 && IS_WORKER.load(Ordering::Relaxed)
}

/// Runs in the worker when the program has forked a child.
extern "C" fn has_forked() {
    HAS_FORKED.store(true, Ordering::Relaxed);
}

/// Runs in a child that the program has forked. What the worker does is its parent's: the child has no connection, and
/// finds none that it could accept.
extern "C" fn is_stray() {
    IS_STRAY.store(true, Ordering::Relaxed);
}

/// Waits for a request on what is to the program a new connection.
fn next_connection(desk: &mut Desk, mode: OFlag) -> nix::Result<usize> {
    // What is still open of the last one, or has taken its number after an end that was not by close, is none now.
    CONNECTION.store(-1, Ordering::Relaxed);
    if !desk.accept() {
        // The worker leaves.
        return Err(Errno::EINVAL);
    }
    let connection = stand_in()?;
    // All of them are one to the kernel: this is also what the program has made of the last one.
    fcntl(&connection, FcntlArg::F_SETFL(mode))?;
    let fd = connection.into_raw_fd();
    CONNECTION.store(fd, Ordering::Relaxed);
    Ok(fd.unsigned_abs() as usize)
}

/// What stands for the connection: always readable and writable, so that who waits for either goes on. Who gets past the
/// functions in [`calls`] finds the end of a connection in both directions.
fn stand_in() -> nix::Result<OwnedFd> {
    static PAIR: OnceLock<(OwnedFd, OwnedFd)> = OnceLock::new();
    let pair = match PAIR.get() {
        Some(pair) => pair,
        None => {
            let (unix, flags) = (AddressFamily::Unix, SockFlag::SOCK_CLOEXEC);
            let pair = socketpair(unix, SockType::Stream, None, flags)?;
            nix::sys::socket::shutdown(pair.0.as_raw_fd(), Shutdown::Both)?;
            PAIR.get_or_init(|| pair)
        }
    };
    let copy = fcntl(&pair.1, FcntlArg::F_DUPFD_CLOEXEC(0))?;
    // SAFETY: it was made a moment ago, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Says that the peer is a Unix socket without a name.
///
/// # Safety
/// As accept(2) takes them.
unsafe fn tell_address(address: *mut sockaddr, length: *mut socklen_t) {
    if address.is_null() || length.is_null() {
        return;
    }
    let family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap_or_default();
    // SAFETY: the caller's.
    unsafe {
        if *length >= 2 {
            (*address).sa_family = family;
        }
        *length = 2;
    }
}

/// Whether what this process does to its memory is no other one's: not so in a child of vfork(2).
pub(crate) fn is_on_its_own() -> bool {
    IS_STRAY.load(Ordering::Relaxed) || worker::is_here()
}

/// Whether the program wants to wait where nothing is there to be read.
pub(crate) fn may_wait() -> bool {
    // SAFETY: it is looked at for this call alone; what is no descriptor is an error.
    let flags = unsafe { libc::fcntl(CONNECTION.load(Ordering::Relaxed), libc::F_GETFL) };
    flags < 0 || flags & libc::O_NONBLOCK == 0
}

pub(crate) fn is_connection(fd: c_int) -> bool {
    fd >= 0 && fd == CONNECTION.load(Ordering::Relaxed)
}

/// Has the worker do something. Returns what the program's call does.
pub(crate) fn with_desk(act: impl FnOnce(&mut Desk) -> nix::Result<usize>) -> ssize_t {
    let result = DESK.with(|desk| match desk.try_borrow_mut().as_deref_mut() {
        _ if IS_STRAY.load(Ordering::Relaxed) => Err(Errno::EPIPE),
        Ok(Some(desk)) => act(desk),
        // Another thread has no business here, and neither has a signal's handler while the worker is at work.
        Ok(None) | Err(_) => Err(Errno::EBADF),
    });
    match result {
        Ok(count) => count.cast_signed(),
        Err(error) => {
            error.set();
            -1
        }
    }
}
