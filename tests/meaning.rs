//! Messages that are well-formed, and that the library has not written: the simulation of `examples/torture --hostile`, with a
//! fixed set of seeds and a random one. What must hold is said at `catchment::testing::faults::Stranger`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "common/counting.rs"]
#[allow(dead_code)]
mod counting;
#[path = "../examples/torture/meaning.rs"]
mod meaning;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use catchment::backends::memory::{MemoryQueues, MemoryScratchpad};
use catchment::queue::{Outgoing, QueueOptions, Queues};
use catchment::{Backend, Pipeline, Stage};
use meaning::{Report, simulate};
use serde_json::{Value, json};

fn play(seeds: impl IntoIterator<Item = u64>) -> Report {
    let mut whole = Report::default();
    for seed in seeds {
        whole += simulate(seed);
    }
    println!("{whole:#?}");
    assert_eq!(whole.problems, [""; 0]);
    assert_eq!((whole.wrong, whole.stuck), (0, 0));
    whole
}

#[test]
fn a_fixed_set_of_seeds_changes_no_result_of_a_run_that_was_not_impersonated() {
    let report = play(0..120);
    assert!(report.runs > 500, "{} runs", report.runs);
    assert!(report.sent.len() >= 20, "every kind: {:?}", report.sent);
    for (kind, tally) in &report.sent {
        assert!(tally.sent > 20, "{kind}: {tally:?}");
    }
    // What only a signature could tell does deceive, and is counted as that.
    assert!(
        report.deceived > 0,
        "{} of {}",
        report.deceived,
        report.impersonated
    );
    // A message claims lists of 2^64 values; nothing may make room for them.
    let peak = counting::PEAK.load(Relaxed);
    assert!(peak < 64 << 20, "{peak} bytes");
}

#[test]
fn random_seeds_change_no_result_of_a_run_that_was_not_impersonated() {
    let first = fastrand::u64(..u64::MAX / 2);
    println!("seeds from {first}");
    play(first..first + 60);
}

#[test]
fn a_seed_is_one_run_exactly() {
    for seed in [1, 2, 3, 5, 8, 13] {
        let first = simulate(seed);
        assert!(!first.sent.is_empty(), "{first:?}");
        assert_eq!(simulate(seed), first);
    }
}

/// Found by the seeds above. The worker adds up what the messages at work weigh. A message of another stage weighed what it
/// declared, before it was refused for its stage, and so did one whose values could not be counted, since they were no list: the
/// sum overflowed, and the worker ended.
#[tokio::test(start_paused = true)]
async fn a_message_does_not_weigh_what_it_declares() {
    for fields in [
        json!({ "stage": "again", "packetContains": u64::MAX }),
        json!({ "packetValue": {}, "packetContains": u64::MAX }),
        json!({ "packetValue": null, "packetContains": u64::MAX }),
        json!({ "packetValue": "text", "packetContains": u64::MAX }),
    ] {
        is_not_weighed(&fields).await;
    }
}

async fn is_not_weighed(fields: &Value) {
    let queues = Arc::new(MemoryQueues::new());
    let backend = Backend::new(queues.clone(), Arc::new(MemoryScratchpad::new()));
    let add = Pipeline::new()
        .then(|n: u64| async move { Ok::<_, Infallible>(n * 2) })
        .with(Stage::named("double").packet_size(1))
        .then(|n: u64| async move { Ok::<_, Infallible>(n) })
        .with(Stage::named("again"))
        .reduce(|| 0, |a, b| a + b)
        .deploy("adder", backend)
        .unwrap();
    let run = add.submit_as("a", 1..=5).await.unwrap();
    let options = QueueOptions::default();
    let queue = queues.open("adder--double", &options).await.unwrap();
    let received = queue.receive(1, Duration::ZERO).await.unwrap();
    let mut forged: Value = serde_json::from_slice(&received[0].body).unwrap();
    for (name, value) in fields.as_object().unwrap() {
        forged[name] = value.clone();
    }
    let forged = Outgoing::new(forged.to_string());
    queue.send(vec![forged.clone(), forged]).await.unwrap();
    let receipts = vec![received[0].receipt.clone()];
    queue.release(receipts, Duration::ZERO).await.unwrap();
    let worker = add.worker().start();
    let status = async {
        loop {
            let status = run.status().await.unwrap();
            if status.items_done == 5 {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(60), status).await;
    in_time.expect("the worker goes on");
    worker.shutdown().await;
    assert_eq!(queue.depth().await.unwrap().dead, 2);
}
