//! Runs with no items and with as many as there are numbers, whose queue is emptied, whose iterator panics, whose result is
//! taken twice, and whose packets are sent again when it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use async_trait::async_trait;
use catchment::{OnFailure, RunFilter, RunId, RunState};
use tokio::sync::Notify;

use super::*;

/// <https://github.com/celery/celery/issues/4333>: a chord of no tasks never calls its callback.
/// <https://github.com/gevent/gevent/issues/138>: and an empty iterator is waited for.
#[tokio::test(start_paused = true)]
async fn no_items_are_a_result_under_every_policy() {
    for policy in [
        OnFailure::Fail,
        OnFailure::Skip,
        OnFailure::Tolerate(0),
        OnFailure::TolerateShare(0.0),
        OnFailure::TolerateShare(100.0),
    ] {
        let empty = || {
            let stage = Stage::named("map").on_failure(policy);
            Pipeline::new()
                .then(ok::<u64>)
                .with(stage)
                .reduce(|| 7, |a, b| a + b)
        };
        assert_eq!(soon(empty().run([])).await.unwrap(), 7, "{policy:?}");
        let deployment = empty().deploy("empty", Store::new().backend()).unwrap();
        let worker = deployment.worker().start();
        let list = deployment.submit([]).await.unwrap();
        assert_eq!(soon(list.result()).await.unwrap(), 7, "{policy:?}");
        let stream = deployment.submit_stream(futures::stream::empty()).await;
        let result = soon(stream.unwrap().result()).await;
        assert_eq!(result.unwrap(), 7, "{policy:?}");
        worker.shutdown().await;
    }
}

/// An array of 2^64 - 1 items, whose length is known, fails with its first bad item, and its submission ends when it is
/// cancelled.
///
/// <https://github.com/python/cpython/issues/114948>: a large iterable, and the executor hangs.
/// <https://github.com/documentcloud/cloud-crowd/issues/11>: with many work units, the status takes for ever.
#[tokio::test(start_paused = true)]
async fn as_many_items_as_there_are_numbers() {
    let failing = Pipeline::new()
        .then(|n: u64| async move { if n < 5_000 { Ok(n) } else { Err("enough") } })
        .with(Stage::named("map").attempts(1))
        .reduce(|| 0, |a, b| a + b);
    let deployment = failing.deploy("endless", Store::new().backend()).unwrap();
    let worker = deployment.worker().start();
    let id = RunId::from("all");
    let other = deployment.clone();
    let submitting =
        tokio::spawn(async move { other.submit_as("all", 0..u64::MAX).await.map(drop) });
    let run = deployment.attach(id);
    let failure = loop {
        match soon(run.result()).await {
            Err(Error::NoSuchRun { .. }) => tokio::task::yield_now().await,
            ended => break failure(ended),
        }
    };
    assert_eq!(failure.error, "enough");
    assert_eq!(run.status().await.unwrap().items, Some(u64::MAX));
    assert!(run.cancel().await.unwrap());
    // The clock stands still while there is work, and there is no end of it.
    tokio::time::advance(10 * SECOND).await;
    soon(submitting).await.unwrap().unwrap();
    worker.shutdown().await;
}

/// The run stays open and says how much of it is missing; it can be cancelled, and submitted under another id. Nothing finds
/// out by itself that a message is gone.
///
/// <https://github.com/openshiftio/openshift.io/issues/1079>: queues are cleaned, and flows are stuck.
#[tokio::test(start_paused = true)]
async fn a_run_whose_queue_was_emptied_says_what_is_missing_and_can_be_cancelled() {
    let store = Store::new();
    let deployment = sum().deploy("purged", store.backend()).unwrap();
    let run = deployment.submit_as("first", 1..=8).await.unwrap();
    let queue = store.queue("purged--map").await;
    let taken = queue.receive(3, Duration::ZERO).await.unwrap();
    let receipts = taken.into_iter().map(|taken| taken.receipt);
    queue.acknowledge(receipts.collect()).await.unwrap();
    let worker = deployment.worker().start();
    let status = run.wait(HOUR).await.unwrap();
    assert_eq!(status.state, RunState::Running);
    assert_eq!((status.packets, status.packets_done), (Some(8), 5));
    let depth = store.depth(&deployment).await;
    assert_eq!((depth.ready, depth.in_flight, depth.delayed), (0, 0, 0));
    // What has been sent is not sent again.
    let again = deployment.submit_as("first", 1..=8).await.unwrap();
    let status = again.wait(HOUR).await.unwrap();
    assert_eq!(status.state, RunState::Running);
    assert!(run.cancel().await.unwrap());
    let cancelled = soon(run.result()).await;
    assert!(
        matches!(cancelled, Err(Error::Cancelled { .. })),
        "{cancelled:?}"
    );
    let another = deployment.submit_as("second", 1..=8).await.unwrap();
    assert_eq!(soon(another.result()).await.unwrap(), 36);
    worker.shutdown().await;
}

