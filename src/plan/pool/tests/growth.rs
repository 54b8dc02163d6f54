//! How the number of workers follows the load.

use super::super::*;
use super::world::*;
use crate::scale::Mode;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn static_fills_up_by_the_spawn_rate_and_refills_after_a_death() {
    let mut limits = limits(STATIC, 40);
    limits.max_spawn_rate = 8;
    let mut world = World::new(limits, TIMEOUTS, false);
    assert_eq!(world.alive(), 8);
    world.run(millis(4));
    assert_eq!(world.alive(), 8, "eight start at one time");
    world.run(2 * SECOND);
    assert_eq!(world.slots(State::Idle).len(), 40);
    world.kill(17);
    world.kill(3);
    world.run(millis(20));
    assert_eq!(world.slots(State::Idle).len(), 40);
    assert_eq!(world.spawned(), 42);
    assert_eq!(world.retired(), 0);
}

#[test]
fn dynamic_starts_with_its_start_servers_and_stays_there() {
    let mut world = World::new(limits(DYNAMIC, 20), TIMEOUTS, false);
    assert_eq!(world.alive(), 3);
    world.run(60 * SECOND);
    assert_eq!((world.slots(State::Idle).len(), world.spawned()), (3, 3));
}

#[test]
fn dynamic_asks_for_its_start_servers_by_the_spawn_rate() {
    let start = Mode::Dynamic {
        start: 20,
        min_spare: 1,
        max_spare: 20,
    };
    for (mold, max) in [(false, 20), (true, 20), (true, 40)] {
        let mut limits = limits(start, max);
        limits.max_spawn_rate = 8;
        let mut world = World::new(limits, TIMEOUTS, mold);
        // Whoever comes meanwhile may make it grow as well.
        world.burst(4, millis(2));
        let mut most = 0;
        for _ in 0..500 {
            world.run(millis(1));
            most = most.max(world.slots(State::Starting).len());
        }
        assert_eq!(most, 8, "{mold} {max}");
        assert_eq!(world.slots(State::Idle).len(), 20, "{mold} {max}");
        assert_eq!(world.pool.standing(), Standing::Ready);
    }
}

#[test]
fn dynamic_grows_by_the_queue_at_once_and_shrinks_half_the_excess_a_second() {
    let mut world = World::settled(limits(DYNAMIC, 64));
    world.burst(50, millis(200));
    world.run(millis(199));
    assert_eq!(world.waiting(), 0, "{} workers", world.alive());
    assert!(world.waits.iter().all(|&wait| wait < millis(60)));
    world.run(millis(61));
    let mut before = world.alive() - 5;
    assert!(before >= 45, "{before}");
    world.run(millis(900));
    assert_eq!(world.alive() - 5, before, "nobody has rested for a second");
    let mut seconds = 0;
    while before > 0 {
        world.run(SECOND);
        let after = world.alive() - 5;
        assert!(after >= before / 2, "from {before} to {after}");
        before = after;
        seconds += 1;
    }
    assert!(seconds <= 8, "{seconds}");
    world.run(60 * SECOND);
    assert_eq!(world.slots(State::Idle).len(), 5, "the upper bound is kept");
}

#[test]
fn dynamic_keeps_to_its_maximum() {
    let mut world = World::settled(limits(DYNAMIC, 8));
    world.burst(100, millis(50));
    world.run(10 * SECOND);
    assert_eq!((world.most, world.served), (8, 100));
}

#[test]
fn ondemand_rises_from_nothing_and_returns_to_it() {
    let mut world = World::settled(limits(ONDEMAND, 64));
    assert_eq!(world.spawned(), 0);
    world.arrive(millis(20));
    world.run(millis(10));
    assert_eq!((world.alive(), world.waiting()), (1, 0));
    world.run(9 * SECOND);
    assert_eq!(world.alive(), 1);
    world.run(2 * SECOND);
    assert_eq!(world.alive(), 0);
    world.burst(50, millis(200));
    world.run(SECOND);
    assert_eq!(world.served, 51);
    assert!(world.waits.iter().all(|&wait| wait < millis(60)));
    world.run(11 * SECOND);
    assert_eq!(world.alive(), 0);
}

