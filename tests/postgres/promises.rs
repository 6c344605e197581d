//! The promises of a pipeline, each once over PostgreSQL.

use std::time::Duration;

use catchment::{Backend, Deployment, Error, OnFailure, Pipeline, RunState, Stage};

use crate::common::backend;

fn adder(backend: Backend, limit: i64) -> Deployment<i64, i64> {
    let stage = Stage::named("times_two").packet_size(3).attempts(2);
    let adder = Pipeline::new()
        .try_map(move |n: i64| match n {
            n if n > limit => Err(catchment::permanent(format!("{n} is above {limit}"))),
            n => Ok(n * 2),
        })
        .with(stage)
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum").fan_in(4));
    adder.deploy("adder", backend).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn results_are_in_the_order_of_the_items() {
    let backend = backend();
    let listed = Pipeline::new()
        .map(|n: u32| n.to_string())
        .with(Stage::named("write").packet_size(3))
        .collect()
        .with(Stage::named("list").fan_in(4));
    let listed = listed.deploy("listed", backend).unwrap();
    listed.provision().await.unwrap();
    let workers = [(); 3].map(|()| listed.worker().start());
    for count in [0, 1, 4, 16, 500] {
        let run = listed.submit(0..count).await.unwrap();
        let expected: Vec<String> = (0..count).map(|n| n.to_string()).collect();
        assert_eq!(run.result().await.unwrap(), expected);
    }
    for worker in workers {
        worker.shutdown().await;
    }
}

/// The same bits as in memory, whatever the workers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn floats_are_added_in_one_order() {
    let mut sums = Vec::new();
    for backend in [backend(), Backend::memory(), backend()] {
        let total = Pipeline::new()
            .map(|n: u32| 1.0 / f64::from(n + 1))
            .with(Stage::named("invert").packet_size(7))
            .reduce(|| 0.0, |a, b| a + b)
            .with(Stage::named("total").fan_in(3));
        let total = total.deploy("total", backend).unwrap();
        total.provision().await.unwrap();
        let workers = [(); 2].map(|()| total.worker().concurrency(4).start());
        let sum = total
            .submit(0..1_000)
            .await
            .unwrap()
            .result()
            .await
            .unwrap();
        sums.push(sum.to_bits());
        for worker in workers {
            worker.shutdown().await;
        }
    }
    assert_eq!((sums[0], sums[1]), (sums[2], sums[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn a_failed_run_is_completed_by_a_redrive() {
    let backend = backend();
    let strict = adder(backend.clone(), 90);
    strict.provision().await.unwrap();
    let worker = strict.worker().start();
    let run = strict.submit(1..=100).await.unwrap();
    match run.result().await.unwrap_err() {
        Error::Failed { failure, .. } => {
            assert!(failure.error.contains("is above 90"), "{failure}")
        }
        other => panic!("{other:?}"),
    }
    run.settled().await.unwrap();
    worker.shutdown().await;
    let status = run.status().await.unwrap();
    assert_eq!(status.state, RunState::Failed);
    let letters = run.dead_letters().limit(100).await.unwrap();
    assert_eq!(letters.len(), 4, "{letters:?}");
    let lenient = adder(backend, 1_000);
    let run = lenient.attach(run.id());
    assert_eq!(run.redrive().await.unwrap().redriven, 4);
    let worker = lenient.worker().start();
    assert_eq!(run.result().await.unwrap(), 10_100);
    assert!(run.dead_letters().limit(100).await.unwrap().is_empty());
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn bad_items_are_left_out_and_listed() {
    let adder = Pipeline::new()
        .try_map(|n: i64| match n % 10 {
            0 => Err(catchment::permanent("a ten")),
            _ => Ok(n),
        })
        .with(
            Stage::named("check")
                .packet_size(7)
                .on_failure(OnFailure::Skip),
        )
        .count();
    let adder = adder.deploy("skipping", backend()).unwrap();
    adder.provision().await.unwrap();
    let worker = adder.worker().start();
    let outcome = adder
        .submit(1..=100)
        .await
        .unwrap()
        .outcome()
        .await
        .unwrap();
    assert_eq!(
        (outcome.value, outcome.contains, outcome.skipped),
        (90, 90, 10)
    );
    let items: Vec<Option<u64>> = outcome
        .failures
        .iter()
        .map(|failure| failure.item)
        .collect();
    assert_eq!(items, Vec::from_iter((0..10).map(|n| Some(10 * n + 9))));
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn a_cancelled_run_ends_and_leaves_nothing_on_its_queues() {
    let adder = adder(backend(), 1_000);
    adder.provision().await.unwrap();
    let run = adder.submit(1..=100).await.unwrap();
    assert!(run.cancel().await.unwrap());
    assert!(matches!(run.result().await, Err(Error::Cancelled { .. })));
    let worker = adder.worker().start();
    // A later run's result shows that the first one's messages have been taken.
    assert_eq!(
        adder.submit(1..=10).await.unwrap().result().await.unwrap(),
        110
    );
    worker.shutdown().await;
    let runs = adder.runs(catchment::RunFilter::new().state(RunState::Cancelled));
    assert_eq!(runs.limit(10).await.unwrap().len(), 1);
}

/// Runs of one id in two deployments, and in two schemas, are different runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn deployments_share_tables_and_nothing_else() {
    let backend = backend();
    let mut workers = Vec::new();
    let mut runs = Vec::new();
    for (name, backend, last) in [
        ("a", backend.clone(), 10),
        ("b", backend, 20),
        ("a", self::backend(), 30),
    ] {
        let adder = Pipeline::new().map(|n: i64| n).reduce(|| 0, |a, b| a + b);
        let adder = adder.deploy(name, backend).unwrap();
        adder.provision().await.unwrap();
        runs.push((adder.submit_as("monday", 1..=last).await.unwrap(), last));
        workers.push(adder.worker().start());
    }
    for (run, last) in runs {
        assert_eq!(run.result().await.unwrap(), last * (last + 1) / 2);
    }
    for worker in workers {
        worker.shutdown().await;
    }
}

/// Whoever waits in another process learns of the end soon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn a_stream_of_unknown_length_is_summed_up() {
    let adder = adder(backend(), 10_000);
    adder.provision().await.unwrap();
    let worker = adder.worker().start();
    let run = adder
        .submit_stream(futures::stream::iter(1..=5_000))
        .await
        .unwrap();
    let result = tokio::time::timeout(Duration::from_secs(120), run.result());
    assert_eq!(result.await.unwrap().unwrap(), 25_005_000);
    worker.shutdown().await;
}
