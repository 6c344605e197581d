//! Failures: failed attempts, dead letters and skipped items on record.

use std::sync::Arc;

use async_trait::async_trait;

use crate::core::error::Result;
use crate::core::failure::{Attempt, DeadLetterId, DeliveryId, Failure, Verdict};
use crate::core::generation::RunKey;
use crate::core::id::RunId;
use crate::core::page::{Cursor, Page};

/// The record of failures of a [`Scratchpad`](super::Scratchpad).
///
/// # Errors
/// [`Error::Backend`](crate::Error::Backend) if the store cannot be reached or refuses the call, with `retryable` set
/// for a transient problem.
#[async_trait]
pub trait Failures: Send + Sync {
    /// Writes down that the function begins on a delivery of a message, or on one item of it, and returns what is on
    /// record of the message's deliveries, this one included. Idempotent: a [`DeliveryId`] counts once. For an unknown run
    /// nothing needs to be written, and the answer may be the default.
    ///
    /// A delivery that is written down again with another [`item`](Beginning::item) is at that item from then on, and no
    /// longer at the former one. Written down again without an item, it stays at the one that it is at.
    ///
    /// A message that ends its process again and again is known by its unfinished deliveries, and the item of it that does
    /// so by their items. The engine calls this for redeliveries only, so that a message that is delivered once costs no
    /// write; it names items only if a message has outlived a process.
    async fn note_beginning(&self, beginning: &Beginning) -> Result<Deliveries>;

    /// Takes a beginning back: the delivery was given up before its function began, or is done. The delivery is at no item
    /// any more, whichever one the argument names. Idempotent.
    async fn withdraw_beginning(&self, beginning: &Beginning) -> Result<()>;

    /// Adds to the record of failures. Attempts are appended, so that one whose response was lost may be on record
    /// twice, unless the store leaves out an attempt that equals one on record; everything else is idempotent.
    /// For an unknown run nothing is written and the log is empty.
    ///
    /// Attempts are counted for each item by its highest [`number`](Attempt::number), and those without an item for the
    /// message as a whole, whatever the verdict. Two copies of one message may report: the higher number stands. A backend
    /// may count for a thousand items per message only: those with the highest numbers. Any other item begins at 0 again,
    /// which costs calls of its function and never makes the item final.
    ///
    /// [`Verdict::Skip`] adds the items to the message's set of skipped ones. [`Verdict::Dead`] makes the run read as
    /// failed and replaces an older id of the same message. As long as that stands, [`list_failures`](Self::list_failures)
    /// has the dead letter in place of the message's skipped items, also of those that a copy of the message reports
    /// later. They stay in the count of skipped items until [`clear`](Self::clear): an earlier delivery may have left them
    /// out, and what it sent may still arrive in the result.
    async fn record(&self, report: &FailureReport) -> Result<FailureLog>;

    /// Removes a message's dead letter, its skipped items and what is on record of its deliveries and of its items' attempts
    /// if the dead letter has this id: the message is on its queue again, and its items have all their attempts. The
    /// attempts that failed stay in the log. Idempotent; another id, or none, changes nothing.
    async fn clear(&self, run: &RunKey, stage: &str, message: &str, id: DeadLetterId)
    -> Result<()>;

    /// The failures on record, dead letters and skipped items alike, ordered by stage name, message and item (a failure
    /// at no particular item first). Names compare as text, except that in the name of a message each run of digits
    /// compares as a number: `packet 2` comes before `packet 10`. Returns at most `limit` (at least 1) after `cursor`, and a
    /// cursor if there may be more. A page may have fewer failures, even none, and still have a cursor; following the
    /// cursors always comes to an end. An unknown run has none.
    ///
    /// A failure that stands from the first page to the last is returned exactly once; one that is recorded or cleared
    /// meanwhile may be returned or not. A page costs what it returns, however many failures there are. Changes nothing,
    /// also if its future is dropped.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if `cursor` is not one of this list.
    async fn list_failures(
        &self,
        run: &RunId,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<Failure>>;
}

/// A delivery of a message on which the function begins.
///
/// ```
/// use catchment::scratchpad::{Beginning, DeliveryId, Generation, RunKey};
///
/// let (run, delivery) = (RunKey::new("daily", Generation::random(32)), DeliveryId::random());
/// let beginning = Beginning::new(run, "parse", "packet 3", delivery);
/// assert_eq!(DeliveryId::from(delivery.as_u64()), beginning.delivery);
/// assert_eq!(beginning.at_item(17).item, Some(17));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Beginning {
    /// The run.
    pub run: RunKey,
    /// The stage.
    pub stage: Arc<str>,
    /// The message within the stage: `packet 3`, `group 1/0`.
    pub message: String,
    /// Which delivery of it.
    pub delivery: DeliveryId,
    /// The item of the array on which the function begins, if the message's items run one at a time.
    pub item: Option<u64>,
}

