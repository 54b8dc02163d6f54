//! Descriptors and messages, as plain system calls.
//!
//! A descriptor is a number here: most of those in a mold belong to the program, and a fork has to close others' at once.

use crate::wire;
use libc::{c_int, c_void};
use std::mem::{self, MaybeUninit};
use std::ptr;

/// Closes it, if it is open.
pub fn close(fd: c_int) {
    // SAFETY: callers close what the mold was given, which nobody else in this process knows.
    unsafe { libc::close(fd) };
}

/// Returns whether it is open.
pub fn close_on_exec(fd: c_int) -> bool {
    // SAFETY: F_SETFD takes integers and touches no memory.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) == 0 }
}

/// The error of the last call.
pub fn errno() -> c_int {
    // SAFETY: it is a variable of this thread's, always there.
    unsafe { *libc::__errno_location() }
}

/// Sends one message with at most one descriptor; never waits. Whether it was sent is nothing that a mold could do
/// anything about.
pub fn send(socket: c_int, bytes: &[u8], fd: Option<c_int>) {
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast::<c_void>(),
        iov_len: bytes.len(),
    };
    // Room for a header and a descriptor, aligned as a header has to be.
    let mut control = [0_u64; 8];
    // SAFETY: zeroes are a value of this: null pointers and no lengths.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if let Some(fd) = fd {
        message.msg_control = control.as_mut_ptr().cast();
        // SAFETY: the control bytes have room for what CMSG_SPACE says of one descriptor (24 bytes), so that the first
        // header and its data are inside of them.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(4) as usize;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
            libc::CMSG_DATA(header).cast::<c_int>().write_unaligned(fd);
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: all that the message points to lives here; the kernel only reads it.
    unsafe { libc::sendmsg(socket, &raw const message, flags) };
}

/// An order as it came.
pub struct Order {
    /// The relay's pid.
    pub relay: u32,
    /// As [`wire::ORDER_FDS`] says, none of them below 3.
    pub fds: [c_int; wire::ORDER_FDS],
}

/// What came instead of an order.
pub enum NoOrder {
    /// Nothing, or nothing that makes sense.
    Nothing,
    /// Nobody is left who could order.
    End,
}

/// The next order, if there is one.
pub fn receive_order(socket: c_int) -> Result<Order, NoOrder> {
    let mut bytes = [0; 4];
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast::<c_void>(),
        iov_len: bytes.len(),
    };
    let mut control = [0_u64; 8];
    // SAFETY: zeroes are a value of this: null pointers and no lengths.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: all that the message points to lives here, with the lengths that it says.
    let count = unsafe { libc::recvmsg(socket, &raw mut message, flags) };
    let mut fds = [-1; 12];
    let mut number = 0;
    // SAFETY: the kernel has filled in headers inside of the control bytes, and CMSG_FIRSTHDR gives null if none.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if count >= 0
            && !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS
        {
            let length = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
            number = (length / 4).min(fds.len());
            for (place, fd) in fds.iter_mut().enumerate().take(number) {
                *fd = libc::CMSG_DATA(header)
                    .cast::<c_int>()
                    .add(place)
                    .read_unaligned();
            }
        }
    }
    let whole = count == 4 && message.msg_flags & (libc::MSG_CTRUNC | libc::MSG_TRUNC) == 0;
    if !whole || number != wire::ORDER_FDS {
        fds.iter().take(number).for_each(|&fd| close(fd));
        return Err(if count == 0 {
            NoOrder::End
        } else {
            NoOrder::Nothing
        });
    }
    let mut order = Order {
        relay: u32::from_le_bytes(bytes),
        fds: [-1; wire::ORDER_FDS],
    };
    for (place, fd) in order.fds.iter_mut().zip(fds) {
        *place = above(fd);
    }
    Ok(order)
}

/// The same at a number that is none of the standard streams', of which the program may have closed some.
fn above(fd: c_int) -> c_int {
    if fd > 2 {
        return fd;
    }
    // SAFETY: it takes integers and touches no memory.
    let moved = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    close(fd);
    moved
}

/// Reads what the master says, of which a program mold needs nothing. Returns whether it is gone.
pub fn has_ended(socket: c_int) -> bool {
    let mut byte = MaybeUninit::<u8>::uninit();
    // SAFETY: one byte is written at most. What is longer, and descriptors that came with it, the kernel drops.
    let count = unsafe {
        libc::recv(
            socket,
            byte.as_mut_ptr().cast::<c_void>(),
            1,
            libc::MSG_DONTWAIT,
        )
    };
    count == 0 || count < 0 && !matches!(errno(), libc::EAGAIN | libc::EINTR)
}

/// Waits for any of them.
pub fn wait(polled: &mut [libc::pollfd], mask: &libc::sigset_t) {
    let number = polled.len() as libc::nfds_t;
    // SAFETY: the kernel writes into as many as there are.
    let count = unsafe { libc::ppoll(polled.as_mut_ptr(), number, ptr::null(), mask) };
    if count < 0 {
        // What was there before has been looked at.
        polled.iter_mut().for_each(|polled| polled.revents = 0);
    }
}

/// Whether the other side of a line or pipe is gone.
pub fn is_alone(fd: c_int) -> bool {
    let mut polled = libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    };
    // SAFETY: the kernel writes into the one that there is.
    unsafe { libc::poll(&raw mut polled, 1, 0) };
    polled.revents != 0
}
