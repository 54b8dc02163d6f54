//! What programs read and write their connection with, and end it. For every other descriptor each is what it would be
//! without this library.

use crate::{CONNECTION, IS_WORKER, is_connection, is_on_its_own, with_desk};
use nix::errno::Errno;
use nix::libc::{
    self, c_int, c_void, iovec, msghdr, sighandler_t, size_t, sockaddr, socklen_t, ssize_t,
};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Calls the function that programs would call without this library: the C library's, or that of another one that is
/// preloaded. What is behind `:` is its type.
macro_rules! next {
    ($name:ident: fn($($type:ty),*) -> $result:ty; $($argument:expr),*) => {{
        static NEXT: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
        let name = concat!(stringify!($name), "\0");
        let function = $crate::calls::look_up(&NEXT, name);
        if function.is_null() {
            Errno::ENOSYS.set();
            -1
        } else {
            type Function = unsafe extern "C" fn($($type),*) -> $result;
            std::mem::transmute::<*mut c_void, Function>(function)($($argument),*)
        }
    }};
}
pub(crate) use next;

/// The next function of this name, which ends with a NUL; looked up once. Null if there is none.
pub(crate) fn look_up(known: &AtomicPtr<c_void>, name: &'static str) -> *mut c_void {
    let mut function = known.load(Ordering::Relaxed);
    if function.is_null() {
        // SAFETY: the name is a C string.
        function = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr().cast()) };
        known.store(function, Ordering::Relaxed);
    }
    function
}

/// read(2) as programs call it.
///
/// # Safety
/// That of read(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(fd: c_int, buffer: *mut c_void, count: size_t) -> ssize_t {
    if !is_connection(fd) {
        // SAFETY: the caller's.
        return unsafe {
            next!(read: fn(c_int, *mut c_void, size_t) -> ssize_t; fd, buffer, count)
        };
    }
    // SAFETY: the caller vouches for so many bytes.
    let space = unsafe { space_of(buffer, count) };
    with_desk(|desk| desk.read(space))
}

/// The bytes of a buffer, which may be null when there are none; no more than there can be of anything.
///
/// # Safety
/// There are as many, for as long as what is returned is used, and nobody else looks at them.
unsafe fn space_of<'a>(buffer: *mut c_void, count: size_t) -> &'a mut [u8] {
    if buffer.is_null() || count == 0 {
        return &mut [];
    }
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts_mut(buffer.cast(), count.min(isize::MAX.unsigned_abs())) }
}

/// recv(2) as programs call it.
///
/// # Safety
/// That of recv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recv(
    fd: c_int,
    buffer: *mut c_void,
    count: size_t,
    flags: c_int,
) -> ssize_t {
    let (none, nothing) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the caller's.
    unsafe { recvfrom(fd, buffer, count, flags, none, nothing) }
}

/// recvfrom(2) as programs call it.
///
/// # Safety
/// That of recvfrom(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvfrom(
    fd: c_int,
    buffer: *mut c_void,
    count: size_t,
    flags: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
) -> ssize_t {
    if is_connection(fd) {
        // SAFETY: the caller vouches for so many bytes.
        let space = unsafe { space_of(buffer, count) };
        let has = |flag: c_int| flags & flag != 0;
        return with_desk(|desk| match () {
            () if has(libc::MSG_DONTWAIT) && desk.would_wait() => Err(Errno::EAGAIN),
            () if has(libc::MSG_PEEK) => desk.peek(space),
            () if has(libc::MSG_WAITALL) => desk.read_all(space),
            () => desk.read(space),
        });
    }
    // SAFETY: the caller's.
    unsafe {
        next!(recvfrom: fn(c_int, *mut c_void, size_t, c_int, *mut sockaddr, *mut socklen_t) -> ssize_t; fd, buffer, count, flags, address, length)
    }
}

/// read(2) as programs call it that are compiled with `_FORTIFY_SOURCE`: the C library ends who has too little `room`.
///
/// # Safety
/// That of read(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __read_chk(
    fd: c_int,
    buffer: *mut c_void,
    count: size_t,
    room: size_t,
) -> ssize_t {
    if is_connection(fd) && count <= room {
        // SAFETY: the caller's.
        return unsafe { read(fd, buffer, count) };
    }
    // SAFETY: the caller's.
    unsafe {
        next!(__read_chk: fn(c_int, *mut c_void, size_t, size_t) -> ssize_t; fd, buffer, count, room)
    }
}

