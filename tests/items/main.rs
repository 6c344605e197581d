//! Attempts belong to items: exactly the items that truly fail are left out, each item is called as often as its own
//! failures explain, and no item is failed, skipped or made final by a neighbour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;
mod crawler;
mod fails;
mod hand_back;
mod in_flight;
mod many;
mod panics;
mod plan;
mod random;
mod shapes;
#[path = "../common/mod.rs"]
mod store;
mod timeouts;
mod tolerated;
mod waiting;
