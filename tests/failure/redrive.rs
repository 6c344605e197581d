//! Failed runs that are completed after their cause was fixed.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use catchment::queue::Depth;
use catchment::testing::faults::{Crash, When};
use catchment::{Backend, OnFailure, Pipeline, RunState, Stage};
use tokio::time::sleep;

use super::*;
use crate::common::*;

/// A pipeline whose item 7 fails for as long as the switch is on, and how often each item was
/// begun.
fn mendable(attempts: u32) -> (Sum, Arc<AtomicBool>, Arc<Mutex<Vec<u64>>>) {
    let broken = Arc::new(AtomicBool::new(true));
    let begun = Arc::new(Mutex::new(Vec::new()));
    let (switch, seen) = (Arc::clone(&broken), Arc::clone(&begun));
    let items = Pipeline::new()
        .then(move |n: u64| {
            seen.lock().unwrap().push(n);
            let fails = n == 7 && switch.load(SeqCst);
            async move { if fails { Err("broken") } else { Ok(n) } }
        })
        .with(Stage::named("mend").attempts(attempts));
    (sum(items), broken, begun)
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_is_completed_by_redriving_it_after_its_cause_was_mended() {
    let (pipeline, broken, begun) = mendable(2);
    let store = Store::new();
    let deployment = pipeline.deploy("mend", store.backend()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit_as("run", 0..10).await.unwrap();
    let other = deployment.submit_as("other", 0..3).await.unwrap();
    assert!(soon(run.result()).await.is_err());
    sleep(MINUTE).await;

    // Not fixed: it fails again, with all its attempts.
    assert_eq!(run.redrive().await.unwrap().redriven, 1);
    let status = run.status().await.unwrap();
    assert_eq!(
        (status.state, status.messages_failed),
        (RunState::Running, 0)
    );
    let again = failure(soon(run.result()).await.unwrap_err());
    assert_eq!(again.item, Some(7));
    let numbers: Vec<u32> = again
        .attempts
        .iter()
        .map(|attempt| attempt.number)
        .collect();
    assert_eq!(numbers, [1, 2, 1, 2]);
    sleep(MINUTE).await;

    broken.store(false, SeqCst);
    let elsewhere = deployment.attach("run");
    assert_eq!(
        other.redrive().await.unwrap().redriven,
        0,
        "another run's dead letters are not its own"
    );
    assert_eq!(elsewhere.redrive().await.unwrap().redriven, 1);
    assert_eq!(soon(run.result()).await.unwrap(), 45);
    assert_eq!(elsewhere.redrive().await.unwrap().redriven, 0);
    sleep(MINUTE).await;
    assert_eq!(store.depth(&deployment).await, Depth::default());
    let status = run.status().await.unwrap();
    assert_eq!(
        (status.state, status.messages_failed, status.items_done),
        (RunState::Done, 0, 10)
    );

    // Finished work is not repeated.
    let begun = begun.lock().unwrap();
    for n in 0..10 {
        let times = begun.iter().filter(|begun| **begun == n).count();
        let expected = [1, 5][usize::from(n == 7)] + usize::from(n < 3);
        assert_eq!(times, expected, "item {n}");
    }
    drop(worker);
}

/// An immediate redrive may come before the dead letter is in its queue.
#[tokio::test(start_paused = true)]
async fn a_run_may_be_redriven_the_moment_it_has_failed() {
    let (pipeline, broken, _) = mendable(1);
    let store = Store::new();
    let slow_to_bury = On(|call: &Call<'_>| match call {
        Call::Bury(..) => Act::Late(SECOND),
        _ => Act::Go,
    });
    let deployment = pipeline
        .deploy("mend", store.hooked(Arc::new(slow_to_bury)))
        .unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..10).await.unwrap();
    assert!(soon(run.result()).await.is_err());
    broken.store(false, SeqCst);
    assert_eq!(run.redrive().await.unwrap().redriven, 1);
    assert_eq!(soon(run.result()).await.unwrap(), 45);
    drop(worker);
}

