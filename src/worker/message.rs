//! What goes over the channels between the master, molds and workers.
//!
//! A message is a tag byte, then fields in a fixed order: integers little-endian, strings with a length before them.
//! The extension module and the master are built from one source; see [`PROTOCOL`] for what is known of that.

mod codec;

use crate::allowed::AllowedClients;
use crate::status::Pages;
use crate::zone::Zone;
use codec::{Reader, Writer};
use std::time::Duration;
use thiserror::Error;

/// Version of everything in this file, and of the scoreboard's layout; raised with every change of either.
///
/// A mold's first message says it. That both sides have the same number proves that they understand each other, and
/// nothing more: not that they are of one release.
pub const PROTOCOL: u32 = 6;

/// The descriptor at which a mold has its channel to the master.
pub const CONTROL_FD: i32 = 3;

/// The descriptor at which a mold has the file of what makes it one, open for reading: the extension module, or what is
/// preloaded into a program.
pub const MODULE_FD: i32 = 4;

/// The variable that tells a program that is to be a mold so. What it has preloaded takes it out of the environment.
pub const MOLD_VARIABLE: &str = "PREFORKD_MOLD";

/// What a mold's interpreter is started with, after `-c`: loads the extension module from [`MODULE_FD`], whatever stands
/// at the file's path by then, and hands over to it. Its length is the room for the process's title.
///
/// A mold that finds that it cannot be forked tells [`FromMold::Threads`] and executes the same command anew. It begins
/// with [`FromMold::Hello`] again, and is to be sent a [`ToMold::Setup`] with `preload` off.
pub const BOOTSTRAP: &str = "import sys, importlib.machinery as machinery; \
    loader = machinery.ExtensionFileLoader('preforkd', '/proc/self/fd/4'); \
    spec = machinery.ModuleSpec('preforkd', loader, origin=loader.path); \
    module = sys.modules['preforkd'] = loader.create_module(spec); \
    loader.exec_module(module); \
    vars(module).pop('mold')()";

/// Bytes of text that a message to the master may carry; more is cut.
pub const MAX_TEXT: usize = 4096;

/// Bytes of each of the shorter texts of [`Overdue`]; more is cut.
const MAX_PART: usize = 1024;

/// Bytes that a message to the master may have: a tag, five lengths or numbers, three short texts and a text.
pub const MAX_FROM_CHILD: usize = 1 + 5 * 8 + 3 * MAX_PART + MAX_TEXT;

/// What the master tells a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToWorker {
    /// Leave, after the request that you hold.
    Retire = 1,
    /// Look at the listening socket: the worker that was woken for what waits there has died, or is occupied.
    Nudge = 2,
    /// Go on in the logs that come with it, as [`LogFiles::fds`](crate::log_file::LogFiles::fds) has them.
    Logs = 3,
    /// As [`Self::Retire`], but answer who waits in the queue first: nobody comes after you.
    Drain = 4,
}

/// What a worker tells the master. The kernel says from which process it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromWorker {
    /// I exist; the pid is mine.
    Hello,
    /// I accept connections from now on.
    Ready,
    /// I have served what I was to serve; replace me.
    WornOut,
    /// I have grown too large; replace me.
    Outgrown {
        /// The bytes of memory that I have to myself.
        memory: u64,
    },
    /// My request takes long; it is in the slow log.
    Slow(Overdue),
    /// My request ran over its time; I am ending.
    TimedOut(Overdue),
    /// The kernel has woken me for a connection, and perhaps nobody else, but I have another request to answer first.
    Occupied,
    /// A line for the log at level debug.
    Note {
        /// The line.
        text: String,
    },
    /// My program runs.
    Started {
        /// Its process id, which is that of its group as well.
        pid: u32,
    },
    /// The network to a web server has failed.
    Lost {
        /// How.
        text: String,
    },
    /// Something is wrong with my program.
    Trouble {
        /// What is.
        text: String,
    },
    /// As [`FromMold::Advice`], where each worker imports the application.
    Advice {
        /// The line.
        text: String,
    },
}

/// A request that takes long. The texts are as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// Its `SCRIPT_FILENAME`.
    pub script: String,
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub uri: String,
    /// For how long it has run.
    pub elapsed: Duration,
    /// Where it is, if that is to be in the master's log: a line a call.
    pub trace: String,
}

/// A message that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a message on a channel that makes no sense")]
pub struct Malformed;

