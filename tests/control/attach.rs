//! Waiting for runs, attaching to them from elsewhere, and the ids they have.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use catchment::{Backend, Error, RunId, RunState, Stage};
use futures::stream;
use tokio::time::Instant;

use super::*;
use crate::common::*;

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_run_or_with_the_time() {
    let (pipeline, _) = slow(100 * SECOND, Stage::new());
    let deployment = pipeline.deploy("wait", Backend::memory()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..5).await.unwrap();
    let begin = Instant::now();
    assert_eq!(
        run.wait(Duration::ZERO).await.unwrap().state,
        RunState::Running
    );
    assert!(begin.elapsed().is_zero());
    let status = run.wait(70 * SECOND).await.unwrap();
    assert_eq!((status.state, status.items_done), (RunState::Running, 0));
    assert_eq!(begin.elapsed().as_secs(), 70);
    let status = soon(run.wait(60 * MINUTE)).await.unwrap();
    assert_eq!((status.state, status.items_done), (RunState::Done, 5));
    assert_eq!(begin.elapsed().as_secs(), 100);
    // As long as it takes.
    let run = deployment.submit(0..5).await.unwrap();
    assert_eq!(
        soon(run.wait(Duration::MAX)).await.unwrap().state,
        RunState::Done
    );
    drop(worker);
}

/// A wait of hours must not end because one answer got lost.
#[tokio::test(start_paused = true)]
async fn waiting_for_a_result_outlives_errors_that_pass() {
    let (pipeline, _) = slow(100 * SECOND, Stage::new());
    let store = Store::new();
    let failed = AtomicUsize::new(0);
    let hook = On(move |call: &Call<'_>| match call {
        Call::Wait if failed.fetch_add(1, SeqCst) < 3 => Act::Fail(outage()),
        _ => Act::Go,
    });
    let deployment = pipeline.deploy("wait", store.backend()).unwrap();
    let flaky = pipeline
        .deploy("wait", store.hooked(Arc::new(hook)))
        .unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..5).await.unwrap();
    assert_eq!(soon(flaky.attach(run.id()).result()).await.unwrap(), 10);
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_run_can_be_attached_to_from_elsewhere() {
    let store = Store::new();
    let here = quick().deploy("attach", store.backend()).unwrap();
    let there = quick().deploy("attach", store.backend()).unwrap();
    let elsewhere = quick().deploy("attach", store.backend()).unwrap();
    let id = here.submit(0..10).await.unwrap().id().clone();
    let worker = there.worker().start();
    let run = elsewhere.attach(&id);
    assert_eq!(run.id(), &id);
    assert_eq!(soon(run.result()).await.unwrap(), 45);
    assert_eq!(
        soon(elsewhere.attach(id.as_str()).outcome())
            .await
            .unwrap()
            .items,
        10
    );
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_run_is_an_error_and_not_a_wait() {
    let deployment = quick().deploy("unknown", Backend::memory()).unwrap();
    let run = deployment.attach("nobody");
    let unknown = |error: Error| {
        assert!(matches!(&error, Error::NoSuchRun { run, .. } if run.as_str() == "nobody"));
        assert!(error.to_string().contains("nobody") && !error.is_retryable());
    };
    let begin = Instant::now();
    unknown(soon(run.result()).await.unwrap_err());
    unknown(soon(run.outcome()).await.unwrap_err());
    unknown(soon(run.status()).await.unwrap_err());
    unknown(soon(run.wait(MINUTE)).await.unwrap_err());
    assert!(begin.elapsed().is_zero());
    assert!(!run.cancel().await.unwrap());
    unknown(soon(run.redrive()).await.unwrap_err());
    assert!(run.failures().await.unwrap().is_empty());
    assert!(run.dead_letters().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_id_that_no_backend_could_keep_is_refused_everywhere() {
    let deployment = quick().deploy("ids", Backend::memory()).unwrap();
    let worker = deployment.worker().start();
    let long = "x".repeat(129);
    for (id, problem) in [
        ("", "empty"),
        (&long, "128"),
        ("two words", "ASCII"),
        ("größe", "ASCII"),
        ("a#b", "ASCII"),
        ("line\n", "ASCII"),
    ] {
        let refused = |error: Error| {
            assert!(
                matches!(error, Error::InvalidRunId { .. }),
                "{id:?}: {error}"
            );
            assert!(error.to_string().contains(problem), "{id:?}: {error}");
        };
        refused(deployment.submit_as(id, [1]).await.unwrap_err());
        refused(
            deployment
                .submit_stream_as(id, stream::iter([1]))
                .await
                .unwrap_err(),
        );
        let run = deployment.attach(id);
        refused(run.result().await.unwrap_err());
        refused(run.outcome().await.unwrap_err());
        refused(run.status().await.unwrap_err());
        refused(run.wait(SECOND).await.unwrap_err());
        refused(run.cancel().await.unwrap_err());
        refused(run.failures().await.unwrap_err());
    }
    let full = "x".repeat(128);
    for id in [
        "a",
        "A-Z_a.z:0/9@=+,",
        full.as_str(),
        RunId::random().as_str(),
    ] {
        let run = deployment.submit_as(id, [1, 2]).await.unwrap();
        assert_eq!(soon(run.result()).await.unwrap(), 3, "{id}");
    }
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn one_id_is_one_array() {
    let store = Store::new();
    let deployment = quick().deploy("one", store.backend()).unwrap();
    let run = deployment.submit_as("run", 0..10).await.unwrap();
    let error = deployment.submit_as("run", 0..11).await.unwrap_err();
    assert!(matches!(error, Error::Submission { .. }));
    let text = error.to_string();
    assert!(text.contains("10") && text.contains("11"), "{text}");
    // A pipeline with other stages is another one.
    let other = quick()
        .with(Stage::named("other"))
        .deploy("one", store.backend())
        .unwrap();
    let error = other.submit_as("run", 0..10).await.unwrap_err();
    assert!(error.to_string().contains("`other`"), "{error}");
    // The run is none the worse for it.
    let worker = deployment.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 45);
    drop(worker);
}
