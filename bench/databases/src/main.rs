//! catchment beside job queues in the same PostgreSQL: messages per second from end to end, the time of a single run,
//! statements and WAL bytes per message, what the tables grow to, and all of it again under an old open transaction.
//!
//! ```text
//! scripts/bench databases [--messages N] [--runs N] [--only NAME]...
//! ```

mod done;
mod peers;
mod server;
mod table;

use std::time::{Duration, Instant};

use clap::Parser;

use crate::peers::{Peer, all};
use crate::server::{Database, Server};
use crate::table::{Figures, Row, print};

#[derive(Parser)]
struct Arguments {
    /// Messages of each measurement.
    #[arg(long, default_value_t = 20_000)]
    messages: u64,
    /// Single runs, one after the other.
    #[arg(long, default_value_t = 200)]
    runs: usize,
    /// Only peers whose name has this text in it.
    #[arg(long)]
    only: Vec<String>,
    /// The server's URL. A peer has a database of its own on it.
    #[arg(long, env = "CATCHMENT_TEST_POSTGRES")]
    url: String,
    /// How long one measurement may take, in seconds.
    #[arg(long, default_value_t = 600)]
    patience: u64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    // Not every peer's worker can move between threads as a whole.
    tokio::task::LocalSet::new().run_until(measure_all()).await
}

async fn measure_all() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let server = Server::connect(&arguments.url).await?;
    println!("{}\n", server.describe().await?);
    let mut rows = Vec::new();
    for peer in all() {
        let name = peer.name();
        let is_wanted = arguments
            .only
            .iter()
            .any(|part| name.contains(part.as_str()));
        // Its worker has taken nothing up here yet, so that it is measured only if it is asked for.
        let is_by_name = name.starts_with("apalis");
        if (is_by_name || !arguments.only.is_empty()) && !is_wanted {
            continue;
        }
        eprintln!("{name}");
        match measure(&arguments, &server, peer).await {
            Ok(row) => rows.push(row),
            Err(error) => eprintln!("{name}: {error:#}"),
        }
    }
    print(&rows, arguments.messages);
    Ok(())
}

/// A peer in a database of its own, which is removed after that.
async fn measure(
    arguments: &Arguments,
    server: &Server,
    peer: Box<dyn Peer>,
) -> anyhow::Result<Row> {
    let name = peer.name();
    let database = server.create().await?;
    let mut row = Row::new(name);
    let mut running = peer.start(&database.url).await?;
    // Caches, connections, and the intervals of pollers.
    let patience = Duration::from_secs(arguments.patience);
    let warming = running.many(arguments.messages.min(2_000));
    tokio::time::timeout(patience, warming).await??;
    let size = database.size().await?;
    row.alone = Some(many(arguments, &database, running.as_mut()).await?);
    row.grown = Some(database.size().await?.saturating_sub(size));
    row.single = Some(single(arguments.runs, running.as_mut()).await?);
    let old = database.old_transaction().await?;
    row.beside = Some(many(arguments, &database, running.as_mut()).await?);
    row.single_beside = Some(single(arguments.runs, running.as_mut()).await?);
    row.grown_beside = Some(database.size().await?.saturating_sub(size));
    drop(old);
    running.stop().await?;
    drop(running);
    database.remove(server).await?;
    Ok(row)
}

async fn many(
    arguments: &Arguments,
    database: &Database,
    running: &mut dyn peers::Running,
) -> anyhow::Result<Figures> {
    let before = database.counters().await?;
    let begin = Instant::now();
    let patience = Duration::from_secs(arguments.patience);
    tokio::time::timeout(patience, running.many(arguments.messages)).await??;
    let took = begin.elapsed();
    let after = database.counters().await?;
    let per_message = |number: u64| number as f64 / arguments.messages as f64;
    Ok(Figures {
        per_second: arguments.messages as f64 / took.as_secs_f64(),
        statements: per_message(after.statements.saturating_sub(before.statements)),
        wal: per_message(after.wal.saturating_sub(before.wal)),
    })
}

/// The median and the 99th percentile of runs of one message.
async fn single(
    runs: usize,
    running: &mut dyn peers::Running,
) -> anyhow::Result<(Duration, Duration)> {
    let mut times = Vec::new();
    for _ in 0..runs.max(1) {
        let begin = Instant::now();
        tokio::time::timeout(Duration::from_secs(60), running.one()).await??;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    Ok((at(50), at(99)))
}
