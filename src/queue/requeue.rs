//! Messages that were received and not begun, put back on their queue without counting an attempt.

use super::{Delivery, Outgoing, Queue, Receipt};
use crate::core::error::{Result, describe};
use crate::core::retry::{Policy, retry};

/// How often a call is tried. Requeueing happens when there is little time left; the visibility
/// timeout brings back whatever could not be requeued.
pub(crate) const ATTEMPTS: u32 = 3;

/// Puts messages back on their queue as fresh copies, then acknowledges the originals. A copy has
/// not been delivered yet, so this delivery counts as no attempt, however often a fleet restarts.
///
/// A crash in between, or an error, leaves two copies of a message, never none.
pub(crate) async fn requeue(queue: &dyn Queue, deliveries: &[Delivery]) {
    if deliveries.is_empty() {
        return;
    }
    let receipts = || -> Vec<Receipt> {
        let receipts = deliveries.iter().map(|delivery| delivery.receipt.clone());
        receipts.collect()
    };
    let requeued = async {
        send_copies(queue, deliveries).await?;
        let acknowledge = || queue.acknowledge(receipts());
        retry("acknowledge", Policy::times(ATTEMPTS), acknowledge).await
    };
    if let Err(error) = requeued.await {
        tracing::warn!(?queue, error = %describe(&error), "messages could not be requeued; they come back after their visibility timeout");
    }
}

/// The first half of [`requeue`], for a caller that leaves it to others to acknowledge the
/// originals.
///
/// # Errors
/// The queue's, after a few attempts. Some of the copies may be on the queue then.
pub(crate) async fn send_copies(queue: &dyn Queue, deliveries: &[Delivery]) -> Result<()> {
    let copies = || deliveries.iter().map(Outgoing::from).collect();
    retry("send", Policy::times(ATTEMPTS), || queue.send(copies())).await
}
