//! What is told about a pool's requests: status, ping, access log, slow log.

use std::path::PathBuf;

use super::Listen;
use super::check::{Listening, PoolChecker};
use super::raw::Setting;

impl<'a> PoolChecker<'a, '_> {
    /// Where the status is answered besides.
    pub fn status_listen(&mut self, listening: &mut Vec<Listening<'a>>) -> Option<Listen> {
        let given = self.raw.status_listen.given()?;
        self.address(given, listening)
    }

    /// Reports paths of requests that would hide others.
    pub fn request_paths(&mut self) {
        let raw = self.raw;
        let root = "must have at least 2 characters: / is the application's";
        if let (Some(status), Setting::Unset) = (raw.status_path.given(), &raw.status_listen)
            && status.value == "/"
        {
            self.wrong(
                &status.entry,
                format!("{root}, unless pm.status_listen is set"),
            );
        }
        let Some(ping) = raw.ping_path.given() else {
            return;
        };
        if ping.value == "/" {
            self.wrong(&ping.entry, root.to_owned());
        } else if raw.status_path.value() == Some(&ping.value) {
            let rule = "must not be pm.status_path, too: choose another";
            self.wrong(&ping.entry, rule.to_owned());
        }
    }

    /// The file of slow requests, which they need.
    pub fn slowlog(&mut self) -> Option<PathBuf> {
        let raw = self.raw;
        if let (Some(timeout), Setting::Unset) = (raw.request_slowlog_timeout.given(), &raw.slowlog)
            && !timeout.value.is_zero()
        {
            let rule = "'slowlog' must be specified for use with 'request_slowlog_timeout': add slowlog = /FILE";
            self.wrong(&timeout.entry, rule.to_owned());
        }
        self.log_file(&raw.slowlog)
    }

    /// A file that is appended to, in a folder that exists.
    pub fn log_file(&mut self, setting: &Setting<PathBuf>) -> Option<PathBuf> {
        let given = setting.given()?;
        let path = self.absolute(&given.entry, &given.value)?;
        let folder = path.parent().filter(|_| path.file_name().is_some());
        match folder {
            Some(folder) if folder.is_dir() => {
                if path.is_dir() {
                    let rule = format!("must be a file; {} is a folder", path.display());
                    self.wrong(&given.entry, rule);
                }
            }
            Some(folder) => {
                let rule = format!(
                    "must be in an existing folder; {} is none: make it",
                    folder.display()
                );
                self.wrong(&given.entry, rule);
            }
            None => self.wrong(&given.entry, "must be the path of a file".to_owned()),
        }
        Some(path)
    }
}
