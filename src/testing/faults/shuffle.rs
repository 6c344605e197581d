//! Messages out of order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::hooks::{HookedQueues, Hooks, Named};
use crate::core::error::Result;
use crate::queue::{Delivery, Outgoing, Queues};

/// Mixes the messages of each batch that is sent or received, and lets a receive take fewer
/// than it was asked for.
#[derive(Clone, Debug)]
pub struct Shuffle(Option<Arc<Mutex<fastrand::Rng>>>);

impl Shuffle {
    /// The same seed and the same calls give the same order. Without a seed all stays as it is.
    pub fn new(seed: Option<u64>) -> Self {
        Self(seed.map(|seed| Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)))))
    }

    /// Queues that mix their messages.
    pub fn queues(&self, inner: Arc<dyn Queues>) -> Arc<dyn Queues> {
        let hooks = self.clone();
        Arc::new(HookedQueues { hooks, inner })
    }

    fn random(&self) -> Option<MutexGuard<'_, fastrand::Rng>> {
        let random = self.0.as_ref()?.lock();
        Some(random.unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Hooks for Shuffle {
    async fn send(&self, queue: &Named, mut messages: Vec<Outgoing>) -> Result<()> {
        if let Some(mut random) = self.random() {
            random.shuffle(&mut messages);
        }
        queue.inner.send(messages).await
    }

    async fn receive(
        &self,
        queue: &Named,
        mut max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>> {
        if let Some(mut random) = self.random() {
            max = random.usize(1..=max.max(1));
        }
        let mut received = queue.inner.receive(max, wait).await?;
        if let Some(mut random) = self.random() {
            random.shuffle(&mut received);
        }
        Ok(received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::memory::MemoryQueues;
    use crate::queue::QueueOptions;

    async fn order(seed: Option<u64>) -> Vec<u8> {
        let queues = Shuffle::new(seed).queues(Arc::new(MemoryQueues::new()));
        let queue = queues.open("q", &QueueOptions::default()).await.unwrap();
        let bodies = (0..100).map(|n| Outgoing::new(vec![n])).collect();
        queue.send(bodies).await.unwrap();
        let mut order = Vec::new();
        while order.len() < 100 {
            let received = queue.receive(10, Duration::ZERO).await.unwrap();
            order.extend(received.iter().map(|delivery| delivery.body[0]));
        }
        order
    }

    #[tokio::test]
    async fn all_come_in_an_order_that_the_seed_decides() {
        let sorted: Vec<u8> = (0..100).collect();
        assert_eq!(order(None).await, sorted);
        let mut mixed = order(Some(1)).await;
        assert_eq!(mixed, order(Some(1)).await);
        assert_ne!(mixed, order(Some(2)).await);
        mixed.sort();
        assert_eq!(mixed, sorted);
    }
}
