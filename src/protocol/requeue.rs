//! Messages that are not acknowledged, given back to their queue in one of three ways.

use std::time::Duration;

use crate::core::error::Result;
use crate::core::retry::{Policy, retry};
use crate::queue::{Delivery, Outgoing, Queue};

/// How often handing back is tried where there is not much time: the visibility timeout does it otherwise.
pub(crate) const ATTEMPTS: u32 = 3;

/// How to part with a message that failed.
pub(crate) enum Parting {
    /// It comes back after this long.
    Release(Duration),
    /// It is a dead letter, for this reason.
    Bury(String),
}

/// Parts with a message that failed, and keeps at it for as long as the error may pass.
pub(crate) async fn part(queue: &dyn Queue, delivery: &Delivery, parting: &Parting) -> Result<()> {
    match parting {
        Parting::Release(after) => {
            let receipt = &delivery.receipt;
            retry("release", Policy::FOREVER, || {
                queue.release(receipt.clone(), *after)
            })
            .await
        }
        Parting::Bury(reason) => {
            retry("bury", Policy::FOREVER, || {
                queue.bury(delivery.clone(), reason)
            })
            .await
        }
    }
}

/// Sends messages that were not begun once more: a fresh copy has not been delivered yet, so that nothing counts as an
/// attempt. The originals are to be acknowledged then. A crash in between leaves two of a message, which is nothing new.
pub(crate) async fn copies(queue: &dyn Queue, messages: Vec<Outgoing>) -> Result<()> {
    retry("send", Policy::times(ATTEMPTS), || {
        queue.send(messages.clone())
    })
    .await
}
