//! The deadline of a push handler, at moments when no item is at work.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use catchment::queue::{Queue, QueueOptions, Queues};
use catchment::scratchpad::Attempt;
use catchment::{Deployment, Fate, Handler, Pipeline, Stage};

use crate::store::{Act, Call, On, Store, soon};
use crate::{HOUR, MINUTE, skipping, waiting};

/// The attempts that are on record as failed.
type Recorded = Arc<Mutex<Vec<Attempt>>>;

/// A backend that never answers some calls as long as it `hangs`.
fn hanging(
    store: &Store,
    hangs: &Arc<AtomicBool>,
    which: impl Fn(&Call<'_>) -> bool + Send + Sync + 'static,
) -> (catchment::Backend, Recorded) {
    let recorded = Recorded::default();
    let (note, hangs) = (Arc::clone(&recorded), Arc::clone(hangs));
    let hook = On(move |call: &Call<'_>| {
        if hangs.load(SeqCst) && which(call) {
            return Act::Late(100 * HOUR);
        }
        if let Call::RecordFailure(report) = call {
            note.lock().unwrap().extend(report.attempts.iter().cloned());
        }
        Act::Go
    });
    (store.hooked(Arc::new(hook)), recorded)
}

async fn queue(store: &Store, handler: &Handler) -> Arc<dyn Queue> {
    let options = QueueOptions::default().visibility_timeout(HOUR);
    store
        .queues
        .open(handler.queue_name(), &options)
        .await
        .unwrap()
}

/// Hands what is on the stage's queue to the handler, once.
async fn push(store: &Store, handler: &Handler) {
    let queue = queue(store, handler).await;
    let deliveries = queue.receive(10, 10 * HOUR).await.unwrap();
    assert!(!deliveries.is_empty(), "nothing comes");
    let fates = handler.handle(deliveries.clone(), MINUTE).await;
    for (delivery, fate) in deliveries.into_iter().zip(fates) {
        if fate == Fate::Acknowledge {
            queue.acknowledge(vec![delivery.receipt]).await.unwrap();
        }
    }
}

fn deploy(
    backend: catchment::Backend,
    is_async: bool,
    options: Stage,
    calls: impl Fn(u64) -> Result<u64, &'static str> + Send + Sync + 'static,
) -> Deployment<u64, Vec<u64>> {
    let items = Pipeline::new();
    let items = match is_async {
        true => items.then(move |n: u64| std::future::ready(calls(n))),
        false => items.try_map(calls),
    };
    items
        .with(options)
        .collect()
        .deploy("pushed", backend)
        .unwrap()
}

/// All items are done, and their partial result cannot be written before the deadline.
async fn written_too_late(is_async: bool) {
    let store = Store::new();
    let hangs = Arc::new(AtomicBool::new(true));
    let (backend, recorded) = hanging(&store, &hangs, |call| matches!(call, Call::Arrive(_)));
    let options = skipping(2).packet_size(3);
    let deployment = deploy(backend, is_async, options, Ok);
    let run = deployment.submit(0..3).await.unwrap();
    let handler = deployment.handler("work").unwrap();
    soon(push(&store, &handler)).await;
    let failed: Vec<Attempt> = recorded.lock().unwrap().clone();
    let items: Vec<_> = failed.iter().filter_map(|attempt| attempt.item).collect();
    assert!(items.is_empty(), "items {items:?} were done: {failed:?}");
    hangs.store(false, SeqCst);
    let worker = deployment.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), [0, 1, 2]);
    worker.shutdown().await;
}

/// Once a fault: the item that was begun last fails an attempt.
#[tokio::test(start_paused = true)]
async fn items_that_are_done_fail_no_attempt_at_the_deadline() {
    written_too_late(false).await;
}

#[tokio::test(start_paused = true)]
async fn asynchronous_items_that_are_done_fail_no_attempt_at_the_deadline() {
    written_too_late(true).await;
}

/// Item 0 has failed and waits; at the deadline that cannot be put on record at once.
async fn recorded_too_late(is_async: bool) {
    let store = Store::new();
    let hangs = Arc::new(AtomicBool::new(true));
    let first = AtomicU32::new(0);
    let (backend, recorded) = hanging(&store, &hangs, move |call| {
        matches!(call, Call::RecordFailure(_)) && first.fetch_add(1, SeqCst) == 0
    });
    let options = waiting(skipping(2)).packet_size(3);
    let failures = AtomicU32::new(0);
    let deployment = deploy(backend, is_async, options, move |n| {
        match n == 0 && failures.fetch_add(1, SeqCst) == 0 {
            true => Err("once"),
            false => Ok(n),
        }
    });
    let run = deployment.submit(0..3).await.unwrap();
    let handler = deployment.handler("work").unwrap();
    soon(push(&store, &handler)).await;
    let failed: Vec<Attempt> = recorded.lock().unwrap().clone();
    let wrong: Vec<_> = failed.iter().filter(|one| one.item != Some(0)).collect();
    assert!(wrong.is_empty(), "only item 0 has failed: {failed:?}");
    hangs.store(false, SeqCst);
    let worker = deployment.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), [0, 1, 2]);
    worker.shutdown().await;
}

/// Once a fault: the item that was begun last fails an attempt, though it is done.
#[tokio::test(start_paused = true)]
async fn only_the_item_that_waits_has_failed_at_the_deadline() {
    recorded_too_late(false).await;
}

#[tokio::test(start_paused = true)]
async fn only_the_asynchronous_item_that_waits_has_failed_at_the_deadline() {
    recorded_too_late(true).await;
}

/// Once a fault: an asynchronous item with several values counts as at work when it is done.
#[tokio::test(start_paused = true)]
async fn items_of_several_values_that_are_done_fail_no_attempt_at_the_deadline() {
    let store = Store::new();
    let hangs = Arc::new(AtomicBool::new(true));
    let (backend, recorded) = hanging(&store, &hangs, |call| matches!(call, Call::Arrive(_)));
    let pipeline = Pipeline::new()
        .flat_map(|n: u64| [2 * n, 2 * n + 1])
        .with(Stage::named("spread").packet_size(3))
        .then(|n: u64| std::future::ready(Ok::<_, &str>(n)))
        .with(skipping(2))
        .collect();
    let deployment = pipeline.deploy("pushed", backend).unwrap();
    let run = deployment.submit(0..3).await.unwrap();
    for stage in ["spread", "work"] {
        let handler = deployment.handler(stage).unwrap();
        soon(push(&store, &handler)).await;
    }
    let failed: Vec<Attempt> = recorded.lock().unwrap().clone();
    let items: Vec<_> = failed.iter().filter_map(|attempt| attempt.item).collect();
    assert!(items.is_empty(), "items {items:?} were done: {failed:?}");
    hangs.store(false, SeqCst);
    let worker = deployment.worker().start();
    let all: Vec<u64> = (0..6).collect();
    assert_eq!(soon(run.result()).await.unwrap(), all);
    worker.shutdown().await;
}
