//! Python applications as processes: how they are imported, what they print, which interpreter runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

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
