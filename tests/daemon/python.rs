//! Python applications as processes: how they are imported, what they print, which interpreter runs them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::daemon::{Daemon, Turn};
use crate::support::fastcgi::Request;
use crate::support::setup::{PROBE, Setup};
use crate::support::wait::until;

const STATIC: &str = "pm = static\npm.max_children = 2\ncatch_workers_output = yes";

#[test]
fn an_application_that_cannot_be_imported_is_told_once_and_others_go_on() {
    let broken = "import os\n\
                  with open(os.environ['ATTEMPTS'], 'a') as file: file.write('x')\n\
                  raise RuntimeError('the cupboard is bare')\n";
    let setup = Setup::new();
    setup.folder.writable("state");
    let mut daemon = setup
        .wsgi(
            "broken",
            broken,
            &format!("{STATIC}\nenv[ATTEMPTS] = @DIR@/state/attempts"),
        )
        .wsgi("probe", PROBE, STATIC)
        .start();
    daemon.wait_for_line("RuntimeError: the cupboard is bare");
    daemon.wait_for_line("broken_app.py*line 3");
    let attempts = daemon.folder.path("state/attempts");
    let count = || fs::read_to_string(&attempts).unwrap_or_default().len();

    let begun = Instant::now();
    until("it is tried again", || {
        assert_eq!(
            daemon
                .address("probe")
                .get("/pid")
                .expect("the other pool answers")
                .status,
            200
        );
        count() >= 3
    });
    // Waiting doubles, so many attempts in a short time are a loop.
    until("some time goes by", || {
        begun.elapsed() > Duration::from_secs(5)
    });
    assert!(
        count() <= 12,
        "{} attempts in {:?}",
        count(),
        begun.elapsed()
    );
    assert_eq!(
        daemon
            .lines_like("said into stderr: \"RuntimeError: the cupboard is bare")
            .len(),
        1
    );

    // Mended, it starts by itself.
    daemon.folder.write("broken-code/broken_app.py", PROBE);
    until("the mended application answers", || {
        let mut connection = daemon
            .address("broken")
            .connect()
            .expect("the pool listens all the time");
        connection.set_timeout(Duration::from_millis(500));
        let request = Request::get("/pid").bytes(1, 0);
        connection.send(&request).is_ok()
            && connection.answer().is_ok_and(|answer| answer.status == 200)
    });
    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
}

#[test]
fn a_missing_module_or_callable_is_told() {
    let daemon = Setup::new()
        .wsgi("empty", "nothing = 1\n", STATIC)
        .pool(
            "absent",
            &format!("wsgi = no_such_module\npython = @PYTHON@\n{STATIC}"),
        )
        .pool("hello", "app = hello\npm = static\npm.max_children = 1")
        .start();
    daemon.wait_for_line("application");
    daemon.wait_for_line("ModuleNotFoundError: No module named 'no_such_module'");
    assert_eq!(
        daemon
            .address("hello")
            .get("/")
            .expect("the pool answers")
            .status,
        200
    );
}

#[test]
fn an_application_that_raises_gets_500_and_goes_on() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, "pm = static\npm.max_children = 1")
        .start();
    let address = daemon.address("probe");
    let worker = address.worker_pid();
    let answer = address.get("/raise").expect("an answer comes");
    assert_eq!(answer.status, 500);
    assert!(
        !answer.text().contains("LookupError"),
        "the visitor is shown the traceback: {}",
        answer.text()
    );
    daemon.wait_for_line("Traceback (most recent call last)");
    daemon.wait_for_line("probe_app.py");
    daemon.wait_for_line("LookupError: nothing to find here");
    assert_eq!(address.worker_pid(), worker);

    // After the head has left there is nothing to mend: the request ends as failed.
    let late = address.get("/raise-late");
    assert!(
        late.as_ref()
            .map_or(true, |answer| answer.application_status != 0),
        "{late:?}"
    );
    daemon.wait_for_line("LookupError: found out late");
    assert_eq!(address.worker_pid(), worker);
}

#[test]
fn what_an_application_prints_is_in_the_log() {
    let daemon = Setup::new().wsgi("probe", PROBE, STATIC).start();
    let address = daemon.address("probe");
    assert_eq!(
        address
            .get("/print?text=remarkable")
            .expect("the pool answers")
            .status,
        200
    );
    daemon.wait_for_line("WARNING: [pool probe] child * said into stdout: \"out: remarkable\"");
    daemon.wait_for_line("WARNING: [pool probe] child * said into stderr: \"err: remarkable\"");
    daemon.wait_for_line("wsgi: remarkable");
}

