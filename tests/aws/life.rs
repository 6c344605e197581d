//! The life of queues and tables on the emulators: made, removed, and made again while others use them.

use std::time::Duration;

use catchment::provision::{Action, Change};
use catchment::{Deployment, Pipeline};
use futures::future::try_join_all;

use crate::common::{Tables, unique};

fn adder(name: &str, tables: Tables) -> Deployment<i64, i64> {
    let adder = Pipeline::new()
        .map(|n: i64| n * 2)
        .reduce(|| 0, |a, b| a + b);
    adder.deploy(name, tables.backend()).unwrap()
}

fn all(changes: &[Change], action: &Action) {
    assert!(changes.iter().all(|it| it.action == *action), "{changes:?}");
}

/// A worker that runs meanwhile finds the new queues by itself. (The emulators make a queue again at once, where SQS asks for a
/// minute.)
async fn a_deployment_is_made_removed_and_made_again(tables: Tables) {
    let name = unique("life");
    let first = adder(&name, tables);
    all(&first.provision().await.unwrap(), &Action::Created);
    let worker = first.worker().start();
    let sum = first.submit(1..=100).await.unwrap().result().await.unwrap();
    assert_eq!(sum, 10_100);
    all(&first.deprovision(&name).await.unwrap(), &Action::Deleted);
    assert!(first.deprovision(&name).await.unwrap().is_empty());
    // Another process, which has not seen the first queues.
    let second = adder(&name, tables);
    second.provision().await.unwrap();
    let run = second.submit(1..=200).await.unwrap();
    let sum = tokio::time::timeout(Duration::from_secs(120), run.result());
    assert_eq!(sum.await.unwrap().unwrap(), 40_200);
    worker.shutdown().await;
    second.deprovision(&name).await.unwrap();
}

async fn many_provision_and_deprovision_at_once(tables: Tables) {
    let name = unique("lives");
    for _ in 0..3 {
        let deployments: Vec<_> = (0..6).map(|_| adder(&name, tables)).collect();
        let made = deployments.iter().map(Deployment::provision);
        let made = try_join_all(made).await.unwrap();
        assert!(made.iter().all(|changes| changes.len() == 6), "{made:?}");
        let again = deployments[0].provision().await.unwrap();
        all(&again, &Action::Unchanged);
        let removed = deployments.iter().map(|it| it.deprovision(&name));
        try_join_all(removed).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the emulators that scripts/test starts"]
async fn a_deployment_is_made_removed_and_made_again_on_ministack() {
    a_deployment_is_made_removed_and_made_again(Tables::Ministack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the emulators that scripts/test starts"]
async fn a_deployment_is_made_removed_and_made_again_on_dynamodb_local() {
    a_deployment_is_made_removed_and_made_again(Tables::DynamoDbLocal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the emulators that scripts/test starts"]
async fn many_provision_and_deprovision_at_once_on_ministack() {
    many_provision_and_deprovision_at_once(Tables::Ministack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the emulators that scripts/test starts"]
async fn many_provision_and_deprovision_at_once_on_dynamodb_local() {
    many_provision_and_deprovision_at_once(Tables::DynamoDbLocal).await;
}
