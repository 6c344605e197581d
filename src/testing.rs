//! Conformance suites and fault wrappers, for authors of backends and for tests of applications.
//!
//! A new queue or scratchpad is correct if it passes [`queue::conformance`] or
//! [`scratchpad::conformance`], as every backend of this crate does. The wrappers in [`faults`] make
//! any backend duplicate, reorder, fail or crash, without changes to the code under test.
//!
//! A service's own limits are not in the suites, which stay within usual ones. A backend states them by
//! [`Queues::check`](crate::queue::Queues::check), [`Scratchpad::check`](crate::scratchpad::Scratchpad::check),
//! [`Queue::max_body`](crate::queue::Queue::max_body) and [`Queue::most_receives`](crate::queue::Queue::most_receives), so that
//! the engine keeps to them and tells users: a service that does silently less than it was asked for loses messages.
//!
//! For the types of an application, [`travels`] finds out whether a value comes back from the wire as it was.
//!
//! Nothing here has a clock of its own: time passes by [`tokio::time::sleep`], so a
//! suite takes no time at all on a backend that uses tokio's clock, paused.
//!
//! **Not covered by semantic versioning.** Any release may add, rename, remove or tighten a scenario, and change the
//! items of this module: a backend that passes today may fail the next release's suite.
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
//!
//! A single scenario is run by its name:
//!
//! ```
//! # use std::sync::Arc;
//! use catchment::backends::memory::MemoryScratchpad;
//! use catchment::scratchpad::Scratchpad;
//! use catchment::testing::scratchpad::scenarios;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true)
//! # .build().unwrap().block_on(async {
//! let scratchpad: Arc<dyn Scratchpad> = Arc::new(MemoryScratchpad::new());
//! let scenario = scenarios(&scratchpad).into_iter().find(|it| it.name() == "a_run_begins_once");
//! scenario.unwrap().run().await;
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
mod travels;

pub mod faults;
pub mod hostile;
pub mod queue;
pub mod scratchpad;
pub mod tree;

pub use suite::Scenario;
pub use travels::{Difference, Misfit, MisfitKind, TravelError, travels, travels_in, written};
