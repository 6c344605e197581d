//! Packets and groups that the run does not have.

use catchment::RunState;
use serde_json::json;

use crate::common::*;
use crate::stranger::*;

/// Its slot is in a group of the run, and beyond the group's size.
#[tokio::test(start_paused = true)]
async fn a_packet_beyond_the_last_one_holds_nothing_up() {
    for (at, packet) in [(0, 7), (5, 7), (0, 31), (0, 32), (3, u64::MAX)] {
        let store = Store::new();
        let adder = adder(&store);
        let run = adder.submit_as("victim", 1..=5).await.unwrap();
        let tapped = Tapped::new(&store, "adder--double").await;
        let mut messages = tapped.take().await;
        let forged = json!({ "packetId": format!("0/{packet}"), "packetValue": [1_000] });
        messages.insert(at, changed(&messages[0], forged));
        tapped.put(&messages).await;
        assert_eq!(
            worked_off(&adder, &store, &run).await,
            30,
            "packet {packet}"
        );
        assert_eq!(run.status().await.unwrap().state, RunState::Done);
    }
}

#[tokio::test(start_paused = true)]
async fn groups_that_the_run_does_not_have_are_not_reduced() {
    let store = Store::new();
    let adder = adder(&store);
    let run = adder.submit_as("victim", 1..=5).await.unwrap();
    let seen = &Tapped::new(&store, "adder--double").await.read().await[0];
    let sums = Tapped::new(&store, "adder--sum").await;
    let groups = [
        (1, 0),
        (1, 1),
        (1, u64::MAX),
        (2, 0),
        (66, 0),
        (66, u64::MAX),
    ];
    let forged = groups.map(|(level, group)| {
        let fields = json!({ "kind": "reduce", "stage": "sum", "level": level, "group": group });
        written(seen, fields)
    });
    sums.put(&forged).await;
    assert_eq!(worked_off(&adder, &store, &run).await, 30);
    assert_eq!(run.status().await.unwrap().messages_failed, 0);
}
