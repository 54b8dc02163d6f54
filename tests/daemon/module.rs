//! The module `preforkd`, as an application uses it, and what `packaging/docs/python.md` says of the mold.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::thread;

use nix::sys::signal::Signal;

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{Address, KEEP_CONN, Request};
use crate::support::setup::Setup;
use crate::support::wait::{PATIENCE, until, until_some};

const MODULE: &str = include_str!("apps/module.py");
const ONE: &str = "pm = static\npm.max_children = 1";

fn start(lines: &str) -> (Daemon, Address) {
    let daemon = Setup::new().wsgi("site", MODULE, lines).start();
    let address = daemon.address("site");
    (daemon, address)
}

/// While this file is there the application goes on after its answer.
fn busy(daemon: &Daemon) -> PathBuf {
    daemon.folder.write("site-code/busy", "")
}

#[test]
fn a_worker_knows_which_one_it_is() {
    let (daemon, address) = start("pm = static\npm.max_children = 2\nwsgi.warmup[] = /write");
    daemon.wait_for_line("*said into stderr: \"finished: False\"");
    let text = || address.get("/worker").expect("it answers").text();
    let of = |slot: u32, generation: u32| {
        format!("Worker(pool='site', slot={slot}, generation={generation}) None False")
    };
    let busy = busy(&daemon);
    let seen: HashSet<String> = thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(text));
        until("both workers have a request", || {
            daemon.lines_like("*said into stderr: \"begun\"").len() == 2
        });
        fs::remove_file(busy).expect("it is there");
        let told = both.map(|asked| asked.join().expect("the client does not panic"));
        told.into_iter().collect()
    });
    assert_eq!(seen, HashSet::from([of(0, 1), of(1, 1)]));
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("NOTICE: [pool site] generation 2 has taken over");
    until("a new one answers", || {
        [of(0, 2), of(1, 2)].contains(&text())
    });
}

#[test]
fn a_worker_that_imports_by_itself_knows_it_as_well() {
    let (_daemon, address) = start(&format!("{ONE}\nwsgi.preload = no"));
    let worker = "Worker(pool='site', slot=0, generation=1)";
    assert_eq!(
        address.get("/worker").expect("it answers").text(),
        format!("{worker} {worker} False")
    );
}

#[test]
fn an_answer_ends_and_the_application_goes_on() {
    let (daemon, address) = start(ONE);
    for (round, path) in ["/write", "/yield"].into_iter().enumerate() {
        let busy = busy(&daemon);
        let mut connection = address.connect().expect("the pool listens");
        let request = Request::get(path).bytes(1, 0);
        connection.send(&request).expect("it is open");
        let answer = connection.answer().expect("it is answered");
        assert_eq!((answer.status, answer.text().as_str()), (200, "all of it"));
        connection.expect_end().expect("the connection ends");
        assert_eq!(daemon.lines_like("has gone on").len(), round);
        fs::remove_file(&busy).expect("it is there");
        until("it goes on", || {
            daemon.lines_like("has gone on").len() == round + 1
        });
    }
    assert_eq!(daemon.lines_like("finished: True").len(), 2);
    assert_eq!(daemon.lines_like("longer than its Content-Length").len(), 0);
}

#[test]
fn the_next_request_on_a_kept_connection_does_not_wait_for_it() {
    let (daemon, address) = start("pm = static\npm.max_children = 2");
    daemon.wait_for_workers("site", 2);
    for (round, first) in ["/write", "/close"].into_iter().enumerate() {
        let busy = busy(&daemon);
        let mut kept = address.connect().expect("the pool listens");
        for path in [first, "/return", "/return"] {
            let request = Request::get(path).bytes(1, KEEP_CONN);
            kept.send(&request).expect("it is open");
            assert_eq!(kept.answer().expect("it is answered").status, 200);
        }
        assert_eq!(daemon.lines_like("has gone on").len(), round);
        // Nor is it closed when the first worker comes to its end.
        fs::remove_file(busy).expect("it is there");
        until("it goes on", || {
            daemon.lines_like("has gone on").len() == round + 1
        });
        for _ in 0..3 {
            kept.send(&Request::get("/return").bytes(1, KEEP_CONN))
                .expect("it is open");
            assert_eq!(kept.answer().expect("it is answered").status, 200);
        }
    }
}

#[test]
fn a_thread_of_the_application_ends_no_answer() {
    let (daemon, address) = start(ONE);
    let answer = address.get("/elsewhere").expect("it answers");
    assert_eq!((answer.status, answer.text().as_str()), (200, "all of it"));
    daemon.wait_for_line("*said into stderr: \"elsewhere: False\"");
}

#[test]
fn what_comes_after_the_end_is_dropped() {
    let (daemon, address) = start(ONE);
    let answer = address.get("/return").expect("it answers");
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
    let answer = address.get("/declared").expect("it answers");
    assert_eq!((answer.status, answer.text().as_str()), (200, "all"));
    daemon.wait_for_line("*said into stderr: \"finished: True True\"");
    let answer = address.get("/late").expect("it answers");
    assert_eq!((answer.status, answer.text().as_str()), (200, "all of it"));
    daemon.wait_for_line("*LookupError: found out late*");
    let body = Request::post("/body", b"what was sent");
    assert_eq!(address.ask(&body).expect("it answers").text(), "all of it");
    daemon.wait_for_line("*said into stderr: \"read: b'what was sent'\"");
    assert_eq!(daemon.workers("site").len(), 1);
    assert_eq!(
        daemon.lines_like("WARNING: *exited on*"),
        Vec::<String>::new()
    );
}

