//! Doubles numbers and adds them up: the whole of map and reduce on a page.
//!
//! ```text
//! cargo run --example adder                              [1, 2, 3, 4, 5] -> 30
//! cargo run --example adder -- 10 20 30                  [10, 20, 30] -> 120
//! cargo run --release --example adder -- --count 10000000
//! ```

use std::process::ExitCode;
use std::time::Instant;

use catchment::{Error, Pipeline, Stage, permanent};
use clap::Parser;

#[derive(Parser)]
#[command(about = "Doubles numbers and adds them up")]
struct Arguments {
    /// The numbers to add up.
    #[arg(default_values_t = [1, 2, 3, 4, 5], allow_negative_numbers = true)]
    numbers: Vec<i64>,
    /// Streams the numbers 1 to N instead, and says how fast and in how much memory.
    #[arg(long, value_name = "N", conflicts_with = "numbers")]
    count: Option<i64>,
}

fn pipeline() -> Pipeline<i64, i64, catchment::One> {
    Pipeline::new()
        .try_map(|n: i64| {
            n.checked_mul(2)
                .ok_or_else(|| permanent(format!("{n} times two is more than 64 bits hold")))
        })
        .with(Stage::named("times_two"))
        .try_reduce(
            || 0,
            |sum, n| {
                sum.checked_add(n)
                    .ok_or_else(|| permanent(format!("{sum} + {n} is more than 64 bits hold")))
            },
        )
        .with(Stage::named("sum"))
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| explain(&error));
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("adder: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Help and version as they are; a mistake as one line and exit code 2.
fn explain(error: &clap::Error) -> ! {
    if !error.use_stderr() {
        error.exit();
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    eprintln!("adder: {}", first.trim_start_matches("error: "));
    std::process::exit(2)
}

async fn run(arguments: Arguments) -> Result<(), Error> {
    let Some(count) = arguments.count else {
        let sum = pipeline().run(arguments.numbers.clone()).await?;
        println!("{:?} -> {sum}", arguments.numbers);
        return Ok(());
    };
    let begin = Instant::now();
    let sum = pipeline().run(1..=count).await?;
    let seconds = begin.elapsed().as_secs_f64();
    println!("{sum}");
    println!("{:.0} items per second", count as f64 / seconds);
    match peak_memory() {
        Some(bytes) => println!("{:.1} MiB peak memory", bytes as f64 / 1024.0 / 1024.0),
        None => println!("peak memory: this system does not tell"),
    }
    Ok(())
}

/// The most memory this process has had resident, in bytes, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