impl Beginning {
    /// The beginning of a delivery.
    pub fn new(
        run: impl Into<RunKey>,
        stage: impl Into<Arc<str>>,
        message: impl Into<String>,
        delivery: DeliveryId,
    ) -> Self {
        Self {
            run: run.into(),
            stage: stage.into(),
            message: message.into(),
            delivery,
            item: None,
        }
    }

    /// Sets the item of the array on which the function begins.
    #[must_use]
    pub fn at_item(mut self, item: u64) -> Self {
        self.item = Some(item);
        self
    }
}

/// A failure on its way into the scratchpad.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailureReport {
    /// The run.
    pub run: RunKey,
    /// The stage.
    pub stage: Arc<str>,
    /// The message within the stage: `packet 3`, `group 1/0`.
    pub message: String,
    /// What failed, oldest first: any number of attempts per item, and those at the message as a whole.
    pub attempts: Vec<Attempt>,
    /// What becomes of it.
    pub verdict: Verdict,
    /// The delivery that failed, if its beginning is on record: it is unfinished no longer.
    pub delivery: Option<DeliveryId>,
}

impl FailureReport {
    /// A failure of a message, with the attempts that failed now, of a delivery whose beginning is not on record.
    pub fn new(
        run: impl Into<RunKey>,
        stage: impl Into<Arc<str>>,
        message: impl Into<String>,
        attempts: Vec<Attempt>,
        verdict: Verdict,
    ) -> Self {
        Self {
            run: run.into(),
            stage: stage.into(),
            message: message.into(),
            attempts,
            verdict,
            delivery: None,
        }
    }

    /// Sets the delivery that failed.
    #[must_use]
    pub fn delivery(mut self, delivery: DeliveryId) -> Self {
        self.delivery = Some(delivery);
        self
    }
}

/// What is on record of a message's deliveries and of its items' attempts since it was sent, or redriven.
///
/// ```
/// use catchment::scratchpad::{Deliveries, ItemAttempts};
///
/// // Begun twice without an end, at item 17 the last time; that item had failed three times before.
/// let deliveries = Deliveries::new(2, 0).items(vec![ItemAttempts::new(17, 3, 1)]);
/// assert_eq!(deliveries.items[0].failed, 3);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deliveries {
    /// Deliveries that have begun, and have neither failed nor been withdrawn: those under way, and those whose process
    /// died or lost the message. Those that are at an item count too.
    pub unfinished: u32,
    /// The highest number of a failed attempt at the message as a whole, one without an item; 0 if there is none.
    pub failed: u32,
    /// Every item that has something on record, ordered by item: a failed attempt, or a delivery that has begun it.
    pub items: Vec<ItemAttempts>,
}

impl Deliveries {
    /// This many unfinished deliveries, and the highest number of a failed attempt without an item, or 0. No item has
    /// anything on record.
    pub fn new(unfinished: u32, failed: u32) -> Self {
        Self {
            unfinished,
            failed,
            items: Vec::new(),
        }
    }

    /// Sets what is on record of items, ordered by item.
    #[must_use]
    pub fn items(mut self, items: Vec<ItemAttempts>) -> Self {
        self.items = items;
        self
    }
}

/// What is on record of one item of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ItemAttempts {
    /// Which item of the array.
    pub item: u64,
    /// The highest number of a failed attempt at it; 0 if there is none. [`u32::MAX`] once it is left out: it has no
    /// attempt left, whatever its last one was. While its message stands as a dead letter it is not left out, and may
    /// have all its attempts again.
    pub failed: u32,
    /// How many of the message's unfinished deliveries are at this item.
    pub unfinished: u32,
}

impl ItemAttempts {
    /// An item with the highest number of a failed attempt at it, or 0, and this many unfinished deliveries.
    pub fn new(item: u64, failed: u32, unfinished: u32) -> Self {
        Self {
            item,
            failed,
            unfinished,
        }
    }
}

/// What [`Failures::record`] returns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailureLog {
    /// Every failed attempt at this message and its items on record, oldest first, this report's included. A backend may
    /// keep only a hundred, and then drops an attempt that the same item outlived before the last one of any item.
    pub attempts: Vec<Attempt>,
    /// How many items of the whole run are on record as skipped, this report's included, and those of messages that stand as
    /// dead letters.
    pub skipped: u64,
}

impl FailureLog {
    /// A log of these attempts, oldest first, in a run with this many skipped items.
    pub fn new(attempts: Vec<Attempt>, skipped: u64) -> Self {
        Self { attempts, skipped }
    }
}
