//! What holds for every program.

use std::fs;
use std::thread;

use nix::sys::signal::Signal;

use crate::support::fastcgi::Request;
use crate::support::load::Load;
use crate::support::process::Process;
use crate::support::setup::Setup;
use crate::support::wait::until;

use super::host::{Host, POOL, Program};
use super::transfer::{self, post, upload};

/// Makes each of these functions of the suite a case of one program; without a list, all that say nothing else of it.
macro_rules! cases {
    ($program:expr) => {
        $crate::programs::suite::cases!(
            $program;
            pages,
            proxy_is_dropped,
            post_bodies,
            large_bodies,
            all_is_sent_before_anything_is_read,
            slow_pages,
            recycling_and_reload_lose_nothing,
            complaints,
            no_orphans,
            what_a_program_inherits,
        );
    };
    ($program:expr; $($case:ident),+ $(,)?) => {
        $(
            #[test]
            fn $case() {
                $crate::programs::suite::$case($program);
            }
        )+
    };
}
pub(super) use cases;

const MB: u64 = 1_000_000;

/// What the memory of a worker may grow by while a large body passes through, in kB: before its program, and inside of
/// it, where the program's own counts.
const MOST_GROWTH: (u64, u64) = (2_000, 5_000);

/// The request for a page, past nginx.
pub fn request(program: Program, host: &Host, path: &str) -> Request {
    let script = host.daemon.folder.path("php/probe.php");
    let request = Request::get(path);
    match program {
        Program::Php => request.with("SCRIPT_FILENAME", &script.display().to_string()),
        _ => request,
    }
}

/// Pages, parameters and a status, on new connections and on kept ones.
pub fn pages(program: Program) {
    let host = Host::start(program, "pm = static\npm.max_children = 2");
    for path in ["", "/kept", "/stream"] {
        let page = host.page(&format!("{path}/show?colour=blue&size=3"));
        for line in [
            "REQUEST_METHOD=GET",
            "QUERY_STRING=colour=blue&size=3",
            "CONTENT_LENGTH=\n",
            "HTTP_HOST=localhost",
        ] {
            assert!(page.contains(line), "no {line} in:\n{page}");
        }
        assert_eq!(host.status(&format!("{path}/teapot")), 418);
        let pid = host.page(&format!("{path}/pid"));
        let pids: Vec<String> = host
            .programs()
            .iter()
            .map(|program| program.pid.to_string())
            .collect();
        assert!(pids.contains(&pid), "{pid} is none of {pids:?}");
    }
    assert!(host.daemon.lines_like("does not fork").is_empty());
    let head = transfer::transfer(
        host.nginx.port,
        "HEAD",
        "/show",
        "",
        &mut std::io::empty(),
        0,
    )
    .expect("nginx answers");
    assert_eq!((head.status, head.length), (200, 0));
    for _ in 0..50 {
        host.page("/kept/show");
    }
}

/// `HTTP_PROXY` in the environment of a program is a client's doing (httpoxy).
pub fn proxy_is_dropped(program: Program) {
    let host = Host::start(program, "pm = static\npm.max_children = 1");
    let head = "Proxy: http://evil\r\n";
    let page = transfer::transfer(
        host.nginx.port,
        "GET",
        "/show",
        head,
        &mut std::io::empty(),
        0,
    )
    .expect("nginx answers");
    assert!(page.text().contains("HTTP_PROXY=\n"), "{}", page.text());
}

/// Bodies of the sizes at which something changes: none, records, pipes, spools.
pub fn post_bodies(program: Program) {
    let host = Host::start(program, "pm = static\npm.max_children = 2");
    for path in ["/store", "/kept/store", "/stream/store"] {
        for length in [1, 10, 8 * 1024, 65_535, 65_536, 300_000, 3 * MB] {
            let answer = upload(host.nginx.port, path, length).expect("nginx answers");
            assert!(
                (
                    answer.status,
                    answer.length,
                    answer.is_pattern,
                    answer.is_whole
                ) == (200, length, true, true),
                "{path} of {length} bytes: {} {} of {} {} {}",
                answer.status,
                answer.head,
                answer.length,
                answer.is_pattern,
                answer.is_whole
            );
        }
    }
    let form = post(
        host.nginx.port,
        "/store",
        "text/plain",
        "größer & schöner".as_bytes(),
    )
    .expect("nginx answers");
    assert_eq!(form.text(), "größer & schöner");
}

