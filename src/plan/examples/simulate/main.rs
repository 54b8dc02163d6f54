//! What rules of scaling make users wait: ours beside php-fpm's and uWSGI's, on the same loads.
//!
//! `cargo run -p preforkd-plan --example simulate` prints the tables, in Markdown.

mod engine;
mod load;
mod report;
mod rules;

use std::time::Duration;

use engine::Rule;
use load::Shape;
use report::Summary;

fn main() {
    println!(
        "Wait of a request for a worker, and what it costs. Simulated: a start takes 5 ms, two at a time; start {}, \
         min_spare {}, max_spare {}, max_children {}.\n",
        rules::START,
        rules::MIN_SPARE,
        rules::MAX_SPARE,
        rules::MAX_CHILDREN,
    );
    let shapes = load::shapes(Duration::ZERO);
    for shape in &shapes {
        println!("* {}: {}", shape.name, shape.about);
    }
    println!("\npm = dynamic; uWSGI with cheaper-algo = spare\n");
    print_table(&shapes, rules::dynamic);
    println!("\npm = ondemand; the bursts with a millisecond between two requests\n");
    print_table(&load::shapes(Duration::from_millis(1)), rules::ondemand);
}

fn print_table(shapes: &[Shape], rules: fn() -> Vec<Box<dyn Rule>>) {
    println!(
        "| load | rule | p50 ms | p99 ms | max ms | workers, average | peak | forks | never used |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|"
    );
    for shape in shapes {
        for mut rule in rules() {
            let run = engine::run(rule.as_mut(), shape);
            let summary = Summary::of(&run, shape);
            println!(
                "| {} | {} | {} | {} | {} | {:.1} | {} | {} | {} |",
                shape.name,
                rule.name(),
                millis(summary.p50),
                millis(summary.p99),
                millis(summary.max),
                summary.average,
                summary.peak,
                summary.forks,
                summary.needless,
            );
        }
    }
}

/// Milliseconds, with a decimal where it tells something.
fn millis(wait: Duration) -> String {
    let millis = wait.as_secs_f64() * 1000.0;
    if millis < 10.0 {
        format!("{millis:.1}")
    } else {
        format!("{millis:.0}")
    }
}
