//! For those who write a backend or test an application: conformance suites and fault wrappers.
//!
//! A new queue or scratchpad is right when it passes [`queue::conformance`] or
//! [`scratchpad::conformance`]; all that come with the crate do. The wrappers in [`faults`] make
//! any backend duplicate, reorder, fail or crash, without a line in the code under test.
//!
//! Nothing here waits on a clock of its own: time passes by [`tokio::time::sleep`], so that a
//! suite takes no time at all on a backend that keeps tokio's clock, paused.
//!
//! ```
//! use std::sync::Arc;
//! use catchment::backends::memory::MemoryQueues;
//! use catchment::testing::queue::{Capabilities, conformance};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true)
//! # .build().unwrap().block_on(async {
//! conformance(Arc::new(MemoryQueues::new()), &Capabilities::new()).await;
//! # });
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a suite panics where a promise is broken, as every test does"
)]

mod suite;

pub mod faults;
pub mod hostile;
pub mod queue;
pub mod scratchpad;
pub mod tree;

pub use suite::Scenario;
