//! What bad configuration gets: everything that is wrong at once, exit status 78, and nothing started.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::daemon::{self, Daemon, Turn};
use crate::support::fastcgi::Address;
use crate::support::process;
use crate::support::setup::{Folder, Setup, is_root};

const HELLO: &str = "app = hello\npm = static\npm.max_children = 1";

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_preforkd"))
        .args(arguments)
        .output()
        .expect("the daemon can be started")
}

#[test]
fn every_mistake_is_told_at_once() {
    let setup = Setup::new()
        .pool("first", "app = hello\npm = sometimes\npm.max_children = many\nlisten.mode = rwx")
        .pool("second", "app = hello\npm = dynamic\npm.max_children = 3\npm.min_spare_servers = 9\npm.max_spare_servers = 2\ncolour = blue")
        .pool("third", HELLO);
    let configuration = setup.write();
    let text = std::fs::read_to_string(&configuration).expect("it was written");
    let (status, daemon) = setup.refused();
    assert_eq!(status.code(), Some(78));
    for (directive, value) in [
        ("pm", "sometimes"),
        ("pm.max_children", "many"),
        ("listen.mode", "rwx"),
        ("pm.min_spare_servers", "9"),
        ("colour", ""),
    ] {
        let at = text
            .lines()
            .position(|line| line.starts_with(&format!("{directive} = {value}")))
            .expect("it is in the file")
            + 1;
        let place = format!("{}:{at}", configuration.display());
        let told = daemon.lines_like(&format!("{place}*{directive}*{value}"));
        assert!(!told.is_empty(), "nothing about {directive} at {place}");
    }
    for pool in ["first", "second", "third"] {
        assert!(
            !daemon.folder.path(&format!("{pool}.sock")).exists(),
            "pool {pool} was bound"
        );
    }
    assert_eq!(daemon.lines_like("fpm is running"), Vec::<String>::new());
    assert_eq!(process::below(daemon.pid()), []);
}

#[test]
fn a_check_tells_the_same_and_starts_nothing() {
    let setup = Setup::new().pool("hello", HELLO);
    let configuration = setup.write();
    let name = configuration.to_str().expect("its name is text");
    let right = run(&["-t", "-y", name]);
    assert_eq!(right.status.code(), Some(0));
    let told = String::from_utf8_lossy(&right.stderr);
    assert!(
        told.contains(&format!("configuration file {name} test is successful")),
        "{told}"
    );
    assert!(!setup.folder.path("hello.sock").exists());

    let setup = setup.pool("wrong", "app = hello\npm = sometimes");
    setup.write();
    let wrong = run(&["-t", "-y", name]);
    assert_eq!(wrong.status.code(), Some(78));
    let told = String::from_utf8_lossy(&wrong.stderr);
    assert!(
        told.contains("sometimes") && told.contains("pm.max_children"),
        "{told}"
    );
}

/// What `-tt` shows of the pool or of `[global]`, by name.
fn shown(program: &str, configuration: &Path) -> BTreeMap<String, String> {
    let output = Command::new(program)
        .args(["-tt", "-y"])
        .arg(configuration)
        .output()
        .expect("the program can be started");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    let mut section = String::new();
    let mut shown = BTreeMap::new();
    for line in told.lines() {
        let Some((_, text)) = line.split_once("] NOTICE: ") else {
            continue;
        };
        match text
            .strip_prefix('\t')
            .and_then(|text| text.split_once(" = "))
        {
            Some((name, value)) => {
                shown.insert(format!("{section} {name}"), value.to_owned());
            }
            None if text.starts_with('[') => section = text.to_owned(),
            None => {}
        }
    }
    shown
}

/// The stock files of php-fpm in a folder of their own; `edit` is for what else is to be done to their texts.
fn stock(edit: fn(&str) -> String) -> Folder {
    let folder = Folder::new();
    let root = folder.root().display().to_string();
    for name in ["php-fpm.conf", "pool.d/www.conf"] {
        let text = std::fs::read_to_string(Path::new("/etc/php/8.2/fpm").join(name))
            .expect("php8.2-fpm is installed, as tests/run.sh does");
        let text = edit(&text)
            .replace("/etc/php/8.2/fpm/", &format!("{root}/"))
            .replace("/var/log/", &format!("{root}/"))
            .replace("/run/php/", &format!("{root}/"))
            .replace("/path/to/pools/$pool", &root);
        folder.write(name, &text);
    }
    folder.write("log/here", "");
    folder
}

