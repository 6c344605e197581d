//! Failures as they are kept for a person.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::clock::milliseconds;
use super::error::{Error, Result};
use super::printable::{into_printable, printable};

/// One attempt at an item, or at a message as a whole, that failed.
///
/// ```
/// use std::time::SystemTime;
/// use catchment::scratchpad::Attempt;
///
/// let attempt = Attempt::new(2, SystemTime::now(), "timed out").item(17).label("https://example.com/17");
/// assert_eq!((attempt.number, attempt.item), (2, Some(17)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Attempt {
    /// Which attempt at this item it was, or at the message if there is no item. 1 is the first.
    pub number: u32,
    /// When it failed, to the millisecond. In JSON, in milliseconds since 1970-01-01 UTC.
    #[serde(with = "milliseconds")]
    pub at: SystemTime,
    /// Which item of the array failed, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u64>,
    /// The item's label, if its stage has labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The error.
    pub error: String,
}

impl Attempt {
    /// An attempt that failed with `error`, not attributed to an item.
    pub fn new(number: u32, at: SystemTime, error: impl Into<String>) -> Self {
        Self {
            number,
            at,
            item: None,
            label: None,
            error: error.into(),
        }
    }

    /// Sets which item of the array failed.
    #[must_use]
    pub fn item(mut self, item: u64) -> Self {
        self.item = Some(item);
        self
    }

    /// Sets the item's label.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// The attempt, with its texts as they may be shown. Another program may have written them.
    pub(crate) fn printable(mut self) -> Self {
        self.label = self.label.map(into_printable);
        self.error = into_printable(self.error);
        self
    }
}

/// The id of one dead letter. A backend stores its text, and reads it by [`FromStr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeadLetterId(Uuid);

impl DeadLetterId {
    /// The failure of a submission: no queue holds a dead letter of this id.
    pub(crate) const UNQUEUED: Self = Self(Uuid::nil());

    /// A new random id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for DeadLetterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for DeadLetterId {
    type Err = Error;

    /// Reads the text of an id.
    ///
    /// # Errors
    /// [`Error::Decode`] if the text is not an id.
    fn from_str(text: &str) -> Result<Self> {
        let id = text.parse().map(Self);
        id.map_err(|source| Error::decode("the id of a dead letter", source))
    }
}

/// One delivery of a message, as it is on record once the function begins on it. A backend stores the
/// number, which is random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId(u64);

impl DeliveryId {
    /// A new random id.
    pub fn random() -> Self {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        Self(high ^ low)
    }

    /// The number to store.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl From<u64> for DeliveryId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

/// The fate of a message or of items after a failure. A backend that does not know a verdict treats
/// it as [`Retry`](Self::Retry).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Verdict {
    /// The message is delivered again.
    Retry,
    /// The items are left out of the result; the rest of the packet counts.
    Skip,
    /// The message is moved to the dead-letter queue under this id, and the run has failed.
    Dead(DeadLetterId),
}

/// A failure on record: a dead letter or a skipped item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Failure {
    /// The stage.
    pub stage: String,
    /// The message within the stage: `packet 3`, `group 1/0`.
    pub message: String,
    /// Which item of the array, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u64>,
    /// The item's label, if its stage has labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The last error. A failure that a run returns has its control characters as escapes, such as `\u{1b}` and `\n`.
    pub error: String,
    /// What happened to it.
    pub verdict: Verdict,
    /// Every failed attempt on record, oldest first.
    pub attempts: Vec<Attempt>,
}

impl Failure {
    /// About the bytes that it takes in an answer.
    #[cfg(feature = "http")]
    pub(crate) fn size(&self) -> usize {
        const FIELDS: usize = 100;
        let attempts = self.attempts.iter();
        let label = |label: &Option<String>| label.as_ref().map_or(0, String::len);
        let attempts: usize = attempts
            .map(|attempt| attempt.error.len() + label(&attempt.label) + FIELDS)
            .sum();
        let own = self.stage.len() + self.message.len() + self.error.len() + label(&self.label);
        own + attempts + FIELDS
    }

    /// A failure of a message, not attributed to an item and without attempts.
    pub fn new(
        stage: impl Into<String>,
        message: impl Into<String>,
        error: impl Into<String>,
        verdict: Verdict,
    ) -> Self {
        Self {
            stage: stage.into(),
            message: message.into(),
            item: None,
            label: None,
            error: error.into(),
            verdict,
            attempts: Vec::new(),
        }
    }

    /// The failure, with its texts as they may be shown. Another program may have written them.
    pub(crate) fn printable(mut self) -> Self {
        self.stage = into_printable(self.stage);
        self.message = into_printable(self.message);
        self.label = self.label.map(into_printable);
        self.error = into_printable(self.error);
        let attempts = self.attempts.into_iter();
        self.attempts = attempts.map(Attempt::printable).collect();
        self
    }

    /// Whether the item was left out and the run went on, rather than the message having become a dead letter.
    pub fn is_skipped(&self) -> bool {
        self.verdict == Verdict::Skip
    }
}

/// On one line, with control characters as escapes.
impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stage, message) = (printable(&self.stage), printable(&self.message));
        write!(formatter, "stage `{stage}`, {message}")?;
        if let Some(item) = self.item {
            write!(formatter, ", item {item}")?;
        }
        if let Some(label) = &self.label {
            write!(formatter, " ({})", printable(label))?;
        }
        write!(formatter, ": {}", printable(&self.error))?;
        match self.attempts.iter().map(|attempt| attempt.number).max() {
            None | Some(0 | 1) => Ok(()),
            Some(last) => write!(formatter, " (attempt {last})"),
        }
    }
}
