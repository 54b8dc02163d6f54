//! A program on Go's net/http/fcgi, which accepts and answers many requests at a time.

use super::host::Program;
use super::suite::{self, cases};

const PROGRAM: Program = Program::Go;

cases!(
    PROGRAM;
    pages,
    proxy_is_dropped,
    post_bodies,
    large_bodies,
    all_is_sent_before_anything_is_read,
    slow_pages,
    recycling_and_reload_lose_nothing,
    complaints,
    no_orphans,
    what_a_program_inherits,
);

#[test]
fn crash() {
    suite::crash(PROGRAM, "SIGKILL");
}
