//! The log: what workers print, JSON, the system's log, and readers that do not read.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};

use crate::support::daemon::{self, Daemon, Turn};
use crate::support::fastcgi::Request;
use crate::support::process::{self, Process};
use crate::support::setup::{Setup, with_own_mounts};
use crate::support::wait::{PATIENCE, until};

/// Prints what it is asked to: `/long?4000`, `/odd`, `/flood`, `/half`.
const PRINTER: &str = r#"
import os

def application(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/long":
        line = b"0123456789" * (int(query) // 10)
        # In pieces, as a program that does not buffer writes it.
        for at in range(0, len(line), 777):
            os.write(2, line[at:at + 777])
        os.write(2, b"\n")
    elif path == "/odd":
        os.write(1, b"caf\xe9 \"quoted\" \\ \t\x01\x1b[31m\n")
    elif path == "/flood":
        for number in range(int(query)):
            os.write(2, b"%0999d\n" % number)
    elif path == "/part":
        os.write(2, b"no end yet")
    elif path == "/half":
        os.write(2, b"half a line")
        os._exit(3)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
"#;

const ONE: &str = "pm = static\npm.max_children = 1";

#[test]
fn a_line_within_the_limit_is_never_cut() {
    let daemon = Setup::new()
        .global("log_limit = 5000")
        .wsgi("printer", PRINTER, ONE)
        .start();
    daemon
        .address("printer")
        .get("/long?4000")
        .expect("the pool answers");
    let line = "0123456789".repeat(400);
    daemon.wait_for_line(&format!(
        "WARNING: [pool printer] child * said into stderr: \"{line}\""
    ));
}

#[test]
fn a_longer_line_is_wrapped_and_each_part_says_whose_it_is() {
    let daemon = Setup::new()
        .global("log_limit = 512")
        .wsgi("printer", PRINTER, ONE)
        .start();
    let address = daemon.address("printer");
    address.get("/long?1000").expect("the pool answers");
    address.get("/odd").expect("the pool answers");
    daemon.wait_for_line("said into stdout");
    let lines = daemon.lines_like("said into stderr: \"*\"");
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert_eq!((lines[0].len(), lines[1].len()), (511, 511));
    let said: String = lines
        .iter()
        .map(|line| {
            let (_, said) = line.split_once(": \"").expect("what was said");
            said.strip_suffix('"').expect("its end")
        })
        .collect();
    assert_eq!(said, "0123456789".repeat(100));
}

#[test]
fn plain_output_is_passed_on_byte_for_byte() {
    let daemon = Setup::new().global("error_log = @DIR@/daemon.log").wsgi(
        "printer",
        PRINTER,
        &format!("{ONE}\ndecorate_workers_output = no"),
    );
    let path = daemon.folder.path("daemon.log");
    let daemon = in_file(daemon, &path);
    daemon
        .address("printer")
        .get("/odd")
        .expect("the pool answers");
    let odd = b"\ncaf\xe9 \"quoted\" \\ \t\x01\x1b[31m\n";
    until("the line is in the log", || {
        fs::read(&path)
            .expect("there is a log")
            .windows(odd.len())
            .any(|bytes| bytes == odd)
    });
}

/// Starts a daemon whose log is a file, in which it says that it is ready.
fn in_file(setup: Setup, path: &std::path::Path) -> Daemon {
    let mut command = daemon::command(&setup.write());
    let daemon = Daemon::launch(setup.folder, &mut command, Turn::shared());
    until("it is ready", || {
        fs::read(path).is_ok_and(|log| String::from_utf8_lossy(&log).contains("ready to handle"))
    });
    daemon
}

/// With `log_buffering` off, what has no end yet is told as it comes.
#[test]
fn without_buffering_nothing_is_waited_for() {
    let daemon = Setup::new()
        .global("log_buffering = no")
        .wsgi("printer", PRINTER, ONE)
        .start();
    daemon
        .address("printer")
        .get("/part")
        .expect("the pool answers");
    daemon.wait_for_line("said into stderr: \"no end yet\"");
    assert_eq!(daemon.worker_pids("printer").len(), 1);
}

/// The same lines, printed by a worker of php-fpm and by one of ours, and what is told around them.
#[test]
fn the_log_of_a_day_is_as_with_php_fpm() {
    if !Uid::effective().is_root() {
        eprintln!("not compared with php-fpm, which wants to be started by root");
        return;
    }
    for decorated in [true, false] {
        let php = a_day("php", decorated);
        assert!(php.contains("error log file re-opened"), "{php}");
        assert_eq!(a_day("ours", decorated), php);
    }
}

/// Starts it, lets a worker print, end and be replaced, opens the log anew, stops. Returns the log without times, pids
/// and the notice of the service manager's clock.
fn a_day(whose: &str, decorated: bool) -> String {
    // Wrapping depends on the length of a pid where it is told.
    let lengths: &[usize] = if decorated {
        &[0, 10, 300]
    } else {
        &[0, 10, 598, 599, 600, 1300]
    };
    let lines: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
    let printed = lines.join("\n") + "\n\nthe last\n";
    let mut setup = Setup::new().global(&format!("error_log = @DIR@/{whose}.log\nlog_limit = 600"));
    let decorate = if decorated { "yes" } else { "no" };
    let pool = format!(
        "user = www-data\ngroup = www-data\npm = static\npm.max_children = 1\ncatch_workers_output = yes\n\
         decorate_workers_output = {decorate}"
    );
    let (program, script) = if whose == "php" {
        let print = "<?php file_put_contents('php://stderr', file_get_contents(__DIR__.'/printed')); echo 'done';";
        let script = setup.folder.write("print.php", print);
        setup = setup.pool("print", &pool);
        ("/usr/sbin/php-fpm8.2", script)
    } else {
        let print = "import os\ndef application(environ, start_response):\n    \
                     with open('@DIR@/printed', 'rb') as file: os.write(2, file.read())\n    \
                     start_response('200 OK', [])\n    return [b'done']\n";
        let folder = setup.folder.root().display().to_string();
        let python = "python = @PYTHON@\nwsgi.preload = no\n";
        setup = setup.wsgi(
            "print",
            &print.replace("@DIR@", &folder),
            &format!("{python}{pool}"),
        );
        (env!("CARGO_BIN_EXE_preforkd"), std::path::PathBuf::new())
    };
    setup.folder.write("printed", &printed);
    let log = setup.folder.path(&format!("{whose}.log"));
    let text = || fs::read_to_string(&log).unwrap_or_default();
    let mut command = Command::new(program);
    command
        .args(["-F", "-y"])
        .arg(setup.write())
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null());
    let mut daemon = Daemon::launch(setup.folder, &mut command, Turn::shared());
    until("it is ready", || text().contains("ready to handle"));
    let script = script.display().to_string();
    let ask = || {
        let request = Request::get("/print.php")
            .with("SCRIPT_FILENAME", &script)
            .with("SCRIPT_NAME", "/print.php");
        let answer = daemon.address("print").ask(&request);
        assert_eq!(answer.expect("the pool answers").text(), "done");
    };
    for count in 1..=2 {
        ask();
        until("all of it is in the log", || {
            text().matches("the last").count() == count
        });
    }
    // Those that wear out are told of at debug alone, unlike php-fpm's.
    let is_worker = |process: &Process| process.title.ends_with(": pool print");
    let worker = process::below(daemon.pid()).into_iter().find(is_worker);
    worker.expect("there is a worker").signal(Signal::SIGKILL);
    until("the worker has been replaced", || {
        let log = text();
        log.contains(" exited on signal 9 (SIGKILL) after ") && log.contains(" started\n")
    });
    daemon.signal(Signal::SIGUSR1);
    until("the log is opened anew", || text().contains("re-opened"));
    daemon.stop(Signal::SIGQUIT);
    let mut plain = String::new();
    // Only ours has a mold, and says of a static pool that it is busy; only php-fpm tells of a clock that it has no use for.
    let alone = [
        "] mold ",
        "systemd monitor",
        "server reached pm.max_children",
        "all workers were busy",
    ];
    for line in text().lines() {
        if alone.iter().any(|what| line.contains(what)) {
            continue;
        }
        let stamped = line
            .strip_prefix('[')
            .and_then(|line| line.split_once("] "));
        let words = stamped.map_or(line, |(_, line)| line).split(' ');
        let words: Vec<&str> = words
            .map(|word| {
                if word.parse::<f64>().is_ok() {
                    "N"
                } else {
                    word
                }
            })
            .collect();
        plain += &words.join(" ");
        plain.push('\n');
    }
    plain
}

/// `-O` keeps the log on standard error, whatever the configuration says.
#[test]
fn standard_error_can_be_insisted_on() {
    let setup = Setup::new()
        .global("error_log = @DIR@/daemon.log")
        .pool("hello", &format!("app = hello\n{ONE}"));
    let mut command = daemon::command(&setup.write());
    command.arg("-O");
    let daemon = Daemon::launch(setup.folder, &mut command, Turn::shared()).ready();
    daemon.wait_for_workers("hello", 1);
    assert!(!daemon.folder.path("daemon.log").exists());
}

/// What a process prints last is told, with or without an end.
#[test]
fn the_last_words_of_a_worker_are_told() {
    let daemon = Setup::new().wsgi("printer", PRINTER, ONE).start();
    let _ = daemon.address("printer").get("/half");
    daemon.wait_for_line("said into stderr: \"half a line\"");
    daemon.wait_for_line("WARNING: [pool printer] child * exited with code 3 after");
}

#[test]
fn json_is_one_object_a_line() {
    let mut daemon = Setup::new()
        .global("log_format = json")
        .wsgi("printer", PRINTER, ONE)
        .launch_json();
    let address = daemon.address("printer");
    address.get("/odd").expect("the pool answers");
    daemon.wait_for_line("quoted");
    daemon.stop(Signal::SIGTERM);
    let lines = daemon.lines_like("");
    let check = r#"
import json, sys, datetime
lines = [json.loads(line) for line in sys.stdin]
for line in lines:
    assert datetime.datetime.fromisoformat(line["time"]).tzinfo, line
    assert line["level"] in ("debug", "notice", "warning", "error", "alert"), line
said, = [line for line in lines if line.get("stream")]
assert said["pool"] == "printer" and said["process"] == "child" and said["pid"] > 1, said
assert said["stream"] == "stdout" and said["level"] == "warning", said
assert said["message"] == 'caf\ufffd "quoted" \\ \t\x01\x1b[31m', said
last = lines[-1]
assert (last["level"], last["message"]) == ("notice", "exiting, bye-bye!"), last
"#;
    let mut python = Command::new("/usr/bin/python3")
        .args(["-c", check])
        .stdin(Stdio::piped())
        .spawn()
        .expect("python can be started");
    let input = lines.join("\n") + "\n";
    let mut pipe = python.stdin.take().expect("it is piped");
    std::io::Write::write_all(&mut pipe, input.as_bytes()).expect("it reads");
    drop(pipe);
    assert!(python.wait().expect("it is our child").success(), "{input}");
}

impl Setup {
    fn launch_json(self) -> Daemon {
        let mut command = daemon::command(&self.write());
        let daemon = Daemon::launch(self.folder, &mut command, Turn::shared());
        daemon.wait_for_line("\"message\":\"ready to handle connections\"");
        daemon
    }
}

/// The master goes on while nobody reads its log, and says afterwards what was lost.
#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let setup = Setup::new()
        .global("error_log = @DIR@/pipe")
        .wsgi("printer", PRINTER, ONE);
    let path = setup.folder.path("pipe");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe can be made");
    let mut reader = fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(&path)
        .expect("it can be read");
    let mut command = daemon::command(&setup.write());
    let daemon = Daemon::launch(setup.folder, &mut command, Turn::shared());
    daemon.wait_for_workers("printer", 1);
    let address = daemon.address("printer");
    for _ in 0..3 {
        // Much more than the pipe holds.
        let answer = address.get("/flood?200").expect("the pool answers");
        assert_eq!(answer.text(), "done");
    }
    let mut all = Vec::new();
    let mut read = |all: &mut Vec<u8>| {
        let mut bytes = [0; 65536];
        while let Ok(count @ 1..) = reader.read(&mut bytes) {
            all.extend_from_slice(&bytes[..count]);
        }
    };
    until("the loss is told", || {
        read(&mut all);
        daemon.signal(Signal::SIGUSR1);
        String::from_utf8_lossy(&all).contains("lines of the log were lost")
    });
    let text = String::from_utf8_lossy(&all);
    let lost = text
        .lines()
        .find(|line| line.contains("lines of the log were lost"))
        .expect("it is there");
    let count = lost.split(' ').find_map(|word| word.parse::<u32>().ok());
    assert!(count.is_some_and(|count| count > 100), "{lost}");
}

