//! A fault that may happen at any call across the seam.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::core::error::Result;
use crate::core::generation::RunKey;
use crate::core::id::RunId;
use crate::core::provision::Change;
use crate::queue::{
    BuriedMessage, Delivery, Depth, Outgoing, Queue, QueueOptions, Queues, Receipt, Wanted,
};
use crate::scratchpad::{
    Arrival, Beginning, Begun, Checkpoint, Cursor, DeadLetterId, Deliveries, Failure, FailureLog,
    FailureReport, Failures, GroupId, GroupState, Groups, Members, Page, RunFilter, RunOutline,
    RunRecord, RunSnapshot, RunSummary, Runs, Scratchpad,
};

/// What happens around a call.
pub(super) trait Around: Clone + Debug + Send + Sync + 'static {
    /// Makes the call, or not, and answers for it.
    fn around<T: Send>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> impl Future<Output = Result<T>> + Send;
}

/// A backend's part with a fault around every call of it.
#[derive(Debug)]
pub(super) struct Wrapped<F, I: ?Sized> {
    pub(super) fault: F,
    pub(super) inner: Arc<I>,
}

#[async_trait]
impl<F: Around> Queues for Wrapped<F, dyn Queues> {
    fn check(&self, name: &str, options: &QueueOptions) -> Result<()> {
        self.inner.check(name, options)
    }

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

    async fn release(&self, receipts: Vec<Receipt>, after: Duration) -> Result<()> {
        let call = self.inner.release(receipts, after);
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

    async fn dead_letters(
        &self,
        cursor: Option<&Cursor>,
        max: usize,
    ) -> Result<Page<BuriedMessage>> {
        let call = self.inner.dead_letters(cursor, max);
        self.fault.around("dead_letters", call).await
    }

    async fn find_dead_letters(
        &self,
        cursor: Option<&Cursor>,
        max: usize,
        wanted: &Wanted<'_>,
    ) -> Result<Page<BuriedMessage>> {
        let call = self.inner.find_dead_letters(cursor, max, wanted);
        self.fault.around("find_dead_letters", call).await
    }

    async fn redrive(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>> {
        let call = self.inner.redrive(messages);
        self.fault.around("redrive", call).await
    }

    async fn discard(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>> {
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

    fn messages_per_call(&self) -> usize {
        self.inner.messages_per_call()
    }

    fn most_receives(&self) -> Option<u32> {
        self.inner.most_receives()
    }

    fn max_body(&self) -> Option<usize> {
        self.inner.max_body()
    }

    fn sent_size(&self, body: &Bytes, more: usize) -> usize {
        self.inner.sent_size(body, more)
    }
}

/// Implements contracts by making each call with the fault around it.
macro_rules! wrap {
    ($($contract:ident {
        $(fn $method:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*
    })*) => {
        $(#[async_trait]
        impl<F: Around> $contract for Wrapped<F, dyn Scratchpad> {
            $(async fn $method(&self, $($argument: $type),*) -> Result<$answer> {
                let call = $contract::$method(self.inner.as_ref(), $($argument),*);
                self.fault.around(stringify!($method), call).await
            })*
        })*
    };
}

wrap! {
    Runs {
        fn begin(record: &RunRecord) -> Begun;
        fn checkpoint(run: &RunKey, reached: &Checkpoint) -> ();
        fn measure(run: &RunKey, end: &Checkpoint) -> ();
        fn submitted(run: &RunKey) -> ();
        fn complete(run: &RunKey, result: Bytes) -> bool;
        fn cancel(run: &RunId) -> bool;
        fn status(run: &RunId) -> Option<RunSnapshot>;
        fn outline(run: &RunId) -> Option<RunOutline>;
        fn is_over(run: &RunKey) -> bool;
        fn wait(run: &RunId, up_to: Duration) -> Option<RunSnapshot>;
        fn list_runs(filter: &RunFilter, cursor: Option<&Cursor>, limit: usize) -> Page<RunSummary>;
        fn forget(run: &RunId) -> ();
    }
    Groups {
        fn expect(group: &GroupId, expected: u32, root: bool) -> GroupState;
        fn arrive(arrivals: Vec<Arrival>) -> Vec<GroupState>;
        fn members(group: &GroupId) -> Members;
        fn retire(group: &GroupId) -> ();
        fn arrived(groups: &[GroupId]) -> Vec<Vec<u32>>;
    }
    Failures {
        fn note_beginning(beginning: &Beginning) -> Deliveries;
        fn withdraw_beginning(beginning: &Beginning) -> ();
        fn record(report: &FailureReport) -> FailureLog;
        fn clear(run: &RunKey, stage: &str, message: &str, id: DeadLetterId) -> ();
        fn list_failures(run: &RunId, cursor: Option<&Cursor>, limit: usize) -> Page<Failure>;
    }
}

#[async_trait]
impl<F: Around> Scratchpad for Wrapped<F, dyn Scratchpad> {
    fn check(&self) -> Result<()> {
        self.inner.check()
    }

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
}
