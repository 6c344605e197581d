//! Whoever completes a run checks what the result stands for, after a reduction too.

use catchment::{Deployment, Pipeline, Stage};
use serde_json::json;

use crate::common::*;
use crate::stranger::*;

fn finishes(store: &Store) -> Deployment<i64, i64> {
    Pipeline::new()
        .map(|n: i64| n * 2)
        .with(Stage::named("double").packet_size(1))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum"))
        .map(|n: i64| n)
        .with(Stage::named("finish"))
        .deploy("adder", store.backend())
        .unwrap()
}

/// Written by somebody who has not seen a message of the run.
#[tokio::test(start_paused = true)]
async fn nobody_completes_a_run_by_its_id_alone() {
    let store = Store::new();
    let adder = finishes(&store);
    let run = adder.submit_as("victim", 1..=5).await.unwrap();
    let forged = json!({
        "version": 1, "kind": "map", "deployment": "adder", "stage": "finish", "arrayId": "victim",
        "fanIn": 32, "packetId": "0/0", "packetContains": 0, "packetValue": [-666],
    });
    let tapped = Tapped::new(&store, "adder--finish").await;
    tapped.put(&[forged]).await;
    // Before anything else is done.
    let worker = adder.worker().stages(["finish"]).start();
    soon(async {
        while tapped.reasons().await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    })
    .await;
    worker.shutdown().await;
    assert_eq!(
        run.status().await.unwrap().messages_failed,
        0,
        "the run goes on"
    );
    assert_eq!(worked_off(&adder, &store, &run).await, 30);
    let reasons = tapped.reasons().await;
    assert!(reasons[0].contains("generation"), "{reasons:?}");
}

#[tokio::test(start_paused = true)]
async fn a_result_that_does_not_stand_for_all_items_is_refused() {
    for (contains, length) in [
        (json!(0), json!(null)),
        (json!(0), json!(5)),
        (json!(0), json!(0)),
        (json!(4), json!(4)),
        (json!(u64::MAX), json!(u64::MAX)),
    ] {
        let store = Store::new();
        let adder = finishes(&store);
        let run = adder.submit_as("victim", 1..=5).await.unwrap();
        let seen = &Tapped::new(&store, "adder--double").await.read().await[0];
        let forged = json!({
            "kind": "map", "stage": "finish", "packetId": "0/0", "packetContains": contains,
            "arrayLength": length, "packetValue": [-666],
        });
        let tapped = Tapped::new(&store, "adder--finish").await;
        tapped.put(&[written(seen, forged)]).await;
        let worker = adder.worker().stages(["finish"]).start();
        soon(async {
            while tapped.reasons().await.is_empty() {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        })
        .await;
        worker.shutdown().await;
        assert_eq!(
            worked_off(&adder, &store, &run).await,
            30,
            "{contains} of {length}"
        );
    }
}
