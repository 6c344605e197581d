//! Requests of up to ten messages: split to the service's limits, several under way at once, and
//! repeated for just the messages that failed.

use std::time::Duration;

use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry,
    DeleteMessageBatchRequestEntry, SendMessageBatchRequestEntry,
};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::attributes::{self, Encoded};
use super::{Named, SERVICE};
use crate::backends::aws;
use crate::core::backoff::Backoff;
use crate::core::error::{Error, Result};
use crate::core::retry::Policy;

/// Messages per request.
pub(super) const MOST_ENTRIES: usize = 10;
/// Requests under way at once.
const SIDE_BY_SIDE: usize = 8;
/// Tries of a message that the service could not take at the moment.
const ROUNDS: u32 = 5;
const RETRY: Policy = Policy::times(ROUNDS).with_backoff(Backoff::exponential(
    Duration::from_millis(100),
    Duration::from_secs(5),
));

/// What is asked for each message of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    /// Bodies are sent.
    Send,
    /// The messages of receipts are removed.
    Delete,
    /// They are hidden for so many seconds from now.
    Hide(i32),
}

impl Operation {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Send => "SendMessageBatch",
            Self::Delete => "DeleteMessageBatch",
            Self::Hide(_) => "ChangeMessageVisibilityBatch",
        }
    }
}

/// What a request says of one message: its body with its attributes and its message group, or its receipt.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) text: String,
    pub(super) attributes: Encoded,
    pub(super) group: Option<String>,
}

impl Entry {
    /// In bytes, as the service counts them.
    pub(super) fn size(&self) -> usize {
        self.text.len() + attributes::size(&self.attributes)
    }
}

impl From<String> for Entry {
    fn from(text: String) -> Self {
        Self {
            text,
            attributes: Encoded::new(),
            group: None,
        }
    }
}

/// Why a message of a batch failed.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) message: String,
    sender_fault: bool,
}

impl Refusal {
    /// Whether it only says that another receiver has the message, or that it is gone.
    pub(super) fn is_stale(&self) -> bool {
        matches!(
            aws::bare(&self.code),
            "ReceiptHandleIsInvalid"
                | "MessageNotInflight"
                // A receipt that has expired, or a time beyond the 12 hours since it was received.
                | "InvalidParameterValue"
                | "InvalidParameterValueException"
        )
    }

    /// Whether the same entry would be refused for ever. The code decides. Who is at fault decides for unknown codes only,
    /// since services that speak SQS do not agree on that.
    fn is_lasting(&self) -> bool {
        if aws::is_retryable_code(&self.code) {
            return false;
        }
        self.is_stale() || is_lasting(aws::bare(&self.code)) || self.sender_fault
    }
}

/// Codes that an entry can have and that say that repeating it is of no use.
fn is_lasting(code: &str) -> bool {
    matches!(
        code,
        // What the entry says.
        "InvalidMessageContents"
            | "InvalidAttributeValue"
            | "InvalidParameterCombination"
            | "InvalidBatchEntryId"
            | "MissingParameter"
            | "MissingParameterException"
            | "BatchRequestTooLong"
            // Where it is sent.
            | "InvalidAddress"
            | "InvalidSecurity"
            | "UnsupportedOperation"
            | "QueueDoesNotExist"
            | "NonExistentQueue"
            // What the sender may do, or the queue's key.
            | "AccessDenied"
            | "AccessDeniedException"
            | "KmsAccessDenied"
            | "KmsDisabled"
            | "DisabledException"
            | "KmsInvalidKeyUsage"
            | "InvalidKeyUsageException"
            | "KmsNotFound"
            | "NotFoundException"
            | "KmsOptInRequired"
            | "OptInRequired"
    )
}

/// The messages of one request: their places in the caller's list.
type Places = Vec<usize>;

/// The ids that the service took, and the entries that it did not.
type Answer = (Vec<String>, Vec<BatchResultErrorEntry>);

