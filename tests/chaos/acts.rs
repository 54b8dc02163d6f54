//! How each disturbance is made, once.

use crate::disturbance::Made;
use crate::load;
use crate::process::Process;
use crate::stage::{STATIC, Stage, WORKERS, owner, wait};
use nix::sys::signal::Signal;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const WORKER: &str = "preforkd: pool shop";

const RELOAD_FAILED: &str = "reloading failed; what was there before goes on";

/// Requests of a burst.
const BURST: u64 = 16;

/// How long a limit is in force.
const LIMITED: Duration = Duration::from_millis(500);

/// A little more than the pool's `request_terminate_timeout`.
const OVER_ITS_TIME: Duration = Duration::from_millis(5500);

/// Nothing is done but to let the requests come.
pub fn watch(_: &mut Stage, _: &mut Made) -> io::Result<()> {
    Ok(())
}

pub fn reload(stage: &mut Stage, made: &mut Made) -> io::Result<()> {
    stage.reload()?;
    made.once();
    Ok(())
}

pub fn reload_again_and_again(stage: &mut Stage, made: &mut Made) -> io::Result<()> {
    let before = stage.generation()?;
    for _ in 0..25 {
        stage.signal(Signal::SIGUSR2)?;
        made.once();
        thread::sleep(Duration::from_millis(40));
    }
    stage.wait_for_generation_after(before)
}

pub fn reload_broken(stage: &mut Stage, made: &mut Made) -> io::Result<()> {
    let failing_later = "import time\ntime.sleep(0.3)\nraise LookupError('nothing works')\n";
    fs::write(stage.path("app/failing.py"), failing_later)?;
    let socket = stage.path("other.sock");
    let other = format!(
        "[other]\n{}listen = {}\nwsgi = failing\npythonpath[] = {}\n\
         pm = static\npm.max_children = 1\n",
        owner(),
        socket.display(),
        stage.path("app").display()
    );
    let broken = [
        ("pm = static\npm.max_children = many", ""),
        (STATIC, "[shop]\nwsgi = nothing.there\n"),
        (STATIC, &other),
    ];
    let (pool, more) = broken[made.times as usize % broken.len()];
    stage.configure_with(pool, more)?;
    fails_to_reload(stage)?;
    made.once();
    stage.configure(STATIC)
}

fn fails_to_reload(stage: &Stage) -> io::Result<()> {
    let before = stage.logged(RELOAD_FAILED)?;
    stage.signal(Signal::SIGUSR2)?;
    stage.wait_for_log(RELOAD_FAILED, before)
}

pub fn upgrade(stage: &mut Stage, made: &mut Made) -> io::Result<()> {
    let became = "reloading: execvp(";
    let before = stage.logged(became)?;
    stage.install()?;
    stage.reload()?;
    stage.wait_for_log(became, before)?;
    made.once();
    Ok(())
}

pub fn upgrade_broken(stage: &mut Stage, made: &mut Made) -> io::Result<()> {
    let (new, program) = (stage.path("new"), stage.path("preforkd"));
    fs::write(&new, "#!/bin/sh\nexit 3\n")?;
    fs::set_permissions(&new, Permissions::from_mode(0o755))?;
    fs::rename(new, program)?;
    let failed = fails_to_reload(stage);
    stage.install()?;
    made.once();
    failed
}

pub fn burst(stage: &mut Stage, made: &mut Made) -> io::Result<()> {
    let name = format!("burst{}", made.times);
    made.sent.extend(load::burst(stage.port, &name, BURST));
    made.once();
    Ok(())
}

pub fn rotate(stage: &mut Stage, made: &mut Made) -> io::Result<()> {
    let logs = ["log/error.log", "log/access.log"].map(|name| stage.path(name));
    for log in &logs {
        fs::rename(log, log.with_extension("log.1"))?;
    }
    stage.signal(Signal::SIGUSR1)?;
    wait("the logs are opened anew", || {
        Ok(logs.iter().all(|log| log.exists()))
    })?;
    made.once();
    Ok(())
}

pub fn fill_disk(stage: &mut Stage, made: &mut Made) -> io::Result<()> {
    let path = stage.path("log/filler");
    let mut filler = File::create(&path)?;
    let full = loop {
        if let Err(error) = filler.write_all(&[0; 4096]) {
            break error;
        }
    };
    if full.kind() != io::ErrorKind::StorageFull {
        return Err(full);
    }
    let reloaded = stage.reload();
    thread::sleep(LIMITED);
    fs::remove_file(path)?;
    made.once();
    reloaded
}

pub fn take_descriptors(stage: &mut Stage, made: &mut Made) -> io::Result<()> {
    let master = stage.master();
    let open = fs::read_dir(format!("/proc/{master}/fd"))?.count();
    limit(master, &format!("--nofile={}:", open + 1))?;
    let worker = oldest_worker(stage)?;
    worker.signal(Signal::SIGKILL);
    let failed = fails_to_reload(stage);
    thread::sleep(LIMITED);
    limit(master, "--nofile=4096:")?;
    failed?;
    recover(stage, made)
}

