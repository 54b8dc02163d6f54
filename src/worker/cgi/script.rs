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
/// That is `SCRIPT_FILENAME`; or, without one, the part of `DOCUMENT_ROOT` and `SCRIPT_NAME` that is a file, as fcgiwrap
/// finds it. There is one at most, since nothing is below a file; it is looked for from the front, so that a path costs
/// no more than the folders that it leads through.
///
/// # Errors
/// See [`Refusal`].
pub fn find(folder: &Path, params: &Params) -> Result<Script, Refusal> {
    let given = |name: &[u8]| params.get(name).filter(|value| !value.is_empty());
    if let Some(file) = given(b"SCRIPT_FILENAME") {
        let program = check(folder, path_of(file))?;
        return Ok(Script {
            program,
            split: None,
        });
    }
    let root = given(b"DOCUMENT_ROOT").ok_or(Refusal::NotFound)?;
    let name = given(b"SCRIPT_NAME").ok_or(Refusal::NotFound)?;
    let whole = [root, b"/", name].concat();
    if climbs(path_of(&whole)) {
        return Err(Refusal::Forbidden);
    }
    let before = root.len() + 1;
    let end = ends(name)
        .find(|&end| !path_of(&whole[..before + end]).is_dir())
        .unwrap_or(name.len());
    let program = check(folder, path_of(&whole[..before + end]))?;
    let split = Some(Split {
        name: name[..end].to_vec(),
        info: name[end..].to_vec(),
    });
    Ok(Script { program, split })
}

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Where the names in a path end, but for those that lead nowhere: `//` and `/./`.
fn ends(path: &[u8]) -> impl Iterator<Item = usize> {
    let mut end = 0;
    path.split(|&byte| byte == b'/').filter_map(move |name| {
        let here = end + name.len();
        end = here + 1;
        (!name.is_empty() && name != b".").then_some(here)
    })
}

/// A path that climbs is a web server's mistake or a client's attempt, wherever it leads.
fn climbs(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

/// The file at `path` with every symbolic link resolved, if it is an executable one in `folder`.
fn check(folder: &Path, path: &Path) -> Result<PathBuf, Refusal> {
    if !path.is_absolute() || climbs(path) {
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
    use std::time::{Duration, Instant};

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
        symlink("/", folder.join("slash")).unwrap();
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
            ("//below/.//run//a", "//below/.//run", "//a"),
        ] {
            let split = Split {
                name: script.into(),
                info: info.into(),
            };
            let program = folder
                .join(script.trim_start_matches('/'))
                .canonicalize()
                .unwrap();
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
            ("/below", Refusal::Forbidden),
            ("/below/", Refusal::Forbidden),
            ("/below/none", Refusal::NotFound),
            ("/outward/info", Refusal::NotFound),
            ("/slash/bin/sh", Refusal::NotFound),
            ("/run/../run", Refusal::Forbidden),
            ("/../cgi-secret/run", Refusal::Forbidden),
        ] {
            assert_eq!(found(name), Err(refusal), "{name}");
        }
        assert_eq!(find(&folder, &params(&[])), Err(Refusal::NotFound));
    }

    #[test]
    fn a_long_path_takes_no_time() {
        let (_root, folder) = folders();
        let root = folder.display().to_string();
        let begun = Instant::now();
        for (step, found) in [("/a", false), ("/.", true), ("//", true)] {
            let steps = step.repeat(50_000);
            let at = |name: &str| {
                let pairs = [("DOCUMENT_ROOT", root.as_str()), ("SCRIPT_NAME", name)];
                find(&folder, &params(&pairs)).is_ok()
            };
            assert_eq!(at(&format!("{steps}/run")), found, "{step}");
            assert!(at(&format!("/run{steps}")), "{step}");
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
