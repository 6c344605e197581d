//! The contract of a queue: at-least-once delivery of bytes and their attributes, nothing of users'
//! types.

pub(crate) mod requeue;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use crate::core::error::Result;
pub use crate::core::page::{Cursor, Page};
use crate::core::provision::Change;

/// How long a received message stays hidden from other receivers unless told otherwise.
pub const DEFAULT_VISIBILITY_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) const DEFAULT_ATTEMPTS: u32 = 5;
/// Suffix of a dead-letter queue's name.
pub(crate) const DEAD_LETTER_SUFFIX: &str = "-dead";

/// Options a queue is opened with. Made by [`default`](Self::default) and changed by its methods.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueOptions {
    /// How long a received message stays hidden before it is delivered again.
    pub visibility_timeout: Duration,
    /// How many deliveries the engine uses before it buries a message itself. A backend whose
    /// service has its own redrive limit should set that well above this number.
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

/// A small map of text attributes beside a message's body, such as a trace context: sorted by
/// name, one value per name. Names and values may be any text, including none. Empty by default;
/// an empty map allocates nothing, and cloning one copies no text.
///
/// ```
/// use catchment::queue::Attributes;
///
/// let attributes: Attributes = [("tenant", "9"), ("colour", "blue")].into_iter().collect();
/// assert_eq!(attributes.get("tenant"), Some("9"));
/// let names: Vec<&str> = attributes.iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["colour", "tenant"]);
/// assert_eq!(attributes.size(), "tenant9colourblue".len());
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes(Option<Arc<BTreeMap<String, String>>>);

impl Attributes {
    /// No attributes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an attribute, replacing any earlier value of that name.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let map = self.0.get_or_insert_default();
        Arc::make_mut(map).insert(name.into(), value.into());
    }

    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.as_ref()?.get(name).map(String::as_str)
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.0.iter().flat_map(|map| map.iter());
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The number of attributes.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |map| map.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of all names and values.
    pub fn size(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    }
}

impl std::fmt::Debug for Attributes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

impl<N: Into<String>, V: Into<String>> Extend<(N, V)> for Attributes {
    fn extend<I: IntoIterator<Item = (N, V)>>(&mut self, pairs: I) {
        for (name, value) in pairs {
            self.insert(name, value);
        }
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut attributes = Self::new();
        attributes.extend(pairs);
        attributes
    }
}

/// A message to send: a body and its attributes. Anything that converts to [`Bytes`] converts to a
/// message without attributes.
///
/// ```
/// use catchment::queue::Outgoing;
///
/// let message = Outgoing::new("hello").attribute("tenant", "9");
/// assert_eq!(message.attributes.get("tenant"), Some("9"));
/// assert_eq!(message.size(), 5 + 6 + 1);
/// assert_eq!(Outgoing::from("hello"), Outgoing::new("hello"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outgoing {
    /// The bytes to deliver.
    pub body: Bytes,
    /// Delivered with the body.
    pub attributes: Attributes,
}

impl Outgoing {
    /// A message without attributes.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            attributes: Attributes::new(),
        }
    }

    /// Sets one attribute, replacing any earlier value of that name.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name, value);
        self
    }

    /// Sets all attributes.
    #[must_use]
    pub fn attributes(mut self, attributes: Attributes) -> Self {
        self.attributes = attributes;
        self
    }

    /// The bytes of the body and of its attributes. A service may count a few more per attribute.
    pub fn size(&self) -> usize {
        self.body.len() + self.attributes.size()
    }
}

impl<B: Into<Bytes>> From<B> for Outgoing {
    fn from(body: B) -> Self {
        Self::new(body)
    }
}

/// A fresh copy of a received message: its body and its attributes.
impl From<&Delivery> for Outgoing {
    fn from(delivery: &Delivery) -> Self {
        Self::new(delivery.body.clone()).attributes(delivery.attributes.clone())
    }
}

/// A dead letter as it was sent: its body and its attributes.
impl From<&BuriedMessage> for Outgoing {
    fn from(buried: &BuriedMessage) -> Self {
        Self::new(buried.body.clone()).attributes(buried.attributes.clone())
    }
}

