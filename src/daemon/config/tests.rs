//! Whole configurations: what they mean, and what each mistake is told.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{Gid, Uid, User};
use preforkd_plan::scale::{Limits, Mode};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const ROOT: Uid = Uid::from_raw(0);
const PERSON: Uid = Uid::from_raw(1000);

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
        let python = case.write("python", "");
        fs::set_permissions(python, Permissions::from_mode(0o755)).unwrap();
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

    fn load_as(&self, effective_uid: Uid) -> Result<Config, Vec<String>> {
        let surroundings = Surroundings {
            effective_uid,
            variable: &|name| match name {
                "COLOUR" => Some("green".into()),
                _ => None,
            },
        };
        load(&self.path("x.conf"), &surroundings).map_err(|problems| {
            let text = problems.to_string().replace(&self.at(), "@");
            text.lines().map(str::to_owned).collect()
        })
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

#[test]
fn the_least_configuration_and_its_defaults() {
    let config = loaded(&pool_with(""));
    assert_eq!(
        config,
        Config {
            global: Global {
                pid: None,
                error_log: None,
                log_level: LogLevel::Notice,
                process_control_timeout: Duration::from_secs(30),
            },
            pools: vec![Pool {
                name: "site".to_owned(),
                listen: Listen::Port(9000),
                backlog: None,
                listen_owner: None,
                listen_group: None,
                listen_mode: 0o660,
                identity: None,
                chdir: None,
                env: vec![],
                clear_env: true,
                limits: Limits {
                    mode: Mode::Static,
                    max_children: 4,
                    max_spawn_rate: 32,
                },
                max_requests: 0,
                request_terminate_timeout: None,
                catch_workers_output: true,
                decorate_workers_output: true,
                application: Application::Hello,
            }],
            notices: vec![],
        }
    );
}

#[test]
fn every_directive_of_global() {
    let text = "pid = /run/x.pid\n[GLOBAL]\nerror_log = /var/log/x.log\nLog_Level = warn\n\
                process_control_timeout = 2m\ndaemonize = no\n";
    let config = loaded(&format!("{text}{}", pool_with("")));
    assert_eq!(
        config.global,
        Global {
            pid: Some("/run/x.pid".into()),
            error_log: Some("/var/log/x.log".into()),
            log_level: LogLevel::Warning,
            process_control_timeout: Duration::from_secs(120),
        }
    );
    assert_eq!(config.notices, Vec::<String>::new());
}

#[test]
fn standard_error_is_no_file() {
    let config = loaded(&format!("error_log = /dev/stderr\n{}", pool_with("")));
    assert_eq!(config.global.error_log, None);
}

#[test]
fn staying_in_the_foreground_is_said() {
    let config = loaded(&format!("daemonize = yes\n{}", pool_with("")));
    assert_eq!(
        config.notices,
        ["daemonize = yes has no effect: preforkd stays in the foreground"]
    );
}

#[test]
fn every_directive_of_a_pool() {
    let case = Case::new(
        "[site]\n\
         prefix = @\n\
         listen = run/$pool.sock\n\
         listen.backlog = 100\n\
         listen.mode = 0600\n\
         chdir = dir\n\
         env[A] = 1\n\
         env[B] = $COLOUR\n\
         env[C] = \"${COLOUR}; $pool\"\n\
         env[D] = $NOPE\n\
         env[A] = 2\n\
         env[E] =\n\
         env[F] = True\n\
         clear_env = no\n\
         pm = dynamic\n\
         pm.max_children = 40\n\
         pm.start_servers = 5\n\
         pm.min_spare_servers = 2\n\
         pm.max_spare_servers = 8\n\
         pm.max_spawn_rate = 10\n\
         pm.process_idle_timeout = 1m\n\
         pm.max_requests = 500\n\
         request_terminate_timeout = 90s\n\
         catch_workers_output = no\n\
         decorate_workers_output = off\n\
         wsgi = shop.wsgi:app\n\
         python = python\n\
         pythonpath[] = dir\n\
         pythonpath[] = @/file\n\
         wsgi.preload = no\n\
         wsgi.warmup[] = /\n\
         wsgi.warmup[] = \"/a?b=c&d\"\n\
         mount = /shop/\n",
    );
    let config = case.load().unwrap();
    let env = [
        ("A", "2"),
        ("B", "green"),
        ("C", "green; site"),
        ("D", ""),
        ("E", ""),
        ("F", "True"),
    ];
    assert_eq!(
        config.pools,
        [Pool {
            name: "site".to_owned(),
            listen: Listen::Unix(case.path("run/site.sock")),
            backlog: Some(100),
            listen_owner: None,
            listen_group: None,
            listen_mode: 0o600,
            identity: None,
            chdir: Some(case.path("dir")),
            env: env.map(|(k, v)| (k.into(), v.into())).to_vec(),
            clear_env: false,
            limits: Limits {
                mode: Mode::Dynamic {
                    start: 5,
                    min_spare: 2,
                    max_spare: 8,
                },
                max_children: 40,
                max_spawn_rate: 10,
            },
            max_requests: 500,
            request_terminate_timeout: Some(Duration::from_secs(90)),
            catch_workers_output: false,
            decorate_workers_output: false,
            application: Application::Wsgi(Wsgi {
                module: "shop.wsgi".to_owned(),
                callable: "app".to_owned(),
                python: case.path("python"),
                pythonpath: vec![case.path("dir"), case.path("file")],
                preload: false,
                warmup: vec!["/".to_owned(), "/a?b=c&d".to_owned()],
                mount: Mount::Prefix("/shop".to_owned()),
            }),
        }]
    );
}

#[test]
fn a_python_pool_needs_no_more_than_its_application() {
    let text = pool_with("").replace("app = hello", "wsgi = shop.wsgi\npython = @/python");
    let case = Case::new(&text);
    let config = case.load().unwrap();
    assert_eq!(
        config.pools[0].application,
        Application::Wsgi(Wsgi {
            module: "shop.wsgi".to_owned(),
            callable: "application".to_owned(),
            python: case.path("python"),
            pythonpath: vec![],
            preload: true,
            warmup: vec![],
            mount: Mount::Auto,
        })
    );
}

#[test]
fn the_three_modes() {
    for (lines, mode) in [
        ("pm = static", Mode::Static),
        (
            "pm = ondemand",
            Mode::Ondemand {
                idle_timeout: Duration::from_secs(10),
            },
        ),
        (
            "pm = ondemand\npm.process_idle_timeout = 1",
            Mode::Ondemand {
                idle_timeout: Duration::from_secs(1),
            },
        ),
        (
            "pm = Dynamic\npm.min_spare_servers = 1\npm.max_spare_servers = 4",
            Mode::Dynamic {
                start: 2,
                min_spare: 1,
                max_spare: 4,
            },
        ),
        (
            "pm = dynamic\npm.min_spare_servers = 4\npm.max_spare_servers = 4\npm.start_servers = 4",
            Mode::Dynamic {
                start: 4,
                min_spare: 4,
                max_spare: 4,
            },
        ),
        // As in php-fpm, what is another mode's business is not looked at.
        (
            "pm.min_spare_servers = 9\npm.max_spare_servers = 2\npm.start_servers = 99",
            Mode::Static,
        ),
    ] {
        assert_eq!(the_pool(lines).limits.mode, mode, "{lines}");
    }
}

#[test]
fn a_computed_start_is_said_in_php_fpms_words() {
    let lines = "pm = dynamic\npm.min_spare_servers = 1\npm.max_spare_servers = 4";
    assert_eq!(
        loaded(&pool_with(lines)).notices,
        ["[pool site] pm.start_servers is not set. It's been set to 2."]
    );
}

#[test]
fn every_form_of_listen() {
    let tcp = |text: &str| Listen::Tcp(text.parse::<SocketAddr>().unwrap());
    let long = format!("/{}", "x".repeat(106));
    for (text, listen) in [
        ("/run/a.sock", Listen::Unix("/run/a.sock".into())),
        ("/run/$pool.sock", Listen::Unix("/run/site.sock".into())),
        (&long, Listen::Unix((&long).into())),
        ("9000", Listen::Port(9000)),
        ("127.0.0.1:9000", tcp("127.0.0.1:9000")),
        ("[::1]:9000", tcp("[::1]:9000")),
        ("0.0.0.0:9000", tcp("0.0.0.0:9000")),
    ] {
        assert_eq!(the_pool(&format!("listen = {text}")).listen, listen);
    }
    match the_pool("listen = localhost:9000").listen {
        Listen::Tcp(address) => assert!(address.ip().is_loopback() && address.port() == 9000),
        other => panic!("{other:?}"),
    }
}

#[test]
fn sections_and_names() {
    let config = loaded(
        "[Site]\nLISTEN = 1\n[b]\nlisten = 2\npm = static\npm.max_children = 1\napp = hello\n\
         [global]\nlog_level = error\n\
         [SITE]\npm = static\nPM.Max_Children = 1\nApp = Hello\nlisten = 3\n",
    );
    assert_eq!(config.global.log_level, LogLevel::Error);
    let pools: Vec<_> = config
        .pools
        .iter()
        .map(|pool| (pool.name.as_str(), &pool.listen))
        .collect();
    assert_eq!(pools, [("Site", &Listen::Port(3)), ("b", &Listen::Port(2))]);
}

#[test]
fn included_files() {
    let case = Case::new(
        "include = pools/*.conf\nlog_level = debug\n[a]\ninclude = common\napp = hello\n",
    );
    case.write(
        "pools/2.conf",
        "[b]\nlisten = 2\ninclude = @/common\napp = hello\n",
    );
    case.write(
        "pools/1.conf",
        "process_control_timeout = 1s\n[a]\nlisten = 1\n",
    );
    case.write("pools/.hidden.conf", "nonsense");
    case.write("pools/3.conf.bak", "nonsense");
    fs::create_dir(case.path("pools/dir.conf")).unwrap();
    case.write("common", "pm = static\npm.max_children = 1");
    let config = case.load().unwrap();
    assert_eq!(
        config.global.process_control_timeout,
        Duration::from_secs(1)
    );
    assert_eq!(config.global.log_level, LogLevel::Debug);
    let names: Vec<_> = config.pools.iter().map(|pool| &pool.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(config.notices, Vec::<String>::new());
}

#[test]
fn an_include_that_matches_nothing_is_a_notice() {
    let case = Case::new(&format!("include = none/*.conf\n{}", pool_with("")));
    let notices = case.load().unwrap().notices;
    let expected = "@/x.conf:1: Nothing matches the include pattern '@/none/*.conf'";
    assert_eq!(notices, [expected.replace('@', &case.at())]);
}

#[test]
fn a_folder_whose_name_looks_like_a_pattern() {
    let case = Case::new("");
    case.write("[a]*/x.conf", "include = pools");
    case.write("[a]*/pools", &pool_with(""));
    let surroundings = Surroundings {
        effective_uid: PERSON,
        variable: &|_| None,
    };
    let config = load(&case.path("[a]*/x.conf"), &surroundings).unwrap();
    assert_eq!(config.pools.len(), 1);
}

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
            "@/x.conf:2: [global] include = deep: @/deep: cannot be read: No such file or directory (os error 2)",
            "@/x.conf:3: [global] include = pipe: @/pipe: is not a regular file",
        ]
    );
}