#[test]
fn workers_have_the_environment_asked_for() {
    let pool = format!("{STATIC}\nenv[COLOUR] = blue\nenv[HOME_OF_MASTER] = $HOME");
    let daemon = Setup::new().wsgi("probe", PROBE, &pool).start();
    let answer = daemon
        .address("probe")
        .get("/variables")
        .expect("the pool answers");
    let text = answer.text();
    let has = |line: &str| text.lines().any(|known| known == line);
    assert!(has("COLOUR=blue"), "{text}");
    assert!(
        !text.contains("CARGO"),
        "the master's environment is passed on: {text}"
    );
    if nix::unistd::Uid::effective().is_root() {
        assert!(has("USER=www-data"), "{text}");
    }
}

#[test]
fn a_request_finds_itself_in_the_environ() {
    let daemon = Setup::new().wsgi("probe", PROBE, STATIC).start();
    let request = Request::get("/environ?a=b").with("HTTP_PROXY", "http://evil.example");
    let text = daemon
        .address("probe")
        .ask(&request)
        .expect("the pool answers")
        .text();
    let has = |line: &str| text.lines().any(|known| known == line);
    for line in [
        "PATH_INFO=/environ",
        "SCRIPT_NAME=",
        "QUERY_STRING=a=b",
        "REQUEST_METHOD=GET",
        "wsgi.url_scheme=http",
    ] {
        assert!(has(line), "no {line} in:\n{text}");
    }
    assert!(!text.contains("evil"), "{text}");
}

/// A process with threads cannot be forked safely: the pool says so and imports in each worker.
#[test]
fn an_import_that_starts_threads_is_told_and_served_all_the_same() {
    let threaded = format!(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), name='chatty-poller', daemon=True).start()\n{PROBE}"
    );
    let daemon = Setup::new().wsgi("threaded", &threaded, STATIC).start();
    daemon.wait_for_line("chatty-poller");
    let address = daemon.address("threaded");
    daemon.wait_for_workers("threaded", 2);
    let worker = address.worker_pid().to_string();
    let imported_by = address.get("/mold").expect("the pool answers").text();
    assert!(
        daemon
            .worker_pids("threaded")
            .contains(&imported_by.trim().parse().expect("a pid")),
        "{imported_by} {worker}"
    );
}

#[test]
fn without_preloading_each_worker_imports() {
    let daemon = Setup::new()
        .wsgi("probe", PROBE, &format!("{STATIC}\nwsgi.preload = no"))
        .start();
    daemon.wait_for_workers("probe", 2);
    let address = daemon.address("probe");
    let imported_by = address
        .get("/mold")
        .expect("the pool answers")
        .text()
        .trim()
        .parse()
        .expect("a pid");
    assert!(daemon.worker_pids("probe").contains(&imported_by));
}

/// What is set up round a fork by the application happens once a side.
#[test]
fn fork_hooks_of_the_application_run_once() {
    let hooks = format!(
        "import os\nlog = []\nos.register_at_fork(before=lambda: log.append('before'), after_in_child=lambda: log.append('child'))\n\
         {PROBE}\n\
         def shown(environ, start_response):\n    \
             start_response('200 OK', [('Content-Type', 'text/plain')])\n    \
             return [','.join(log).encode()]\n\
         application = shown\n"
    );
    let daemon = Setup::new()
        .wsgi("hooks", &hooks, "pm = static\npm.max_children = 1")
        .start();
    let text = daemon
        .address("hooks")
        .get("/")
        .expect("the pool answers")
        .text();
    assert_eq!(
        text.matches("child").count(),
        text.matches("before").count(),
        "{text}"
    );
    assert!(
        text.ends_with("child") && text.starts_with("before"),
        "{text}"
    );
}

/// What an import does to signals must not keep the mold from forking, or from ending.
#[test]
fn an_import_that_ignores_signals_does_not_matter() {
    let deaf = "import signal\n\
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n\
                signal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
                def application(environ, start_response):\n    \
                    start_response('200 OK', [])\n    \
                    return [repr([signal.getsignal(number).name for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE)]).encode()]\n";
    let mut daemon = Setup::new()
        .wsgi("deaf", deaf, "pm = static\npm.max_children = 20")
        .start();
    daemon.wait_for_workers("deaf", 20);
    let answer = daemon
        .address("deaf")
        .get("/")
        .expect("the pool answers")
        .text();
    assert_eq!(answer, "['SIG_DFL', 'SIG_DFL', 'SIG_IGN']");
    daemon.stop(Signal::SIGTERM);
    for line in ["fork", "does not end"] {
        assert_eq!(daemon.lines_like(line), [""; 0]);
    }
}

/// An application that answers with its pid, and has a thread of its own from then on.
fn with_thread(work: &str) -> String {
    format!(
        "import os, threading, time\n\
         def work():\n    {work}\n\
         def application(environ, start_response):\n    \
             threading.Thread(target=work).start()\n    \
             start_response('200 OK', [])\n    \
             return [str(os.getpid()).encode()]\n"
    )
}

