//! How workers and pools end.

use super::super::*;
use super::world::*;

const SECOND: Duration = Duration::from_secs(1);

fn limited(mode: Mode, max: u32) -> World {
    let timeouts = Timeouts {
        terminate: Some(5 * SECOND),
        ..TIMEOUTS
    };
    let mut world = World::new(limits(mode, max), timeouts, false);
    world.run(SECOND);
    world
}

fn signals(world: &World, slot: u32) -> Vec<Action> {
    let is_signal = |action: &Action| {
        matches!(action, Action::Retire { slot: s } | Action::SignalTerm { slot: s } | Action::SignalKill { slot: s }
            if *s == slot)
    };
    let actions = world.actions.iter().map(|&(_, action)| action);
    actions.filter(is_signal).collect()
}

#[test]
fn a_request_that_outlives_its_watchdog_is_killed_and_its_worker_replaced() {
    for mode in [STATIC, DYNAMIC, ONDEMAND] {
        let mut world = limited(mode, 4);
        world.arrive(3600 * SECOND);
        world.run(5 * SECOND + WATCHDOG_GRACE - millis(1));
        assert_eq!(
            world.lost, 0,
            "{mode:?}: the worker's own watchdog is first"
        );
        world.run(millis(20));
        assert_eq!(world.lost, 1, "{mode:?}");
        world.arrive(millis(1));
        world.run(SECOND);
        assert_eq!(world.served, 1);
    }
}

/// The limit counts from each request's own beginning, whatever the master saw of the worker before.
#[test]
fn the_time_limit_holds_for_requests_that_nobody_told_of() {
    for mode in [STATIC, DYNAMIC, ONDEMAND] {
        for ahead in [0, 1, 30, 500, 4000, 24_999, 25_001, 60_000] {
            let mut world = limited(mode, 4);
            world.latency = Duration::from_micros(50);
            world.load(millis(ahead), millis(40), millis(1));
            world.run(millis(ahead) + millis(1));
            world.arrive(3600 * SECOND);
            world.run(5 * SECOND + WATCHDOG_GRACE - millis(2));
            assert_eq!(world.lost, 0, "{mode:?} after {ahead} ms");
            world.run(millis(50));
            assert_eq!(world.lost, 1, "{mode:?} after {ahead} ms");
        }
    }
}

#[test]
fn requests_in_time_are_never_killed_however_many_there_are() {
    for mode in [STATIC, DYNAMIC, ONDEMAND] {
        let mut world = limited(mode, 4);
        world.load(60 * SECOND, millis(100), millis(350));
        world.run(70 * SECOND);
        assert_eq!((world.lost, world.served), (0, world.arrived), "{mode:?}");
    }
}

#[test]
fn an_idle_pool_with_a_time_limit_has_no_deadline() {
    for mode in [STATIC, DYNAMIC] {
        let mut world = limited(mode, 4);
        world.run(10 * SECOND);
        assert_eq!(world.deadline, None, "{mode:?}");
        world.arrive(millis(10));
        world.run(60 * SECOND);
        assert_eq!(world.deadline, None, "{mode:?}");
        assert_eq!(world.wakes_in(3600 * SECOND), 0, "{mode:?}");
    }
}

#[test]
fn finishing_lets_requests_end_and_then_empties_the_pool() {
    for (mode, mold) in [(STATIC, false), (DYNAMIC, true), (ONDEMAND, false)] {
        let mut world = World::new(limits(mode, 8), TIMEOUTS, mold);
        world.run(SECOND);
        world.burst(3, 3 * SECOND);
        world.run(SECOND);
        world.stop(Phase::Finishing);
        world.run(millis(10));
        assert_eq!(world.alive(), 3, "{mode:?}: the idle ones leave at once");
        assert!(!world.pool.is_empty());
        world.run(3 * SECOND);
        assert!(world.pool.is_empty() && !world.has_mold(), "{mode:?}");
        assert_eq!((world.served, world.lost), (3, 0));
        assert_eq!(world.deadline, None);
    }
}

