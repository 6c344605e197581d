//! Doubles numbers and adds them up.
//!
//! ```text
//! cargo run --example adder                              [1, 2, 3, 4, 5] -> 30
//! cargo run --example adder -- 10 20 30                  [10, 20, 30] -> 120
//! cargo run --release --example adder -- --count 10000000
//! ```
//!
//! The example `distributed` runs such a pipeline as separate processes, over Amazon SQS and
//! DynamoDB.

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::Instant;

use catchment::{BoxError, Permanent, Pipeline, permanent};
use clap::Parser;

/// Doubled, the numbers 1 to N add up to N * (N + 1), which an i64 holds up to this N.
const LARGEST_COUNT: u32 = 3_037_000_499;

/// Doubles numbers and adds them up.
#[derive(Parser)]
struct Arguments {
    /// The numbers to double and add up.
    #[arg(default_values_t = [1, 2, 3, 4, 5], allow_negative_numbers = true)]
    numbers: Vec<i64>,
    /// Streams the numbers 1 to N instead, and prints the sum, the speed and the peak memory.
    #[arg(long, value_name = "N", conflicts_with = "numbers")]
    #[arg(value_parser = parse_count, allow_negative_numbers = true)]
    count: Option<u32>,
}

fn parse_count(text: &str) -> Result<u32, String> {
    let count = text.parse().ok().filter(|count| *count <= LARGEST_COUNT);
    count.ok_or_else(|| format!("give 0 to {LARGEST_COUNT}; more would overflow"))
}

/// Returns the text to print.
async fn run(Arguments { numbers, count }: Arguments) -> Result<String, BoxError> {
    let adder = Pipeline::new().try_map(double).try_reduce(|| 0, add);
    let Some(count) = count else {
        let sum = adder.run(numbers.clone()).await?;
        return Ok(format!("{numbers:?} -> {sum}"));
    };
    let begin = Instant::now();
    let sum = adder.run(1..=i64::from(count)).await?;
    let speed = f64::from(count) / begin.elapsed().as_secs_f64();
    let mut text = format!("{sum}\n{speed:.0} items per second");
    if let Some(mebibytes) = peak_memory() {
        text += &format!("\n{mebibytes:.1} MiB peak memory");
    }
    Ok(text)
}

/// An overflow is a permanent error: it is not retried.
fn double(n: i64) -> Result<i64, Permanent> {
    n.checked_mul(2)
        .ok_or_else(|| permanent(format!("{n} * 2 overflows")))
}

fn add(sum: i64, n: i64) -> Result<i64, Permanent> {
    sum.checked_add(n)
        .ok_or_else(|| permanent(format!("{sum} + {n} overflows")))
}

/// Only Linux reports it.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.split_once("VmHWM:")?.1.split_whitespace().next()?;
    Some(peak.parse::<f64>().ok()? / 1024.0)
}

#[tokio::main]
async fn main() -> ExitCode {
    // Escaped, a line break in an argument does not end the first line of an error message.
    let escaped = std::env::args_os().map(|it| it.to_string_lossy().escape_debug().to_string());
    let arguments = match Arguments::try_parse_from(escaped) {
        Ok(arguments) => arguments,
        Err(help) if !help.use_stderr() => help.exit(),
        Err(error) => {
            let text = error.to_string();
            eprintln!("{}; see --help", text.lines().next().unwrap_or_default());
            return ExitCode::from(2);
        }
    };
    let outcome = run(arguments).await;
    // println! would panic if standard output is full or closed.
    let Err(error) = outcome.and_then(|text| Ok(writeln!(stdout(), "{text}")?)) else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}
