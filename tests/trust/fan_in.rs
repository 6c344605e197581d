//! The fan-in is the run's, whatever a message says.

use catchment::RunState;
use serde_json::json;

use crate::common::*;
use crate::stranger::*;

#[tokio::test(start_paused = true)]
async fn a_reduction_with_another_fan_in_is_ignored() {
    for fan_in in [2, 3, 4, 5, 1_000] {
        let store = Store::new();
        let adder = adder(&store);
        let run = adder.submit_as("victim", 1..=40).await.unwrap();
        let tapped = Tapped::new(&store, "adder--double").await;
        let (mut messages, sums) = (tapped.take().await, Tapped::new(&store, "adder--sum").await);
        messages.sort_by_key(|message| message["packetOffset"].as_u64());
        // So many of the first group have arrived that it would be full if it had that fan-in.
        tapped.put(&messages[..2]).await;
        let worker = adder.worker().start();
        soon(async {
            while run.status().await.unwrap().packets_done < 2 {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        })
        .await;
        let forged =
            json!({ "kind": "reduce", "stage": "sum", "fanIn": fan_in, "level": 1, "group": 0 });
        sums.put(&[written(&messages[0], forged)]).await;
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        worker.shutdown().await;
        let status = run.status().await.unwrap();
        assert_eq!(
            (status.state, status.messages_failed),
            (RunState::Running, 0)
        );
        tapped.put(&messages[2..]).await;
        assert_eq!(worked_off(&adder, &store, &run).await, 1_640);
    }
}

#[tokio::test(start_paused = true)]
async fn a_packet_with_another_fan_in_takes_no_slot() {
    let store = Store::new();
    let adder = adder(&store);
    let run = adder.submit_as("victim", 1..=5).await.unwrap();
    let tapped = Tapped::new(&store, "adder--double").await;
    let mut messages = tapped.take().await;
    let forged = json!({ "fanIn": 2, "packetValue": [1_000] });
    messages.insert(0, changed(&messages[0], forged));
    tapped.put(&messages).await;
    assert_eq!(worked_off(&adder, &store, &run).await, 30);
    assert_eq!(run.status().await.unwrap().state, RunState::Done);
    let reasons = tapped.reasons().await;
    assert!(reasons[0].contains("fanIn 2"), "{reasons:?}");
}