/// The same of recv(2).
///
/// # Safety
/// That of recv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __recv_chk(
    fd: c_int,
    buffer: *mut c_void,
    count: size_t,
    room: size_t,
    flags: c_int,
) -> ssize_t {
    if is_connection(fd) && count <= room {
        // SAFETY: the caller's.
        return unsafe { recv(fd, buffer, count, flags) };
    }
    // SAFETY: the caller's.
    unsafe {
        next!(__recv_chk: fn(c_int, *mut c_void, size_t, size_t, c_int) -> ssize_t; fd, buffer, count, room, flags)
    }
}

/// The same of recvfrom(2).
///
/// # Safety
/// That of recvfrom(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __recvfrom_chk(
    fd: c_int,
    buffer: *mut c_void,
    count: size_t,
    room: size_t,
    flags: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
) -> ssize_t {
    if is_connection(fd) && count <= room {
        // SAFETY: the caller's.
        return unsafe { recvfrom(fd, buffer, count, flags, address, length) };
    }
    // SAFETY: the caller's.
    unsafe {
        next!(__recvfrom_chk: fn(c_int, *mut c_void, size_t, size_t, c_int, *mut sockaddr, *mut socklen_t) -> ssize_t; fd, buffer, count, room, flags, address, length)
    }
}

/// recvmsg(2) as programs call it.
///
/// # Safety
/// That of recvmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    if !is_connection(fd) {
        // SAFETY: the caller's.
        return unsafe {
            next!(recvmsg: fn(c_int, *mut msghdr, c_int) -> ssize_t; fd, message, flags)
        };
    }
    // SAFETY: the caller vouches for the message and its parts.
    unsafe {
        (*message).msg_namelen = 0;
        (*message).msg_controllen = 0;
        (*message).msg_flags = 0;
        let count = c_int::try_from((*message).msg_iovlen).unwrap_or(0);
        let parts = parts_of((*message).msg_iov, count);
        // Less than all of them is as good.
        match parts.iter().find(|part| part.iov_len > 0) {
            Some(part) => recv(fd, part.iov_base, part.iov_len, flags),
            None => 0,
        }
    }
}

/// sendmsg(2) as programs call it.
///
/// # Safety
/// That of sendmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the caller's.
    unsafe {
        if is_connection(fd) {
            let count = c_int::try_from((*message).msg_iovlen).unwrap_or(0);
            writev(fd, (*message).msg_iov, count)
        } else {
            next!(sendmsg: fn(c_int, *const msghdr, c_int) -> ssize_t; fd, message, flags)
        }
    }
}

/// readv(2) as programs call it.
///
/// # Safety
/// That of readv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn readv(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    if !is_connection(fd) {
        // SAFETY: the caller's.
        return unsafe {
            next!(readv: fn(c_int, *const iovec, c_int) -> ssize_t; fd, parts, count)
        };
    }
    // SAFETY: the caller vouches for so many parts.
    let parts = unsafe { parts_of(parts, count) };
    // Less than all of them is a read as good.
    match parts.iter().find(|part| part.iov_len > 0) {
        // SAFETY: the caller's.
        Some(part) => unsafe { read(fd, part.iov_base, part.iov_len) },
        None => 0,
    }
}

/// writev(2) as programs call it.
///
/// # Safety
/// That of writev(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    if !is_connection(fd) {
        // SAFETY: the caller's.
        return unsafe {
            next!(writev: fn(c_int, *const iovec, c_int) -> ssize_t; fd, parts, count)
        };
    }
    // SAFETY: the caller vouches for so many parts.
    let parts = unsafe { parts_of(parts, count) };
    let mut written = 0;
    for part in parts.iter().filter(|part| part.iov_len > 0) {
        // SAFETY: the caller's.
        match unsafe { write(fd, part.iov_base, part.iov_len) } {
            failed @ ..0 if written == 0 => return failed,
            ..0 => break,
            count => written += count,
        }
    }
    written
}

