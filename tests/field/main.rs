//! What users of other queues, batches and workers have reported, tried here. Each test names a report.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../common/mod.rs"]
mod common;

mod backends;
mod errors;
#[cfg(feature = "postcard")]
mod nesting;
mod runs;
mod runtimes;
mod values;

use std::time::Duration;

use catchment::pipeline::One;
use catchment::{Deployment, Error, Failure, Pipeline, Stage};

use common::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

type Sum = Pipeline<u64, u64, One>;

/// Adds up numbers in packets of one, by functions that are polled on the test's own thread.
fn sum() -> Sum {
    Pipeline::new()
        .then(ok::<u64>)
        .with(Stage::named("map").packet_size(1))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum").fan_in(2))
}

/// The first failure of a run.
fn failure<T: std::fmt::Debug>(ended: Result<T, Error>) -> Failure {
    match ended {
        Err(Error::Failed { failure, .. }) => *failure,
        other => panic!("{other:?}"),
    }
}

/// Submits the items, works them off with one worker, and returns how the run ended.
async fn outcome<I: catchment::Data, R: Send + 'static>(
    deployment: &Deployment<I, R>,
    items: impl IntoIterator<Item = I>,
) -> Result<R, Error> {
    let worker = deployment.worker().start();
    let run = deployment.submit(items).await.unwrap();
    let result = soon(run.result()).await;
    worker.shutdown().await;
    result
}
