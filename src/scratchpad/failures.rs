//! Failures: failed attempts, dead letters and skipped items on record.

use std::sync::Arc;

use async_trait::async_trait;

use crate::core::error::Result;
use crate::core::failure::{Attempt, DeadLetterId, Failure, Verdict};
use crate::core::id::RunId;
use crate::core::page::{Cursor, Page};

/// The record of failures of a [`Scratchpad`](super::Scratchpad).
///
/// # Errors
/// [`Error::Backend`](crate::Error::Backend) if the store cannot be reached or refuses the call, with `retryable` set
/// for a transient problem.
#[async_trait]
pub trait Failures: Send + Sync {
    /// Adds to the record of failures. Attempts are appended, so that one whose response was lost may be on record
    /// twice; everything else is idempotent. [`Verdict::Skip`] adds the items to the message's set of skipped ones.
    /// [`Verdict::Dead`] makes the run read as failed, and replaces an older id of the same message. For an unknown
    /// run nothing is written and the log is empty.
    async fn record(&self, report: &FailureReport) -> Result<FailureLog>;

    /// Removes a message's dead letter and its skipped items from the record if the dead letter has this id: the
    /// message is on its queue again. Idempotent; another id, or none, changes nothing.
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
}

impl FailureReport {
    /// A failure of a message, with the attempts that failed now.
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
        }
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