#[test]
fn files_that_cannot_be_read() {
    let case = Case::new("");
    fs::remove_file(case.path("x.conf")).unwrap();
    assert_eq!(
        case.load().unwrap_err(),
        ["@/x.conf: cannot be read: No such file or directory (os error 2)"]
    );
    fs::create_dir(case.path("x.conf")).unwrap();
    assert_eq!(
        case.load().unwrap_err(),
        ["@/x.conf: cannot be read: Is a directory (os error 21)"]
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
fn php_only_directives_have_one_notice_each() {
    let case = Case::new(&format!(
        "events.mechanism = epoll\n{}",
        pool_with(
            "php_value[a] = 1\nphp_value[b] = 2\nphp_flag[a] = on\nphp_admin_value[a] =\nphp_admin_flag[a] = x\n\
             security.limit_extensions = .php .php3\nlisten.setfib = 1\nphp_flag[b] = on\n"
        )
    ));
    let notices = case.load().unwrap().notices.join("\n");
    let expected = "@/x.conf:1: [global] events.mechanism is accepted for php-fpm's sake and ignored\n\
                    @/x.conf:7: [site] php_value[NAME] is accepted for php-fpm's sake and ignored\n\
                    @/x.conf:9: [site] php_flag[NAME] is accepted for php-fpm's sake and ignored\n\
                    @/x.conf:10: [site] php_admin_value[NAME] is accepted for php-fpm's sake and ignored\n\
                    @/x.conf:11: [site] php_admin_flag[NAME] is accepted for php-fpm's sake and ignored\n\
                    @/x.conf:12: [site] security.limit_extensions is accepted for php-fpm's sake and ignored\n\
                    @/x.conf:13: [site] listen.setfib is accepted for php-fpm's sake and ignored";
    assert_eq!(notices, expected.replace('@', &case.at()));
}

#[test]
fn users_for_root() {
    let www = User::from_name("www-data").unwrap().unwrap();
    let identity = |lines: &str| {
        let config = Case::new(&pool_with(lines)).load_as(ROOT);
        config.unwrap().pools.remove(0).identity
    };
    let expected = Some(Identity {
        user: "www-data".to_owned(),
        uid: www.uid,
        gid: www.gid,
        home: www.dir,
    });
    assert_eq!(identity("user = www-data"), expected);
    assert_eq!(identity(&format!("user = {}", www.uid)), expected);
    assert_eq!(identity("user = www-data\ngroup = www-data"), expected);
    assert_eq!(
        identity("user = www-data\ngroup = 4242").unwrap().gid,
        Gid::from_raw(4242)
    );
    assert_eq!(
        identity("user = 424242\ngroup = 4242"),
        Some(Identity {
            user: "424242".to_owned(),
            uid: Uid::from_raw(424_242),
            gid: Gid::from_raw(4242),
            home: "/".into(),
        })
    );
}

#[test]
fn owners_of_a_socket() {
    let www = User::from_name("www-data").unwrap().unwrap();
    let other = Gid::from_raw(4242);
    for (effective_uid, lines, owner, group) in [
        (
            ROOT,
            "listen.owner = www-data",
            Some(www.uid),
            Some(www.gid),
        ),
        (
            ROOT,
            "listen.owner = www-data\nlisten.group = 4242",
            Some(www.uid),
            Some(other),
        ),
        (ROOT, "listen.group = www-data", None, Some(www.gid)),
        (PERSON, "listen.owner = www-data", None, None),
        (PERSON, "listen.group = 4242", None, Some(other)),
    ] {
        let lines = format!("user = www-data\nlisten = /run/x\n{lines}");
        let config = Case::new(&pool_with(&lines)).load_as(effective_uid);
        let pool = config.unwrap().pools.remove(0);
        assert_eq!(
            (pool.listen_owner, pool.listen_group),
            (owner, group),
            "{lines}"
        );
    }
    let tcp = pool_with("user = www-data\nlisten.owner = www-data");
    let pool = Case::new(&tcp).load_as(ROOT).unwrap().pools.remove(0);
    assert_eq!((pool.listen_owner, pool.listen_group), (None, None));
}

#[test]
fn what_only_root_can_do_is_ignored_with_a_notice() {
    let lines = "user = ghost\ngroup = ghosts\nlisten.owner = ghost";
    let config = loaded(&pool_with(lines));
    assert_eq!(config.pools[0].identity, None);
    assert_eq!(
        config.notices,
        ["listen.owner", "user", "group"].map(|name| format!(
            "[pool site] '{name}' directive is ignored when preforkd is not running as root"
        ))
    );
}

#[test]
fn mistakes_about_users() {
    let name = "the system has no user of this name: add it (adduser --system), or choose another";
    let group =
        "the system has no group of this name: add it (addgroup --system), or choose another";
    for (lines, expected) in [
        (
            "",
            vec!["1: [site] user has not been defined: preforkd is root here, and workers run as another user; add user = NAME".to_owned()],
        ),
        ("user = ghost", vec![format!("6: [site] user = ghost: {name}")]),
        (
            "user = root",
            vec!["6: [site] user = root: workers do not run as root: choose another user".to_owned()],
        ),
        (
            "user = 0",
            vec!["6: [site] user = 0: workers do not run as root: choose another user".to_owned()],
        ),
        (
            "user = www-data\ngroup = root",
            vec!["7: [site] group = root: workers do not run as root: choose another group".to_owned()],
        ),
        (
            "user = ghost\ngroup = ghosts",
            vec![
                format!("6: [site] user = ghost: {name}"),
                format!("7: [site] group = ghosts: {group}"),
            ],
        ),
        (
            "user = 424242",
            vec!["6: [site] user = 424242: the system has no such user, and so no group for it: add group = NAME".to_owned()],
        ),
        (
            "user = 4294967295",
            vec!["6: [site] user = 4294967295: must be a whole number from 0 to 4294967294".to_owned()],
        ),
        (
            "user = www-data\nlisten.owner = ghost\nlisten.group = ghosts",
            vec![
                format!("7: [site] listen.owner = ghost: {name}"),
                format!("8: [site] listen.group = ghosts: {group}"),
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
            "1: [site] listen is missing: add the path of a Unix socket, host:port, or a port",
            "1: [site] pm.max_children is missing: add the most workers that the memory is good for",
            "1: [site] pm is missing: add pm = static, dynamic or ondemand",
            "1: [site] no application is defined: add wsgi = package.module:callable, or app = hello",
        ]
    );
    assert_eq!(
        told_of_pool("pm = dynamic"),
        [
            "1: [site] pm.min_spare_servers is missing: pm = dynamic needs it",
            "1: [site] pm.max_spare_servers is missing: pm = dynamic needs it",
        ]
    );
    let none = " no pool is defined: add a section such as [site], with listen, pm, pm.max_children, and wsgi or app";
    assert_eq!(told(""), [none]);
    assert_eq!(told("[global]\nlog_level = debug"), [none]);
}

#[test]
fn one_mistake_in_a_line() {
    let number = "must be a whole number from 1 to 4096";
    let time = "must be a whole number with s, m, h or d after it (seconds if without), from";
    for (line, expected) in [
        ("x", "x has no value: write NAME = VALUE".to_owned()),
        (
            "pm.max_childern = 5",
            "pm.max_childern = 5: unknown directive; did you mean pm.max_children?".to_owned(),
        ),
        (
            "python_path[] = /x",
            "python_path[] = /x: unknown directive; did you mean pythonpath[]?".to_owned(),
        ),
        ("colour = red", "colour = red: unknown directive".to_owned()),
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
            "chdir = ",
            "chdir = : has no value; leave the line out for the default".to_owned(),
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
            "pm = dynamical: must be static, dynamic or ondemand".to_owned(),
        ),
        (
            "pm.process_idle_timeout = 0",
            format!("pm.process_idle_timeout = 0: {time} 1s to 365d"),
        ),
        (
            "request_terminate_timeout = 1.5s",
            format!("request_terminate_timeout = 1.5s: {time} 0s to 365d"),
        ),
        ("clear_env = maybe", "clear_env = maybe: must be yes or no".to_owned()),
        (
            "listen.mode = 888",
            "listen.mode = 888: must be permission bits in octal, such as 0660".to_owned(),
        ),
        (
            "listen = 99999",
            "listen = 99999: a port is a whole number from 1 to 65535".to_owned(),
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
            "chdir = @/none",
            "chdir = @/none: must be an existing folder; @/none: No such file or directory (os error 2)".to_owned(),
        ),
        (
            "chdir = @/file",
            "chdir = @/file: must be a folder; @/file is something else".to_owned(),
        ),
        (
            "prefix = @/none",
            "prefix = @/none: must be an existing folder; @/none: No such file or directory (os error 2)".to_owned(),
        ),
        ("app = goodbye", "app = goodbye: must be hello".to_owned()),
        (
            "wsgi = a",
            "wsgi = a: a pool has one application, and there is app = hello, too: remove one of the two".to_owned(),
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
        assert_eq!(told_of_pool(line), [format!("6: [site] {expected}")], "{line}");
    }
    let long = format!("/{}", "x".repeat(107));
    assert_eq!(
        told_of_pool(&format!("listen = {long}")),
        [format!(
            "6: [site] listen = {long}: must have at most 107 bytes, which is the system's limit; it has 108"
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
            "pid = x.pid",
            "pid = x.pid: must be an absolute path (one that begins with /)",
        ),
        (
            "error_log = syslog",
            "error_log = syslog: must be an absolute path (one that begins with /)",
        ),
        (
            "log_level = loud",
            "log_level = loud: must be debug, notice, warning, warn, error or alert",
        ),
        (
            "pid = /run/$pool.pid",
            "pid = /run/$pool.pid: $pool has a meaning in the section of a pool only",
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
            "must be a Python interpreter, such as that of a virtual environment; @/none: No such file or directory (os error 2)",
        ),
        (
            "python = @/dir",
            "must be a Python interpreter, such as that of a virtual environment; @/dir: not a file",
        ),
        (
            "python = @/file",
            "must be a Python interpreter, such as that of a virtual environment; @/file: not executable",
        ),
        (
            "python = @/python\npythonpath[] = @/none",
            "must be an existing folder or archive; @/none: No such file or directory (os error 2)",
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
            [format!("{number}: [site] {wrong}: {expected}")]
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
                "8: [site] pm.max_spare_servers = 3: must be at least pm.min_spare_servers (5); raise it, or lower pm.min_spare_servers",
            ],
        ),
        (
            2,
            11,
            None,
            vec![
                "8: [site] pm.max_spare_servers = 11: must be at most pm.max_children (10); lower it, or raise pm.max_children",
            ],
        ),
        (
            11,
            12,
            None,
            vec![
                "7: [site] pm.min_spare_servers = 11: must be at most pm.max_children (10); lower it, or raise pm.max_children",
                "8: [site] pm.max_spare_servers = 12: must be at most pm.max_children (10); lower it, or raise pm.max_children",
            ],
        ),
        (
            2,
            6,
            Some(1),
            vec![
                "9: [site] pm.start_servers = 1: must be from pm.min_spare_servers (2) to pm.max_spare_servers (6); without it, it is 4",
            ],
        ),
        (
            2,
            6,
            Some(7),
            vec![
                "9: [site] pm.start_servers = 7: must be from pm.min_spare_servers (2) to pm.max_spare_servers (6); without it, it is 4",
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
    ] {
        assert_eq!(
            told(&format!("{}{}", pool("a", one), pool("b", other))),
            [format!(
                "7: [b] listen = {other}: is already the address of [a] (@/x.conf:2); choose another"
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
fn a_wrong_value_is_told_once() {
    // None of these is also missing, nor compared with anything.
    assert_eq!(
        told("[a]\nprefix = x\nlisten = a.sock\npm = dynamic\npm.max_children = x\npm.min_spare_servers = 2\npm.max_spare_servers = x\napp = x\nchdir = x").len(),
        4
    );
}

#[test]
fn names_of_pools() {
    for name in ["", &"x".repeat(65)] {
        let told = told(&pool_with("env[X] = $pool").replace("[site]", &format!("[{name}]")));
        let expected = format!("1: [{name}] the name of a pool must have from 1 to 64 bytes");
        assert_eq!(told, [expected]);
    }
    let longest = "x".repeat(64);
    let config = loaded(&pool_with("").replace("site", &longest));
    assert_eq!(config.pools[0].name, longest);
}

#[test]
fn the_dump_shows_what_is_in_effect() {
    let config = loaded(&format!(
        "pid = /run/x.pid\n{}",
        pool_with("env[A] = \"x;y\"\nrequest_terminate_timeout = 2m")
    ));
    let dump = dump(&config);
    for line in [
        "[global]",
        "\tpid = /run/x.pid",
        "\terror_log = undefined",
        "\tprocess_control_timeout = 30s",
        "[site]",
        "\tlisten = 9000",
        "\tlisten.mode = 0660",
        "\tenv[A] = \"x;y\"",
        "\tpm.max_children = 4",
        "\tpm.start_servers = undefined",
        "\trequest_terminate_timeout = 120s",
        "\tapp = hello",
        "\twsgi = undefined",
    ] {
        assert!(
            dump.iter().any(|shown| shown == line),
            "{line:?} in {dump:#?}"
        );
    }
}

#[test]
fn the_dump_is_a_configuration_that_means_the_same() {
    let pools = [
        "[a]\nlisten = 1\npm = static\npm.max_children = 3\napp = hello\nenv[A] = \"\\\\ \\\" ' $x ; $\" \"{FOO}\"\nenv[B] = ' x '\nenv[C] =\n",
        "[b]\nlisten = @/b.sock\nlisten.backlog = 5\npm = dynamic\npm.max_children = 3\npm.min_spare_servers = 1\n\
         pm.max_spare_servers = 3\npm.start_servers = 2\nwsgi = a.b:c\npython = @/python\npythonpath[] = @/dir\nwsgi.warmup[] = '/a?b&c'\nmount = /\n\
         chdir = @/dir\nlisten.group = 4242\nclear_env = no\n",
        "[c]\nlisten = [::1]:3\npm = ondemand\npm.max_children = 3\napp = hello\nrequest_terminate_timeout = 1h\nlisten.mode = 7\n",
    ];
    for (effective_uid, user) in [(ROOT, "user = www-data\n"), (PERSON, "")] {
        let text = format!(
            "error_log = /var/log/x y.log\n{}",
            pools.map(|pool| format!("{pool}{user}")).concat()
        );
        let case = Case::new(&text);
        let config = case.load_as(effective_uid).unwrap();
        let dumped: Vec<_> = dump(&config)
            .into_iter()
            .filter(|line| !line.ends_with("= undefined"))
            .collect();
        case.write("x.conf", &dumped.join("\n"));
        assert_eq!(case.load_as(effective_uid), Ok(config), "{dumped:#?}");
    }
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
