//! What the scaling rule promises, held against the simulation.

#[path = "../examples/simulate/engine.rs"]
mod engine;
#[path = "../examples/simulate/load.rs"]
mod load;
#[path = "../examples/simulate/report.rs"]
mod report;
#[path = "../examples/simulate/rules.rs"]
mod rules;

use std::time::Duration;

use engine::{Cause, Decision, Order, Pool, Rule, Run, Sample};
use load::{PAGE, Random, Request, Shape, by_chance, evenly, seconds};
use preforkd_plan::time::Time;
use report::Summary;
use rules::{
    FpmDynamic, FpmOndemand, MAX_CHILDREN, MAX_SPARE, MIN_SPARE, Preforkd, UwsgiSpare, dynamic,
    ondemand,
};

/// All requests of a shape are measured.
fn shape(name: &'static str, requests: Vec<Request>, until: f64) -> Shape {
    Shape {
        name,
        about: "a load of the tests",
        requests,
        measured_from: Time(0),
        until: seconds(until),
    }
}

/// `count` requests at one instant.
fn at_once(count: usize, at: Time, takes: Duration) -> Vec<Request> {
    vec![Request { at, takes }; count]
}

/// The loads of the table, and some that are meaner.
fn many_shapes() -> Vec<Shape> {
    let mut shapes = load::shapes(Duration::ZERO);
    shapes.extend(load::shapes(Duration::from_millis(1)));
    shapes.push(shape("flood", at_once(500, seconds(3.3), PAGE), 20.0));
    for seed in 0..20_u32 {
        let rate = 5.0 + 10.0 * f64::from(seed);
        let requests = by_chance(&mut Random(u64::from(seed)), rate, 20.0, |random| {
            Duration::from_secs_f64(0.4 * random.unit())
        });
        shapes.push(shape("chance", requests, 40.0));
    }
    shapes
}

/// The pool of the last sample no later than `at`.
fn sample_at(run: &Run, at: Time) -> Sample {
    let index = run.samples.partition_point(|sample| sample.at <= at);
    run.samples[index - 1]
}

#[track_caller]
fn assert_first_waits_least(rules: Vec<Box<dyn Rule>>, shape: &Shape) {
    let mut ours: Option<Summary> = None;
    for mut rule in rules {
        let summary = Summary::of(&engine::run(rule.as_mut(), shape), shape);
        let first = ours.get_or_insert(summary);
        assert!(
            first.p99 <= summary.p99,
            "{} ({}): {} makes wait {:?}, ours {:?}",
            shape.name,
            shape.about,
            rule.name(),
            summary.p99,
            first.p99
        );
    }
}

#[test]
fn no_rule_makes_wait_less() {
    for shape in many_shapes() {
        assert_first_waits_least(dynamic(), &shape);
        assert_first_waits_least(ondemand(), &shape);
    }
}

#[test]
fn a_burst_is_served_at_once() {
    let shapes = load::shapes(Duration::ZERO);
    let burst = &shapes[0];
    let summary = Summary::of(&engine::run(&mut Preforkd::dynamic(), burst), burst);
    assert!(summary.max <= Duration::from_millis(150), "{summary:?}");
    let summary = Summary::of(&engine::run(&mut Preforkd::ondemand(), burst), burst);
    assert!(summary.max <= Duration::from_millis(150), "{summary:?}");
}

#[test]
fn a_burst_of_short_requests_does_not_get_a_worker_each() {
    let burst = shape(
        "short",
        at_once(50, seconds(5.5), Duration::from_millis(1)),
        20.0,
    );
    for mut rule in [Preforkd::dynamic(), Preforkd::ondemand()] {
        let summary = Summary::of(&engine::run(&mut rule, &burst), &burst);
        assert!(summary.needless <= 10, "{summary:?}");
    }
}

#[test]
fn the_limit_is_reached_and_never_passed() {
    let flood = shape("flood", at_once(500, seconds(3.3), PAGE), 20.0);
    for mut rule in [Preforkd::dynamic(), Preforkd::ondemand()] {
        let summary = Summary::of(&engine::run(&mut rule, &flood), &flood);
        assert_eq!(summary.peak, MAX_CHILDREN);
    }
    for shape in many_shapes() {
        for mut rule in dynamic().into_iter().chain(ondemand()) {
            let run = engine::run(rule.as_mut(), &shape);
            for sample in &run.samples {
                assert!(sample.census.total() <= MAX_CHILDREN, "{sample:?}");
            }
        }
    }
}

#[test]
fn an_idle_pool_settles_between_its_bounds() {
    for mut shape in many_shapes() {
        let last = shape.requests.iter().map(|request| request.at).max();
        shape.until = last.unwrap_or_default() + Duration::from_secs(30);

        let run = engine::run(&mut Preforkd::dynamic(), &shape);
        let settled = sample_at(&run, shape.until).census;
        assert!(
            (MIN_SPARE..=MAX_SPARE).contains(&settled.idle),
            "{settled:?}"
        );
        assert_eq!(settled.total(), settled.idle, "{}", shape.name);

        let run = engine::run(&mut Preforkd::ondemand(), &shape);
        let settled = sample_at(&run, shape.until).census;
        assert_eq!(settled.total(), 0, "{}", shape.name);
    }
}

