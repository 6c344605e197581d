//! Without a subcommand: queues, scratchpad and workers live in this process.

use std::time::Instant;

use catchment::BoxError;

use crate::arguments::{Input, Tuning};
use crate::pipeline;

pub(crate) async fn run(input: Input, tuning: &Tuning) -> Result<(), BoxError> {
    let adder = pipeline(tuning, None);
    let Some(count) = input.count else {
        let numbers = input.numbers();
        let sum = adder.run(numbers.clone()).await?;
        println!("{numbers:?} -> {sum}");
        return Ok(());
    };
    let begin = Instant::now();
    let sum = adder.run(1..=count).await?;
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