impl TryFrom<&[u8]> for ToWorker {
    type Error = Malformed;

    fn try_from(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes {
            [1] => Ok(Self::Retire),
            [2] => Ok(Self::Nudge),
            [3] => Ok(Self::Logs),
            [4] => Ok(Self::Drain),
            _ => Err(Malformed),
        }
    }
}

impl FromWorker {
    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Writer::default();
        match self {
            Self::Hello => to.byte(1),
            Self::Ready => to.byte(2),
            Self::WornOut => to.byte(3),
            Self::Outgrown { memory } => {
                to.byte(8);
                to.number(*memory);
            }
            Self::TimedOut(overdue) => {
                to.byte(4);
                to.overdue(overdue);
            }
            Self::Slow(overdue) => {
                to.byte(7);
                to.overdue(overdue);
            }
            Self::Occupied => to.byte(6),
            Self::Note { text } => {
                to.byte(5);
                to.cut_text(text);
            }
            Self::Started { pid } => {
                to.byte(10);
                to.number(u64::from(*pid));
            }
            Self::Trouble { text } => {
                to.byte(11);
                to.cut_text(text);
            }
            Self::Advice { text } => {
                to.byte(12);
                to.cut_text(text);
            }
            Self::Lost { text } => {
                to.byte(13);
                to.cut_text(text);
            }
        }
        to.0
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader(bytes);
        let message = match from.byte()? {
            1 => Self::Hello,
            2 => Self::Ready,
            3 => Self::WornOut,
            8 => Self::Outgrown {
                memory: from.number()?,
            },
            4 => Self::TimedOut(from.overdue()?),
            7 => Self::Slow(from.overdue()?),
            5 => Self::Note { text: from.text()? },
            6 => Self::Occupied,
            10 => Self::Started { pid: from.small()? },
            11 => Self::Trouble { text: from.text()? },
            12 => Self::Advice { text: from.text()? },
            13 => Self::Lost { text: from.text()? },
            _ => return Err(Malformed),
        };
        from.end(message)
    }
}

/// What a worker has to know, whatever its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    /// The pool's name.
    pub pool: String,
    /// Workers that the pool has at most.
    pub capacity: u32,
    /// Requests after which a worker asks to be replaced; 0 is never (`pm.max_requests`).
    pub max_requests: u64,
    /// Bytes of memory to itself with which a worker asks to be replaced; 0 is never (`pm.max_memory`).
    pub max_memory: u64,
    /// How long a request may take; zero is for ever (`request_terminate_timeout`).
    pub terminate_timeout: Duration,
    /// Whether that counts on after its answer is complete (`request_terminate_timeout_track_finished`).
    pub track_finished: bool,
    /// From where connections are taken (`listen.allowed_clients`); None is from everywhere.
    pub allowed_clients: Option<AllowedClients>,
    /// Whether the master wants notes, which it logs at level debug.
    pub notes: bool,
    /// The pages that it answers itself; None when there are none.
    pub pages: Option<Box<Pages>>,
    /// What it writes to logs of the pool's own.
    pub logs: LogSettings,
}

/// What a worker writes to the logs of its pool, whose descriptors it gets beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The access log, if there is one.
    pub access: Option<AccessSettings>,
    /// Whether there is a slow log (`slowlog`).
    pub has_slow_log: bool,
    /// How long a request may take before it is told of there; zero is for ever (`request_slowlog_timeout`).
    pub slow_timeout: Duration,
    /// The most calls that are told of it (`request_slowlog_trace_depth`).
    pub trace_depth: u32,
    /// The time zone of what is written.
    pub zone: Zone,
}

/// What the access log shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessSettings {
    /// The form of a line (`access.format`).
    pub format: String,
    /// Paths that get no line (`access.suppress_path[]`).
    pub suppress: Vec<String>,
}

/// What a mold has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoldSettings {
    /// What each of its workers has to know.
    pub worker: WorkerSettings,
    /// Whether the mold and its workers may leave a core file and be traced (`process.dumpable`): an exec puts it back.
    pub dumpable: bool,
    /// The generation of the pool that the mold belongs to.
    pub generation: u32,
    /// The module that holds the application.
    pub module: String,
    /// The application's name in it.
    pub callable: String,
    /// Put before the interpreter's own search path.
    pub pythonpath: Vec<String>,
    /// Whether to import the application before forking.
    pub preload: bool,
    /// Paths requested once before forking.
    pub warmup: Vec<String>,
    /// URL prefix of the application; None is to find out.
    pub mount: Option<String>,
}