/// What the disk has no room for is lost; the daemon goes on, and says so when there is room again.
#[test]
fn a_full_disk_holds_nothing_up() {
    let setup = Setup::new()
        .global("error_log = @DIR@/disk/daemon.log")
        .wsgi("printer", PRINTER, ONE);
    let path = setup.folder.path("disk/daemon.log");
    let mounts = "mkdir disk; mount -t tmpfs -o size=64k none disk";
    let Some(daemon) = with_own_mounts(mounts, setup, "exec \"$0\" -F -y \"$1\"") else {
        return;
    };
    daemon.wait_for_workers("printer", 1);
    // Only the daemon and its children see the disk by its name.
    let seen = format!("/proc/{}/root{}", daemon.pid(), path.display());
    let log = || fs::read_to_string(&seen).unwrap_or_default();
    let address = daemon.address("printer");
    for _ in 0..2 {
        let answer = address.get("/flood?100").expect("the pool answers");
        assert_eq!(answer.text(), "done");
    }
    until("the disk is full", || log().len() > 60_000);
    fs::OpenOptions::new()
        .write(true)
        .open(&seen)
        .and_then(|file| file.set_len(0))
        .expect("it can be emptied");
    until("the loss is told", || {
        daemon.signal(Signal::SIGUSR1);
        log().contains(" lines of the log were lost\n")
    });
    until("the log goes on", || {
        log().contains("NOTICE: error log file re-opened\n")
    });
}

