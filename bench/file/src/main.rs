//! How fast a SQLite file is as a backend: packets per second, and how long a run of five items takes.
//!
//! ```text
//! scripts/bench file [PACKETS] [FOLDER]      20,000 packets, in the folder for temporary files, unless told otherwise
//! ```

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use catchment::backends::sqlite::{SqliteOptions, Synchronous};
use catchment::pipeline::One;
use catchment::{BoxError, Deployment, Pipeline, Stage};

const RUNS: usize = 200;

fn adder(packet_size: Option<u32>) -> Pipeline<u64, u64, One> {
    let stage = Stage::named("double");
    Pipeline::new()
        .map(|n: u64| n * 2)
        .with(match packet_size {
            Some(items) => stage.packet_size(items),
            None => stage,
        })
        .reduce(|| 0, |a, b| a + b)
}

/// A deployment over a new file in a folder.
fn deploy(
    pipeline: &Pipeline<u64, u64, One>,
    folder: &Path,
    synchronous: Synchronous,
) -> Result<(Deployment<u64, u64>, PathBuf), BoxError> {
    let file = folder.join("bench.db");
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", file.display()));
    }
    let opened = SqliteOptions::new().synchronous(synchronous).open(&file)?;
    Ok((pipeline.deploy("bench", opened)?, file))
}

/// What one flush of 4 KiB to the disk takes: the least that a transaction can.
fn flush(folder: &Path) -> std::io::Result<Duration> {
    let path = folder.join("flush");
    let mut file = File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..100 {
        file.write_all(&[0; 4_096])?;
        let begin = Instant::now();
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    fs::remove_file(path)?;
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

async fn packets(count: u64, folder: &Path, synchronous: Synchronous) -> Result<(), BoxError> {
    let (deployment, file) = deploy(&adder(Some(1)), folder, synchronous)?;
    let worker = deployment.worker().start();
    let begin = Instant::now();
    let run = deployment.submit(1..=count).await?;
    let submitted = begin.elapsed();
    assert_eq!(run.result().await?, count * (count + 1));
    let took = begin.elapsed();
    worker.shutdown().await;
    let size = fs::metadata(&file)?.len() / 1024;
    println!(
        "{synchronous:?}: {count} packets of one item in {took:.2?} ({submitted:.2?} to submit): {:.0} packets/s; the file has {size} KiB",
        count as f64 / took.as_secs_f64()
    );
    Ok(())
}

async fn five(folder: &Path, synchronous: Synchronous) -> Result<(), BoxError> {
    let (deployment, _) = deploy(&adder(None), folder, synchronous)?;
    let worker = deployment.worker().start();
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let begin = Instant::now();
        let run = deployment.submit(1..=5).await?;
        assert_eq!(run.result().await?, 30);
        times.push(begin.elapsed());
    }
    worker.shutdown().await;
    times.sort_unstable();
    println!(
        "{synchronous:?}: {RUNS} runs of five items: p50 {:.2?}, p99 {:.2?}",
        times[RUNS / 2],
        times[RUNS * 99 / 100]
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let count = arguments.next().map_or(Ok(20_000), |count| count.parse())?;
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    println!("a flush to the disk: {:.2?}", flush(&folder)?);
    for synchronous in [Synchronous::Full, Synchronous::Normal] {
        packets(count, &folder, synchronous).await?;
        five(&folder, synchronous).await?;
    }
    Ok(())
}
