//! An item that ends its process: it is found, and its neighbours are not lost with it.

use catchment::{Error, Pipeline};
use tempfile::TempDir;

use super::*;
use crate::common::unique;

const DEADLY: u64 = 7;
const LENGTH: u64 = 20;
/// Two more than it has attempts: of its first delivery nobody knows whether it began, and of the second at which item it
/// ended.
const DEATHS: u32 = 4;
const BEGUN: &str = "begun 2 times and never finished";

/// A pipeline whose function ends the process at one item, unless the deployment's name says that it is fixed.
fn deadly(name: &str, calls: &Calls, policy: OnFailure, is_fixed: bool) -> Kept {
    let calls = calls.clone();
    let stage = skipping(2)
        .on_failure(policy)
        .packet_size(5)
        .timeout(Duration::from_secs(1))
        .visibility_timeout(Duration::from_secs(2));
    let items = Pipeline::new().try_map_with(move |n: u64, context| {
        calls.note(n, context.attempt());
        match n {
            DEADLY if !is_fixed => std::process::abort(),
            n => Ok::<_, String>(n),
        }
    });
    let pipeline = items.with(stage).collect();
    let backend = Tables::DynamoDbLocal.backend();
    pipeline.deploy(name, backend).unwrap()
}

/// Replaces the worker each time it dies, until the future is done. Returns its output and the number of deaths.
async fn replacing<T>(
    test: &str,
    name: &str,
    calls: &Calls,
    until: impl Future<Output = T>,
) -> (T, u32) {
    let mut until = std::pin::pin!(tokio::time::timeout(PATIENCE, until));
    let mut deaths = 0;
    let mut process = Process::start(test, name, &calls.0);
    loop {
        tokio::select! {
            done = &mut until => return (done.expect("it has no end"), deaths),
            () = poll() => {}
        }
        if let Some(in_order) = process.ended() {
            assert!(!in_order, "it was not told to end");
            deaths += 1;
            process = Process::start(test, name, &calls.0);
        }
    }
}

fn assert_neighbours_called(calls: &Calls, deaths: u32) {
    for item in (0..LENGTH).filter(|item| *item != DEADLY) {
        let times = calls.attempts(item).len() as u32;
        assert!((1..=deaths + 1).contains(&times), "item {item}: {times}");
    }
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn an_item_that_aborts_its_process_is_left_out() {
    const TEST: &str = "items::deaths::an_item_that_aborts_its_process_is_left_out";
    if let Some((name, calls)) = told() {
        return work(&deadly(&name, &calls, OnFailure::Skip, false)).await;
    }
    let folder = TempDir::new().unwrap();
    let calls = Calls(folder.path().join("calls"));
    let name = unique("deadly-item");
    let deployment = deadly(&name, &calls, OnFailure::Skip, false);
    deployment.provision().await.unwrap();
    let run = deployment.submit(0..LENGTH).await.unwrap();
    let (outcome, deaths) = replacing(TEST, &name, &calls, run.outcome()).await;
    let outcome = outcome.unwrap();
    let expected: Vec<u64> = (0..LENGTH).filter(|item| *item != DEADLY).collect();
    assert_eq!((outcome.value, outcome.skipped), (expected, 1));
    let listed = run.failures().await.unwrap();
    let [failure] = &listed[..] else {
        panic!("{listed:?}");
    };
    assert_eq!(failure.item, Some(DEADLY), "{failure:?}");
    assert!(failure.is_skipped(), "{failure:?}");
    assert_eq!(failure.label, Some(label(&DEADLY)), "{failure:?}");
    assert!(failure.error.contains(BEGUN), "{failure:?}");
    assert_eq!(
        (deaths, calls.attempts(DEADLY).len()),
        (DEATHS, DEATHS as usize)
    );
    assert_neighbours_called(&calls, deaths);
    deployment.deprovision(&name).await.unwrap();
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn a_dead_letter_names_the_item_that_aborts_its_process() {
    const TEST: &str = "items::deaths::a_dead_letter_names_the_item_that_aborts_its_process";
    if let Some((name, calls)) = told() {
        return work(&deadly(&name, &calls, OnFailure::Fail, false)).await;
    }
    let folder = TempDir::new().unwrap();
    let calls = Calls(folder.path().join("calls"));
    let name = unique("deadly-letter");
    let deployment = deadly(&name, &calls, OnFailure::Fail, false);
    deployment.provision().await.unwrap();
    let run = deployment.submit(0..LENGTH).await.unwrap();
    let ends = async {
        let error = run.result().await.unwrap_err();
        run.settled().await.unwrap();
        error
    };
    let (error, deaths) = replacing(TEST, &name, &calls, ends).await;
    let Error::Failed { failure, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(failure.item, Some(DEADLY), "{failure:?}");
    assert!(failure.error.contains(BEGUN), "{failure:?}");
    let letters = run.dead_letters().await.unwrap();
    let [letter] = &letters[..] else {
        panic!("{letters:?}");
    };
    assert_eq!(letter.item, Some(DEADLY), "{letter:?}");
    assert!(letter.error.contains(BEGUN), "{letter:?}");
    assert_eq!(
        (deaths, calls.attempts(DEADLY).len()),
        (DEATHS, DEATHS as usize)
    );

    let fixed = deadly(&name, &calls, OnFailure::Fail, true);
    let redriven = run.redrive().await.unwrap();
    assert_eq!((redriven.redriven, redriven.under_way), (1, 0));
    let worker = fixed.worker().start();
    let expected: Vec<u64> = (0..LENGTH).collect();
    assert_eq!(run.result().await.unwrap(), expected);
    worker.shutdown().await;
    deployment.deprovision(&name).await.unwrap();
}
