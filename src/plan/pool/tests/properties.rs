//! Whatever happens in whatever order.

use super::super::*;
use super::world::*;
use crate::scale::{Limits, Mode};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive {
        count: u32,
        takes: u64,
    },
    Kill {
        slot: u32,
    },
    KillWoken,
    WearOut {
        slot: u32,
    },
    Deafen {
        slot: u32,
        span: u64,
    },
    Harden {
        slot: u32,
    },
    Fate(Fate),
    MoldFate(MoldFate),
    KillMold,
    /// A message of a worker that has gone.
    Stray {
        slot: u32,
    },
    Pass {
        micros: u64,
    },
}

fn any_mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(STATIC),
        (1..6u32, 0..6u32).prop_map(|(min_spare, above)| Mode::Dynamic {
            start: min_spare + above / 2,
            min_spare,
            max_spare: min_spare + above,
        }),
        (200..20_000u64).prop_map(|idle| Mode::Ondemand {
            idle_timeout: millis(idle)
        }),
    ]
}

fn any_limits() -> impl Strategy<Value = Limits> {
    (any_mode(), 1..16u32, 1..8u32).prop_map(|(mode, more, max_spawn_rate)| {
        let least = match mode {
            Mode::Dynamic { max_spare, .. } => max_spare,
            Mode::Static | Mode::Ondemand { .. } => 0,
        };
        Limits {
            mode,
            max_children: least + more,
            max_spawn_rate,
        }
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let slot = 0..20u32;
    let fate = prop_oneof![
        4 => Just(Fate::Works),
        1 => Just(Fate::NotForked),
        1 => Just(Fate::DiesAtStart),
        1 => Just(Fate::Hangs),
        1 => Just(Fate::DiesYoung),
    ];
    let mold_fate = prop_oneof![
        3 => Just(MoldFate::Works),
        1 => Just(MoldFate::NotStarted),
        1 => Just(MoldFate::Dies),
        1 => Just(MoldFate::Hangs),
        1 => Just(MoldFate::Unfit),
    ];
    prop_oneof![
        6 => (1..12u32, 0..3000u64).prop_map(|(count, takes)| Step::Arrive { count, takes }),
        3 => slot.clone().prop_map(|slot| Step::Kill { slot }),
        1 => Just(Step::KillWoken),
        2 => slot.clone().prop_map(|slot| Step::WearOut { slot }),
        1 => (slot.clone(), 0..4000u64).prop_map(|(slot, span)| Step::Deafen { slot, span }),
        1 => slot.clone().prop_map(|slot| Step::Harden { slot }),
        1 => slot.prop_map(|slot| Step::Stray { slot }),
        2 => fate.prop_map(Step::Fate),
        1 => mold_fate.prop_map(Step::MoldFate),
        1 => Just(Step::KillMold),
        4 => (0..900u64).prop_map(|micros| Step::Pass { micros }),
        6 => (0..300u64).prop_map(|span| Step::Pass { micros: span * 1000 }),
        2 => (0..20u64).prop_map(|span| Step::Pass { micros: span * 1_000_000 }),
    ]
}

/// What a pool is made with.
#[derive(Clone, Copy, Debug)]
struct Setting {
    limits: Limits,
    timeouts: Timeouts,
    mold: bool,
    latency: Duration,
    start: Duration,
}

fn any_setting() -> impl Strategy<Value = Setting> {
    let terminate = prop_oneof![Just(None), (1..10u64).prop_map(Some)];
    (any_limits(), terminate, any::<bool>(), 0..300u64, 0..60u64).prop_map(
        |(limits, terminate, mold, latency, start)| Setting {
            limits,
            timeouts: Timeouts {
                terminate: terminate.map(Duration::from_secs),
                ..TIMEOUTS
            },
            mold,
            latency: Duration::from_micros(latency),
            start: millis(start),
        },
    )
}

/// The world after these steps; it checks itself that no slot is filled twice and no bound passed.
fn lived(setting: &Setting, steps: &[Step]) -> World {
    let mut world = World::new(setting.limits, setting.timeouts, setting.mold);
    world.latency = setting.latency;
    world.start = setting.start;
    let max = setting.limits.max_children;
    for &step in steps {
        match step {
            Step::Arrive { count, takes } => world.burst(count, millis(takes)),
            Step::Kill { slot } => world.kill(slot % max),
            Step::KillWoken => {
                if let Some(slot) = world.woken() {
                    world.kill(slot);
                }
            }
            Step::WearOut { slot } => world.wear_out(slot % max),
            Step::Deafen { slot, span } => world.deafen(slot % max, millis(span)),
            Step::Harden { slot } => world.harden(slot % max),
            Step::Fate(fate) => world.fate = fate,
            Step::MoldFate(fate) => world.mold_fate = fate,
            Step::KillMold => world.kill_mold(),
            Step::Stray { slot } => world.stray(Event::WornOut { slot }),
            Step::Pass { micros } => world.run(Duration::from_micros(micros)),
        }
    }
    world
}

proptest! {
    #[test]
    fn everybody_is_served_in_the_end_and_the_pool_comes_to_rest(
        setting in any_setting(),
        steps in prop::collection::vec(any_step(), 0..60),
    ) {
        let mut world = lived(&setting, &steps);
        world.fate = Fate::Works;
        world.mold_fate = MoldFate::Works;
        // The longest back-off, a hung start, and the requests one after another.
        world.run(2500 * SECOND);
        prop_assert_eq!(world.waiting(), 0);
        prop_assert_eq!(world.served + world.lost, world.arrived);
        prop_assert_eq!(world.pool.census().total(), world.alive());
        let (starting, retiring) = (world.pool.census().starting, world.pool.census().retiring);
        prop_assert_eq!((starting, retiring), (0, 0));
        match setting.limits.mode {
            Mode::Static => prop_assert_eq!(world.alive(), setting.limits.max_children),
            Mode::Dynamic { min_spare, max_spare, .. } => {
                prop_assert!((min_spare..=max_spare).contains(&world.alive()), "{}", world.alive());
            }
            Mode::Ondemand { .. } => prop_assert_eq!(world.alive(), 0),
        }
        prop_assert_eq!(world.deadline, None);
        prop_assert_eq!(world.wakes_in(3600 * SECOND), 0);
        // And it still works.
        world.arrive(millis(10));
        world.run(SECOND);
        prop_assert_eq!(world.waiting(), 0);
    }

    #[test]
    fn who_is_told_to_end_ends(
        setting in any_setting(),
        steps in prop::collection::vec(any_step(), 0..40),
        finish in any::<bool>(),
        more in prop::collection::vec(any_step(), 0..20),
    ) {
        let mut world = lived(&setting, &steps);
        let spawned = world.spawned();
        world.stop(if finish { Phase::Finishing } else { Phase::Terminating });
        for step in more {
            // Whatever else goes wrong meanwhile.
            if let Step::Kill { slot } = step {
                world.kill(slot % setting.limits.max_children);
            }
            if let Step::Pass { micros } = step {
                world.run(Duration::from_micros(micros));
            }
        }
        world.run(TIMEOUTS.control + 3 * KILL_INTERVAL);
        prop_assert!(world.pool.is_empty());
        prop_assert_eq!((world.alive(), world.has_mold()), (0, false));
        prop_assert_eq!(world.spawned(), spawned);
        prop_assert_eq!(world.deadline, None);
        prop_assert_eq!(world.wakes_in(3600 * SECOND), 0);
    }

    /// However requests come, the master's turns follow from forks, from the seconds, and a little from the load.
    #[test]
    fn wake_ups_are_bounded(
        setting in any_setting(),
        each in 200..5000u64,
        takes in 10..20_000u64,
    ) {
        let mut world = lived(&setting, &[]);
        world.latency = Duration::from_micros(50);
        world.run(SECOND);
        world.load(6 * SECOND, Duration::from_micros(each), Duration::from_micros(takes));
        world.run(3 * SECOND);
        let before = world.spawned();
        let wakes = world.wakes_in(3 * SECOND);
        let forks = u32::try_from(world.spawned() - before).unwrap();
        prop_assert!(wakes <= 3 * 300 + 3 * forks, "{} wake-ups, {} forks", wakes, forks);
    }
}