#[test]
fn finishing_escalates_against_those_that_do_not_leave() {
    let mut world = World::settled(limits(STATIC, 2));
    world.arrive(3600 * SECOND);
    world.arrive(3600 * SECOND);
    world.run(millis(1));
    world.harden(1);
    world.stop(Phase::Finishing);
    world.run(TIMEOUTS.control - millis(1));
    assert_eq!(world.alive(), 2);
    world.run(millis(2));
    assert_eq!(world.alive(), 1);
    world.run(KILL_INTERVAL);
    assert!(world.pool.is_empty());
    let term = Action::SignalTerm { slot: 0 };
    assert_eq!(signals(&world, 0), [Action::Retire { slot: 0 }, term]);
    let slot = 1;
    assert_eq!(
        signals(&world, 1),
        [
            Action::Retire { slot },
            Action::SignalTerm { slot },
            Action::SignalKill { slot }
        ]
    );
}

#[test]
fn terminating_signals_at_once_and_kills_who_stays() {
    let mut world = World::settled(limits(DYNAMIC, 8));
    world.burst(2, 3600 * SECOND);
    world.run(millis(20));
    world.harden(0);
    world.stop(Phase::Terminating);
    world.run(millis(1));
    assert_eq!(world.alive(), 1);
    world.run(KILL_INTERVAL);
    assert!(world.pool.is_empty());
    assert_eq!(signals(&world, 0).len(), 2);
}

#[test]
fn killing_waits_for_nobody() {
    let mut world = World::new(limits(DYNAMIC, 8), TIMEOUTS, true);
    world.run(SECOND);
    world.burst(2, 3600 * SECOND);
    world.run(millis(20));
    world.mold_forks_no_more();
    world.harden(0);
    world.stop(Phase::Terminating);
    world.run(millis(100));
    assert_eq!((world.alive(), world.has_mold()), (1, true));
    world.stop(Phase::Killing);
    world.run(millis(1));
    assert!(world.pool.is_empty() && !world.has_mold());
    assert_eq!(world.deadline, None);
}

#[test]
fn terminating_overtakes_finishing_and_is_not_taken_back() {
    let mut world = World::settled(limits(STATIC, 2));
    world.burst(2, 3600 * SECOND);
    world.run(SECOND);
    world.stop(Phase::Finishing);
    world.run(SECOND);
    assert_eq!(world.alive(), 2);
    world.stop(Phase::Terminating);
    world.stop(Phase::Finishing);
    world.run(millis(1));
    assert!(world.pool.is_empty());
    world.run(60 * SECOND);
    assert_eq!(world.spawned(), 2);
}

#[test]
fn a_mold_that_does_not_end_when_it_is_told_to_is_killed() {
    for phase in [Phase::Finishing, Phase::Terminating] {
        let mut world = World::new(limits(STATIC, 2), TIMEOUTS, true);
        world.mold_fate = MoldFate::Hangs;
        world.kill_mold();
        world.run(SECOND);
        assert!(world.has_mold());
        world.stop(phase);
        world.run(KILL_INTERVAL + millis(1));
        assert!(!world.has_mold(), "{phase:?}");
        assert_eq!(world.deadline, None);
    }
}

#[test]
fn ending_while_workers_start_leaves_nobody() {
    for phase in [Phase::Finishing, Phase::Terminating] {
        for after in [0, 300, 1000, 5400] {
            for fate in [Fate::Works, Fate::DiesAtStart, Fate::Hangs] {
                let mut world = World::new(limits(STATIC, 6), TIMEOUTS, true);
                world.fate = fate;
                world.run(millis(200) + Duration::from_micros(after));
                world.stop(phase);
                world.run(TIMEOUTS.control + 2 * KILL_INTERVAL);
                assert!(world.pool.is_empty(), "{phase:?} {after} {fate:?}");
                assert_eq!((world.alive(), world.has_mold()), (0, false));
            }
        }
    }
}
