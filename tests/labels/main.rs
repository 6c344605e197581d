//! What failures call things: the items of a stage, and the values that a deployment cannot write.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod checked;
mod reported;
mod unwritten;