#[test]
fn a_worker_that_leaves_waits_for_its_threads() {
    let work = "time.sleep(1)\n    open(os.environ['STATE'] + '/done', 'w').close()";
    let setup = Setup::new();
    setup.folder.writable("state");
    let mut daemon = setup
        .global("process_control_timeout = 10s")
        .wsgi(
            "threads",
            &with_thread(work),
            "pm = static\npm.max_children = 1\nenv[STATE] = @DIR@/state",
        )
        .start();
    daemon
        .address("threads")
        .get("/")
        .expect("the pool answers");
    daemon.stop(Signal::SIGQUIT);
    assert!(daemon.folder.path("state/done").exists());
}

/// A thread that never ends does not hold a slot for ever, and nobody counts on its worker while it does.
#[test]
fn a_worker_that_leaves_does_not_wait_for_ever() {
    let daemon = Setup::new()
        .wsgi(
            "threads",
            &with_thread("time.sleep(3600)"),
            "pm = ondemand\npm.max_children = 2\npm.process_idle_timeout = 1s",
        )
        .start();
    let address = daemon.address("threads");
    let first = address.get("/").expect("the pool answers").text();
    let mut second = first.clone();
    until("another worker answers", || {
        std::thread::sleep(Duration::from_millis(1500));
        second = address.get("/").expect("the pool answers").text();
        second != first
    });
    daemon
        .wait_for_line("threads or exit functions of the application have not ended in 10 seconds");
    until("the first worker is gone", || {
        !daemon
            .worker_pids("threads")
            .contains(&first.parse().expect("a pid"))
    });
}

#[test]
fn connections_that_the_import_leaves_open_are_told() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let peer = server.local_addr().expect("it has an address");
    let open = |rest: &str| {
        format!(
            "import os, socket\n\
             pair = socket.socketpair()\n\
             database = socket.create_connection(('127.0.0.1', {}))\n\
             {rest}\n{PROBE}",
            peer.port()
        )
    };
    let daemon = Setup::new()
        .wsgi("open", &open(""), STATIC)
        .wsgi(
            "closed",
            &open("os.register_at_fork(before=database.close)"),
            STATIC,
        )
        .start();
    daemon.wait_for_line(&format!(
        "pool open*the import left 1 connection(s) open, which all workers share: {peer}; "
    ));
    daemon.wait_for_workers("closed", 2);
    assert_eq!(daemon.lines_like("pool closed*the import left"), [""; 0]);
}

/// Threads make a mold begin anew: in the folder that it was started in, wherever the import went. Modules are found in
/// that folder later, too.
#[test]
fn an_import_that_changes_the_folder_finds_its_modules() {
    let wanders = |threads: &str| {
        format!(
            "import os, threading, time\n\
             started_in = os.getcwd()\n\
             os.chdir('/')\n\
             {threads}\n\
             def application(environ, start_response):\n    \
                 import late\n    \
                 start_response('200 OK', [])\n    \
                 return [started_in.encode()]\n"
        )
    };
    let thread =
        "threading.Thread(target=time.sleep, args=(3600,), name='chatty', daemon=True).start()";
    let setup = Setup::new();
    setup.folder.write("work/late.py", "");
    let lines = format!("{STATIC}\nchdir = @DIR@/work");
    let daemon = setup
        .wsgi("plain", &wanders(""), &lines)
        .wsgi("threaded", &wanders(thread), &lines)
        .start();
    daemon.wait_for_line("pool threaded* started threads (chatty)");
    for pool in ["plain", "threaded"] {
        let answer = daemon.address(pool).get("/").expect("the pool answers");
        let work = daemon.folder.path("work").display().to_string();
        assert_eq!((answer.status, answer.text()), (200, work), "{pool}");
    }
}

/// A child that the import forks, and that falls out of it, is no second mold.
#[test]
fn a_child_that_falls_out_of_the_import_ends() {
    let forks = format!("import os\nif not os.fork(): raise SystemExit(0)\nos.wait()\n{PROBE}");
    let daemon = Setup::new().wsgi("forks", &forks, STATIC).start();
    daemon.wait_for_workers("forks", 2);
    let answer = daemon
        .address("forks")
        .get("/pid")
        .expect("the pool answers");
    assert_eq!(answer.status, 200);
    assert_eq!(daemon.lines_like("mold * is ready").len(), 1);
    assert_eq!(daemon.lines_like("SystemExit"), [""; 0]);
}

