//! Attempts: how many, how far apart, how long.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use catchment::queue::Depth;
use catchment::{Backend, Backoff, Context, OnFailure, Pipeline, Stage};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::*;
use crate::common::*;

#[tokio::test(start_paused = true)]
async fn an_item_that_succeeds_at_last_is_no_failure() {
    let store = Store::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let attempts = Arc::clone(&seen);
    let deployment = sum(Pipeline::new()
        .try_map_with(move |n: u64, context: &Context| {
            if n != 4 {
                return Ok(n);
            }
            assert_eq!((context.item(), context.stage()), (Some(4), "flaky"));
            assert_eq!(context.run().as_str(), "run");
            attempts.lock().unwrap().push(context.attempt());
            if context.attempt() < 4 {
                Err("not yet")
            } else {
                Ok(n)
            }
        })
        .with(Stage::named("flaky")))
    .deploy("flaky", store.backend())
    .unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit_as("run", 0..10).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), 45);
    assert_eq!(*seen.lock().unwrap(), [1, 2, 3, 4]);
    sleep(MINUTE).await;
    assert_eq!(store.depth(&deployment).await, Depth::default());
    assert!(run.failures().await.unwrap().is_empty());
    drop(worker);
}

/// Waits are drawn from the whole of their range, which doubles up to the cap; nothing is tried
/// earlier.
#[tokio::test(start_paused = true)]
async fn a_failed_message_waits_longer_each_time_within_bounds() {
    let backoff = Backoff::exponential(SECOND, 5 * SECOND);
    let released = Arc::new(Mutex::new(Vec::new()));
    let tried: Arc<Mutex<BTreeMap<u64, Vec<Instant>>>> = Arc::default();
    let (releases, tries) = (Arc::clone(&released), Arc::clone(&tried));
    let hook = On(move |call: &Call<'_>| {
        if let Call::Release(_, after) = call {
            releases.lock().unwrap().push(*after);
        }
        Act::Go
    });
    let store = Store::new();
    let deployment = sum(Pipeline::new()
        .then(move |n: u64| {
            tries
                .lock()
                .unwrap()
                .entry(n)
                .or_default()
                .push(Instant::now());
            async { Err::<u64, _>("never") }
        })
        .with(Stage::new().attempts(6).backoff(backoff)))
    .deploy("back", store.hooked(Arc::new(hook)))
    .unwrap();
    let worker = deployment.worker().prefetch(100).start();
    let run = deployment.submit(0..60).await.unwrap();
    assert!(soon(run.result()).await.is_err());
    sleep(MINUTE).await;
    assert_eq!(run.status().await.unwrap().messages_failed, 60);

    let longest = [1, 2, 4, 5, 5].map(Duration::from_secs);
    let tried = tried.lock().unwrap();
    for (nth, longest) in longest.into_iter().enumerate() {
        assert_eq!(backoff.longest(nth as u32 + 1), longest);
        let waits = tried.values().map(|tries| tries[nth + 1] - tries[nth]);
        let waits: Vec<Duration> = waits.collect();
        // Tokio's clock has a grain of a millisecond.
        assert!(
            waits
                .iter()
                .all(|wait| *wait <= longest + Duration::from_millis(2))
        );
        assert!(waits.iter().any(|wait| *wait > longest / 2), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait < longest / 2), "{waits:?}");
    }
    assert!(tried.values().all(|tries| tries.len() == 6));
    // The worker kept them as long as they waited.
    let released = released.lock().unwrap();
    assert_eq!(released.len(), 0, "{released:?}");
    drop(worker);
}

