//! Cancelling a run, and what comes after it.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use catchment::queue::Depth;
use catchment::{Backend, Error, RunState, Stage};
use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep};

use super::*;
use crate::common::*;

/// The id of a run whose submission is dropped is not known anywhere, so the run does not stay open.
#[tokio::test(start_paused = true)]
async fn a_run_whose_submission_is_dropped_is_cancelled() {
    use catchment::scratchpad::RunFilter;
    use futures::StreamExt;
    let store = Store::new();
    let deployment = quick().deploy("dropped", store.backend()).unwrap();
    let slow = futures::stream::iter(0..10).then(|n| async move {
        sleep(SECOND).await;
        n
    });
    let submit = deployment.submit_stream(slow);
    let dropped = tokio::time::timeout(3 * SECOND, submit).await;
    assert!(dropped.is_err());
    sleep(SECOND).await;
    let runs = deployment.runs(RunFilter::new()).await.unwrap();
    let states: Vec<_> = runs.iter().map(|run| run.state).collect();
    assert_eq!(states, [RunState::Cancelled]);

    // One under the caller's id stays open, and can be completed.
    let never = futures::stream::iter(0..10).chain(futures::stream::pending());
    let submit = deployment.submit_stream_as("mine", never);
    assert!(tokio::time::timeout(3 * SECOND, submit).await.is_err());
    sleep(SECOND).await;
    let run = deployment.submit_stream_as("mine", futures::stream::iter(0..10));
    let run = run.await.unwrap();
    let worker = deployment.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 45);
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_run_cancelled_before_its_work_is_dropped_by_workers_within_seconds() {
    let (pipeline, begun) = slow(SECOND, Stage::new().concurrency(1));
    let store = Store::new();
    let deployment = pipeline.deploy("cancel", store.backend()).unwrap();
    let run = deployment.submit_as("run", 0..500).await.unwrap();
    assert!(run.cancel().await.unwrap());
    assert!(run.cancel().await.unwrap(), "cancelling twice is as good");
    assert_eq!(run.status().await.unwrap().state, RunState::Cancelled);
    let worker = deployment.worker().start();
    let error = soon(run.result()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Cancelled { run: id, .. } if id == run.id()),
        "{error}"
    );
    sleep(20 * SECOND).await;
    assert_eq!(store.depth(&deployment).await, Depth::default());
    assert!(
        begun.load(SeqCst) <= 5,
        "{} items were begun",
        begun.load(SeqCst)
    );
    // Submitting it again changes nothing.
    let again = deployment.submit_as("run", 0..500).await.unwrap();
    assert!(matches!(
        soon(again.result()).await,
        Err(Error::Cancelled { .. })
    ));
    assert_eq!(store.depth(&deployment).await, Depth::default());
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_run_cancelled_during_its_work_ends_at_once_for_who_waits() {
    let (pipeline, begun) = slow(SECOND, Stage::new().concurrency(1));
    let store = Store::new();
    let deployment = pipeline.deploy("cancel", store.backend()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..500).await.unwrap();
    let other = deployment.submit(0..3).await.unwrap();
    let waiting = tokio::spawn({
        let run = deployment.attach(run.id());
        async move { (run.result().await, Instant::now()) }
    });
    sleep(10 * SECOND).await;
    let cancelled_at = Instant::now();
    assert!(deployment.attach(run.id()).cancel().await.unwrap());
    let (result, ended_at) = soon(waiting).await.unwrap();
    assert!(matches!(result, Err(Error::Cancelled { .. })));
    assert!(ended_at - cancelled_at < SECOND);
    let status = run.wait(MINUTE).await.unwrap();
    assert_eq!(
        (status.state, status.items),
        (RunState::Cancelled, Some(500))
    );
    // The next run's turn comes as soon as the mark is seen.
    assert_eq!(soon(other.result()).await.unwrap(), 3);
    assert!(
        cancelled_at.elapsed() < 10 * SECOND,
        "{:?}",
        cancelled_at.elapsed()
    );
    assert!(
        begun.load(SeqCst) < 20,
        "{} items were begun",
        begun.load(SeqCst)
    );
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_done_cannot_be_cancelled() {
    let deployment = quick().deploy("done", Backend::memory()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit_as("run", 0..10).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), 45);
    assert!(!run.cancel().await.unwrap());
    assert_eq!(run.status().await.unwrap().state, RunState::Done);
    assert_eq!(soon(deployment.attach("run").result()).await.unwrap(), 45);
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn cancelling_ends_a_submission_that_is_still_going_on() {
    let deployment = quick().deploy("open", Backend::memory()).unwrap();
    let worker = deployment.worker().start();
    let items = stream::iter(0..).then(async |n| {
        sleep(Duration::from_millis(100)).await;
        n
    });
    let submission = tokio::spawn({
        let deployment = deployment.clone();
        async move { deployment.submit_stream_as("run", items).await.map(|_| ()) }
    });
    sleep(10 * SECOND).await;
    let run = deployment.attach("run");
    let status = run.status().await.unwrap();
    assert_eq!((status.state, status.items), (RunState::Open, None));
    assert!(status.items_done > 50, "{status:?}");
    assert!(run.cancel().await.unwrap());
    let cancelled = Instant::now();
    soon(submission).await.unwrap().unwrap();
    assert!(
        cancelled.elapsed() < 5 * SECOND,
        "{:?}",
        cancelled.elapsed()
    );
    assert!(matches!(
        soon(run.result()).await,
        Err(Error::Cancelled { .. })
    ));
    drop(worker);
}

/// The same if no more items arrive, so that no send would ever check.
#[tokio::test(start_paused = true)]
async fn cancelling_ends_a_submission_whose_stream_has_gone_quiet() {
    let deployment = quick().deploy("quiet", Backend::memory()).unwrap();
    let worker = deployment.worker().start();
    let items = stream::iter(0..3).chain(stream::pending());
    let submission = tokio::spawn({
        let deployment = deployment.clone();
        async move { deployment.submit_stream_as("run", items).await.map(|_| ()) }
    });
    sleep(10 * SECOND).await;
    let run = deployment.attach("run");
    assert_eq!(run.status().await.unwrap().items_done, 3);
    assert!(run.cancel().await.unwrap());
    let cancelled = Instant::now();
    soon(submission).await.unwrap().unwrap();
    assert!(
        cancelled.elapsed() < 5 * SECOND,
        "{:?}",
        cancelled.elapsed()
    );
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_of_an_embedded_run_stops_it() {
    let (pipeline, begun) = slow(SECOND, Stage::new().concurrency(1));
    let stopped = tokio::time::timeout(10 * SECOND, pipeline.run(0..100)).await;
    assert!(stopped.is_err());
    let before = begun.load(SeqCst);
    assert!(
        (9..=11).contains(&before),
        "{before} items were begun in ten seconds"
    );
    sleep(MINUTE).await;
    assert_eq!(begun.load(SeqCst), before);
}

/// Workers remember which runs are over, and an id may be used again when its run has been removed.
#[tokio::test(start_paused = true)]
async fn an_id_may_be_used_again_when_its_run_is_forgotten() {
    let deployment = quick().deploy("again", Backend::memory()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit_as("run", 0..10).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), 45);
    // A cancelled run whose mark the worker has seen.
    for _ in 0..2 {
        sleep(2 * 60 * MINUTE).await;
        let items = stream::iter(0..20).then(async |n| {
            sleep(SECOND).await;
            n
        });
        let submission = deployment.submit_stream_as("run", items);
        let (submitted, cancelled) = futures::join!(submission, async {
            sleep(3 * SECOND).await;
            run.cancel().await.unwrap()
        });
        submitted.unwrap();
        assert!(cancelled);
    }
    sleep(2 * 60 * MINUTE).await;
    let again = deployment.submit_as("run", 0..20).await.unwrap();
    let status = again.wait(60 * MINUTE).await.unwrap();
    assert_eq!(
        (status.state, status.items_done),
        (RunState::Done, 20),
        "{status:?}"
    );
    assert_eq!(again.result().await.unwrap(), 190);
    drop(worker);
}
