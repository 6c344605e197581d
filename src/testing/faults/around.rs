//! A fault that may happen at any call across the seam.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use crate::core::error::Result;
use crate::core::id::ArrayId;
use crate::core::provision::Change;
use crate::queue::{
    BuriedMessage, Delivery, Depth, Outgoing, Queue, QueueOptions, Queues, Receipt,
};
use crate::scratchpad::{
    Arrival, Begun, Failure, FailureLog, FailureReport, GroupId, GroupState, Members, RunRecord,
    RunSnapshot, Scratchpad,
};

/// What happens around a call.
pub(super) trait Around: Clone + Send + Sync + 'static {
    /// Makes the call, or not, and answers for it.
    fn around<T: Send>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> impl Future<Output = Result<T>> + Send;
}

/// A backend's part with a fault around every call of it.
pub(super) struct Wrapped<F, I: ?Sized> {
    pub(super) fault: F,
    pub(super) inner: Arc<I>,
}

impl<F> std::fmt::Debug for Wrapped<F, dyn Queues> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Faulty").field(&self.inner).finish()
    }
}

impl<F> std::fmt::Debug for Wrapped<F, dyn Queue> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Faulty").field(&self.inner).finish()
    }
}

#[async_trait]
impl<F: Around> Queues for Wrapped<F, dyn Queues> {
    async fn open(&self, name: &str, options: &QueueOptions) -> Result<Arc<dyn Queue>> {
        let call = self.inner.open(name, options);
        let inner = self.fault.around("open", call).await?;
        let fault = self.fault.clone();
        Ok(Arc::new(Wrapped { fault, inner }))
    }

    async fn provision(&self, name: &str, options: &QueueOptions) -> Result<Vec<Change>> {
        let call = self.inner.provision(name, options);
        self.fault.around("provision", call).await
    }

    async fn deprovision(&self, name: &str) -> Result<Vec<Change>> {
        let call = self.inner.deprovision(name);
        self.fault.around("deprovision", call).await
    }
}

#[async_trait]
impl<F: Around> Queue for Wrapped<F, dyn Queue> {
    async fn send(&self, messages: Vec<Outgoing>) -> Result<()> {
        self.fault.around("send", self.inner.send(messages)).await
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let call = self.inner.receive(max, wait);
        self.fault.around("receive", call).await
    }

    async fn acknowledge(&self, receipts: Vec<Receipt>) -> Result<()> {
        let call = self.inner.acknowledge(receipts);
        self.fault.around("acknowledge", call).await
    }

    async fn release(&self, receipt: Receipt, after: Duration) -> Result<()> {
        let call = self.inner.release(receipt, after);
        self.fault.around("release", call).await
    }

    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Result<Vec<Receipt>> {
        let call = self.inner.extend(receipts, by);
        self.fault.around("extend", call).await
    }

    async fn bury(&self, delivery: Delivery, reason: &str) -> Result<()> {
        let call = self.inner.bury(delivery, reason);
        self.fault.around("bury", call).await
    }

    async fn dead_letters(&self, max: usize) -> Result<Vec<BuriedMessage>> {
        let call = self.inner.dead_letters(max);
        self.fault.around("dead_letters", call).await
    }

    async fn redrive(&self, messages: Vec<BuriedMessage>) -> Result<()> {
        let call = self.inner.redrive(messages);
        self.fault.around("redrive", call).await
    }

    async fn discard(&self, messages: Vec<BuriedMessage>) -> Result<()> {
        let call = self.inner.discard(messages);
        self.fault.around("discard", call).await
    }

    async fn depth(&self) -> Result<Depth> {
        self.fault.around("depth", self.inner.depth()).await
    }

    async fn room(&self) -> Result<()> {
        self.fault.around("room", self.inner.room()).await
    }

    fn batch(&self) -> Option<usize> {
        self.inner.batch()
    }

