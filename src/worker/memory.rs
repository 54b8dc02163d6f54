//! How much memory a process takes, as the kernel tells it in /proc.

use nix::unistd::{SysconfVar, sysconf};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

/// A process whose resident memory is looked at again and again, which costs one read of a few bytes.
#[derive(Debug)]
pub(crate) struct Resident {
    pid: u32,
    statm: File,
    page: u64,
}

impl Resident {
    /// Of the process `pid`, of whom it may be asked without any right.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let page = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| u64::try_from(size).ok());
        Ok(Self {
            pid,
            statm: File::open(format!("/proc/{pid}/statm"))?,
            page: page.unwrap_or(4096),
        })
    }

    /// Whose it is.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// All memory that the process has now, shared or not, in bytes; None when it has gone.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let mut text = [0; 128];
        let length = self.statm.read_at(&mut text, 0).ok()?;
        // proc(5): size, resident, and more, in pages.
        let resident = std::str::from_utf8(&text[..length]).ok()?.split(' ').nth(1);
        Some(resident?.parse::<u64>().ok()?.saturating_mul(self.page))
    }
}

/// Memory that a process shares with no other, in bytes; 0 where the kernel does not tell (no /proc, as in a chroot; a
/// process of another user). The kernel walks all pages of the process for it.
pub(crate) fn private(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    rollup
        .lines()
        .filter_map(|line| line.strip_prefix("Private_"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum::<u64>()
        * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_has_to_itself_is_a_part_of_what_it_has() {
        let me = std::process::id();
        let resident = Resident::of(me).unwrap();
        let before = (resident.bytes().unwrap(), private(me));
        assert!(before.1 > 0 && before.1 <= before.0, "{before:?}");
        let more = vec![1_u8; 32 << 20];
        let after = (resident.bytes().unwrap(), private(me));
        assert!(after.0 >= before.0 + (31 << 20), "{before:?} {after:?}");
        assert!(after.1 >= before.1 + (31 << 20), "{before:?} {after:?}");
        drop(more);
        assert!(Resident::of(u32::MAX).is_err());
    }
}
