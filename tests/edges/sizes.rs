//! Messages that are too large for their queue.

use std::sync::Arc;

use catchment::backends::memory::MemoryQueues;
use catchment::{Backend, Error, Pipeline, Stage};
use futures::stream;

use crate::common::*;

/// A store whose queues take bodies up to this size, and everything that was sent to them.
fn small_queues(limit: usize) -> (Store, Arc<Record>, Backend) {
    let store = Store::with_queues(MemoryQueues::new().max_body(limit));
    let record = Arc::new(Record::default());
    let backend = store.hooked(record.clone());
    (store, record, backend)
}

#[tokio::test(start_paused = true)]
async fn packets_are_cut_by_their_bytes() {
    const LIMIT: usize = 2_000;
    let pipeline = Pipeline::new()
        .then(|text: String| ok(text.len() as u64))
        .with(Stage::new().packet_size(50))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::new().fan_in(3));
    let items: Vec<String> = (0..200).map(|n| "x".repeat(100 + n)).collect();
    let expected: u64 = items.iter().map(|item| item.len() as u64).sum();
    for as_stream in [false, true] {
        let (_, record, backend) = small_queues(LIMIT);
        let deployment = pipeline.deploy("cut", backend).unwrap();
        let worker = deployment.worker().start();
        let run = match as_stream {
            false => deployment.submit(items.clone()).await.unwrap(),
            true => deployment
                .submit_stream(stream::iter(items.clone()))
                .await
                .unwrap(),
        };
        assert_eq!(soon(run.result()).await.unwrap(), expected);
        let sent = record.sent();
        assert!(sent.iter().all(|(_, body)| body.len() <= LIMIT));
        let packets = sent
            .iter()
            .filter(|(queue, _)| queue == "cut--map-0")
            .count();
        assert!(
            (21..=60).contains(&packets),
            "{packets} packets, and 4 without a limit"
        );
        let status = run.status().await.unwrap();
        assert_eq!((status.items, status.items_done), (Some(200), 200));
        assert_eq!(
            (status.packets, status.packets_done),
            (Some(packets as u64), packets as u64)
        );
        drop(worker);
    }
}

/// That the first packet is small says nothing about the others.
#[tokio::test(start_paused = true)]
async fn packets_are_cut_where_only_later_items_are_large() {
    const LIMIT: usize = 2_000;
    let items: Vec<String> = (0..200)
        .map(|n| "x".repeat(if n < 100 { 1 } else { 900 }))
        .collect();
    let expected: u64 = items.iter().map(|item| item.len() as u64).sum();
    let (_, record, backend) = small_queues(LIMIT);
    let deployment = Pipeline::new()
        .then(|text: String| ok(text.len() as u64))
        .with(Stage::new().packet_size(10))
        .reduce(|| 0, |a, b| a + b)
        .deploy("cut", backend)
        .unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(items).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), expected);
    assert!(record.sent().iter().all(|(_, body)| body.len() <= LIMIT));
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn an_item_that_is_too_large_is_an_error_that_names_its_packet_its_size_and_the_limit() {
    let pipeline = Pipeline::new().then(ok::<String>).count();
    for as_stream in [false, true] {
        let (_, _, backend) = small_queues(2_000);
        let deployment = pipeline.deploy("large", backend).unwrap();
        let worker = deployment.worker().start();
        let items: Vec<String> = (0..20)
            .map(|n| "x".repeat(if n == 13 { 5_000 } else { 3 }))
            .collect();
        let error = match as_stream {
            false => soon(deployment.submit_as("run", items)).await.unwrap_err(),
            true => soon(deployment.submit_stream_as("run", stream::iter(items)))
                .await
                .unwrap_err(),
        };
        let Error::TooLarge {
            what, size, limit, ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(what, "packet 13 (item 13)");
        assert!((5_000..5_500).contains(size), "{size}");
        assert_eq!(*limit, 2_000);
        assert!(error.to_string().contains("references"), "{error}");
        assert!(!error.is_retryable());
        // A waiter in another process gets the error.
        let failed = soon(deployment.attach("run").result()).await.unwrap_err();
        assert!(
            failed.to_string().contains("packet 13 (item 13)"),
            "{failed}"
        );
        drop(worker);
    }
}

#[tokio::test(start_paused = true)]
async fn an_output_that_is_too_large_is_a_dead_letter_that_says_so() {
    let (store, _, backend) = small_queues(2_000);
    let deployment = Pipeline::new()
        .then(|n: u64| ok("x".repeat(if n == 3 { 5_000 } else { 3 })))
        .with(Stage::new())
        .then(ok)
        .count()
        .deploy("large", backend)
        .unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..10).await.unwrap();
    let error = soon(run.result()).await.unwrap_err();
    let Error::Failed { failure, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(
        (failure.stage.as_str(), failure.message.as_str()),
        ("map-0", "packet 3")
    );
    assert!(failure.error.contains("limit is 2000"), "{}", failure.error);
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(store.depth(&deployment).await.dead, 1);
    drop(worker);
}
