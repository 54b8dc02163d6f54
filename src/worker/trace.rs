//! Where a request is that takes long, seen from another thread of its worker.
//!
//! The thread that answers is neither stopped nor signalled for that.

use std::fs;
use std::path::PathBuf;

/// Tells where the application is.
pub trait Tracer: Send {
    /// At most `depth` calls, the innermost first, a line each.
    fn trace(&mut self, depth: usize) -> Vec<String>;

    /// Ends what the worker does not take along when it ends itself for a request that has run too long.
    fn end(&mut self) {}
}

/// A call in php-fpm's form. php-fpm's number is an address; here it is the place in the stack, from 0.
#[must_use]
pub fn call(place: usize, function: &str, file: &str, line: &str) -> String {
    format!("[{place:#018x}] {function}() {file}:{line}")
}

/// What the kernel shows of a process: what it waits in, as far as this process may see that.
#[derive(Debug)]
pub struct KernelView(PathBuf);

impl KernelView {
    /// Of the thread that a process began with.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        Self(format!("/proc/{pid}/task/{pid}").into())
    }

    fn read(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.0.join(name)).ok()?;
        Some(text.trim_end().to_owned()).filter(|text| !text.is_empty())
    }
}

impl Tracer for KernelView {
    fn trace(&mut self, depth: usize) -> Vec<String> {
        let status = self.read("status").unwrap_or_default();
        let state = status.lines().find_map(|line| line.strip_prefix("State:"));
        let mut lines = vec![format!("state = {}", state.unwrap_or("unknown").trim())];
        let wchan = self.read("wchan").filter(|wchan| wchan != "0");
        lines.extend(wchan.map(|wchan| format!("wchan = {wchan}")));
        lines.extend(self.read("syscall").map(|call| format!("syscall = {call}")));
        // Only root may read this one.
        let stack = self.read("stack").unwrap_or_default();
        lines.extend(stack.lines().take(depth).map(str::to_owned));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_what_a_process_does() {
        let lines = KernelView::of(std::process::id()).trace(3);
        assert!(lines[0].starts_with("state = "), "{lines:?}");
        let gone = KernelView::of(u32::MAX).trace(3);
        assert_eq!(gone, ["state = unknown"]);
    }

    #[test]
    fn a_call_has_the_form_of_php_fpm() {
        assert_eq!(
            call(2, "view", "/srv/a.py", "7"),
            "[0x0000000000000002] view() /srv/a.py:7"
        );
    }
}
