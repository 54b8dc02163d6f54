//! All pools together have a limit.

use super::super::*;
use super::world::*;

/// Workers that wait, and connections that do.
struct Still(u32);

impl View for Still {
    fn worker(&self, _: u32) -> Option<(bool, Time)> {
        Some((false, Time(0)))
    }

    fn queue(&self) -> u32 {
        self.0
    }

    fn accept_queue(&self) -> (u32, u64) {
        (self.0, 0)
    }
}

/// Settles with so much room, and lets whoever was asked for be ready. Returns how many were.
fn settle(pool: &mut Pool, now: u64, room: u32, queue: u32) -> u32 {
    let now = Time(now * 1_000_000_000);
    let mut actions = Vec::new();
    pool.set_room(room);
    pool.settle(now, &Still(queue), &mut actions);
    let asked: Vec<u32> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Spawn { slot } => Some(*slot),
            _ => None,
        })
        .collect();
    for slot in &asked {
        pool.on(now, Event::Ready { slot: *slot }, &mut actions);
    }
    u32::try_from(asked.len()).unwrap()
}

#[test]
fn nobody_is_started_beyond_the_room() {
    let mut pool = Pool::new(limits(STATIC, 10), TIMEOUTS, false);
    assert_eq!(settle(&mut pool, 1, 4, 0), 4);
    assert!(pool.is_short());
    assert_eq!(settle(&mut pool, 2, 0, 0), 0);
    assert!(pool.is_short());
    assert_eq!(settle(&mut pool, 3, 9, 0), 6);
    assert!(!pool.is_short());
}

#[test]
fn a_pool_that_is_large_enough_is_not_short() {
    let mut pool = Pool::new(limits(STATIC, 3), TIMEOUTS, false);
    assert_eq!(settle(&mut pool, 1, 3, 0), 3);
    assert!(!pool.is_short());
    assert_eq!(settle(&mut pool, 2, 0, 0), 0);
    assert!(!pool.is_short());
}

/// There is nothing that it could do about what it hears.
#[test]
fn a_pool_without_room_wants_no_notice_of_growth() {
    let mut pool = Pool::new(limits(DYNAMIC, 20), TIMEOUTS, false);
    assert_eq!(settle(&mut pool, 1, 3, 0), 3);
    settle(&mut pool, 2, 5, 0);
    assert!(pool.watermarks().0 > 0);
    assert_eq!(settle(&mut pool, 3, 0, 9), 0);
    assert!(pool.is_short());
    assert_eq!((pool.watermarks().0, pool.watches_listener()), (0, false));
}

/// The one that takes its place comes when it has gone.
#[test]
fn a_worn_out_worker_leaves_at_once_when_there_is_no_room_for_a_second_one() {
    let mut pool = Pool::new(limits(DYNAMIC, 20), TIMEOUTS, false);
    settle(&mut pool, 1, 3, 0);
    let (now, mut actions) = (Time(2_000_000_000), Vec::new());
    pool.on(now, Event::WornOut { slot: 1 }, &mut actions);
    pool.set_room(0);
    pool.settle(now, &Still(0), &mut actions);
    assert_eq!(actions, [Action::Retire { slot: 1 }]);
    let served = true;
    pool.on(now, Event::Gone { slot: 1, served }, &mut actions);
    assert_eq!(pool.census().total(), 2);
}

/// However often the others are worn out meanwhile.
#[test]
fn of_the_worn_out_the_eldest_leaves_first() {
    let mut pool = Pool::new(limits(STATIC, 3), TIMEOUTS, false);
    settle(&mut pool, 1, 3, 0);
    let mut left = Vec::new();
    for second in 2..5 {
        let (now, mut actions) = (Time(second * 1_000_000_000), Vec::new());
        for slot in 0..3 {
            pool.on(now, Event::WornOut { slot }, &mut actions);
        }
        pool.settle(now, &Still(0), &mut actions);
        let [Action::Retire { slot }] = actions[..] else {
            panic!("one leaves: {actions:?}");
        };
        left.push(slot);
        let served = true;
        pool.on(now, Event::Gone { slot, served }, &mut actions);
        settle(&mut pool, second, 3, 0);
    }
    assert_eq!(left, [0, 1, 2]);
}

/// A reload whose new generation waited for workers that cannot be would never be over.
#[test]
fn the_first_workers_are_as_many_as_there_is_room_for() {
    let mode = Mode::Dynamic {
        start: 50,
        min_spare: 1,
        max_spare: 50,
    };
    let mut pool = Pool::new(limits(mode, 60), TIMEOUTS, false);
    assert_eq!(settle(&mut pool, 1, 5, 0), 5);
    assert_eq!(pool.standing(), Standing::Ready);
}
