//! The number of requests of a run, which is what it costs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;

use catchment::pipeline::{Many, One};
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

/// A function that fails once for one item in `failing`.
fn failing_once(failing: i64) -> impl Fn(i64) -> Result<i64, String> + Send + Sync + 'static {
    let failed = Mutex::new(HashSet::new());
    move |n| match n % failing == 0 && failed.lock().unwrap().insert(n) {
        true => Err("not the first time".to_owned()),
        false => Ok(n),
    }
}

/// The requests of a run of 10,000 items with the defaults of packets and waits, by operation.
async fn requests_with_failures(
    what: &str,
    pipeline: Pipeline<i64, i64, Many>,
) -> BTreeMap<String, u64> {
    let sum = pipeline.reduce(|| 0, |a, b| a + b);
    let backend = Backend::aws(&config(&ministack()));
    let deployment = sum.deploy(&unique("failing"), backend).unwrap();
    deployment.provision().await.unwrap();
    let before = deployment.requests().by_kind();
    let run = deployment.submit(1..=10_000).await.unwrap();
    let worker = deployment.worker().start();
    assert_eq!(run.result().await.unwrap(), 50_005_000);
    worker.shutdown().await;
    let mut requests = deployment.requests().by_kind();
    for (kind, earlier) in before {
        *requests.get_mut(&kind).unwrap() -= earlier;
    }
    requests.retain(|_, count| *count > 0);
    let total: u64 = requests.values().sum();
    println!("{what}: {total} requests: {requests:?}");
    deployment.deprovision(deployment.name()).await.unwrap();
    requests
}

/// An item that fails once costs no message and no record: its packet is kept, and arrives by itself a moment later.
#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn one_percent_that_fails_once_costs_an_arrival_each() {
    const NONE: i64 = i64::MAX;
    const ONE_PERCENT: i64 = 100;
    let map = |failing| Pipeline::new().try_map(failing_once(failing));
    let then = |failing| {
        let call = failing_once(failing);
        Pipeline::new().then(move |n| std::future::ready(call(n)))
    };
    for (what, good, bad) in [
        ("try_map", map(NONE), map(ONE_PERCENT)),
        ("then", then(NONE), then(ONE_PERCENT)),
    ] {
        let good = requests_with_failures(&format!("{what}, nothing fails"), good).await;
        let bad = requests_with_failures(&format!("{what}, 1 % fail once"), bad).await;
        let total = |requests: &BTreeMap<String, u64>| requests.values().sum::<u64>();
        let (good_total, bad_total) = (total(&good), total(&bad));
        // A hundred of a thousand packets. Each came back to the queue before, with three requests of its own and more.
        assert!(
            bad_total <= good_total + 250,
            "{what}: {good_total} and {bad_total}"
        );
        for kind in ["SQS ReceiveMessage", "SQS ChangeMessageVisibilityBatch"] {
            let count = |requests: &BTreeMap<String, u64>| requests.get(kind).copied().unwrap_or(0);
            assert!(count(&bad) <= count(&good) + 30, "{what}: {kind}");
        }
    }
}
