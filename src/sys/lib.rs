//! The system calls that preforkd needs and that no library gives in a safe form.
//!
//! This crate is the fence round `unsafe`: what it exports is safe to call, or says under `# Safety` what the caller
//! owes. Everything else of the project forbids unsafe code (but for what PyO3 asks of the extension module).
//!
//! # Layout
//! * [`clock`]: the monotonic clock
//! * [`fork`]: children that never return into their parent's code
//! * [`program`]: starting another program that dies with this one
//! * [`children`]: their deaths, and signals to them
//! * [`detach`]: going into the background
//! * [`limits`]: limits of this process
//! * [`signals`]: dispositions and masks of a new child
//! * [`fds`]: which descriptors a child keeps
//! * [`channel`]: messages with descriptors and credentials between master, mold and workers
//! * [`parking`]: where connections wait that no worker holds
//! * [`scoreboard`]: what the workers are doing, in shared memory; [`board`]: its layout, and reading it; `reporter`:
//!   what a worker writes to it; `tally`: what it counts of the pool as a whole
//! * [`queue`]: how many connections wait on a listening socket
//! * [`orphans`]: the socket that the workers of a dead master still have
//! * [`privileges`]: becoming a pool's user for good
//! * [`acl`]: who may use a file besides its owner and group
//! * [`title`]: the name in `ps`
//! * [`handover`]: turning into another program and keeping descriptors

pub mod acl;
pub mod board;
pub mod channel;
pub mod children;
pub mod clock;
pub mod detach;
pub mod fds;
pub mod fork;
pub mod handover;
pub mod limits;
pub mod orphans;
pub mod parking;
pub mod privileges;
pub mod program;
pub mod queue;
mod reporter;
pub mod scoreboard;
pub mod signals;
mod tally;
pub mod title;
