//! What is done to the daemon, and what may come of it.

use crate::stage::{STATIC, Stage};
use nix::sys::signal::Signal;
use std::io;
use std::time::{Duration, Instant};

const RECYCLING: &str = "pm = static\npm.max_children = 12\npm.max_requests = 20";

/// Each of nginx's two processes keeps eight connections.
const CROWDED: &str = "pm = static\npm.max_children = 6";

const SECOND: Duration = Duration::from_secs(1);

/// How long full strength may take to come back.
const PROMPTLY: Duration = Duration::from_millis(500);

/// What is done to the daemon, again and again.
#[derive(Debug)]
pub struct Disturbance {
    /// What it is called in the table.
    pub name: &'static str,
    /// What the pool is meanwhile.
    pub pool: &'static str,
    /// Does it once.
    pub make: fn(&mut Stage, &mut Made) -> io::Result<()>,
    /// What there is between two of them.
    pub pause: Duration,
    /// What may come of it.
    pub may: May,
}

/// What has been done.
#[derive(Debug, Default)]
pub struct Made {
    /// So often.
    pub times: u32,
    /// The longest time after which the pool was at full strength again.
    pub back: Option<Duration>,
}

impl Made {
    fn once(&mut self) {
        self.times += 1;
    }

    fn once_and_back(&mut self, back: Duration) {
        self.times += 1;
        self.back = self.back.max(Some(back));
    }
}

/// What may come of a disturbance.
#[derive(Clone, Copy, Debug)]
pub struct May {
    /// Requests that one of them may cost.
    pub lose: u32,
    /// How long a request may wait; None is as long as it takes.
    pub wait: Option<Duration>,
    /// Within which time the pool is at full strength again; None where it never lacks any.
    pub recover: Option<Duration>,
}

/// What nobody may notice.
const UNNOTICED: May = May {
    lose: 0,
    wait: Some(SECOND),
    recover: None,
};

/// What costs a process its life, and its request.
const KILLING: May = May {
    lose: 1,
    wait: Some(SECOND),
    recover: Some(PROMPTLY),
};

/// What costs the life of a process that holds no request.
const HARMLESS_KILLING: May = May { lose: 0, ..KILLING };

/// All of them.
pub const ALL: &[Disturbance] = &[
    Disturbance {
        name: "reload",
        pool: STATIC,
        make: |stage, made| {
            stage.reload()?;
            made.once();
            Ok(())
        },
        pause: Duration::from_millis(200),
        may: UNNOTICED,
    },
    Disturbance {
        name: "recycling every 20 requests",
        pool: RECYCLING,
        make: |_, made| {
            std::thread::sleep(SECOND);
            made.once();
            Ok(())
        },
        pause: Duration::ZERO,
        may: UNNOTICED,
    },
    Disturbance {
        name: "more kept connections than workers",
        pool: CROWDED,
        make: |_, made| {
            std::thread::sleep(SECOND);
            made.once();
            Ok(())
        },
        pause: Duration::ZERO,
        may: UNNOTICED,
    },
    Disturbance {
        name: "SIGKILL of a worker",
        pool: STATIC,
        make: |stage, made| {
            // The oldest one: who dies within a second of its start, and has served nobody, counts as one that cannot
            // start, and is replaced after a while only.
            let mut workers = stage.titled("preforkd: pool shop");
            workers.sort_by_key(|worker| worker.started);
            let worker = workers.first().ok_or(io::ErrorKind::NotFound)?;
            worker.signal(Signal::SIGKILL);
            let begun = Instant::now();
            while worker.runs() {}
            stage.recover()?;
            made.once_and_back(begun.elapsed());
            Ok(())
        },
        pause: Duration::from_millis(100),
        may: KILLING,
    },
    Disturbance {
        name: "SIGKILL of the mold",
        pool: STATIC,
        make: |stage, made| {
            let ready = " is ready (generation";
            let before = stage.logged(ready)?;
            for mold in stage.titled("preforkd: mold shop") {
                mold.signal(Signal::SIGKILL);
            }
            let begun = Instant::now();
            stage.wait_for_log(ready, before)?;
            made.once_and_back(begun.elapsed());
            Ok(())
        },
        pause: Duration::from_millis(1200),
        may: HARMLESS_KILLING,
    },
];
