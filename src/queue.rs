//! The contract of a queue: at-least-once delivery of bytes and their attributes, nothing of users'
//! types.

mod attributes;
mod depth;
pub(crate) mod find;
pub(crate) mod hand_back;
mod message;
mod receipt;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::attributes::Attributes;
pub use self::depth::Depth;
pub use self::message::{BuriedMessage, Delivery, Outgoing};
pub use self::receipt::Receipt;
use crate::core::error::Result;
pub use crate::core::page::{Cursor, Page};
use crate::core::provision::Change;

/// How long a received message stays hidden from other receivers unless told otherwise.
pub const DEFAULT_VISIBILITY_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) const DEFAULT_ATTEMPTS: u32 = 5;
/// The most bytes of messages, by [`BuriedMessage::size`], that a page of dead letters has, unless a single message is
/// larger: 4 MiB.
pub const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Options a queue is opened with. Made by [`default`](Self::default) and changed by its methods.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueOptions {
    /// How long a received message stays hidden before it is delivered again.
    pub visibility_timeout: Duration,
    /// How many deliveries on which work began the engine uses before it buries a message itself. A
    /// message may be received any number of times in addition. A backend whose service moves messages
    /// to the dead letters by itself lets it do so as late as it can, and says when by
    /// [`Queue::most_receives`].
    pub attempts: u32,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            visibility_timeout: DEFAULT_VISIBILITY_TIMEOUT,
            attempts: DEFAULT_ATTEMPTS,
        }
    }
}

impl QueueOptions {
    /// Sets the visibility timeout.
    #[must_use]
    pub fn visibility_timeout(mut self, timeout: Duration) -> Self {
        self.visibility_timeout = timeout;
        self
    }

    /// Sets the number of attempts.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }
}

/// Selects dead letters in [`Queue::find_dead_letters`].
pub type Wanted<'a> = dyn Fn(&BuriedMessage) -> bool + Send + Sync + 'a;

