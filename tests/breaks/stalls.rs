//! A message that has to be at work alone must not stop a worker for as long as items wait.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use catchment::scratchpad::Verdict;
use catchment::{BoxError, Deployment, Pipeline, Run};

use crate::alone::outlive;
use crate::gate::{Gate, Opens};
use crate::store::{Act, Call, On, Store, soon};
use crate::{HOUR, SECOND, skipping, waiting};

/// Item 0, and every item from 100 on, fails at its first call.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<u64>>>);

impl Calls {
    fn call(&self, n: u64) -> Result<u64, BoxError> {
        let mut calls = self.0.lock().unwrap();
        calls.push(n);
        match calls.iter().filter(|call| **call == n).count() == 1 && (n == 0 || n >= 100) {
            true => Err("once".into()),
            false => Ok(n),
        }
    }

    fn of(&self, n: u64) -> usize {
        let calls = self.0.lock().unwrap();
        calls.iter().filter(|call| **call == n).count()
    }
}

fn deploy(store: &Store, is_async: bool, calls: &Calls) -> Deployment<u64, Vec<u64>> {
    let calls = calls.clone();
    let items = Pipeline::new();
    let items = match is_async {
        true => items.then(move |n: u64| std::future::ready(calls.call(n))),
        false => items.try_map(move |n: u64| calls.call(n)),
    };
    let backoff = catchment::Backoff::exponential(9 * HOUR, 9 * HOUR);
    let options = waiting(skipping(3))
        .backoff(backoff)
        .packet_size(2)
        .concurrency(4);
    let pipeline = items.with(options).collect();
    pipeline.deploy("stalls", store.backend()).unwrap()
}

async fn done(run: &Run<Vec<u64>>, expected: impl Iterator<Item = u64>) {
    let expected: Vec<u64> = expected.collect();
    assert_eq!(soon(run.result()).await.unwrap(), expected);
}

/// A message that is alone at work goes back while its item waits.
async fn a_suspect_waits(is_async: bool) {
    let (store, calls) = (Store::new(), Calls::default());
    let deployment = deploy(&store, is_async, &calls);
    let suspect = deployment.submit_as("suspect", 0..2).await.unwrap();
    outlive(&store, &deployment, "work", "suspect", 2).await;
    let worker = deployment.worker().start();
    tokio::time::sleep(SECOND).await;
    assert_eq!(calls.of(0), 1, "the suspect's item waits");
    let other = deployment.submit(10..20).await.unwrap();
    done(&other, 10..20).await;
    assert_eq!(calls.of(0), 1, "another run waits for the suspect");
    done(&suspect, 0..2).await;
    worker.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_suspect_that_waits_stops_no_other_run() {
    a_suspect_waits(false).await;
}

#[tokio::test(start_paused = true)]
async fn an_asynchronous_suspect_that_waits_stops_no_other_run() {
    a_suspect_waits(true).await;
}

/// A suspect has to wait until others are not at work. Those whose items wait are not.
async fn a_suspect_comes(is_async: bool) {
    let (store, calls) = (Store::new(), Calls::default());
    let deployment = deploy(&store, is_async, &calls);
    let suspect = deployment.submit_as("suspect", 2..4).await.unwrap();
    outlive(&store, &deployment, "work", "suspect", 2).await;
    // Out of the way, until the others wait.
    let queue = store.queue("stalls--work").await;
    let held = queue.receive(1, SECOND).await.unwrap();
    let worker = deployment.worker().start();
    let first = deployment.submit(100..102).await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(calls.of(100), 1);
    let held = held.into_iter().map(|delivery| delivery.receipt);
    queue
        .release(held.collect(), std::time::Duration::ZERO)
        .await
        .unwrap();
    tokio::time::sleep(SECOND).await;
    let other = deployment.submit(10..20).await.unwrap();
    done(&other, 10..20).await;
    assert_eq!(
        calls.of(100),
        1,
        "another run waits for the one whose items wait"
    );
    done(&suspect, 2..4).await;
    done(&first, 100..102).await;
    worker.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_suspect_does_not_wait_for_items_that_wait() {
    a_suspect_comes(false).await;
}

/// Once a fault: an asynchronous packet counts as at work while its items wait: the suspect waits for it, and everything else for
/// the suspect.
#[tokio::test(start_paused = true)]
async fn a_suspect_does_not_wait_for_asynchronous_items_that_wait() {
    a_suspect_comes(true).await;
}

/// Once a fault: a packet whose items are due waits for a suspect, and does not go back when the worker is shut down: the count of
/// its failed attempts is lost.
#[tokio::test(start_paused = true)]
async fn a_packet_that_waits_for_a_suspect_goes_back_at_shutdown() {
    let (gate, mut holds) = Gate::new();
    let _opens = Opens(gate.clone());
    let (note, fails) = (Arc::new(Mutex::new(Vec::new())), AtomicU32::new(0));
    let recorded = Arc::clone(&note);
    let hook = On(move |call: &Call<'_>| {
        if let Call::RecordFailure(report) = call
            && report.verdict == Verdict::Retry
        {
            let items = report.attempts.iter().map(|one| (one.item, one.number));
            note.lock().unwrap().extend(items);
        }
        Act::Go
    });
    let pipeline = Pipeline::new()
        .try_map(move |n: u64| match n {
            0 if fails.fetch_add(1, SeqCst) == 0 => Err("once"),
            10 => {
                gate.hold();
                Ok(n)
            }
            n => Ok(n),
        })
        .with(waiting(skipping(3)).packet_size(2).timeout(100 * HOUR))
        .collect();
    let store = Store::new();
    let deployment = pipeline
        .deploy("stalls", store.hooked(Arc::new(hook)))
        .unwrap();
    deployment.submit_as("suspect", 10..12).await.unwrap();
    outlive(&store, &deployment, "work", "suspect", 2).await;
    let queue = store.queue("stalls--work").await;
    let held = queue.receive(1, SECOND).await.unwrap();
    let worker = deployment
        .worker()
        .concurrency(2)
        .grace_period(5 * SECOND)
        .start();
    deployment.submit(0..2).await.unwrap();
    tokio::time::sleep(SECOND).await;
    let held = held.into_iter().map(|delivery| delivery.receipt);
    queue
        .release(held.collect(), std::time::Duration::ZERO)
        .await
        .unwrap();
    holds.recv().await.unwrap();
    // Past the first item's wait.
    for _ in 0..61 {
        tokio::time::advance(60 * SECOND).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    let mut shutdown = Box::pin(worker.shutdown());
    for _ in 0..20 {
        tokio::select! {
            biased;
            _ = &mut shutdown => break,
            () = tokio::task::yield_now() => {}
        }
        tokio::time::advance(SECOND).await;
    }
    let recorded = recorded.lock().unwrap();
    assert!(recorded.contains(&(Some(0), 1)), "{recorded:?}");
}
