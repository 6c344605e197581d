//! Definitions that `deploy` refuses, and those that it accepts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use catchment::backends::memory::{MemoryQueues, MemoryScratchpad};
use catchment::{Backend, Backoff, Error, OnFailure, Pipeline, RunState, Stage, Worker};
use futures::stream;

use super::*;
use crate::common::*;

#[test]
fn debug_names_the_parts_and_nothing_that_they_store() {
    let backend = Backend::memory();
    let sum = Pipeline::new().map(|n: u64| n).reduce(|| 0, |a, b| a + b);
    let sum = sum.deploy("sums", backend.clone()).unwrap();
    for text in [format!("{backend:?}"), format!("{sum:?}")] {
        assert!(text.contains("MemoryQueues {"), "{text}");
        assert!(text.contains("MemoryScratchpad {"), "{text}");
        assert!(!text.contains("store"), "{text}");
    }
    assert!(format!("{sum:?}").contains("\"sums\""), "{sum:?}");
}

#[test]
fn what_cannot_work_is_refused_with_what_where_and_what_to_do() {
    let map = || Pipeline::new().map(|n: u64| n);
    let reduce = || map().reduce(|| 0, |a, b| a + b);
    let refused = |pipeline: Sum, name: &str, parts: &[&str]| {
        let error = pipeline.deploy(name, Backend::memory()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::InvalidPipeline { .. }), "{text}");
        assert!(!error.is_retryable());
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
    };
    let sum = |pipeline: Pipeline<u64>| pipeline.reduce(|| 0, |a, b| a + b);
    let long = "x".repeat(60);

    let twice = map()
        .with(Stage::named("same"))
        .map(|n| n)
        .with(Stage::named("same"));
    refused(sum(twice), "d", &["two stages", "`same`", "another name"]);
    let taken = map().with(Stage::named("reduce-1"));
    refused(sum(taken), "d", &["two stages", "`reduce-1`"]);
    refused(
        sum(map().with(Stage::named("a b"))),
        "d",
        &["stage `a b`", "' '", "use ASCII"],
    );
    refused(
        sum(map().with(Stage::named("größe"))),
        "d",
        &["größe", "use ASCII"],
    );
    refused(
        sum(map().with(Stage::named("a.b"))),
        "d",
        &["a.b", "use ASCII"],
    );
    refused(
        sum(map().with(Stage::named(""))),
        "d",
        &["stage", "empty name"],
    );
    refused(
        sum(map().with(Stage::named("orders::parse"))),
        "d",
        &["`orders::parse`", "':'", "write `orders_parse` instead"],
    );
    for bad in ["x--dead", "-dead", "dead-"] {
        let named = || sum(map().with(Stage::named(bad)));
        let instead = if bad == "x--dead" {
            "`x-dead`"
        } else {
            "`dead`"
        };
        refused(named(), "d", &["stage", bad, "write", instead, "instead"]);
        refused(reduce(), bad, &["deployment", bad, "write", instead]);
    }
    // Neither is a dead-letter queue of `d`.
    for good in ["dead", "x-dead"] {
        let named = sum(map().with(Stage::named(good)));
        named.deploy("d", Backend::memory()).unwrap();
    }
    refused(reduce(), "", &["deployment", "empty name"]);
    refused(
        reduce(),
        "my deployment",
        &["deployment `my deployment`", "' '", "use ASCII"],
    );
    let stage = sum(map().with(Stage::named(long.clone())));
    refused(
        stage,
        "deployment-name",
        &[&long, "77 characters", "at most 74", "shorten"],
    );

    let by = |n| reduce().with(Stage::new().fan_in(n));
    refused(
        by(0),
        "d",
        &["stage `reduce-1`", "fan_in is 0", "at least 2"],
    );
    refused(
        by(1),
        "d",
        &["stage `reduce-1`", "fan_in is 1", "at least 2"],
    );
    refused(
        by(1_001),
        "d",
        &["stage `reduce-1`", "fan_in is 1001", "at most 1000"],
    );
    let on_map = |stage| sum(map().with(stage));
    refused(
        on_map(Stage::new().fan_in(4)),
        "d",
        &["stage `map-0`", "fan_in", "a reduction"],
    );
    refused(
        on_map(Stage::new().attempts(0)),
        "d",
        &["stage `map-0`", "attempts is 0", "at least 1"],
    );
    refused(
        on_map(Stage::new().concurrency(0)),
        "d",
        &["`map-0`", "concurrency is 0", "at least 1"],
    );
    refused(
        on_map(Stage::new().packet_size(0)),
        "d",
        &["`map-0`", "packet_size is 0", "at least 1"],
    );
    let zero = Duration::ZERO;
    refused(
        on_map(Stage::new().timeout(zero)),
        "d",
        &["`map-0`", "timeout is 0", "positive"],
    );
    let hidden = Stage::new().visibility_timeout(zero);
    refused(
        on_map(hidden),
        "d",
        &["`map-0`", "visibility_timeout is 0", "positive"],
    );
    let rate = Stage::new().rate_limit(0, SECOND);
    refused(
        on_map(rate),
        "d",
        &["`map-0`", "rate_limit is 0", "at least 1"],
    );
    let share = Stage::new().on_failure(OnFailure::TolerateShare(101.0));
    refused(on_map(share), "d", &["`map-0`", "101 per cent", "0 to 100"]);

    let later = map()
        .with(Stage::new())
        .map(|n| n)
        .with(Stage::named("later").packet_size(4));
    refused(
        sum(later),
        "d",
        &["stage `later`", "packet_size", "first stage"],
    );
    refused(
        reduce().with(Stage::new().packet_size(4)),
        "d",
        &["`reduce-1`", "packet_size"],
    );
    let skip = || Stage::new().on_failure(OnFailure::Skip);
    refused(
        reduce().with(skip()),
        "d",
        &["`reduce-1`", "on_failure", "before the reduction"],
    );
    refused(
        reduce().map(|n| n).with(skip()),
        "d",
        &["`map-2`", "before the reduction"],
    );

    let early = Pipeline::new().with(Stage::named("early")).map(|n: u64| n);
    refused(sum(early), "d", &["`with`", "before the first stage"]);

    // The longest names that fit, and options that accumulate.
    let fits = sum(map()
        .with(Stage::named("x".repeat(71)))
        .with(Stage::new().attempts(2)));
    let fits = fits.deploy("d", Backend::memory()).unwrap();
    assert_eq!(fits.stages().next().unwrap().len(), 71);
}

