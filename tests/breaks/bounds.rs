//! Limits that must hold while items are tried again: packets that are held, the pace, and what is counted.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use catchment::backends::memory::MemoryQueues;
use catchment::{BoxError, Pipeline, permanent};
use tokio::time::{Instant, sleep};

use crate::store::{Store, soon};
use crate::{HOUR, MINUTE, SECOND, skipping, waiting};

/// Far more packets wait than a worker is to hold.
async fn many_wait(is_async: bool) {
    const PACKETS: u64 = 4_000;
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let call = move |n: u64| {
        counted.fetch_add(1, SeqCst);
        Err::<u64, _>(BoxError::from(format!("item {n}")))
    };
    let items = Pipeline::new();
    let items = match is_async {
        true => items.then(move |n: u64| std::future::ready(call(n))),
        false => items.try_map(call),
    };
    let options = waiting(skipping(3)).packet_size(1).concurrency(10);
    let backoff = catchment::Backoff::exponential(9 * HOUR, 9 * HOUR);
    let pipeline = items.with(options.backoff(backoff)).collect();
    let store = Store::with_queues(MemoryQueues::with_capacity(10_000, usize::MAX));
    let deployment = pipeline.deploy("many", store.backend()).unwrap();
    let worker = deployment.worker().start();
    let submit = async {
        deployment.submit(0..PACKETS).await.unwrap();
    };
    soon(submit).await;
    sleep(MINUTE).await;
    assert!(calls.load(SeqCst) >= PACKETS, "they do not all begin");
    let depth = store.depth(&deployment).await;
    assert!(
        depth.in_flight <= 1_000,
        "asynchronous: {is_async}: {depth:?}"
    );
    worker.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_holds_a_bounded_number_of_packets() {
    many_wait(false).await;
}

/// Once a fault: all of them.
#[tokio::test(start_paused = true)]
async fn a_worker_holds_a_bounded_number_of_asynchronous_packets() {
    many_wait(true).await;
}

/// Once a fault: a packet whose outputs are lost in the reduction runs again without regard to the pace.
#[tokio::test(start_paused = true)]
async fn the_pace_is_kept_when_all_items_run_again() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (note, refused) = (Arc::clone(&calls), AtomicBool::new(false));
    let pipeline = Pipeline::new()
        .map(move |n: u64| {
            note.lock().unwrap().push(Instant::now());
            vec![n]
        })
        .with(skipping(3).packet_size(10).rate_limit(1, SECOND))
        .try_reduce(Vec::new, move |mut all, next: Vec<u64>| {
            // One after the other, since the first one ends the fold.
            if next == [9] || next == [8] && all.len() == 8 && refused.swap(true, SeqCst) {
                return Err(permanent("not this one"));
            }
            all.extend(next);
            Ok(all)
        });
    let begin = Instant::now();
    let outcome = soon(pipeline.run_outcome(0..10)).await.unwrap();
    assert_eq!(outcome.skipped, 2);
    let calls = calls.lock().unwrap();
    let after: Vec<_> = calls.iter().map(|call| (*call - begin).as_secs()).collect();
    assert_eq!(calls.len(), 27);
    assert!(after[10..].iter().all(|after| *after >= 9), "{after:?}");
    assert!(after[19..].iter().all(|after| *after >= 18), "{after:?}");
}

/// A reduction refuses an output once. The failed attempt is counted as one that is followed by another.
async fn refused_once(is_async: bool) {
    let last = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&last);
    let items = Pipeline::new().on_progress(move |progress| {
        *seen.lock().unwrap() = Some(progress.clone());
    });
    let items = match is_async {
        true => items.then(|n: u64| std::future::ready(Ok::<_, BoxError>(vec![n]))),
        false => items.map(|n: u64| vec![n]),
    };
    let folds = AtomicU32::new(0);
    let pipeline = items.with(skipping(3).packet_size(10)).try_reduce(
        Vec::new,
        move |mut all, next: Vec<u64>| {
            if next == [9] && folds.fetch_add(1, SeqCst) == 0 {
                return Err("once");
            }
            all.extend(next);
            Ok(all)
        },
    );
    let value = soon(pipeline.run(0..10)).await.unwrap();
    assert_eq!(value.len(), 10);
    let last = last.lock().unwrap().take().unwrap();
    assert_eq!(last.stages[0].retried, Some(1), "{last}");
    assert_eq!(last.stages[0].waiting, Some(0), "{last}");
}

#[tokio::test(start_paused = true)]
async fn what_a_reduction_refuses_once_is_counted() {
    refused_once(false).await;
}

/// Once a fault: it is neither counted nor logged.
#[tokio::test(start_paused = true)]
async fn what_a_reduction_refuses_once_is_counted_after_an_asynchronous_function() {
    refused_once(true).await;
}

/// Once a fault: a packet goes back with more items left out than a backend counts. Those that are forgotten run again, and are in
/// the result as well as among the items that were left out.
#[tokio::test(start_paused = true)]
async fn an_item_that_is_left_out_stays_so_however_many_there_are() {
    const LENGTH: u64 = 1_500;
    let calls: Vec<AtomicU32> = (0..LENGTH).map(|_| AtomicU32::new(0)).collect();
    let pipeline = Pipeline::new()
        .try_map(move |n: u64| match calls[n as usize].fetch_add(1, SeqCst) {
            0 if n == 0 => Err(BoxError::from("once")),
            0 => Err(permanent("not this one").into()),
            _ => Ok(n),
        })
        .with(
            waiting(skipping(3))
                .packet_size(1_000_000)
                .visibility_timeout(SECOND),
        )
        .collect();
    let store = Store::new();
    let deployment = pipeline.deploy("left", store.backend()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..LENGTH).await.unwrap();
    let outcome = soon(run.outcome()).await.unwrap();
    let listed = run.failures().limit(10_000).await.unwrap();
    worker.shutdown().await;
    assert_eq!(listed.len() as u64, outcome.skipped, "listed, and left out");
    assert_eq!(outcome.value, [0]);
}

/// Once a fault: each failure went through all earlier ones of its packet, so that a large packet that fails took hours.
async fn all_fail(is_async: bool) {
    const LENGTH: u64 = 100_000;
    let call = |n: u64| match n {
        0 => Ok(n),
        _ => Err("never"),
    };
    let items = Pipeline::new();
    let items = match is_async {
        true => items.then(move |n: u64| std::future::ready(call(n))),
        false => items.try_map(call),
    };
    let options = skipping(2).packet_size(1_000_000).concurrency(1_000);
    let pipeline = items.with(options.label(|_: &u64| "")).collect();
    let outcome = soon(pipeline.run_outcome(0..LENGTH)).await.unwrap();
    assert_eq!((outcome.value, outcome.skipped), (vec![0], LENGTH - 1));
    assert_eq!(outcome.failures[0].item, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_large_packet_may_fail() {
    all_fail(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_large_asynchronous_packet_may_fail() {
    all_fail(true).await;
}
