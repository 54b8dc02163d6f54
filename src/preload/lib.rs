//! Makes a FastCGI program the mold of its pool: preloaded into a program that is started once, it lets that load what it
//! has to load, and forks it at its first accept(2) on descriptor 0 as often as relays ask for.
//!
//! * The program is started with `LD_PRELOAD` naming this library, [`wire::VARIABLE`], and a socket that does not listen
//!   as descriptor 0: where this library does not get to see the call, the program ends instead of waiting for nobody.
//! * What it was told is taken out of its environment before its own code runs.
//! * At its first accept it turns into the mold ([`mold`]), unless it has started threads, which no fork would copy, or
//!   does not mean to wait in accept.
//! * A forked program returns from there with its relay's listening socket as descriptor 0, into the accept(2) that it
//!   had begun, and this library does nothing any more.
//!
//! It is in programs of others, so that it uses the C library alone, allocates little and does not panic.

mod descriptors;
mod mold;
mod program;
mod signals;
pub mod wire;

use libc::{c_char, c_int, c_void, sockaddr, socklen_t};
use std::ffi::CStr;
use std::mem;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

/// The process that is to become a mold at its first accept; 0 is none.
static AWAITED: AtomicI32 = AtomicI32::new(0);

/// Runs when the library has been loaded, before the program's own code.
#[used]
#[unsafe(link_section = ".init_array")]
static PREPARE: extern "C" fn() = prepare;

extern "C" fn prepare() {
    let name = wire::VARIABLE.as_ptr();
    // SAFETY: the names are C strings. No thread has been started yet that could change the environment meanwhile.
    let told = unsafe { libc::getenv(name) };
    // SAFETY: getenv gives null or a C string, which nobody changes here.
    let is_told = !told.is_null() && unsafe { CStr::from_ptr(told) } == wire::VERSION;
    if !is_told {
        return;
    }
    // SAFETY: as above.
    unsafe { libc::unsetenv(name) };
    restore_preload();
    descriptors::close(wire::LIBRARY_FD);
    let kept = [wire::CONTROL_FD, wire::ORDERS_FD];
    if kept.into_iter().all(descriptors::close_on_exec) {
        // SAFETY: getpid always works.
        AWAITED.store(unsafe { libc::getpid() }, Ordering::Relaxed);
    }
}

/// Takes this library out of what the program's own children preload: it is the first there.
fn restore_preload() {
    let name = c"LD_PRELOAD".as_ptr();
    // SAFETY: as in `prepare`.
    let list: *mut c_char = unsafe { libc::getenv(name) };
    if list.is_null() {
        return;
    }
    // SAFETY: the list is a C string, and so is what follows its first colon. setenv copies it before it puts it in the
    // place of the list.
    unsafe {
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
    static NEXT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
    before_accept(socket);
    // SAFETY: the next accept is the C library's, or that of another library that is preloaded, and has this type. The
    // caller vouches for its pointers.
    unsafe {
        let next: Option<unsafe extern "C" fn(c_int, *mut sockaddr, *mut socklen_t) -> c_int> =
            mem::transmute(next(&NEXT, c"accept"));
        next.map_or(-1, |next| next(socket, address, length))
    }
}

/// accept4(2) as programs call it.
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
    static NEXT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
    before_accept(socket);
    // SAFETY: as in `accept`.
    unsafe {
        let next: Option<
            unsafe extern "C" fn(c_int, *mut sockaddr, *mut socklen_t, c_int) -> c_int,
        > = mem::transmute(next(&NEXT, c"accept4"));
        next.map_or(-1, |next| next(socket, address, length, flags))
    }
}

/// Makes the process the mold that it is to be, once. Returns in the programs that are forked, too.
fn before_accept(socket: c_int) {
    let awaited = AWAITED.load(Ordering::Relaxed);
    if socket == 0 && awaited != 0 {
        AWAITED.store(0, Ordering::Relaxed);
        mold::become_mold(awaited);
    }
}

/// The function that programs would call without this library, looked up once; null if there is none.
fn next(known: &AtomicPtr<c_void>, name: &CStr) -> *mut c_void {
    let mut function = known.load(Ordering::Relaxed);
    if function.is_null() {
        // SAFETY: the name is a C string.
        function = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
        known.store(function, Ordering::Relaxed);
    }
    function
}
