//! A process that dies when it has found one bad item too many.

use std::sync::Arc;
use std::time::Duration;

use catchment::scratchpad::Verdict;
use catchment::{
    Backend, Backoff, BoxError, Deployment, Error, OnFailure, Pipeline, Stage, permanent,
};
use tokio::sync::mpsc::unbounded_channel;

use crate::common::*;

/// Of the first packet, and of the second.
const BAD: [u64; 2] = [1, 4];

fn deploy(backend: Backend, tolerated: u64, is_mended: bool) -> Deployment<u64, String> {
    let words = Pipeline::new().then(move |n: u64| async move {
        match BAD.contains(&n) && !is_mended {
            true => Err(permanent("bad")),
            false => Ok(format!("{n} ")),
        }
    });
    let stage = Stage::named("words")
        .packet_size(3)
        .attempts(2)
        .backoff(Backoff::none())
        .on_failure(OnFailure::Tolerate(tolerated));
    let pipeline = words.with(stage).combine(Concat);
    pipeline.deploy("words", backend).unwrap()
}

/// A process that ends at the call that `ends` picks. Nothing of it is acknowledged.
async fn dies(
    store: &Store,
    length: u64,
    tolerated: u64,
    ends: impl Fn(&Call<'_>) -> bool + Send + Sync + 'static,
) {
    let (tell, mut told) = unbounded_channel();
    let hook = On(move |call: &Call<'_>| match call {
        Call::Acknowledge(..) => Act::Swallow,
        call if ends(call) => {
            tell.send(()).unwrap();
            Act::Late(Duration::MAX)
        }
        _ => Act::Go,
    });
    let deployment = deploy(store.hooked(Arc::new(hook)), tolerated, false);
    deployment.submit_as("run", 0..length).await.unwrap();
    let worker = deployment.worker().start();
    soon(told.recv()).await.unwrap();
    // What is under way meanwhile comes to its end.
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(worker);
}

fn is_dead_letter(call: &Call<'_>) -> bool {
    matches!(call, Call::RecordFailure(report) if matches!(report.verdict, Verdict::Dead(_)))
}

/// The item is on record as left out, and not that it is one too many.
#[tokio::test(start_paused = true)]
async fn an_item_that_a_dead_process_has_left_out_fails_the_run() -> Result<(), BoxError> {
    let store = Store::new();
    dies(&store, 3, 0, is_dead_letter).await;
    let deployment = deploy(store.backend(), 0, false);
    let worker = deployment.worker().start();
    let run = deployment.attach("run");
    match soon(run.result()).await {
        Err(Error::Failed { failure, .. }) => {
            let named = (&*failure.stage, failure.item);
            assert_eq!(named, ("words", Some(1)), "{failure:?}");
        }
        result => panic!("{result:?}"),
    }
    drop(worker);
    let mended = deploy(store.backend(), 0, true);
    let worker = mended.worker().start();
    let run = mended.attach("run");
    run.redrive_settled().await?;
    let outcome = soon(run.outcome()).await?;
    assert_eq!((&*outcome.value, outcome.skipped), ("0 1 2 ", 0));
    worker.shutdown().await;
    Ok(())
}

/// The dead letter is on record, and its message is delivered again before it is buried. The item was left out before: it
/// is no longer.
#[tokio::test(start_paused = true)]
async fn an_item_of_a_dead_letter_is_not_left_out() -> Result<(), BoxError> {
    let store = Store::new();
    dies(&store, 3, 0, |call| matches!(call, Call::Bury(..))).await;
    let mended = deploy(store.backend(), 0, true);
    let worker = mended.worker().start();
    // Until its message is visible again.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let run = mended.attach("run");
    let outcome = soon(run.outcome()).await?;
    assert_eq!((&*outcome.value, outcome.skipped), ("0 1 2 ", 0));
    worker.shutdown().await;
    Ok(())
}

/// The first packet's item was tolerated, and its outputs have arrived; the second one's is one too many.
#[tokio::test(start_paused = true)]
async fn a_packet_that_has_arrived_does_not_fail_for_a_later_one() -> Result<(), BoxError> {
    let store = Store::new();
    dies(&store, 6, 1, is_dead_letter).await;
    let mended = deploy(store.backend(), 1, true);
    let worker = mended.worker().start();
    let run = mended.attach("run");
    match soon(run.result()).await {
        Err(Error::Failed { failure, .. }) => assert_eq!(failure.item, Some(4), "{failure:?}"),
        result => panic!("{result:?}"),
    }
    let redriven = run.redrive_settled().await?;
    assert_eq!(redriven.redriven, 1);
    let outcome = soon(run.outcome()).await?;
    assert_eq!((&*outcome.value, outcome.skipped), ("0 2 3 4 5 ", 1));
    let listed = run.failures().await?;
    let listed: Vec<_> = listed.iter().map(|failure| failure.item).collect();
    assert_eq!(listed, [Some(1)]);
    worker.shutdown().await;
    Ok(())
}