/// 200 MB up, down, and both at once, in bounded memory of the worker.
pub fn large_bodies(program: Program) {
    let host = Host::start(program, "pm = static\npm.max_children = 1");
    let port = host.nginx.port;
    upload(port, "/stream/count", MB).expect("nginx answers");
    let [worker] = &host.workers()[..] else {
        panic!("one worker")
    };
    let before = most_memory(worker);
    let length = 200 * MB;

    let up = upload(port, "/stream/count", length).expect("nginx answers");
    assert_eq!(up.text(), length.to_string());
    let down = transfer::get(port, &format!("/stream/make?bytes={length}")).expect("nginx answers");
    assert!(
        down.length == length && down.is_pattern && down.is_whole,
        "{} {}",
        down.head,
        down.length
    );
    let both = request(program, &host, "/echo")
        .with("REQUEST_METHOD", "POST")
        .with("CONTENT_LENGTH", &length.to_string());
    let both = transfer::stream(&host.socket(), &both, length).expect("the pool answers");
    assert!(
        both.length == length && both.is_pattern && both.is_whole,
        "{} {}",
        both.head,
        both.length
    );

    let grown = most_memory(worker) - before;
    assert!(worker.runs());
    let (before_it, inside) = MOST_GROWTH;
    let most = if host.molds().is_empty() {
        before_it
    } else {
        inside
    };
    assert!(grown <= most, "the worker has grown by {grown} kB");
}

/// The most memory that a process has ever had, in kB.
fn most_memory(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("the kernel tells");
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number")
}

/// A client that reads nothing until it has sent all, and a program that answers while it reads.
pub fn all_is_sent_before_anything_is_read(program: Program) {
    let host = Host::start(program, "pm = static\npm.max_children = 1");
    let body: Vec<u8> = {
        let mut body = Vec::new();
        std::io::Read::read_to_end(&mut transfer::pattern(8 * MB), &mut body)
            .expect("it is made here");
        body
    };
    let length = body.len().to_string();
    let mut request = request(program, &host, "/echo")
        .with("REQUEST_METHOD", "POST")
        .with("CONTENT_LENGTH", &length);
    request.body = body;
    let answer = host.address().ask(&request).expect("the pool answers");
    assert_eq!(answer.status, 200);
    assert!(
        answer.body == request.body,
        "{} of {length} bytes",
        answer.body.len()
    );
}

/// A slow page holds its own worker alone, and one that takes too long is ended.
pub fn slow_pages(program: Program) {
    let host = Host::start(
        program,
        "pm = static\npm.max_children = 2\nrequest_terminate_timeout = 3s\nslowlog = @DIR@/slow.log\nrequest_slowlog_timeout = 1s",
    );
    let before = host.wait_for_programs(2);
    let port = host.nginx.port;
    let slow = thread::spawn(move || transfer::get(port, "/slow?ms=1500").expect("nginx answers"));
    while !slow.is_finished() {
        host.page("/pid");
    }
    let slow = slow.join().expect("the client does not panic");
    assert_eq!((slow.status, slow.text().as_str()), (200, "slept"));
    let told = fs::read_to_string(host.daemon.folder.path("slow.log"))
        .expect("the slow request is told of");
    assert!(told.contains("/slow"), "{told}");

    let late = transfer::get(port, "/slow?ms=60000").expect("nginx answers");
    assert_eq!(late.status, 504, "{}", late.text());
    host.daemon
        .wait_for_line(&format!("[pool {POOL}]*timed out"));
    until("the program that took too long has ended", || {
        before.iter().any(|program| !program.runs())
    });
    host.wait_for_programs(2);
    host.page("/pid");
}

/// A program that dies costs its own request, and is told of with its last words.
pub fn crash(program: Program, death: &str) {
    let host = Host::start(program, "pm = static\npm.max_children = 1");
    let [before] = &host.wait_for_programs(1)[..] else {
        panic!("one program")
    };
    assert_eq!(host.status("/crash"), 502);
    host.daemon.wait_for_line(&format!("[pool {POOL}]*{death}"));
    host.daemon.wait_for_line("about to crash");
    assert!(!before.runs());
    assert_ne!(host.page("/pid"), before.pid.to_string());
    // In the middle of an answer nobody may take what has come for a whole one.
    assert!(transfer::is_cut_off(host.nginx.port, "/kept/halfway"));
    host.address()
        .ask(&request(program, &host, "/halfway"))
        .expect_err("the answer has no end");
    host.page("/pid");
}