/// What both programs show of the stock files must be the same, but for some values. preforkd's has an application line
/// besides.
fn assert_same(folder: &Folder, differing: &[&str]) {
    let main = folder.path("php-fpm.conf");
    let pool = std::fs::read_to_string(folder.path("pool.d/www.conf")).expect("it was written");
    let theirs = shown("/usr/sbin/php-fpm8.2", &main);
    folder.write("pool.d/www.conf", &(pool + "\napp = hello\n"));
    let ours = shown(env!("CARGO_BIN_EXE_preforkd"), &main);
    for (name, value) in theirs.iter().filter(|(name, _)| !name.contains(" php_")) {
        let own = ours
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not shown"));
        let differs = differing.contains(&name.as_str());
        assert_eq!(own != value, differs, "{name}: {own}, there {value}");
    }
    assert_eq!(ours["[www] app"], "hello");
}

#[test]
fn the_stock_configuration_of_php_fpm_loads() {
    if !is_root() {
        return;
    }
    // What is told in the manual as a difference, what only PHP has, and what php-fpm shows otherwise than it uses it.
    let differing = [
        "[global] events.mechanism",
        "[global] log_level",
        "[global] log_limit",
        "[global] process_control_timeout",
        "[global] syslog.facility",
        "[global] syslog.ident",
        "[www] access.format",
        "[www] catch_workers_output",
        "[www] listen.mode",
        "[www] ping.response",
        "[www] pm.process_idle_timeout",
        "[www] security.limit_extensions",
    ];
    assert_same(&stock(str::to_owned), &differing);
}

#[test]
fn the_stock_configuration_runs() {
    if !is_root() {
        return;
    }
    let folder = stock(|text| text.replace("\n[www]\n", "\n[www]\napp = hello\n"));
    let socket = folder.path("php8.2-fpm.sock");
    let pid_file = folder.path("php8.2-fpm.pid");
    let mut command = daemon::command(&folder.path("php-fpm.conf"));
    let daemon = Daemon::launch(folder, command.arg("-O"), Turn::shared()).ready();
    let answer = Address::Unix(socket).get("/").expect("the pool answers");
    assert_eq!(answer.status, 200);
    let pid = std::fs::read_to_string(pid_file).expect("there is a pid file");
    assert_eq!(pid, daemon.pid().to_string());
}

#[test]
fn the_stock_configuration_loads_with_its_comments_opened() {
    if !is_root() {
        return;
    }
    let opened = |text: &str| -> String {
        let lines = text.lines().map(|line| {
            let open = line.strip_prefix(';').filter(|rest| {
                let name = rest.split(['=', '[']).next().unwrap_or_default().trim_end();
                !name.is_empty()
                    && name
                        .bytes()
                        .all(|c| c.is_ascii_lowercase() || b"._".contains(&c))
            });
            match open {
                // Neither is known on Linux, nor is the folder there.
                Some(rest) if rest.starts_with("listen.setfib") || rest.starts_with("chdir") => {
                    line
                }
                Some(rest) if rest.contains('=') => rest,
                _ => line,
            }
        });
        lines.map(|line| format!("{line}\n")).collect()
    };
    let differing = [
        "[global] events.mechanism",
        "[global] log_level",
        "[global] syslog.facility",
        "[www] access.format",
        // In the order of the file here.
        "[www] access.suppress_path[]",
        "[www] chroot",
        "[www] env[HOSTNAME]",
        "[www] listen.acl_groups",
        "[www] listen.acl_users",
        "[www] pm.process_idle_timeout",
        "[www] security.limit_extensions",
    ];
    assert_same(&stock(opened), &differing);
}

/// Level and text of the first line that a check tells, without its time, and its exit status; and what it says of the
/// configuration as a whole.
fn told(program: &str, configuration: &Path) -> ((String, String, Option<i32>), Option<String>) {
    let output = Command::new(program)
        .args(["-t", "-y"])
        .arg(configuration)
        .output()
        .expect("the program can be started");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let first = told.lines().next().expect("something is told");
    let text = first.split_once("] ").expect("it has a time").1;
    let (level, text) = text.split_once(": ").expect("it has a level");
    let first = (level.to_owned(), text.to_owned(), output.status.code());
    let whole = told.lines().find_map(|line| {
        let (_, text) = line.split_once("] ERROR: ")?;
        let is_whole = ["failed to load", "failed to post"];
        let is_whole = is_whole.iter().any(|begin| text.starts_with(begin));
        is_whole.then(|| text.to_owned())
    });
    (first, whole)
}

