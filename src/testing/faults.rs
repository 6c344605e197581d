//! Wrappers that make any backend misbehave in the ways that distributed systems do.
//!
//! | wrapper | what happens |
//! | --- | --- |
//! | [`Duplicate`] | every message is delivered twice, early or late |
//! | [`Shuffle`] | messages come in another order and in batches of another size |
//! | [`Flaky`] | calls fail with a retryable error, before or after they took effect |
//! | [`Heartbeats`] | heartbeats do nothing, fail, or come too late |
//! | [`Chaos`] | all of these at once, delays past the visibility timeout and lost acknowledgements too |
//! | [`Stranger`] | somebody else writes well-formed messages to the queues, made of those that are there |
//! | [`Crash`] | the process "dies" at its n-th call: that call and all later ones never return |
//!
//! All wrap from outside and can be put around one another. Each has a setting that does nothing,
//! and passes the conformance suites then. Draws are seeded, so that a failure can be repeated.
//!
//! ```
//! use std::sync::Arc;
//! use catchment::backends::memory::{MemoryQueues, MemoryScratchpad};
//! use catchment::testing::faults::{Copies, Duplicate, Flaky};
//!
//! let flaky = Flaky::new(42, 0.1);
//! let queues = Duplicate::new(Copies::Late).queues(Arc::new(MemoryQueues::new()));
//! let queues = flaky.queues(queues);
//! let scratchpad = flaky.scratchpad(Arc::new(MemoryScratchpad::new()));
//! # let _ = (queues, scratchpad);
//! ```

mod around;
mod chaos;
mod crash;
mod duplicate;
mod flaky;
mod heartbeats;
mod hooks;
mod shuffle;
mod stranger;

pub use chaos::{Chaos, Rates};
pub use crash::{Crash, When};
pub use duplicate::{Copies, Duplicate};
pub use flaky::Flaky;
pub use heartbeats::Heartbeats;
pub use shuffle::Shuffle;
pub use stranger::{Stranger, Tally};
