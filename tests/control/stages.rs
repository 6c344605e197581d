//! Which stages a worker serves, in which order, and deployments that share a backend.

use std::sync::{Arc, Mutex};

use catchment::queue::Depth;
use catchment::{Backend, Deployment, Error, Pipeline, Stage};
use tokio::time::sleep;

use super::*;
use crate::common::*;

fn three_stages() -> Sum {
    Pipeline::new()
        .then(ok::<u64>)
        .with(Stage::named("first"))
        .then(|n| ok(n * 2))
        .with(Stage::named("second"))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("last").fan_in(2))
}

#[tokio::test(start_paused = true)]
async fn a_worker_may_serve_some_of_the_stages() {
    let store = Store::new();
    let deployment = three_stages().deploy("some", store.backend()).unwrap();
    let run = deployment.submit(0..10).await.unwrap();
    let depths = async || {
        sleep(SECOND).await;
        let mut depths = Vec::new();
        for stage in ["first", "second", "last"] {
            let depth = store
                .queue(&format!("some--{stage}"))
                .await
                .depth()
                .await
                .unwrap();
            depths.push(depth.ready + depth.in_flight);
        }
        depths
    };
    let first = deployment.worker().stages(["first", "first"]).start();
    assert_eq!(depths().await, [0, 10, 0]);
    let second = deployment
        .worker()
        .stages(vec!["second".to_owned()])
        .start();
    assert_eq!(depths().await, [0, 0, 5]);
    let last = deployment.worker().stages(["last"]).start();
    assert_eq!(soon(run.result()).await.unwrap(), 90);
    let again = deployment.submit(0..100).await.unwrap();
    assert_eq!(soon(again.result()).await.unwrap(), 9_900);
    for worker in [first, second, last] {
        worker.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_does_not_exist_is_an_error_of_the_worker() {
    let deployment = three_stages().deploy("none", Backend::memory()).unwrap();
    let worker = || deployment.worker().stages(["first", "thrid"]);
    let check = |error: Error| {
        let text = error.to_string();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{text}");
        assert!(
            text.contains("`thrid`") && text.contains("first, second, last"),
            "{text}"
        );
    };
    check(soon(worker().start().finished()).await.unwrap_err());
    check(
        soon(worker().run_until(std::future::pending()))
            .await
            .unwrap_err(),
    );
    soon(worker().start().shutdown()).await;
}

/// The most packets that waited between two CPU-bound stages, the first of which takes this long for an item.
async fn most_between(items: u64, takes: Duration) -> i32 {
    let trace = Arc::new(Mutex::new(Vec::new()));
    let (first, second) = (Arc::clone(&trace), Arc::clone(&trace));
    let pipeline = Pipeline::new()
        .map(move |n: u64| {
            let begun = std::time::Instant::now();
            while begun.elapsed() < takes {
                std::hint::spin_loop();
            }
            first.lock().unwrap().push(1);
            n
        })
        .with(Stage::named("first").packet_size(1))
        .map(move |n| {
            second.lock().unwrap().push(-1);
            n
        })
        .with(Stage::named("second"))
        .reduce(|| 0, |a, b| a + b);
    let deployment = pipeline.deploy("first", Backend::memory()).unwrap();
    let run = deployment.submit(0..items).await.unwrap();
    let worker = deployment.worker().concurrency(1).start();
    assert_eq!(run.result().await.unwrap(), items * (items - 1) / 2);
    drop(worker);
    let mut backlog = 0i32;
    let trace = trace.lock().unwrap();
    let backlogs = trace.iter().map(|step| {
        backlog += step;
        backlog
    });
    let most = backlogs.max().unwrap();
    assert_eq!(backlog, 0);
    most
}

#[tokio::test]
async fn later_stages_go_first() {
    let most = most_between(40, Duration::from_millis(10)).await;
    assert!(most <= 8, "{most} packets waited between the stages");
}

/// The later stage goes first once those have ended that were begun together.
#[tokio::test]
async fn few_packets_wait_between_quick_stages() {
    let most = most_between(1_000, Duration::ZERO).await;
    assert!(most <= 500, "{most} packets waited between the stages");
}

/// Packets go on while others that were begun together with them still run: each waits for one before it.
#[tokio::test]
async fn packets_that_are_done_wait_for_no_others() {
    const BEFORE: u64 = 10;
    let (done, heard) = std::sync::mpsc::channel();
    let heard = Mutex::new(heard);
    let pipeline = Pipeline::new()
        .map(move |n: u64| {
            if n >= BEFORE {
                let next = heard.lock().unwrap().recv_timeout(MINUTE);
                assert!(next.is_ok(), "item {n} waits, and none before it goes on");
            }
            n
        })
        .with(Stage::named("first").packet_size(1).concurrency(1))
        .map(move |n| {
            // The receiver has gone once the first stage is done.
            let _ = done.send(n);
            n
        })
        .with(Stage::named("second"))
        .reduce(|| 0, |a, b| a + b);
    let deployment = pipeline.deploy("before", Backend::memory()).unwrap();
    let worker = deployment.worker().concurrency(2).start();
    let run = deployment.submit(0..100).await.unwrap();
    assert_eq!(run.result().await.unwrap(), 4_950);
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn many_runs_of_many_deployments_share_a_backend() {
    let store = Store::new();
    let deployments: Vec<Deployment<u64, u64>> = (0..5)
        .map(|n| quick().deploy(&format!("d{n}"), store.backend()).unwrap())
        .collect();
    let workers: Vec<_> = deployments
        .iter()
        .map(|deployment| deployment.worker().start())
        .collect();
    let mut runs = Vec::new();
    for length in 0..40 {
        for deployment in &deployments {
            runs.push((length, deployment.submit(0..length).await.unwrap()));
        }
    }
    for (length, run) in runs {
        assert_eq!(soon(run.result()).await.unwrap(), (0..length).sum::<u64>());
    }
    for (deployment, worker) in deployments.iter().zip(workers) {
        worker.shutdown().await;
        assert_eq!(store.depth(deployment).await, Depth::default());
    }
}

/// A run continues as it was begun when a new version with other sizes is deployed.
#[tokio::test(start_paused = true)]
async fn other_sizes_do_not_disturb_runs_that_are_under_way() {
    let version = |fan_in: u32, packet_size: u32| {
        Pipeline::new()
            .then(|n: u64| ok(format!("{n} ")))
            .with(Stage::new().packet_size(packet_size))
            .combine(Concat)
            .with(Stage::new().fan_in(fan_in))
    };
    for length in [0, 1, 5, 30, 81] {
        let store = Store::new();
        let old = version(3, 2).deploy("sizes", store.backend()).unwrap();
        let new = version(5, 7).deploy("sizes", store.backend()).unwrap();
        // Some of it under way, then both versions at work, then the submission repeated by the new
        // one.
        old.submit_as("run", 0..length).await.unwrap();
        let worker = old.worker().prefetch(1).start();
        for _ in 0..30 {
            tokio::task::yield_now().await;
        }
        soon(worker.shutdown()).await;
        let worker = new.worker().start();
        let run = new.submit_as("run", 0..length).await.unwrap();
        assert_eq!(soon(run.result()).await.unwrap(), counting(length));
        let fresh = new.submit_as("fresh", 0..length).await.unwrap();
        assert_eq!(soon(fresh.result()).await.unwrap(), counting(length));
        drop(worker);
    }
}
