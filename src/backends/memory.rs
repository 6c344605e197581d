//! Queues and a scratchpad that live in this process: the embedded default, and what tests run on.
//!
//! They behave like the services they stand for: a message that is received and not acknowledged
//! becomes visible again, deliveries are counted, delays and dead letters work. All time is
//! tokio's, so a test with a paused clock can let an hour pass at once. Nothing outlives the
//! process, and memory is freed early: messages when they are acknowledged, values when their group
//! is retired, runs when their retention ends.

mod queue;
mod scratchpad;

pub use queue::MemoryQueues;
pub use scratchpad::MemoryScratchpad;

use std::sync::{Mutex, MutexGuard, PoisonError};
/// No change under these locks can be left half done, so a poisoned lock is safe to use.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
