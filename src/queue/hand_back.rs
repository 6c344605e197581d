//! Messages that were received and not begun, given back to their queue at once.

use std::time::Duration;

use super::{Delivery, Queue, Receipt};
use crate::core::error::{Result, describe};
use crate::core::retry::{Policy, retry};

/// How often a call is tried. Messages are handed back when there is little time left; the visibility
/// timeout brings back whatever could not be.
pub(crate) const ATTEMPTS: u32 = 3;

/// Makes messages visible to other receivers at once. None of them has begun, so this costs no attempt,
/// however often a fleet restarts: attempts are counted by what began, not by what was received.
pub(crate) async fn hand_back(queue: &dyn Queue, deliveries: &[Delivery]) {
    let receipts = deliveries.iter().map(|delivery| delivery.receipt.clone());
    if let Err(error) = release_all(queue, receipts.collect()).await {
        tracing::warn!(?queue, error = %describe(&error), "messages could not be handed back; they come back after their visibility timeout");
    }
}

/// Makes messages visible at once, in as few requests as the service allows.
///
/// # Errors
/// The queue's, after a few attempts. Some of the messages may be visible then.
pub(crate) async fn release_all(queue: &dyn Queue, receipts: Vec<Receipt>) -> Result<()> {
    if receipts.is_empty() {
        return Ok(());
    }
    retry("release", Policy::times(ATTEMPTS), || {
        queue.release(receipts.clone(), Duration::ZERO)
    })
    .await
}
