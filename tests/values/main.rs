//! A value comes out as it went in, or is refused where it is written: never another value.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod deployed;
mod embedded;
mod generate;
mod refused;
mod types;
mod unseen;
