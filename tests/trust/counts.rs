//! What a message declares is held against the values that it carries.

use serde_json::{Value, json};

use crate::common::*;
use crate::stranger::*;

/// Sends a packet with these fields in place of the first one's before all others, and returns why it was refused and the
/// run's result.
async fn before_the_others(fields: Value) -> (Vec<String>, i64) {
    let store = Store::new();
    let adder = adder(&store);
    let run = adder.submit_as("victim", 1..=5).await.unwrap();
    let tapped = Tapped::new(&store, "adder--double").await;
    let mut messages = tapped.take().await;
    assert_eq!(messages.len(), 5);
    messages.insert(0, changed(&messages[0], fields));
    tapped.put(&messages).await;
    let result = worked_off(&adder, &store, &run).await;
    (tapped.reasons().await, result)
}

#[tokio::test(start_paused = true)]
async fn a_packet_with_more_values_than_it_contains_is_refused() {
    let (reasons, sum) =
        before_the_others(json!({ "packetValue": [1_000_000, 2_000_000, 14] })).await;
    assert_eq!(sum, 30, "{reasons:?}");
    assert!(reasons[0].contains("packetContains"), "{reasons:?}");
    let (reasons, sum) = before_the_others(json!({ "packetValue": [] })).await;
    assert_eq!(sum, 30, "{reasons:?}");
    assert_eq!(reasons.len(), 1);
}

/// Each of them would take another item's place or make the sum of the counts right by accident.
#[tokio::test(start_paused = true)]
async fn counts_that_do_not_agree_are_refused() {
    let most = u64::MAX;
    let cases = [
        json!({ "packetContains": 0, "packetValue": [1_000] }),
        json!({ "packetContains": 3, "packetValue": [1_000] }),
        json!({ "packetContains": most, "packetValue": [1_000] }),
        json!({ "packetSkipped": most, "packetValue": [1_000] }),
        json!({ "packetSkipped": 1, "packetValue": [1_000] }),
        json!({ "packetSkipped": most, "packetContains": 0, "packetValue": [] }),
        json!({ "packetSkipped": most, "packetContains": 1, "packetYields": [1], "packetValue": [1_000] }),
        json!({ "packetYields": [], "packetValue": [1_000] }),
        json!({ "packetYields": [2], "packetValue": [1_000] }),
        json!({ "packetYields": [1, 1], "packetValue": [1_000, 1_000] }),
        json!({ "packetYields": [1, 0], "packetValue": [1_000] }),
        json!({ "packetYields": [u32::MAX, u32::MAX], "packetValue": [1_000] }),
        json!({ "packetOffset": most, "packetValue": [1_000] }),
        json!({ "packetOffset": 5, "packetValue": [1_000] }),
        json!({ "arrayLength": 0, "packetValue": [1_000] }),
    ];
    for fields in cases {
        let (reasons, sum) = before_the_others(fields.clone()).await;
        assert_eq!(sum, 30, "{fields}: {reasons:?}");
        assert_eq!(reasons.len(), 1, "{fields}: {reasons:?}");
    }
}

/// The record has the run's length, and the function does not run on what says another.
#[tokio::test(start_paused = true)]
async fn another_length_than_the_runs_is_refused() {
    for length in [4, 6, u64::MAX] {
        let fields = json!({ "arrayLength": length, "packetOffset": 0, "packetValue": [1_000] });
        let (reasons, sum) = before_the_others(fields).await;
        assert_eq!(sum, 30, "{length}: {reasons:?}");
        let said = format!("arrayLength is {length}, but run victim has 5 items");
        assert!(reasons[0].contains(&said), "{reasons:?}");
    }
    let (reasons, sum) = before_the_others(json!({ "arrayLength": null })).await;
    assert_eq!((sum, reasons.len()), (30, 0), "it may not be known yet");
}
