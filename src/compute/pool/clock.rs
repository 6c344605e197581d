//! Tokio's paused clock, in tests. It jumps to the next timer whenever the runtime has nothing to do, except while a
//! blocking task of the runtime's own runs. The pool's threads are none of those, so a job would be overtaken by timeouts
//! and heartbeats. While jobs are awaited under a paused clock, the pool therefore keeps one blocking task waiting.
//!
//! A production clock is never paused. Finding that out takes reading it three times for each batch of jobs.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::runtime::Handle;

/// Keeps a paused clock from moving while any batch of jobs is awaited.
#[derive(Default)]
pub(super) struct Clock {
    awaited: Mutex<Awaited>,
    nothing_awaited: Condvar,
}

#[derive(Default)]
struct Awaited {
    batches: usize,
    /// Whether a blocking task keeps the clock from moving.
    is_held: bool,
}

/// A batch of jobs that is awaited. It must not be held by anything but the awaiting future: the runtime drops that before
/// it waits for its blocking tasks, and so this keeps no runtime from its end.
pub(super) struct AwaitedBatch(Arc<Clock>);

impl Clock {
    fn awaited(&self) -> MutexGuard<'_, Awaited> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the clock, if it is paused, until the returned value is dropped.
    pub(super) fn hold(self: &Arc<Self>) -> AwaitedBatch {
        let mut awaited = self.awaited();
        awaited.batches += 1;
        if !awaited.is_held
            && is_paused()
            && let Ok(runtime) = Handle::try_current()
        {
            awaited.is_held = true;
            let this = Arc::clone(self);
            // The clock is held from here on, before the task runs.
            drop(runtime.spawn_blocking(move || this.wait()));
        }
        drop(awaited);
        AwaitedBatch(Arc::clone(self))
    }

    fn wait(&self) {
        let waited = self
            .nothing_awaited
            .wait_while(self.awaited(), |awaited| awaited.batches > 0);
        let mut awaited = waited.unwrap_or_else(PoisonError::into_inner);
        awaited.is_held = false;
    }
}

impl Drop for AwaitedBatch {
    fn drop(&mut self) {
        let mut awaited = self.0.awaited();
        awaited.batches -= 1;
        let notify = awaited.is_held && awaited.batches == 0;
        drop(awaited);
        if notify {
            self.0.nothing_awaited.notify_all();
        }
    }
}

/// Whether tokio's clock reads another time than the system's, as it does from the moment at which it was paused.
fn is_paused() -> bool {
    let before = Instant::now();
    let now = tokio::time::Instant::now().into_std();
    let after = Instant::now();
    !(before..=after).contains(&now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_paused_clock_is_told_from_one_that_runs() {
        for _ in 0..1_000 {
            assert!(!is_paused());
        }
        tokio::time::pause();
        for _ in 0..1_000 {
            assert!(is_paused());
        }
    }
}
