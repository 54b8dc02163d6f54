//! A program on Perl's FCGI.

use super::host::Program;
use super::suite::{self, cases};

const PROGRAM: Program = Program::Perl;

cases!(PROGRAM);

#[test]
fn crash() {
    suite::crash(PROGRAM, "SIGSEGV");
}

#[test]
fn ends_by_itself() {
    suite::ends_by_itself(PROGRAM, "env[PROBE_REQUESTS] = 7");
}
