//! The edges: nothing, one, exactly full, unknown length, too large; and the wire format as it is
//! documented.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../common/mod.rs"]
mod common;

mod lengths;
mod shapes;
mod sizes;
mod wire;