#[test]
fn mistakes_are_told_in_the_words_of_php_fpm() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("x.conf");
    let log = folder.path().join("log");
    let base = "listen = 127.0.0.1:9\nuser = www-data\npm = static\npm.max_children = 2\n";
    let dynamic = format!("{base}pm = dynamic\npm.min_spare_servers = ");
    for lines in [
        base.replace("user = www-data\n", ""),
        base.replace("listen = 127.0.0.1:9\n", ""),
        base.replace("pm = static\n", ""),
        base.replace("pm.max_children = 2\n", ""),
        base.replace("www-data", "ghost"),
        format!("{base}group = ghosts\n"),
        format!("{base}pm = dynamic\npm.max_spare_servers = 1\n"),
        format!("{dynamic}1\n"),
        format!("{dynamic}2\npm.max_spare_servers = 1\n"),
        format!("{dynamic}1\npm.max_spare_servers = 3\n"),
        format!("{dynamic}1\npm.max_spare_servers = 2\npm.start_servers = 3\n"),
        format!(
            "{base}[b]\nuser = www-data\nlisten = 127.0.0.1:9\npm = static\npm.max_children = 1\napp = hello\n"
        ),
        format!("{base}request_slowlog_timeout = 1\n"),
        format!("{base}colour = red\n"),
        format!("{base}clear_env = perhaps\n"),
        format!("{base}pm.max_requests = some\n"),
        format!("{base}request_terminate_timeout = 5x\n"),
        format!("{base}pm = many\n"),
        format!("{base}chdir = /nowhere/at/all\n"),
        format!("{base}prefix = /nowhere/at/all\n"),
        format!("{base}[global]\npid = /run/$pool.pid\n"),
    ] {
        let text = format!("error_log = {}\n[a]\n{lines}", log.display());
        // php-fpm does not know of applications.
        std::fs::write(&file, text.replace("app = hello\n", "")).expect("it can be written");
        let ((level, theirs, status), whole) = told("/usr/sbin/php-fpm8.2", &file);
        std::fs::write(&file, text.replace("[a]\n", "[a]\napp = hello\n"))
            .expect("it can be written");
        let ((own_level, own, own_status), own_whole) = told(env!("CARGO_BIN_EXE_preforkd"), &file);
        // What is before it is the pool, or the place in the file, which stands elsewhere here.
        let words = theirs.split_once("] ").map_or(&*theirs, |(_, words)| words);
        // The directive and its value are there in any case.
        let words = match words.strip_prefix("unable to parse value for entry '") {
            Some(rest) => rest.split_once("': ").expect("it says why").1,
            None => words,
        };
        // Numbers have a range of their own here, and the choice comes behind it.
        let words = words.split(" (greater").next().unwrap_or(words);
        let words = words.split(" (static").next().unwrap_or(words);
        assert!(own.contains(words), "{own}\nthere: {theirs}");
        assert_eq!((own_level, own_status), (level, status), "{own}");
        // Nothing is said there of users that do not exist.
        if whole.is_some() {
            assert_eq!(own_whole, whole, "{own}");
        }
    }
}

