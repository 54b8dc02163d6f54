//! Which script a request is for.

use preforkd_fastcgi::pairs::Params;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// A script, ready to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Its file, an absolute path without symbolic links.
    pub program: PathBuf,
    /// Where in the request's path it ends, if that had to be found out: what `SCRIPT_NAME` and `PATH_INFO` are then.
    pub split: Option<Split>,
}

/// A `SCRIPT_NAME` that is a script and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The path that leads to the script.
    pub name: Vec<u8>,
    /// What follows, with its leading `/`; empty if nothing does.
    pub info: Vec<u8>,
}

/// Why no script can be run, which is the answer's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is something, and it is not to be run: a file that is not executable, or outside of the folder.
    Forbidden,
    /// There is nothing.
    NotFound,
}

/// Finds the script that a request is for, in `folder`, which is an absolute path without symbolic links.
///
/// That is `SCRIPT_FILENAME`; or, without one, the longest part of `DOCUMENT_ROOT` and `SCRIPT_NAME` that is a file,
/// as fcgiwrap finds it.
///
/// # Errors
/// See [`Refusal`].
pub fn find(folder: &Path, params: &Params) -> Result<Script, Refusal> {
    let given = |name: &[u8]| params.get(name).filter(|value| !value.is_empty());
    if let Some(file) = given(b"SCRIPT_FILENAME") {
        let program = check(folder, Path::new(OsStr::from_bytes(file)))?;
        return Ok(Script {
            program,
            split: None,
        });
    }
    let root = given(b"DOCUMENT_ROOT").ok_or(Refusal::NotFound)?;
    let name = given(b"SCRIPT_NAME").ok_or(Refusal::NotFound)?;
    let mut end = name.len();
    loop {
        let path = [root, b"/", &name[..end]].concat();
        match check(folder, Path::new(OsStr::from_bytes(&path))) {
            Ok(program) => {
                let split = Some(Split {
                    name: name[..end].to_vec(),
                    info: name[end..].to_vec(),
                });
                return Ok(Script { program, split });
            }
            Err(Refusal::Forbidden) => return Err(Refusal::Forbidden),
            Err(Refusal::NotFound) => {}
        }
        end = match name[..end].iter().rposition(|&byte| byte == b'/') {
            Some(slash @ 1..) => slash,
            _ => return Err(Refusal::NotFound),
        };
    }
}

/// The file at `path` with every symbolic link resolved, if it is an executable one in `folder`.
fn check(folder: &Path, path: &Path) -> Result<PathBuf, Refusal> {
    // A path that climbs is a web server's mistake or a client's attempt, wherever it leads.
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(Refusal::Forbidden);
    }
    let file = path.canonicalize().map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => Refusal::Forbidden,
        _ => Refusal::NotFound,
    })?;
    // Even whether there is something outside is nobody's business.
    if !file.starts_with(folder) {
        return Err(Refusal::NotFound);
    }
    let metadata = fs::metadata(&file).map_err(|_| Refusal::NotFound)?;
    if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        Ok(file)
    } else {
        Err(Refusal::Forbidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use preforkd_fastcgi::pairs::encode;
    use std::fs::Permissions;
    use std::os::unix::fs::symlink;

    fn params(pairs: &[(&str, &str)]) -> Params {
        let mut bytes = Vec::new();
        for (name, value) in pairs {
            encode(&mut bytes, name.as_bytes(), value.as_bytes());
        }
        Params::from_bytes(bytes)
    }

    /// A folder with scripts, and one beside it whose name begins with the folder's.
    fn folders() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().canonicalize().unwrap().join("cgi");
        fs::create_dir_all(folder.join("below")).unwrap();
        fs::create_dir_all(root.path().join("cgi-secret")).unwrap();
        for (name, mode) in [
            ("cgi/run", 0o755),
            ("cgi/below/run", 0o700),
            ("cgi/text", 0o644),
            ("cgi-secret/run", 0o755),
        ] {
            let path = root.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
        symlink("run", folder.join("inward")).unwrap();
        symlink("../cgi-secret/run", folder.join("outward")).unwrap();
        symlink("/", folder.join("root")).unwrap();
        (root, folder)
    }

    #[test]
    fn script_filename_is_exact_and_stays_in_the_folder() {
        let (_root, folder) = folders();
        let at = |name: &str| format!("{}/{name}", folder.display());
        let found = |name: &str| {
            find(&folder, &params(&[("SCRIPT_FILENAME", name)])).map(|script| script.program)
        };
        assert_eq!(found(&at("run")), Ok(folder.join("run")));
        assert_eq!(found(&at("/./below//run")), Ok(folder.join("below/run")));
        assert_eq!(found(&at("inward")), Ok(folder.join("run")));
        for (name, refusal) in [
            (at("text"), Refusal::Forbidden),
            (at("below"), Refusal::Forbidden),
            (at(""), Refusal::Forbidden),
            (at("none"), Refusal::NotFound),
            (at("run/info"), Refusal::NotFound),
            (at("../cgi-secret/run"), Refusal::Forbidden),
            (at("below/../run"), Refusal::Forbidden),
            (at("outward"), Refusal::NotFound),
            (at("root/bin/sh"), Refusal::NotFound),
            (at("run\0x"), Refusal::NotFound),
            ("/bin/sh".to_owned(), Refusal::NotFound),
            ("run".to_owned(), Refusal::Forbidden),
        ] {
            assert_eq!(found(&name), Err(refusal), "{name}");
        }
    }

    #[test]
    fn without_it_the_longest_file_is_found_and_the_rest_is_path_info() {
        let (_root, folder) = folders();
        let root = folder.display().to_string();
        let found = |name: &str| {
            find(
                &folder,
                &params(&[("DOCUMENT_ROOT", &root), ("SCRIPT_NAME", name)]),
            )
        };
        for (name, script, info) in [
            ("/run", "/run", ""),
            ("/run/", "/run", "/"),
            ("/below/run/a/b", "/below/run", "/a/b"),
        ] {
            let split = Split {
                name: script.into(),
                info: info.into(),
            };
            let program = folder.join(&script[1..]);
            let expected = Script {
                program,
                split: Some(split),
            };
            assert_eq!(found(name), Ok(expected), "{name}");
        }
        for (name, refusal) in [
            ("/", Refusal::Forbidden),
            ("/none", Refusal::NotFound),
            ("/text/info", Refusal::Forbidden),
            ("/below/none", Refusal::Forbidden),
            ("/../cgi-secret/run", Refusal::Forbidden),
        ] {
            assert_eq!(found(name), Err(refusal), "{name}");
        }
        assert_eq!(find(&folder, &params(&[])), Err(Refusal::NotFound));
    }
}
