//! What work costs in statements.

use std::time::Duration;

use catchment::backends::postgres::PostgresBackend;
use catchment::{Deployment, Pipeline, Stage};
use futures::StreamExt;
use tokio_postgres::AsyncMessage;

use crate::common::{client, database, database_in, unique, url};

async fn adder(backend: PostgresBackend) -> Deployment<i64, i64> {
    let adder = Pipeline::new()
        .map(|n: i64| n * 2)
        .with(Stage::named("times_two").packet_size(1))
        .reduce(|| 0, |a, b| a + b);
    let adder = adder.deploy("adder", backend).unwrap();
    adder.provision().await.unwrap();
    adder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn a_busy_worker_runs_less_than_half_a_statement_for_each_packet() {
    const PACKETS: i64 = 4_000;
    let adder = adder(database()).await;
    let worker = adder.worker().start();
    let before = adder.requests().total();
    let run = adder.submit(1..=PACKETS).await.unwrap();
    assert_eq!(run.result().await.unwrap(), PACKETS * (PACKETS + 1));
    worker.shutdown().await;
    let statements = adder.requests().total() - before;
    println!(
        "{statements} for {PACKETS} packets, submission and all: {}",
        adder.requests()
    );
    assert!(statements <= PACKETS.unsigned_abs() / 2, "{statements}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn a_small_run_takes_few_statements() {
    const RUNS: u64 = 10;
    let adder = adder(database()).await;
    let worker = adder.worker().start();
    adder.submit(1..=5).await.unwrap().result().await.unwrap();
    let before = adder.requests().total();
    for _ in 0..RUNS {
        let run = adder.submit(1..=5).await.unwrap();
        assert_eq!(run.result().await.unwrap(), 30);
    }
    let statements = (adder.requests().total() - before) / RUNS;
    worker.shutdown().await;
    println!("{statements} for a run of five items: {}", adder.requests());
    assert!(statements <= 40, "{statements}");
}

/// Polls and receives of both stages together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn an_idle_worker_runs_less_than_one_statement_per_second() {
    const SECONDS: u64 = 25;
    let adder = adder(database()).await;
    let worker = adder.worker().start();
    // Polls become rarer for ten seconds.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let before = adder.requests().by_kind();
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    let total = adder.requests().total() - before.values().sum::<u64>();
    println!("{total} in {SECONDS} s: {}", adder.requests());
    assert!(total <= SECONDS, "{total}");
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn notifications_are_few_and_only_sent_if_they_are_wanted() {
    for is_wanted in [false, true] {
        let schema = unique("notices");
        let (listener, mut connection) = tokio_postgres::connect(&url(), tokio_postgres::NoTls)
            .await
            .unwrap();
        let mut messages = futures::stream::poll_fn(move |cx| connection.poll_message(cx));
        let text = format!("LISTEN \"{schema}\"");
        let (listening, _) = tokio::join!(listener.batch_execute(&text), async {
            // The connection is driven until the statement has its answer.
            tokio::time::timeout(Duration::from_millis(500), messages.next()).await
        });
        listening.unwrap();
        let backend = database_in(&schema).notifications(is_wanted);
        let adder = adder(backend).await;
        let worker = adder.worker().start();
        let begin = tokio::time::Instant::now();
        for _ in 0..30 {
            let run = adder.submit(1..=5).await.unwrap();
            assert_eq!(run.result().await.unwrap(), 30);
        }
        let most = begin.elapsed().as_millis() / 100 + 1;
        let listeners = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN \"{schema}\"' AND pid <> pg_backend_pid()"
        );
        let others: i64 = client()
            .await
            .query_one(&listeners, &[])
            .await
            .unwrap()
            .get(0);
        // This test's own is one.
        assert_eq!(others, 1 + i64::from(is_wanted));
        worker.shutdown().await;
        let mut heard = 0;
        let next = || Duration::from_secs(1);
        while let Ok(Some(message)) = tokio::time::timeout(next(), messages.next()).await {
            heard += u128::from(matches!(message, Ok(AsyncMessage::Notification(_))));
        }
        println!("{heard} notifications, {most} at most");
        match is_wanted {
            true => assert!(heard >= 1 && heard <= most, "{heard} of {most}"),
            false => assert_eq!(heard, 0),
        }
    }
}