#[tokio::test(start_paused = true)]
async fn the_longest_durations_mean_for_ever() {
    let endless = || {
        Stage::new()
            .timeout(Duration::MAX)
            .visibility_timeout(Duration::MAX)
            .backoff(Backoff::exponential(Duration::ZERO, Duration::MAX))
    };
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let pipeline = Pipeline::new()
        .then(move |n: u64| {
            // The first two fail once.
            let fails = count.fetch_add(1, SeqCst) < 2;
            async move { if fails { Err("once") } else { Ok(n) } }
        })
        .with(endless())
        .map(|n| n)
        .with(endless())
        .reduce(|| 0, |a, b| a + b)
        .with(endless());
    let backend = Backend::new(
        Arc::new(MemoryQueues::new()),
        Arc::new(MemoryScratchpad::new().retention(Duration::MAX)),
    );
    let deployment = pipeline.deploy("long", backend).unwrap();
    let worker = deployment
        .worker()
        .cancel_check(Duration::MAX)
        .grace_period(Duration::MAX);
    let worker = worker.start();
    let run = deployment.submit(0..10).await.unwrap();
    assert_eq!(
        soon(run.wait(Duration::MAX)).await.unwrap().state,
        RunState::Done
    );
    assert_eq!(run.result().await.unwrap(), 45);
    soon(worker.shutdown()).await;
}

#[tokio::test(start_paused = true)]
async fn what_deploy_refuses_run_refuses_too() {
    let pipeline = quick().with(Stage::new().fan_in(1));
    assert!(matches!(
        pipeline.run([1]).await,
        Err(Error::InvalidPipeline { .. })
    ));
    let items = stream::iter([1]);
    assert!(matches!(
        pipeline.run_stream(items).await,
        Err(Error::InvalidPipeline { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn provisioning_is_safe_to_repeat() {
    let backend = Backend::new(
        Arc::new(MemoryQueues::new()),
        Arc::new(MemoryScratchpad::new()),
    );
    let deployment = quick().deploy("safe", backend).unwrap();
    deployment.provision().await.unwrap();
    let run = deployment.submit(0..10).await.unwrap();
    deployment.provision().await.unwrap();
    let worker: Worker = deployment.worker();
    let worker = worker.start();
    assert_eq!(soon(run.result()).await.unwrap(), 45);
    deployment.provision().await.unwrap();
    drop(worker);
}
