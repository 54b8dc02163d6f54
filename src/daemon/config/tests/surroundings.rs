//! What a right configuration means for whom, and with which command line.

use super::*;

#[test]
fn where_the_log_goes() {
    for (lines, log) in [
        ("error_log = /dev/stderr", ErrorLog::Stderr),
        ("error_log = /dev/fd/2", ErrorLog::Stderr),
        ("error_log = /proc/self/fd/2", ErrorLog::Stderr),
        ("error_log = syslog", ErrorLog::Syslog),
        ("error_log = /x.log", ErrorLog::File("/x.log".into())),
        ("error_log = log/x", ErrorLog::File("/var/log/x".into())),
        ("", ErrorLog::File("/var/log/preforkd.log".into())),
        ("daemonize = no", ErrorLog::Stderr),
    ] {
        let config = loaded(&format!("{lines}\n{}", pool_with("")));
        assert_eq!(config.global.error_log, log, "{lines}");
    }
    let case = Case::new(&format!("error_log = syslog\n{}", pool_with("")));
    for (daemonize, log) in [(false, ErrorLog::Stderr), (true, ErrorLog::Syslog)] {
        let surroundings = Surroundings {
            daemonize: Some(daemonize),
            force_stderr: true,
            ..SURROUNDINGS
        };
        let config = case.load_in("x.conf", &surroundings).unwrap();
        assert_eq!(config.global.error_log, log);
    }
}

#[test]
fn what_the_command_line_says() {
    let case = Case::new(
        "[a]\nlisten = run/a\npm = static\npm.max_children = 1\napp = hello\ninclude = more\n\
         error_log = log/x\n",
    );
    case.write(
        "dir/more",
        "chdir = sub\n[global]\nerror_log = log/x\ndaemonize = no\n",
    );
    fs::create_dir(case.path("dir/sub")).unwrap();
    fs::create_dir(case.path("dir/log")).unwrap();
    case.write(
        "x.conf",
        &fs::read_to_string(case.path("x.conf"))
            .unwrap()
            .replace("error_log = log/x\n", ""),
    );
    let surroundings = Surroundings {
        prefix: Some(case.path("dir")),
        pid: Some("/run/x.pid".into()),
        daemonize: Some(true),
        ..SURROUNDINGS
    };
    let config = case.load_in("x.conf", &surroundings).unwrap();
    assert_eq!(config.pools[0].listen, Listen::Unix(case.path("dir/run/a")));
    assert_eq!(config.pools[0].chdir, Some(case.path("dir/sub")));
    assert_eq!(
        config.global.error_log,
        ErrorLog::File(case.path("dir/log/x"))
    );
    assert_eq!(config.global.pid, Some("/run/x.pid".into()));
    assert!(config.global.daemonize);
    assert_eq!(config.notices, Vec::<String>::new());

    // As in php-fpm, the file counts more than -g.
    case.write("dir/more", "[global]\npid = run/a.pid\n");
    let config = case.load_in("x.conf", &surroundings).unwrap();
    assert_eq!(config.global.pid, Some(case.path("dir/run/a.pid")));
    assert_eq!(config.notices.len(), 1);
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
fn root_is_allowed_by_the_command_line() {
    let surroundings = Surroundings {
        effective_uid: ROOT,
        allow_root: true,
        ..SURROUNDINGS
    };
    let root = |gid| Identity {
        user: "root".to_owned(),
        uid: ROOT,
        gid: Gid::from_raw(gid),
        home: "/root".into(),
    };
    for (lines, identity) in [
        ("", None),
        ("user = root", Some(root(0))),
        ("user = 0\ngroup = 4242", Some(root(4242))),
        ("group = 4242", Some(root(4242))),
        ("group = root", Some(root(0))),
    ] {
        let config = Case::new(&pool_with(lines)).load_in("x.conf", &surroundings);
        assert_eq!(config.unwrap().pools[0].identity, identity, "{lines}");
    }
}

#[test]
fn what_workers_of_root_are_confined_to() {
    let case = Case::new(&pool_with(
        "user = www-data\nprefix = @\nchroot = $prefix/dir\nchdir = sub\nprocess.priority = 5\n",
    ));
    fs::create_dir(case.path("dir/sub")).unwrap();
    let pool = case.load_as(ROOT).unwrap().pools.remove(0);
    assert_eq!(pool.chroot, Some(case.path("dir")));
    assert_eq!(pool.chdir, Some("/sub".into()));
    assert_eq!(pool.priority, Some(5));

    let text = pool_with("user = www-data\nchroot = @/dir\npython = /bin/python\n");
    let case = Case::new(&text.replace("app = hello", "wsgi = a"));
    case.write("dir/bin/python", "");
    fs::set_permissions(case.path("dir/bin/python"), Permissions::from_mode(0o755)).unwrap();
    let pool = case.load_as(ROOT).unwrap().pools.remove(0);
    assert_eq!(pool.chdir, Some("/".into()));
    match pool.application {
        Application::Wsgi(wsgi) => assert_eq!(wsgi.python, Path::new("/bin/python")),
        Application::Hello | Application::Exec(_) => panic!("it is a wsgi pool"),
    }
}

#[test]
fn an_acl_counts_more_than_the_owner() {
    let lines =
        "user = www-data\nlisten = /run/x\nlisten.owner = www-data\nlisten.acl_users = www-data\n";
    let config = Case::new(&pool_with(lines)).load_as(ROOT).unwrap();
    let pool = &config.pools[0];
    assert_eq!((pool.listen_owner, pool.listen_group), (None, None));
    assert!(pool.listen_acl.is_some());
    assert_eq!(
        config.warnings,
        ["[pool site] ACL set, listen.owner = 'www-data' is ignored"]
    );
}

#[test]
fn clients_that_are_none_are_warned_of() {
    let config = loaded(&pool_with("listen.allowed_clients = localhost"));
    assert_eq!(
        config.pools[0].allowed_clients,
        Some(AllowedClients::default())
    );
    assert_eq!(
        config.warnings,
        [
            "[pool site] Wrong IP address 'localhost' in listen.allowed_clients",
            "[pool site] There are no allowed addresses",
        ]
    );
}

#[test]
fn what_only_root_can_do_is_ignored_with_a_notice() {
    let lines = "user = ghost\ngroup = ghosts\nlisten.owner = ghost\nchroot = /nowhere\nprocess.priority = 1";
    let config = loaded(&pool_with(lines));
    assert_eq!(config.pools[0].identity, None);
    assert_eq!(
        config.notices,
        [
            "listen.owner",
            "user",
            "group",
            "chroot",
            "process.priority"
        ]
        .map(|name| format!(
            "[pool site] '{name}' directive is ignored when FPM is not running as root"
        ))
    );
}
