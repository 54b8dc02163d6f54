//! What a right configuration means.

use super::*;

#[test]
fn the_least_configuration_and_its_defaults() {
    let config = loaded(&pool_with(""));
    assert_eq!(
        config,
        Config {
            global: Global {
                pid: None,
                control: None,
                error_log: ErrorLog::File("/var/log/preforkd.log".into()),
                syslog_ident: "preforkd".to_owned(),
                syslog_facility: Facility(3),
                log_level: LogLevel::Notice,
                log_format: LogFormat::PhpFpm,
                log_limit: 8192,
                log_buffering: true,
                emergency_restart_threshold: 0,
                emergency_restart_interval: Duration::ZERO,
                process_control_timeout: Duration::from_secs(30),
                process_max: None,
                process_priority: None,
                daemonize: true,
                rlimit_files: None,
                rlimit_core: None,
                systemd_interval: Some(Duration::from_secs(10)),
            },
            pools: vec![Pool {
                name: "site".to_owned(),
                prefix: None,
                listen: Listen::Port(9000),
                backlog: None,
                listen_owner: None,
                listen_group: None,
                listen_mode: 0o660,
                listen_acl: None,
                allowed_clients: None,
                identity: None,
                chroot: None,
                chdir: None,
                priority: None,
                dumpable: false,
                no_new_privs: true,
                apparmor_hat: None,
                rlimit_files: None,
                rlimit_core: None,
                env: vec![],
                clear_env: true,
                limits: Limits {
                    mode: Mode::Static,
                    max_children: 4,
                    max_spawn_rate: 32,
                },
                start_timeout: Duration::from_secs(60),
                max_queue: None,
                max_requests: 0,
                max_memory: 0,
                max_lifetime: None,
                request_terminate_timeout: None,
                track_finished: false,
                request_slowlog_timeout: None,
                request_slowlog_trace_depth: 20,
                slowlog: None,
                status_path: None,
                status_listen: None,
                ping_path: None,
                ping_response: "pong".to_owned(),
                access_log: None,
                access_format: "%R - %u %t \"%m %r\" %s".to_owned(),
                access_suppress: vec![],
                catch_workers_output: true,
                decorate_workers_output: true,
                application: Application::Hello,
            }],
            notices: vec![],
            warnings: vec![],
        }
    );
}

#[test]
fn every_directive_of_global() {
    let text = "pid = /run/x.pid\ncontrol = /run/x.ctl\n[GLOBAL]\nerror_log = /var/log/x.log\nLog_Level = warn\n\
                syslog.ident = pools\nsyslog.facility = LOG_LOCAL7\nlog_format = JSON\n\
                log_limit = 512\nlog_buffering = no\n\
                emergency_restart_threshold = 3\nemergency_restart_interval = 1m\n\
                process_control_timeout = 2m\nprocess.max = 4\nprocess.priority = -19\n\
                daemonize = no\nrlimit_files = 1024\nrlimit_core = unlimited\nsystemd_interval = 0\n";
    let config = loaded(&format!("{text}{}", pool_with("")));
    assert_eq!(
        config.global,
        Global {
            pid: Some("/run/x.pid".into()),
            control: Some("/run/x.ctl".into()),
            error_log: ErrorLog::File("/var/log/x.log".into()),
            syslog_ident: "pools".to_owned(),
            syslog_facility: Facility(23),
            log_level: LogLevel::Warning,
            log_format: LogFormat::Json,
            log_limit: 512,
            log_buffering: false,
            emergency_restart_threshold: 3,
            emergency_restart_interval: Duration::from_secs(60),
            process_control_timeout: Duration::from_secs(120),
            process_max: Some(4),
            process_priority: Some(-19),
            daemonize: false,
            rlimit_files: Some(1024),
            rlimit_core: Some(u64::MAX),
            systemd_interval: None,
        }
    );
    assert_eq!(config.notices, Vec::<String>::new());
}

