//! Heartbeats that do not work.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::hooks::{HookedQueues, Hooks, Named};
use crate::core::error::{Error, Result};
use crate::queue::{Queues, Receipt};

/// What becomes of [`extend`](crate::queue::Queue::extend).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeats {
    /// It works.
    Kept,
    /// It does nothing, and says it worked.
    Ignored,
    /// It does nothing, and fails with a retryable error.
    Refused,
    /// It does nothing, and says that every receipt is stale.
    Late,
}

impl Heartbeats {
    /// Queues whose heartbeats fare so.
    pub fn queues(self, inner: Arc<dyn Queues>) -> Arc<dyn Queues> {
        Arc::new(HookedQueues { hooks: self, inner })
    }
}

#[async_trait]
impl Hooks for Heartbeats {
    async fn extend(
        &self,
        queue: &Named,
        receipts: Vec<Receipt>,
        by: Duration,
    ) -> Result<Vec<Receipt>> {
        match self {
            Self::Kept => queue.inner.extend(receipts, by).await,
            Self::Ignored => Ok(Vec::new()),
            Self::Late => Ok(receipts),
            Self::Refused => Err(Error::Backend {
                service: "heartbeats",
                operation: "extend".to_owned(),
                retryable: true,
                source: "a failure made up for a test".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::memory::MemoryQueues;
    use crate::queue::QueueOptions;

    #[tokio::test(start_paused = true)]
    async fn what_was_extended_comes_back_all_the_same() {
        for heartbeats in [Heartbeats::Ignored, Heartbeats::Refused, Heartbeats::Late] {
            let queues = heartbeats.queues(Arc::new(MemoryQueues::new()));
            let options = QueueOptions::default();
            let queue = queues.open("q", &options).await.unwrap();
            queue.send(vec!["a".into()]).await.unwrap();
            let timeout = options.visibility_timeout;
            let receipt = queue.receive(1, timeout).await.unwrap().remove(0).receipt;
            let extended = queue.extend(vec![receipt.clone()], 10 * timeout).await;
            match heartbeats {
                Heartbeats::Refused => assert!(extended.unwrap_err().is_retryable()),
                Heartbeats::Late => assert_eq!(extended.unwrap(), [receipt]),
                _ => assert_eq!(extended.unwrap(), []),
            }
            let again = queue.receive(1, timeout).await.unwrap();
            assert_eq!(again[0].receive_count, 2);
        }
    }
}