#[test]
fn a_missing_file_is_told() {
    let output = run(&["-F", "-y", "/nowhere/at/all.conf"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/at/all.conf"));
}

#[test]
fn exit_statuses_are_those_of_php_fpm() {
    for arguments in [
        &["-v"][..],
        &["-h"],
        &["-?"],
        &["-i"],
        &["-m"],
        &["--version"],
        &["--help"],
        &["-x"],
        &["--sideways"],
        &["stray"],
        &["-y"],
        &["-p"],
        &["-t", "-y", "/nowhere/at/all.conf"],
        &["-F", "-y", "/nowhere/at/all.conf"],
        &["-D", "-y", "/nowhere/at/all.conf"],
        &["-nt", "-d", "a=b", "-y", "/nowhere/at/all.conf"],
    ] {
        let theirs = Command::new("/usr/sbin/php-fpm8.2")
            .args(arguments)
            .output()
            .expect("php8.2-fpm is installed, as tests/run.sh does");
        let own = run(arguments);
        assert_eq!(own.status.code(), theirs.status.code(), "{arguments:?}");
    }
}

#[test]
fn a_wrong_command_line_is_status_64() {
    assert_eq!(run(&["--sideways"]).status.code(), Some(64));
    assert_eq!(run(&["stray"]).status.code(), Some(64));
}

#[test]
fn mistakes_are_lines_of_the_log_at_php_fpms_levels() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("x.conf");
    std::fs::write(&file, "[site]\nlisten = 127.0.0.1:9\ncolour = red\n")
        .expect("it can be written");
    let output = run(&["check", "-y", file.to_str().expect("its name is text")]);
    assert_eq!(output.status.code(), Some(78));
    let told = String::from_utf8_lossy(&output.stderr);
    let place = file.display();
    for line in [
        format!(
            "] ALERT: {place}:1: [pool site] the process manager is missing (static, dynamic or ondemand)"
        ),
        format!("] ALERT: {place}:1: [pool site] pm.max_children must be a positive value"),
        format!("] ERROR: {place}:3: [pool site] colour = red: unknown entry 'colour'"),
        format!("] ERROR: failed to load configuration file '{place}'"),
        "] ERROR: FPM initialization failed".to_owned(),
    ] {
        assert!(told.contains(&line), "{line} in {told}");
    }
    assert!(told.lines().all(|line| line.starts_with('[')), "{told}");
}

#[test]
fn words_say_what_flags_do() {
    let setup = Setup::new().pool("hello", HELLO);
    let configuration = setup.write();
    let name = configuration.to_str().expect("its name is text");
    let text = |arguments: &[&str]| {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        // Without the times.
        let lines = told.lines().filter_map(|line| line.split_once("] "));
        lines.map(|(_, text)| text.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(text(&["check", "-y", name]), text(&["-t", "-y", name]));
    let shown = text(&["-y", name, "config"]);
    assert_eq!(shown, text(&["-tt", "-y", name]));
    assert!(
        shown.contains(&"NOTICE: \tlisten.mode = 0660".to_owned()),
        "{shown:?}"
    );
    // What wrappers of php-fpm pass changes nothing.
    assert_eq!(
        shown,
        text(&[
            "-n",
            "-d",
            "display_errors=0",
            "-c",
            "/etc/php.ini",
            "-tt",
            "-y",
            name
        ])
    );
}

#[test]
fn a_prefix_is_where_everything_begins() {
    let setup = Setup::new();
    let owner = if nix::unistd::Uid::effective().is_root() {
        "user = www-data\n"
    } else {
        ""
    };
    setup.folder.write(
        "etc/preforkd.conf",
        "pid = run/x.pid\nerror_log = x.log\ninclude = pools/*\n",
    );
    setup.folder.write(
        "pools/hello",
        &format!("[hello]\nlisten = run/$pool.sock\n{owner}{HELLO}\n"),
    );
    let root = setup.folder.root().to_str().expect("its name is text");
    let output = run(&["-tt", "-p", root]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    for line in [
        format!("\tpid = {root}/run/x.pid"),
        format!("\terror_log = {root}/x.log"),
        format!("\tlisten = {root}/run/hello.sock"),
        format!("configuration file {root}/etc/preforkd.conf test is successful"),
    ] {
        assert!(told.contains(&line), "{line} in {told}");
    }
}

#[test]
fn help_and_version_are_shown() {
    let help = run(&["-h"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("-y"));
    let version = run(&["-v"]);
    assert_eq!(version.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn includes_and_variables_are_filled_in() {
    let setup = Setup::new()
        .global("include = @DIR@/pools/*.conf")
        .pool("main", HELLO);
    let owner = if nix::unistd::Uid::effective().is_root() {
        "user = www-data\n"
    } else {
        ""
    };
    let directory = setup.folder.root().display().to_string();
    for name in ["one", "two"] {
        let text = format!("[{name}]\n{owner}listen = {directory}/$pool.sock\n{HELLO}\n");
        setup.folder.write(&format!("pools/{name}.conf"), &text);
    }
    let daemon = setup.start();
    for pool in ["main", "one", "two"] {
        assert_eq!(
            daemon
                .address(pool)
                .get("/")
                .expect("the pool answers")
                .status,
            200,
            "{pool}"
        );
    }
}
