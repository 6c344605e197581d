//! Reductions by key: random pipelines compared with iterators, the order of combination, large tables, and failures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../common/mod.rs"]
mod common;

mod answers;
mod failures;
mod large;
mod random;
