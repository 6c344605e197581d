//! A fault of some calls on a queue; the others go through as they are.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::core::error::Result;
use crate::core::provision::Change;
use crate::queue::{
    BuriedMessage, Cursor, Delivery, Depth, Outgoing, Page, Queue, QueueOptions, Queues, Receipt,
    Wanted,
};

/// What becomes of the calls that a fault may change. Each default makes the call.
#[async_trait]
pub(super) trait Hooks: Clone + Send + Sync + 'static {
    async fn send(&self, queue: &Named, messages: Vec<Outgoing>) -> Result<()> {
        queue.inner.send(messages).await
    }

    async fn receive(&self, queue: &Named, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        queue.inner.receive(max, wait).await
    }

    async fn acknowledge(&self, queue: &Named, receipts: Vec<Receipt>) -> Result<()> {
        queue.inner.acknowledge(receipts).await
    }

    async fn extend(
        &self,
        queue: &Named,
        receipts: Vec<Receipt>,
        by: Duration,
    ) -> Result<Vec<Receipt>> {
        queue.inner.extend(receipts, by).await
    }

    async fn bury(&self, queue: &Named, delivery: Delivery, reason: &str) -> Result<()> {
        queue.inner.bury(delivery, reason).await
    }
}

/// A queue and its name: receipts are unique within one queue only.
pub(super) struct Named {
    pub(super) name: Arc<str>,
    pub(super) inner: Arc<dyn Queue>,
}

pub(super) struct HookedQueues<H> {
    pub(super) hooks: H,
    pub(super) inner: Arc<dyn Queues>,
}

impl<H> std::fmt::Debug for HookedQueues<H> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Faulty").field(&self.inner).finish()
    }
}

impl<H> std::fmt::Debug for HookedQueue<H> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("Faulty")
            .field(&self.queue.inner)
            .finish()
    }
}

#[async_trait]
impl<H: Hooks> Queues for HookedQueues<H> {
    fn check(&self, name: &str, options: &QueueOptions) -> Result<()> {
        self.inner.check(name, options)
    }

    async fn open(&self, name: &str, options: &QueueOptions) -> Result<Arc<dyn Queue>> {
        let inner = self.inner.open(name, options).await?;
        let name = name.into();
        Ok(Arc::new(HookedQueue {
            hooks: self.hooks.clone(),
            queue: Named { name, inner },
        }))
    }

    async fn provision(&self, name: &str, options: &QueueOptions) -> Result<Vec<Change>> {
        self.inner.provision(name, options).await
    }

    async fn deprovision(&self, name: &str) -> Result<Vec<Change>> {
        self.inner.deprovision(name).await
    }
}

pub(super) struct HookedQueue<H> {
    pub(super) hooks: H,
    pub(super) queue: Named,
}

#[async_trait]
impl<H: Hooks> Queue for HookedQueue<H> {
    async fn send(&self, messages: Vec<Outgoing>) -> Result<()> {
        self.hooks.send(&self.queue, messages).await
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        self.hooks.receive(&self.queue, max, wait).await
    }

    async fn acknowledge(&self, receipts: Vec<Receipt>) -> Result<()> {
        self.hooks.acknowledge(&self.queue, receipts).await
    }

    async fn release(&self, receipts: Vec<Receipt>, after: Duration) -> Result<()> {
        self.queue.inner.release(receipts, after).await
    }

    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Result<Vec<Receipt>> {
        self.hooks.extend(&self.queue, receipts, by).await
    }

    async fn bury(&self, delivery: Delivery, reason: &str) -> Result<()> {
        self.hooks.bury(&self.queue, delivery, reason).await
    }

    async fn dead_letters(
        &self,
        cursor: Option<&Cursor>,
        max: usize,
    ) -> Result<Page<BuriedMessage>> {
        self.queue.inner.dead_letters(cursor, max).await
    }

    async fn find_dead_letters(
        &self,
        cursor: Option<&Cursor>,
        max: usize,
        wanted: &Wanted<'_>,
    ) -> Result<Page<BuriedMessage>> {
        let inner = &self.queue.inner;
        inner.find_dead_letters(cursor, max, wanted).await
    }

    async fn redrive(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>> {
        self.queue.inner.redrive(messages).await
    }

    async fn discard(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>> {
        self.queue.inner.discard(messages).await
    }

    async fn depth(&self) -> Result<Depth> {
        self.queue.inner.depth().await
    }

    async fn room(&self) -> Result<()> {
        self.queue.inner.room().await
    }

    fn batch(&self) -> Option<usize> {
        self.queue.inner.batch()
    }

    fn messages_per_call(&self) -> usize {
        self.queue.inner.messages_per_call()
    }

    fn most_receives(&self) -> Option<u32> {
        self.queue.inner.most_receives()
    }

    fn max_body(&self) -> Option<usize> {
        self.queue.inner.max_body()
    }

    fn sent_size(&self, body: &bytes::Bytes, more: usize) -> usize {
        self.queue.inner.sent_size(body, more)
    }
}
