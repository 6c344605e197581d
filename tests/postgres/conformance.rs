//! The backend keeps the contracts that the one in memory keeps.

use std::sync::Arc;

use catchment::queue::Queues;
use catchment::scratchpad::Scratchpad;
use catchment::testing::queue::Capabilities;
use catchment::testing::{Scenario, queue, scratchpad};
use futures::StreamExt;

use crate::common::database;

/// Concurrent scenarios: most of them wait.
const AT_ONCE: usize = 10;

async fn run(scenarios: Vec<Scenario>) {
    assert!(scenarios.len() >= 25, "the whole suite");
    futures::stream::iter(scenarios)
        .for_each_concurrent(AT_ONCE, async |scenario| {
            let name = scenario.name();
            scenario.run().await;
            println!("{name}");
        })
        .await;
}

#[tokio::test]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn queues() {
    let (queues, _) = database().parts();
    let queues: Arc<dyn Queues> = Arc::new(queues);
    run(queue::scenarios(&queues, &Capabilities::new())).await;
}

#[tokio::test]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn a_scratchpad() {
    let (_, scratchpad) = database().parts();
    let scratchpad = scratchpad.bind("conformance").unwrap();
    run(scratchpad::scenarios(&scratchpad)).await;
}