/// Proof of one delivery, required to acknowledge, release, extend or bury a message. Opaque to
/// everyone but the queue that issued it. A later delivery of the same message has another
/// receipt, and makes the earlier one stale.
///
/// ```
/// use catchment::queue::Receipt;
///
/// let handle = Receipt::new("AQEB6xh");
/// assert_eq!((handle.as_str(), handle.as_u64()), (Some("AQEB6xh"), None));
/// let number = Receipt::from(7);
/// assert_eq!((number.as_str(), number.as_u64()), (None, Some(7)));
/// // The text of a number is read as that number.
/// assert_eq!(Receipt::new(number.to_string()).as_u64(), Some(7));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Receipt(Proof);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Proof {
    Number(u64),
    Text(Arc<str>),
}

impl Receipt {
    /// A receipt that is text, such as the handle a service issues.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(Proof::Text(text.into()))
    }

    /// The text it was made of; `None` if it was made of a number.
    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            Proof::Text(text) => Some(text),
            Proof::Number(_) => None,
        }
    }

    /// The number it was made of, or the number its text spells out: a receipt may have travelled
    /// as text, for example in a Lambda event. `None` if it is neither.
    pub fn as_u64(&self) -> Option<u64> {
        match &self.0 {
            Proof::Number(number) => Some(*number),
            Proof::Text(text) => text.parse().ok(),
        }
    }
}

/// For queues that number their deliveries. Allocates nothing.
impl From<u64> for Receipt {
    fn from(number: u64) -> Self {
        Self(Proof::Number(number))
    }
}

/// As text: the number's digits, or the text itself.
impl std::fmt::Display for Receipt {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Proof::Number(number) => number.fmt(formatter),
            Proof::Text(text) => text.fmt(formatter),
        }
    }
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part: &dyn std::fmt::Debug = match &self.0 {
            Proof::Number(number) => number,
            Proof::Text(text) => text,
        };
        formatter.debug_tuple("Receipt").field(part).finish()
    }
}

/// A message as it was received.
///
/// ```
/// use catchment::queue::{Delivery, Receipt};
///
/// let delivery = Delivery::new("hello", Receipt::from(1), 1).message_id("5fea7756");
/// assert_eq!(delivery.body, "hello");
/// assert!(delivery.attributes.is_empty() && delivery.sent_at.is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// The bytes that were sent.
    pub body: Bytes,
    /// Proof of this delivery.
    pub receipt: Receipt,
    /// How often the message has been received, including this time: 1 the first time.
    pub receive_count: u32,
    /// The attributes it was sent with.
    pub attributes: Attributes,
    /// The service's own id of the message, the same at each delivery; `None` if the service has
    /// none.
    pub message_id: Option<String>,
    /// When the service accepted the message; `None` if it does not tell.
    pub sent_at: Option<SystemTime>,
}

impl Delivery {
    /// A delivery of `message`, which is an [`Outgoing`] or a body without attributes; it has no id
    /// or time yet. `receive_count` includes this delivery: 1 the first time.
    pub fn new(message: impl Into<Outgoing>, receipt: Receipt, receive_count: u32) -> Self {
        let Outgoing { body, attributes } = message.into();
        Self {
            body,
            receipt,
            receive_count,
            attributes,
            message_id: None,
            sent_at: None,
        }
    }

    /// Sets the attributes the message was sent with.
    #[must_use]
    pub fn attributes(mut self, attributes: Attributes) -> Self {
        self.attributes = attributes;
        self
    }

    /// Sets the service's own id of the message.
    #[must_use]
    pub fn message_id(mut self, id: impl Into<String>) -> Self {
        self.message_id = Some(id.into());
        self
    }

    /// Sets when the service accepted the message.
    #[must_use]
    pub fn sent_at(mut self, time: SystemTime) -> Self {
        self.sent_at = Some(time);
        self
    }
}

/// A message that was buried, kept for a person.
///
/// ```
/// use catchment::queue::{BuriedMessage, Receipt};
///
/// let buried = BuriedMessage::new("hello", "not a number", Receipt::from(1));
/// assert_eq!(buried.reason, "not a number");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuriedMessage {
    /// The bytes that were sent, unchanged, so that the message can be redriven as it was.
    pub body: Bytes,
    /// The attributes it was sent with.
    pub attributes: Attributes,
    /// Why it was buried, as given to [`Queue::bury`]; empty if a service's own redrive policy
    /// moved it.
    pub reason: String,
    /// Identifies the message to [`Queue::redrive`] and [`Queue::discard`].
    pub receipt: Receipt,
}