/// What the master tells a mold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToMold {
    /// Load the application. With it come the listening socket, the place to park connections, the scoreboard's two
    /// descriptors, and the logs.
    Setup(Box<MoldSettings>),
    /// Fork a worker. With it come its control channel, standard output and standard error.
    Spawn {
        /// The slot it is for.
        slot: u32,
    },
    /// Further workers write to the logs that come with it.
    Logs,
}

/// What a mold tells the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromMold {
    /// I speak this version of the protocol.
    Hello {
        /// Its [`PROTOCOL`].
        protocol: u32,
    },
    /// The application is loaded; I can fork workers.
    Ready,
    /// Importing the application started threads, so that it cannot be forked; each worker will import it.
    Threads {
        /// Their names.
        names: String,
    },
    /// A worker could not be forked.
    SpawnFailed {
        /// The slot it was for.
        slot: u32,
    },
    /// The program that I am cannot be forked, and I end; only from the mold of a program.
    Unfit {
        /// Why.
        why: String,
    },
    /// The application does what is not good with several workers: a line for people.
    Advice {
        /// The line.
        text: String,
    },
}

impl ToMold {
    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Writer::default();
        match self {
            Self::Setup(mold) => {
                to.byte(1);
                to.text(&mold.worker.pool);
                to.number(u64::from(mold.worker.capacity));
                to.number(mold.worker.max_requests);
                to.number(mold.worker.max_memory);
                to.duration(mold.worker.terminate_timeout);
                to.byte(u8::from(mold.worker.track_finished));
                let allowed = mold.worker.allowed_clients.as_ref();
                to.byte(u8::from(allowed.is_some()));
                to.text(&allowed.map_or_else(String::new, ToString::to_string));
                to.byte(u8::from(mold.worker.notes));
                to.pages(mold.worker.pages.as_deref());
                to.logs(&mold.worker.logs);
                to.byte(u8::from(mold.dumpable));
                to.number(u64::from(mold.generation));
                to.text(&mold.module);
                to.text(&mold.callable);
                to.list(&mold.pythonpath);
                to.byte(u8::from(mold.preload));
                to.list(&mold.warmup);
                to.byte(u8::from(mold.mount.is_some()));
                to.text(mold.mount.as_deref().unwrap_or_default());
            }
            Self::Spawn { slot } => {
                to.byte(2);
                to.number(u64::from(*slot));
            }
            Self::Logs => to.byte(3),
        }
        to.0
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader(bytes);
        let message = match from.byte()? {
            1 => Self::Setup(Box::new(MoldSettings {
                worker: WorkerSettings {
                    pool: from.text()?,
                    capacity: from.small()?,
                    max_requests: from.number()?,
                    max_memory: from.number()?,
                    terminate_timeout: from.duration()?,
                    track_finished: from.byte()? != 0,
                    allowed_clients: {
                        let some = from.byte()? != 0;
                        let (allowed, _) = AllowedClients::parse(&from.text()?);
                        some.then_some(allowed)
                    },
                    notes: from.byte()? != 0,
                    pages: from.pages()?,
                    logs: from.logs()?,
                },
                dumpable: from.byte()? != 0,
                generation: from.small()?,
                module: from.text()?,
                callable: from.text()?,
                pythonpath: from.list()?,
                preload: from.byte()? != 0,
                warmup: from.list()?,
                mount: {
                    let some = from.byte()? != 0;
                    let mount = from.text()?;
                    some.then_some(mount)
                },
            })),
            2 => Self::Spawn {
                slot: from.small()?,
            },
            3 => Self::Logs,
            _ => return Err(Malformed),
        };
        from.end(message)
    }
}