/// The panic is the caller's own; the run that nobody can complete is cancelled.
///
/// <https://github.com/python/cpython/issues/79810>: an iterator raises, and processes are left behind.
#[tokio::test(start_paused = true)]
async fn an_iterator_that_panics_leaves_no_run_behind() {
    let items = || (0..100).map(|n| if n == 50 { panic!("item 50") } else { n });
    let deployment = sum().deploy("panics", Store::new().backend()).unwrap();
    let other = deployment.clone();
    let submitting = tokio::spawn(async move { other.submit(items()).await.map(drop) });
    assert!(submitting.await.unwrap_err().is_panic());
    tokio::time::sleep(SECOND).await;
    let runs = deployment.runs(RunFilter::new()).await.unwrap();
    assert_eq!((runs.len(), runs[0].state), (1, RunState::Cancelled));
    let embedded = tokio::spawn(async move { sum().run(items()).await });
    assert!(embedded.await.unwrap_err().is_panic());
}

/// <https://github.com/celery/celery/issues/5237>: a result that has expired is waited for without end.
#[tokio::test(start_paused = true)]
async fn a_result_is_taken_as_often_as_its_handle_likes_and_its_run_has_an_end() {
    let deployment = sum().deploy("taken", Store::new().backend()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit_as("mine", 1..=8).await.unwrap();
    // A wait that is given up loses nothing.
    let hasty = tokio::time::timeout(Duration::ZERO, run.result()).await;
    assert!(hasty.is_err());
    let other = deployment.attach("mine");
    let (first, second) = futures::join!(soon(run.result()), soon(other.result()));
    assert_eq!((first.unwrap(), second.unwrap()), (36, 36));
    assert_eq!(soon(run.result()).await.unwrap(), 36);
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(soon(run.result()).await.unwrap(), 36, "the handle has it");
    let other = deployment.submit_as("other", 1..=2).await.unwrap();
    assert_eq!(soon(other.result()).await.unwrap(), 3);
    let late = soon(deployment.attach("mine").result()).await;
    assert!(matches!(late, Err(Error::NoSuchRun { .. })), "{late:?}");
    // <https://github.com/taskforcesh/bullmq/issues/2554>: a flow whose ids were used before waits for ever.
    let again = deployment.submit_as("mine", 1..=9).await.unwrap();
    assert_eq!(soon(again.result()).await.unwrap(), 45);
    worker.shutdown().await;
}

/// Holds back what is sent until it is told.
#[derive(Default)]
struct HoldsBack {
    is_open: AtomicBool,
    reached: Notify,
    opened: Notify,
}

#[async_trait]
impl Hook for HoldsBack {
    async fn before(&self, call: &Call<'_>) -> Act {
        if matches!(call, Call::Send(..)) && !self.is_open.load(SeqCst) {
            self.reached.notify_one();
            self.opened.notified().await;
        }
        Act::Go
    }
}

/// <https://github.com/sidekiq/sidekiq/issues/3646>: jobs that complete twice, and a count below zero.
#[tokio::test(start_paused = true)]
async fn packets_that_are_sent_again_when_the_run_is_over_change_nothing() {
    let store = Store::new();
    let hook = Arc::<HoldsBack>::default();
    let late = sum().deploy("twice", store.hooked(hook.clone())).unwrap();
    let prompt = sum().deploy("twice", store.backend()).unwrap();
    let submitting = tokio::spawn(async move { late.submit_as("mine", 1..=8).await.map(drop) });
    hook.reached.notified().await;
    let worker = prompt.worker().start();
    let run = prompt.submit_as("mine", 1..=8).await.unwrap();
    let done = run.wait(HOUR).await.unwrap();
    assert_eq!((done.state, done.items_done), (RunState::Done, 8));
    hook.is_open.store(true, SeqCst);
    hook.opened.notify_one();
    soon(submitting).await.unwrap().unwrap();
    tokio::time::sleep(60 * SECOND).await;
    let depth = store.depth(&prompt).await;
    assert_eq!((depth.ready, depth.in_flight, depth.dead), (0, 0, 0));
    let status = run.status().await.unwrap();
    assert_eq!((status.state, status.items_done), (RunState::Done, 8));
    assert_eq!(soon(run.result()).await.unwrap(), 36);
    worker.shutdown().await;
}