/// The redriven message fails again before the old failure is cleared: the new failure stays on
/// record.
#[tokio::test(start_paused = true)]
async fn redriving_does_not_hide_a_failure_that_came_after_it() {
    let store = Store::new();
    let (pipeline, _, _) = mendable(1);
    let slow_to_clear = On(|call: &Call<'_>| match call {
        Call::ClearFailure => Act::Late(10 * SECOND),
        _ => Act::Go,
    });
    let worker = pipeline
        .deploy("mend", store.backend())
        .unwrap()
        .worker()
        .start();
    let slow = pipeline
        .deploy("mend", store.hooked(Arc::new(slow_to_clear)))
        .unwrap();
    let run = slow.submit(0..10).await.unwrap();
    assert!(soon(run.result()).await.is_err());
    sleep(MINUTE).await;
    assert_eq!(run.redrive().await.unwrap().redriven, 1);
    let failure = failure(soon(run.result()).await.unwrap_err());
    assert_eq!((failure.item, failure.attempts.len()), (Some(7), 2));
    assert_eq!(run.dead_letters().await.unwrap().len(), 1);
    drop(worker);
}

/// A message that fails again while the redrive still searches is not put back again and again.
#[tokio::test(start_paused = true)]
async fn redriving_puts_each_dead_letter_back_once() {
    let store = Store::new();
    let (pipeline, _, begun) = mendable(1);
    let slow_to_look = On(|call: &Call<'_>| match call {
        Call::Failures | Call::DeadLetters(..) => Act::Late(SECOND / 10),
        _ => Act::Go,
    });
    let deployment = pipeline.deploy("mend", store.backend()).unwrap();
    let worker = deployment.worker().start();
    let slow = pipeline
        .deploy("mend", store.hooked(Arc::new(slow_to_look)))
        .unwrap();
    let run = slow.submit(0..10).await.unwrap();
    assert!(soon(run.result()).await.is_err());
    sleep(MINUTE).await;
    assert_eq!(run.redrive().await.unwrap().redriven, 1);
    sleep(MINUTE).await;
    let times = begun.lock().unwrap().iter().filter(|n| **n == 7).count();
    assert_eq!(times, 2, "redriven once, item 7 was to be begun twice");
    drop(worker);
}

/// Redriving breaks off at any of its calls, is repeated, and loses nothing.
#[tokio::test(start_paused = true)]
async fn redriving_that_broke_off_is_completed_by_repeating_it() {
    let mut schedules = 0;
    for when in [When::Before, When::After] {
        for at in 1.. {
            let store = Store::new();
            let (pipeline, broken, _) = mendable(1);
            let crash = Crash::new(Some(at), when);
            let doomed = pipeline.deploy("mend", store.crashing(&crash, at)).unwrap();
            let healthy = pipeline.deploy("mend", store.backend()).unwrap();
            let worker = healthy.worker().start();
            let run = healthy.submit_as("run", 0..20).await.unwrap();
            assert!(soon(run.result()).await.is_err());
            sleep(MINUTE).await;
            broken.store(false, SeqCst);
            let breaks_off = doomed.attach("run");
            let died = tokio::select! {
                redriven = breaks_off.redrive() => redriven.is_err(),
                () = crash.crashed() => true,
            };
            healthy.attach("run").redrive().await.unwrap();
            sleep(MINUTE).await;
            assert_eq!(
                soon(run.result()).await.unwrap(),
                190,
                "dies {when:?} call {at}"
            );
            assert_eq!(store.depth(&healthy).await, Depth::default());
            drop(worker);
            schedules += 1;
            if !died {
                break;
            }
        }
    }
    println!("{schedules} schedules");
    assert!(schedules >= 10);
}

