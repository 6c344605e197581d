//! Messages that are held are found by their keys, whatever the planner believes of their table.

use std::time::Duration;

use catchment::queue::{Outgoing, QueueOptions, Queues};

use crate::common::{client, database_in, unique};

const MESSAGES: i64 = 2_000;

/// The statistics say that a table has few rows, and it has many dead ones, which nothing may remove.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn dead_rows_are_not_looked_through() {
    let schema = unique("plans");
    let (queues, _) = database_in(&schema).parts();
    let options = QueueOptions::default();
    queues.provision("plans", &options).await.unwrap();
    let queue = queues.open("plans", &options).await.unwrap();
    let old = client().await;
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
        .await
        .unwrap();
    let pass = async |messages: usize| {
        let batch = (0..messages).map(|_| Outgoing::new("x"));
        queue.send(batch.collect()).await.unwrap();
        let mut receipts = Vec::new();
        while receipts.len() < messages {
            // As long as messages' sizes are unknown, few come at once.
            let received = queue.receive(messages, Duration::ZERO).await.unwrap();
            receipts.extend(received.into_iter().map(|held| held.receipt));
        }
        let stale = queue.extend(receipts.clone(), Duration::from_secs(60));
        assert!(stale.await.unwrap().is_empty());
        queue.acknowledge(receipts).await.unwrap();
    };
    for _ in 0..50 {
        pass(1_000).await;
    }
    let looker = client().await;
    let text = format!("ANALYZE \"{schema}\".messages, \"{schema}\".bodies");
    looker.batch_execute(&text).await.unwrap();
    let read = || async {
        // The statistics of a session that has just ended its statements are there at once.
        let text = format!(
            "SELECT pg_stat_force_next_flush(), coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::int8
            FROM pg_stat_user_tables WHERE schemaname = '{schema}' AND relname IN ('messages', 'bodies')"
        );
        let reads = "SELECT coalesce(sum(idx_tup_read), 0)::int8 FROM pg_stat_user_indexes WHERE schemaname = $1";
        let fetched: i64 = looker.query_one(&text, &[]).await.unwrap().get(1);
        let entries: i64 = looker.query_one(reads, &[&schema]).await.unwrap().get(0);
        fetched + entries
    };
    let before = read().await;
    for _ in 0..20 {
        pass(100).await;
    }
    // The backend's sessions report what they have read when they have nothing to do for a second.
    tokio::time::sleep(Duration::from_secs(3)).await;
    pass(1).await;
    let rows = read().await - before;
    // For the most part those of the looks from the beginning, once a second; 56,000 if the planner has its way.
    println!(
        "{} index entries and rows for each message",
        rows / MESSAGES
    );
    assert!(rows < 1_000 * MESSAGES, "{rows}");
    old.batch_execute("COMMIT").await.unwrap();
}
