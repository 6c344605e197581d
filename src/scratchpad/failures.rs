//! Failures: failed attempts, dead letters and skipped items on record.

use std::sync::Arc;

use async_trait::async_trait;

use crate::core::error::Result;
use crate::core::failure::{Attempt, DeadLetterId, DeliveryId, Failure, Verdict};
use crate::core::id::RunId;
use crate::core::page::{Cursor, Page};

/// The record of failures of a [`Scratchpad`](super::Scratchpad).
///
/// # Errors
/// [`Error::Backend`](crate::Error::Backend) if the store cannot be reached or refuses the call, with `retryable` set
/// for a transient problem.
#[async_trait]
pub trait Failures: Send + Sync {
    /// Writes down that the function begins on a delivery of a message, and returns what is on record of the message's
    /// deliveries, this one included. Idempotent: a [`DeliveryId`] counts once. For an unknown run nothing needs to be
    /// written, and the answer may be the default.
    ///
    /// A message that ends its process again and again is known by its unfinished deliveries. The engine calls this for
    /// redeliveries only, so that a message that is delivered once costs no write.
    async fn note_beginning(&self, beginning: &Beginning) -> Result<Deliveries>;

    /// Takes a beginning back: the delivery was given up before its function began, or is done. Idempotent.
    async fn withdraw_beginning(&self, beginning: &Beginning) -> Result<()>;

    /// Adds to the record of failures. Attempts are appended, so that one whose response was lost may be on record
    /// twice, unless the store leaves out an attempt that equals one on record; everything else is idempotent.
    /// [`Verdict::Skip`] adds the items to the message's set of skipped ones. [`Verdict::Dead`] makes the run read as
    /// failed, and replaces an older id of the same message. For an unknown run nothing is written and the log is empty.
    async fn record(&self, report: &FailureReport) -> Result<FailureLog>;

    /// Removes a message's dead letter, its skipped items and what is on record of its deliveries if the dead letter has this
    /// id: the message is on its queue again, with all its attempts. The attempts that failed stay on record. Idempotent; another id, or none, changes nothing.
    async fn clear(&self, run: &RunId, stage: &str, message: &str, id: DeadLetterId) -> Result<()>;

    /// The failures on record, dead letters and skipped items alike, ordered by stage name, message and item (a failure
    /// at no particular item first), all as text or numbers. Returns at most `limit` (at least 1) after `cursor`, and a
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
/// use catchment::scratchpad::{Beginning, DeliveryId};
///
/// let delivery = DeliveryId::random();
/// let beginning = Beginning::new("daily", "parse", "packet 3", delivery);
/// assert_eq!(DeliveryId::from(delivery.as_u64()), beginning.delivery);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Beginning {
    /// The run.
    pub run: RunId,
    /// The stage.
    pub stage: Arc<str>,
    /// The message within the stage: `packet 3`, `group 1/0`.
    pub message: String,
    /// Which delivery of it.
    pub delivery: DeliveryId,
}

impl Beginning {
    /// The beginning of a delivery.
    pub fn new(
        run: impl Into<RunId>,
        stage: impl Into<Arc<str>>,
        message: impl Into<String>,
        delivery: DeliveryId,
    ) -> Self {
        Self {
            run: run.into(),
            stage: stage.into(),
            message: message.into(),
            delivery,
        }
    }
}

/// A failure on its way into the scratchpad.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailureReport {
    /// The run.
    pub run: RunId,
    /// The stage.
    pub stage: Arc<str>,
    /// The message within the stage: `packet 3`, `group 1/0`.
    pub message: String,
    /// What failed; one entry for each item, or one for the message as a whole.
    pub attempts: Vec<Attempt>,
    /// What becomes of it.
    pub verdict: Verdict,
    /// The delivery that failed, if its beginning is on record: it is unfinished no longer.
    pub delivery: Option<DeliveryId>,
}

impl FailureReport {
    /// A failure of a message, with the attempts that failed now, of a delivery whose beginning is not on record.
    pub fn new(
        run: impl Into<RunId>,
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

/// What is on record of a message's deliveries since it was sent, or redriven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deliveries {
    /// Deliveries that have begun, and have neither failed nor been withdrawn: those under way, and those whose process
    /// died or lost the message.
    pub unfinished: u32,
    /// The highest number of an attempt that failed; 0 if none did.
    pub failed: u32,
}

impl Deliveries {
    /// This many unfinished deliveries, and the highest number of an attempt that failed, or 0.
    pub fn new(unfinished: u32, failed: u32) -> Self {
        Self { unfinished, failed }
    }
}

/// What [`Failures::record`] returns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailureLog {
    /// Every failed attempt at this message on record, oldest first, this one included. A backend
    /// may keep only the newest hundred.
    pub attempts: Vec<Attempt>,
    /// How many items of the whole run are on record as skipped.
    pub skipped: u64,
}

impl FailureLog {
    /// A log of these attempts, oldest first, in a run with this many skipped items.
    pub fn new(attempts: Vec<Attempt>, skipped: u64) -> Self {
        Self { attempts, skipped }
    }
}
