//! preforkd under load while everything is done to it that is done to a daemon.
//!
//! nginx hands the requests of 32 clients to a Python pool and to one of PHP ([`load`]). Meanwhile one disturbance
//! after another is made again and again ([`disturbance`]). In the end what the clients have got is compared with what
//! the application has written down ([`ledger`]): a request is lost if its client did not get the whole and right
//! answer with status 200, whatever the web server may have done about it, and served twice if the application began it
//! twice.
//!
//! `tests/chaos/run.sh` builds and runs all this.

mod acts;
mod disturbance;
mod http;
mod ledger;
mod load;
#[path = "../daemon/support/process.rs"]
mod process;
mod stage;

use clap::Parser;
use disturbance::{ALL, Counts, Disturbance, Made};
use ledger::Ledger;
use load::Load;
use nix::unistd::Uid;
use stage::{Parts, Stage};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// Shows the losses of each disturbance that are told in full.
const TOLD: usize = 5;

/// What comes before the first disturbance and after the last of a kind.
const CALM: Duration = Duration::from_millis(300);

/// Disturbs preforkd under load, and counts what becomes of each request.
#[derive(Debug, Parser)]
struct Arguments {
    /// The daemon's program; the Python module is beside it.
    #[arg(long)]
    program: PathBuf,
    /// The pool's interpreter.
    #[arg(long, default_value = "/usr/bin/python3")]
    python: PathBuf,
    /// Minutes that all disturbances take together.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// Only disturbances whose name has this word.
    #[arg(long)]
    only: Option<String>,
    /// Leaves the folder with the logs.
    #[arg(long)]
    keep: bool,
}

/// A line of the table.
#[derive(Debug)]
struct Row {
    disturbance: &'static Disturbance,
    made: Made,
    ledger: Ledger,
    /// What the machine itself made a process wait at most.
    stall: Duration,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether all went as it should.
fn run(arguments: Arguments) -> io::Result<bool> {
    let is_root = Uid::effective().is_root();
    if !is_root {
        eprintln!("not root: what takes its rights is left out");
    }
    let chosen: Vec<&'static Disturbance> = ALL
        .iter()
        .filter(|it| {
            arguments
                .only
                .as_ref()
                .is_none_or(|only| it.name.contains(only))
        })
        .filter(|it| is_root || !it.needs_root)
        .collect();
    let each = Duration::from_secs_f64(arguments.minutes * 60.0 / chosen.len() as f64);
    let parts = Parts {
        program: arguments.program,
        python: arguments.python,
    };
    let mut stage = Stage::start(parts, stage::STATIC)?;
    if arguments.keep {
        println!("{}", stage.keep_folder().display());
    }
    let mut rows = Vec::new();
    for disturbance in chosen {
        eprintln!("{}", disturbance.name);
        let row = disturb(&mut stage, disturbance, each);
        rows.push(row.inspect_err(|_| {
            print(&rows);
            eprintln!("the logs are in {}", stage.keep_folder().display());
        })?);
    }
    print(&rows);
    print_sum(&rows);
    let complaints: Vec<String> = rows.iter().flat_map(Row::complaints).collect();
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    if !complaints.is_empty() {
        eprintln!("the logs are in {}", stage.keep_folder().display());
    }
    Ok(complaints.is_empty())
}

fn disturb(
    stage: &mut Stage,
    disturbance: &'static Disturbance,
    span: Duration,
) -> io::Result<Row> {
    stage.configure(disturbance.pool)?;
    stage.reload()?;
    let journal = stage.path("journal");
    std::fs::File::options()
        .write(true)
        .open(&journal)?
        .set_len(0)?;
    let name = disturbance
        .name
        .replace(|letter: char| !letter.is_ascii_alphanumeric(), "");
    let load = Load::start(stage.port, &name);
    let begun = Instant::now();
    let mut made = Made::default();
    let mut result = Ok(());
    thread::sleep(CALM);
    while result.is_ok() && begun.elapsed() + CALM < span {
        result = (disturbance.make)(stage, &mut made);
        thread::sleep(disturbance.pause);
    }
    thread::sleep(CALM);
    let (mut sent, stall) = load.stop();
    result?;
    sent.append(&mut made.sent);
    let ledger = Ledger::settle(sent, &journal)?;
    match disturbance.counts {
        Counts::Made => {}
        Counts::Replaced => made.times = ledger.workers.saturating_sub(2 * stage::WORKERS),
        Counts::Requests => made.times = u32::try_from(ledger.requests).unwrap_or(u32::MAX),
    }
    for loss in ledger.losses.iter().take(TOLD) {
        eprintln!(
            "  {:8.3} s: {}",
            loss.at.duration_since(begun).as_secs_f64(),
            loss.what
        );
    }
    Ok(Row {
        disturbance,
        made,
        ledger,
        stall,
    })
}

impl Row {
    /// What is not as it should be.
    fn complaints(&self) -> Vec<String> {
        let Self {
            disturbance,
            made,
            ledger,
            stall,
        } = self;
        let may = disturbance.may;
        let losses = may.lose * made.times;
        let mut complaints = Vec::new();
        let mut check = |fine: bool, what: String| {
            if !fine {
                complaints.push(format!("{}: {what}", disturbance.name));
            }
        };
        let lost = ledger.losses.len();
        check(made.times > 0, "not made once".into());
        check(
            lost <= losses as usize,
            format!("{lost} requests lost, at most {losses} may be"),
        );
        check(
            ledger.twice.is_empty(),
            format!("served twice: {:?}", ledger.twice),
        );
        if let Some(most) = may.wait {
            let slowest = ledger.slowest;
            check(
                slowest <= most + *stall,
                format!(
                    "a request waited {slowest:?}, and the machine made nobody wait longer than {stall:?}"
                ),
            );
        }
        if let Some((most, back)) = may.recover.zip(made.back) {
            check(
                back <= most + *stall,
                format!(
                    "at full strength after {back:?}, and the machine made nobody wait longer than {stall:?}"
                ),
            );
        }
        complaints
    }
}

fn print(rows: &[Row]) {
    println!(
        "| disturbance | times | requests | lost | twice | slowest (ms) | full strength after (ms) |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for row in rows {
        let back = row
            .made
            .back
            .map_or(String::new(), |back| back.as_millis().to_string());
        println!(
            "| {} | {} | {} | {} | {} | {} | {back} |",
            row.disturbance.name,
            row.made.times,
            row.ledger.requests,
            row.ledger.losses.len(),
            row.ledger.twice.len(),
            row.ledger.slowest.as_millis(),
        );
    }
}

/// Adds up what nobody may notice.
fn print_sum(rows: &[Row]) {
    let rows = || rows.iter().filter(|row| row.disturbance.is_unnoticed());
    let requests: usize = rows().map(|row| row.ledger.requests).sum();
    let lost: usize = rows().map(|row| row.ledger.losses.len()).sum();
    let twice: usize = rows().map(|row| row.ledger.twice.len()).sum();
    let slowest = rows().map(|row| row.ledger.slowest).max();
    println!(
        "\n{requests} requests during the {} kinds that kill nothing: {lost} lost, {twice} served twice, the slowest {} ms",
        rows().count(),
        slowest.unwrap_or_default().as_millis()
    );
}