    fn max_body(&self) -> Option<usize> {
        self.inner.max_body()
    }
}

#[async_trait]
impl<F: Around> Scratchpad for Wrapped<F, dyn Scratchpad> {
    fn bind(&self, deployment: &str) -> Option<Arc<dyn Scratchpad>> {
        let inner = self.inner.bind(deployment)?;
        let fault = self.fault.clone();
        Some(Arc::new(Self { fault, inner }))
    }

    async fn provision(&self) -> Result<Vec<Change>> {
        let call = self.inner.provision();
        self.fault.around("provision", call).await
    }

    async fn deprovision(&self) -> Result<Vec<Change>> {
        let call = self.inner.deprovision();
        self.fault.around("deprovision", call).await
    }

    async fn begin(&self, record: &RunRecord) -> Result<Begun> {
        self.fault.around("begin", self.inner.begin(record)).await
    }

    async fn measure(&self, array_id: &ArrayId, array_length: u64, packets: u64) -> Result<()> {
        let call = self.inner.measure(array_id, array_length, packets);
        self.fault.around("measure", call).await
    }

    async fn submitted(&self, array_id: &ArrayId) -> Result<()> {
        let call = self.inner.submitted(array_id);
        self.fault.around("submitted", call).await
    }

    async fn expect(&self, group: &GroupId, expected: u32, root: bool) -> Result<GroupState> {
        let call = self.inner.expect(group, expected, root);
        self.fault.around("expect", call).await
    }

    async fn arrive(&self, arrivals: Vec<Arrival>) -> Result<Vec<GroupState>> {
        let call = self.inner.arrive(arrivals);
        self.fault.around("arrive", call).await
    }

    async fn members(&self, group: &GroupId) -> Result<Members> {
        let call = self.inner.members(group);
        self.fault.around("members", call).await
    }

    async fn retire(&self, group: &GroupId) -> Result<()> {
        self.fault.around("retire", self.inner.retire(group)).await
    }

    async fn complete(&self, array_id: &ArrayId, result: Bytes) -> Result<bool> {
        let call = self.inner.complete(array_id, result);
        self.fault.around("complete", call).await
    }

    async fn record_failure(&self, report: &FailureReport) -> Result<FailureLog> {
        let call = self.inner.record_failure(report);
        self.fault.around("record_failure", call).await
    }

    async fn clear_failure(
        &self,
        array_id: &ArrayId,
        stage: &str,
        message: &str,
        id: Uuid,
    ) -> Result<()> {
        let call = self.inner.clear_failure(array_id, stage, message, id);
        self.fault.around("clear_failure", call).await
    }

    async fn failures(&self, array_id: &ArrayId, limit: usize) -> Result<Vec<Failure>> {
        let call = self.inner.failures(array_id, limit);
        self.fault.around("failures", call).await
    }

    async fn status(&self, array_id: &ArrayId) -> Result<Option<RunSnapshot>> {
        let call = self.inner.status(array_id);
        self.fault.around("status", call).await
    }

    async fn is_over(&self, array_id: &ArrayId) -> Result<bool> {
        let call = self.inner.is_over(array_id);
        self.fault.around("is_over", call).await
    }

    async fn arrived(&self, groups: &[GroupId]) -> Result<Vec<Vec<u32>>> {
        let call = self.inner.arrived(groups);
        self.fault.around("arrived", call).await
    }

    async fn wait(&self, array_id: &ArrayId, up_to: Duration) -> Result<Option<RunSnapshot>> {
        let call = self.inner.wait(array_id, up_to);
        self.fault.around("wait", call).await
    }

    async fn cancel(&self, array_id: &ArrayId) -> Result<bool> {
        let call = self.inner.cancel(array_id);
        self.fault.around("cancel", call).await
    }

    async fn forget(&self, array_id: &ArrayId) -> Result<()> {
        let call = self.inner.forget(array_id);
        self.fault.around("forget", call).await
    }
}
