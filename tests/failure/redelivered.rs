//! Messages that come again, and what becomes of their copies.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

use catchment::{Deployment, Fate, OnFailure, Pipeline, Stage};
use tokio::time::{Instant, sleep};

use super::*;
use crate::common::*;

async fn look<I, R>(store: &Store, deployment: &Deployment<I, R>, stage: &str) {
    let queue = store
        .queue(&format!("{}--{stage}", deployment.name()))
        .await;
    let seen = queue.receive(1_000, SECOND).await.unwrap();
    assert!(!seen.is_empty());
    let receipts = seen.into_iter().map(|delivery| delivery.receipt);
    queue
        .release(receipts.collect(), Duration::ZERO)
        .await
        .unwrap();
}

/// A copy of a message that succeeded, in front of another map stage.
#[tokio::test(start_paused = true)]
async fn a_copy_of_a_message_that_was_sent_on_is_no_failure() {
    for attempts in [1, 2] {
        let store = Store::new();
        let first = Stage::named("first").attempts(attempts).packet_size(1);
        let items = Pipeline::new()
            .then(ok::<u64>)
            .with(first)
            .then(ok::<u64>)
            .with(Stage::named("second"));
        let deployment = sum(items).deploy("copies", store.backend()).unwrap();
        let run = deployment.submit([1, 2, 3]).await.unwrap();
        let queue = store.queue("copies--first").await;
        let seen = queue.receive(10, SECOND).await.unwrap();
        for delivery in seen {
            for _ in 0..attempts {
                queue
                    .send(vec![delivery.body.clone().into()])
                    .await
                    .unwrap();
            }
            queue
                .release(vec![delivery.receipt], Duration::ZERO)
                .await
                .unwrap();
        }
        for _ in 0..attempts {
            look(&store, &deployment, "first").await;
        }
        let worker = deployment.worker().start();
        assert_eq!(soon(run.result()).await.unwrap(), 6, "{attempts}");
        sleep(10 * MINUTE).await;
        let letters = deployment.dead_letters().await.unwrap();
        assert!(letters.is_empty(), "{attempts}: {letters:?}");
        drop(worker);
    }
}

/// One run's function never returns; another run's messages must go on.
#[tokio::test(start_paused = true)]
async fn a_suspect_that_hangs_does_not_hold_up_others() {
    let store = Store::new();
    let items = Pipeline::new()
        .then(|n: u64| async move {
            sleep(SECOND).await;
            if n == 7 {
                std::future::pending::<()>().await;
            }
            ok(n).await
        })
        .with(
            Stage::named("hangs")
                .packet_size(1)
                .concurrency(20)
                .attempts(2),
        );
    let deployment = sum(items).deploy("hangs", store.backend()).unwrap();
    let one = deployment.submit([7]).await.unwrap();
    let two = deployment.submit([1, 2, 3]).await.unwrap();
    for _ in 0..2 {
        let worker = deployment.worker().start();
        sleep(SECOND / 2).await;
        drop(worker); // killed
        sleep(10 * MINUTE).await;
    }
    let worker = deployment.worker().start();
    assert_eq!(soon(two.result()).await.unwrap(), 6);
    drop((worker, one));
}

/// Nothing begins once a worker is told to end.
#[tokio::test(start_paused = true)]
async fn a_suspect_does_not_begin_after_shutdown() {
    let store = Store::new();
    let begun = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&begun);
    let start = Instant::now();
    let items = Pipeline::new()
        .then(move |n: u64| {
            note.lock().unwrap().push((n, start.elapsed()));
            async move {
                sleep(10 * SECOND).await;
                ok(n).await
            }
        })
        .with(
            Stage::named("slow")
                .packet_size(1)
                .concurrency(20)
                .attempts(1),
        );
    let deployment = sum(items).deploy("ends", store.backend()).unwrap();
    let run = deployment.submit(0..5).await.unwrap();
    look(&store, &deployment, "slow").await;
    let worker = deployment.worker().grace_period(25 * SECOND).start();
    sleep(5 * SECOND).await;
    worker.shutdown().await;
    let count = begun.lock().unwrap().len();
    let worker = deployment.worker().start();
    let result = soon(run.result()).await;
    let at = begun.lock().unwrap().clone();
    assert_eq!((count, result.ok()), (1, Some(10)), "{at:?}");
    drop(worker);
}