impl FromMold {
    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Writer::default();
        match self {
            Self::Hello { protocol } => {
                to.byte(1);
                to.number(u64::from(*protocol));
            }
            Self::Ready => to.byte(2),
            Self::Threads { names } => {
                to.byte(3);
                to.cut_text(names);
            }
            Self::SpawnFailed { slot } => {
                to.byte(4);
                to.number(u64::from(*slot));
            }
            Self::Unfit { why } => {
                to.byte(5);
                to.cut_text(why);
            }
            Self::Advice { text } => {
                to.byte(6);
                to.cut_text(text);
            }
        }
        to.0
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader(bytes);
        let message = match from.byte()? {
            1 => Self::Hello {
                protocol: from.small()?,
            },
            2 => Self::Ready,
            3 => Self::Threads {
                names: from.text()?,
            },
            4 => Self::SpawnFailed {
                slot: from.small()?,
            },
            5 => Self::Unfit { why: from.text()? },
            6 => Self::Advice { text: from.text()? },
            _ => return Err(Malformed),
        };
        from.end(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::snapshot::Facts;

    #[test]
    fn messages_survive_the_channel() {
        let setup = ToMold::Setup(Box::new(MoldSettings {
            worker: WorkerSettings {
                pool: "site".into(),
                capacity: 5,
                max_requests: 100,
                max_memory: 1 << 30,
                terminate_timeout: Duration::from_millis(1500),
                track_finished: true,
                allowed_clients: Some(AllowedClients::parse("192.0.2.1,2001:db8::/32").0),
                notes: true,
                pages: Some(Box::new(Pages {
                    facts: Facts {
                        pool: "site".into(),
                        manager: "static".into(),
                    },
                    status_path: None,
                    ping_path: Some("/ping".into()),
                    ping_response: "pong".into(),
                    zone: Zone::new(0, |_| (-3600, "X".into())),
                })),
                logs: LogSettings {
                    access: Some(AccessSettings {
                        format: "%r".into(),
                        suppress: vec!["/ping".into()],
                    }),
                    has_slow_log: true,
                    slow_timeout: Duration::from_secs(2),
                    trace_depth: 20,
                    zone: Zone::new(0, |_| (-3600, "X".into())),
                },
            },
            dumpable: true,
            generation: 3,
            module: "a.b".into(),
            callable: "application".into(),
            pythonpath: vec!["/srv/é".into(), String::new()],
            preload: true,
            warmup: vec!["/".into()],
            mount: Some("/app".into()),
        }));
        for message in [setup, ToMold::Spawn { slot: 9 }, ToMold::Logs] {
            let bytes = message.encode();
            assert_eq!(ToMold::decode(&bytes), Ok(message));
            for cut in 0..bytes.len() {
                assert_eq!(ToMold::decode(&bytes[..cut]), Err(Malformed));
            }
        }
        for message in [
            FromMold::Hello { protocol: PROTOCOL },
            FromMold::Ready,
            FromMold::Threads {
                names: "Thread-1".into(),
            },
            FromMold::SpawnFailed { slot: 1 },
            FromMold::Unfit {
                why: "threads".into(),
            },
            FromMold::Advice { text: "é".into() },
        ] {
            assert_eq!(FromMold::decode(&message.encode()), Ok(message));
        }
        let overdue = Overdue {
            script: "/srv/a.py".into(),
            method: "GET".into(),
            uri: "/a?b".into(),
            elapsed: Duration::from_millis(1234),
            trace: "here\nthere".into(),
        };
        for message in [
            FromWorker::Hello,
            FromWorker::Ready,
            FromWorker::WornOut,
            FromWorker::Outgrown { memory: 1 << 40 },
            FromWorker::Slow(overdue.clone()),
            FromWorker::TimedOut(overdue),
            FromWorker::Occupied,
            FromWorker::Lost {
                text: "away".into(),
            },
            FromWorker::Note {
                text: "ünklar".into(),
            },
            FromWorker::Advice { text: "é".into() },
        ] {
            assert_eq!(FromWorker::decode(&message.encode()), Ok(message));
        }
        let long = FromWorker::Note {
            text: "ü".repeat(MAX_TEXT),
        };
        assert_eq!(
            FromWorker::decode(&long.encode()),
            Ok(FromWorker::Note {
                text: "ü".repeat(MAX_TEXT / 2)
            })
        );
        for message in [
            ToWorker::Retire,
            ToWorker::Nudge,
            ToWorker::Logs,
            ToWorker::Drain,
        ] {
            assert_eq!(ToWorker::try_from(&[message as u8][..]), Ok(message));
        }
    }

    #[test]
    fn nonsense_is_malformed() {
        assert_eq!(
            ToMold::decode(&[1, 255, 255, 255, 255, 255, 255, 255, 255]),
            Err(Malformed)
        );
        assert_eq!(ToMold::decode(&[]), Err(Malformed));
        assert_eq!(FromMold::decode(&[2, 0]), Err(Malformed));
        assert!(FromWorker::decode(&[0]).is_err());
        assert!(ToWorker::try_from(&[1, 1][..]).is_err());
    }
}
