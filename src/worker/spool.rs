//! What is kept of a body that cannot be handed on yet: in memory at first, then in an unlinked temporary file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes kept in memory; beyond them everything goes to a file.
const MEMORY: usize = 256 * 1024;

/// Bytes that a spool holds at most.
pub const MAX: u64 = 1 << 30;

/// A queue of bytes: written at the end, read from the front.
#[derive(Debug, Default)]
pub struct Spool {
    memory: Vec<u8>,
    file: Option<File>,
    read: u64,
    written: u64,
}

impl Spool {
    /// Bytes that can be read.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.written - self.read
    }

    /// Whether there is nothing to read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read == self.written
    }

    /// Whether [`MAX`] bytes have been written since it was last empty: what was read of them makes no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.written >= MAX
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds `data` at the end.
    ///
    /// # Errors
    /// What opening or writing the temporary file gives: ENOSPC, say.
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            if self.memory.len() + data.len() <= MEMORY {
                self.memory.extend_from_slice(data);
                self.written += data.len() as u64;
                return Ok(());
            }
            let file = tempfile::tempfile()?;
            file.write_all_at(&self.memory, 0)?;
            self.memory = Vec::new();
            self.file = Some(file);
        }
        if let Some(file) = &self.file {
            file.write_all_at(data, self.written)?;
        }
        self.written += data.len() as u64;
        Ok(())
    }

    /// Reads up to `buffer.len()` bytes from the front; 0 when it is empty.
    ///
    /// # Errors
    /// What reading the temporary file gives.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &self.file {
            Some(file) => file.read_at(buffer, self.read)?,
            None => {
                let from = usize::try_from(self.read)
                    .unwrap_or(usize::MAX)
                    .min(self.memory.len());
                let rest = &self.memory[from..];
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                count
            }
        };
        self.read += count as u64;
        if self.is_empty() {
            self.clear();
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_also_through_a_file() {
        let mut spool = Spool::default();
        let data: Vec<u8> = (0..MEMORY * 3).map(|at| at.to_le_bytes()[1]).collect();
        for piece in data.chunks(100_000) {
            spool.write(piece).unwrap();
        }
        assert_eq!(spool.len(), data.len() as u64);
        assert!(spool.memory.is_empty());
        let mut out = Vec::new();
        let mut buffer = [0; 70_000];
        loop {
            let count = spool.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            out.extend_from_slice(&buffer[..count]);
        }
        assert!(out == data);
        assert!(spool.is_empty() && spool.file.is_none());
    }
}
