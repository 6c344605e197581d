//! A queue under test, and what every scenario does with it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::Capabilities;
use crate::queue::{BuriedMessage, Delivery, Depth, Outgoing, Queue, QueueOptions, Queues};

/// How long a single look for a message waits.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct Subject {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) name: String,
    pub(super) options: QueueOptions,
    pub(super) capabilities: Capabilities,
}

impl Subject {
    pub(super) async fn new(queues: &Arc<dyn Queues>, capabilities: Capabilities) -> Self {
        let name = format!("conformance-{}", Uuid::new_v4());
        let options = QueueOptions::default().visibility_timeout(capabilities.visibility_timeout);
        queues.check(&name, &options).expect("check");
        queues.provision(&name, &options).await.expect("provision");
        let queue = queues.open(&name, &options).await.expect("open");
        Self {
            queue,
            name,
            options,
            capabilities,
        }
    }

    pub(super) fn visibility_timeout(&self) -> Duration {
        self.capabilities.visibility_timeout
    }

    pub(super) async fn send(&self, bodies: &[Bytes]) {
        let messages = bodies.iter().cloned().map(Outgoing::new);
        let sent = self.queue.send(messages.collect()).await;
        sent.expect("send");
    }

    /// One message, which the suite is willing to wait for.
    pub(super) async fn receive_one(&self, what: &str) -> Delivery {
        self.receive(1, what).await.remove(0)
    }

    /// So many messages, in as many calls as it takes.
    pub(super) async fn receive(&self, count: usize, what: &str) -> Vec<Delivery> {
        let mut received = Vec::new();
        let mut until = Instant::now() + self.patience();
        while received.len() < count && Instant::now() < until {
            let max = (count - received.len()).min(10);
            let some = self.queue.receive(max, LOOK).await.expect("receive");
            assert!(some.len() <= max, "no more than `max` are received");
            if !some.is_empty() {
                until = Instant::now() + self.patience();
            }
            received.extend(some);
        }
        let found = received.len();
        assert_eq!(found, count, "{what}: {found} messages came, not {count}");
        received
    }

    /// Receives and acknowledges whatever comes until every one of `bodies` has been seen.
    pub(super) async fn drain(&self, bodies: &[Bytes], what: &str) {
        let mut missing: std::collections::HashSet<Bytes> = bodies.iter().cloned().collect();
        let mut until = Instant::now() + self.patience();
        while !missing.is_empty() && Instant::now() < until {
            let received = self.queue.receive(10, LOOK).await.expect("receive");
            for delivery in &received {
                assert!(
                    bodies.contains(&delivery.body),
                    "{what}: nobody sent {:?}",
                    delivery.body
                );
                if missing.remove(&delivery.body) {
                    until = Instant::now() + self.patience();
                }
            }
            self.acknowledge(&received).await;
        }
        let count = missing.len();
        assert!(missing.is_empty(), "{what}: {count} messages never came");
    }

    pub(super) async fn acknowledge(&self, deliveries: &[Delivery]) {
        let receipts = deliveries.iter().map(|delivery| delivery.receipt.clone());
        let acknowledged = self.queue.acknowledge(receipts.collect()).await;
        acknowledged.expect("acknowledge");
    }

    /// Asserts that nothing is received for `time`.
    pub(super) async fn assert_hidden_for(&self, time: Duration, what: &str) {
        let received = self.queue.receive(10, time).await.expect("receive");
        assert!(received.is_empty(), "{what}: received {received:?}");
    }

    /// So many dead letters with different bodies, in as many looks as it takes: a service may
    /// hide some for a moment, or show them one at a time.
    pub(super) async fn dead_letters(&self, count: usize) -> Vec<BuriedMessage> {
        let mut found: Vec<BuriedMessage> = Vec::new();
        let until = Instant::now() + self.patience();
        loop {
            let some = self
                .queue
                .dead_letters(None, count)
                .await
                .expect("dead_letters");
            assert!(some.len() <= count, "no more than `max` are returned");
            for dead in some {
                if found.iter().all(|known| known.body != dead.body) {
                    found.push(dead);
                }
            }
            if found.len() >= count || Instant::now() >= until {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        assert_eq!(found.len(), count, "that many dead letters: {found:?}");
        found
    }

    /// Nothing is in the dead-letter queue.
    pub(super) async fn assert_no_dead_letters(&self, what: &str) {
        let found = self
            .queue
            .dead_letters(None, 10)
            .await
            .expect("dead_letters");
        assert!(found.is_empty(), "{what}: found {found:?}");
    }

    /// Asserts the depth, if the queue counts exactly.
    pub(super) async fn assert_depth(&self, expected: Depth) {
        let depth = self.queue.depth().await.expect("depth");
        if self.capabilities.exact_depth {
            assert_eq!(depth, expected, "depth");
        }
    }

    /// Long enough for a message to come back.
    fn patience(&self) -> Duration {
        self.capabilities.patience + self.visibility_timeout()
    }
}

/// So many different bodies.
pub(super) fn bodies(count: usize) -> Vec<Bytes> {
    (0..count).map(|n| format!("message {n}").into()).collect()
}
