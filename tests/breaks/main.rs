//! Attempts to break the attempts of items: rounds that return late, panics where nobody expects them, items that are
//! blamed for others, and outputs of several rounds that are put together.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod alone;
mod bounds;
mod chains;
mod deadline;
mod drops;
mod gate;
mod late;
mod rounds;
mod scripts;
mod stalls;
#[path = "../common/mod.rs"]
mod store;

use std::time::Duration;

use catchment::{Backoff, OnFailure, Stage};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Options that leave out what fails, and retry at once.
fn skipping(attempts: u32) -> Stage {
    Stage::named("work")
        .attempts(attempts)
        .backoff(Backoff::none())
        .on_failure(OnFailure::Skip)
}

/// Waits of up to an hour, in a stage that keeps its messages for longer than that.
fn waiting(stage: Stage) -> Stage {
    stage
        .backoff(Backoff::exponential(HOUR, HOUR))
        .visibility_timeout(10 * HOUR)
}
