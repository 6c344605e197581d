//! A service that sometimes fails.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::around::{Around, Wrapped};
use crate::core::error::{Error, Result};
use crate::queue::Queues;
use crate::scratchpad::Scratchpad;

/// Lets calls fail at random with a retryable [`Error::Backend`]: half of them without any
/// effect, the other half after they took effect, as when an answer is lost on its way. A receive
/// that fails so leaves its messages in flight until their visibility timeout is over.
#[derive(Clone, Debug)]
pub struct Flaky(Arc<Service>);

#[derive(Debug)]
struct Service {
    random: Mutex<fastrand::Rng>,
    probability: f64,
    failures: AtomicU64,
}

impl Flaky {
    /// Each call fails with this probability, from 0, which does nothing, to 1. The same seed and
    /// the same order of calls give the same failures.
    pub fn new(seed: u64, probability: f64) -> Self {
        Self(Arc::new(Service {
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            probability,
            failures: AtomicU64::new(0),
        }))
    }

    /// The queues as callers see them.
    pub fn queues(&self, inner: Arc<dyn Queues>) -> Arc<dyn Queues> {
        let fault = self.clone();
        Arc::new(Wrapped { fault, inner })
    }

    /// The scratchpad as callers see it.
    pub fn scratchpad(&self, inner: Arc<dyn Scratchpad>) -> Arc<dyn Scratchpad> {
        let fault = self.clone();
        Arc::new(Wrapped { fault, inner })
    }

    /// How many calls it has let fail.
    pub fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::SeqCst)
    }

    /// Whether this call is to fail, and then, whether it takes effect.
    fn draw(&self) -> Option<bool> {
        let random = self.0.random.lock();
        let mut random = random.unwrap_or_else(PoisonError::into_inner);
        let (fails, takes_effect) = (random.f64() < self.0.probability, random.bool());
        fails.then_some(takes_effect)
    }
}

impl Around for Flaky {
    async fn around<T: Send>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        match self.draw() {
            None => return call.await,
            Some(true) => drop(call.await?),
            Some(false) => {}
        }
        self.0.failures.fetch_add(1, Ordering::SeqCst);
        Err(Error::Backend {
            service: "flaky",
            operation: operation.to_owned(),
            retryable: true,
            source: "a failure made up for a test".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::memory::MemoryQueues;
    use crate::queue::QueueOptions;

    #[tokio::test]
    async fn calls_fail_before_or_after_their_effect() {
        let flaky = Flaky::new(1, 0.5);
        let memory = Arc::new(MemoryQueues::new());
        let queues = flaky.queues(memory.clone());
        let options = QueueOptions::default();
        let queue = loop {
            if let Ok(queue) = queues.open("q", &options).await {
                break queue;
            }
        };
        let before = flaky.failures();
        let mut failed = 0;
        for _ in 0..1_000 {
            if let Err(error) = queue.send(vec!["a".into()]).await {
                assert!(error.is_retryable());
                failed += 1;
            }
        }
        assert_eq!(flaky.failures() - before, failed);
        assert!((400..600).contains(&failed), "{failed} of 1000");
        let alive = memory.open("q", &options).await.unwrap();
        let sent = alive.depth().await.unwrap().ready;
        let took_effect = sent - (1_000 - failed);
        assert!((150..350).contains(&took_effect), "{took_effect} of 1000");
    }
}
