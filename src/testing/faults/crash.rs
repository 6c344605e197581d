//! A process that dies at a call.

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::around::{Around, Wrapped};
use crate::core::error::Result;
use crate::core::flag::Flag;
use crate::queue::Queues;
use crate::scratchpad::Scratchpad;

/// On which side of its effect a call ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The call has no effect.
    Before,
    /// The call has its effect, but its caller never learns of it.
    After,
}

/// Lets a "process" die at its n-th call to its backend: that call, those under way and every
/// later one never return. What had been received stays in flight until its visibility timeout.
///
/// A process is whatever is given the wrapped parts. Calls on both are counted together, opening
/// and provisioning included. To try every place where a process can die, count the calls of a
/// run without a crash, then run once for each number and each [`When`].
///
/// ```
/// use std::sync::Arc;
/// use catchment::backends::memory::{MemoryQueues, MemoryScratchpad};
/// use catchment::scratchpad::Scratchpad;
/// use catchment::testing::faults::{Crash, When};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let crash = Crash::new(Some(2), When::Before);
/// let scratchpad = crash.scratchpad(Arc::new(MemoryScratchpad::new()));
/// let process = tokio::spawn(async move {
///     scratchpad.status(&"a".into()).await.unwrap();
///     scratchpad.cancel(&"a".into()).await.unwrap();
///     unreachable!("it died");
/// });
/// crash.crashed().await;
/// assert_eq!(crash.operation(), Some("cancel"));
/// process.abort();
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Crash(Arc<Process>);

#[derive(Debug)]
struct Process {
    at: Option<u64>,
    when: When,
    calls: AtomicU64,
    /// The last call it made.
    last: OnceLock<&'static str>,
    is_dead: Flag,
}

impl Crash {
    /// A process that dies at this call, counted from 1; or at none.
    pub fn new(at: Option<u64>, when: When) -> Self {
        Self(Arc::new(Process {
            at,
            when,
            calls: AtomicU64::new(0),
            last: OnceLock::new(),
            is_dead: Flag::default(),
        }))
    }

    /// The queues as the process sees them.
    pub fn queues(&self, inner: Arc<dyn Queues>) -> Arc<dyn Queues> {
        let fault = self.clone();
        Arc::new(Wrapped { fault, inner })
    }

    /// The scratchpad as the process sees it.
    pub fn scratchpad(&self, inner: Arc<dyn Scratchpad>) -> Arc<dyn Scratchpad> {
        let fault = self.clone();
        Arc::new(Wrapped { fault, inner })
    }

    /// How many calls it has begun, the one that it died at included.
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// Whether it is dead.
    pub fn has_crashed(&self) -> bool {
        self.0.is_dead.is_raised()
    }

    /// Waits until it is dead. Cancelling leaves nothing behind.
    pub async fn crashed(&self) {
        self.0.is_dead.raised().await;
    }

    /// The name of the method that it died at; `None` while it lives.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.last.get().copied()
    }

    fn die(&self, operation: &'static str) {
        // Two calls cannot have the same number, so that this is the first time.
        let _ = self.0.last.set(operation);
        self.0.is_dead.raise();
    }
}

impl Around for Crash {
    async fn around<T: Send>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let outcome = if self.has_crashed() {
            None
        } else {
            let number = self.0.calls.fetch_add(1, Ordering::SeqCst) + 1;
            let is_last = self.0.at == Some(number);
            if is_last && self.0.when == When::Before {
                self.die(operation);
            }
            // A dead process does not go on with the calls it had begun: they are dropped here.
            let outcome = tokio::select! {
                biased;
                () = self.crashed() => None,
                outcome = call => Some(outcome),
            };
            if is_last && outcome.is_some() {
                self.die(operation);
            }
            outcome.filter(|_| !self.has_crashed())
        };
        match outcome {
            Some(outcome) => outcome,
            None => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::memory::{MemoryQueues, MemoryScratchpad};
    use crate::queue::QueueOptions;
    use std::time::Duration;
    use tokio::time::timeout;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn it_dies_before_or_after_the_effect() {
        for (when, sent) in [(When::Before, 1), (When::After, 2)] {
            let crash = Crash::new(Some(3), when);
            let memory = Arc::new(MemoryQueues::new());
            let queues = crash.queues(memory.clone());
            let options = QueueOptions::default();
            let queue = queues.open("q", &options).await.unwrap();
            queue.send(vec!["a".into()]).await.unwrap();
            assert!(!crash.has_crashed());
            assert!(timeout(LONG, queue.send(vec!["b".into()])).await.is_err());
            crash.crashed().await;
            assert_eq!((crash.operation(), crash.calls()), (Some("send"), 3));

            let scratchpad = crash.scratchpad(Arc::new(MemoryScratchpad::new()));
            let id = "a".into();
            let late = timeout(LONG, scratchpad.status(&id)).await;
            assert!(late.is_err(), "nothing returns any more");
            assert_eq!(crash.calls(), 3, "nor does it count");
            let alive = memory.open("q", &options).await.unwrap();
            assert_eq!(alive.depth().await.unwrap().ready, sent);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_under_way_die_too() {
        let crash = Crash::new(Some(3), When::Before);
        let memory = Arc::new(MemoryQueues::new());
        let queues = crash.queues(memory.clone());
        let options = QueueOptions::default();
        let queue = queues.open("q", &options).await.unwrap();
        let waiting = Arc::clone(&queue);
        let waiting = tokio::spawn(async move { waiting.receive(1, LONG).await });
        tokio::task::yield_now().await;
        let last = tokio::spawn(async move { queue.depth().await });
        crash.crashed().await;
        let alive = memory.open("q", &options).await.unwrap();
        alive.send(vec!["a".into()]).await.unwrap();
        let received = alive.receive(1, LONG).await.unwrap();
        assert_eq!(received.len(), 1, "the dead take nothing");
        assert!(!waiting.is_finished() && !last.is_finished());
    }
}
