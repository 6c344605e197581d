//! A hook on every call between a process and its backend.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use catchment::queue::{
    BuriedMessage, Delivery, Depth, Outgoing, Queue, QueueOptions, Queues, Receipt,
};
use catchment::scratchpad::{
    Arrival, Begun, Failure, FailureLog, FailureReport, GroupId, GroupState, Members, RunRecord,
    RunSnapshot, Scratchpad,
};
use catchment::{ArrayId, Error, Result};
use uuid::Uuid;

/// A call, as far as some test looks at it.
#[derive(Debug)]
pub(crate) enum Call<'a> {
    Open,
    Send(&'a str, &'a [Outgoing]),
    Receive(&'a str),
    Acknowledge(&'a str, &'a [Receipt]),
    Release(&'a str, Duration),
    Extend(&'a str),
    Bury(&'a str, &'a Delivery),
    DeadLetters,
    Redrive,
    Discard,
    Depth,
    Room(&'a str),
    Begin,
    Measure,
    Submitted,
    Expect(&'a GroupId),
    Arrive(&'a [Arrival]),
    Members(&'a GroupId),
    Retire(&'a GroupId),
    Complete(&'a ArrayId),
    RecordFailure(&'a FailureReport),
    ClearFailure,
    Failures,
    Status(&'a ArrayId),
    Arrived,
    Wait,
    Cancel,
    Forget,
}

/// What becomes of a call.
#[derive(Debug)]
pub(crate) enum Act {
    Go,
    Fail(Error),
    /// It is not done, and reported as done.
    Swallow,
    /// It takes so long before it begins.
    Late(Duration),
}

#[async_trait]
pub(crate) trait Hook: Send + Sync + 'static {
    async fn before(&self, call: &Call<'_>) -> Act;

    /// What a read of a group brought.
    fn read(&self, _members: &mut Members) {}

    /// How many messages a request of its queues takes, where there is to be a charge for it.
    fn batch(&self) -> Option<usize> {
        None
    }
}

/// Queues, a queue or a scratchpad behind a hook.
pub(crate) struct Hooked<T: ?Sized> {
    name: String,
    hook: Arc<dyn Hook>,
    inner: Arc<T>,
}

impl<T: ?Sized> Hooked<T> {
    pub(crate) fn new(inner: Arc<T>, hook: Arc<dyn Hook>) -> Self {
        Self {
            name: String::new(),
            hook,
            inner,
        }
    }
}

/// Makes a call as the hook says; the last argument is what a swallowed call answers.
macro_rules! ask {
    ($self:ident, $call:expr, $inner:expr, $swallowed:expr) => {{
        match $self.hook.before(&$call).await {
            Act::Go => $inner.await,
            Act::Fail(error) => Err(error),
            Act::Swallow => Ok($swallowed),
            Act::Late(by) => {
                tokio::time::sleep(by).await;
                $inner.await
            }
        }
    }};
}

impl std::fmt::Debug for Hooked<dyn Queues> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Hooked").field(&self.inner).finish()
    }
}

impl std::fmt::Debug for Hooked<dyn Queue> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Hooked").field(&self.inner).finish()
    }
}

#[async_trait]
impl Queues for Hooked<dyn Queues> {
    async fn open(&self, name: &str, options: &QueueOptions) -> Result<Arc<dyn Queue>> {
        let queue = ask!(
            self,
            Call::Open,
            self.inner.open(name, options),
            self.inner.open(name, options).await?
        )?;
        Ok(Arc::new(Hooked {
            name: name.to_owned(),
            hook: Arc::clone(&self.hook),
            inner: queue,
        }))
    }
}

#[async_trait]
impl Queue for Hooked<dyn Queue> {
    async fn send(&self, messages: Vec<Outgoing>) -> Result<()> {
        let call = Call::Send(&self.name, &messages);
        ask!(self, call, self.inner.send(messages.clone()), ())
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let call = Call::Receive(&self.name);
        ask!(self, call, self.inner.receive(max, wait), Vec::new())
    }

    async fn acknowledge(&self, receipts: Vec<Receipt>) -> Result<()> {
        let call = Call::Acknowledge(&self.name, &receipts);
        ask!(self, call, self.inner.acknowledge(receipts.clone()), ())
    }

    async fn release(&self, receipt: Receipt, after: Duration) -> Result<()> {
        let call = Call::Release(&self.name, after);
        ask!(self, call, self.inner.release(receipt.clone(), after), ())
    }

    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Result<Vec<Receipt>> {
        let call = Call::Extend(&self.name);
        ask!(
            self,
            call,
            self.inner.extend(receipts.clone(), by),
            Vec::new()
        )
    }

    async fn bury(&self, delivery: Delivery, reason: &str) -> Result<()> {
        let call = Call::Bury(&self.name, &delivery);
        ask!(self, call, self.inner.bury(delivery.clone(), reason), ())
    }

    async fn dead_letters(&self, max: usize) -> Result<Vec<BuriedMessage>> {
        ask!(
            self,
            Call::DeadLetters,
            self.inner.dead_letters(max),
            Vec::new()
        )
    }

    async fn redrive(&self, messages: Vec<BuriedMessage>) -> Result<()> {
        ask!(
            self,
            Call::Redrive,
            self.inner.redrive(messages.clone()),
            ()
        )
    }

    async fn discard(&self, messages: Vec<BuriedMessage>) -> Result<()> {
        ask!(
            self,
            Call::Discard,
            self.inner.discard(messages.clone()),
            ()
        )
    }

    async fn depth(&self) -> Result<Depth> {
        ask!(self, Call::Depth, self.inner.depth(), Depth::default())
    }

    async fn room(&self) -> Result<()> {
        ask!(self, Call::Room(&self.name), self.inner.room(), ())
    }

    fn max_body(&self) -> Option<usize> {
        self.inner.max_body()
    }

    fn batch(&self) -> Option<usize> {
        self.hook.batch()
    }
}

#[async_trait]
impl Scratchpad for Hooked<dyn Scratchpad> {
    fn bind(&self, deployment: &str) -> Option<Arc<dyn Scratchpad>> {
        let inner = self.inner.bind(deployment)?;
        Some(Arc::new(Self {
            name: self.name.clone(),
            hook: Arc::clone(&self.hook),
            inner,
        }))
    }

    async fn begin(&self, record: &RunRecord) -> Result<Begun> {
        ask!(self, Call::Begin, self.inner.begin(record), Begun::New)
    }

    async fn measure(&self, array_id: &ArrayId, array_length: u64, packets: u64) -> Result<()> {
        let measure = || self.inner.measure(array_id, array_length, packets);
        ask!(self, Call::Measure, measure(), ())
    }

    async fn submitted(&self, array_id: &ArrayId) -> Result<()> {
        ask!(self, Call::Submitted, self.inner.submitted(array_id), ())
    }

    async fn expect(&self, group: &GroupId, expected: u32, root: bool) -> Result<GroupState> {
        let expect = || self.inner.expect(group, expected, root);
        ask!(self, Call::Expect(group), expect(), GroupState::gone())
    }

    async fn arrive(&self, arrivals: Vec<Arrival>) -> Result<Vec<GroupState>> {
        let gone = vec![GroupState::gone(); arrivals.len()];
        let call = Call::Arrive(&arrivals);
        ask!(self, call, self.inner.arrive(arrivals.clone()), gone)
    }

    async fn members(&self, group: &GroupId) -> Result<Members> {
        let call = Call::Members(group);
        let mut members = ask!(self, call, self.inner.members(group), Members::Retired)?;
        self.hook.read(&mut members);
        Ok(members)
    }

    async fn retire(&self, group: &GroupId) -> Result<()> {
        ask!(self, Call::Retire(group), self.inner.retire(group), ())
    }

    async fn complete(&self, array_id: &ArrayId, result: Bytes) -> Result<bool> {
        let complete = || self.inner.complete(array_id, result.clone());
        ask!(self, Call::Complete(array_id), complete(), true)
    }

    async fn record_failure(&self, report: &FailureReport) -> Result<FailureLog> {
        let call = Call::RecordFailure(report);
        ask!(
            self,
            call,
            self.inner.record_failure(report),
            FailureLog::default()
        )
    }

    async fn clear_failure(
        &self,
        array_id: &ArrayId,
        stage: &str,
        message: &str,
        id: Uuid,
    ) -> Result<()> {
        let clear = || self.inner.clear_failure(array_id, stage, message, id);
        ask!(self, Call::ClearFailure, clear(), ())
    }

    async fn failures(&self, array_id: &ArrayId, limit: usize) -> Result<Vec<Failure>> {
        ask!(
            self,
            Call::Failures,
            self.inner.failures(array_id, limit),
            Vec::new()
        )
    }

    async fn status(&self, array_id: &ArrayId) -> Result<Option<RunSnapshot>> {
        ask!(
            self,
            Call::Status(array_id),
            self.inner.status(array_id),
            None
        )
    }

    async fn arrived(&self, groups: &[GroupId]) -> Result<Vec<Vec<u32>>> {
        ask!(self, Call::Arrived, self.inner.arrived(groups), Vec::new())
    }

    async fn wait(&self, array_id: &ArrayId, up_to: Duration) -> Result<Option<RunSnapshot>> {
        ask!(self, Call::Wait, self.inner.wait(array_id, up_to), None)
    }

    async fn cancel(&self, array_id: &ArrayId) -> Result<bool> {
        ask!(self, Call::Cancel, self.inner.cancel(array_id), false)
    }

    async fn forget(&self, array_id: &ArrayId) -> Result<()> {
        ask!(self, Call::Forget, self.inner.forget(array_id), ())
    }
}
