//! What becomes of a message, and the calls on a queue for one that failed.

use std::time::Duration;

use crate::core::error::Result;
use crate::core::retry::{Policy, retry};
use crate::queue::{Delivery, Queue};

/// What is to be done with a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Acknowledge it: everything it causes is durable.
    Ack,
    /// It failed and has attempts left: it comes back after this delay.
    Nack(Duration),
    /// It was not begun: it is another's at once, and costs no attempt.
    HandBack,
    /// It is a dead letter, for this reason.
    Bury(String),
}

/// Negatively acknowledges a message, trying for as long as the error is retryable.
pub(crate) async fn nack(queue: &dyn Queue, delivery: &Delivery, delay: Duration) -> Result<()> {
    let receipt = &delivery.receipt;
    retry("release", Policy::FOREVER, || {
        queue.release(vec![receipt.clone()], delay)
    })
    .await
}

/// Moves a message to the dead-letter queue, trying for as long as the error is retryable.
pub(crate) async fn bury(queue: &dyn Queue, delivery: &Delivery, reason: &str) -> Result<()> {
    retry("bury", Policy::FOREVER, || {
        queue.bury(delivery.clone(), reason)
    })
    .await
}