/// Opens queues by name. Its `Debug` names the service in logs, without secrets.
#[async_trait]
pub trait Queues: std::fmt::Debug + Send + Sync + 'static {
    /// Checks whether the service takes a queue of this name with these options, without asking it.
    /// Called for each stage when a pipeline is [deployed](crate::Pipeline::deploy): whatever the
    /// service would refuse, or would silently do otherwise, is told there, before anything is made.
    /// The default is for queues without limits: it takes everything.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use async_trait::async_trait;
    /// use catchment::queue::{Queue, QueueOptions, Queues};
    /// use catchment::{Error, Result};
    ///
    /// #[derive(Debug)]
    /// struct Brief;
    ///
    /// #[async_trait]
    /// impl Queues for Brief {
    ///     fn check(&self, _name: &str, options: &QueueOptions) -> Result<()> {
    ///         if options.visibility_timeout > Duration::from_secs(600) {
    ///             return Err(Error::invalid_pipeline(format!(
    ///                 "visibility_timeout is {:?}, and this service takes at most 10 minutes",
    ///                 options.visibility_timeout
    ///             )));
    ///         }
    ///         Ok(())
    ///     }
    ///
    ///     async fn open(&self, name: &str, options: &QueueOptions) -> Result<Arc<dyn Queue>> {
    ///         # let _ = options;
    ///         Err(Error::not_provisioned(name, "this example"))
    ///     }
    /// }
    ///
    /// let hour = QueueOptions::default().visibility_timeout(Duration::from_secs(3_600));
    /// assert!(Brief.check("adder--sum", &hour).is_err());
    /// assert!(Brief.check("adder--sum", &QueueOptions::default()).is_ok());
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidPipeline`](crate::Error::InvalidPipeline), which names the option, its value and the limit, but
    /// not the stage: the caller adds that.
    fn check(&self, _name: &str, _options: &QueueOptions) -> Result<()> {
        Ok(())
    }

    /// Opens the queue and its dead-letter queue, named `{name}--dead`. Handles opened under one
    /// name refer to the same queue.
    ///
    /// # Errors
    /// A service that needs provisioning names the queue that is missing.
    async fn open(&self, name: &str, options: &QueueOptions) -> Result<Arc<dyn Queue>>;

    /// Makes the queue and its dead-letter queue if they are missing, updates the settings that
    /// differ where that is safe, touches nothing else, and says what it did. Idempotent; many
    /// callers may do it at once. Queues that need no making do nothing, which is the default.
    ///
    /// A queue may be in any phase of its life: one that is being made is waited for, one that is
    /// being deleted is made again when it is gone. The wait is bounded.
    ///
    /// # Errors
    /// A wait that took too long ends with a retryable error, which says what was waited for. What
    /// [`check`](Self::check) refuses is refused here as well.
    async fn provision(&self, _name: &str, _options: &QueueOptions) -> Result<Vec<Change>> {
        Ok(Vec::new())
    }

    /// Removes the queue and its dead-letter queue with all that is in them, and says what it did.
    /// Idempotent. The default does nothing.
    async fn deprovision(&self, _name: &str) -> Result<Vec<Change>> {
        Ok(Vec::new())
    }
}

/// An at-least-once queue: whatever is received and not acknowledged becomes visible again after
/// the visibility timeout. Messages may arrive in any order and more than once.
///
/// Every method may be cancelled by dropping its future. What a cancelled call leaves behind is
/// said on each; none leaves a message lost.
#[async_trait]
pub trait Queue: std::fmt::Debug + Send + Sync + 'static {
    /// Puts messages on the queue, split to the service's limits; the part that failed is tried
    /// again. When this returns `Ok` all of them are durable. After an error or a cancelled call
    /// any of them may be: sending again is safe, since consumers are idempotent.
    ///
    /// Attributes are delivered with their body, unchanged, at every delivery.
    ///
    /// [`Outgoing::run`] tells runs apart: a queue that can delivers their messages in turn, so that a run of ten items does
    /// not wait for all that one of ten million has sent before it. One that cannot ignores it. A queue that keeps the run
    /// returns it with deliveries and dead letters, so that a message that is redriven has it too.
    async fn send(&self, messages: Vec<Outgoing>) -> Result<()>;

    /// Takes up to `max` messages, waiting up to `wait` for the first. Returns what is there as
    /// soon as there is any, and an empty vector when the time is over. `max` is at least 1 and
    /// a service may return fewer.
    ///
    /// Cancelled before it returns, it takes nothing, or takes messages that become visible
    /// again after their visibility timeout.
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>>;

    /// Removes messages. A stale receipt is not an error, and does not remove the later delivery.
    /// Idempotent.
    async fn acknowledge(&self, receipts: Vec<Receipt>) -> Result<()>;

    /// Negative acknowledgement: each message becomes visible again after this delay. Its receive
    /// count stays. A stale receipt is not an error and changes nothing.
    ///
    /// After an error or a cancelled call any of the messages may have been released; the others
    /// become visible again after their visibility timeout. Idempotent.
    async fn release(&self, receipts: Vec<Receipt>, after: Duration) -> Result<()>;

    /// Heartbeat: hides each message for `by` from now. Returns the receipts that are stale: those
    /// messages are somebody else's, or gone.
    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Result<Vec<Receipt>>;

    /// Moves a message to the dead-letter queue, its body and attributes unchanged, with the reason
    /// beside them.
    /// Cancelled, or repeated after a crash, it may leave two copies there, never none anywhere.
    /// A stale receipt is not an error.
    async fn bury(&self, delivery: Delivery, reason: &str) -> Result<()>;

    /// Buried messages, without removing them: at most `max` (at least 1) after `cursor`, and a
    /// cursor if there may be more. A page has one message, or several of at most [`PAGE_BYTES`]
    /// together. It costs what it returns, however many there are. A page may have fewer, even
    /// none, and still have a cursor; following the cursors always comes to an end. One that stays from the first page to the last is returned exactly once; one that is
    /// buried, redriven or discarded meanwhile may be returned or not.
    ///
    /// A service that cannot go on where it left off returns no cursor, and says by
    /// [`truncated`](Page::truncated) that there may be more than it returns. It may hide what it
    /// returns from the next caller for a moment, and ends its search within a bounded time, also
    /// if what it has seen keeps coming back. Cancelled, it leaves nothing behind but that.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if `cursor` is not one of this
    /// queue's.
    async fn dead_letters(
        &self,
        cursor: Option<&Cursor>,
        max: usize,
    ) -> Result<Page<BuriedMessage>>;

    /// The buried messages that are `wanted`: at most `max` (at least 1) after `cursor`, and a
    /// cursor if there may be more. Everything that [`dead_letters`](Self::dead_letters) says of a
    /// page holds, except its cost: a page may read and pass over up to a thousand messages that
    /// are not wanted (or 64 MiB of them), and does not keep those in memory.
    ///
    /// The default reads pages by [`dead_letters`](Self::dead_letters). A service that cannot go on
    /// where it left off overrides it, since what a page reads first would hide the rest.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if `cursor` is not one of this
    /// queue's.
    async fn find_dead_letters(
        &self,
        cursor: Option<&Cursor>,
        max: usize,
        wanted: &Wanted<'_>,
    ) -> Result<Page<BuriedMessage>> {
        find::in_pages(self, cursor, max, wanted).await
    }

    /// Puts buried messages back on the queue, with their attributes and a fresh receive count,
    /// then removes them from the dead-letter queue. Cancelled in between, a message is in both.
    /// Returns the receipts of those it passed over: no longer in the dead-letter queue as far as
    /// the service can tell, or not found in the bounded time that a search may take.
    ///
    /// The default sends the messages and then discards the dead letters. It delivers a message
    /// once more that is no longer in the dead-letter queue, as at-least-once allows, and returns
    /// no receipts: a service that can tell overrides it.
    async fn redrive(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>> {
        self.send(messages.iter().map(Outgoing::from).collect())
            .await?;
        self.discard(messages).await?;
        Ok(Vec::new())
    }

    /// Removes buried messages for good. Only their receipts count. Idempotent. Returns the
    /// receipts of those it passed over, as [`redrive`](Self::redrive) does; a service that cannot
    /// tell returns none. Ends within a bounded time. Cancelled, it has removed some of them.
    async fn discard(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>>;

    /// How many messages there are.
    async fn depth(&self) -> Result<Depth>;

    /// Back-pressure: waits until the queue has capacity for more messages. A queue that keeps any
    /// amount returns at once, which is the default.
    ///
    /// It must return while nobody consumes, or a program that submits before it starts a worker
    /// would wait for ever. Cancelling it leaves nothing behind.
    async fn room(&self) -> Result<()> {
        Ok(())
    }

    /// The service's maximum messages per request, if requests are slow or billed. A worker then
    /// takes them in full batches, and lets acknowledgements wait a moment for each other. `None`,
    /// the default, where a call costs next to nothing.
    fn batch(&self) -> Option<usize> {
        None
    }

    /// How many messages a submitter gathers for a call, if the queue has no [`batch`](Self::batch): ten by default. More
    /// pay where each call is a statement.
    fn messages_per_call(&self) -> usize {
        10
    }

    /// The number of receives after which the service itself moves a message to the dead letters, or
    /// drops it, without the library taking part. The engine buries a message shortly before, so that
    /// its run is told. `None`, the default, if the service never does. The number may change while the queue is
    /// open, when more becomes known; asking is cheap and sends no request.
    fn most_receives(&self) -> Option<u32> {
        None
    }

    /// The largest message [`send`](Queue::send) takes, in bytes: a body without attributes, or one
    /// that leaves room for them. `None`, the default, if there is no limit.
    fn max_body(&self) -> Option<usize> {
        None
    }

    /// The bytes that count towards [`max_body`](Queue::max_body) if `body` had `more` bytes of ASCII text in addition. The
    /// default is for a queue that sends a body as it is: the sum. A queue whose service takes text alone counts what the
    /// body becomes.
    fn sent_size(&self, body: &Bytes, more: usize) -> usize {
        body.len() + more
    }
}
