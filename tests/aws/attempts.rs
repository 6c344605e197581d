//! Attempts over the services: what began counts, and a process that dies is a process.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use catchment::backends::sqs::SqsQueues;
use catchment::queue::{QueueOptions, Queues};
use catchment::{Deployment, Error, OnFailure, Pipeline, Stage};

use super::common::{Tables, config, ministack, unique};

/// Tells a process that a test has started which deployment to work for.
const CHILD: &str = "CATCHMENT_TEST_DEADLY";

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn messages_that_somebody_looks_at_keep_their_only_attempt() {
    for tables in [Tables::Ministack, Tables::DynamoDbLocal] {
        let stage = Stage::named("once").attempts(1).packet_size(2);
        let sum = Pipeline::new()
            .map(|n: u64| n)
            .with(stage.on_failure(OnFailure::Skip));
        let sum = sum.reduce(|| 0, |a, b| a + b);
        let name = unique("looked-at");
        let sum = sum.deploy(&name, tables.backend()).unwrap();
        sum.provision().await.unwrap();
        let run = sum.submit(0..20).await.unwrap();
        let queues = SqsQueues::new(&config(&ministack()));
        let handler = sum.handler("once").unwrap();
        let options = QueueOptions::default();
        let queue = queues.open(handler.queue_name(), &options).await.unwrap();
        for _ in 0..6 {
            let mut seen = Vec::new();
            while seen.len() < 10 {
                seen.extend(queue.receive(10, Duration::from_secs(1)).await.unwrap());
            }
            let receipts = seen.into_iter().map(|delivery| delivery.receipt);
            let released = queue.release(receipts.collect(), Duration::ZERO).await;
            released.unwrap();
        }
        let worker = sum.worker().start();
        let outcome = run.outcome().await.unwrap();
        assert_eq!((outcome.value, outcome.skipped), (190, 0));
        worker.shutdown().await;
        sum.deprovision(&name).await.unwrap();
    }
}

/// A pipeline whose function ends the process at one item.
fn deadly(name: &str) -> Deployment<u64, u64> {
    let stage = Stage::named("deadly")
        .attempts(2)
        .packet_size(1)
        .timeout(Duration::from_secs(1))
        .visibility_timeout(Duration::from_secs(2));
    let sum = Pipeline::new()
        .map(|n: u64| match n {
            7 => std::process::abort(),
            n => n,
        })
        .with(stage)
        .reduce(|| 0, |a, b| a + b);
    sum.deploy(name, Tables::DynamoDbLocal.backend()).unwrap()
}

/// Whichever process this is run in: a worker, if it is told for which deployment.
fn worker_process(name: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "attempts::a_message_that_aborts_its_process_is_caught",
            "--ignored",
        ])
        .env(CHILD, name)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn a_message_that_aborts_its_process_is_caught() {
    if let Ok(name) = std::env::var(CHILD) {
        deadly(&name)
            .worker()
            .run_until(std::future::pending())
            .await
            .unwrap();
        return;
    }
    let name = unique("deadly");
    let sum = deadly(&name);
    sum.provision().await.unwrap();
    let run = sum.submit(0..10).await.unwrap();
    let result = tokio::spawn({
        let run = sum.attach(run.id().clone());
        async move { run.result().await }
    });
    let mut deaths = 0;
    let mut child = worker_process(&name);
    let error = loop {
        if result.is_finished() {
            child.kill().unwrap();
            child.wait().unwrap();
            break result.await.unwrap().unwrap_err();
        }
        match child.try_wait().unwrap() {
            Some(status) => {
                assert!(!status.success());
                deaths += 1;
                child = worker_process(&name);
            }
            None => tokio::task::spawn_blocking(|| {
                std::thread::park_timeout(Duration::from_millis(20));
            })
            .await
            .unwrap(),
        }
    };
    let Error::Failed { failure, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((&*failure.stage, &*failure.message), ("deadly", "packet 7"));
    assert!(
        failure.error.contains("begun 2 times and never finished"),
        "{failure}"
    );
    // One more than it has attempts: of its first delivery nobody knows whether it began.
    assert_eq!(deaths, 3);
    sum.deprovision(&name).await.unwrap();
}