/// The parts of a vector.
///
/// # Safety
/// `parts` points to as many, for as long as what is returned is used.
unsafe fn parts_of<'a>(parts: *const iovec, count: c_int) -> &'a [iovec] {
    match usize::try_from(count) {
        // SAFETY: the caller's.
        Ok(count @ 1..) => unsafe { std::slice::from_raw_parts(parts, count) },
        _ => &[],
    }
}

/// write(2) as programs call it.
///
/// # Safety
/// That of write(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, buffer: *const c_void, count: size_t) -> ssize_t {
    if !is_connection(fd) {
        // SAFETY: the caller's.
        return unsafe {
            next!(write: fn(c_int, *const c_void, size_t) -> ssize_t; fd, buffer, count)
        };
    }
    let bytes = if buffer.is_null() || count == 0 {
        &[]
    } else {
        // SAFETY: the caller vouches for so many bytes; there cannot be more of anything.
        unsafe { std::slice::from_raw_parts(buffer.cast(), count.min(isize::MAX.unsigned_abs())) }
    };
    with_desk(|desk| desk.write(bytes))
}

/// send(2) as programs call it.
///
/// # Safety
/// That of send(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn send(
    fd: c_int,
    buffer: *const c_void,
    count: size_t,
    flags: c_int,
) -> ssize_t {
    if is_connection(fd) {
        // SAFETY: the caller's.
        return unsafe { write(fd, buffer, count) };
    }
    // SAFETY: the caller's.
    unsafe { sendto(fd, buffer, count, flags, ptr::null(), 0) }
}

/// sendto(2) as programs call it.
///
/// # Safety
/// That of sendto(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendto(
    fd: c_int,
    buffer: *const c_void,
    count: size_t,
    flags: c_int,
    address: *const sockaddr,
    length: socklen_t,
) -> ssize_t {
    if is_connection(fd) {
        // SAFETY: the caller's.
        return unsafe { write(fd, buffer, count) };
    }
    // SAFETY: the caller's.
    unsafe {
        next!(sendto: fn(c_int, *const c_void, size_t, c_int, *const sockaddr, socklen_t) -> ssize_t; fd, buffer, count, flags, address, length)
    }
}

/// sigaction(2) as programs call it. SIGTERM ends a worker: what the program would rather do is not asked for, since it
/// would do that where it waits in accept, and there it is the worker that waits.
///
/// # Safety
/// That of sigaction(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigaction(
    number: c_int,
    action: *const libc::sigaction,
    before: *mut libc::sigaction,
) -> c_int {
    let is_refused = number == libc::SIGTERM && IS_WORKER.load(Ordering::Relaxed);
    let action = if is_refused { ptr::null() } else { action };
    // SAFETY: the caller's.
    unsafe {
        next!(
            sigaction: fn(c_int, *const libc::sigaction, *mut libc::sigaction) -> c_int;
            number, action, before
        )
    }
}

/// signal(3) as programs call it; for SIGTERM as [`sigaction`].
///
/// # Safety
/// That of signal(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn signal(number: c_int, handler: sighandler_t) -> sighandler_t {
    if number == libc::SIGTERM && IS_WORKER.load(Ordering::Relaxed) {
        return libc::SIG_DFL;
    }
    // SAFETY: the caller's. An address, and SIG_ERR, are as wide as what is returned.
    let before = unsafe { next!(signal: fn(c_int, sighandler_t) -> ssize_t; number, handler) };
    before.cast_unsigned()
}

/// shutdown(2) as programs call it.
#[unsafe(no_mangle)]
pub extern "C" fn shutdown(fd: c_int, how: c_int) -> c_int {
    if is_connection(fd) {
        if is_on_its_own() {
            with_desk(|desk| {
                desk.hang_up();
                Ok(0)
            });
        }
        return 0;
    }
    // SAFETY: it takes integers and touches no memory.
    unsafe { next!(shutdown: fn(c_int, c_int) -> c_int; fd, how) }
}

/// close(2) as programs call it.
#[unsafe(no_mangle)]
pub extern "C" fn close(fd: c_int) -> c_int {
    if is_connection(fd) && is_on_its_own() {
        CONNECTION.store(-1, Ordering::Relaxed);
        with_desk(|desk| {
            desk.hang_up();
            Ok(0)
        });
    }
    // SAFETY: the caller vouches that it owns the descriptor.
    unsafe { next!(close: fn(c_int) -> c_int; fd) }
}
