//! What went wrong, as it is kept for a person.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One attempt at a message that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// 1 is the first delivery.
    pub number: u32,
    /// When it failed, in milliseconds since 1970-01-01 UTC.
    pub at: u64,
    /// Which item of the array failed, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u64>,
    /// The error.
    pub error: String,
}

/// What becomes of a message or of items after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The message comes back.
    Retry,
    /// The items are left out of the result, the rest of the packet counts.
    Skip,
    /// The message goes to the dead-letter queue under this id, and the run has failed.
    Dead(Uuid),
}

/// A failure on record: a dead letter, or an item left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The stage.
    pub stage: String,
    /// The message within the stage: `packet 3`, `group 1/0`.
    pub message: String,
    /// Which item of the array, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u64>,
    /// The last error.
    pub error: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Every failed attempt on record, oldest first.
    pub attempts: Vec<Attempt>,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "stage `{}`, {}", self.stage, self.message)?;
        if let Some(item) = self.item {
            write!(formatter, ", item {item}")?;
        }
        write!(formatter, ": {}", self.error)?;
        match self.attempts.iter().map(|attempt| attempt.number).max() {
            None | Some(0 | 1) => Ok(()),
            Some(last) => write!(formatter, " (attempt {last})"),
        }
    }
}
