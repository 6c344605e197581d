//! A message is checked before it is paced: one that declares a lot does not hold up the other runs of a stage.

use std::time::Duration;

use catchment::{Pipeline, Stage};
use serde_json::json;
use tokio::time::Instant;

use crate::common::*;
use crate::stranger::*;

#[tokio::test(start_paused = true)]
async fn a_message_that_declares_more_than_it_carries_is_not_paced() {
    let most = u64::MAX;
    for fields in [
        json!({ "packetContains": most }),
        json!({ "packetContains": 1_000_000_000 }),
        json!({ "packetYields": [u32::MAX] }),
        json!({ "packetYields": vec![u32::MAX; 1_000] }),
        json!({ "packetContains": 1_000, "packetYields": vec![u32::MAX; 1_000] }),
    ] {
        let store = Store::new();
        let paced = Pipeline::new()
            .map(|n: i64| n * 2)
            .with(
                Stage::named("double")
                    .packet_size(1)
                    .rate_limit(1_000, Duration::from_secs(1)),
            )
            .reduce(|| 0, |a, b| a + b)
            .deploy("adder", store.backend())
            .unwrap();
        let victim = paced.submit_as("victim", 1..=5).await.unwrap();
        let tapped = Tapped::new(&store, "adder--double").await;
        let seen = tapped.take().await;
        tapped.put(&[changed(&seen[0], fields.clone())]).await;
        let other = paced.submit_as("other", 1..=5).await.unwrap();
        tapped.put(&seen).await;
        let begin = Instant::now();
        let worker = paced.worker().start();
        assert_eq!(soon(other.result()).await.unwrap(), 30);
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "{fields}: {:?}",
            begin.elapsed()
        );
        worker.shutdown().await;
        assert_eq!(worked_off(&paced, &store, &victim).await, 30);
        assert_eq!(tapped.reasons().await.len(), 1, "{fields}");
    }
}