impl Named {
    /// One request. The id of an entry is its place.
    async fn request(&self, operation: Operation, entries: Vec<Entry>) -> Result<Answer> {
        let entries = (0..).map(|id: usize| id.to_string()).zip(entries);
        let client = &self.service.client;
        let malformed = |error| self.malformed(operation, error);
        match operation {
            Operation::Send => {
                let entries = entries.map(|(id, entry)| {
                    let built = SendMessageBatchRequestEntry::builder();
                    let built = built.id(id).message_body(entry.text);
                    built
                        .set_message_group_id(entry.group)
                        .set_message_attributes(attributes::values(entry.attributes)?)
                        .build()
                });
                let entries = entries.collect::<Result<_, _>>().map_err(malformed)?;
                let request = client.send_message_batch().queue_url(&self.url);
                let answer = request.set_entries(Some(entries)).send().await;
                let answer = answer.map_err(|error| self.failed(operation.name(), error))?;
                let done = answer.successful.into_iter().map(|entry| entry.id);
                Ok((done.collect(), answer.failed))
            }
            Operation::Delete => {
                let entries = entries.map(|(id, Entry { text, .. })| {
                    let entry = DeleteMessageBatchRequestEntry::builder();
                    entry.id(id).receipt_handle(text).build()
                });
                let entries = entries.collect::<Result<_, _>>().map_err(malformed)?;
                let request = client.delete_message_batch().queue_url(&self.url);
                let answer = request.set_entries(Some(entries)).send().await;
                let answer = answer.map_err(|error| self.failed(operation.name(), error))?;
                let done = answer.successful.into_iter().map(|entry| entry.id);
                Ok((done.collect(), answer.failed))
            }
            Operation::Hide(seconds) => {
                let entries = entries.map(|(id, Entry { text, .. })| {
                    let entry = ChangeMessageVisibilityBatchRequestEntry::builder();
                    let entry = entry.id(id).receipt_handle(text);
                    entry.visibility_timeout(seconds).build()
                });
                let entries = entries.collect::<Result<_, _>>().map_err(malformed)?;
                let request = client.change_message_visibility_batch();
                let request = request.queue_url(&self.url).set_entries(Some(entries));
                let answer = request.send().await;
                let answer = answer.map_err(|error| self.failed(operation.name(), error))?;
                let done = answer.successful.into_iter().map(|entry| entry.id);
                Ok((done.collect(), answer.failed))
            }
        }
    }

    fn malformed(&self, operation: Operation, error: aws_sdk_sqs::error::BuildError) -> Error {
        aws::malformed(SERVICE, self.describe(operation.name()), error)
    }

    /// Makes requests until each message is taken or refused for good, and returns those that were
    /// refused with their places.
    ///
    /// # Errors
    /// Where messages are still neither taken nor refused after several rounds.
    pub(super) async fn in_batches(
        &self,
        operation: Operation,
        entries: &[Entry],
    ) -> Result<Vec<(usize, Refusal)>> {
        let mut refused = Vec::new();
        let mut pending: Places = (0..entries.len()).collect();
        let mut delays = RETRY.delays();
        loop {
            let is_last = delays.is_last();
            let requests: Vec<BoxFuture<'_, _>> = split(entries, pending, self.service.max_payload)
                .into_iter()
                .map(|places| self.attempt(operation, entries, places, is_last).boxed())
                .collect();
            let answers: Vec<(Places, Vec<(usize, Refusal)>)> = futures::stream::iter(requests)
                .buffer_unordered(SIDE_BY_SIDE)
                .try_collect()
                .await?;
            let (mut last, mut again) = (None, Places::new());
            for (unanswered, failed) in answers {
                again.extend(unanswered);
                for (place, refusal) in failed {
                    if refusal.is_lasting() {
                        refused.push((place, refusal));
                    } else {
                        again.push(place);
                        last = Some(refusal);
                    }
                }
            }
            if again.is_empty() {
                return Ok(refused);
            }
            if is_last {
                let left = again.len();
                let reason = last.map_or_else(
                    || "the answer did not mention them".to_owned(),
                    |refusal| format!("{}: {}", refusal.code, refusal.message),
                );
                return Err(Error::Backend {
                    service: SERVICE,
                    operation: self.describe(operation.name()),
                    retryable: true,
                    source: format!("{left} messages failed {ROUNDS} times: {reason}").into(),
                });
            }
            again.sort_unstable();
            pending = again;
            delays.wait().await;
        }
    }