#[tokio::test(start_paused = true)]
async fn a_reduction_that_fails_is_a_dead_letter_and_can_be_redriven() {
    let broken = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&broken);
    let store = Store::new();
    let deployment = Pipeline::new()
        .then(ok::<u64>)
        .try_reduce(
            || 0,
            move |a, b| match a + b {
                // The second group of three: 3 + 4.
                7 if switch.load(SeqCst) => Err("seven is not to be"),
                sum => Ok(sum),
            },
        )
        .with(Stage::named("sum").fan_in(3).attempts(2))
        .deploy("sums", store.backend())
        .unwrap();
    let worker = deployment.worker().start();
    // Item 7 alone is 0 + 7 to its own packet, so it is left out.
    let run = deployment
        .submit_as("run", (0..12).filter(|n| *n != 7))
        .await
        .unwrap();
    let failure = failure(soon(run.result()).await.unwrap_err());
    assert_eq!(
        (failure.stage.as_str(), failure.message.as_str()),
        ("sum", "group 1/1")
    );
    assert_eq!((failure.item, failure.attempts.len()), (None, 2));
    assert!(failure.error.contains("seven is not to be"), "{failure}");
    sleep(MINUTE).await;
    assert_eq!(store.depth(&deployment).await, Depth::new().dead(1));
    // All leaves have arrived nevertheless.
    let status = run.status().await.unwrap();
    assert_eq!((status.state, status.packets_done), (RunState::Failed, 11));
    broken.store(false, SeqCst);
    assert_eq!(run.redrive().await.unwrap().redriven, 1);
    assert_eq!(soon(run.result()).await.unwrap(), 66 - 7);
    drop(worker);
}

/// Partial results that were written by another version of the code wait for one that can read
/// them.
#[tokio::test(start_paused = true)]
async fn a_partial_result_that_cannot_be_read_is_a_dead_letter() {
    let store = Store::new();
    let sums = sum(Pipeline::new().then(ok::<u64>))
        .deploy("types", store.backend())
        .unwrap();
    let texts = Pipeline::new()
        .then(|n: u64| ok(format!("{n} ")))
        .combine(Concat)
        .with(Stage::new().fan_in(3))
        .deploy("types", store.backend())
        .unwrap();
    let run = sums.submit_as("run", 0..10).await.unwrap();
    let leaves = sums.worker().stages(["map-0"]).start();
    sleep(SECOND).await;
    leaves.shutdown().await;
    let worker = texts.worker().start();
    let failure = failure(soon(run.result()).await.unwrap_err());
    assert_eq!(
        (failure.stage.as_str(), failure.attempts.len()),
        ("reduce-1", 1)
    );
    assert!(failure.error.contains("expected a string"), "{failure}");
    sleep(MINUTE).await;
    worker.shutdown().await;
    let worker = sums.worker().start();
    assert!(run.redrive().await.unwrap().redriven >= 1);
    assert_eq!(soon(run.result()).await.unwrap(), 45);
    drop(worker);
}

/// A run with more skipped items than tolerated can be completed like any failed run.
#[tokio::test(start_paused = true)]
async fn more_than_is_tolerated_can_be_redriven() {
    let broken = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&broken);
    let pipeline = sum(Pipeline::new()
        .try_map(
            move |n: u64| match n.is_multiple_of(10) && (n == 0 || switch.load(SeqCst)) {
                true => Err("a ten"),
                false => Ok(n),
            },
        )
        .with(Stage::new().attempts(1).on_failure(OnFailure::Tolerate(1))));
    let deployment = pipeline.deploy("tolerate", Backend::memory()).unwrap();
    let worker = deployment.worker().concurrency(1).start();
    let run = deployment.submit(0..45).await.unwrap();
    assert!(soon(run.result()).await.is_err());
    sleep(MINUTE).await;
    assert_eq!(run.status().await.unwrap().messages_failed, 4);
    broken.store(false, SeqCst);
    assert_eq!(run.redrive().await.unwrap().redriven, 4);
    let outcome = soon(run.outcome()).await.unwrap();
    assert_eq!(
        (outcome.value, outcome.contains, outcome.skipped),
        ((0..45).sum(), 44, 1)
    );
    drop(worker);
}
