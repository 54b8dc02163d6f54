//! The name of a process in `ps`.
//!
//! `ps` shows the memory where the kernel put the command line. [`set`] writes the title there. Behind it lies the
//! environment; [`init`] moves that away once, so that there is room for a title longer than the command line was.

use nix::libc;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::sync::OnceLock;

static AREA: OnceLock<Area> = OnceLock::new();

#[derive(Clone, Copy)]
struct Area {
    start: usize,
    length: usize,
}

/// Makes room for titles. To be called first of all in `main`; does nothing in a process with several threads.
///
/// Without it, where `/proc` cannot be read, and where the environment holds what is no variable, [`set`] has no more
/// room than the command line.
pub fn init() {
    let Some((start, _, end)) = kernel_area().filter(|_| crate::fork::thread_count() == 1) else {
        return;
    };
    if !has_only_variables() {
        return;
    }
    // Setting each variable anew makes the C library keep it in memory of its own.
    let variables: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    for (name, value) in &variables {
        // SAFETY: there is one thread, and Rust code reads the environment by copying.
        unsafe { std::env::remove_var(name) };
        // SAFETY: as above.
        unsafe { std::env::set_var(name, value) };
    }
    if variables
        .iter()
        .any(|(name, _)| points_into(name, start, end))
    {
        return;
    }
    let _ = AREA.set(Area {
        start,
        length: end - start,
    });
}

/// Whether each entry of the environment is a name, an equals sign and a value. No other can be moved.
fn has_only_variables() -> bool {
    let is_variable = |entry: &[u8]| entry.iter().position(|&byte| byte == b'=') > Some(0);
    std::fs::read("/proc/self/environ").is_ok_and(|entries| {
        let mut entries = entries.split(|&byte| byte == 0);
        entries.all(|entry| entry.is_empty() || is_variable(entry))
    })
}

/// Whether the C library's value of a variable still lies in the area.
fn points_into(name: &OsString, start: usize, end: usize) -> bool {
    let Ok(name) = CString::new(name.clone().into_vec()) else {
        return true;
    };
    // SAFETY: a terminated name; the result is only compared.
    let value = unsafe { libc::getenv(name.as_ptr()) } as usize;
    (start..end).contains(&value)
}

/// Sets the title that `ps` shows, cut to the room there is, and the name that `top` shows (15 bytes of it).
pub fn set(title: &str) {
    let Some(area) = AREA.get().copied().or_else(|| {
        let (start, end, _) = kernel_area()?;
        Some(Area {
            start,
            length: end - start,
        })
    }) else {
        return;
    };
    // The last byte stays NUL: otherwise the kernel takes the area to go on into the environment.
    let title = &title.as_bytes()[..title.len().min(area.length.saturating_sub(1))];
    // SAFETY: the kernel mapped `start..start+length` readable and writable for the arguments (and, after `init`, the
    // environment that nobody points into any more). Rust copies arguments from there, but only ever whole bytes that
    // stay initialised, and this process reads its arguments once, at start.
    unsafe {
        let to = area.start as *mut u8;
        std::ptr::write_bytes(to, 0, area.length);
        std::ptr::copy_nonoverlapping(title.as_ptr(), to, title.len());
    }
}

/// Start and end of the arguments, and end of the environment, as the kernel tells them in `/proc/self/stat`.
fn kernel_area() -> Option<(usize, usize, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Fields are counted from 1; the second is in parentheses and may hold spaces, so count from the third.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<usize>().ok();
    let (arg_start, arg_end, env_start, env_end) = (field(48)?, field(49)?, field(50)?, field(51)?);
    let plausible =
        arg_start != 0 && arg_start < arg_end && arg_end == env_start && env_start <= env_end;
    plausible.then_some((arg_start, arg_end, env_end))
}
