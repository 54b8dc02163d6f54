//! What a pool's workers run: exactly one application, and the directives that belong to it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;

use super::check::PoolChecker;
use super::confinement::inside;
use super::raw::{BuiltIn, Command, Entry, Given, Setting, Target};
use super::{Application, Exec, Protocol, Wsgi};
use crate::log::reason;

impl<'a> PoolChecker<'a, '_> {
    /// The application, if there is one and nothing is wrong with it.
    ///
    /// Its paths are those inside of `root`, if there is one.
    pub fn application(&mut self, root: Option<&Path>) -> Option<Application> {
        let raw = self.raw;
        match (&raw.app, &raw.wsgi, &raw.exec) {
            (Setting::Wrong, _, _) | (_, Setting::Wrong, _) | (_, _, Setting::Wrong) => None,
            (Setting::Given(app), Setting::Unset, Setting::Unset) => {
                self.belongs("wsgi", &self.for_wsgi(), &app.entry);
                self.belongs("exec", &self.for_exec(), &app.entry);
                match app.value {
                    BuiltIn::Hello => Some(Application::Hello),
                }
            }
            (Setting::Unset, Setting::Given(wsgi), Setting::Unset) => {
                self.belongs("exec", &self.for_exec(), &wsgi.entry);
                self.wsgi(wsgi, root).map(Application::Wsgi)
            }
            (Setting::Unset, Setting::Unset, Setting::Given(exec)) => {
                self.belongs("wsgi", &self.for_wsgi(), &exec.entry);
                self.exec(exec, root).map(Application::Exec)
            }
            (Setting::Unset, Setting::Unset, Setting::Unset) => {
                self.missing(
                    "no application is defined: add wsgi = package.module:callable, exec = /PROGRAM, or app = hello"
                        .to_owned(),
                );
                None
            }
            (app, wsgi, exec) => {
                let written = [app.written(), wsgi.written(), exec.written()];
                let mut written = written.into_iter().flatten();
                if let (Some(first), Some(second)) = (written.next(), written.next()) {
                    let rule = format!(
                        "a pool has one application, and there is {}, too: remove one of the two",
                        first.subject()
                    );
                    self.wrong(second, rule);
                }
                None
            }
        }
    }

    /// What is written that is for Python alone.
    fn for_wsgi(&self) -> Vec<&'a Entry> {
        let raw = self.raw;
        let settings = [
            raw.python.written(),
            raw.preload.written(),
            raw.mount.written(),
        ];
        let paths = raw.pythonpath.iter().map(|path| &path.entry);
        let urls = raw.warmup.iter().map(|url| &url.entry);
        let settings = settings.into_iter().flatten();
        settings.chain(paths).chain(urls).collect()
    }

    /// What is written that is for programs alone.
    fn for_exec(&self) -> Vec<&'a Entry> {
        let raw = self.raw;
        let settings = [
            raw.exec_ready.written(),
            raw.exec_protocol.written(),
            raw.exec_mold.written(),
        ];
        settings.into_iter().flatten().collect()
    }

    /// Reports what belongs to a pool with another application than `application`.
    fn belongs(&mut self, to: &str, entries: &[&Entry], application: &Entry) {
        for entry in entries {
            let rule = format!(
                "belongs to a pool with {to}, and this one has {}: remove it",
                application.subject()
            );
            self.wrong(entry, rule);
        }
    }

    fn exec(&mut self, exec: &Given<Command>, root: Option<&Path>) -> Option<Exec> {
        let Command { program, arguments } = &exec.value;
        let ready = *self.raw.exec_ready.value()?;
        let protocol = *self.raw.exec_protocol.value()?;
        if !program.is_absolute() {
            let rule = format!(
                "must begin with the absolute path of a program, such as /usr/bin/{}",
                program.file_name().unwrap_or_default().display()
            );
            self.wrong(&exec.entry, rule);
            return None;
        }
        let for_fastcgi = [self.raw.exec_ready.written(), self.raw.exec_mold.written()];
        for entry in for_fastcgi.into_iter().flatten() {
            if protocol == Protocol::Cgi {
                let rule = "belongs to exec.protocol = fastcgi: remove it".to_owned();
                self.wrong(entry, rule);
            }
        }
        let mold = match &self.raw.exec_mold {
            Setting::Given(mold) => mold.value,
            Setting::Wrong => return None,
            Setting::Unset => protocol == Protocol::Fastcgi && forks_itself(program),
        };
        let path = inside(root, program);
        let is_folder = program.as_os_str().as_encoded_bytes().ends_with(b"/");
        if protocol == Protocol::Cgi && is_folder {
            self.folder(&exec.entry, &path);
            if !arguments.is_empty() {
                let rule = "must not have arguments after a folder: scripts get none".to_owned();
                self.wrong(&exec.entry, rule);
            }
        } else if let Err(reason) = executable(&path) {
            let rule = format!("must be a program; {}: {reason}", path.display());
            self.wrong(&exec.entry, rule);
            return None;
        } else if let Some(interpreter) = interpreter_of(&path)
            && let interpreter = inside(root, &interpreter)
            && let Err(reason) = executable(&interpreter)
        {
            let rule = format!(
                "must be a program; its first line asks for {}: {reason}",
                interpreter.display()
            );
            self.wrong(&exec.entry, rule);
            return None;
        }
        Some(Exec {
            program: program.clone(),
            arguments: arguments.clone(),
            ready,
            protocol,
            mold,
        })
    }

    fn wsgi(&mut self, target: &Given<Target>, root: Option<&Path>) -> Option<Wsgi> {
        let raw = self.raw;
        let python = raw
            .python
            .given()
            .and_then(|python| self.interpreter(python, root));
        let pythonpath: Vec<Option<PathBuf>> = raw
            .pythonpath
            .iter()
            .map(|path| self.existing(path, root))
            .collect();
        Some(Wsgi {
            module: target.value.module.clone(),
            callable: target.value.callable.clone(),
            python: python?,
            pythonpath: pythonpath.into_iter().collect::<Option<_>>()?,
            preload: *raw.preload.value()?,
            warmup: raw.warmup.iter().map(|url| url.value.clone()).collect(),
            mount: raw.mount.value()?.clone(),
        })
    }

    fn interpreter(&mut self, python: &Given<PathBuf>, root: Option<&Path>) -> Option<PathBuf> {
        let path = self.absolute(&python.entry, &python.value)?;
        match executable(&inside(root, &path)) {
            Ok(()) => Some(path),
            Err(reason) => {
                let rule = format!(
                    "must be a Python interpreter, such as that of a virtual environment; {}: {reason}",
                    inside(root, &path).display()
                );
                self.wrong(&python.entry, rule);
                None
            }
        }
    }

    fn existing(&mut self, given: &Given<PathBuf>, root: Option<&Path>) -> Option<PathBuf> {
        let path = self.absolute(&given.entry, &given.value)?;
        match inside(root, &path).metadata() {
            Ok(_) => Some(path),
            Err(error) => {
                let rule = format!(
                    "must be an existing folder or archive; {}: {}",
                    inside(root, &path).display(),
                    reason(&error)
                );
                self.wrong(&given.entry, rule);
                None
            }
        }
    }
}

/// Whether a program is made to be forked before its first accept, as php-cgi does itself with `PHP_FCGI_CHILDREN`.
fn forks_itself(program: &Path) -> bool {
    let name = program.file_name().unwrap_or_default();
    name.as_bytes().starts_with(b"php-cgi")
}

/// The program that a script names in its first line, if it is one (execve(2)).
fn interpreter_of(script: &Path) -> Option<PathBuf> {
    let mut line = [0; 256];
    // Not to wait for the other end, should a pipe be put in the place of what was a file.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(script);
    let count = file.ok()?.read(&mut line).ok()?;
    let line = line[..count].strip_prefix(b"#!")?.trim_ascii_start();
    let end = line.iter().position(u8::is_ascii_whitespace)?;
    Some(OsStr::from_bytes(&line[..end]).into())
}

fn executable(path: &Path) -> Result<(), String> {
    let metadata = path.metadata().map_err(|error| reason(&error))?;
    if metadata.is_dir() {
        Err(reason(&Errno::EISDIR.into()))
    } else if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        // What execve(2) would say.
        let error = reason(&Errno::EACCES.into());
        Err(format!("{error}: it is not executable"))
    } else {
        Ok(())
    }
}
