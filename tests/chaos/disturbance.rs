//! The disturbances: what the pool is meanwhile, what is done to the daemon, and what may come of it.

use crate::acts;
use crate::load::Sent;
use crate::stage::{STATIC, Stage};
use std::io;
use std::time::Duration;

const RECYCLING: &str = "pm = static\npm.max_children = 12\npm.max_requests = 20";

/// Each request takes 100 KB.
const GROWING: &str =
    "pm = static\npm.max_children = 12\npm.max_memory = 10M\nenv[CHAOS_GROWTH] = 100000";

/// Each of nginx's two processes keeps eight connections.
const CROWDED: &str = "pm = static\npm.max_children = 6";

const BREATHING: &str = "pm = dynamic\npm.max_children = 32\npm.start_servers = 2\n\
                         pm.min_spare_servers = 1\npm.max_spare_servers = 2";

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
    /// Whether it takes root's rights.
    pub needs_root: bool,
    /// Does it once.
    pub make: fn(&mut Stage, &mut Made) -> io::Result<()>,
    /// What there is between two of them.
    pub pause: Duration,
    /// What is counted in the table.
    pub counts: Counts,
    /// What may come of it.
    pub may: May,
}

/// What there has been so and so many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// What was done.
    Made,
    /// Workers that took another's place.
    Replaced,
    /// Requests: nothing is done but to send them.
    Requests,
}

/// What has been done.
#[derive(Debug, Default)]
pub struct Made {
    /// So often.
    pub times: u32,
    /// The longest time after which the pool was at full strength again.
    pub back: Option<Duration>,
    /// The requests that belong to it, besides those of the load.
    pub sent: Vec<Sent>,
}

impl Made {
    /// Once more.
    pub fn once(&mut self) {
        self.times += 1;
    }

    /// Once more, and the pool was at full strength after that time.
    pub fn once_and_back(&mut self, back: Duration) {
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

impl Disturbance {
    /// Whether it kills nothing, and nobody is to notice it.
    pub fn is_unnoticed(&self) -> bool {
        (self.may.lose, self.may.recover) == (0, None)
    }
}

/// What costs a process its life, and its request.
const KILLING: May = May {
    lose: 1,
    wait: Some(SECOND),
    recover: Some(PROMPTLY),
};

/// What costs the life of a process that holds no request.
const HARMLESS_KILLING: May = May { lose: 0, ..KILLING };

/// What costs a worker its life while no other can be started: the back-off goes on when one could be.
const LIMITED_KILLING: May = May {
    recover: Some(SECOND),
    ..KILLING
};

/// What makes a worker hold its request, and one more that has reached it, until it is ended.
const STOPPING: May = May {
    lose: 1,
    wait: None,
    ..KILLING
};

/// All of them.
pub const ALL: &[Disturbance] = &[
    Disturbance {
        name: "reload",
        pool: STATIC,
        needs_root: false,
        make: acts::reload,
        pause: Duration::from_millis(200),
        counts: Counts::Made,
        may: UNNOTICED,
    },
    Disturbance {
        name: "25 reloads in a second",
        pool: STATIC,
        needs_root: false,
        make: acts::reload_again_and_again,
        pause: Duration::from_millis(200),
        counts: Counts::Made,
        may: UNNOTICED,
    },
    Disturbance {
        name: "reload with a mistake in the file, in the application, in another pool's",
        pool: STATIC,
        needs_root: false,
        make: acts::reload_broken,
        pause: Duration::from_millis(100),
        counts: Counts::Made,
        may: UNNOTICED,
    },
    Disturbance {
        name: "upgrade",
        pool: STATIC,
        needs_root: false,
        make: acts::upgrade,
        pause: Duration::from_millis(200),
        counts: Counts::Made,
        may: UNNOTICED,
    },
    Disturbance {
        name: "upgrade to a program that does not run",
        pool: STATIC,
        needs_root: false,
        make: acts::upgrade_broken,
        pause: Duration::from_millis(100),
        counts: Counts::Made,
        may: UNNOTICED,
    },
    Disturbance {
        name: "recycling every 20 requests",
        pool: RECYCLING,
        needs_root: false,
        make: acts::watch,
        pause: SECOND,
        counts: Counts::Replaced,
        may: UNNOTICED,
    },
    Disturbance {
        name: "memory growth",
        pool: GROWING,
        needs_root: false,
        make: acts::watch,
        pause: SECOND,
        counts: Counts::Replaced,
        may: UNNOTICED,
    },
    Disturbance {
        name: "bursts, between which the pool shrinks",
        pool: BREATHING,
        needs_root: false,
        make: acts::burst,
        pause: Duration::from_millis(1500),
        counts: Counts::Made,
        may: UNNOTICED,
    },
    Disturbance {
        name: "more kept connections than workers",
        pool: CROWDED,
        needs_root: false,
        make: acts::watch,
        pause: SECOND,
        counts: Counts::Requests,
        may: UNNOTICED,
    },
    Disturbance {
        name: "log rotation",
        pool: STATIC,
        needs_root: false,
        make: acts::rotate,
        pause: Duration::from_millis(100),
        counts: Counts::Made,
        may: UNNOTICED,
    },
    Disturbance {
        name: "disk full under the logs, and a reload meanwhile",
        pool: STATIC,
        needs_root: true,
        make: acts::fill_disk,
        pause: Duration::from_millis(500),
        counts: Counts::Made,
        may: UNNOTICED,
    },
    Disturbance {
        name: "no descriptors for the master: a reload fails, a killed worker waits for its place",
        pool: STATIC,
        needs_root: false,
        make: acts::take_descriptors,
        pause: SECOND,
        counts: Counts::Made,
        may: LIMITED_KILLING,
    },
    Disturbance {
        name: "no processes for the mold: a killed worker waits for its place",
        pool: STATIC,
        needs_root: true,
        make: acts::take_processes,
        pause: SECOND,
        counts: Counts::Made,
        may: LIMITED_KILLING,
    },
    Disturbance {
        name: "SIGKILL of a worker",
        pool: STATIC,
        needs_root: false,
        make: acts::kill_worker,
        pause: Duration::from_millis(100),
        counts: Counts::Made,
        may: KILLING,
    },
    Disturbance {
        name: "SIGKILL of a program",
        pool: STATIC,
        needs_root: false,
        make: acts::kill_program,
        pause: Duration::from_millis(100),
        counts: Counts::Made,
        may: KILLING,
    },
    Disturbance {
        name: "SIGKILL of the mold",
        pool: STATIC,
        needs_root: false,
        make: acts::kill_mold,
        pause: Duration::from_millis(1200),
        counts: Counts::Made,
        may: HARMLESS_KILLING,
    },
    Disturbance {
        name: "SIGKILL of the status service",
        pool: STATIC,
        needs_root: false,
        make: acts::kill_status_service,
        pause: Duration::from_millis(1200),
        counts: Counts::Made,
        may: HARMLESS_KILLING,
    },
    Disturbance {
        name: "SIGSTOP of a busy worker, SIGCONT when its request is over its time",
        pool: STATIC,
        needs_root: false,
        make: acts::stop_worker,
        pause: Duration::from_millis(100),
        counts: Counts::Made,
        may: STOPPING,
    },
    Disturbance {
        name: "SIGSTOP of a busy worker for good",
        pool: STATIC,
        needs_root: false,
        make: acts::stop_worker_for_good,
        pause: Duration::from_millis(100),
        counts: Counts::Made,
        may: STOPPING,
    },
];
