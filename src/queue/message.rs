//! A message at each of its stations: to be sent, received, and buried.

use std::time::SystemTime;

use bytes::Bytes;

use super::attributes::Attributes;
use super::receipt::Receipt;
use crate::core::id::RunId;

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
    /// The run it belongs to, if it belongs to one. A hint for the queue, which
    /// [should not](super::Queue::send) let one run's messages wait for all of another's.
    pub run: Option<RunId>,
}

impl Outgoing {
    /// A message without attributes, of no run.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            attributes: Attributes::new(),
            run: None,
        }
    }

    /// Sets the run it belongs to.
    ///
    /// ```
    /// use catchment::queue::Outgoing;
    ///
    /// let message = Outgoing::new("hello").run("invoices/2026-11-21");
    /// assert_eq!(message.run.unwrap().as_str(), "invoices/2026-11-21");
    /// ```
    #[must_use]
    pub fn run(mut self, run: impl Into<RunId>) -> Self {
        self.run = Some(run.into());
        self
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

/// A fresh copy of a received message: its body, its attributes and its run.
impl From<&Delivery> for Outgoing {
    fn from(delivery: &Delivery) -> Self {
        Self {
            body: delivery.body.clone(),
            attributes: delivery.attributes.clone(),
            run: delivery.run.clone(),
        }
    }
}

/// A dead letter as it was sent: its body, its attributes and its run.
impl From<&BuriedMessage> for Outgoing {
    fn from(buried: &BuriedMessage) -> Self {
        Self {
            body: buried.body.clone(),
            attributes: buried.attributes.clone(),
            run: buried.run.clone(),
        }
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
    /// The run it was sent for; `None` if the queue does not keep it. Nothing depends on it but the order of deliveries.
    pub run: Option<RunId>,
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
        let Outgoing {
            body,
            attributes,
            run,
        } = message.into();
        Self {
            body,
            receipt,
            receive_count,
            attributes,
            run,
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

    /// Sets the run the message was sent for, if the queue keeps it.
    #[must_use]
    pub fn run(mut self, run: Option<RunId>) -> Self {
        self.run = run;
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
/// assert_eq!(buried.size(), 5 + 12);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuriedMessage {
    /// The bytes that were sent, unchanged, so that the message can be redriven as it was.
    pub body: Bytes,
    /// The attributes it was sent with.
    pub attributes: Attributes,
    /// The run it was sent for; `None` if the queue does not keep it.
    pub run: Option<RunId>,
    /// Why it was buried, as given to [`Queue::bury`](super::Queue::bury); empty if a service's own
    /// redrive policy moved it.
    pub reason: String,
    /// Identifies the message to [`Queue::redrive`](super::Queue::redrive) and
    /// [`Queue::discard`](super::Queue::discard).
    pub receipt: Receipt,
}

impl BuriedMessage {
    /// `message`, which is an [`Outgoing`] or a body without attributes, buried for `reason`.
    pub fn new(message: impl Into<Outgoing>, reason: impl Into<String>, receipt: Receipt) -> Self {
        let Outgoing {
            body,
            attributes,
            run,
        } = message.into();
        Self {
            body,
            attributes,
            run,
            reason: reason.into(),
            receipt,
        }
    }

    /// The bytes of the body, of its attributes and of the reason, by which a page of dead letters
    /// is [bounded](super::PAGE_BYTES).
    pub fn size(&self) -> usize {
        self.body.len() + self.attributes.size() + self.reason.len()
    }

    /// Sets the attributes the message was sent with.
    #[must_use]
    pub fn attributes(mut self, attributes: Attributes) -> Self {
        self.attributes = attributes;
        self
    }
}