impl BuriedMessage {
    /// `message`, which is an [`Outgoing`] or a body without attributes, buried for `reason`.
    pub fn new(message: impl Into<Outgoing>, reason: impl Into<String>, receipt: Receipt) -> Self {
        let Outgoing { body, attributes } = message.into();
        Self {
            body,
            attributes,
            reason: reason.into(),
            receipt,
        }
    }

    /// Sets the attributes the message was sent with.
    #[must_use]
    pub fn attributes(mut self, attributes: Attributes) -> Self {
        self.attributes = attributes;
        self
    }
}

/// The number of messages in a queue. Services that only estimate it say so in their own docs.
///
/// ```
/// use catchment::queue::Depth;
///
/// let depth = Depth::new().ready(3).dead(1);
/// assert_eq!((depth.ready, depth.in_flight, depth.dead), (3, 0, 1));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Depth {
    /// Waiting to be received.
    pub ready: u64,
    /// Received, and neither acknowledged nor visible again.
    pub in_flight: u64,
    /// Released with a delay that is not over.
    pub delayed: u64,
    /// In the dead-letter queue.
    pub dead: u64,
}

impl Depth {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of messages waiting to be received.
    #[must_use]
    pub fn ready(mut self, messages: u64) -> Self {
        self.ready = messages;
        self
    }

    /// Sets the number of messages received and not yet acknowledged.
    #[must_use]
    pub fn in_flight(mut self, messages: u64) -> Self {
        self.in_flight = messages;
        self
    }

    /// Sets the number of messages that were released with a delay.
    #[must_use]
    pub fn delayed(mut self, messages: u64) -> Self {
        self.delayed = messages;
        self
    }

    /// Sets the number of dead letters.
    #[must_use]
    pub fn dead(mut self, messages: u64) -> Self {
        self.dead = messages;
        self
    }
}

/// Opens queues by name. Its `Debug` names the service in logs, without secrets.
#[async_trait]
pub trait Queues: std::fmt::Debug + Send + Sync + 'static {
    /// Opens the queue and its dead-letter queue, named `{name}-dead`. Handles opened under one
    /// name refer to the same queue.
    ///
    /// # Errors
    /// A service that needs provisioning names the queue that is missing.
    async fn open(&self, name: &str, options: &QueueOptions) -> Result<Arc<dyn Queue>>;

    /// Makes the queue and its dead-letter queue if they are missing, updates the settings that
    /// differ where that is safe, touches nothing else, and says what it did. Idempotent; many
    /// callers may do it at once. Queues that need no making do nothing, which is the default.
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

    /// Negative acknowledgement: the message becomes visible again after this delay. Its receive
    /// count stays. A stale receipt is not an error and changes nothing.
    async fn release(&self, receipt: Receipt, after: Duration) -> Result<()>;

    /// Heartbeat: hides each message for `by` from now. Returns the receipts that are stale: those
    /// messages are somebody else's, or gone.
    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Result<Vec<Receipt>>;

    /// Moves a message to the dead-letter queue, its body and attributes unchanged, with the reason
    /// beside them.
    /// Cancelled, or repeated after a crash, it may leave two copies there, never none anywhere.
    /// A stale receipt is not an error.
    async fn bury(&self, delivery: Delivery, reason: &str) -> Result<()>;

    /// Buried messages, without removing them: at most `max` (at least 1) after `cursor`, and a
    /// cursor if there may be more. A page costs what it returns, however many there are. A page
    /// may have fewer, even none, and still have a cursor; following the cursors always comes to an
    /// end. One that stays from the first page to the last is returned exactly once; one that is
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

    /// Puts buried messages back on the queue, with their attributes and a fresh receive count,
    /// then removes them from the dead-letter queue. Cancelled in between, a message is in both.
    /// One that is no longer in the dead-letter queue is passed over where the service can tell.
    ///
    /// The default sends the messages and then discards the dead letters. It delivers a message
    /// once more that is no longer in the dead-letter queue, as at-least-once allows: a service
    /// that can tell overrides it.
    async fn redrive(&self, messages: Vec<BuriedMessage>) -> Result<()> {
        self.send(messages.iter().map(Outgoing::from).collect())
            .await?;
        self.discard(messages).await
    }

    /// Removes buried messages for good. Idempotent.
    async fn discard(&self, messages: Vec<BuriedMessage>) -> Result<()>;

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

    /// The largest message [`send`](Queue::send) takes, in bytes: a body without attributes, or one
    /// that leaves room for them. `None`, the default, if there is no limit.
    fn max_body(&self) -> Option<usize> {
        None
    }
}
