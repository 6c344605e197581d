//! Over a SQLite file: the contracts, every death, processes that are killed, and what a person finds in the file.
#![cfg(feature = "sqlite")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;
mod conformance;
mod files;
mod looking;
mod once;
mod opening;
mod processes;
mod promises;
mod run_in;
mod turns;
