//! What a pipeline promises, over a file: order, the same bits, failures, redriving, cancelling, leaving out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use catchment::backends::sqlite::SqliteFile;
use catchment::{
    Backend, Backoff, Error, OnFailure, Pipeline, RunState, RunningWorker, Stage, permanent,
};
use futures::TryStreamExt;

use crate::common::counting;
use crate::files::Folder;

/// Numbers whose sum depends on the order of additions.
fn rough(length: u64) -> Vec<f64> {
    let mut random = fastrand::Rng::with_seed(1);
    let one = |_| (random.f64() - 0.5) * 10f64.powi(random.i32(-12..12));
    (0..length).map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn strings_come_together_in_order_however_many_processes_there_are() {
    let pipeline = Pipeline::new()
        .map(|n: u64| format!("{n} "))
        .with(Stage::new().packet_size(3))
        .reduce(String::new, |a, b| a + &b)
        .with(Stage::new().fan_in(3));
    let folder = Folder::new();
    for handles in [1, 3] {
        let name = format!("order-{handles}");
        // Each has the file open by itself, as a process has.
        let open = |_| {
            pipeline
                .deploy(&name, SqliteFile::open(folder.path()).unwrap())
                .unwrap()
        };
        let deployments: Vec<_> = (0..handles).map(open).collect();
        let workers: Vec<RunningWorker> = deployments
            .iter()
            .map(|deployment| deployment.worker().start())
            .collect();
        for length in [0, 1, 9, 10, 200] {
            let run = deployments[0].submit(0..length).await.unwrap();
            let last = &deployments[handles - 1];
            assert_eq!(
                last.attach(run.id()).result().await.unwrap(),
                counting(length),
                "{handles} handles"
            );
        }
        drop(workers);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn floating_point_sums_are_the_same_to_the_bit_as_in_memory() {
    let numbers = rough(1_234);
    let pipeline = Pipeline::new()
        .map(|x: f64| x)
        .with(Stage::new().packet_size(7))
        .reduce(|| 0.0, |a, b| a + b)
        .with(Stage::new().fan_in(5));
    let expected = pipeline.run(numbers.clone()).await.unwrap();
    let folder = Folder::new();
    let deployment = pipeline
        .deploy("sum", Backend::file(folder.path()).unwrap())
        .unwrap();
    let workers = [(); 3].map(|()| deployment.worker().start());
    for _ in 0..2 {
        let run = deployment.submit(numbers.clone()).await.unwrap();
        assert_eq!(run.result().await.unwrap().to_bits(), expected.to_bits());
    }
    drop(workers);
}

#[tokio::test]
async fn a_failed_run_says_so_at_once_and_is_redriven_once_the_cause_is_fixed() {
    let folder = Folder::new();
    let is_fixed = Arc::new(AtomicBool::new(false));
    let deploy = || {
        let is_fixed = Arc::clone(&is_fixed);
        let pipeline = Pipeline::new()
            .try_map(
                move |n: u64| match n != 7 || is_fixed.load(Ordering::SeqCst) {
                    true => Ok(n),
                    false => Err("no price"),
                },
            )
            .with(
                Stage::named("price")
                    .attempts(2)
                    .backoff(Backoff::none())
                    .packet_size(3),
            )
            .reduce(|| 0, |a, b| a + b);
        pipeline
            .deploy("prices", Backend::file(folder.path()).unwrap())
            .unwrap()
    };
    let deployment = deploy();
    let worker = deployment.worker().start();
    let run = deployment.submit_as("november", 0..20).await.unwrap();
    match run.result().await {
        Err(Error::Failed { failure, .. }) => {
            assert_eq!(
                (&*failure.stage, failure.item, &*failure.error),
                ("price", Some(7), "no price")
            );
            assert_eq!(failure.attempts.len(), 2);
        }
        other => panic!("{other:?}"),
    }
    run.settled().await.unwrap();
    worker.shutdown().await;
    drop((run, deployment));
    // Another process finds all of it in the file.
    let deployment = deploy();
    let run = deployment.attach("november");
    let letters = run.dead_letters().await.unwrap();
    assert_eq!((letters.len(), &*letters[0].stage), (1, "price"));
    is_fixed.store(true, Ordering::SeqCst);
    assert_eq!(run.redrive().await.unwrap().redriven, 1);
    let worker = deployment.worker().start();
    assert_eq!(run.result().await.unwrap(), 190);
    assert_eq!(run.status().await.unwrap().messages_failed, 0);
    worker.shutdown().await;
}

#[tokio::test]
async fn a_cancelled_run_ends_and_stays_so() {
    let folder = Folder::new();
    let pipeline = Pipeline::new().map(|n: u64| n).count();
    let deployment = pipeline
        .deploy("count", Backend::file(folder.path()).unwrap())
        .unwrap();
    let run = deployment.submit_as("big", 0..100).await.unwrap();
    assert!(run.cancel().await.unwrap());
    let worker = deployment.worker().start();
    assert!(matches!(run.result().await, Err(Error::Cancelled { .. })));
    let other = deployment.submit(0..10).await.unwrap();
    assert_eq!(other.result().await.unwrap(), 10);
    assert_eq!(run.status().await.unwrap().state, RunState::Cancelled);
    worker.shutdown().await;
}

#[tokio::test]
async fn items_that_may_be_left_out_are_listed() {
    let folder = Folder::new();
    let pipeline = Pipeline::new()
        .try_map(|text: String| text.parse::<u64>().map_err(permanent))
        .with(
            Stage::named("parse")
                .on_failure(OnFailure::Skip)
                .packet_size(4),
        )
        .reduce(|| 0, |a, b| a + b);
    let deployment = pipeline
        .deploy("sum", Backend::file(folder.path()).unwrap())
        .unwrap();
    let worker = deployment.worker().start();
    let texts = (0..20).map(|n| {
        if n % 5 == 3 {
            "?".to_owned()
        } else {
            n.to_string()
        }
    });
    let run = deployment.submit(texts).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    assert_eq!(
        (outcome.value, outcome.skipped, outcome.contains),
        (190 - 3 - 8 - 13 - 18, 4, 16)
    );
    let items: Vec<_> = run
        .failures()
        .limit(1)
        .stream()
        .map_ok(|failure| failure.item)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(items, [3, 8, 13, 18].map(Some));
    worker.shutdown().await;
}

/// Two deployments in one file may use the same run ids.
#[tokio::test]
async fn deployments_have_runs_of_their_own() {
    let folder = Folder::new();
    let file = SqliteFile::open(folder.path()).unwrap();
    let count = Pipeline::new()
        .map(|n: u64| n)
        .count()
        .deploy("count", file.clone())
        .unwrap();
    let sum = Pipeline::new()
        .map(|n: u64| n)
        .reduce(|| 0, |a, b| a + b)
        .deploy("sum", file)
        .unwrap();
    let workers = [count.worker().start(), sum.worker().start()];
    let counted = count.submit_as("run", 0..5).await.unwrap();
    let summed = sum.submit_as("run", 0..5).await.unwrap();
    assert_eq!(
        (
            counted.result().await.unwrap(),
            summed.result().await.unwrap()
        ),
        (5, 10)
    );
    sum.deprovision("sum").await.unwrap();
    assert!(matches!(
        sum.attach("run").status().await,
        Err(Error::NoSuchRun { .. })
    ));
    assert_eq!(count.attach("run").result().await.unwrap(), 5);
    drop(workers);
}
