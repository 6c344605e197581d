//! How much of a stage is done at once, and how fast.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use catchment::{Backend, Pipeline, Stage};
use tokio::time::{Instant, sleep};

use super::*;
use crate::common::*;

#[tokio::test(start_paused = true)]
async fn no_more_items_are_in_flight_than_an_asynchronous_stage_allows() {
    for (concurrency, packet_size) in [(1, 1), (5, 1), (5, 3), (5, 20), (1_000, 3)] {
        let gauges = [Gauge::default(), Gauge::default()];
        let [first, second] = gauges.clone();
        let measured = |gauge: Gauge| {
            move |n: u64| {
                let gauge = gauge.clone();
                async move {
                    gauge.enter();
                    sleep(SECOND).await;
                    gauge.leave();
                    ok(n).await
                }
            }
        };
        let limit = || Stage::new().concurrency(concurrency);
        let pipeline = Pipeline::new()
            .then(measured(first))
            .with(limit().packet_size(packet_size))
            .then(measured(second))
            .with(limit())
            .reduce(|| 0, |a, b| a + b);
        assert_eq!(soon(pipeline.run(0..100)).await.unwrap(), 4_950);
        for gauge in gauges {
            let most = gauge.most();
            assert!(
                most <= concurrency,
                "{most} in flight, {concurrency} allowed"
            );
            assert!(
                most >= concurrency.min(20),
                "{most} in flight, {concurrency} would do"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_cpu_bound_work_runs_at_once_than_the_worker_allows() {
    for (worker, stage, allowed) in [(1, 8, 1), (2, 8, 2), (8, 2, 4), (8, 1, 2)] {
        let gauge = Gauge::default();
        let [first, second, third] = [(); 3].map(|()| gauge.clone());
        let limit = || Stage::new().concurrency(stage);
        let pipeline = Pipeline::new()
            .map(move |n: u64| {
                first.linger();
                n
            })
            .with(limit())
            .map(move |n| {
                second.linger();
                n
            })
            .with(limit())
            .reduce(
                || 0,
                move |a, b| {
                    third.linger();
                    a + b
                },
            )
            // Its own work are the groups; the leaves are folded where they are made.
            .with(Stage::new().fan_in(1_000));
        let deployment = pipeline.deploy("cpu", Backend::memory()).unwrap();
        let running = deployment.worker().concurrency(worker).start();
        let run = deployment.submit(0..100).await.unwrap();
        assert_eq!(run.result().await.unwrap(), 4_950);
        let most = gauge.most();
        assert!(
            most <= allowed,
            "{most} at once, {worker} allowed, {stage} for each stage"
        );
        drop(running);
    }
}

/// Folding after an asynchronous stage is CPU-bound work like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_folds_run_at_once_than_the_worker_allows() {
    let gauge = Gauge::default();
    let inner = gauge.clone();
    let pipeline = Pipeline::new().then(ok::<u64>).fold(
        || 0,
        move |sum, n| {
            inner.linger();
            sum + n
        },
        |a, b| a + b,
    );
    let deployment = pipeline.deploy("fold", Backend::memory()).unwrap();
    let running = deployment.worker().concurrency(1).prefetch(64).start();
    let run = deployment.submit(0..500).await.unwrap();
    assert_eq!(run.result().await.unwrap(), (0..500).sum::<u64>());
    let most = gauge.most();
    assert!(
        most <= 1,
        "{most} folds at once in a worker that allows one"
    );
    drop(running);
}

/// No more items than that begin in any second. CPU-bound stages begin whole packets.
fn check_pace(mut begun: Vec<Instant>, items: usize, what: &str) {
    begun.sort_unstable();
    for (index, first) in begun.iter().enumerate() {
        let within = begun[index..]
            .iter()
            .take_while(|at| **at - *first < SECOND);
        let within = within.count();
        assert!(within <= items, "{what}: {within} within a second");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_items_begin_in_a_second_than_the_rate_limit_allows() {
    for (packet_size, asynchronous) in [(1, true), (4, true), (30, true), (1, false), (4, false)] {
        let what = format!("packets of {packet_size}, asynchronous: {asynchronous}");
        let begun = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&begun);
        let note = move || seen.lock().unwrap().push(Instant::now());
        let limit = Stage::new().packet_size(packet_size).rate_limit(10, SECOND);
        let items = match asynchronous {
            true => Pipeline::new().then(move |n: u64| {
                note();
                ok(n)
            }),
            false => Pipeline::new().map(move |n: u64| {
                note();
                n
            }),
        };
        let pipeline = items.with(limit).reduce(|| 0, |a, b| a + b);
        let begin = Instant::now();
        assert_eq!(soon(pipeline.run(0..100)).await.unwrap(), 4_950);
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(9_000), "{what}: {took:?}");
        assert!(took <= Duration::from_millis(11_000), "{what}: {took:?}");
        let begun = begun.lock().unwrap().clone();
        assert_eq!(begun.len(), 100);
        let burst = if asynchronous {
            0
        } else {
            packet_size as usize - 1
        };
        check_pace(begun, 10 + burst, &what);
    }
}

/// Finishing a result is one call, however many items the result stands for.
#[tokio::test(start_paused = true)]
async fn the_one_value_counts_once_for_a_rate_limit() {
    for asynchronous in [true, false] {
        let one = || Pipeline::new().then(ok::<u64>).reduce(|| 0, |a, b| a + b);
        let finished = match asynchronous {
            true => one().then(ok),
            false => one().map(|sum| sum),
        };
        let finished = finished.with(Stage::new().rate_limit(1, SECOND));
        let deployment = finished.deploy("finish", Backend::memory()).unwrap();
        let worker = deployment.worker().start();
        let begin = Instant::now();
        for _ in 0..5 {
            let run = deployment.submit(0..100).await.unwrap();
            assert_eq!(soon(run.result()).await.unwrap(), 4_950);
        }
        let took = begin.elapsed();
        assert!(
            took < 6 * SECOND,
            "asynchronous: {asynchronous}, five results took {took:?}"
        );
        drop(worker);
    }
}
