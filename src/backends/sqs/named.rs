//! One queue of the service, a stage's own or its dead-letter queue.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::retry::ProvideErrorKind;

use super::attributes::{self, MAX_ATTRIBUTES};
use super::batch::{Entry, Operation, Refusal};
use super::policy::Policy;
use super::{SERVICE, Service, body, whole_seconds};
use crate::backends::aws;
use crate::core::error::{Error, Oversized, Result};
use crate::queue::{Outgoing, Receipt};

/// One queue of the service.
pub(super) struct Named {
    pub(super) service: Arc<Service>,
    pub(super) name: String,
    pub(super) url: String,
    /// In seconds.
    pub(super) visibility: i32,
    /// Whether the last poll brought as much as it could have.
    pub(super) is_busy: AtomicBool,
    pub(super) policy: Policy,
}

impl Named {
    pub(super) async fn send(&self, messages: &[Outgoing]) -> Result<()> {
        let limit = self.service.max_payload;
        let mut entries = Vec::with_capacity(messages.len());
        for message in messages {
            let entry = Entry {
                text: body::to_text(&message.body),
                attributes: attributes::encode(&message.attributes, MAX_ATTRIBUTES),
                group: self.service.group(message),
            };
            if entry.size() > limit {
                return Err(too_large(&self.name, entry.size(), limit));
            }
            entries.push(entry);
        }
        let refusals = self.in_batches(Operation::Send, &entries).await?;
        match refusals.into_iter().next() {
            None => Ok(()),
            Some((_, refusal)) => Err(self.refused(Operation::Send, refusal)),
        }
    }

    /// The reason takes one of the attributes the service allows and what room is left. A message
    /// that only fits as it was sent goes without its reason.
    pub(super) async fn send_with_reason(&self, message: &Outgoing, reason: &str) -> Result<()> {
        let limit = self.service.max_payload;
        let mut entry = Entry {
            text: body::to_text(&message.body),
            attributes: attributes::encode(&message.attributes, MAX_ATTRIBUTES - 1),
            group: self.service.group(message),
        };
        if entry.size() > limit {
            entry.attributes = attributes::encode(&message.attributes, MAX_ATTRIBUTES);
        }
        let room = limit.saturating_sub(entry.size());
        let reason = match entry.attributes.len() < MAX_ATTRIBUTES {
            true => body::reason(reason, room),
            false => None,
        };
        let values = attributes::values(entry.attributes);
        let values =
            values.map_err(|error| aws::malformed(SERVICE, self.describe("SendMessage"), error))?;
        let mut request = self
            .service
            .client
            .send_message()
            .queue_url(&self.url)
            .message_body(entry.text)
            .set_message_group_id(entry.group)
            .set_message_attributes(values);
        if let Some(reason) = reason {
            request = request.message_attributes(body::REASON, reason);
        }
        let sent = request.send().await;
        sent.map(drop)
            .map_err(|error| self.failed("SendMessage", error))
    }

    /// Removes messages. Those that another receiver has by now stay.
    pub(super) async fn delete(&self, receipts: &[Receipt]) -> Result<()> {
        let receipts = distinct(receipts)?;
        for (_, refusal) in self.in_batches(Operation::Delete, &receipts).await? {
            if !refusal.is_stale() {
                return Err(self.refused(Operation::Delete, refusal));
            }
        }
        Ok(())
    }

    /// Hides messages for so long from now, and returns the receipts that are stale.
    pub(super) async fn hide(&self, receipts: Vec<Receipt>, by: Duration) -> Result<Vec<Receipt>> {
        let texts = distinct(&receipts)?;
        let hide = Operation::Hide(whole_seconds(by));
        let refusals = self.in_batches(hide, &texts).await?;
        let mut stale = Vec::new();
        for (place, refusal) in refusals {
            match texts.get(place) {
                // It stays hidden for as long as it was, and is stale after that.
                Some(_) if is_beyond_the_longest(&refusal) => {
                    tracing::warn!(queue = %self.name, "a message has been held for almost 12 hours, and cannot be held for longer");
                }
                Some(entry) if refusal.is_stale() => stale.push(Receipt::new(entry.text.as_str())),
                _ => {
                    return Err(self.refused(hide, refusal));
                }
            }
        }
        Ok(stale)
    }

    /// Ready, in flight and delayed.
    pub(super) async fn counts(&self) -> Result<[u64; 3]> {
        use aws_sdk_sqs::types::QueueAttributeName as Name;
        let names = [
            Name::ApproximateNumberOfMessages,
            Name::ApproximateNumberOfMessagesNotVisible,
            Name::ApproximateNumberOfMessagesDelayed,
        ];
        let asked = self.service.client.get_queue_attributes();
        let asked = asked
            .queue_url(&self.url)
            .set_attribute_names(Some(names.to_vec()));
        let found = asked.send().await;
        let found = found.map_err(|error| self.failed("GetQueueAttributes", error))?;
        let attributes = found.attributes.unwrap_or_default();
        Ok(names.map(|name| {
            let value = attributes.get(&name);
            value.and_then(|value| value.parse().ok()).unwrap_or(0)
        }))
    }

    /// What the refusal of an entry means for a user.
    fn refused(&self, operation: Operation, refusal: Refusal) -> Error {
        if Service::is_missing(Some(&refusal.code)) {
            return self.service.missing(&self.name);
        }
        let Refusal { code, message, .. } = refusal;
        let operation = self.describe(operation.name());
        Error::refused(SERVICE, operation, format!("{code}: {message}"))
    }

    /// An operation on this queue, for error messages.
    pub(super) fn describe(&self, operation: &str) -> String {
        format!("{operation} on queue `{}`", self.name)
    }

    pub(super) fn failed<E>(&self, operation: &str, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + ProvideErrorKind + std::error::Error + Send + Sync + 'static,
    {
        self.service.failed(operation, &self.name, error)
    }
}

/// Whether a message would be hidden for more than 12 hours in all. The code says no more than that some parameter is wrong.
fn is_beyond_the_longest(refusal: &Refusal) -> bool {
    refusal
        .message
        .contains("Total VisibilityTimeout for the message is beyond the limit")
}

fn too_large(queue: &str, size: usize, limit: usize) -> Error {
    let what = format!("a message for SQS queue `{queue}`");
    Error::too_large(Oversized::Message, what, size, limit)
}

/// The service refuses a request that has one message twice.
fn distinct(receipts: &[Receipt]) -> Result<Vec<Entry>> {
    let mut seen = HashSet::new();
    let mut texts = Vec::with_capacity(receipts.len());
    for receipt in receipts {
        let Some(text) = receipt.as_str() else {
            return Err(aws::malformed(
                SERVICE,
                "reading a receipt",
                format!("receipt {receipt} does not belong to this service"),
            ));
        };
        if seen.insert(text) {
            texts.push(Entry::from(text.to_owned()));
        }
    }
    Ok(texts)
}