#[test]
fn at_a_steady_load_the_count_settles() {
    let steady = shape("steady", evenly(180.0, |_| 50.0), 180.0);
    for mut rule in [Preforkd::dynamic(), Preforkd::ondemand()] {
        let run = engine::run(&mut rule, &steady);
        let settled = sample_at(&run, seconds(20.0));
        assert!(
            run.samples
                .iter()
                .filter(|sample| sample.at >= settled.at && sample.at <= steady.until)
                .all(|sample| sample.forks == settled.forks
                    && sample.census.total() == settled.census.total()),
        );
    }
}

/// Less than a fork a second, for hardly more workers than the load's own swings need.
#[test]
fn chance_alone_costs_few_forks() {
    for rate in [10.0, 50.0, 150.0] {
        let busy = rate * PAGE.as_secs_f64();
        for seed in 0..5 {
            let requests = by_chance(&mut Random(seed), rate, 360.0, |_| PAGE);
            let mut noise = shape("noise", requests, 360.0);
            noise.measured_from = seconds(60.0);
            let summary = Summary::of(&engine::run(&mut Preforkd::dynamic(), &noise), &noise);
            assert!(summary.forks / 5 < 60, "{rate} a second: {summary:?}");
            let highest = busy + 3.0 * busy.sqrt() + f64::from(MAX_SPARE);
            assert!(
                summary.average < highest,
                "{rate} a second: {summary:?}, over {highest}"
            );
        }
    }
}

/// A rule that fails when it forks more than is needed.
struct Watched(Preforkd, u32);

impl Rule for Watched {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn start(&self) -> u32 {
        self.0.start()
    }

    fn order(&self) -> Order {
        self.0.order()
    }

    fn decide(&mut self, cause: Cause, pool: &Pool) -> Decision {
        let decision = self.0.decide(cause, pool);
        let census = pool.census();
        let spare = census.starting + census.idle + decision.fork;
        assert!(
            decision.fork == 0 || spare <= self.1 + pool.queued(),
            "{cause:?}: {decision:?} at {census:?}"
        );
        assert!(decision.fork == 0 || decision.retire.is_empty());
        decision
    }
}

#[test]
fn growth_stays_within_the_need() {
    for shape in many_shapes() {
        engine::run(&mut Watched(Preforkd::dynamic(), MIN_SPARE), &shape);
        engine::run(&mut Watched(Preforkd::ondemand(), 0), &shape);
    }
}

/// The simulated php-fpm behaves as php-fpm 8.2 does: 60 requests of 2 s at once are done in 11.5 s, the median after
/// 8.0 s, with two more workers each second.
#[test]
fn php_fpm_is_told_truly_when_dynamic() {
    let burst = shape(
        "measured",
        at_once(60, seconds(5.5), Duration::from_secs(2)),
        30.0,
    );
    let run = engine::run(&mut FpmDynamic::default(), &burst);
    let summary = Summary::of(&run, &burst);
    let response = |wait: Duration| (wait + Duration::from_secs(2)).as_secs_f64();
    assert!((response(summary.p50) - 8.0).abs() < 1.0, "{summary:?}");
    assert!((response(summary.max) - 11.5).abs() < 1.0, "{summary:?}");
    let grown = |from, to| {
        sample_at(&run, seconds(to)).census.total() - sample_at(&run, seconds(from)).census.total()
    };
    assert_eq!(grown(7.5, 10.5), 6);
}

/// As measured too: the same burst on demand gets some 13 workers and never more.
#[test]
fn php_fpm_is_told_truly_on_demand() {
    let requests = (0..60)
        .map(|number| Request {
            at: seconds(5.5) + Duration::from_millis(1) * number,
            takes: Duration::from_secs(2),
        })
        .collect();
    let burst = shape("measured", requests, 30.0);
    let summary = Summary::of(&engine::run(&mut FpmOndemand, &burst), &burst);
    assert!((10..=15).contains(&summary.peak), "{summary:?}");
}

/// uWSGI forks one worker after four seconds in which all were busy, and rests at exactly one idle.
#[test]
fn uwsgi_is_told_truly() {
    let requests = at_once(4, seconds(0.5), Duration::from_secs(60));
    let held = shape("held", requests, 60.0);
    let run = engine::run(&mut UwsgiSpare::default(), &held);
    let total = |at| sample_at(&run, seconds(at)).census.total();
    assert_eq!(total(3.9), 3);
    assert_eq!(total(4.5), 4);
    assert_eq!(total(8.5), 5);
    assert_eq!(total(59.0), 5);
}