#[test]
fn what_is_no_answer_does_not_end() {
    let (daemon, address) = start(ONE);
    for (path, why) in [
        (
            "/short",
            "the body is 3 bytes shorter than its Content-Length",
        ),
        ("/nothing", "start_response was not called before"),
    ] {
        let answer = address.get(path).expect("it answers");
        assert_eq!((answer.status, answer.text().as_str()), (200, "all"));
        daemon.wait_for_line(&format!("*said into stderr: \"refused: {why}*"));
    }
    address.get("/thread").expect("it answers");
    daemon.wait_for_line("*said into stderr: \"afterwards: False\"");
}

#[test]
fn a_client_that_has_gone_is_no_error() {
    let (daemon, address) = start(ONE);
    let file = busy(&daemon);
    let mut gone = address.connect().expect("the pool listens");
    gone.send(&Request::get("/slow").bytes(1, 0))
        .expect("it is open");
    daemon.wait_for_line("*said into stderr: \"begun\"");
    drop(gone);
    fs::remove_file(file).expect("it is there");
    daemon.wait_for_line("*said into stderr: \"finished: False\"");
    assert_eq!(daemon.lines_like("*Traceback*"), Vec::<String>::new());
}

#[test]
fn the_time_limit_ends_with_the_answer_unless_told_otherwise() {
    for (track, survives) in [("no", true), ("yes", false)] {
        let (daemon, address) = start(&format!(
            "{ONE}\nrequest_terminate_timeout = 1s\nrequest_terminate_timeout_track_finished = {track}\n\
             access.log = @DIR@/access.log\naccess.format = %d"
        ));
        daemon.wait_for_workers("site", 1);
        let pid = daemon.worker_pids("site")[0];
        assert_eq!(
            address.get("/sleep?s=2").expect("it answers").text(),
            "all of it"
        );
        assert_eq!(
            address.get("/write").expect("it answers").text(),
            "all of it"
        );
        assert_eq!(
            daemon.worker_pids("site").contains(&pid),
            survives,
            "{track}"
        );
        if survives {
            // The worker was busy with it for so long.
            let log = daemon.folder.path("access.log");
            let line = until_some("it is logged", PATIENCE, || {
                fs::read_to_string(&log)
                    .ok()?
                    .lines()
                    .next()
                    .map(str::to_owned)
            });
            let seconds: f64 = line.parse().expect("it is a number");
            assert!(seconds >= 2.0, "{line}");
        }
    }
}

/// What each claim about the mold is tried with. It answers with a worker's pid and what it has.
const OPENED: &str = r#"
import atexit, os, random, secrets, sys, tempfile, uuid
atexit.register(lambda: print("leaves", file=sys.stderr, flush=True))
lines = tempfile.TemporaryFile()
lines.write(b"".join(b"%04d" % number for number in range(10000)))
lines.seek(0)
own = random.Random(7)
made = os.getpid()
hooked = []
os.register_at_fork(after_in_child=lambda: hooked.append(os.getpid()))
shown = {
    "/random": random.random,
    "/secret": lambda: (secrets.token_hex(), uuid.uuid4()),
    "/cache": lambda: made,
    "/hook": lambda: hooked == [os.getpid()],
    "/own": own.random,
    "/file": lambda: os.read(lines.fileno(), 4),
}
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {shown[environ['PATH_INFO']]()}".encode()]
"#;

/// What two workers say first when they are asked for it.
fn of_two(address: &Address, path: &str) -> [String; 2] {
    let ask = || {
        let text = address.get(path).expect("it answers").text();
        let (pid, value) = text.split_once(' ').expect("there are two words");
        (pid.to_owned(), value.to_owned())
    };
    let (first, one) = ask();
    let two = until_some("another worker answers", PATIENCE, || {
        let (pid, value) = ask();
        (pid != first).then_some(value)
    });
    [one, two]
}

#[test]
fn what_is_safe_in_the_mold_and_what_is_not() {
    // Each worker answers few requests, so that others come.
    let mut daemon = Setup::new()
        .wsgi("site", OPENED, &format!("{ONE}\npm.max_requests = 1"))
        .start();
    daemon.wait_for_workers("site", 1);
    let address = daemon.address("site");
    let mold = daemon.mold("site").expect("it is there").pid.to_string();
    assert_eq!(of_two(&address, "/cache"), [mold.clone(), mold]);
    assert_eq!(of_two(&address, "/hook"), ["True", "True"]);
    for path in ["/random", "/secret"] {
        let [one, two] = of_two(&address, path);
        assert_ne!(one, two, "{path}");
    }
    // Not safe: the same numbers for everybody, and one place in a file.
    let [one, two] = of_two(&address, "/own");
    assert_eq!(one, two);
    let [one, two] = of_two(&address, "/file");
    assert_ne!(one, two);
    assert!(daemon.stop(Signal::SIGQUIT).success());
    daemon.wait_for_line("child * said into stderr: \"leaves\"");
    assert_eq!(daemon.lines_like("mold * said into"), Vec::<String>::new());
}
