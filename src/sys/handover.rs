//! Turning into another program and keeping descriptors, with a text that says what they are.
//!
//! The text goes through a memory file. An environment variable names that file and the descriptors; it also names the
//! process, so that it means nothing to a child that inherits it.

use crate::fds::inherited;
use crate::limits;
use crate::signals::Blocked;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::execve;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// The variable; whoever starts programs must not pass it on.
pub const VARIABLE: &str = "PREFORKD_HANDOVER";

/// Bytes of a text at most: a process and its descriptors take less than 200, and there are few thousands.
const MAX_TEXT: u64 = 16 << 20;

/// Turns this process into `program`, which gets `text` and `keep` from [`take`]. All signals are blocked from here until
/// it calls [`crate::signals::unblock`], so that none ends it before it has handlers.
///
/// `caught` is called when they are blocked: the signals that handlers have taken and nobody has looked at. They come
/// again to the new program.
///
/// Returns only when that fails, with everything as it was before.
///
/// # Errors
/// The error of `memfd_create(2)` or `execve(2)`.
pub fn exec(
    program: &CStr,
    arguments: &[CString],
    environment: Vec<CString>,
    text: &[u8],
    keep: &[BorrowedFd<'_>],
    caught: impl FnOnce() -> Vec<libc::c_int>,
) -> io::Error {
    match try_exec(program, arguments, environment, text, keep, caught) {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

fn try_exec(
    program: &CStr,
    arguments: &[CString],
    mut environment: Vec<CString>,
    text: &[u8],
    keep: &[BorrowedFd<'_>],
    caught: impl FnOnce() -> Vec<libc::c_int>,
) -> io::Result<std::convert::Infallible> {
    let mut memory = File::from(memfd_create(c"preforkd-handover", MFdFlags::MFD_CLOEXEC)?);
    // In the file, since the system bounds the length of a variable.
    let numbers: Vec<String> = keep.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    memory.write_all(numbers.join(",").as_bytes())?;
    memory.write_all(b"\n")?;
    memory.write_all(text)?;
    memory.rewind()?;
    let value = format!("{VARIABLE}={}:{}", std::process::id(), memory.as_raw_fd());
    environment.push(CString::new(value)?);
    let all: Vec<BorrowedFd<'_>> = [memory.as_fd()]
        .into_iter()
        .chain(keep.iter().copied())
        .collect();
    // The new program is to know what its starter allowed.
    limits::restore_files()?;
    let _blocked = Blocked::all()?;
    for signal in caught() {
        // SAFETY: it takes a number. Blocked, the signal stays pending over the exec; should that fail it comes again.
        unsafe { libc::raise(signal) };
    }
    let set_all = |flag| -> io::Result<()> {
        for fd in &all {
            fcntl(fd, FcntlArg::F_SETFD(flag))?;
        }
        Ok(())
    };
    let failed = match set_all(FdFlag::empty()) {
        Ok(()) => match execve(program, arguments, &environment) {
            Ok(never) => match never {},
            Err(error) => error.into(),
        },
        Err(error) => error,
    };
    set_all(FdFlag::FD_CLOEXEC)?;
    limits::raise_files();
    Err(failed)
}

/// What the program before left to this process, if it was one: the text, and the descriptors in their order, made
/// close-on-exec again. To be called before anything else is opened.
///
/// # Errors
/// A descriptor is not there, or the text cannot be read.
pub fn take() -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let Ok(value) = std::env::var(VARIABLE) else {
        return Ok(None);
    };
    let Some((pid, memory)) = value.split_once(':') else {
        return Ok(None);
    };
    if pid.parse() != Ok(std::process::id()) {
        return Ok(None);
    }
    let memory = File::from(own(memory)?);
    let mut text = Vec::new();
    memory.take(MAX_TEXT).read_to_end(&mut text)?;
    let end = text.iter().position(|&byte| byte == b'\n');
    let rest = text.split_off(end.ok_or(io::ErrorKind::InvalidData)? + 1);
    let numbers = std::str::from_utf8(&text).map_err(|_| io::ErrorKind::InvalidData)?;
    let numbers = numbers
        .trim_end()
        .split(',')
        .filter(|number| !number.is_empty());
    let fds = numbers.map(own).collect::<io::Result<_>>()?;
    Ok(Some((rest, fds)))
}

fn own(number: &str) -> io::Result<OwnedFd> {
    match number.parse::<RawFd>() {
        // SAFETY: the program before opened it for this process, whose pid the variable has, and nothing else has been
        // opened yet.
        Ok(number @ 3..) => unsafe { inherited(number) },
        Ok(_) | Err(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}