    /// One request; the places that it leaves unanswered, and those that failed. An error that may
    /// pass, before the last round, leaves all of them unanswered, so that they are tried again
    /// without the messages of other requests.
    async fn attempt(
        &self,
        operation: Operation,
        entries: &[Entry],
        places: Places,
        is_last: bool,
    ) -> Result<(Places, Vec<(usize, Refusal)>)> {
        let own = places
            .iter()
            .filter_map(|place| entries.get(*place).cloned());
        match self.request(operation, own.collect()).await {
            Ok((done, failed)) => Ok(sort_out(places, &done, failed)),
            Err(error) if error.is_retryable() && !is_last => {
                tracing::debug!(?operation, queue = self.name, %error, "will try again");
                Ok((places, Vec::new()))
            }
            Err(error) => Err(error),
        }
    }
}

/// As few requests as the limits allow, in order. A single entry is at most as large as a request.
fn split(entries: &[Entry], places: Places, limit: usize) -> Vec<Places> {
    let mut requests: Vec<Places> = Vec::new();
    let mut bytes = 0;
    for place in places {
        let size = entries.get(place).map_or(0, Entry::size);
        bytes += size;
        match requests.last_mut() {
            Some(request) if request.len() < MOST_ENTRIES && bytes <= limit => request.push(place),
            _ => {
                requests.push(vec![place]);
                bytes = size;
            }
        }
    }
    requests
}

/// The places that the answer does not mention, and those that failed.
fn sort_out(
    places: Places,
    done: &[String],
    failed: Vec<BatchResultErrorEntry>,
) -> (Places, Vec<(usize, Refusal)>) {
    let mut unanswered: Vec<Option<usize>> = places.into_iter().map(Some).collect();
    let mut take = |id: &str| {
        let id: usize = id.parse().ok()?;
        unanswered.get_mut(id)?.take()
    };
    for id in done {
        take(id);
    }
    let failed = failed.into_iter().filter_map(|entry| {
        let refusal = Refusal {
            message: entry.message().unwrap_or("no reason was given").to_owned(),
            sender_fault: entry.sender_fault,
            code: entry.code,
        };
        Some((take(&entry.id)?, refusal))
    });
    let failed = failed.collect();
    (unanswered.into_iter().flatten().collect(), failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_keep_to_the_limits() {
        let entries: Vec<Entry> = [3, 3, 5, 1, 9, 10, 1]
            .map(|size| Entry::from("x".repeat(size)))
            .into();
        let requests = split(&entries, (0..7).collect(), 10);
        assert_eq!(
            requests,
            [vec![0, 1], vec![2, 3], vec![4], vec![5], vec![6]]
        );
        let small = vec![Entry::from(String::new()); 25];
        let requests = split(&small, (0..25).collect(), 10);
        assert_eq!(
            requests.iter().map(Vec::len).collect::<Vec<_>>(),
            [10, 10, 5]
        );
    }

    #[test]
    fn what_an_answer_leaves_out_is_tried_again() {
        let failed = BatchResultErrorEntry::builder()
            .id("2")
            .code("InternalError")
            .sender_fault(false);
        let failed = vec![failed.build().unwrap()];
        let (unanswered, failed) = sort_out(vec![10, 11, 12], &["0".into(), "7".into()], failed);
        assert_eq!(unanswered, [11]);
        assert_eq!(failed.len(), 1);
        assert_eq!(
            (failed[0].0, failed[0].1.code.as_str()),
            (12, "InternalError")
        );
    }
}
