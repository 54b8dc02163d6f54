//! Commands to the running master (`preforkd reload`), over a Unix socket of their own.
//!
//! Who connects says in one message what is wanted, and hears two: at once that the master has heard it, and what has
//! come of it as soon as that is known. The master keeps as many clients as [`server::MOST`] and nothing else of them
//! than what they want; it waits for none, and one that says nothing has to make room for the next. Over an exec the
//! socket and the clients go to the new program, which knows how its own start has ended.
//!
//! # Layout
//! * [`wire`]: the messages
//! * [`server`]: the master's side
//! * [`command`]: the command's side

mod command;
mod server;
mod wire;

pub use command::reload;
pub use server::{Control, State};
pub use wire::{Outcome, Scope};
