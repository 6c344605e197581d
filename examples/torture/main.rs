//! Counts wrong and stuck runs under faults of every kind: of this library, and of the algorithm
//! that it grew from.
//!
//! ```text
//! cargo run --release --features testing --example torture -- --seeds 1000 --seed 1
//! ```
//!
//! With `--hostile` it is this library only, beside somebody who writes well-formed messages that the library has not written.

#![allow(
    clippy::panic,
    reason = "what should never happen ends it, with the seed"
)]

mod handbook;
mod meaning;
mod simulation;

use std::process::ExitCode;

use clap::Parser;
use simulation::Report;

#[derive(Parser)]
#[command(about = "Plays runs under faults of every kind, and counts what was wrong or stuck")]
struct Arguments {
    /// How many seeds to run, at least 1: a table of no runs would prove nothing.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Sends well-formed messages of a stranger, instead of the other faults.
    #[arg(long)]
    hostile: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = arguments.seed..arguments.seed.saturating_add(arguments.seeds);
    if arguments.hostile {
        return hostile(&play(seeds, meaning::simulate));
    }
    let ours = play(seeds.clone(), simulation::simulate);
    let theirs = play(seeds, handbook::simulate);
    for problem in ours.problems.iter().take(20) {
        eprintln!("{problem}");
    }
    print(&ours, &theirs);
    match ours.wrong + ours.stuck {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// On as many threads as there are cores. Each seed has a thread and a clock to itself.
fn play<R>(seeds: std::ops::Range<u64>, simulate: impl Fn(u64) -> R + Sync) -> R
where
    R: Default + std::ops::AddAssign + Send,
{
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut whole = R::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(|| {
                    let mut part = R::default();
                    loop {
                        let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if seed >= seeds.end {
                            return part;
                        }
                        part += simulate(seed);
                    }
                })
            })
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(part) => whole += part,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    whole
}

/// Prints what a stranger sent, what became of it, and what it did.
fn hostile(report: &meaning::Report) -> ExitCode {
    for problem in report.problems.iter().take(20) {
        eprintln!("{problem}");
    }
    println!(
        "| messages of a stranger | sent | dead letters | acknowledged | held back or under way |"
    );
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (kind, tally) in &report.sent {
        let left = tally.sent - tally.buried - tally.acknowledged;
        let (sent, buried, acknowledged) = (tally.sent, tally.buried, tally.acknowledged);
        println!("| {kind} | {sent} | {buried} | {acknowledged} | {left} |");
    }
    println!();
    println!("| | |");
    println!("| --- | ---: |");
    println!("| runs | {} |", report.runs);
    println!("| right | {} |", report.right);
    println!(
        "| times that these said before that they had failed | {} |",
        report.said_so
    );
    println!("| impersonated | {} |", report.impersonated);
    println!("| of those with another result | {} |", report.deceived);
    println!("| of those failed for good | {} |", report.found_out);
    println!("| **wrong** | **{}** |", report.wrong);
    println!("| **stuck** | **{}** |", report.stuck);
    match report.wrong + report.stuck {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn print(ours: &Report, theirs: &Report) {
    let mut kinds: Vec<&str> = ours
        .faults
        .keys()
        .chain(theirs.faults.keys())
        .copied()
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    println!("| | catchment | the handbook's algorithm |");
    println!("| --- | ---: | ---: |");
    for kind in kinds {
        let count = |report: &Report| report.faults.get(kind).copied().unwrap_or(0);
        println!("| {kind} | {} | {} |", count(ours), count(theirs));
    }
    println!("| runs | {} | {} |", ours.runs, theirs.runs);
    println!(
        "| of those cancelled | {} | {} |",
        ours.cancelled, theirs.cancelled
    );
    println!(
        "| **wrong results** | **{}** | **{}** |",
        ours.wrong, theirs.wrong
    );
    println!(
        "| good items left out for the deaths of their processes | {} | 0 |",
        ours.blamed
    );
    println!("| **stuck** | **{}** | **{}** |", ours.stuck, theirs.stuck);
}
