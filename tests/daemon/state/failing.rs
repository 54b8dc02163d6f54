//! What becomes of sessions when memcached forgets them, or one of two servers dies.

use crate::support::site::Site;
use crate::support::stores::Memcached;

use super::sessions::Visitor;
use super::{memcached, site};

/// Workers that are replaced, so that new ones meet the dead server as well.
const POOL: &str = "pm = static\npm.max_children = 3\npm.max_requests = 20";

fn two() -> [Memcached; 2] {
    [Memcached::start(), Memcached::start()]
}

/// Logs visitors in, half of whom have their sessions in each server, and gives each a note.
fn visitors(site: &Site, count: usize) -> Vec<Visitor> {
    (0..count)
        .map(|number| {
            let mut visitor = Visitor::new(site, &format!("visitor-{number}"));
            visitor.log_in();
            visitor.write(&format!("note {number}"));
            visitor
        })
        .collect()
}

#[test]
fn a_session_that_memcached_drops_is_a_logout() {
    let servers = two();
    let site = site(&memcached("cache", &servers), POOL);
    let mut visitor = visitors(&site, 1).remove(0);
    servers.iter().for_each(Memcached::forget);
    visitor.is_forgotten();
    visitor.log_in();
    visitor.write("again");
    visitor.read("again");
    assert_eq!(site.daemon.lines_like("Traceback"), [""; 0]);
}

/// It costs the sessions that it had, and no other, for as long as it is dead and when it comes back.
#[test]
fn a_dead_memcached_costs_its_own_sessions() {
    const VISITORS: usize = 12;
    let mut servers = two();
    let site = site(&memcached("cache", &servers), POOL);
    let mut visitors = visitors(&site, VISITORS);
    let had = servers.each_ref().map(|server| server.stat("curr_items"));
    assert_eq!(had[0] + had[1], 12);
    servers[0].kill();
    let mut lost = 0;
    for (number, visitor) in visitors.iter_mut().enumerate() {
        if visitor.is_logged_in() {
            visitor.read(&format!("note {number}"));
        } else {
            lost += 1;
            visitor.log_in();
            visitor.write(&format!("note {number}"));
        }
    }
    assert_eq!(lost, had[0]);
    for back in [false, true] {
        if back {
            servers[0].revive();
        }
        for round in 0..3 {
            for (number, visitor) in visitors.iter_mut().enumerate() {
                visitor.read(&format!("note {number}"));
                visitor.write(&format!("round {round}"));
                visitor.write(&format!("note {number}"));
            }
        }
    }
    assert_eq!(site.daemon.lines_like("Traceback"), [""; 0]);
}

/// With the database behind it, memcached may forget and die as it likes.
#[test]
fn sessions_in_memcached_and_a_database_outlive_memcached() {
    let mut servers = two();
    let site = site(&memcached("cached_db", &servers), POOL);
    let mut visitors = visitors(&site, 6);
    servers.iter().for_each(Memcached::forget);
    for dead in [false, true] {
        if dead {
            servers[0].kill();
        }
        for (number, visitor) in visitors.iter_mut().enumerate() {
            visitor.read(&format!("note {number}"));
            visitor.write(&format!("dead: {dead}"));
            visitor.read(&format!("dead: {dead}"));
            visitor.write(&format!("note {number}"));
        }
    }
    for visitor in &mut visitors {
        visitor.log_out();
        visitor.is_forgotten();
    }
    assert_eq!(site.daemon.lines_like("Traceback"), [""; 0]);
}
