//! Nothing is lost silently: an item that cannot be processed becomes a dead letter with its error,
//! and the run fails at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../common/mod.rs"]
mod common;

mod begun;
mod copies;
mod dead_letters;
mod discard;
mod endless;
mod foreign;
mod logged;
mod messages;
mod redelivered;
mod redrive;
mod refused;
mod retry;
mod skip;

use std::time::Duration;

use catchment::pipeline::One;
use catchment::scratchpad::Failure;
use catchment::{Error, Pipeline, Stage};

const SECOND: Duration = Duration::from_secs(1);

const MINUTE: Duration = Duration::from_secs(60);

type Sum = Pipeline<u64, u64, One>;

fn sum(items: Pipeline<u64>) -> Sum {
    items
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::new().fan_in(3))
}

/// The failure that the run ended with.
fn failure(error: Error) -> Failure {
    match error {
        Error::Failed { failure, .. } => *failure,
        other => panic!("not a failed run: {other}"),
    }
}