pub fn take_processes(stage: &mut Stage, made: &mut Made) -> io::Result<()> {
    let molds = stage.titled("preforkd: mold shop");
    for mold in &molds {
        limit(mold.pid, "--nproc=1:")?;
    }
    let worker = oldest_worker(stage)?;
    worker.signal(Signal::SIGKILL);
    thread::sleep(LIMITED);
    for mold in &molds {
        limit(mold.pid, "--nproc=10000:")?;
    }
    recover(stage, made)
}

/// Sets soft limits of a process.
fn limit(pid: i32, limit: &str) -> io::Result<()> {
    // As the user whose process it is: root needs a capability for others' that a container may not have.
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let id = |name: &str| -> Option<u32> {
        let (_, rest) = status.split_once(&format!("\n{name}:\t"))?;
        rest.split('\t').next()?.parse().ok()
    };
    let (Some(uid), Some(gid)) = (id("Uid"), id("Gid")) else {
        return Err(io::Error::other("a process without an owner"));
    };
    let mut command = Command::new("prlimit");
    command.args(["--pid", &pid.to_string(), limit]);
    let set = command.uid(uid).gid(gid).status()?;
    if set.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("prlimit {limit}: {set}")))
    }
}

pub fn kill_worker(stage: &mut Stage, made: &mut Made) -> io::Result<()> {
    let worker = oldest_worker(stage)?;
    worker.signal(Signal::SIGKILL);
    let begun = Instant::now();
    wait("it is dead", || Ok(!worker.runs()))?;
    stage.recover()?;
    made.once_and_back(begun.elapsed());
    Ok(())
}

pub fn kill_program(stage: &mut Stage, made: &mut Made) -> io::Result<()> {
    let (programs, _) = stage.programs();
    let oldest = programs.into_iter().min_by_key(|program| program.started);
    let program = oldest.ok_or_else(|| io::Error::other("there is no program"))?;
    program.signal(Signal::SIGKILL);
    let begun = Instant::now();
    wait("it is dead", || Ok(!program.runs()))?;
    wait("each worker has its program", || {
        Ok(stage.programs().0.len() >= WORKERS as usize)
    })?;
    made.once_and_back(begun.elapsed());
    Ok(())
}

/// Who dies within a second of its start, and has served nobody, counts as one that cannot start, and is replaced after
/// a while only.
fn oldest_worker(stage: &Stage) -> io::Result<Process> {
    let workers = stage.titled(WORKER).into_iter();
    workers
        .min_by_key(|worker| worker.started)
        .ok_or_else(|| io::Error::other("there is no worker"))
}

fn recover(stage: &mut Stage, made: &mut Made) -> io::Result<()> {
    let back = stage.recover()?;
    made.once_and_back(back);
    Ok(())
}

pub fn kill_mold(stage: &mut Stage, made: &mut Made) -> io::Result<()> {
    let ready = " is ready (generation";
    let before = stage.logged(ready)?;
    let mut molds = stage.titled("preforkd: mold shop");
    molds.extend(stage.programs().1);
    for mold in &molds {
        mold.signal(Signal::SIGKILL);
    }
    let begun = Instant::now();
    stage.wait_for_log(ready, before + molds.len() - 1)?;
    made.once_and_back(begun.elapsed());
    Ok(())
}

pub fn kill_status_service(stage: &mut Stage, made: &mut Made) -> io::Result<()> {
    let services = stage.titled("preforkd: status service");
    for service in &services {
        service.signal(Signal::SIGKILL);
    }
    let begun = Instant::now();
    wait("it is dead", || Ok(!services.iter().any(Process::runs)))?;
    recover(stage, made)?;
    made.back = made.back.max(Some(begun.elapsed()));
    Ok(())
}

pub fn stop_worker(stage: &mut Stage, made: &mut Made) -> io::Result<()> {
    let worker = stop_busy_worker(stage)?;
    thread::sleep(OVER_ITS_TIME);
    worker.signal(Signal::SIGCONT);
    // Its request is over its time, unless it comes to its end before the worker has looked at the clock.
    wait("its request is over", || {
        Ok(!worker.runs() || !stage.busy_workers().contains(&worker.pid))
    })?;
    recover(stage, made)
}

pub fn stop_worker_for_good(stage: &mut Stage, made: &mut Made) -> io::Result<()> {
    let worker = stop_busy_worker(stage)?;
    wait("the master kills it", || Ok(!worker.runs()))?;
    recover(stage, made)
}

/// Stops a worker that holds a request, and does when it has stopped.
fn stop_busy_worker(stage: &mut Stage) -> io::Result<Process> {
    let mut stopped = None;
    wait("a worker is busy", || {
        let busy = stage.busy_workers();
        let Some(worker) = busy.first().and_then(|&pid| Process::of(pid)) else {
            return Ok(false);
        };
        worker.signal(Signal::SIGSTOP);
        thread::sleep(Duration::from_millis(20));
        if stage.busy_workers().contains(&worker.pid) {
            stopped = Some(worker);
            return Ok(true);
        }
        worker.signal(Signal::SIGCONT);
        Ok(false)
    })?;
    stopped.ok_or_else(|| io::Error::other(format!("none of {WORKERS} workers is busy")))
}
