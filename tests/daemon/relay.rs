//! Pools of programs (`exec`), with a program that does what it is asked for, mostly what no program should.

mod failures;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::User;

use crate::support::daemon::Daemon;
use crate::support::fastcgi::{
    ABORT_REQUEST, Address, DATA, END_REQUEST, KEEP_CONN, PARAMS, RESPONDER, Request, STDERR,
    STDIN, STDOUT, begin, record,
};
use crate::support::load::Load;
use crate::support::process::{self, Process};
use crate::support::setup::{POOL_USER, Setup, is_root};
use crate::support::wait::until;

/// What can run in a root folder with nothing else in it.
const CONFINED: &str = include_str!("apps/confined.c");

const PROGRAM: &str = include_str!("apps/program.py");

/// A pool of `count` workers with the program, which is started with `arguments`.
fn pool(count: u32, arguments: &str, lines: &str) -> Setup {
    let setup = Setup::new().global("log_level = debug");
    setup.folder.write("program.py", PROGRAM);
    let exec = format!("exec = \"@PYTHON@ @DIR@/program.py {arguments}\"");
    setup.pool(
        "program",
        &format!("{exec}\npm = static\npm.max_children = {count}\n{lines}"),
    )
}

fn one_worker(arguments: &str) -> (Daemon, Address) {
    let daemon = pool(1, arguments, "").start();
    daemon.wait_for_workers("program", 1);
    let address = daemon.address("program");
    (daemon, address)
}

#[track_caller]
fn page(address: &Address, path: &str) -> String {
    let answer = address.get(path).expect("the pool answers");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.text()
}

/// How often the program has begun a request.
fn begun(daemon: &Daemon, request: &str) -> usize {
    daemon
        .lines_like(&format!("said into stdout: \"begun {request}\""))
        .len()
}

/// The program has begun a request just so often, as far as the log knows: what a program says takes a moment to get
/// there.
#[track_caller]
fn has_begun(daemon: &Daemon, request: &str, times: usize) {
    until("the program has said so", || {
        begun(daemon, request) >= times
    });
    assert_eq!(begun(daemon, request), times, "{request}");
}

/// The programs of the workers.
fn programs(daemon: &Daemon) -> Vec<Process> {
    let mut all = process::below(daemon.pid());
    all.retain(|process| process.title.contains("program.py"));
    all
}

#[test]
fn a_program_answers_on_kept_and_new_connections() {
    let (daemon, address) = one_worker("");
    let first = page(&address, "/pid");
    let mut kept = address.connect().expect("the pool listens");
    for number in 1..=5 {
        kept.send(&Request::get("/pid").bytes(number, KEEP_CONN))
            .expect("it is open");
        let answer = kept.answer().expect("the pool answers");
        assert_eq!((answer.id, answer.text()), (number, first.clone()));
    }
    assert_eq!(page(&address, "/pid"), first);
    assert_eq!(programs(&daemon).len(), 1);
}

#[test]
fn an_answer_comes_with_its_streams_and_statuses() {
    let daemon = pool(
        1,
        "",
        "access.log = @DIR@/access\naccess.format = \"%s %r\"",
    )
    .start();
    let address = daemon.address("program");
    let answer = address.get("/streams").expect("the pool answers");
    assert_eq!((answer.status, answer.application_status), (418, 7));
    assert_eq!(answer.text(), "tea");
    assert_eq!(answer.stderr, b"careful");
    daemon.wait_for_line("[pool program] child * said into stderr: \"careful\"");
    let log = daemon.folder.path("access");
    until("the status is in the access log", || {
        fs::read_to_string(&log).is_ok_and(|text| text == "418 /streams\n")
    });
    for protocol in [2, 3] {
        let path = format!("/refuse?protocol={protocol}");
        let answer = address.get(&path).expect("the pool answers");
        assert_eq!(answer.protocol_status, protocol);
    }
}

