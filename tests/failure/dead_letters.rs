//! The failures on record for a person.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use catchment::queue::Depth;
use catchment::{Backend, Data, Deployment, Error, Pipeline, RunState, Stage, permanent};
use tokio::time::{Instant, sleep};

use super::*;
use crate::common::*;

/// Item 7 of 0..10, in packets of three, is bad in some way; everything that a person needs to know
/// is on record.
async fn seven_is_bad(what: &str, pipeline: Sum, error: &str, attempts: u32) {
    let store = Store::new();
    let deployment = pipeline.deploy("bad", store.backend()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..10).await.unwrap();
    let text = soon(run.result()).await.unwrap_err();
    let failure = failure(text);
    assert!(failure.error.contains(error), "{what}: {failure}");
    assert_eq!(
        (failure.message.as_str(), failure.item),
        ("packet 2", Some(7)),
        "{what}"
    );
    let numbers: Vec<u32> = failure
        .attempts
        .iter()
        .map(|attempt| attempt.number)
        .collect();
    assert_eq!(numbers, Vec::from_iter(1..=attempts), "{what}");
    for attempt in &failure.attempts {
        assert_eq!(attempt.item, Some(7), "{what}");
        assert!(attempt.error.contains(error), "{what}: {}", attempt.error);
    }

    // The other packets finish, and no message circulates forever.
    sleep(MINUTE).await;
    assert_eq!(
        store.depth(&deployment).await,
        Depth::new().dead(1),
        "{what}"
    );
    let status = run.status().await.unwrap();
    assert_eq!(status.state, RunState::Failed, "{what}");
    assert_eq!(
        (status.packets, status.packets_done),
        (Some(4), 3),
        "{what}"
    );
    assert_eq!(
        (status.items_done, status.messages_failed),
        (7, 1),
        "{what}"
    );
    assert_eq!(status.failure.as_ref(), Some(&failure), "{what}");
    assert_eq!(
        run.failures().await.unwrap().as_slice(),
        std::slice::from_ref(&failure),
        "{what}"
    );

    let letters = run.dead_letters().await.unwrap();
    let [letter] = letters.as_slice() else {
        panic!("{what}: {letters:?}");
    };
    assert_eq!(letter.stage, failure.stage, "{what}");
    assert_eq!(letter.run.as_ref(), Some(run.id()), "{what}");
    assert_eq!(letter.message.as_deref(), Some("packet 2"), "{what}");
    assert_eq!(
        (letter.item, &letter.error),
        (Some(7), &failure.error),
        "{what}"
    );
    assert_eq!(letter.attempts, failure.attempts, "{what}");
    let body: serde_json::Value = serde_json::from_slice(&letter.body).unwrap();
    assert_eq!(body["packetId"], "0/2", "{what}");
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_bad_item_becomes_a_dead_letter_that_says_everything() {
    let three = || Stage::named("bad").packet_size(3).attempts(3);
    let check = |n: u64| match n {
        7 => Err(format!("{n} is bad")),
        n => Ok(n),
    };
    let failing = Pipeline::new().try_map(check).with(three());
    seven_is_bad("an error", sum(failing), "7 is bad", 3).await;

    let panicking = Pipeline::new()
        .map(move |n| check(n).unwrap())
        .with(three());
    seven_is_bad("a panic", sum(panicking), "panicked", 3).await;

    let overflowing = Pipeline::new().map(|n: u64| n + 1 / (7 - n.min(7) + u64::from(n > 7)));
    seven_is_bad(
        "arithmetic",
        sum(overflowing.with(three())),
        "divide by zero",
        3,
    )
    .await;

    let hopeless = Pipeline::new()
        .try_map(move |n| check(n).map_err(permanent))
        .with(three());
    seven_is_bad("a permanent error", sum(hopeless), "7 is bad", 1).await;

    let waiting = Pipeline::new()
        .then(move |n| async move { check(n) })
        .with(three());
    seven_is_bad("an asynchronous error", sum(waiting), "7 is bad", 3).await;

    let panicking = Pipeline::new()
        .then(move |n| async move { ok(check(n).unwrap()).await })
        .with(three());
    seven_is_bad("an asynchronous panic", sum(panicking), "panicked", 3).await;

    // The function panics before there is a future.
    let early = Pipeline::new()
        .then(move |n| ok(check(n).unwrap()))
        .with(three());
    seven_is_bad("an early panic", sum(early), "panicked", 3).await;

    let picky = Pipeline::new()
        .filter(move |n| check(*n).unwrap() < 100)
        .with(three());
    seven_is_bad("a panic in a filter", sum(picky), "panicked", 3).await;

    // A failure of the reduction at an output is attributed to the item that it came from.
    let steps = Pipeline::new().map(|n: u64| n).with(three()).fold(
        || 0,
        move |sum, n| sum + check(n).unwrap(),
        |a, b| a + b,
    );
    seven_is_bad("a panic in a fold", steps, "panicked", 3).await;

    // After a flat_map, a value's item is known as well.
    let far = Pipeline::new()
        .flat_map(|n: u64| vec![n; (n % 3) as usize])
        .with(Stage::new().packet_size(3))
        .try_map(check)
        .with(Stage::new().attempts(3));
    seven_is_bad("an error at a later stage", sum(far), "7 is bad", 3).await;
}

/// The error of a deployed run, which writes its values.
async fn deployed<I: Data, R: Send + 'static>(pipeline: Deployment<I, R>, items: Vec<I>) -> Error {
    let worker = pipeline.worker().start();
    let run = pipeline.submit(items).await.unwrap();
    let error = soon(run.result()).await.err().unwrap();
    drop(worker);
    error
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_written_is_a_bad_item() {
    // JSON has no infinity. The first attempt is the last one: another would make the same of the item.
    let inverse = Pipeline::new()
        .map(|x: f64| 1.0 / x)
        .with(Stage::named("inverse").packet_size(10))
        .map(|x| x)
        .collect()
        .deploy("inverse", Backend::memory())
        .unwrap();
    let failed = failure(deployed(inverse, vec![1.0, 0.0, 3.0]).await);
    assert_eq!((&*failed.stage, failed.item), ("inverse", Some(1)));
    assert_eq!(failed.attempts.len(), 1, "{failed}");
    assert!(
        failed.error.contains("JSON has no number for inf"),
        "{failed}"
    );

    // Keys that are not text cannot be written.
    let paired = Pipeline::new()
        .map(|n: u32| BTreeMap::from([((n, n), n)]))
        .with(Stage::named("pair"))
        .then(ok)
        .count()
        .deploy("pair", Backend::memory())
        .unwrap();
    let failed = failure(deployed(paired, vec![1, 2]).await);
    assert_eq!(failed.stage, "pair");
    assert!(
        failed.error.contains("JSON has only text as keys"),
        "{failed}"
    );
}

/// One packet takes an hour; a waiter for the result does not.
#[tokio::test(start_paused = true)]
async fn a_run_that_has_failed_says_so_at_once() {
    let pipeline = sum(Pipeline::new().then(|n: u64| async move {
        if n == 3 {
            return Err(permanent("three"));
        }
        sleep(60 * MINUTE).await;
        Ok(n)
    }));
    let deployment = pipeline.deploy("slow", Backend::memory()).unwrap();
    let worker = deployment.worker().start();
    let begin = Instant::now();
    let run = deployment.submit(0..20).await.unwrap();
    let waiting = tokio::spawn({
        let run = deployment.attach(run.id());
        async move { run.wait(60 * MINUTE).await.unwrap().state }
    });
    assert_eq!(failure(run.result().await.unwrap_err()).item, Some(3));
    assert_eq!(waiting.await.unwrap(), RunState::Failed);
    assert!(begin.elapsed() < SECOND, "{:?}", begin.elapsed());
    // A second call returns the same error.
    assert_eq!(failure(run.result().await.unwrap_err()).item, Some(3));
    assert_eq!(failure(run.outcome().await.unwrap_err()).item, Some(3));
    assert!(pipeline.run(0..20).await.is_err());
    assert!(begin.elapsed() < SECOND, "{:?}", begin.elapsed());
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_panics_fails_the_run() {
    let pipeline = Pipeline::new()
        .then(ok::<u64>)
        .reduce(|| panic!("no zero"), |a, b| a + b);
    for length in [0, 1, 10] {
        let failure = failure(soon(pipeline.run(0..length)).await.unwrap_err());
        assert!(failure.error.contains("no zero"), "{failure}");
        assert_eq!(failure.attempts.len(), 5);
    }
}

/// The function that finishes the one value works on no item of the array.
#[tokio::test(start_paused = true)]
async fn a_failure_behind_the_reduction_names_no_item() {
    let pipeline = Pipeline::new()
        .then(ok::<u64>)
        .reduce(|| 0, |a, b| a + b)
        .try_map(|sum| {
            if sum > 5 {
                Err(permanent("too much"))
            } else {
                Ok(sum)
            }
        })
        .with(Stage::named("finish"));
    let failure = failure(soon(pipeline.run(0..10)).await.unwrap_err());
    assert_eq!(
        (failure.stage.as_str(), failure.item),
        ("finish", None),
        "{failure}"
    );
}

#[tokio::test(start_paused = true)]
async fn asynchronous_work_without_an_end_times_out() {
    let dropped = Arc::new(AtomicU64::new(0));
    struct Witness(Arc<AtomicU64>);
    impl Drop for Witness {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let count = Arc::clone(&dropped);
    let endless = Pipeline::new()
        .then(move |n: u64| {
            let witness = (n == 7).then(|| Witness(Arc::clone(&count)));
            async move {
                match witness {
                    Some(_witness) => std::future::pending().await,
                    None => sleep(8 * SECOND).await,
                }
                ok(n).await
            }
        })
        .with(
            // A packet's items run one after the other, each with ten seconds of its own.
            Stage::new()
                .packet_size(3)
                .concurrency(1)
                .attempts(2)
                .timeout(10 * SECOND),
        );
    seven_is_bad("no end", sum(endless), "timed out", 2).await;
    assert_eq!(dropped.load(SeqCst), 2, "work that timed out is dropped");
}