/// With starts that take long, whoever comes while they go on must not wait for the next round of starts.
#[test]
fn who_comes_while_nobody_is_idle_gets_a_worker_of_the_same_round() {
    for mode in [
        ONDEMAND,
        Mode::Dynamic {
            start: 4,
            min_spare: 1,
            max_spare: 5,
        },
    ] {
        let mut world = World::settled(limits(mode, 64));
        for _ in 0..4 {
            world.arrive(600 * SECOND);
            world.run(SECOND);
        }
        world.run(SECOND);
        world.kill_idle();
        world.start = 2 * SECOND;
        for _ in 0..3 {
            world.arrive(millis(1));
            world.run(millis(100));
        }
        world.run(millis(2100));
        assert_eq!(world.waiting(), 0, "{mode:?}");
    }
}

/// Each worker ages by the requests it serves, so the spares have to be looked at by their true idle time.
#[test]
fn ondemand_workers_that_serve_stay_and_the_others_leave() {
    let mut world = World::settled(limits(ONDEMAND, 64));
    world.burst(10, millis(100));
    world.run(SECOND);
    let many = world.alive();
    assert!(many >= 8, "{many}");
    world.load(30 * SECOND, millis(100), millis(10));
    world.run(30 * SECOND);
    assert_eq!(world.alive(), 1);
}

#[test]
fn a_worn_out_worker_stays_until_the_one_that_replaces_it_is_ready() {
    let mut world = World::settled(limits(DYNAMIC, 20));
    world.start = SECOND;
    world.wear_out(1);
    world.run(millis(900));
    assert_eq!(world.slots(State::Idle).len(), 3);
    assert_eq!((world.spawned(), world.retired()), (4, 0));
    world.run(millis(200));
    assert_eq!(world.pool.state(1), State::Vacant);
    assert_eq!(world.slots(State::Idle).len(), 3);
}

#[test]
fn worn_out_workers_of_a_full_pool_leave_one_at_a_time() {
    let mut world = World::settled(limits(STATIC, 4));
    let before: Vec<_> = (0..4).map(|slot| world.identity(slot)).collect();
    (0..4).for_each(|slot| world.wear_out(slot));
    for _ in 0..100 {
        world.run(millis(1));
        assert!(world.slots(State::Idle).len() >= 3);
    }
    for (slot, old) in (0..4).zip(before) {
        assert_ne!(world.identity(slot), old);
    }
    assert_eq!((world.spawned(), world.retired()), (8, 4));
}

#[test]
fn who_took_the_place_of_a_worn_out_worker_that_died_is_not_sent_away() {
    let mut world = World::settled(limits(DYNAMIC, 20));
    world.start = SECOND;
    world.run(SECOND);
    world.wear_out(0);
    world.run(millis(1));
    // The replacement starts; the worn-out worker dies, and growth fills its slot.
    world.kill(0);
    world.kill(1);
    world.kill(2);
    world.run(millis(1));
    assert_eq!(world.pool.state(0), State::Starting);
    world.run(3 * SECOND);
    assert_eq!(world.retired(), 0);
    assert!(world.slots(State::Idle).len() >= 2);
}

/// Those that started together go one by one, each when the one that takes its place serves, and nobody wakes for it
/// before.
#[test]
fn workers_that_have_grown_old_are_replaced_at_different_times() {
    for mode in [STATIC, DYNAMIC] {
        let timeouts = Timeouts {
            lifetime: Some(3600 * SECOND),
            ..TIMEOUTS
        };
        let mut world = World::new(limits(mode, 8), timeouts, true);
        world.start = SECOND;
        world.run(10 * SECOND);
        let count = world.alive();
        let (spawned, least) = (world.spawned(), world.slots(State::Idle).len());
        assert_eq!(world.wakes_in(2600 * SECOND), 0, "{mode:?}");
        let mut replaced = Vec::new();
        for _ in 0..1000 {
            let before = world.spawned();
            world.run(SECOND);
            replaced.push(world.spawned() - before);
            let idle = world.slots(State::Idle).len();
            assert!(idle + 1 >= least, "{mode:?}: {idle}");
        }
        assert_eq!(world.spawned() - spawned, count as usize, "{mode:?}");
        assert_eq!(replaced.iter().max(), Some(&1), "{mode:?}");
        assert_eq!(world.lost, 0);
    }
}
