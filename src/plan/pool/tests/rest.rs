//! What wakes the master, and what does not.

use super::super::*;
use super::world::*;
use crate::saturation::LOOK_INTERVAL;
use crate::scale::Mode;

const SECOND: Duration = Duration::from_secs(1);

fn saturations(world: &World) -> usize {
    world.taken(|action| *action == Action::ReportSaturated)
}

#[test]
fn a_pool_at_rest_never_wakes_the_master() {
    for terminate in [None, Some(30 * SECOND)] {
        for mode in [STATIC, DYNAMIC, ONDEMAND] {
            for mold in [false, true] {
                let timeouts = Timeouts {
                    terminate,
                    ..TIMEOUTS
                };
                let mut world = World::new(limits(mode, 200), timeouts, mold);
                world.run(SECOND);
                let what = format!("{mode:?} {terminate:?}");
                assert_eq!(world.deadline, None, "{what}");
                assert_eq!(world.wakes_in(3600 * SECOND), 0, "{what}");
                world.burst(30, millis(50));
                world.run(120 * SECOND);
                assert_eq!(world.served, 30, "{what}");
                assert_eq!(world.deadline, None, "{what}");
                assert_eq!(world.wakes_in(3600 * SECOND), 0, "{what}");
            }
        }
    }
}

#[test]
fn watermarks_are_quiet_when_no_notice_could_change_anything() {
    let full = World::settled(limits(STATIC, 4));
    assert_eq!(full.watermarks(), (1, u32::MAX), "to see saturation");
    let dynamic = World::settled(limits(DYNAMIC, 20));
    assert_eq!(dynamic.watermarks(), (2, 5), "the bounds");
    let none = World::settled(limits(ONDEMAND, 20));
    assert_eq!(none.watermarks(), (0, 0));
    assert!(none.pool.watches_listener());
    let mut blocked = World::settled(limits(STATIC, 4));
    blocked.fate = Fate::NotForked;
    blocked.kill(0);
    blocked.run(millis(1));
    assert_eq!(blocked.watermarks(), (0, u32::MAX), "held back");
}

#[test]
fn starting_workers_count_as_spare_for_notices_too() {
    let mut world = World::settled(limits(DYNAMIC, 64));
    world.start = TIMEOUTS.start - millis(100);
    world.arrive(3600 * SECOND);
    world.arrive(3600 * SECOND);
    world.run(millis(10));
    assert_eq!(world.slots(State::Starting).len(), 1);
    // The spare that is left takes one request after another: nothing is wanted that is not on its way.
    world.load(4 * SECOND, millis(1), Duration::from_micros(200));
    let wakes = world.wakes_in(4 * SECOND);
    assert!(wakes <= 1000, "{wakes}");
    assert_eq!(world.slots(State::Starting).len(), 2);
}

#[test]
fn saturation_is_reported_once_an_episode() {
    for mode in [
        STATIC,
        ONDEMAND,
        Mode::Dynamic {
            start: 2,
            min_spare: 2,
            max_spare: 3,
        },
    ] {
        let mut world = World::settled(limits(mode, 4));
        world.load(20 * SECOND, millis(10), millis(45));
        world.run(20 * SECOND);
        assert_eq!(saturations(&world), 1, "{mode:?}: one episode");
        world.run(40 * SECOND);
        assert_eq!(saturations(&world), 1, "{mode:?}: it is over");
        world.burst(8, SECOND);
        world.run(5 * SECOND);
        assert_eq!(saturations(&world), 2, "{mode:?}: another");
    }
}

/// Those who are too many do not wait, all others are served, and what is told of it is true.
#[test]
fn under_a_load_that_is_too_much_the_surplus_is_turned_away() {
    for mode in [STATIC, ONDEMAND, DYNAMIC] {
        let mut world = World::settled(limits(mode, 8));
        world.pool.set_max_queue(Some(10));
        // Twice as much as eight workers do.
        world.load(20 * SECOND, millis(5), millis(80));
        world.run(30 * SECOND);
        assert_eq!(world.served + world.turned_away, world.arrived, "{mode:?}");
        assert!(
            world.turned_away > world.arrived / 3,
            "{}",
            world.turned_away
        );
        // In the queue of ten, and until the next look finds who is too many.
        let longest = world.waits.iter().max().copied().unwrap_or_default();
        assert!(longest < millis(300), "{mode:?}: {longest:?}");
        let told = world.actions.iter().filter_map(|(_, action)| match action {
            Action::ReportRelieved(summary) => Some(*summary),
            _ => None,
        });
        let [summary] = told.collect::<Vec<_>>()[..] else {
            panic!("{mode:?}: one episode")
        };
        assert!(
            (20 * SECOND..23 * SECOND).contains(&summary.length),
            "{summary:?}"
        );
        assert!((10..30).contains(&summary.deepest), "{summary:?}");
        assert!(
            summary.longest <= longest + LOOK_INTERVAL,
            "{summary:?} {longest:?}"
        );
        assert!(
            summary.longest + 2 * LOOK_INTERVAL >= longest,
            "{summary:?} {longest:?}"
        );
        world.run(60 * SECOND);
        assert_eq!(world.wakes_in(3600 * SECOND), 0, "{mode:?}");
    }
}

