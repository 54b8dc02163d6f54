//! What a person is told about each mistake.

use super::*;

#[test]
fn files_that_cannot_be_included() {
    let case = Case::new("include = loop\ninclude = deep\ninclude = pipe\n");
    case.write("loop", "include = loop\n");
    std::os::unix::fs::symlink("nowhere", case.path("deep")).unwrap();
    nix::unistd::mkfifo(&case.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(
        case.load().unwrap_err(),
        [
            "@/loop:1: [global] include = loop: files include each other more than 5 deep",
            "@/x.conf:2: [global] include = deep: @/deep: failed to open configuration file: No such file or directory (2)",
            "@/x.conf:3: [global] include = pipe: @/pipe: is not a regular file",
        ]
    );
}

#[test]
fn five_files_deep_are_enough() {
    let deep = |files: usize| {
        let case = Case::new("include = 2");
        for number in 2..files {
            case.write(&number.to_string(), &format!("include = {}", number + 1));
        }
        case.write(&files.to_string(), &pool_with(""));
        case.load()
    };
    assert!(deep(5).is_ok());
    assert!(deep(6).is_err());
}

#[test]
fn files_that_cannot_be_read() {
    let case = Case::new("");
    fs::remove_file(case.path("x.conf")).unwrap();
    assert_eq!(
        case.load().unwrap_err(),
        ["@/x.conf: failed to open configuration file: No such file or directory (2)"]
    );
    fs::create_dir(case.path("x.conf")).unwrap();
    assert_eq!(
        case.load().unwrap_err(),
        ["@/x.conf: failed to open configuration file: Is a directory (21)"]
    );
}

#[test]
fn bounds_on_what_is_read() {
    let mebibyte = ";".repeat(1024 * 1024 - 200);
    assert!(
        Case::new(&format!("{}{mebibyte}", pool_with("")))
            .load()
            .is_ok()
    );
    assert_eq!(
        Case::new(&format!("{mebibyte}{mebibyte}"))
            .load()
            .unwrap_err(),
        ["@/x.conf: is longer than 1048576 bytes"]
    );
    assert_eq!(
        Case::new(&"a\n".repeat(100_001)).load().unwrap_err(),
        ["@/x.conf: there are more than 100000 lines in all"]
    );
    let case = Case::new("include = @/many/*\n");
    for number in 0..10_000 {
        case.write(&format!("many/{number}"), "");
    }
    assert_eq!(
        case.load().unwrap_err(),
        ["@/x.conf:1: [global] include = @/many/*: there are more than 10000 files"]
    );
}

#[test]
fn mistakes_about_users() {
    let name = "cannot get uid for user 'ghost': add it (adduser --system), or choose another";
    let group = "cannot get gid for group 'ghosts': add it (addgroup --system), or choose another";
    for (lines, expected) in [
        (
            "",
            vec!["1: [pool site] user has not been defined: preforkd is root here, and workers run as another user; add user = NAME".to_owned()],
        ),
        ("user = ghost", vec![format!("6: [pool site] user = ghost: {name}")]),
        (
            "user = root",
            vec!["6: [pool site] user = root: please specify user and group other than root".to_owned()],
        ),
        (
            "user = 0",
            vec!["6: [pool site] user = 0: please specify user and group other than root".to_owned()],
        ),
        (
            "user = www-data\ngroup = root",
            vec!["7: [pool site] group = root: please specify user and group other than root".to_owned()],
        ),
        (
            "user = ghost\ngroup = ghosts",
            vec![
                format!("6: [pool site] user = ghost: {name}"),
                format!("7: [pool site] group = ghosts: {group}"),
            ],
        ),
        (
            "user = 424242",
            vec!["6: [pool site] user = 424242: the system has no such user, and so no group for it: add group = NAME".to_owned()],
        ),
        (
            "user = 4294967295",
            vec!["6: [pool site] user = 4294967295: must be a whole number from 0 to 4294967294".to_owned()],
        ),
        (
            "user = www-data\nlisten.owner = ghost\nlisten.group = ghosts",
            vec![
                format!("7: [pool site] listen.owner = ghost: {name}"),
                format!("8: [pool site] listen.group = ghosts: {group}"),
            ],
        ),
    ] {
        assert_eq!(told_as(ROOT, &pool_with(lines)), expected, "{lines}");
    }
}

#[test]
fn what_is_missing() {
    assert_eq!(
        told("[site]\n"),
        [
            "1: [pool site] no listen address have been defined! Add listen = the path of a Unix socket, host:port, or a port",
            "1: [pool site] pm.max_children must be a positive value: add the most workers that the memory is good for",
            "1: [pool site] the process manager is missing (static, dynamic or ondemand): add pm = dynamic",
            "1: [pool site] no application is defined: add wsgi = package.module:callable, exec = /PROGRAM, or app = hello",
        ]
    );
    assert_eq!(
        told_of_pool("pm = dynamic"),
        [
            "1: [pool site] pm.min_spare_servers(0) must be a positive value: pm = dynamic needs it",
            "1: [pool site] pm.max_spare_servers(0) must be a positive value: pm = dynamic needs it",
        ]
    );
    let none = " No pool defined. at least one pool section must be specified in config file: add a section such as [site], with listen, pm, pm.max_children, and wsgi or app";
    assert_eq!(told(""), [none]);
    assert_eq!(told("[global]\nlog_level = debug"), [none]);
}

#[test]
fn one_mistake_in_a_line() {
    let number = "must be a whole number from 1 to 4096";
    let time = "invalid time value: must be a whole number with s, m, h or d after it (seconds if without), from";
    for (line, expected) in [
        ("x", "x has no value: write NAME = VALUE".to_owned()),
        (
            "pm.max_childern = 5",
            "pm.max_childern = 5: unknown entry 'pm.max_childern\'; did you mean pm.max_children?".to_owned(),
        ),
        (
            "python_path[] = /x",
            "python_path[] = /x: unknown entry 'python_path\'; did you mean pythonpath[]?".to_owned(),
        ),
        ("colour = red", "colour = red: unknown entry 'colour'".to_owned()),
        (
            "pid = /x",
            "pid = /x: belongs in [global], not in the section of a pool".to_owned(),
        ),
        ("listen[] = 1", "listen[] = 1: is written listen = VALUE".to_owned()),
        ("env = 1", "env = 1: is written env[NAME] = VALUE".to_owned()),
        ("env[] = 1", "env[] = 1: is written env[NAME] = VALUE".to_owned()),
        ("env[a=b] = 1", "env[a=b] = 1: is written env[NAME] = VALUE".to_owned()),
        ("wsgi.warmup = /", "wsgi.warmup = /: is written wsgi.warmup[] = VALUE".to_owned()),
        ("wsgi.warmup[x] = /", "wsgi.warmup[x] = /: is written wsgi.warmup[] = VALUE".to_owned()),
        (
            "listen.mode = ; rw",
            "listen.mode = : has no value; leave the line out for the default".to_owned(),
        ),
        (
            "wsgi.warmup[] =",
            "wsgi.warmup[] = : has no value; leave the line out for the default".to_owned(),
        ),
        (
            "chdir = ${NOPE}",
            "chdir = : has no value; leave the line out for the default".to_owned(),
        ),
        ("pm.max_children = 0", format!("pm.max_children = 0: {number}")),
        ("pm.max_children = 4097", format!("pm.max_children = 4097: {number}")),
        (
            "pm.max_spawn_rate = 0",
            "pm.max_spawn_rate = 0: must be a whole number from 1 to 4294967295".to_owned(),
        ),
        (
            "pm = dynamical",
            "pm = dynamical: invalid process manager: must be static, dynamic or ondemand".to_owned(),
        ),
        (
            "pm.process_idle_timeout = 0",
            format!("pm.process_idle_timeout = 0: {time} 1s to 365d"),
        ),
        (
            "request_terminate_timeout = 1.5s",
            format!("request_terminate_timeout = 1.5s: {time} 0s to 365d"),
        ),
        ("clear_env = maybe", "clear_env = maybe: invalid boolean value: must be yes or no".to_owned()),
        (
            "listen.mode = 888",
            "listen.mode = 888: must be permission bits in octal, such as 0660".to_owned(),
        ),
        (
            "listen = 99999",
            "listen = 99999: invalid port value '99999': a port is a whole number from 1 to 65535".to_owned(),
        ),
        (
            "listen = x.sock",
            "listen = x.sock: must be an absolute path, or the pool needs a prefix = /FOLDER".to_owned(),
        ),
        (
            "listen = /run/",
            "listen = /run/: must be the path of a socket, not a folder".to_owned(),
        ),
        (
            "pm.status_listen = 9000",
            "pm.status_listen = 9000: unable to set listen address as it's already used in another pool 'site' (listen = 9000, @/x.conf:2): choose another".to_owned(),
        ),
        (
            "pm.status_path = status",
            "pm.status_path = status: must be a path of requests: a /, then letters, digits and / _ - . ~".to_owned(),
        ),
        (
            "pm.status_path = /",
            "pm.status_path = /: must have at least 2 characters: / is the application's, unless pm.status_listen is set".to_owned(),
        ),
        (
            "ping.path = /",
            "ping.path = /: must have at least 2 characters: / is the application's".to_owned(),
        ),
        (
            "request_slowlog_timeout = 1",
            "request_slowlog_timeout = 1: 'slowlog' must be specified for use with 'request_slowlog_timeout': add slowlog = /FILE".to_owned(),
        ),
        (
            "slowlog = @/none/slow",
            "slowlog = @/none/slow: must be in an existing folder; @/none is none: make it".to_owned(),
        ),
        (
            "access.suppress_path[] = ping",
            "access.suppress_path[] = ping: must be a path of requests, which begins with /".to_owned(),
        ),
        (
            "access.format = \"%s %X\"",
            "access.format = %s %X: wrong format for access.format '%s %X': Invalid token in the access.format (%X)".to_owned(),
        ),
        (
            "access.log = @/dir",
            "access.log = @/dir: must be a file; @/dir is a folder".to_owned(),
        ),
        (
            "listen.acl_users = \" , \"",
            "listen.acl_users =  , : must be names or numbers with commas between them".to_owned(),
        ),
        (
            "chdir = @/none",
            "chdir = @/none: the chdir path '@/none' does not exist or is not a directory: No such file or directory (2)".to_owned(),
        ),
        (
            "chdir = @/file",
            "chdir = @/file: the chdir path '@/file' does not exist or is not a directory: it is something else".to_owned(),
        ),
        (
            "prefix = @/none",
            "prefix = @/none: the prefix '@/none' does not exist or is not a directory: No such file or directory (2)".to_owned(),
        ),
        ("app = goodbye", "app = goodbye: must be hello".to_owned()),
        (
            "wsgi = a",
            "wsgi = a: a pool has one application, and there is app = hello, too: remove one of the two".to_owned(),
        ),
        (
            "exec = /x",
            "exec = /x: a pool has one application, and there is app = hello, too: remove one of the two".to_owned(),
        ),
        (
            "exec.ready = connect",
            "exec.ready = connect: belongs to a pool with exec, and this one has app = hello: remove it".to_owned(),
        ),
        (
            "python = /x",
            "python = /x: belongs to a pool with wsgi, and this one has app = hello: remove it".to_owned(),
        ),
        (
            "pythonpath[] = /x",
            "pythonpath[] = /x: belongs to a pool with wsgi, and this one has app = hello: remove it".to_owned(),
        ),
    ] {
        assert_eq!(told_of_pool(line), [format!("6: [pool site] {expected}")], "{line}");
    }
    let long = format!("/{}", "x".repeat(107));
    assert_eq!(
        told_of_pool(&format!("listen = {long}")),
        [format!(
            "6: [pool site] listen = {long}: must have at most 107 bytes, which is the system's limit; it has 108"
        )]
    );
}

#[test]
fn mistakes_in_global() {
    for (line, expected) in [
        (
            "listen = 1",
            "listen = 1: belongs in the section of a pool, not in [global]",
        ),
        (
            "syslog.facility = kernel",
            "syslog.facility = kernel: must be auth, authpriv, cron, daemon,",
        ),
        (
            "log_limit = 511",
            "log_limit = 511: must be a whole number from 512 to",
        ),
        (
            "process.priority = 21",
            "process.priority = 21: must be a whole number from -20 (most urgent) to 20",
        ),
        (
            "rlimit_files = unlimited",
            "rlimit_files = unlimited: is not a valid number: must be a whole number from 0 to 9223372036854775807",
        ),
        (
            "rlimit_core = -1",
            "rlimit_core = -1: is not a valid number: must be a whole number from 0 to 9223372036854775807, or unlimited",
        ),
        (
            "process.max = 3",
            "process.max = 3: must be at least 4, the workers that the pools have at their start",
        ),
        (
            "log_level = loud",
            "log_level = loud: must be debug, notice, warning, warn, error or alert",
        ),
        (
            "pid = /run/$pool.pid",
            "pid = /run/$pool.pid: Can't use '$pool' when the pool is not defined: it has a meaning in the section of a pool only",
        ),
        (
            "include = [x",
            "include = [x: is no pattern: Pattern syntax error near position",
        ),
    ] {
        let told = told(&format!("{line}\n{}", pool_with("")));
        assert!(
            told[0].starts_with(&format!("1: [global] {expected}")),
            "{told:?}"
        );
        assert_eq!(told.len(), 1, "{told:?}");
    }
}

#[test]
fn mistakes_about_python() {
    let python = |lines: &str| told(&pool_with("").replace("app = hello", lines));
    for (line, expected) in [
        (
            "python = @/none",
            "must be a Python interpreter, such as that of a virtual environment; @/none: No such file or directory (2)",
        ),
        (
            "python = @/dir",
            "must be a Python interpreter, such as that of a virtual environment; @/dir: Is a directory (21)",
        ),
        (
            "python = @/file",
            "must be a Python interpreter, such as that of a virtual environment; @/file: Permission denied (13): it is not executable",
        ),
        (
            "python = @/python\npythonpath[] = @/none",
            "must be an existing folder or archive; @/none: No such file or directory (2)",
        ),
        (
            "python = @/python\nwsgi.warmup[] = x",
            "must be a URL's path: a /, then ASCII without blanks (others written as %XX)",
        ),
        (
            "python = @/python\nmount = app",
            "must be auto, or a prefix of URL paths such as /app",
        ),
    ] {
        let wrong = line.lines().last().unwrap();
        let number = 5 + line.lines().count();
        assert_eq!(
            python(&format!("wsgi = a\n{line}")),
            [format!("{number}: [pool site] {wrong}: {expected}")]
        );
    }
}

#[test]
fn spare_servers_that_contradict_each_other() {
    for (min, max, start, expected) in [
        (
            5,
            3,
            None,
            vec![
                "8: [pool site] pm.max_spare_servers = 3: pm.max_spare_servers(3) must not be less than pm.min_spare_servers(5): raise it, or lower pm.min_spare_servers",
            ],
        ),
        (
            2,
            11,
            None,
            vec![
                "8: [pool site] pm.max_spare_servers = 11: pm.min_spare_servers(2) and pm.max_spare_servers(11) cannot be greater than pm.max_children(10): lower it, or raise pm.max_children",
            ],
        ),
        (
            11,
            12,
            None,
            vec![
                "7: [pool site] pm.min_spare_servers = 11: pm.min_spare_servers(11) and pm.max_spare_servers(12) cannot be greater than pm.max_children(10): lower it, or raise pm.max_children",
                "8: [pool site] pm.max_spare_servers = 12: pm.min_spare_servers(11) and pm.max_spare_servers(12) cannot be greater than pm.max_children(10): lower it, or raise pm.max_children",
            ],
        ),
        (
            2,
            6,
            Some(1),
            vec![
                "9: [pool site] pm.start_servers = 1: pm.start_servers(1) must not be less than pm.min_spare_servers(2) and not greater than pm.max_spare_servers(6): without it, it is 4",
            ],
        ),
        (
            2,
            6,
            Some(7),
            vec![
                "9: [pool site] pm.start_servers = 7: pm.start_servers(7) must not be less than pm.min_spare_servers(2) and not greater than pm.max_spare_servers(6): without it, it is 4",
            ],
        ),
    ] {
        let mut lines =
            format!("pm = dynamic\npm.min_spare_servers = {min}\npm.max_spare_servers = {max}\n");
        if let Some(start) = start {
            lines += &format!("pm.start_servers = {start}\n");
        }
        let text = pool_with(&lines).replace("pm.max_children = 4", "pm.max_children = 10");
        assert_eq!(told(&text), expected, "{lines}");
    }
}

#[test]
fn two_pools_on_one_address() {
    let pool = |name: &str, listen: &str| {
        format!("[{name}]\nlisten = {listen}\npm = static\npm.max_children = 1\napp = hello\n")
    };
    for (one, other) in [
        ("/run/a.sock", "/run//a.sock"),
        ("127.0.0.1:9000", "127.0.0.1:9000"),
        ("9000", "[::]:9000"),
        ("0.0.0.0:9000", "127.0.0.1:9000"),
    ] {
        assert_eq!(
            told(&format!("{}{}", pool("a", one), pool("b", other))),
            [format!(
                "7: [pool b] listen = {other}: unable to set listen address as it's already used in another pool 'a' (listen = {one}, @/x.conf:2): choose another"
            )]
        );
    }
    loaded(&format!("{}{}", pool("a", "9000"), pool("b", "9001")));
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_lines() {
    let case = Case::new(
        "log_level = loud\n\
         [a]\n\
         listen = /run/x\n\
         listen.mode = x\n\
         pm = dynamic\n\
         pm.max_children = 4\n\
         pm.min_spare_servers = 3\n\
         pm.max_spare_servers = 2\n\
         include = more\n\
         app = hello\n\
         mount = /\n",
    );
    case.write("more", "colour = red\n[b]\nlisten = /run/x\n");
    let told = case.load().unwrap_err();
    let places: Vec<&str> = told
        .iter()
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        places,
        [
            "@/x.conf:1",
            "@/x.conf:4",
            "@/x.conf:8",
            "@/more:1",
            "@/more:2",
            "@/more:2",
            "@/more:2",
            "@/more:3",
            "@/x.conf:11",
        ],
        "{told:#?}"
    );
}

#[test]
fn an_include_that_matches_nothing_where_the_pools_should_be() {
    assert_eq!(
        told("include = pools/*.cnf\ninclude = more\n"),
        [
            "1: [global] include = pools/*.cnf: matches no file, and no pool is defined: there is no @/pools/*.cnf",
            "2: [global] include = more: matches no file, and no pool is defined: there is no @/more",
        ]
    );
}

#[test]
fn empty_values() {
    let rule = "has no value; leave the line out for the default";
    for name in ["listen.mode", "pythonpath[]", "clear_env", "include"] {
        assert_eq!(
            told_of_pool(&format!("{name} =")),
            [format!("6: [pool site] {name} = : {rule}")]
        );
    }
}

#[test]
fn a_wrong_value_is_told_once() {
    // None of these is also missing, nor compared with anything.
    assert_eq!(
        told_as(ROOT, "[a]\nlisten =\npm =\npm.max_children =\nuser =\napp =\ninclude =\nprefix =\nlisten.mode =").len(),
        7
    );
    assert_eq!(
        told("[a]\nprefix = x\nlisten = a.sock\npm = dynamic\npm.max_children = x\npm.min_spare_servers = 2\npm.max_spare_servers = x\napp = x\nchdir = x").len(),
        4
    );
}

#[test]
fn names_of_pools() {
    for name in ["", &"x".repeat(65)] {
        let told = told(&pool_with("env[X] = $pool").replace("[site]", &format!("[{name}]")));
        let expected = format!("1: [pool {name}] the name of a pool must have from 1 to 64 bytes");
        assert_eq!(told, [expected]);
    }
    let longest = "x".repeat(64);
    let config = loaded(&pool_with("").replace("site", &longest));
    assert_eq!(config.pools[0].name, longest);
}

/// What a mold is told goes into one message.
#[test]
fn more_than_a_mold_can_be_told() {
    let warmup = |count: usize| {
        let line = format!("wsgi.warmup[] = /{}\n", "a".repeat(999));
        pool_with(&line.repeat(count)).replace("app = hello", "wsgi = site\npython = @/python")
    };
    let load = |text: &str| {
        let case = Case::new("");
        case.write("x.conf", text);
        case.load()
    };
    assert!(load(&warmup(60)).is_ok());
    let told = load(&warmup(90)).unwrap_err();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].starts_with("@/x.conf:67: ")
            && told[0].ends_with(
                "makes what the mold is told longer than 61440 bytes: have fewer, or shorter, lines of wsgi.warmup, pythonpath, access.suppress_path, access.format and ping.response"
            ),
        "{told:#?}"
    );
    let told = load(&format!(
        "{}ping.response = {}\n",
        warmup(10),
        "a".repeat(60_000)
    ));
    assert_eq!(told.unwrap_err().len(), 1);
}

/// The kernel starts no program with a longer one.
#[test]
fn a_variable_that_is_too_long() {
    let load = |name: usize| {
        let line = format!("env[{}] = value", "N".repeat(name));
        Case::new(&pool_with(&line)).load()
    };
    assert!(load(120 * 1024 - 5).is_ok());
    let told = load(120 * 1024 - 4).unwrap_err();
    assert_eq!(told.len(), 1);
    assert!(
        told[0].ends_with(
            "must have at most 122880 bytes with its name, since the system takes no more; it has 122881"
        ),
        "{}",
        &told[0][told[0].len() - 200..]
    );
}
