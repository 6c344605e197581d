//! The number of requests of a run, which is what it costs.

use catchment::pipeline::One;
use catchment::{Backend, Pipeline, Stage};

use crate::common::{config, ministack, unique};

/// Submits, works and waits at the same time, in one process, and returns the requests all of it
/// took.
async fn requests_of(items: i64, packet_size: Option<u32>) -> u64 {
    let stage = Stage::named("times_two");
    let stage = match packet_size {
        Some(size) => stage.packet_size(size),
        None => stage,
    };
    let backend = Backend::aws(&config(&ministack()));
    let adder = Pipeline::new()
        .map(|n: i64| n * 2)
        .with(stage)
        .reduce(|| 0, |sum, n| sum + n);
    let adder = adder.deploy(&unique("requests"), backend.clone()).unwrap();
    adder.provision().await.unwrap();
    let before = adder.requests().total();
    let worker = adder.worker().start();
    let run = adder.submit(1..=items).await.unwrap();
    assert_eq!(run.result().await.unwrap(), items * (items + 1));
    worker.shutdown().await;
    println!(
        "{items} items, packets of {packet_size:?}: {}",
        adder.requests()
    );
    adder.requests().total() - before
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn a_million_items_take_at_most_four_thousand_requests() {
    let requests = requests_of(1_000_000, None).await;
    assert!(requests <= 4_000, "{requests} requests");
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn one_item_a_packet_takes_at_most_two_requests_an_item() {
    let requests = requests_of(10_000, Some(1)).await;
    assert!(requests <= 20_000, "{requests} requests");
}

/// The requests of a run of 10,000 items that send messages.
async fn sends_of(pipeline: Pipeline<i64, i64, One>) -> u64 {
    let backend = Backend::aws(&config(&ministack()));
    let deployment = pipeline.deploy(&unique("row"), backend).unwrap();
    deployment.provision().await.unwrap();
    let sends = || -> u64 {
        let kinds = deployment.requests().by_kind();
        let sends = kinds.iter().filter(|(kind, _)| kind.contains("Send"));
        sends.map(|(_, count)| count).sum()
    };
    let before = sends();
    let run = deployment.submit(1..=10_000).await.unwrap();
    let worker = deployment.worker().start();
    run.result().await.unwrap();
    worker.shutdown().await;
    println!("{}", deployment.requests());
    sends() - before
}

/// Functions in a row are one stage: the same messages, whose number does not depend on time.
#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn map_filter_map_sends_as_much_as_one_map() {
    let one = Pipeline::new()
        .map(|n: i64| n * 2)
        .reduce(|| 0, |a, b| a + b);
    let row = Pipeline::new()
        .map(|n: i64| n * 2)
        .filter(|n| n % 4 == 0)
        .map(|n| n + 1)
        .reduce(|| 0, |a, b| a + b);
    let (one, row) = (sends_of(one).await, sends_of(row).await);
    // Messages that ask for a reduction may share a request or not.
    assert!(
        one.abs_diff(row) <= one / 4,
        "one map {one}, three functions {row}"
    );
}
