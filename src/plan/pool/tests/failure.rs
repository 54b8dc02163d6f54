//! Starts that fail, and molds that die.

use super::super::*;
use super::world::*;
use crate::respawn::FIRST;

const SECOND: Duration = Duration::from_secs(1);

fn reports(world: &World) -> Vec<(u32, Duration)> {
    let report = |&(_, action): &(Time, Action)| match action {
        Action::ReportBackOff { failures, wait } => Some((failures, wait)),
        _ => None,
    };
    world.actions.iter().filter_map(report).collect()
}

fn molds(world: &World) -> usize {
    world.taken(|action| *action == Action::StartMold)
}

#[test]
fn workers_that_fail_together_count_once_and_each_round_waits_longer() {
    for fate in [Fate::DiesAtStart, Fate::NotForked] {
        let mut world = World::new(limits(STATIC, 8), TIMEOUTS, false);
        world.run(SECOND);
        (0..8).for_each(|slot| world.kill(slot));
        world.fate = fate;
        world.run(60 * SECOND);
        let waits: Vec<_> = reports(&world).iter().map(|(_, wait)| *wait).collect();
        let doubled: Vec<_> = (0..9).map(|round| FIRST * (1 << round)).collect();
        assert_eq!(waits[..9], doubled, "{fate:?}");
        assert!(waits.len() <= 10);
        let before = world.spawned();
        world.fate = Fate::Works;
        world.run(60 * SECOND);
        assert_eq!(world.slots(State::Idle).len(), 8, "{fate:?}");
        assert_eq!(world.spawned() - before, 8);
    }
}

#[test]
fn one_bad_start_among_good_ones_is_repeated_after_the_shortest_wait() {
    let mut world = World::settled(limits(STATIC, 4));
    world.fate = Fate::DiesAtStart;
    world.kill(2);
    world.run(millis(1));
    world.fate = Fate::Works;
    world.run(millis(110));
    assert_eq!(reports(&world), [(1, FIRST)]);
    assert_eq!(world.slots(State::Idle).len(), 4);
    // What has worked since then ends the row.
    world.run(2 * SECOND);
    world.fate = Fate::DiesAtStart;
    world.kill(0);
    world.run(millis(50));
    assert_eq!(reports(&world), [(1, FIRST), (1, FIRST)]);
}

/// A worker that dies as soon as it is ready must not be forked ten times a second for ever.
#[test]
fn workers_that_die_young_are_held_back_longer_and_longer() {
    for (mode, mold) in [(STATIC, false), (STATIC, true), (DYNAMIC, false)] {
        let mut world = World::new(limits(mode, 4), TIMEOUTS, mold);
        world.run(2 * SECOND);
        world.fate = Fate::DiesYoung;
        world.kill_idle();
        world.run(60 * SECOND);
        assert!(world.spawned() <= 4 * 12, "{}", world.spawned());
        let last = *reports(&world).last().unwrap();
        assert!(last.0 >= 9, "{last:?}");
        world.fate = Fate::Works;
        world.run(60 * SECOND);
        assert!(world.slots(State::Idle).len() >= 2);
    }
}

#[test]
fn a_start_that_hangs_is_killed_and_counts_as_failed() {
    let mut world = World::new(limits(STATIC, 2), TIMEOUTS, false);
    world.run(2 * SECOND);
    world.fate = Fate::Hangs;
    world.kill(0);
    world.run(TIMEOUTS.start + millis(1));
    assert_eq!(world.taken(|a| *a == Action::SignalKill { slot: 0 }), 1);
    assert_eq!(reports(&world), [(1, FIRST)]);
    world.fate = Fate::Works;
    world.run(SECOND);
    assert_eq!(world.slots(State::Idle).len(), 2);
}

#[test]
fn nothing_is_forked_before_the_mold_is_ready() {
    for mode in [STATIC, DYNAMIC, ONDEMAND] {
        let mut world = World::new(limits(mode, 8), TIMEOUTS, true);
        world.burst(3, millis(10));
        world.run(millis(199));
        assert_eq!((molds(&world), world.spawned()), (1, 0), "{mode:?}");
        world.run(SECOND);
        assert_eq!(world.served, 3, "{mode:?}");
    }
}

