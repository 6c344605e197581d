//! Requests are billed: writes that belong together share one, and none waits for others that will
//! not come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use catchment::Stage;
use tokio::time::Instant;

use super::*;
use crate::common::*;

/// A service that charges for requests, and counts the writes of partial results, and the requests
/// that send packets to another stage.
#[derive(Default)]
struct Service {
    arrivals: AtomicUsize,
    sent_on: AtomicUsize,
}

#[async_trait]
impl Hook for Service {
    async fn before(&self, call: &Call<'_>) -> Act {
        match call {
            Call::Arrive(_) => {
                self.arrivals.fetch_add(1, SeqCst);
                Act::Late(Duration::from_millis(5))
            }
            Call::Send("sum--second", _) => {
                self.sent_on.fetch_add(1, SeqCst);
                Act::Late(Duration::from_millis(5))
            }
            _ => Act::Go,
        }
    }

    fn batch(&self) -> Option<usize> {
        Some(10)
    }
}

/// Each item in a packet of its own, two at once. Returns the writes of partial results, and how
/// long it all took.
async fn run(items: u64, takes: Duration) -> (usize, Duration) {
    let stage = Stage::new().packet_size(1).concurrency(2);
    let (pipeline, _) = slow(takes, stage);
    let service = Arc::new(Service::default());
    let backend = Store::new().hooked(Arc::clone(&service) as Arc<dyn Hook>);
    let sum = pipeline.deploy("sum", backend).unwrap();
    let _worker = sum.worker().start();
    let started = Instant::now();
    let run = sum.submit(0..items).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), items * (items - 1) / 2);
    (service.arrivals.load(SeqCst), started.elapsed())
}

#[tokio::test(start_paused = true)]
async fn partial_results_wait_for_their_siblings_while_others_are_at_work() {
    let (writes, _) = run(120, Duration::from_millis(20)).await;
    assert!(
        writes <= 30,
        "{writes} writes for 60 pairs that end together"
    );
}

#[tokio::test(start_paused = true)]
async fn packets_go_on_to_the_next_stage_together() {
    let service = Arc::new(Service::default());
    let twenty = Duration::from_millis(20);
    let first = Stage::new().packet_size(1).concurrency(2);
    let pipeline = Pipeline::new()
        .then(move |n: u64| async move {
            sleep(twenty).await;
            ok(n).await
        })
        .with(first)
        .then(ok::<u64>)
        .with(Stage::named("second"))
        .count();
    let backend = Store::new().hooked(Arc::clone(&service) as Arc<dyn Hook>);
    let sum = pipeline.deploy("sum", backend).unwrap();
    let _worker = sum.worker().start();
    let run = sum.submit(0..120).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), 120);
    let sent = service.sent_on.load(SeqCst);
    assert!(sent <= 30, "{sent} requests for 60 pairs that end together");
}

/// The requests on two queues. Where none is billed, a call is one and waits for no other: what shares it was worked on
/// together.
#[derive(Default)]
struct Calls {
    batch: Option<usize>,
    sent_on: AtomicUsize,
    acknowledged: AtomicUsize,
    asked_for_room: AtomicUsize,
}

#[async_trait]
impl Hook for Calls {
    async fn before(&self, call: &Call<'_>) -> Act {
        let (count, messages) = match call {
            Call::Send("sum--second", sent) => (&self.sent_on, sent.len()),
            Call::Acknowledge("sum--first", receipts) => (&self.acknowledged, receipts.len()),
            Call::Room("sum--second") => (&self.asked_for_room, 1),
            _ => return Act::Go,
        };
        let requests = self.batch.map_or(1, |batch| messages.div_ceil(batch));
        count.fetch_add(requests, SeqCst);
        Act::Go
    }

    fn batch(&self) -> Option<usize> {
        self.batch
    }
}

/// A thousand packets through two CPU-bound stages. Returns the requests that send to the second, that acknowledge at the
/// first, and that ask the second for room.
async fn requests_between_stages(batch: Option<usize>) -> [usize; 3] {
    let pipeline = Pipeline::new()
        .map(|n: u64| n)
        .with(Stage::named("first").packet_size(1).concurrency(2))
        .map(|n| n)
        .with(Stage::named("second"))
        .reduce(|| 0, |a, b| a + b);
    let calls = Arc::new(Calls {
        batch,
        ..Calls::default()
    });
    let backend = Store::new().hooked(Arc::clone(&calls) as Arc<dyn Hook>);
    let sum = pipeline.deploy("sum", backend).unwrap();
    let run = sum.submit(0..1_000).await.unwrap();
    let _worker = sum.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 499_500);
    let calls = [&calls.sent_on, &calls.acknowledged, &calls.asked_for_room];
    calls.map(|count| count.load(SeqCst))
}

#[tokio::test]
async fn packets_of_a_cpu_bound_stage_go_on_to_the_next_stage_together() {
    let calls = requests_between_stages(None).await;
    // Two at once would be 500 calls each. A slow machine reports what is done more often.
    assert!(calls.iter().all(|count| *count <= 250), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn billed_requests_between_cpu_bound_stages_are_full() {
    let [sent, acknowledged, _] = requests_between_stages(Some(10)).await;
    assert!(
        sent <= 110 && acknowledged <= 110,
        "{sent} requests that send a thousand packets, {acknowledged} that acknowledge them"
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_partial_result_waits_for_nobody() {
    let (_, alone) = run(1, Duration::from_millis(20)).await;
    assert!(alone < Duration::from_millis(50), "{alone:?}");
    // Nor does a packet wait long for a slow sibling.
    let (writes, all) = run(4, MINUTE).await;
    assert_eq!(writes, 2, "{all:?}");
    assert!(all < 2 * MINUTE + SECOND, "{all:?}");
}
