//! A hook on every call between a process and its backend.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use catchment::queue::{
    BuriedMessage, Delivery, Depth, Outgoing, Queue, QueueOptions, Queues, Receipt,
};
use catchment::scratchpad::{
    Arrival, Beginning, Begun, Checkpoint, Cursor, DeadLetterId, Deliveries, Failure, FailureLog,
    FailureReport, Failures, GroupId, GroupState, Groups, Members, Page, RunFilter, RunKey,
    RunOutline, RunRecord, RunSnapshot, RunSummary, Runs, Scratchpad,
};
use catchment::{Error, Result, RunId};

/// A call, with those of its arguments that some test reads.
#[derive(Debug)]
pub(crate) enum Call<'a> {
    Open,
    Send(&'a str, &'a [Outgoing]),
    Receive(&'a str),
    Acknowledge(&'a str, &'a [Receipt]),
    Release(&'a str, Duration),
    Extend(&'a str),
    Bury(&'a str, &'a Delivery),
    /// How many were asked for, of which queue.
    DeadLetters(&'a str, usize),
    Redrive,
    Discard,
    Depth,
    Room(&'a str),
    Begin,
    Checkpoint(&'a Checkpoint),
    Measure,
    Submitted,
    Expect(&'a GroupId),
    Arrive(&'a [Arrival]),
    Members(&'a GroupId),
    Retire(&'a GroupId),
    Complete(&'a RunKey),
    RecordFailure(&'a FailureReport),
    ClearFailure,
    Failures,
    NoteBeginning(&'a Beginning),
    WithdrawBeginning(&'a Beginning),
    Status(&'a RunId),
    Outline,
    Arrived,
    Wait,
    ListRuns,
    Cancel,
    Forget,
}

/// The fate of a call.
#[derive(Debug)]
pub(crate) enum Act {
    Go,
    Fail(Error),
    /// The call is not made, and is reported as made.
    Swallow,
    /// The call is delayed by this long.
    Late(Duration),
}

#[async_trait]
pub(crate) trait Hook: Send + Sync + 'static {
    async fn before(&self, call: &Call<'_>) -> Act;

    /// A queue has answered with these.
    fn received(&self, _queue: &str, _deliveries: &[Delivery]) {}

    /// Changes the result of reading a group.
    fn read(&self, _members: &mut Members) {}

    /// The queues' maximum messages per request, if requests are to be billed.
    fn batch(&self) -> Option<usize> {
        None
    }

    /// Whether one scratchpad serves every deployment, as that of a backend without a part for each.
    fn serves_all(&self) -> bool {
        false
    }
}

/// Queues, a queue or a scratchpad with a hook around it.
pub(crate) struct Hooked<T: ?Sized> {
    name: String,
    hook: Arc<dyn Hook>,
    inner: Arc<T>,
}

impl<T: ?Sized> fmt::Debug for Hooked<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hooked")
    }
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

/// Makes a call as the hook decides; the last argument is the answer of a swallowed call.
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
        let received = ask!(self, call, self.inner.receive(max, wait), Vec::new());
        if let Ok(deliveries) = &received {
            self.hook.received(&self.name, deliveries);
        }
        received
    }

    async fn acknowledge(&self, receipts: Vec<Receipt>) -> Result<()> {
        let call = Call::Acknowledge(&self.name, &receipts);
        ask!(self, call, self.inner.acknowledge(receipts.clone()), ())
    }

    async fn release(&self, receipts: Vec<Receipt>, after: Duration) -> Result<()> {
        let call = Call::Release(&self.name, after);
        ask!(self, call, self.inner.release(receipts.clone(), after), ())
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

    async fn dead_letters(
        &self,
        cursor: Option<&Cursor>,
        max: usize,
    ) -> Result<Page<BuriedMessage>> {
        ask!(
            self,
            Call::DeadLetters(&self.name, max),
            self.inner.dead_letters(cursor, max),
            Page::default()
        )
    }

    async fn redrive(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>> {
        ask!(
            self,
            Call::Redrive,
            self.inner.redrive(messages.clone()),
            Vec::new()
        )
    }

    async fn discard(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>> {
        ask!(
            self,
            Call::Discard,
            self.inner.discard(messages.clone()),
            Vec::new()
        )
    }

    async fn depth(&self) -> Result<Depth> {
        ask!(self, Call::Depth, self.inner.depth(), Depth::default())
    }

    async fn room(&self) -> Result<()> {
        ask!(self, Call::Room(&self.name), self.inner.room(), ())
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

    fn batch(&self) -> Option<usize> {
        self.hook.batch()
    }
}

impl Scratchpad for Hooked<dyn Scratchpad> {
    fn bind(&self, deployment: &str) -> Option<Arc<dyn Scratchpad>> {
        if self.hook.serves_all() {
            return None;
        }
        let inner = self.inner.bind(deployment)?;
        Some(Arc::new(Self {
            name: self.name.clone(),
            hook: Arc::clone(&self.hook),
            inner,
        }))
    }
}

/// Implements contracts by [`ask!`]: each method is followed by its call, and by the answer of a
/// swallowed one.
macro_rules! hook {
    ($($contract:ident {
        $(fn $method:ident($($argument:ident: $type:ty),*) -> $answer:ty
            => $call:expr, $swallowed:expr $(, $read:ident)?;)*
    })*) => {
        $(#[async_trait]
        impl $contract for Hooked<dyn Scratchpad> {
            $(async fn $method(&self, $($argument: $type),*) -> Result<$answer> {
                let inner = self.inner.as_ref();
                let again = || $contract::$method(inner, $(Clone::clone(&$argument)),*);
                let answer = ask!(self, $call, again(), $swallowed);
                $(let answer = answer.map(|mut answer| {
                    self.hook.$read(&mut answer);
                    answer
                });)?
                answer
            })*
        })*
    };
}

hook! {
    Runs {
        fn begin(record: &RunRecord) -> Begun => Call::Begin, Begun::New;
        fn checkpoint(id: &RunKey, reached: &Checkpoint) -> () => Call::Checkpoint(reached), ();
        fn measure(id: &RunKey, end: &Checkpoint) -> () => Call::Measure, ();
        fn submitted(id: &RunKey) -> () => Call::Submitted, ();
        fn complete(id: &RunKey, result: Bytes) -> bool => Call::Complete(id), true;
        fn cancel(id: &RunId) -> bool => Call::Cancel, false;
        fn status(id: &RunId) -> Option<RunSnapshot> => Call::Status(id), None;
        fn outline(id: &RunId) -> Option<RunOutline> => Call::Outline, None;
        fn wait(id: &RunId, up_to: Duration) -> Option<RunSnapshot> => Call::Wait, None;
        fn list_runs(filter: &RunFilter, cursor: Option<&Cursor>, limit: usize) -> Page<RunSummary>
            => Call::ListRuns, Page::default();
        fn forget(id: &RunId) -> () => Call::Forget, ();
    }
    Groups {
        fn expect(group: &GroupId, expected: u32, root: bool) -> GroupState
            => Call::Expect(group), GroupState::gone();
        fn arrive(arrivals: Vec<Arrival>) -> Vec<GroupState>
            => Call::Arrive(&arrivals), vec![GroupState::gone(); arrivals.len()];
        fn members(group: &GroupId) -> Members => Call::Members(group), Members::Retired, read;
        fn retire(group: &GroupId) -> () => Call::Retire(group), ();
        fn arrived(groups: &[GroupId]) -> Vec<Vec<u32>> => Call::Arrived, Vec::new();
    }
    Failures {
        fn note_beginning(beginning: &Beginning) -> Deliveries
            => Call::NoteBeginning(beginning), Deliveries::default();
        fn withdraw_beginning(beginning: &Beginning) -> ()
            => Call::WithdrawBeginning(beginning), ();
        fn record(report: &FailureReport) -> FailureLog
            => Call::RecordFailure(report), FailureLog::default();
        fn clear(id: &RunKey, stage: &str, message: &str, letter: DeadLetterId) -> ()
            => Call::ClearFailure, ();
        fn list_failures(id: &RunId, cursor: Option<&Cursor>, limit: usize) -> Page<Failure>
            => Call::Failures, Page::default();
    }
}
