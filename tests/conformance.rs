//! The memory backend keeps the contracts, alone and inside fault wrappers that are set to do
//! nothing.

use std::sync::Arc;

use catchment::backends::memory::{MemoryQueues, MemoryScratchpad};
use catchment::queue::Queues;
use catchment::scratchpad::Scratchpad;
use catchment::testing::faults::{
    Chaos, Copies, Crash, Duplicate, Flaky, Heartbeats, Rates, Shuffle, When,
};
use catchment::testing::queue::Capabilities;
use catchment::testing::{queue, scratchpad};

fn memory_queues() -> Arc<dyn Queues> {
    Arc::new(MemoryQueues::new())
}

fn memory_scratchpad() -> Arc<dyn Scratchpad> {
    Arc::new(MemoryScratchpad::new())
}

async fn check_queues(queues: Arc<dyn Queues>) {
    queue::conformance(queues, &Capabilities::new()).await;
}

#[tokio::test(start_paused = true)]
async fn queues_in_memory() {
    check_queues(memory_queues()).await;
}

#[tokio::test(start_paused = true)]
async fn queues_in_memory_with_little_room_and_small_bodies() {
    let queues = MemoryQueues::with_capacity(1, 1).max_body(1_000);
    check_queues(Arc::new(queues)).await;
}

#[tokio::test(start_paused = true)]
async fn a_scratchpad_in_memory() {
    scratchpad::conformance(memory_scratchpad()).await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_does_not_crash() {
    let crash = Crash::new(None, When::Before);
    check_queues(crash.queues(memory_queues())).await;
    scratchpad::conformance(crash.scratchpad(memory_scratchpad())).await;
    assert!(crash.calls() > 0 && !crash.has_crashed());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_never_fails() {
    let flaky = Flaky::new(1, 0.0);
    check_queues(flaky.queues(memory_queues())).await;
    scratchpad::conformance(flaky.scratchpad(memory_scratchpad())).await;
    assert_eq!(flaky.failures(), 0);
}

#[tokio::test(start_paused = true)]
async fn queues_without_duplicates() {
    check_queues(Duplicate::new(Copies::None).queues(memory_queues())).await;
}

#[tokio::test(start_paused = true)]
async fn queues_that_are_not_shuffled() {
    check_queues(Shuffle::new(None).queues(memory_queues())).await;
}

#[tokio::test(start_paused = true)]
async fn queues_in_another_order() {
    check_queues(Shuffle::new(Some(7)).queues(memory_queues())).await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_that_are_kept() {
    check_queues(Heartbeats::Kept.queues(memory_queues())).await;
}

#[tokio::test(start_paused = true)]
async fn chaos_without_faults() {
    let chaos = Chaos::new(1, Rates::none());
    check_queues(chaos.queues(memory_queues())).await;
    scratchpad::conformance(chaos.scratchpad(memory_scratchpad())).await;
    assert_eq!(chaos.counts().values().sum::<u64>(), 0);
}
