//! Visibility timeouts in the middle of work.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use catchment::testing::faults::Heartbeats;
use catchment::{Backend, Deployment, Pipeline, RunState, Stage};

use super::*;
use crate::common::*;

/// Counts how often each item was begun, and takes a while over it.
fn slow(
    backend: Backend,
    takes: Duration,
    concurrency: usize,
    begun: &Arc<Mutex<Vec<u64>>>,
) -> Deployment<u64, String> {
    let begun = Arc::clone(begun);
    Pipeline::new()
        .then(move |n: u64| {
            begun.lock().unwrap().push(n);
            async move {
                tokio::time::sleep(takes).await;
                ok(format!("{n} ")).await
            }
        })
        .with(
            Stage::named("slow")
                .concurrency(concurrency)
                .visibility_timeout(Duration::from_secs(30)),
        )
        .combine(Concat)
        .with(Stage::new().fan_in(2))
        .deploy("slow", backend)
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn two_workers_that_do_the_same_packets_count_once() {
    let store = Store::new();
    let begun = Arc::default();
    let deployment = slow(
        store.with(|queues| Heartbeats::Ignored.queues(queues)),
        Duration::from_secs(45),
        64,
        &begun,
    );
    // The first worker holds every message when it becomes visible again, and continues.
    let first = deployment.worker().start();
    let run = deployment.submit_as("run", 0..7).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = deployment.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), counting(7));
    let begun: Vec<u64> = begun.lock().unwrap().clone();
    for item in 0..7 {
        let times = begun.iter().filter(|begun| **begun == item).count();
        assert!(
            times >= 2,
            "item {item} was to be done twice, and was {times} times"
        );
    }
    settles(&store, &deployment, 7, "two workers").await;
    drop((first, second));
}

/// Messages at work, and messages that wait in a worker.
#[tokio::test(start_paused = true)]
async fn heartbeats_keep_long_work_from_being_done_twice() {
    for concurrency in [64, 1] {
        let store = Store::new();
        let begun = Arc::default();
        let takes = Duration::from_secs(14 * 60);
        let deployment = slow(store.backend(), takes, concurrency, &begun);
        let workers = [deployment.worker().start(), deployment.worker().start()];
        let run = deployment.submit_as("run", 0..20).await.unwrap();
        assert_eq!(soon(run.result()).await.unwrap(), counting(20));
        let mut begun = begun.lock().unwrap().clone();
        begun.sort_unstable();
        assert_eq!(begun, (0..20).collect::<Vec<_>>());
        drop(workers);
    }
}

/// CPU-bound work keeps a thread, and not the one that heartbeats need.
#[tokio::test(start_paused = true)]
async fn heartbeats_go_on_while_a_function_keeps_its_thread() {
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Mutex::new(blocked);
    let begun = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&begun);
    let deployment = Pipeline::new()
        .map(move |n: u64| {
            count.fetch_add(1, Ordering::SeqCst);
            // Until the test drops the other end.
            let _ = blocked.lock().map(|blocked| blocked.recv());
            n
        })
        .reduce(|| 0, |a, b| a + b)
        .deploy("busy", Backend::memory())
        .unwrap();
    let worker = || deployment.worker().concurrency(1);
    let workers = [worker().start(), worker().start()];
    let run = deployment.submit([5]).await.unwrap();
    // The clock does not move by itself while a thread is busy.
    for _ in 0..10 * 60 {
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(run.status().await.unwrap().state, RunState::Running);
    drop(release);
    assert_eq!(soon(run.result()).await.unwrap(), 5);
    assert_eq!(begun.load(Ordering::SeqCst), 1);
    drop(workers);
}

/// Work on a message that was lost to another worker is stopped, because it would be in vain.
#[tokio::test(start_paused = true)]
async fn work_stops_when_its_message_was_lost() {
    let store = Store::new();
    let finished = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&finished);
    let pipeline = Pipeline::new()
        .then(move |n: u64| {
            let finished = Arc::clone(&count);
            async move {
                tokio::time::sleep(Duration::from_secs(100)).await;
                finished.fetch_add(1, Ordering::SeqCst);
                ok(format!("{n} ")).await
            }
        })
        .combine(Concat);
    let cut_off = Arc::new(AtomicU64::new(0));
    let cut = Arc::clone(&cut_off);
    let hook = On(move |call: &Call<'_>| match call {
        // Out of reach until after the visibility timeout; what then comes through is stale.
        Call::Extend(_) if cut.fetch_add(1, Ordering::SeqCst) < 8 => Act::Fail(outage()),
        _ => Act::Go,
    });
    let lonely = pipeline
        .deploy("slow", store.hooked(Arc::new(hook)))
        .unwrap();
    let healthy = pipeline.deploy("slow", store.backend()).unwrap();
    let first = lonely.worker().start();
    let run = healthy.submit_as("run", [0]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = healthy.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), "0 ");
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(cut_off.load(Ordering::SeqCst) >= 8);
    assert_eq!(finished.load(Ordering::SeqCst), 1);
    drop((first, second));
}
