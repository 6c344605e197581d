//! Bytes that this library has not written: no panic, no endless retry, a dead letter or a clear
//! error each time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use catchment::scratchpad::{RunRecord, Scratchpad};
use catchment::testing::hostile;
use catchment::{Pipeline, Stage};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use common::*;

const MESSAGE: &str = r#"{"version":1,"kind":"map","deployment":"hostile","stage":"double","arrayId":"a","generation":"6b1f00c2a47e9002","fanIn":2,"packetId":"0/0","packetOffset":0,"arrayLength":4,"packetContains":2,"packetSkipped":1,"packetYields":[1,0,1],"packetValue":[1,2]}"#;
const GROUP: &str = r#"{"version":1,"kind":"reduce","deployment":"hostile","stage":"sum","arrayId":"a","generation":"6b1f00c2a47e9002","fanIn":2,"level":1,"group":0}"#;
const RECORD: &str = r#"{"arrayId":"a","generation":"6b1f00c2a47e9002","createdAt":1,"firstStage":"double","reduceStage":"sum","fanIn":2,"plan":{"fixed":3},"arrayLength":4,"packets":2}"#;
const REASON: &str = r#"{"id":"50b03fa9-4e54-4145-885b-a1136ed84e26","item":3,"error":"bad","attempts":[{"number":1,"at":2,"item":3,"error":"bad"}]}"#;

#[test]
fn what_is_mutated_below_is_good_as_it_stands() {
    hostile::message(MESSAGE.as_bytes()).unwrap();
    hostile::message(GROUP.as_bytes()).unwrap();
    hostile::packet(MESSAGE.as_bytes()).unwrap();
    hostile::run_record(RECORD.as_bytes()).unwrap();
    let letter = hostile::dead_letter(MESSAGE.as_bytes(), REASON);
    assert_eq!((letter.item, letter.error.as_str()), (Some(3), "bad"));
}

/// Any bytes, and good ones with a few pieces replaced, repeated or cut out.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..8),
        prop::sample::select(vec![
            "null",
            "-1",
            "0",
            "1e400",
            "18446744073709551615",
            "18446744073709551616",
            "[]",
            "{}",
            "\"",
            "\\ud800",
            "[[[[[[[[",
            "\u{0}",
            ",",
            ":",
            "99999999999999999999/0",
            "\"../../etc\"",
            "{\"fixed\":0}",
            "true",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    let good = prop::sample::select(vec![MESSAGE, GROUP, RECORD, REASON]);
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..24_usize, piece), 1..5);
    let mutated = (good, edits).prop_map(|(good, edits)| {
        let mut bytes = good.as_bytes().to_vec();
        for (at, cut, piece) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, piece);
        }
        bytes
    });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..300), 4 => mutated]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_decoder_answers(bytes in bytes()) {
        let answers = [hostile::message(&bytes), hostile::packet(&bytes), hostile::run_record(&bytes)];
        for problem in answers.into_iter().filter_map(Result::err) {
            prop_assert!(!problem.is_empty());
        }
        let letter = hostile::dead_letter(&bytes, &String::from_utf8_lossy(&bytes));
        prop_assert_eq!(letter.body, bytes);
    }
}

/// However deep a value is, its message is read without recursion; its type may refuse it as too
/// deep.
#[tokio::test(start_paused = true)]
async fn deep_nesting_is_an_error_and_not_a_stack_overflow() {
    let deep = |depth: usize| {
        let value = "[".repeat(depth) + &"]".repeat(depth);
        let message = MESSAGE.replace(r#""deployment":"hostile""#, r#""deployment":"deep""#);
        let message = message.replace(r#""packetYields":[1,0,1]"#, r#""packetYields":[1,0,0]"#);
        message.replace("[1,2]", &value)
    };
    for depth in [100, 1_000, 1_000_000] {
        hostile::message(deep(depth).as_bytes()).unwrap();
    }
    let store = Store::new();
    let deployment = Pipeline::new()
        .then(ok::<serde_json::Value>)
        .with(Stage::named("double"))
        .count()
        .deploy("deep", store.backend())
        .unwrap();
    // Of a run that is not on record, no value would be read.
    let record = RunRecord::decode(RECORD.as_bytes()).unwrap();
    let bound = store.scratchpad.bind("deep").unwrap();
    bound.begin(&record).await.unwrap();
    let queue = store.queue("deep--double").await;
    for depth in [1_000, 1_000_000] {
        queue.send(vec![deep(depth).into()]).await.unwrap();
    }
    let worker = deployment.worker().start();
    tokio::time::sleep(std::time::Duration::from_secs(30 * 60)).await;
    let letters = deployment.dead_letters().limit(10_000).await.unwrap();
    let errors: Vec<_> = letters.iter().map(|letter| &letter.error).collect();
    assert_eq!(letters.len(), 2, "{errors:?}");
    for error in errors {
        assert!(error.contains("recursion limit exceeded"), "{error}");
    }
    drop(worker);
}

/// Hostile messages among those of a run: the run is right, each hostile message becomes a dead
/// letter with a reason or is ignored as one of an unknown run, and the queues are empty at the
/// end.
#[tokio::test(start_paused = true)]
async fn a_worker_outlives_hostile_messages() {
    let store = Store::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let deployment = Pipeline::new()
        .then(move |n: u64| {
            counted.fetch_add(1, Ordering::Relaxed);
            ok(n * 2)
        })
        .with(Stage::named("double").packet_size(2))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum").fan_in(2))
        .deploy("hostile", store.backend())
        .unwrap();
    let run = deployment.submit_as("mine", 1..=20).await.unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut sent = 0;
    for stage in ["double", "sum"] {
        let queue = store.queue(&format!("hostile--{stage}")).await;
        for _ in 0..500 {
            let body = bytes().new_tree(&mut runner).unwrap().current();
            queue.send(vec![body.into()]).await.unwrap();
            sent += 1;
        }
    }
    let worker = deployment.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 420);
    tokio::time::sleep(std::time::Duration::from_secs(30 * 60)).await;
    let depth = store.depth(&deployment).await;
    assert_eq!((depth.ready, depth.in_flight, depth.delayed), (0, 0, 0));
    let letters = deployment.dead_letters().limit(10_000).await.unwrap();
    println!("{} of {sent} are dead letters", letters.len());
    assert!(letters.len() > sent / 2);
    assert!(letters.iter().all(|letter| !letter.error.is_empty()));
    assert!(calls.load(Ordering::Relaxed) >= 20);
    drop(worker);
}