/// `pm.max_requests` and a reload replace workers with their programs, and no request is lost.
pub fn recycling_and_reload_lose_nothing(program: Program) {
    let host = Host::start(
        program,
        "pm = static\npm.max_children = 3\npm.max_requests = 20",
    );
    let before = host.wait_for_programs(3);
    // Pages that take a moment reach every worker.
    let load = Load::of(&host.address(), 4, &request(program, &host, "/slow?ms=5"));
    until("every program has been replaced", || {
        before.iter().all(|program| !program.runs())
    });
    for _ in 0..2 {
        let of_generation = host.programs();
        host.daemon.signal(Signal::SIGUSR2);
        until("the reload has replaced every program", || {
            of_generation.iter().all(|program| !program.runs())
        });
    }
    let outcome = load.stop();
    assert!(
        outcome.failures.is_empty(),
        "{:?} and {} served",
        outcome.failures,
        outcome.served
    );
    assert!(outcome.served > 60);
    host.wait_for_programs(3);
}

/// A program that ends by itself after some requests is started anew, and no request is lost.
pub fn ends_by_itself(program: Program, lines: &str) {
    let host = Host::start(
        program,
        &format!("pm = static\npm.max_children = 2\n{lines}"),
    );
    host.wait_for_programs(2);
    let workers = host.workers();
    let load = Load::of(&host.address(), 3, &request(program, &host, "/pid"));
    let mut seen = std::collections::HashSet::new();
    until("programs have followed each other", || {
        seen.extend(host.programs().iter().map(|program| program.pid));
        seen.len() >= 8
    });
    let outcome = load.stop();
    assert!(
        outcome.failures.is_empty(),
        "{:?} and {} served",
        outcome.failures,
        outcome.served
    );
    // A worker that is inside of its program ends with it.
    let stay = host.molds().is_empty();
    assert_eq!(host.workers() == workers, stay, "{workers:?}");
}

/// What is said on standard error gets to the web server and to the log.
pub fn complaints(program: Program) {
    let host = Host::start(program, "pm = static\npm.max_children = 1");
    assert_eq!(host.page("/complain"), "complained");
    host.daemon.wait_for_line("a word on the program's stderr");
    if program != Program::Go {
        host.daemon.wait_for_line("a word on the request's stderr");
        let nginx = host.daemon.folder.path("log/nginx.log");
        until("nginx has it, too", || {
            fs::read_to_string(&nginx)
                .is_ok_and(|log| log.contains("a word on the request's stderr"))
        });
    }
}

/// Whatever dies first, no program is left.
pub fn no_orphans(program: Program) {
    let mut host = Host::start(program, "pm = static\npm.max_children = 2");
    let before = host.wait_for_programs(2);
    for worker in host.workers() {
        worker.signal(Signal::SIGKILL);
    }
    until("the programs have followed their workers", || {
        before.iter().all(|program| !program.runs())
    });
    let after = host.wait_for_programs(2);
    host.page("/pid");

    let workers = host.workers();
    host.daemon.signal(Signal::SIGKILL);
    host.daemon.wait_for_end();
    until("all have followed the master", || {
        after.iter().chain(&workers).all(|process| !process.runs())
    });
}

/// A program is given its listening socket, its environment and nothing else.
pub fn what_a_program_inherits(program: Program) {
    let setup = Setup::new();
    let exec = program.install(&setup.folder);
    let host = Host::of(
        setup,
        &format!("exec = {exec}\npm = static\npm.max_children = 1\nenv[COLOUR] = blue"),
    );
    let page = host.page("/environment");
    assert!(page.contains("COLOUR=blue"), "{page}");
    assert!(!page.contains("FCGI_WEB_SERVER_ADDRS"), "{page}");
    if program == Program::Php {
        assert!(page.contains("PHP_FCGI_CHILDREN=0"), "{page}");
    }
}
