//! The daemon from outside: the real binary, real sockets, real web servers, real applications.
//!
//! Every case starts a daemon of its own in a folder of its own and waits for what it expects, never for a time. When a
//! case fails, the daemon's log is printed. `tests/run.sh` installs what the cases need and runs them.
//!
//! Run as root, the pools belong to `www-data`; run as anybody else, to that user.

mod access;
mod command;
mod configuration;
mod daemonize;
mod death;
mod distrust;
mod django;
mod files;
mod flask;
mod hello;
mod hosts;
mod isolation;
mod kept;
mod lifecycle;
mod limits;
mod log;
mod misuse;
mod module;
mod names;
mod notify;
mod overload;
mod parked;
mod pep3333;
mod programs;
mod python;
mod relay;
mod reload;
mod scaling;
mod servers;
mod slowlog;
mod state;
mod status;
mod status_service;
mod support;
mod upgrade;
mod web;
mod wire;
mod wsgi;
