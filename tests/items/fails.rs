//! Where one item fails the run: its dead letter is that item's own, and its neighbours are no failures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use catchment::scratchpad::{Attempt, Failure};
use catchment::{Backend, BoxError, Error, OnFailure, Pipeline, RunState};
use tokio::time::sleep;

use crate::common::*;

const LENGTH: u64 = 100;
const BAD: u64 = 42;

/// A pipeline whose bad item fails until it is fixed, as its plan says; its neighbours recover by themselves.
struct Fixable {
    plan: Shared,
    is_fixed: Arc<AtomicBool>,
}

impl Fixable {
    fn new(bad: Nature) -> Self {
        let others = [7, 41, 43].map(|item| (item, Nature::Fails(1)));
        let [a, b, c] = others;
        Self {
            plan: Plan::with(LENGTH, [a, b, (BAD, bad), c]),
            is_fixed: Arc::default(),
        }
    }

    fn call(&self) -> impl Fn(u64) -> Result<u64, BoxError> + Clone + Send + Sync + 'static {
        let (plan, is_fixed) = (Shared::clone(&self.plan), Arc::clone(&self.is_fixed));
        move |n| match plan.call(n) {
            Err(_) if n == BAD && is_fixed.load(SeqCst) => Ok(n),
            called => called,
        }
    }

    fn pipeline(&self, is_async: bool) -> Kept {
        let options = skipping(3).on_failure(OnFailure::Fail).packet_size(10);
        let call = self.call();
        let items = Pipeline::new();
        match is_async {
            true => items.then(move |n| std::future::ready(call(n))),
            false => items.try_map(call),
        }
        .with(options)
        .collect()
    }

    /// How often its neighbours were called; nobody knows how many of them had begun when it failed for good.
    fn assert_neighbours_called(&self, what: &str) {
        for item in (40..50).filter(|item| *item != BAD) {
            let (nature, calls) = (self.plan.nature(item), self.plan.calls(item));
            assert!(calls <= nature.calls(3), "{what}, {item}: {calls} calls");
        }
    }
}

fn numbers(attempts: &[Attempt]) -> Vec<(u32, Option<u64>)> {
    let attempts = attempts.iter();
    attempts.map(|one| (one.number, one.item)).collect()
}

fn assert_is_the_bad_one(what: &str, failure: &Failure, attempts: u32) {
    assert_eq!(failure.item, Some(BAD), "{what}: {failure}");
    assert!(
        failure.error.contains("item 42"),
        "{what}: {}",
        failure.error
    );
    let expected: Vec<_> = (1..=attempts).map(|number| (number, Some(BAD))).collect();
    assert_eq!(numbers(&failure.attempts), expected, "{what}: {failure}");
}

#[tokio::test(start_paused = true)]
async fn run_returns_the_failing_item_with_its_own_attempts() {
    for (bad, attempts) in [(Nature::Fails(ALWAYS), 3), (Nature::Permanent, 1)] {
        for is_async in [false, true] {
            let what = format!("{bad:?}, asynchronous: {is_async}");
            let fixable = Fixable::new(bad);
            let error = soon(fixable.pipeline(is_async).run(0..LENGTH)).await;
            match error.unwrap_err() {
                Error::Failed { failure, .. } => assert_is_the_bad_one(&what, &failure, attempts),
                other => panic!("{what}: {other}"),
            }
            assert_eq!(fixable.plan.calls(BAD), attempts, "{what}");
            fixable.assert_neighbours_called(&what);
        }
    }
}

async fn redriven(is_pushed: bool) {
    for (bad, attempts) in [(Nature::Fails(ALWAYS), 3), (Nature::Permanent, 1)] {
        for is_async in [false, true] {
            let what = format!("{bad:?}, asynchronous: {is_async}, pushed: {is_pushed}");
            let fixable = Fixable::new(bad);
            let store = Store::new();
            let pipeline = fixable.pipeline(is_async);
            let deployment = pipeline.deploy("fails", store.backend()).unwrap();
            let work = async {
                match is_pushed {
                    true => match push_all(&store, &deployment).await {},
                    false => {
                        let _worker = deployment.worker().start();
                        std::future::pending().await
                    }
                }
            };
            let run = deployment.submit(0..LENGTH).await.unwrap();
            let test = async {
                assert!(soon(run.result()).await.is_err(), "{what}");
                sleep(10 * MINUTE).await;
                let status = run.status().await.unwrap();
                assert_eq!(
                    (status.state, status.messages_failed),
                    (RunState::Failed, 1)
                );
                assert_eq!(status.items_done, LENGTH - 10, "{what}");
                let failures = run.failures().await.unwrap();
                assert_eq!(failures.len(), 1, "{what}: {failures:?}");
                assert_is_the_bad_one(&what, &failures[0], attempts);
                let letters = run.dead_letters().await.unwrap();
                assert_eq!(letters.len(), 1, "{what}");
                assert_eq!(letters[0].item, Some(BAD), "{what}");
                let expected = numbers(&failures[0].attempts);
                assert_eq!(numbers(&letters[0].attempts), expected, "{what}");
                assert_eq!(fixable.plan.calls(BAD), attempts, "{what}");
                fixable.assert_neighbours_called(&what);

                fixable.is_fixed.store(true, SeqCst);
                assert_eq!(run.redrive().await.unwrap().redriven, 1, "{what}");
                let expected: Vec<u64> = (0..LENGTH).collect();
                assert_eq!(soon(run.result()).await.unwrap(), expected, "{what}");
                assert!(run.failures().await.unwrap().is_empty(), "{what}");
            };
            tokio::select! {
                () = test => {}
                () = work => panic!("work has no end"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_the_failing_items_own_and_is_redriven() {
    redriven(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_pushed_dead_letter_is_the_failing_items_own_and_is_redriven() {
    redriven(true).await;
}

/// The number that a function sees is that of its item's own attempt.
#[tokio::test(start_paused = true)]
async fn each_item_sees_its_own_attempt_number() {
    let failures = |n: u64| (n % 4) as u32;
    let pipeline = Pipeline::new()
        .try_map_with(move |n: u64, context| {
            let attempt = context.attempt();
            match attempt <= failures(n) {
                true => Err(format!("attempt {attempt}")),
                false => Ok(u64::from(attempt)),
            }
        })
        .with(skipping(4).packet_size(10))
        .collect();
    let expected: Vec<u64> = (0..40).map(|n| n % 4 + 1).collect();
    let value = soon(pipeline.run(0..40)).await.unwrap();
    assert_eq!(value, expected, "in run");
    let deployment = pipeline.deploy("numbers", Backend::memory()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..40).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), expected, "deployed");
    worker.shutdown().await;
}