fn socket(setup: &Setup) -> UnixDatagram {
    let socket = UnixDatagram::bind(setup.folder.path("log.sock")).expect("it can be bound");
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout can be set");
    socket
}

#[track_caller]
fn receive(socket: &UnixDatagram, pattern: &str) -> String {
    loop {
        let mut bytes = [0; 16384];
        let length = socket
            .recv(&mut bytes)
            .unwrap_or_else(|error| panic!("nothing like {pattern}: {error}"));
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        if daemon::matches(pattern, &text) {
            return text;
        }
    }
}

#[test]
fn syslog_gets_each_message_at_its_own_level() {
    let setup = Setup::new()
        .global("error_log = syslog\nsyslog.ident = site\nsyslog.facility = local3")
        .wsgi("printer", PRINTER, ONE);
    let system = socket(&setup);
    let path = setup.folder.path("log.sock");
    let mounts = "mkdir dev; mount -t tmpfs none dev
        for file in null zero full random urandom; do touch dev/$file; mount --bind /dev/$file dev/$file; done
        ln -s /proc/self/fd dev/fd; ln -s $PWD/log.sock dev/log; mount --move dev /dev";
    let Some(daemon) = with_own_mounts(mounts, setup, "exec \"$0\" -F -y \"$1\"") else {
        return;
    };
    // local3 is 19; NOTICE is 5, WARNING 4.
    let ready = receive(&system, "[NOTICE] ready to handle connections");
    let (head, pid) = ready.split_once(" site[").expect("its ident");
    assert!(head.starts_with("<157>") && head.len() == "<157>Nov 23 08:15:10".len());
    assert!(
        pid.starts_with(&format!("{}]: [NOTICE] ready", daemon.pid())),
        "{ready}"
    );
    daemon
        .address("printer")
        .get("/odd")
        .expect("the pool answers");
    let said = receive(
        &system,
        "[WARNING] [pool printer] child * said into stdout: \"caf*\"",
    );
    assert!(said.starts_with("<156>"), "{said}");
    // The system's log is started anew.
    drop(system);
    fs::remove_file(&path).expect("it can be removed");
    daemon
        .address("printer")
        .get("/odd")
        .expect("nobody waits for a log");
    let system = UnixDatagram::bind(&path).expect("it can be bound");
    system
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout can be set");
    daemon.signal(Signal::SIGTERM);
    receive(&system, "<157>* site[*]: [NOTICE] Terminating ...");
}

#[test]
fn the_journal_gets_its_own_fields() {
    let setup = Setup::new().wsgi("printer", PRINTER, ONE);
    let system = socket(&setup);
    let mounts = "mount -t tmpfs none /run; mkdir -p /run/systemd/journal
        ln -s $PWD/log.sock /run/systemd/journal/socket";
    let run = "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$0\" -F -y \"$1\"";
    let Some(daemon) = with_own_mounts(mounts, setup, run) else {
        return;
    };
    assert_eq!(
        receive(&system, "MESSAGE=ready to handle"),
        "PRIORITY=5\nSYSLOG_IDENTIFIER=preforkd\nMESSAGE=ready to handle connections\n"
    );
    daemon
        .address("printer")
        .get("/odd")
        .expect("the pool answers");
    let said = receive(&system, "said into stdout");
    for field in [
        "PRIORITY=4\n",
        "PREFORKD_POOL=printer\n",
        "PREFORKD_PROCESS=child\n",
        "PREFORKD_STREAM=stdout\n",
        "\nMESSAGE=[pool printer] child ",
    ] {
        assert!(said.contains(field), "{said}");
    }
    assert_eq!(daemon.lines_like("ready"), Vec::<String>::new());
}
