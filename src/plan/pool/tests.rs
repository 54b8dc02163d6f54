//! A pool driven as the daemon drives it, in virtual time.

mod ending;
mod failure;
mod growth;
mod properties;
mod rest;
mod room;
mod world;
