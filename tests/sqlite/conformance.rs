//! The file keeps the contracts: on the machine's clock, and on tokio's inside fault wrappers that are set to do nothing.

use std::sync::Arc;
use std::time::Duration;

use catchment::backends::sqlite::SqliteFile;
use catchment::queue::Queues;
use catchment::scratchpad::Scratchpad;
use catchment::testing::faults::{
    Chaos, Copies, Crash, Duplicate, Flaky, Heartbeats, Rates, Shuffle, When,
};
use catchment::testing::queue::Capabilities;
use catchment::testing::{Scenario, queue, scratchpad};

use crate::files::Folder;

/// Runs all scenarios at once, since most of them wait.
async fn at_once(scenarios: Vec<Scenario>) {
    assert!(scenarios.len() >= 25, "the whole suite");
    futures::future::join_all(scenarios.into_iter().map(Scenario::run)).await;
}

#[tokio::test]
async fn queues_in_a_file() {
    let folder = Folder::new();
    let file = SqliteFile::open(folder.path()).unwrap();
    let queues: Arc<dyn Queues> = Arc::new(file.queues());
    let capabilities = Capabilities::new().visibility_timeout(Duration::from_secs(3));
    at_once(queue::scenarios(&queues, &capabilities)).await;
}

#[tokio::test]
async fn a_scratchpad_in_a_file() {
    let folder = Folder::new();
    let file = SqliteFile::open(folder.path()).unwrap();
    let scratchpad: Arc<dyn Scratchpad> = Arc::new(file.scratchpad());
    at_once(scratchpad::scenarios(&scratchpad)).await;
    let bound = scratchpad.bind("bound").unwrap();
    at_once(scratchpad::scenarios(&bound)).await;
}

/// Both suites, on a paused clock.
async fn check(queues: Arc<dyn Queues>, scratchpad: Arc<dyn Scratchpad>) {
    queue::conformance(queues, &Capabilities::new()).await;
    scratchpad::conformance(scratchpad).await;
}

fn parts(folder: &Folder) -> (Arc<dyn Queues>, Arc<dyn Scratchpad>) {
    let file = folder.simulated();
    (Arc::new(file.queues()), Arc::new(file.scratchpad()))
}

#[tokio::test(start_paused = true)]
async fn a_process_that_does_not_crash() {
    let folder = Folder::new();
    let (queues, scratchpad) = parts(&folder);
    let crash = Crash::new(None, When::Before);
    check(crash.queues(queues), crash.scratchpad(scratchpad)).await;
    assert!(crash.calls() > 0 && !crash.has_crashed());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_never_fails() {
    let folder = Folder::new();
    let (queues, scratchpad) = parts(&folder);
    let flaky = Flaky::new(1, 0.0);
    check(flaky.queues(queues), flaky.scratchpad(scratchpad)).await;
    assert_eq!(flaky.failures(), 0);
}

#[tokio::test(start_paused = true)]
async fn chaos_without_faults() {
    let folder = Folder::new();
    let (queues, scratchpad) = parts(&folder);
    let chaos = Chaos::new(1, Rates::none());
    check(chaos.queues(queues), chaos.scratchpad(scratchpad)).await;
    assert_eq!(chaos.counts().values().sum::<u64>(), 0);
}

#[tokio::test(start_paused = true)]
async fn queues_inside_the_other_wrappers() {
    let folder = Folder::new();
    let (queues, _) = parts(&folder);
    for queues in [
        Duplicate::new(Copies::None).queues(Arc::clone(&queues)),
        Shuffle::new(Some(7)).queues(Arc::clone(&queues)),
        Heartbeats::Kept.queues(queues),
    ] {
        queue::conformance(queues, &Capabilities::new()).await;
    }
}
