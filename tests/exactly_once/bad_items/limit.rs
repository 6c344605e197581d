//! A process that dies when it has found one bad item too many.

use std::sync::Arc;
use std::time::Duration;

use catchment::scratchpad::Verdict;
use catchment::{
    Backend, Backoff, BoxError, Deployment, Error, OnFailure, Pipeline, Stage, permanent,
};
use tokio::sync::mpsc::unbounded_channel;

use crate::common::*;

const BAD: u64 = 1;

fn deploy(backend: Backend, is_mended: bool) -> Deployment<u64, String> {
    let words = Pipeline::new().then(move |n: u64| async move {
        match n == BAD && !is_mended {
            true => Err(permanent("bad")),
            false => Ok(format!("{n} ")),
        }
    });
    let stage = Stage::named("words")
        .packet_size(3)
        .attempts(2)
        .backoff(Backoff::none())
        .on_failure(OnFailure::Tolerate(0));
    let pipeline = words.with(stage).combine(Concat);
    pipeline.deploy("words", backend).unwrap()
}

/// A process that ends at the call that `ends` picks.
async fn dies(store: &Store, ends: impl Fn(&Call<'_>) -> bool + Send + Sync + 'static) {
    let (tell, mut told) = unbounded_channel();
    let hook = On(move |call: &Call<'_>| match ends(call) {
        true => {
            tell.send(()).unwrap();
            Act::Late(Duration::MAX)
        }
        false => Act::Go,
    });
    let deployment = deploy(store.hooked(Arc::new(hook)), false);
    deployment.submit_as("run", 0..3).await.unwrap();
    let worker = deployment.worker().start();
    soon(told.recv()).await.unwrap();
    drop(worker);
}

fn is_dead_letter(call: &Call<'_>) -> bool {
    matches!(call, Call::RecordFailure(report) if matches!(report.verdict, Verdict::Dead(_)))
}

/// The item is on record as left out, and not that it is one too many.
#[tokio::test(start_paused = true)]
async fn an_item_that_a_dead_process_has_left_out_fails_the_run() -> Result<(), BoxError> {
    let store = Store::new();
    dies(&store, is_dead_letter).await;
    let deployment = deploy(store.backend(), false);
    let worker = deployment.worker().start();
    let run = deployment.attach("run");
    match soon(run.result()).await {
        Err(Error::Failed { failure, .. }) => {
            let named = (&*failure.stage, failure.item);
            assert_eq!(named, ("words", Some(BAD)), "{failure:?}");
        }
        result => panic!("{result:?}"),
    }
    drop(worker);
    let mended = deploy(store.backend(), true);
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
    dies(&store, |call| matches!(call, Call::Bury(..))).await;
    let mended = deploy(store.backend(), true);
    let worker = mended.worker().start();
    // Until its message is visible again.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let run = mended.attach("run");
    let outcome = soon(run.outcome()).await?;
    assert_eq!((&*outcome.value, outcome.skipped), ("0 1 2 ", 0));
    worker.shutdown().await;
    Ok(())
}