/// The program reads and writes by turns; the client reads nothing until it has sent all, as Caddy does.
#[test]
fn large_bodies_pass_both_ways() {
    let (_daemon, address) = one_worker("");
    let body: Vec<u8> = (0..9_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    for size in [65_535, 4000] {
        let mut connection = address.connect().expect("the pool listens");
        let request = Request::post("/echo", &body).bytes_split(1, 0, size, 3);
        connection.send(&request).expect("the pool reads");
        let answer = connection.answer().expect("the pool answers");
        assert!(answer.body == body, "{} bytes", answer.body.len());
    }
    assert_eq!(page(&address, "/big?mib=20").len(), 20 << 20);
    let answer = address
        .ask(&Request::post("/big?mib=20", &body))
        .expect("the pool answers");
    assert_eq!(answer.body.len(), 20 << 20);
    let counted = address
        .ask(&Request::post("/count", &body))
        .expect("the pool answers");
    assert_eq!(counted.text(), "9000000");
}

#[test]
fn an_answer_before_the_body_was_read_is_whole() {
    let (_daemon, address) = one_worker("");
    let answer = address
        .ask(&Request::post("/early", &[b'x'; 5_000_000]))
        .expect("the pool answers");
    assert_eq!(answer.text(), "early");
    assert_eq!(page(&address, "/early"), "early");
}

/// Parts of an answer leave when they come, and parts of a body, too.
#[test]
fn nothing_waits_for_more() {
    let (daemon, address) = one_worker("");
    let mut connection = address.connect().expect("the pool listens");
    connection
        .send(&Request::get("/parts?s=30").bytes(1, 0))
        .expect("it is open");
    let first = connection.record().expect("a part of the answer comes");
    assert_eq!(first.kind, STDOUT);
    assert!(first.content.ends_with(b"one"));
    drop(connection);
    daemon.wait_for_line("has not come back * s after its request was given up; it is ended");

    let mut connection = address.connect().expect("the pool listens");
    let request = Request::post("/echo", b"").bytes(1, 0);
    let head = request.len() - 8;
    connection.send(&request[..head]).expect("it is open");
    assert_eq!(connection.record().expect("a head comes").kind, STDOUT);
    for text in [b"one", b"two"] {
        connection
            .send(&record(STDIN, 1, text, 0))
            .expect("it is open");
        let part = connection.record().expect("it comes back");
        assert_eq!((part.kind, &part.content[..]), (STDOUT, &text[..]));
    }
    connection.send(&request[head..]).expect("it is open");
    assert_eq!(connection.record().expect("an end comes").content, b"");
}

#[test]
fn a_program_gets_its_surroundings_and_nothing_else() {
    let lines = "env[FCGI_WEB_SERVER_ADDRS] = 10.0.0.1\nenv[PHP_FCGI_CHILDREN] = 3\nenv[A] = b";
    let daemon = pool(1, "", lines).start();
    let address = daemon.address("program");
    let environment = page(&address, "/environment");
    let environment: BTreeSet<&str> = environment.lines().collect();
    for expected in ["A=b", "PHP_FCGI_CHILDREN=3", "PHP_FCGI_MAX_REQUESTS=0"] {
        assert!(environment.contains(expected), "{environment:?}");
    }
    assert!(
        !environment
            .iter()
            .any(|line| line.starts_with("FCGI_") || line.starts_with("PATH=")),
        "{environment:?}"
    );
    // Its connection, and the folder that it lists.
    assert_eq!(page(&address, "/descriptors"), "0 1 2 3 4");
    let params = Request::get("/params").with("HTTP_PROXY", "http://evil");
    let params = address.ask(&params).expect("the pool answers").text();
    assert!(params.contains("SERVER_NAME=localhost") && !params.contains("PROXY"));
}

/// With nothing behind its head that could have been left unread, one is sent again only if the program has ended in good
/// order.
#[test]
fn a_request_that_was_not_read_is_sent_again_as_far_as_that_is_safe() {
    let (daemon, address) = one_worker("");
    for (status, request, expected) in [
        (0, Request::get("/slow?s=0"), 200),
        (3, Request::post("/slow?s=0", b"x"), 200),
        (3, Request::get("/slow?s=0"), 502),
    ] {
        let mut kept = address.connect().expect("the pool listens");
        let last = Request::get(&format!("/last?status={status}&s=0.2"));
        for (request, expected) in [(last, 200), (request, expected)] {
            kept.send(&request.bytes(1, KEEP_CONN)).expect("it is open");
            let answer = kept.answer().expect("the pool answers");
            assert_eq!(answer.status, expected, "{}", answer.text());
        }
    }
    page(&address, "/pid");
    has_begun(&daemon, "* /slow?s=0", 2);
}

/// Whatever its last request did to it.
#[test]
fn a_program_that_ends_between_two_requests_costs_none() {
    for arguments in ["", "buffer 0"] {
        let (daemon, address) = one_worker(arguments);
        let mut pids = BTreeSet::new();
        for path in [
            "/last?status=0",
            "/last?status=0&s=0.2",
            "/close",
            "/last?status=3",
            "/close",
        ] {
            let mut connection = address.connect().expect("the pool listens");
            connection
                .send(&Request::get(path).bytes(1, KEEP_CONN))
                .expect("it is open");
            pids.insert(connection.answer().expect("the pool answers").text());
            connection
                .send(&Request::post("/pid", b"x").bytes(1, 0))
                .expect("it is open");
            let answer = connection.answer().expect("the pool answers");
            assert_eq!(answer.status, 200, "after {path}: {}", answer.text());
            pids.insert(answer.text());
        }
        has_begun(&daemon, "POST /pid", 5);
        assert!(pids.len() >= 4, "{pids:?}");
    }
}

#[test]
fn a_request_in_the_middle_of_which_the_program_ends_is_told_of() {
    for arguments in ["", "buffer 0"] {
        let (daemon, address) = one_worker(arguments);
        for (request, how) in [
            (Request::get("/die?status=3"), "exited with code 3"),
            (
                Request::get("/die?signal=9"),
                "exited on signal 9 (SIGKILL)",
            ),
            (
                Request::post("/die?status=0", b"some"),
                "exited with code 0",
            ),
            (
                Request::post("/die?status=4", &[b'x'; 500_000]),
                "exited with code 4",
            ),
        ] {
            let answer = address.ask(&request).expect("the pool answers");
            assert_eq!(answer.status, 502, "{}", answer.text());
            daemon.wait_for_line(&format!(
                "WARNING: *[pool program] child *: the program * {how}, *; its last words: the last words"
            ));
        }
        has_begun(&daemon, "* /die*", 4);
        until("there is a program before it is asked", || {
            programs(&daemon).len() == 1
        });
        assert_eq!(address.get("/pid").expect("the pool answers").status, 200);
    }
}

#[test]
fn half_an_answer_is_never_taken_for_a_whole_one() {
    let (daemon, address) = one_worker("");
    for path in ["/half", "/nonsense?first=1"] {
        let mut connection = address.connect().expect("the pool listens");
        connection
            .send(&Request::get(path).bytes(1, 0))
            .expect("it is open");
        connection.answer().expect_err("there is no end");
    }
    assert_eq!(
        address.get("/nonsense").expect("the pool answers").status,
        502
    );
    daemon.wait_for_line("the program * exited with code 5");
    daemon.wait_for_line("the program has sent a record of protocol version 72 instead of 1");
    assert_eq!(address.get("/pid").expect("the pool answers").status, 200);
    assert_eq!(programs(&daemon).len(), 1);
}

#[test]
fn recycling_under_load_loses_nothing() {
    let daemon = pool(2, "", "pm.max_requests = 7").start();
    let load = Load::start(&daemon.address("program"), 4, "/last?status=0");
    until("many programs and many workers have ended", || {
        daemon.lines_like("has started program").len() > 60
    });
    let outcome = load.stop();
    assert_eq!(outcome.failures, Vec::<String>::new());
    assert!(outcome.served > 50);
}

#[test]
fn a_web_server_that_leaves_gives_the_request_up() {
    let (daemon, address) = one_worker("");
    let mut connection = address.connect().expect("the pool listens");
    let body = Request::post("/count", &[b'x'; 100]).bytes(1, 0);
    connection
        .send(&body[..body.len() - 8])
        .expect("it is open");
    daemon.wait_for_line("begun POST /count");
    connection
        .send(&record(ABORT_REQUEST, 1, b"", 0))
        .expect("it is open");
    daemon.wait_for_line("said into stdout: \"aborted\"");
    assert_eq!(connection.answer().expect("it has ended").status, 0);
    assert_eq!(address.get("/pid").expect("the pool answers").status, 200);
    assert_eq!(daemon.lines_like("has started program").len(), 1);
}

/// Whatever dies first, nothing is left behind, and the rest goes on or leaves.
#[test]
fn no_orphan_survives() {
    no_orphan_survives_of("exec.mold = no");
    no_orphan_survives_of("exec.mold = yes");
}

fn no_orphan_survives_of(lines: &str) {
    let mut daemon = pool(1, "", lines).start();
    daemon.wait_for_workers("program", 1);
    let address = daemon.address("program");
    let of_child = |pid: &str| Process::of(pid.parse().expect("a pid"));
    for victim in ["program", "worker"] {
        let child = of_child(&page(&address, "/child")).expect("it runs");
        let program = Process::of(child.parent).expect("it runs");
        match victim {
            "program" => program.signal(Signal::SIGKILL),
            _ => daemon.workers("program")[0].signal(Signal::SIGKILL),
        }
        until("it is gone with what it has started", || {
            !program.runs() && !child.runs()
        });
        assert_eq!(address.get("/pid").expect("the pool answers").status, 200);
    }
    let child = of_child(&page(&address, "/child")).expect("it runs");
    let all = process::below(daemon.pid());
    assert!(all.contains(&child));
    daemon.stop(Signal::SIGKILL);
    until("nothing is left of a master that was killed", || {
        !all.iter().any(Process::runs)
    });
}

#[test]
fn a_program_is_shown_the_end_before_it_is_told() {
    let mut daemon = pool(1, "", "").start();
    daemon.wait_for_workers("program", 1);
    page(&daemon.address("program"), "/pid");
    let begun = Instant::now();
    assert!(daemon.stop(Signal::SIGQUIT).success());
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!(daemon.lines_like("left in good order").len(), 1);
}

#[test]
fn a_program_that_does_not_listen_to_signals_is_killed() {
    let (mut daemon, address) = one_worker("");
    page(&address, "/stubborn");
    let left = programs(&daemon);
    assert!(daemon.stop(Signal::SIGQUIT).success());
    assert!(!left.iter().any(Process::runs));
}

#[test]
fn a_program_that_cannot_start_is_told_with_its_last_words() {
    let setup = pool(1, "print hopeless exit 3", "")
        .pool("hello", "app = hello\npm = static\npm.max_children = 1");
    let daemon = setup.start();
    daemon.wait_for_line(
        "ERROR: *[pool program] cannot start: 2 failure(s) in a row, * its last words: *exited with code 3 before it accepted a connection*hopeless",
    );
    assert_eq!(
        daemon
            .address("hello")
            .get("/")
            .expect("the other pool answers")
            .status,
        200
    );
}

#[test]
fn a_program_is_confined_with_its_worker() {
    if !is_root() {
        return;
    }
    let setup = Setup::new();
    let source = setup.folder.write("confined.c", CONFINED);
    fs::create_dir_all(setup.folder.path("root/inner")).expect("folders can be made");
    let compiled = Command::new("cc")
        .args(["-static", "-O1", "-w", "-o"])
        .arg(setup.folder.path("root/program"))
        .arg(source)
        .status()
        .expect("there is a C compiler (tests/run.sh installs it)");
    assert!(compiled.success());
    let lines =
        "chroot = @DIR@/root\nchdir = /inner\nexec = /program\npm = static\npm.max_children = 1";
    let daemon = setup
        .pool("plain", lines)
        .pool("dumpable", &format!("{lines}\nprocess.dumpable = yes"))
        .start();
    let user = User::from_name(POOL_USER)
        .expect("users can be looked up")
        .expect("the pool's user exists");
    for pool in ["plain", "dumpable"] {
        for _ in 0..2 {
            assert_eq!(
                page(&daemon.address(pool), "/"),
                format!("/inner {}", user.uid)
            );
        }
        // Its successor, which is connected to anew, too.
        let program = process::below(daemon.workers(pool)[0].pid).swap_remove(0);
        program.signal(Signal::SIGKILL);
        until("it ends", || !program.runs());
        page(&daemon.address(pool), "/");
    }
}

#[test]
fn a_request_over_its_time_ends_its_program_and_what_that_has_started() {
    let lines =
        "request_slowlog_timeout = 1s\nslowlog = @DIR@/slow\nrequest_terminate_timeout = 2s";
    let daemon = pool(1, "", lines).start();
    let address = daemon.address("program");
    let child: i32 = page(&address, "/child").parse().expect("a pid");
    let child = Process::of(child).expect("it runs");
    let left = programs(&daemon);
    assert_eq!(left.len(), 2);
    let answer = address.get("/slow?s=50").expect("an answer comes");
    assert_eq!(answer.status, 504);
    until("all of it ends", || {
        !child.runs() && !left.iter().any(Process::runs)
    });
    assert_eq!(address.get("/pid").expect("the pool answers").status, 200);
    let slow = fs::read_to_string(daemon.folder.path("slow")).expect("there is a slow log");
    assert!(
        slow.contains("request = \"GET /slow?s=50\"\nstate = S"),
        "{slow}"
    );
}

#[test]
fn a_program_that_never_accepts_is_told() {
    let daemon = pool(1, "deaf", "pm.start_timeout = 2s").start();
    daemon.wait_for_line("ERROR: *[pool program] cannot start: * has accepted no connection");
    let daemon = pool(1, "deaf", "exec.ready = connect").start();
    daemon.wait_for_workers("program", 1);
    let daemon = pool(1, "", "exec.ready = delay 200ms").start();
    assert_eq!(
        daemon
            .address("program")
            .get("/pid")
            .expect("the pool answers")
            .status,
        200
    );
}

/// A program is busy with nobody's request any more; the one that comes waits for it.
#[test]
fn requests_are_answered_while_others_are_slow() {
    let daemon = pool(2, "", "").start();
    daemon.wait_for_workers("program", 2);
    let address = daemon.address("program");
    thread::scope(|scope| {
        let slow = scope.spawn(|| page(&address, "/slow?s=2"));
        until("it has begun", || begun(&daemon, "GET /slow?s=2") == 1);
        let from = Instant::now();
        page(&address, "/pid");
        assert!(from.elapsed() < Duration::from_millis(1500));
        assert_eq!(slow.join().expect("a client does not panic"), "slow");
    });
}

#[test]
fn all_roles_are_served() {
    let (_daemon, address) = one_worker("");
    let pairs = Request::get("/role").pairs();
    let stream = |kind, content: &[u8]| {
        let content = record(kind, 1, content, 1);
        [content, record(kind, 1, b"", 0)].concat()
    };
    let params = stream(PARAMS, &pairs);
    let form = stream(STDIN, b"form");
    for (role, rest, expected) in [
        (1, form.clone(), "1 ['form']"),
        (2, Vec::new(), "2 []"),
        (
            3,
            [form, stream(DATA, b"file")].concat(),
            "3 ['form', 'file']",
        ),
        (1, record(STDIN, 1, b"", 0), "1 ['']"),
    ] {
        let mut kept = address.connect().expect("the pool listens");
        for _ in 0..2 {
            let bytes = [begin(1, role, KEEP_CONN), params.clone(), rest.clone()].concat();
            kept.send(&bytes).expect("it is open");
            assert_eq!(kept.answer().expect("the pool answers").text(), expected);
        }
    }
    let mut connection = address.connect().expect("the pool listens");
    connection.send(&begin(1, 4, 0)).expect("it is open");
    let end = connection.record().expect("it is refused");
    assert_eq!((end.kind, end.content[4]), (END_REQUEST, 3));
}

#[test]
fn a_head_of_many_pieces_arrives() {
    let (_daemon, address) = one_worker("");
    let long = "v".repeat(70_000);
    let request = Request::get("/params")
        .with("HTTP_LONG", &long)
        .with("HTTP_OTHER", &long);
    let mut connection = address.connect().expect("the pool listens");
    connection
        .send(&begin(1, RESPONDER, 0))
        .expect("it is open");
    for part in request.pairs().chunks(1000) {
        connection
            .send(&record(PARAMS, 1, part, 0))
            .expect("it is open");
    }
    for kind in [PARAMS, STDIN] {
        connection
            .send(&record(kind, 1, b"", 0))
            .expect("it is open");
    }
    let answer = connection.answer().expect("the pool answers");
    assert!(answer.stderr.is_empty() && STDERR != STDOUT);
    assert!(answer.text().contains(&format!("HTTP_OTHER={long}")));
}
