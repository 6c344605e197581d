//! What leftovers of an earlier run and messages of a stranger may do: nothing to a run that is not theirs. A stranger can
//! read and write queues, but has no key of the deployment's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../common/mod.rs"]
mod common;

mod counts;
mod fan_in;
mod finish;
mod generations;
mod made_up;
mod paced;
mod places;
mod stranger;
