//! Programs that speak FastCGI, in pools with `exec`, behind a real nginx.
//!
//! * [`suite`]: what holds for every program; [`cplusplus`], [`perl`], [`php`], [`go`]: the programs that it is run with,
//!   and what is particular to each
//! * [`molds`]: programs that are forked from one that was started once
//! * [`cgi`]: plain CGI programs
//! * [`hostile`]: one that does what it should not
//! * [`host`]: a program in a pool, behind nginx
//! * [`transfer`]: bodies too large to be held
//!
//! The programs answer the same pages, which the last part of a path names: `pid`, `show` (some parameters),
//! `environment`, `teapot` (a status of its own), `store` (the body, once it has been read), `echo` (while it is read),
//! `count` (its length), `make?bytes=N` (a body of [`transfer::pattern`]), `slow?ms=N`, `complain` (on the request's
//! standard error and on the program's), `crash`, `exit?status=N` and `halfway` (in the middle of an answer). With
//! `PROBE_REQUESTS` in their environment they end by themselves after so many requests, and with `PROBE_THREAD` the one
//! in C++ has another thread. PHP shows the state of its `opcache`.
//!
//! nginx sends no more of a body once it has the head of the answer. So `echo` is asked past it.

mod bare;
mod cgi;
mod cplusplus;
mod go;
mod host;
mod hostile;
mod molds;
mod perl;
mod php;
mod suite;
mod transfer;
