//! Functions that never return, and programs without a tokio runtime.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod exits;
mod lost;
mod runtimes;

use std::time::Duration;

use catchment::pipeline::One;
use catchment::{OnFailure, Pipeline, Stage};

const TIMEOUT: Duration = Duration::from_millis(100);

/// Keeps its thread for ever, without using the processor.
fn never_returns<T>() -> T {
    loop {
        std::thread::park();
    }
}

/// Adds up the items of which `hangs` is false. The function never returns for the others.
fn hanging(hangs: fn(u64) -> bool, policy: OnFailure) -> Pipeline<u64, u64, One> {
    let stage = Stage::named("stuck")
        .timeout(TIMEOUT)
        .attempts(1)
        .packet_size(1)
        .visibility_timeout(Duration::from_secs(60 * 60))
        .on_failure(policy);
    Pipeline::new()
        .map(move |n| match hangs(n) {
            true => never_returns(),
            false => n,
        })
        .with(stage)
        .reduce(|| 0, |a, b| a + b)
}
