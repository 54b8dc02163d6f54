//! Whole configurations, read from files.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Gid, Uid, User};
use preforkd_plan::scale::{Limits, Mode};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

mod meaning;
mod mistakes;
mod programs;
mod samples;
mod surroundings;

const ROOT: Uid = Uid::from_raw(0);
const PERSON: Uid = Uid::from_raw(1000);

/// An ordinary user's command line without flags.
const SURROUNDINGS: Surroundings<'static> = Surroundings {
    effective_uid: PERSON,
    allow_root: false,
    prefix: None,
    pid: None,
    daemonize: None,
    force_stderr: false,
    variable: &|name| match name {
        "COLOUR" => Some(OsString::from_vec(b"green".to_vec())),
        _ => None,
    },
};

/// A folder with a configuration in it, beside what a configuration can refer to: a folder `dir`, a file `file`, and an
/// executable `python`.
struct Case {
    folder: TempDir,
}

impl Case {
    fn new(text: &str) -> Case {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("dir")).unwrap();
        let case = Case { folder };
        case.write("file", "");
        for (name, text) in [
            ("python", ""),
            ("php-cgi8.2", ""),
            ("script", "#! /no/such/shell -x\n"),
        ] {
            let program = case.write(name, text);
            fs::set_permissions(program, Permissions::from_mode(0o755)).unwrap();
        }
        case.write("x.conf", text);
        case
    }

    /// Writes a file, in which `@` stands for the folder.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text.replace('@', &self.at())).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn at(&self) -> String {
        self.folder.path().to_str().unwrap().to_owned()
    }

    /// Loads a file; the folder is `@` in what is told.
    fn load_file(&self, name: &str, effective_uid: Uid) -> Result<Config, Vec<String>> {
        let surroundings = Surroundings {
            effective_uid,
            ..SURROUNDINGS
        };
        self.load_in(name, &surroundings)
    }

    fn load_in(&self, name: &str, surroundings: &Surroundings<'_>) -> Result<Config, Vec<String>> {
        load(&self.path(name), surroundings, &Names::default()).map_err(|problems| {
            let text = problems.to_string().replace(&self.at(), "@");
            text.lines().map(str::to_owned).collect()
        })
    }

    fn load_as(&self, effective_uid: Uid) -> Result<Config, Vec<String>> {
        self.load_file("x.conf", effective_uid)
    }

    fn load(&self) -> Result<Config, Vec<String>> {
        self.load_as(PERSON)
    }
}

/// A right configuration, to which `lines` are added in the section of its pool.
fn pool_with(lines: &str) -> String {
    format!("[site]\nlisten = 9000\npm = static\npm.max_children = 4\napp = hello\n{lines}")
}

#[track_caller]
fn loaded(text: &str) -> Config {
    Case::new(text)
        .load()
        .unwrap_or_else(|problems| panic!("{problems:#?}"))
}

#[track_caller]
fn the_pool(lines: &str) -> Pool {
    let mut pools = loaded(&pool_with(lines)).pools;
    assert_eq!(pools.len(), 1);
    pools.remove(0)
}

/// What a person is told about a configuration, without what precedes the line's number.
#[track_caller]
fn told_as(effective_uid: Uid, text: &str) -> Vec<String> {
    let problems = Case::new(text).load_as(effective_uid).expect_err(text);
    problems
        .iter()
        .map(|line| line.strip_prefix("@/x.conf:").unwrap_or(line).to_owned())
        .collect()
}

#[track_caller]
fn told(text: &str) -> Vec<String> {
    told_as(PERSON, text)
}

/// As [`told`], of lines added to a right pool; their numbers start at 6.
#[track_caller]
fn told_of_pool(lines: &str) -> Vec<String> {
    told(&pool_with(lines))
}

proptest! {
    #[test]
    fn any_bytes_are_a_configuration_or_a_list_of_mistakes(bytes in any::<Vec<u8>>()) {
        let case = Case::new("");
        fs::write(case.path("x.conf"), bytes).unwrap();
        if let Err(problems) = case.load() {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn any_lines_of_directives_are_a_configuration_or_a_list_of_mistakes(
        lines in proptest::collection::vec(any_line(), 0..30),
        root in any::<bool>(),
    ) {
        let case = Case::new(&lines.join("\n"));
        if let Err(problems) = case.load_as(if root { ROOT } else { PERSON }) {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                prop_assert!(problem.starts_with("@/x.conf"), "{}", problem);
            }
        }
    }
}

/// A line with a directive of the table, and a value that some directive takes.
fn any_line() -> impl Strategy<Value = String> {
    let names: Vec<String> = table::table()
        .map(directive::Directive::spelling)
        .filter(|name| name != "include")
        .chain(["[a]".to_owned(), "[b]".to_owned(), "[global]".to_owned()])
        .collect();
    let values = [
        "1",
        "2",
        "3",
        "9000",
        "0660",
        "10s",
        "yes",
        "static",
        "dynamic",
        "ondemand",
        "hello",
        "a.b",
        "/",
        "/usr/bin/python3",
        "www-data",
        "root",
        "$pool",
        "127.0.0.1:1",
        "x",
        "",
    ];
    (
        proptest::sample::select(names),
        proptest::sample::select(values.to_vec()),
    )
        .prop_map(|(name, value)| match name.starts_with('[') {
            true => name,
            false => format!("{name} = {value}"),
        })
}
