//! Submissions that are repeated.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use catchment::backends::memory::MemoryQueues;
use catchment::{Error, RunState};

use super::*;
use crate::common::*;

#[tokio::test(start_paused = true)]
async fn submitting_the_same_id_twice_is_one_run() {
    for input in [Input::List, Input::Stream] {
        for length in [0, 1, 9, 25] {
            let store = Store::new();
            let record = Arc::new(Record::default());
            let deployment = deploy(Shape::Reduce, 3, store.hooked(record.clone()));
            let first = submit(&deployment, length, input).await.unwrap();
            let sent = record.sent().len();
            let second = submit(&deployment, length, input).await.unwrap();
            assert_eq!(
                record.sent().len(),
                sent,
                "the second submission sends nothing"
            );
            assert_eq!(first.id(), second.id());
            let worker = deployment.worker().start();
            settles(&store, &deployment, length, "submitted twice").await;
            let sent = record.sent().len();
            let third = submit(&deployment, length, input).await.unwrap();
            assert_eq!(third.result().await.unwrap(), counting(length));
            assert_eq!(record.sent().len(), sent, "nor does one after the run");
            drop(worker);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn submitting_the_same_id_at_the_same_time_is_one_run() {
    for seed in 0..40 {
        let store = Store::new();
        let backend = |n: u64| store.hooked(Arc::new(Yields::new(seed * 2 + n)));
        let submitters = [0, 1].map(|n| deploy(Shape::Reduce, 2, backend(n)));
        let worker = submitters[0].worker().start();
        let [left, right] = &submitters;
        let (a, b) = soon(futures::future::join(
            submit(left, 13, Input::List),
            submit(right, 13, Input::Stream),
        ))
        .await;
        assert_eq!(soon(a.unwrap().result()).await.unwrap(), counting(13));
        assert_eq!(soon(b.unwrap().result()).await.unwrap(), counting(13));
        settles(&store, left, 13, &format!("seed {seed}")).await;
        drop(worker);
    }
}

/// The plan of the first submission holds, whatever the second would have planned.
#[tokio::test(start_paused = true)]
async fn a_submission_that_broke_off_as_a_stream_is_completed_by_a_list() {
    for max_body in [None, Some(100_000)] {
        let mut queues = MemoryQueues::new();
        if let Some(bytes) = max_body {
            queues = queues.max_body(bytes);
        }
        let store = Store::with_queues(queues);
        let deployment = deploy(Shape::Reduce, 8, store.backend());
        let worker = deployment.worker().start();
        let broken = async {
            let items = futures::stream::iter(0..1_500u64);
            let items = futures::StreamExt::chain(items, futures::stream::pending());
            deployment.submit_stream_as("run", items).await
        };
        let broken = tokio::time::timeout(Duration::from_secs(5), broken).await;
        assert!(broken.is_err(), "it was to break off");
        let status = deployment.attach("run").status().await.unwrap();
        assert_eq!((status.state, status.items), (RunState::Open, None));
        assert!(status.items_done > 1_000);
        submit(&deployment, 2_500, Input::List).await.unwrap();
        settles(
            &store,
            &deployment,
            2_500,
            &format!("max_body {max_body:?}"),
        )
        .await;
        drop(worker);
    }
}

/// Begins to submit 400 items, and drops the submission in its sixth call of `send`: while the queue does not answer.
async fn break_off(store: &Store, input: Input) {
    let sends = AtomicUsize::new(0);
    let hook = On(move |call: &Call<'_>| match call {
        Call::Send(..) if sends.fetch_add(1, SeqCst) >= 5 => Act::Late(Duration::from_secs(3_600)),
        _ => Act::Go,
    });
    let doomed = deploy(Shape::Reduce, 4, store.hooked(Arc::new(hook)));
    let submission = submit(&doomed, 400, input);
    let dropped = tokio::time::timeout(Duration::from_secs(60), submission).await;
    assert!(dropped.is_err(), "it was to break off");
    assert_eq!(store.depth(&doomed).await.ready, 50, "{input:?}");
    let status = doomed.attach("run").status().await.unwrap();
    assert_eq!(status.state, RunState::Open, "{input:?}");
}

/// The tree of a list is sealed before most of its packets are sent, that of a stream is not.
#[tokio::test(start_paused = true)]
async fn a_submission_dropped_in_the_middle_is_completed_by_the_next() {
    for first in [Input::List, Input::Stream] {
        for second in [Input::List, Input::Stream] {
            let store = Store::new();
            break_off(&store, first).await;
            let deployment = deploy(Shape::Reduce, 4, store.backend());
            let worker = deployment.worker().start();
            soon(submit(&deployment, 400, second)).await.unwrap();
            let what = format!("{first:?}, then {second:?}");
            settles(&store, &deployment, 400, &what).await;
            drop(worker);
        }
    }
}

/// The length on record holds for a stream too. A refused submission leaves the run open, for the right one.
#[tokio::test(start_paused = true)]
async fn a_stream_of_another_length_does_not_complete_a_list_that_broke_off() {
    let store = Store::new();
    break_off(&store, Input::List).await;
    let deployment = deploy(Shape::Reduce, 4, store.backend());
    let worker = deployment.worker().start();
    for (length, came) in [(399, "399 came"), (401, "more came")] {
        let error = soon(submit(&deployment, length, Input::Stream)).await;
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Submission { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("400 items") && text.contains(came), "{text}");
        let status = deployment.attach("run").status().await.unwrap();
        assert_eq!(status.state, RunState::Open, "{length}");
    }
    soon(submit(&deployment, 400, Input::Stream)).await.unwrap();
    settles(&store, &deployment, 400, "streams of other lengths").await;
    drop(worker);
}

/// Each of the calls that a submission makes fails twice with an error that may pass.
#[tokio::test(start_paused = true)]
async fn a_submission_outlives_errors_that_pass() {
    for input in [Input::List, Input::Stream] {
        let store = Store::new();
        let failed = Mutex::new(HashMap::new());
        let hook = On(move |call: &Call<'_>| {
            let kind = std::mem::discriminant(call);
            // Kinds of calls, whatever is in them.
            let kind = format!("{kind:?}");
            let mut failed = failed.lock().unwrap();
            let times = failed.entry(kind).or_insert(0);
            *times += 1;
            if *times <= 2 {
                Act::Fail(outage())
            } else {
                Act::Go
            }
        });
        let flaky = deploy(Shape::Reduce, 3, store.hooked(Arc::new(hook)));
        let healthy = deploy(Shape::Reduce, 3, store.backend());
        let worker = healthy.worker().start();
        // Slow enough that the submitter checks whether the run was cancelled.
        let items = futures::StreamExt::then(futures::stream::iter(0..30), async |n| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            n
        });
        match input {
            Input::List => soon(flaky.submit_as("run", 0..30)).await.unwrap(),
            Input::Stream => soon(flaky.submit_stream_as("run", items)).await.unwrap(),
        };
        settles(&store, &healthy, 30, &format!("{input:?}")).await;
        drop(worker);
    }
}
