//! The same with apalis-sqlite: a task for each packet.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use apalis::prelude::*;
use apalis_sqlite::{Config, SqliteStorage};
use catchment::backends::sqlite::Synchronous;
use futures::stream;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::Notify;

static DONE: AtomicU64 = AtomicU64::new(0);
static WORKED: Notify = Notify::const_new();

async fn work(_number: u64) -> Result<(), BoxDynError> {
    DONE.fetch_add(1, Ordering::AcqRel);
    WORKED.notify_one();
    Ok(())
}

async fn reached(tasks: u64) {
    while DONE.load(Ordering::Acquire) < tasks {
        WORKED.notified().await;
    }
}

pub(crate) async fn measure(
    count: u64,
    runs: usize,
    folder: &Path,
    synchronous: Synchronous,
) -> Result<(), BoxDynError> {
    let file = folder.join("apalis.db");
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", file.display()));
    }
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(match synchronous {
            Synchronous::Normal => SqliteSynchronous::Normal,
            _ => SqliteSynchronous::Full,
        });
    let pool = SqlitePoolOptions::new()
        .max_connections(4)
        .connect_with(options)
        .await?;
    SqliteStorage::setup(&pool).await?;
    let config = || {
        Config::default()
            .queue("bench")
            .batch_size(100)
            .lock_tasks(false)
    };
    let backend = SqliteStorage::new(&pool).with_config(config());
    let worker = WorkerBuilder::new("bench")
        .backend(backend)
        .parallelize(tokio::spawn)
        .build(work);
    let worker = tokio::spawn(async move {
        if let Err(error) = worker.run().await {
            eprintln!("apalis-sqlite: {error}");
        }
    });
    let mut storage = SqliteStorage::new(&pool).with_config(config());
    DONE.store(0, Ordering::Release);
    let begin = Instant::now();
    for first in (0..count).step_by(1_000) {
        let numbers = first..(first + 1_000).min(count);
        let mut tasks = stream::iter(numbers.map(|n| TaskBuilder::new(n).build()));
        storage.push_all(&mut tasks).await?;
    }
    let submitted = begin.elapsed();
    reached(count).await;
    let took = begin.elapsed();
    let size = fs::metadata(&file)?.len() / 1024;
    println!(
        "{synchronous:?}, apalis-sqlite: {count} tasks in {took:.2?} ({submitted:.2?} to push): {:.0} tasks/s; the file has {size} KiB",
        count as f64 / took.as_secs_f64()
    );
    let mut times = Vec::new();
    for run in 0..runs {
        let begin = Instant::now();
        let mut task = stream::iter([TaskBuilder::new(0).build()]);
        storage.push_all(&mut task).await?;
        reached(count + run as u64 + 1).await;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    println!(
        "{synchronous:?}, apalis-sqlite: {runs} single tasks: p50 {:.2?}, p99 {:.2?}",
        times[runs / 2],
        times[runs * 99 / 100]
    );
    worker.abort();
    pool.close().await;
    Ok(())
}