/// Whatever a `sitecustomize` has made of standard output.
#[test]
fn a_replaced_standard_output_does_not_matter() {
    let customize = "import sys\n\
                     class Dull:\n    \
                         def write(self, text): return sys.__stdout__.write(text)\n\
                     sys.stdout = Dull()\n";
    let setup = Setup::new();
    setup.folder.write("site/sitecustomize.py", customize);
    let lines = format!("{STATIC}\nenv[PYTHONPATH] = @DIR@/site");
    let application =
        format!("import sys\nassert type(sys.stdout).__name__ == 'Dull', sys.stdout\n{PROBE}");
    let daemon = setup.wsgi("dull", &application, &lines).start();
    let answer = daemon.address("dull").get("/pid");
    assert_eq!(answer.expect("the pool answers").status, 200);
}

/// Root can open the extension module, but the pools' users have to.
#[test]
fn an_extension_module_that_cannot_be_read_is_told_at_start() {
    let setup = Setup::new().pool("site", &format!("wsgi = site\npython = @PYTHON@\n{STATIC}"));
    let built = Path::new(env!("CARGO_BIN_EXE_preforkd"));
    let program = setup.folder.path("preforkd");
    let module = setup.folder.path("libpreforkd_python.so");
    fs::copy(built, &program).expect("it can be copied");
    fs::copy(built.with_file_name("libpreforkd_python.so"), &module).expect("it can be copied");
    let is_root = nix::unistd::Uid::effective().is_root();
    let mode = if is_root { 0o640 } else { 0 };
    fs::set_permissions(&module, fs::Permissions::from_mode(mode)).expect("it is ours");
    let configuration = setup.write();
    let mut command = Command::new(program);
    command
        .args(["-F", "-y"])
        .arg(configuration)
        .stdin(Stdio::null());
    let mut daemon = Daemon::launch(setup.folder, &mut command, Turn::shared());
    assert_eq!(daemon.wait_for_end().code(), Some(78));
    let module = module.display();
    daemon.wait_for_line(&if is_root {
        format!(
            "the pools' users cannot read the Python extension module {module}: chmod a+r {module}"
        )
    } else {
        format!("cannot open the Python extension module {module}: Permission denied")
    });
}

/// Every interpreter in PREFORKD_TEST_PYTHONS (paths, separated by colons) runs the same application.
#[test]
fn other_versions_of_python_work() {
    let interpreters = std::env::var("PREFORKD_TEST_PYTHONS").unwrap_or_default();
    let interpreters: Vec<PathBuf> = interpreters
        .split(':')
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .collect();
    if interpreters.is_empty() {
        let in_ci = std::env::var_os("CI").is_some();
        assert!(!in_ci, "PREFORKD_TEST_PYTHONS names no other interpreter");
        eprintln!("PREFORKD_TEST_PYTHONS names no other interpreter: nothing is tested");
    }
    for interpreter in interpreters {
        works_with(&interpreter);
    }
}

fn works_with(interpreter: &Path) {
    let version = "import sys\n".to_owned()
        + PROBE
        + "\ndef versioned(environ, start_response):\n    \
               environ['HTTP_X_VERSION'] = '%d.%d' % sys.version_info[:2]\n    \
               return probe(environ, start_response)\napplication = validator(versioned)\n";
    let mut setup = Setup::new();
    setup.python = interpreter.to_owned();
    let daemon = setup.wsgi("other", &version, STATIC).start();
    let address = daemon.address("other");
    let text = address.get("/environ").expect("the pool answers").text();
    let told = text
        .lines()
        .find_map(|line| line.strip_prefix("HTTP_X_VERSION="))
        .expect("the version is shown");
    eprintln!("{} is Python {told}", interpreter.display());
    assert_eq!(address.get("/raise").expect("an answer comes").status, 500);
    assert_eq!(address.get("/pid").expect("the pool answers").status, 200);
}

/// A person who waits for a start is to see what it does, and where it says so.
#[test]
fn what_a_slow_start_prints_is_told_meanwhile() {
    let slow = "import time\nprint('loading', flush=True)\ntime.sleep(60)\n";
    let daemon = Setup::new()
        .wsgi("slow", slow, "pm = static\npm.max_children = 1")
        .start();
    daemon.wait_for_line("WARNING: [pool slow] mold * said into stdout: \"loading\"");
    assert_eq!(daemon.lines_like("mold * is ready"), Vec::<String>::new());
}

#[test]
fn how_long_a_start_may_take_can_be_told() {
    let slow = "import time\ntime.sleep(60)\n";
    let lines = "pm = static\npm.max_children = 1\npm.start_timeout = 1s";
    let daemon = Setup::new().wsgi("slow", slow, lines).start();
    daemon.wait_for_line("WARNING: [pool slow] mold * is not ready after 1 s, killing it");
    daemon.wait_for_line("ERROR: [pool slow] cannot start: 1 failure(s) in a row");
}