/// The thread cannot be stopped, but its message is given up.
#[tokio::test(start_paused = true)]
async fn cpu_bound_work_without_an_end_times_out() {
    for policy in [OnFailure::Fail, OnFailure::Skip] {
        let (release, blocked) = mpsc::channel::<()>();
        let blocked = Mutex::new(blocked);
        let pipeline = sum(Pipeline::new()
            .map(move |n: u64| {
                if n == 7 {
                    // Until the test drops the other end.
                    let _ = blocked.lock().map(|blocked| blocked.recv());
                }
                n
            })
            .with(
                Stage::new()
                    .packet_size(4)
                    .attempts(2)
                    .timeout(100 * SECOND)
                    .backoff(Backoff::none())
                    .on_failure(policy),
            ));
        let deployment = pipeline.deploy("busy", Backend::memory()).unwrap();
        let worker = deployment.worker().concurrency(2).start();
        let run = deployment.submit(0..10).await.unwrap();
        // The clock does not move by itself while a thread is busy.
        let begin = Instant::now();
        let ended = tokio::spawn({
            let run = deployment.attach(run.id());
            async move { run.outcome().await }
        });
        while !ended.is_finished() && begin.elapsed() < 60 * MINUTE {
            tokio::time::advance(SECOND).await;
            // Other threads have to run as well.
            std::thread::yield_now();
        }
        let took = begin.elapsed();
        drop(release);
        let outcome = ended.await.unwrap();
        match policy {
            OnFailure::Fail => {
                let failure = failure(outcome.unwrap_err());
                assert!(failure.error.contains("timed out"), "{failure}");
                assert_eq!((failure.item, failure.attempts.len()), (Some(7), 2));
                assert!(took >= 200 * SECOND, "{took:?}");
            }
            _ => {
                let outcome = outcome.unwrap();
                assert_eq!((outcome.value, outcome.skipped), (45 - 7, 1));
                assert!(took >= 200 * SECOND, "{took:?}");
            }
        }
        drop(worker);
    }
}

/// A message that kills its worker each time.
#[tokio::test(start_paused = true)]
async fn a_message_that_kills_its_workers_becomes_a_dead_letter() {
    let killed = Arc::new(Notify::new());
    let mended = Arc::new(AtomicBool::new(false));
    let (kill, mend) = (Arc::clone(&killed), Arc::clone(&mended));
    let deployment = sum(Pipeline::new()
        .then(move |n: u64| {
            let (kill, mended) = (Arc::clone(&kill), mend.load(SeqCst));
            async move {
                if n == 7 && !mended {
                    kill.notify_one();
                    std::future::pending::<()>().await;
                }
                ok(n).await
            }
        })
        .with(Stage::named("deadly").attempts(3)))
    .deploy("deadly", Backend::memory())
    .unwrap();
    let run = deployment.submit(0..10).await.unwrap();
    let mut deaths = 0;
    let failure = loop {
        let worker = deployment.worker().prefetch(1).start();
        tokio::select! {
            result = soon(run.result()) => {
                drop(worker);
                break failure(result.unwrap_err());
            }
            () = killed.notified() => {
                deaths += 1;
                drop(worker);
            }
        }
    };
    // Of its first delivery nobody knows whether it began.
    assert_eq!(deaths, 1 + 3);
    assert_eq!(failure.stage, "deadly");
    assert!(
        failure.error.contains("begun 3 times and never finished"),
        "{failure}"
    );
    let worker = deployment.worker().start();
    sleep(MINUTE).await;
    // Messages that were held by the same workers each time have used up their deliveries as well;
    // no others have.
    let letters = run.dead_letters().await.unwrap();
    assert!(
        letters
            .iter()
            .any(|letter| letter.message.as_deref() == Some("packet 7"))
    );
    let done = run.status().await.unwrap().packets_done;
    assert_eq!(done + letters.len() as u64, 10);
    mended.store(true, SeqCst);
    assert_eq!(run.redrive().await.unwrap().redriven, letters.len());
    assert_eq!(soon(run.result()).await.unwrap(), 45);
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_worker_outlives_an_outage_of_ten_minutes() {
    let store = Store::new();
    let begin = Instant::now();
    let hook = On(move |_: &Call<'_>| {
        let down = begin.elapsed() > SECOND && begin.elapsed() < 10 * MINUTE;
        if down { Act::Fail(outage()) } else { Act::Go }
    });
    let pipeline = Pipeline::new()
        .then(|n: u64| async move {
            sleep(500 * Duration::from_millis(1)).await;
            ok(n).await
        })
        .with(Stage::new().concurrency(4));
    let pipeline = sum(pipeline);
    let deployment = pipeline
        .deploy("down", store.hooked(Arc::new(hook)))
        .unwrap();
    let healthy = pipeline.deploy("down", store.backend()).unwrap();
    let worker = deployment.worker().start();
    let run = healthy.submit(0..50).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), (0..50).sum::<u64>());
    assert!(begin.elapsed() > 10 * MINUTE && begin.elapsed() < 12 * MINUTE);
    sleep(MINUTE).await;
    assert_eq!(store.depth(&healthy).await, Depth::default());
    assert!(run.failures().await.unwrap().is_empty());
    drop(worker);
}