#[test]
fn a_mold_that_hangs_is_killed_and_tried_again_after_a_wait() {
    let mut world = World::new(limits(STATIC, 2), TIMEOUTS, true);
    world.mold_fate = MoldFate::Hangs;
    world.kill_mold();
    world.run(millis(200));
    assert_eq!(reports(&world), [(1, FIRST)]);
    world.run(TIMEOUTS.start);
    assert_eq!(world.taken(|a| *a == Action::KillMold), 1);
    assert_eq!(reports(&world), [(1, FIRST), (2, FIRST * 2)]);
    world.mold_fate = MoldFate::Works;
    world.run(SECOND);
    assert_eq!((molds(&world), world.slots(State::Idle).len()), (3, 2));
}

#[test]
fn where_there_can_be_no_mold_workers_are_forked_without_one() {
    let mut world = World::new(limits(STATIC, 3), TIMEOUTS, true);
    world.mold_fate = MoldFate::Unfit;
    world.kill_mold();
    world.run(SECOND);
    assert_eq!(world.slots(State::Idle).len(), 3);
    // Neither it nor its end is a failure, and there is no other one.
    assert_eq!((molds(&world), reports(&world).len()), (2, 1));
    world.kill(0);
    world.run(SECOND);
    assert_eq!((molds(&world), world.slots(State::Idle).len()), (2, 3));
}

#[test]
fn molds_that_die_or_cannot_be_started_are_held_back() {
    for fate in [MoldFate::Dies, MoldFate::NotStarted] {
        let mut world = World::new(limits(DYNAMIC, 8), TIMEOUTS, true);
        world.mold_fate = fate;
        world.kill_mold();
        world.run(60 * SECOND);
        assert!((9..=11).contains(&molds(&world)), "{}", molds(&world));
        world.mold_fate = MoldFate::Works;
        world.run(60 * SECOND);
        assert_eq!(world.slots(State::Idle).len(), 3, "{fate:?}");
    }
}

#[test]
fn a_mold_that_dies_after_long_life_is_made_anew_at_once_and_its_workers_go_on() {
    let mut world = World::new(limits(STATIC, 3), TIMEOUTS, true);
    world.run(10 * SECOND);
    world.kill_mold();
    world.burst(6, millis(50));
    world.run(millis(150));
    assert_eq!((world.served, world.lost, world.spawned()), (6, 0, 3));
    assert_eq!((molds(&world), reports(&world).len()), (2, 0));
    // Nobody is replaced before it is ready, and then at once.
    world.kill(0);
    world.run(millis(40));
    assert_eq!(world.spawned(), 3);
    world.run(millis(50));
    assert_eq!(world.slots(State::Idle).len(), 3);
}

/// Those that it has forked already go on; the slots of the others are vacant when their channels have ended.
#[test]
fn a_mold_that_dies_while_workers_start_leaves_each_slot_one_worker() {
    for after in [0, 200, 499, 501, 2000, 5400] {
        let mut world = World::new(limits(STATIC, 6), TIMEOUTS, true);
        world.run(millis(200));
        assert_eq!(world.spawned(), 6);
        world.run(Duration::from_micros(after));
        world.kill_mold();
        world.run(SECOND);
        assert_eq!(world.slots(State::Idle).len(), 6, "after {after} us");
        let again = if after < 500 { 6 } else { 0 };
        assert_eq!(world.spawned(), 6 + again, "after {after} us");
    }
}

/// A mold that is ready and dies of each fork is no success.
#[test]
fn a_mold_that_dies_of_forking_is_held_back_longer_and_longer() {
    let mut world = World::new(limits(STATIC, 2), TIMEOUTS, true);
    let mut asked = 0;
    for _ in 0..60_000 {
        world.run(millis(1));
        if world.spawned() > asked {
            asked = world.spawned();
            world.kill_mold();
        }
    }
    assert!((6..=11).contains(&molds(&world)), "{}", molds(&world));
}

#[test]
fn a_mold_that_forks_no_more_is_at_fault_and_replaced() {
    let mut world = World::new(limits(STATIC, 3), TIMEOUTS, true);
    world.run(10 * SECOND);
    world.mold_forks_no_more();
    world.kill(1);
    world.run(TIMEOUTS.start + SECOND);
    assert_eq!(molds(&world), 2);
    assert_eq!(world.slots(State::Idle).len(), 3);
}