/// The same for a CPU-bound stage, whose messages are handled together.
#[tokio::test(start_paused = true)]
async fn a_cpu_bound_batch_does_not_go_on_after_shutdown() {
    let store = Store::new();
    let begun = Arc::new(AtomicU64::new(0));
    let note = Arc::clone(&begun);
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let held = Arc::clone(&gate);
    let items = Pipeline::new()
        .map(move |n: u64| {
            note.fetch_add(1, SeqCst);
            let (is_open, opened) = &*held;
            drop(opened.wait_while(is_open.lock().unwrap(), |is_open| !*is_open));
            n
        })
        .with(Stage::named("slow").packet_size(1).attempts(5));
    let deployment = sum(items).deploy("cpu", store.backend()).unwrap();
    let run = deployment.submit(0..100).await.unwrap();
    look(&store, &deployment, "slow").await;
    let worker = deployment.worker().concurrency(1).prefetch(100).start();
    while begun.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let mut end = std::pin::pin!(worker.shutdown());
    for _ in 0..100 {
        assert!(futures::poll!(end.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    end.await;
    let count = begun.load(SeqCst);
    let worker = deployment.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 4950);
    assert!(count <= 2, "{count}");
    drop(worker);
}

/// A message that was sent on, and whose acknowledgement is lost time and again, is no failure.
#[tokio::test(start_paused = true)]
async fn lost_acknowledgements_of_a_message_that_was_sent_on_are_no_failures() {
    let store = Store::new();
    let swallowed = AtomicU64::new(0);
    let hook = On(move |call: &Call<'_>| match call {
        Call::Acknowledge(name, _) if name.ends_with("first") => {
            match swallowed.fetch_add(1, SeqCst) < 4 {
                true => Act::Swallow,
                false => Act::Go,
            }
        }
        _ => Act::Go,
    });
    let items = Pipeline::new()
        .then(ok::<u64>)
        .with(Stage::named("first").attempts(2).packet_size(1))
        .then(|n: u64| async move {
            sleep(100 * MINUTE).await;
            ok(n).await
        })
        .with(Stage::named("second").timeout(200 * MINUTE));
    let deployment = sum(items)
        .deploy("acks", store.hooked(Arc::new(hook)))
        .unwrap();
    let run = deployment
        .submit_stream(futures::stream::iter([1]))
        .await
        .unwrap();
    let worker = deployment.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 1);
    sleep(60 * MINUTE).await;
    let letters = deployment.dead_letters().await.unwrap();
    assert!(letters.is_empty(), "{letters:?}");
    drop(worker);
}

/// Two copies fail for good; all of a deployment's dead letters go back.
#[tokio::test(start_paused = true)]
async fn all_copies_of_a_dead_letter_are_redriven() {
    let store = Store::new();
    let fixed = Arc::new(AtomicBool::new(false));
    let is_fixed = Arc::clone(&fixed);
    let items = Pipeline::new()
        .then(move |n: u64| {
            let good = is_fixed.load(SeqCst);
            async move { if good { Ok(n) } else { Err("no") } }
        })
        .with(Stage::named("first").attempts(1).packet_size(1));
    let deployment = sum(items).deploy("twice", store.backend()).unwrap();
    let run = deployment.submit([5]).await.unwrap();
    let queue = store.queue("twice--first").await;
    let seen = queue.receive(10, SECOND).await.unwrap();
    queue.send(vec![seen[0].body.clone().into()]).await.unwrap();
    queue
        .release(vec![seen[0].receipt.clone()], Duration::ZERO)
        .await
        .unwrap();
    let worker = deployment.worker().start();
    assert!(soon(run.result()).await.is_err());
    sleep(MINUTE).await;
    worker.shutdown().await;
    fixed.store(true, SeqCst);
    let count = deployment.redrive().await.unwrap();
    let failures = run.failures().await.unwrap();
    assert!(failures.is_empty(), "{count}: {failures:?}");
    let worker = deployment.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 5);
    drop(worker);
}

/// Push: a batch of suspects, one of which never ends.
#[tokio::test(start_paused = true)]
async fn pushed_messages_that_may_be_deadly_end_with_the_call() {
    for attempts in [1, 2] {
        let store = Store::new();
        let items = Pipeline::new()
            .then(|n: u64| async move {
                if n == 7 {
                    std::future::pending::<()>().await;
                }
                sleep(SECOND).await;
                ok(n).await
            })
            .with(
                Stage::named("slow")
                    .packet_size(1)
                    .concurrency(10)
                    .attempts(attempts),
            );
        let deployment = sum(items).deploy("pushed", store.backend()).unwrap();
        let run = deployment.submit([7, 1, 2, 3]).await.unwrap();
        for _ in 0..attempts {
            look(&store, &deployment, "slow").await;
        }
        let handler = deployment.handler("slow").unwrap();
        let queue = store.queue("pushed--slow").await;
        let mut calls = 0;
        while calls < 20 {
            let seen = queue.receive(10, 10 * MINUTE).await.unwrap();
            if seen.is_empty() {
                break;
            }
            calls += 1;
            let fates = soon(handler.handle(seen.clone(), 30 * SECOND)).await;
            for (delivery, fate) in seen.into_iter().zip(fates) {
                if fate == Fate::Acknowledge {
                    queue.acknowledge(vec![delivery.receipt]).await.unwrap();
                }
            }
        }
        let status = run.status().await.unwrap();
        assert_eq!(status.packets_done, 3, "{attempts}: {calls} calls");
        assert_eq!(
            run.dead_letters().await.unwrap().len(),
            1,
            "{attempts}: {calls} calls"
        );
    }
}

/// Skip with deaths: the deadly message is buried once, the others skip nothing.
#[tokio::test(start_paused = true)]
async fn redeliveries_skip_no_more_than_what_fails() {
    let store = Store::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let items = Pipeline::new()
        .then_with(move |n: u64, context| {
            note.lock().unwrap().push((n, context.attempt()));
            async move { if n == 3 { Err("never") } else { Ok(n) } }
        })
        .with(
            Stage::named("skips")
                .packet_size(5)
                .attempts(3)
                .on_failure(OnFailure::Tolerate(1)),
        );
    let deployment = sum(items).deploy("skips", store.backend()).unwrap();
    let run = deployment.submit(0..5).await.unwrap();
    for _ in 0..4 {
        look(&store, &deployment, "skips").await;
    }
    let worker = deployment.worker().start();
    let outcome = soon(run.outcome()).await.unwrap();
    assert_eq!((outcome.value, outcome.skipped), (7, 1), "{seen:?}");
    let of_3: Vec<_> = seen
        .lock()
        .unwrap()
        .iter()
        .filter(|s| s.0 == 3)
        .map(|s| s.1)
        .collect();
    assert_eq!(of_3, [1, 2, 3]);
    drop(worker);
}
