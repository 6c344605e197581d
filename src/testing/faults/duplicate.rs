//! Messages that come twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::hooks::{HookedQueues, Hooks, Named};
use crate::core::error::Result;
use crate::queue::{Delivery, Outgoing, Queues, Receipt};

/// When the second copy of a message comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// Never.
    None,
    /// It is sent along with the first, so that two workers may hold them at once.
    Early,
    /// It is sent when the first has been acknowledged, so that it finds the work done, or the
    /// whole run.
    Late,
}

/// Lets every message that is sent be delivered twice. A copy has receipts and a receive count
/// of its own, as a duplicate made by a sender's retry has.
#[derive(Clone, Debug)]
pub struct Duplicate {
    copies: Copies,
    memory: Arc<Mutex<Memory>>,
}

/// By queue: what has to be told apart to send each copy once.
#[derive(Debug, Default)]
struct Memory {
    /// Deliveries of messages whose copy is to be sent.
    delivered: HashMap<(Arc<str>, Receipt), Outgoing>,
    /// How many copies of each body have been sent and were not received yet.
    copies: HashMap<(Arc<str>, Bytes), usize>,
}

impl Duplicate {
    /// Second copies that come at this time.
    pub fn new(copies: Copies) -> Self {
        Self {
            copies,
            memory: Arc::default(),
        }
    }

    /// Queues that deliver twice.
    pub fn queues(&self, inner: Arc<dyn Queues>) -> Arc<dyn Queues> {
        let hooks = self.clone();
        Arc::new(HookedQueues { hooks, inner })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn received(&mut self, name: &Arc<str>, delivery: &Delivery) {
        let body = (Arc::clone(name), delivery.body.clone());
        match self.copies.get_mut(&body) {
            Some(left) if *left > 0 => *left -= 1,
            _ => {
                let key = (Arc::clone(name), delivery.receipt.clone());
                self.delivered.insert(key, Outgoing::from(delivery));
            }
        }
    }

    /// The copies to send now that these deliveries have been acknowledged.
    fn acknowledged(&mut self, name: &Arc<str>, receipts: &[Receipt]) -> Vec<Outgoing> {
        let mut messages = Vec::new();
        for receipt in receipts {
            let key = (Arc::clone(name), receipt.clone());
            if let Some(message) = self.delivered.remove(&key) {
                let body = message.body.clone();
                *self.copies.entry((Arc::clone(name), body)).or_default() += 1;
                messages.push(message);
            }
        }
        messages
    }
}

#[async_trait]
impl Hooks for Duplicate {
    async fn send(&self, queue: &Named, mut messages: Vec<Outgoing>) -> Result<()> {
        if self.copies == Copies::Early {
            messages.extend_from_within(..);
        }
        queue.inner.send(messages).await
    }

    async fn receive(&self, queue: &Named, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let received = queue.inner.receive(max, wait).await?;
        if self.copies == Copies::Late {
            let mut memory = self.memory();
            for delivery in &received {
                memory.received(&queue.name, delivery);
            }
        }
        Ok(received)
    }

    async fn acknowledge(&self, queue: &Named, receipts: Vec<Receipt>) -> Result<()> {
        let acknowledged = receipts.clone();
        queue.inner.acknowledge(receipts).await?;
        let copies = self.memory().acknowledged(&queue.name, &acknowledged);
        if copies.is_empty() {
            return Ok(());
        }
        queue.inner.send(copies).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::memory::MemoryQueues;
    use crate::queue::QueueOptions;

    #[tokio::test(start_paused = true)]
    async fn every_message_comes_twice() {
        for (copies, ready) in [(Copies::None, 3), (Copies::Early, 6), (Copies::Late, 3)] {
            let queues = Duplicate::new(copies).queues(Arc::new(MemoryQueues::new()));
            let options = QueueOptions::default();
            let mut counts = HashMap::new();
            for name in ["q", "r"] {
                let queue = queues.open(name, &options).await.unwrap();
                queue
                    .send(["a", "b", "b"].map(Outgoing::new).to_vec())
                    .await
                    .unwrap();
                assert_eq!(queue.depth().await.unwrap().ready, ready);
                loop {
                    let received = queue.receive(1, Duration::ZERO).await.unwrap();
                    let Some(delivery) = received.into_iter().next() else {
                        break;
                    };
                    *counts.entry((name, delivery.body)).or_insert(0) += 1;
                    queue.acknowledge(vec![delivery.receipt]).await.unwrap();
                }
            }
            let times = if copies == Copies::None { 1 } else { 2 };
            for name in ["q", "r"] {
                let seen = ["a", "b"].map(|body| counts[&(name, Bytes::from(body))]);
                assert_eq!(seen, [times, 2 * times], "{copies:?}");
            }
        }
    }
}
