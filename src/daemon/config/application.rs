//! What a pool's workers run: exactly one application, and the directives that belong to it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::check::PoolChecker;
use super::confinement::inside;
use super::raw::{BuiltIn, Entry, Given, Setting, Target};
use super::{Application, Wsgi};

impl PoolChecker<'_, '_> {
    /// The application, if there is one and nothing is wrong with it.
    ///
    /// Its paths are those inside of `root`, if there is one.
    pub fn application(&mut self, root: Option<&Path>) -> Option<Application> {
        let raw = self.raw;
        match (&raw.app, &raw.wsgi) {
            (Setting::Given(app), Setting::Given(wsgi)) => {
                let rule = format!(
                    "a pool has one application, and there is {}, too: remove one of the two",
                    app.entry.subject()
                );
                self.wrong(&wsgi.entry, rule);
                None
            }
            (Setting::Given(app), Setting::Unset) => {
                self.no_wsgi(&app.entry);
                match app.value {
                    BuiltIn::Hello => Some(Application::Hello),
                }
            }
            (Setting::Unset, Setting::Given(wsgi)) => self.wsgi(wsgi, root).map(Application::Wsgi),
            (Setting::Unset, Setting::Unset) => {
                self.missing(
                    "no application is defined: add wsgi = package.module:callable, or app = hello"
                        .to_owned(),
                );
                None
            }
            (Setting::Wrong, _) | (_, Setting::Wrong) => None,
        }
    }

    /// Reports what is for Python in a pool that has none.
    fn no_wsgi(&mut self, app: &Entry) {
        let raw = self.raw;
        let settings = [
            raw.python.written(),
            raw.preload.written(),
            raw.mount.written(),
        ];
        let paths = raw.pythonpath.iter().map(|path| &path.entry);
        let urls = raw.warmup.iter().map(|url| &url.entry);
        for entry in settings.into_iter().flatten().chain(paths).chain(urls) {
            let rule = format!(
                "belongs to a pool with wsgi, and this one has {}: remove it",
                app.subject()
            );
            self.wrong(entry, rule);
        }
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
                    "must be an existing folder or archive; {}: {error}",
                    inside(root, &path).display()
                );
                self.wrong(&given.entry, rule);
                None
            }
        }
    }
}

fn executable(path: &Path) -> Result<(), String> {
    let metadata = path.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        Err("not a file".to_owned())
    } else if metadata.permissions().mode() & 0o111 == 0 {
        Err("not executable".to_owned())
    } else {
        Ok(())
    }
}
