//! Queues and a scratchpad that live in this process: the embedded default, and what tests run on.
//!
//! They behave like the services they stand for: a message that is received and not acknowledged
//! becomes visible again, deliveries are counted, delays and dead letters work. All time is
//! tokio's, so that a test with a paused clock sees an hour go by at once. Nothing outlives the
//! process, and what has been dealt with is let go: messages when they are acknowledged, values
//! when their group retires, runs when their time is up.

mod queue;
mod scratchpad;

pub use queue::MemoryQueues;
pub use scratchpad::MemoryScratchpad;

use std::sync::{Mutex, MutexGuard, PoisonError};
/// No change under these locks can be left half done, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
