//! How well a run scales: simulated time against the ideal, on a paused clock, with the latencies and limits of the
//! services.
//!
//! ```text
//! cargo run --release -- --svg ../../docs/scaling.svg --markdown scaling-table.md
//! cargo run --release -- --items 1000000 --workers 1000 --prefetch 1,2,10 --packet-size 250,1000
//! ```

mod plot;
mod queues;
mod service;
mod simulation;
mod table;
mod tables;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use simulation::Plan;

#[derive(Parser)]
#[command(about = "Simulates runs with many workers, and says how much of their time was of use")]
struct Arguments {
    /// Items of the array.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000_000, 10_000_000])]
    items: Vec<u64>,
    /// Workers, each with one item in flight.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1_000])]
    workers: Vec<usize>,
    /// Items a packet [default: the library's, by the length of the array]
    #[arg(long, value_delimiter = ',')]
    packet_size: Vec<u32>,
    /// Messages that a worker holds in waiting [default: the library's]
    #[arg(long, value_delimiter = ',')]
    prefetch: Vec<usize>,
    /// What the user's function takes for an item, in milliseconds.
    #[arg(long, default_value_t = 10)]
    item_ms: u64,
    /// Of the latencies.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Says on standard error which requests each run made.
    #[arg(long)]
    details: bool,
    /// Writes the table to a file as well.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Plots efficiency over workers.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Fails where the efficiency is below this.
    #[arg(long, value_name = "EFFICIENCY")]
    check: Option<f64>,
}

/// The values given, or the library's own.
fn or_default<T: Copy>(values: &[T]) -> Vec<Option<T>> {
    match values {
        [] => vec![None],
        values => values.iter().copied().map(Some).collect(),
    }
}

fn plans(arguments: &Arguments) -> Vec<Plan> {
    let mut plans = Vec::new();
    for &items in &arguments.items {
        for packet_size in or_default(&arguments.packet_size) {
            for prefetch in or_default(&arguments.prefetch) {
                for &workers in &arguments.workers {
                    plans.push(Plan {
                        items,
                        workers,
                        item: Duration::from_millis(arguments.item_ms),
                        packet_size,
                        prefetch,
                        seed: arguments.seed,
                    });
                }
            }
        }
    }
    plans
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    println!("{}", table::head(!arguments.prefetch.is_empty()));
    let mut reports = Vec::new();
    for plan in plans(&arguments) {
        let report = plan.play().with_context(|| format!("{plan:?}"))?;
        println!("{}", table::row(&report));
        if arguments.details {
            eprintln!("{}", table::details(&report));
        }
        reports.push(report);
    }
    if let Some(file) = &arguments.markdown {
        std::fs::write(file, table::markdown(&reports))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(file) = &arguments.svg {
        std::fs::write(file, plot::svg(&reports))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let Some(least) = arguments.check else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut code = ExitCode::SUCCESS;
    for report in reports.iter().filter(|report| report.efficiency() < least) {
        eprintln!("below {least}: {}", table::row(report));
        code = ExitCode::FAILURE;
    }
    Ok(code)
}
