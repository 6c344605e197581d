//! The backends keep the contracts that those in memory keep.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use catchment::backends::dynamodb::DynamoDbScratchpad;
use catchment::backends::sqs::SqsQueues;
use catchment::queue::Queues;
use catchment::scratchpad::{Attempt, FailureReport, PacketPlan, RunRecord, Scratchpad, Verdict};
use catchment::testing::queue::Capabilities;
use catchment::testing::{Scenario, queue, scratchpad};
use futures::StreamExt;

use crate::common::{Tables, config, ministack, unique};

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
#[ignore = "needs the emulators that scripts/test starts"]
async fn queues_on_ministack() {
    let queues: Arc<dyn Queues> = Arc::new(SqsQueues::new(&config(&ministack())));
    let capabilities = Capabilities::new()
        .visibility_timeout(Duration::from_secs(6))
        .exact_depth(false);
    run(queue::scenarios(&queues, &capabilities)).await;
}

async fn scratchpad_on(tables: Tables) {
    let scratchpad = DynamoDbScratchpad::new(&config(&tables.endpoint()));
    let bound = scratchpad.bind(&unique("conformance"));
    let scratchpad = bound.expect("its tables are named after the deployment");
    run(scratchpad::scenarios(&scratchpad)).await;
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn a_scratchpad_on_ministack() {
    scratchpad_on(Tables::Ministack).await;
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn a_scratchpad_on_dynamodb_local() {
    scratchpad_on(Tables::DynamoDbLocal).await;
}

/// The client repeats a write whose answer was lost, and so does the library.
async fn attempts_on(tables: Tables) {
    let scratchpad = DynamoDbScratchpad::new(&config(&tables.endpoint()));
    let bound = scratchpad.bind(&unique("attempts"));
    let scratchpad = bound.expect("its tables are named after the deployment");
    scratchpad.provision().await.unwrap();
    let plan = PacketPlan::Fixed(10);
    let record = RunRecord::new("run", SystemTime::now(), "parse", "sum", 32, plan);
    scratchpad.begin(&record).await.unwrap();
    let mut on_record = Vec::new();
    for number in 1..=3 {
        let at = UNIX_EPOCH + Duration::from_secs(u64::from(number));
        let attempts = vec![
            Attempt::new(number, at, "bad"),
            Attempt::new(number, at, "worse"),
        ];
        on_record.extend(attempts.clone());
        let report =
            FailureReport::new(record.key(), "parse", "packet 3", attempts, Verdict::Retry);
        for _ in 0..2 {
            let log = scratchpad.record(&report).await.unwrap();
            assert_eq!(log.attempts, on_record);
        }
    }
    scratchpad.deprovision().await.unwrap();
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn an_attempt_recorded_twice_is_on_record_once_on_ministack() {
    attempts_on(Tables::Ministack).await;
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn an_attempt_recorded_twice_is_on_record_once_on_dynamodb_local() {
    attempts_on(Tables::DynamoDbLocal).await;
}
