//! Pools of programs: what `exec` and `exec.ready` mean, and what is wrong with them.

use super::{Case, pool_with, told};
use crate::config::{Application, Exec, Protocol, dump};
use preforkd_worker::relay::Ready;
use std::time::Duration;

#[test]
fn a_program_and_its_arguments() {
    let second = Duration::from_secs(1);
    for (lines, arguments, ready) in [
        ("exec = @/python", &[][..], Ready::Accept),
        (
            "exec = \"@/python  -b 'a b' x\\\"c d\\\"'e' ''\"\nexec.ready = connect",
            &["-b", "a b", "xc de", ""],
            Ready::Connect,
        ),
        (
            "exec = \"@/python '\\\"' \\\"it's\\\"\"\nexec.ready = delay 1s",
            &["\"", "it's"],
            Ready::Delay(second),
        ),
        (
            "exec = @/python\nexec.ready = delay 50ms",
            &[],
            Ready::Delay(second / 20),
        ),
        (
            "exec = @/python\nexec.ready = delay 1",
            &[],
            Ready::Delay(second),
        ),
    ] {
        let case = Case::new(&pool_with("").replace("app = hello", lines));
        let config = case.load().unwrap();
        let expected = Application::Exec(Exec {
            program: case.path("python"),
            arguments: arguments.iter().map(|&word| word.into()).collect(),
            ready,
            protocol: Protocol::Fastcgi,
            mold: false,
        });
        assert_eq!(config.pools[0].application, expected, "{lines}");
        let mut dumped = dump(&config);
        dumped.retain(|line| !line.ends_with("= undefined"));
        case.write("x.conf", &dumped.join("\n"));
        let again = case.load().unwrap();
        assert_eq!(again.pools[0].application, expected, "{dumped:#?}");
    }
}

/// Nothing but php-cgi is forked unless the file says so.
#[test]
fn programs_that_are_forked_from_a_mold() {
    for (lines, mold) in [
        ("exec = @/python", false),
        ("exec = @/python\nexec.mold = yes", true),
        ("exec = @/php-cgi8.2 -q", true),
        ("exec = @/php-cgi8.2\nexec.mold = no", false),
        ("exec = @/php-cgi8.2\nexec.protocol = cgi", false),
    ] {
        let case = Case::new(&pool_with("").replace("app = hello", lines));
        let Application::Exec(exec) = &case.load().unwrap().pools[0].application else {
            panic!("{lines}")
        };
        assert_eq!(exec.mold, mold, "{lines}");
    }
}

/// With `cgi` the program may be a folder.
#[test]
fn programs_that_are_started_for_each_request() {
    for (line, program, arguments) in [
        ("exec = @/python -b", "python", &["-b"][..]),
        ("exec = @/dir/", "dir/", &[]),
    ] {
        let lines = format!("{line}\nexec.protocol = cgi");
        let case = Case::new(&pool_with("").replace("app = hello", &lines));
        let config = case.load().unwrap();
        let expected = Application::Exec(Exec {
            program: case.path(program),
            arguments: arguments.iter().map(|&word| word.into()).collect(),
            ready: Ready::Accept,
            protocol: Protocol::Cgi,
            mold: false,
        });
        assert_eq!(config.pools[0].application, expected, "{lines}");
        assert!(
            dump(&config)
                .iter()
                .any(|line| line.ends_with("exec.protocol = cgi"))
        );
    }
}

#[test]
fn mistakes_about_programs() {
    let ready = "must be accept, connect, or delay and a time of at most an hour, such as delay 500ms or delay 2s";
    for (line, expected) in [
        (
            "exec = php-cgi -x",
            "exec = php-cgi -x: must begin with the absolute path of a program, such as /usr/bin/php-cgi".to_owned(),
        ),
        (
            "exec = @/none",
            "exec = @/none: must be a program; @/none: No such file or directory (2)".to_owned(),
        ),
        (
            "exec = @/script",
            "exec = @/script: must be a program; its first line asks for /no/such/shell: No such file or directory (2)".to_owned(),
        ),
        (
            "exec = @/dir",
            "exec = @/dir: must be a program; @/dir: Is a directory (21)".to_owned(),
        ),
        (
            "exec = @/file",
            "exec = @/file: must be a program; @/file: Permission denied (13): it is not executable".to_owned(),
        ),
        (
            "exec = \"@/python 'x\"",
            "exec = @/python 'x: has a quote ' that is not closed: write an argument that has one in quotes of the other kind".to_owned(),
        ),
        (
            "exec = \"'' x\"",
            "exec = '' x: must begin with a program".to_owned(),
        ),
        ("exec = @/python\nmount = /", "mount = /: belongs to a pool with wsgi, and this one has exec = @/python: remove it".to_owned()),
        ("exec = @/python\nexec.ready = soon", format!("exec.ready = soon: {ready}")),
        ("exec = @/python\nexec.ready = delay", format!("exec.ready = delay: {ready}")),
        ("exec = @/python\nexec.ready = delay 2m", format!("exec.ready = delay 2m: {ready}")),
        ("exec = @/python\nexec.protocol = scgi", "exec.protocol = scgi: must be fastcgi or cgi".to_owned()),
        ("exec = @/python\nexec.protocol = cgi\nexec.ready = accept", "exec.ready = accept: belongs to exec.protocol = fastcgi: remove it".to_owned()),
        ("exec = @/python\nexec.protocol = cgi\nexec.mold = no", "exec.mold = no: belongs to exec.protocol = fastcgi: remove it".to_owned()),
        ("app = hello\nexec.mold = yes", "exec.mold = yes: belongs to a pool with exec, and this one has app = hello: remove it".to_owned()),
        ("exec = @/dir/\nexec.protocol = fastcgi", "exec = @/dir/: must be a program; @/dir/: Is a directory (21)".to_owned()),
        ("exec = @/dir\nexec.protocol = cgi", "exec = @/dir: must be a program; @/dir: Is a directory (21)".to_owned()),
        ("exec = @/none/\nexec.protocol = cgi", "exec = @/none/: the exec path '@/none/' does not exist or is not a directory: No such file or directory (2)".to_owned()),
        ("exec = @/dir/ -x\nexec.protocol = cgi", "exec = @/dir/ -x: must not have arguments after a folder: scripts get none".to_owned()),
        ("exec = @/python\nexec.ready = delay 3601s", format!("exec.ready = delay 3601s: {ready}")),
    ] {
        let text = pool_with("").replace("app = hello", line);
        let told = told(&text);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].ends_with(&format!("[pool site] {expected}")), "{told:?} is not {expected}");
    }
}