#[test]
fn recycling_under_saturation_is_no_new_episode() {
    for mode in [STATIC, ONDEMAND, DYNAMIC] {
        let mut world = World::settled(limits(mode, 8));
        world.wears_out_after = Some(20);
        world.start = millis(100);
        world.load(20 * SECOND, millis(5), millis(60));
        world.run(20 * SECOND);
        assert!(world.spawned() > 20, "{mode:?}: {}", world.spawned());
        assert_eq!(saturations(&world), 1, "{mode:?}");
    }
}

#[test]
fn losing_workers_under_saturation_is_no_new_episode() {
    for mode in [STATIC, ONDEMAND, DYNAMIC] {
        let mut world = World::new(limits(mode, 6), TIMEOUTS, true);
        world.run(SECOND);
        world.load(20 * SECOND, millis(5), millis(60));
        world.run(5 * SECOND);
        for slot in 0..4 {
            world.kill(slot);
            world.kill_mold();
            world.run(SECOND);
        }
        world.run(10 * SECOND);
        assert_eq!(world.alive(), 6);
        assert_eq!(saturations(&world), 1, "{mode:?}");
    }
}

#[test]
fn saturation_ends_also_where_workers_leave_before_they_have_rested() {
    let mode = Mode::Ondemand {
        idle_timeout: millis(200),
    };
    let mut world = World::settled(limits(mode, 3));
    world.burst(3, SECOND);
    world.run(3 * SECOND);
    assert_eq!((saturations(&world), world.alive()), (1, 0));
    assert_eq!(world.deadline, None);
}

/// The kernel wakes one worker for a connection. If that one dies before it has accepted, nobody comes for it.
#[test]
fn a_death_between_waking_and_accepting_strands_nobody() {
    for mode in [STATIC, DYNAMIC, ONDEMAND] {
        for max in [2, 3, 10] {
            let mut world = World::settled(limits(mode, max));
            world.burst(2, millis(20));
            world.run(SECOND);
            world.start = 60 * SECOND;
            world.arrive(millis(1));
            let woken = world.woken().unwrap();
            world.kill(woken);
            world.run(millis(2));
            assert_eq!(world.waiting(), 0, "{mode:?} {max}");
        }
    }
}

/// It was woken for a connection, told to leave, and killed before it accepted: nobody else was woken.
#[test]
fn a_connection_whose_worker_dies_leaving_goes_to_another_at_once() {
    let mut world = World::settled(limits(STATIC, 2));
    world.arrive(millis(10));
    let woken = world.woken().expect("somebody is woken");
    world.wear_out(woken);
    world.run(Duration::from_micros(5));
    assert_eq!(world.pool.state(woken), State::Retiring);
    world.kill(woken);
    world.run(millis(1));
    assert_eq!(world.waiting(), 0);
}

#[test]
fn an_idle_worker_comes_for_a_connection_whose_worker_is_occupied() {
    for mode in [STATIC, DYNAMIC] {
        let mut world = World::settled(limits(mode, 3));
        world.start = 60 * SECOND;
        world.arrive(60 * SECOND);
        world.run(millis(1));
        world.arrive_at_an_occupied_worker(millis(1));
        world.run(millis(3));
        assert_eq!(world.waiting(), 0, "{mode:?}");
    }
}

/// Which of the busy workers will look when it turns idle only the kernel knows.
#[test]
fn a_connection_whose_worker_is_occupied_is_not_forgotten_while_nobody_is_idle() {
    let mut world = World::settled(limits(STATIC, 2));
    world.burst(2, 5 * SECOND);
    world.run(SECOND);
    world.arrive_at_an_occupied_worker(millis(1));
    world.run(2 * SECOND);
    assert!(
        world
            .deadline
            .is_some_and(|at| at <= world.now + NUDGE_INTERVAL)
    );
    world.run(10 * SECOND);
    assert_eq!((world.served, world.deadline), (3, None));
}

#[test]
fn a_death_with_nobody_waiting_nudges_nobody() {
    let mut world = World::settled(limits(STATIC, 4));
    world.kill(1);
    world.run(SECOND);
    assert_eq!(world.taken(|a| matches!(a, Action::Nudge { .. })), 0);
}

/// Requests at a steady rate, each so short that the master mostly comes too late to see it.
#[test]
fn a_steady_load_does_not_keep_the_master_awake() {
    let micros = Duration::from_micros;
    let wide = Mode::Dynamic {
        start: 8,
        min_spare: 4,
        max_spare: 12,
    };
    for terminate in [None, Some(30 * SECOND)] {
        for mode in [STATIC, DYNAMIC, wide, ONDEMAND] {
            for (each, takes) in [
                (500, 250),
                (1000, 60),
                (1000, 5000),
                (800, 780),
                (300, 1000),
            ] {
                let timeouts = Timeouts {
                    terminate,
                    ..TIMEOUTS
                };
                let mut world = World::new(limits(mode, 32), timeouts, false);
                world.latency = micros(50);
                world.run(SECOND);
                world.load(13 * SECOND, micros(each), micros(takes));
                world.run(3 * SECOND);
                let wakes = world.wakes_in(10 * SECOND);
                let what = format!("{mode:?} {terminate:?} {takes} us each {each} us");
                assert!(wakes <= 10 * 300, "{what}: {wakes}");
                world.run(SECOND);
                assert_eq!(world.served, world.arrived, "{what}");
            }
        }
    }
}
