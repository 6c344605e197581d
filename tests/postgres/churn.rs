//! What many messages leave behind, and what an old transaction costs. The numbers are printed, not asserted: they are for
//! docs/postgres.md.

use std::sync::Arc;
use std::time::{Duration, Instant};

use catchment::queue::{Outgoing, Queue, QueueOptions, Queues};
use catchment::{Pipeline, Stage};
use tokio_postgres::Client;

use crate::common::{client, database_in, unique};

const BATCH: usize = 100;
const TASKS: usize = 4;

fn seconds() -> Duration {
    let seconds = std::env::var("CATCHMENT_TEST_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(3))
}

async fn number(client: &Client, statement: &str) -> i64 {
    client.query_one(statement, &[]).await.unwrap().get(0)
}

async fn wal(client: &Client) -> i64 {
    number(
        client,
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::int8",
    )
    .await
}

/// The bytes of the queue's tables with their indexes.
async fn size(client: &Client, schema: &str) -> i64 {
    let size = format!(
        "SELECT (pg_total_relation_size('\"{schema}\".messages') + pg_total_relation_size('\"{schema}\".bodies'))::int8"
    );
    number(client, &size).await
}

/// Sends, receives and acknowledges batches until the time is over. Returns messages per second, and bytes of the log per
/// message.
async fn churn(queue: &Arc<dyn Queue>, client: &Client, time: Duration) -> (f64, i64) {
    let (begin, before) = (Instant::now(), wal(client).await);
    let tasks = (0..TASKS).map(|_| {
        let queue = Arc::clone(queue);
        tokio::spawn(async move {
            let mut messages = 0;
            while begin.elapsed() < time {
                let batch = (0..BATCH).map(|_| Outgoing::new(vec![b'x'; 150]));
                queue.send(batch.collect()).await.unwrap();
                let received = queue.receive(BATCH, Duration::ZERO).await.unwrap();
                messages += received.len();
                let receipts = received.into_iter().map(|delivery| delivery.receipt);
                queue.acknowledge(receipts.collect()).await.unwrap();
            }
            messages
        })
    });
    let mut messages = 0;
    for task in tasks.collect::<Vec<_>>() {
        messages += task.await.unwrap();
    }
    let took = begin.elapsed().as_secs_f64();
    // What the last ones left to others.
    loop {
        let rest = queue
            .receive(10_000, Duration::from_millis(1_500))
            .await
            .unwrap();
        if rest.is_empty() {
            break;
        }
        queue
            .acknowledge(rest.into_iter().map(|delivery| delivery.receipt).collect())
            .await
            .unwrap();
    }
    let bytes = (wal(client).await - before) / i64::try_from(messages.max(1)).unwrap();
    (messages as f64 / took, bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn churn_leaves_small_tables_also_beside_an_old_transaction() {
    let schema = unique("churn");
    let (queues, _) = database_in(&schema).parts();
    queues
        .provision("churn", &QueueOptions::default())
        .await
        .unwrap();
    let queue = queues
        .open("churn", &QueueOptions::default())
        .await
        .unwrap();
    let client = client().await;
    let empty = size(&client, &schema).await;
    let (rate, bytes) = churn(&queue, &client, seconds()).await;
    println!(
        "alone: {rate:.0} messages/s, {bytes} bytes of WAL a message, {} kB of tables",
        size(&client, &schema).await / 1024
    );
    let old = crate::common::client().await;
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
        .await
        .unwrap();
    for part in 1..=4 {
        let (rate, bytes) = churn(&queue, &client, seconds()).await;
        let size = size(&client, &schema).await / 1024;
        println!(
            "beside an old transaction, part {part}: {rate:.0} messages/s, {bytes} bytes of WAL a message, {size} kB of tables"
        );
    }
    old.batch_execute("COMMIT").await.unwrap();
    for table in ["messages", "bodies"] {
        client
            .batch_execute(&format!("VACUUM \"{schema}\".{table}"))
            .await
            .unwrap();
    }
    let live = number(
        &client,
        &format!("SELECT count(*) FROM \"{schema}\".messages WHERE queue > 0"),
    )
    .await;
    assert_eq!(live, 0);
    let (rate, _) = churn(&queue, &client, seconds()).await;
    let left = size(&client, &schema).await;
    println!(
        "after it and a vacuum: {rate:.0} messages/s, {} kB of tables, {} kB when they were new",
        left / 1024,
        empty / 1024
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn churn_of_packets_of_one_item() {
    let schema = unique("packets");
    let items: i64 = 1_000 * i64::try_from(seconds().as_secs()).unwrap();
    let adder = Pipeline::new()
        .map(|n: i64| n * 2)
        .with(Stage::named("times_two").packet_size(1).concurrency(256))
        .reduce(|| 0, |a, b| a + b);
    let adder = adder.deploy("adder", database_in(&schema)).unwrap();
    adder.provision().await.unwrap();
    let client = client().await;
    let worker = adder.worker().start();
    let before = (adder.requests().total(), wal(&client).await);
    let begin = Instant::now();
    let run = adder.submit(1..=items).await.unwrap();
    assert_eq!(run.result().await.unwrap(), items * (items + 1));
    let took = begin.elapsed().as_secs_f64();
    println!(
        "{items} packets of one item: {:.0}/s, {:.2} statements and {} bytes of WAL a packet\n{}",
        items as f64 / took,
        (adder.requests().total() - before.0) as f64 / items as f64,
        (wal(&client).await - before.1) / items,
        adder.requests()
    );
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..50 {
        let begin = Instant::now();
        assert_eq!(
            adder.submit(1..=5).await.unwrap().result().await.unwrap(),
            30
        );
        times.push(begin.elapsed());
    }
    times.sort();
    println!(
        "a run of five items: {:?} at the median, {:?} at most",
        times[25], times[49]
    );
    worker.shutdown().await;
}
