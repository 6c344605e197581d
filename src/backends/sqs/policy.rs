//! The queue's own redrive policy: after how many receives the service moves a message away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use serde_json::Value;

use super::Named;
use super::limits::MOST_RECEIVES;
use crate::core::error::{Result, describe};

/// The number of receives in a queue's policy, as far as it is known. A queue that others provision, or an earlier version, may
/// have another one than `provision` sets.
#[derive(Debug, Default)]
pub(super) struct Policy {
    /// 0 until it is known.
    most: AtomicU32,
    is_asked: AtomicBool,
}

impl Policy {
    /// The number of the queue's policy; until it is known, that which `provision` sets.
    pub(super) fn most_receives(&self) -> u32 {
        match self.most.load(Ordering::Relaxed) {
            0 => MOST_RECEIVES,
            most => most,
        }
    }
}

impl Named {
    /// Reads the policy in the background once a message is received for the second time: a queue on which nothing goes wrong
    /// costs no request for this.
    pub(super) fn learn_policy(self: &Arc<Self>, messages: &[Message]) {
        let is_repeated = messages.iter().any(|message| {
            let counts = message.attributes.as_ref();
            let count =
                counts.and_then(|it| it.get(&MessageSystemAttributeName::ApproximateReceiveCount));
            count.and_then(|count| count.parse().ok()).unwrap_or(1_u32) > 1
        });
        if !is_repeated || self.policy.is_asked.swap(true, Ordering::Relaxed) {
            return;
        }
        let queue = Arc::clone(self);
        tokio::spawn(async move {
            match queue.most_receives().await {
                Ok(most) => queue.policy.most.store(most, Ordering::Relaxed),
                Err(error) if error.is_retryable() => {
                    queue.policy.is_asked.store(false, Ordering::Relaxed);
                }
                Err(error) => tracing::warn!(
                    queue = queue.name,
                    error = %describe(&error),
                    "the queue's redrive policy cannot be read; it is taken to allow {MOST_RECEIVES} receives, as `provision` sets it"
                ),
            }
        });
    }

    /// Asks the service. A queue without a policy moves no message away.
    async fn most_receives(&self) -> Result<u32> {
        let asked = self.service.client.get_queue_attributes();
        let asked = asked
            .queue_url(&self.url)
            .attribute_names(QueueAttributeName::RedrivePolicy);
        let found = asked.send().await;
        let found = found.map_err(|error| self.failed("GetQueueAttributes", error))?;
        let attributes = found.attributes.unwrap_or_default();
        let policy = attributes.get(&QueueAttributeName::RedrivePolicy);
        Ok(policy.and_then(|text| count(text)).unwrap_or(u32::MAX))
    }
}

/// The receives in a policy, which is JSON whose numbers may be text.
fn count(policy: &str) -> Option<u32> {
    let policy: Value = serde_json::from_str(policy).ok()?;
    let count = policy.get("maxReceiveCount")?;
    let number = count.as_u64().and_then(|count| u32::try_from(count).ok());
    number.or_else(|| count.as_str()?.parse().ok())
}
