//! The file with the master's pid (`pid`), by which scripts find it.

use crate::log::reason;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes the pid of this process: decimal, without an end of line, as php-fpm does.
///
/// # Errors
/// php-fpm's words for it, with what the system says.
pub fn write(path: &Path) -> Result<(), String> {
    try_to_write(path).map_err(|error| cannot(path, &error))
}

fn cannot(path: &Path, error: &io::Error) -> String {
    let (path, reason) = (path.display(), reason(error));
    format!("Unable to create the PID file ({path}).: {reason}")
}

fn try_to_write(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)?;
    file.write_all(std::process::id().to_string().as_bytes())
}

/// Passes if the folder that it is to be in is there.
///
/// # Errors
/// As [`write`].
pub fn folder(path: &Path) -> Result<(), String> {
    let folder = path
        .parent()
        .map_or(Ok(()), |folder| folder.metadata().map(drop));
    folder.map_err(|error| cannot(path, &error))
}

/// Removes it.
pub fn remove(path: &Path) {
    // Gone already is as good.
    let _ = fs::remove_file(path);
}
