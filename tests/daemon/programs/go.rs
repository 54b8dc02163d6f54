//! A program on Go's net/http/fcgi, which accepts and answers many requests at a time.

use super::host::Program;
use super::suite::{self, cases};

const PROGRAM: Program = Program::Go;

cases!(PROGRAM);

#[test]
fn crash() {
    suite::crash(PROGRAM, "SIGKILL");
}