#[test]
fn every_directive_of_a_pool() {
    let case = Case::new(
        "[site]\n\
         prefix = @\n\
         listen = run/$pool.sock\n\
         listen.backlog = 100\n\
         listen.mode = 0600\n\
         listen.acl_users = \"www-data, 4242, www-data\"\n\
         listen.acl_groups = 4243\n\
         listen.allowed_clients = 127.0.0.1,::1\n\
         process.dumpable = yes\n\
         no_new_privs = no\n\
         apparmor_hat = site\n\
         rlimit_files = 100\n\
         rlimit_core = 0\n\
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
         pm.max_spawn_rate = 1000\n\
         pm.process_idle_timeout = 1m\n\
         pm.start_timeout = 2m\n\
         pm.max_queue = 50\n\
         pm.max_requests = 500\n\
         pm.max_memory = 200M\n\
         pm.max_lifetime = 6h\n\
         request_terminate_timeout = 90s\n\
         request_terminate_timeout_track_finished = yes\n\
         request_slowlog_timeout = 5s\n\
         request_slowlog_trace_depth = 7\n\
         slowlog = dir/$pool.slow\n\
         pm.status_path = /status\n\
         pm.status_listen = 9001\n\
         ping.path = /ping\n\
         ping.response = here\n\
         access.log = dir/access\n\
         access.format = \"%m %{REMOTE_ADDR}e\"\n\
         access.suppress_path[] = /ping\n\
         access.suppress_path[] = /health.html\n\
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
    let www = User::from_name("www-data").unwrap().unwrap();
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
            prefix: Some(case.path("")),
            listen: Listen::Unix(case.path("run/site.sock")),
            backlog: Some(100),
            listen_owner: None,
            listen_group: None,
            listen_mode: 0o600,
            listen_acl: Some(Acl {
                users: vec![www.uid, Uid::from_raw(4242)],
                groups: vec![Gid::from_raw(4243)],
            }),
            allowed_clients: Some(AllowedClients::parse("127.0.0.1,::1").0),
            identity: None,
            chroot: None,
            chdir: Some(case.path("dir")),
            priority: None,
            dumpable: true,
            no_new_privs: false,
            apparmor_hat: Some("site".to_owned()),
            rlimit_files: Some(100),
            rlimit_core: None,
            env: env.map(|(k, v)| (k.into(), v.into())).to_vec(),
            clear_env: false,
            limits: Limits {
                mode: Mode::Dynamic {
                    start: 5,
                    min_spare: 2,
                    max_spare: 8,
                },
                max_children: 40,
                max_spawn_rate: 256,
            },
            start_timeout: Duration::from_secs(120),
            max_queue: Some(50),
            max_requests: 500,
            max_memory: 200 << 20,
            max_lifetime: Some(Duration::from_secs(6 * 3600)),
            request_terminate_timeout: Some(Duration::from_secs(90)),
            track_finished: true,
            request_slowlog_timeout: Some(Duration::from_secs(5)),
            request_slowlog_trace_depth: 7,
            slowlog: Some(case.path("dir/site.slow")),
            status_path: Some("/status".to_owned()),
            status_listen: Some(Listen::Port(9001)),
            ping_path: Some("/ping".to_owned()),
            ping_response: "here".to_owned(),
            access_log: Some(case.path("dir/access")),
            access_format: "%m %{REMOTE_ADDR}e".to_owned(),
            access_suppress: vec!["/ping".to_owned(), "/health.html".to_owned()],
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
fn a_directive_without_a_value_is_unset() {
    let pool =
        the_pool("chdir = @/dir\nchdir =\nchroot = ; none\nlisten.acl_users=\naccess.log = \n");
    assert_eq!((pool.chdir, pool.access_log), (None, None));
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
fn an_include_that_matches_nothing_is_a_warning() {
    let case = Case::new(&format!("include = none/*.conf\n{}", pool_with("")));
    let warnings = case.load().unwrap().warnings;
    let expected = "@/x.conf:1: Nothing matches the include pattern '@/none/*.conf'";
    assert_eq!(warnings, [expected.replace('@', &case.at())]);
}

#[test]
fn a_folder_whose_name_looks_like_a_pattern() {
    let case = Case::new("");
    case.write("[a]*/x.conf", "include = pools");
    case.write("[a]*/pools", &pool_with(""));
    let config = case.load_in("[a]*/x.conf", &SURROUNDINGS).unwrap();
    assert_eq!(config.pools.len(), 1);
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
                    @/x.conf:7: [pool site] php_value[NAME] is accepted for php-fpm's sake and ignored\n\
                    @/x.conf:9: [pool site] php_flag[NAME] is accepted for php-fpm's sake and ignored\n\
                    @/x.conf:10: [pool site] php_admin_value[NAME] is accepted for php-fpm's sake and ignored\n\
                    @/x.conf:11: [pool site] php_admin_flag[NAME] is accepted for php-fpm's sake and ignored\n\
                    @/x.conf:12: [pool site] security.limit_extensions is accepted for php-fpm's sake and ignored\n\
                    @/x.conf:13: [pool site] listen.setfib is accepted for php-fpm's sake and ignored";
    assert_eq!(notices, expected.replace('@', &case.at()));
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
        "\terror_log = /var/log/preforkd.log",
        "\tprocess.max = 0",
        "\tprocess.priority = undefined",
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
        "[d]\nprefix = @\nlisten = d.sock\npm = static\npm.max_children = 1\napp = hello\nlisten.acl_users = www-data, 4242\n\
         listen.acl_groups = 4243\nlisten.allowed_clients = ::1, 10.0.0.0/8\nprocess.priority = -3\nprocess.dumpable = yes\n\
         no_new_privs = no\napparmor_hat = '^x'\nrlimit_files = 10\nrlimit_core = unlimited\nslowlog = dir/$pool\n\
         request_slowlog_timeout = 1m\nrequest_slowlog_trace_depth = 3\npm.status_path = /s\npm.status_listen = d2.sock\n\
         ping.path = /p\nping.response = \"a; b\"\naccess.log = dir/a\naccess.format = \"%R \\\"%m\\\" %{X}e (%s)\"\n\
         access.suppress_path[] = /p\naccess.suppress_path[] = /q\nrequest_terminate_timeout_track_finished = yes\n",
        "[c]\nlisten = [::1]:3\npm = ondemand\npm.max_children = 3\napp = hello\nrequest_terminate_timeout = 1h\nlisten.mode = 7\n",
    ];
    for (effective_uid, user) in [(ROOT, "user = www-data\n"), (PERSON, "")] {
        let text = format!(
            "error_log = /var/log/x y.log\nsyslog.facility = local3\nlog_format = json\nlog_limit = 600\nlog_buffering = no\n\
             emergency_restart_threshold = 3\nemergency_restart_interval = 1h\nprocess.max = 9\nprocess.priority = 3\n\
             daemonize = no\nrlimit_core = 7\nsystemd_interval = 0\n{}",
            pools.map(|pool| format!("{pool}{user}")).concat()
        );
        let case = Case::new(&text);
        let config = case.load_as(effective_uid).unwrap();
        let dumped: Vec<_> = dump(&config)
            .into_iter()
            .filter(|line| !line.ends_with("= undefined"))
            .collect();
        case.write("x.conf", &dumped.join("\n"));
        let again = case.load_as(effective_uid).unwrap();
        assert_eq!(again.global, config.global, "{dumped:#?}");
        assert_eq!(again.pools, config.pools, "{dumped:#?}");
    }
}
