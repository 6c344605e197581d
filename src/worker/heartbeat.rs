//! Heartbeats: leased messages stay hidden from other workers for as long as their lease lasts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use super::lease::Lease;
use crate::core::error::describe;
use crate::core::one_of::OneOf;
use crate::queue::{Queue, Receipt};

/// The leases a worker has on one stage's messages, waiting and at work.
pub(super) struct Heartbeat {
    queue: Arc<dyn Queue>,
    visibility: Duration,
    leases: Mutex<BTreeMap<Receipt, OneOf<Lease>>>,
}

impl Heartbeat {
    pub(super) fn new(queue: Arc<dyn Queue>, visibility: Duration) -> Arc<Self> {
        Arc::new(Self {
            queue,
            visibility,
            leases: Mutex::default(),
        })
    }

    fn leases(&self) -> std::sync::MutexGuard<'_, BTreeMap<Receipt, OneOf<Lease>>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leases messages that were received, by their receipts.
    pub(super) fn lease<'a>(
        &self,
        receipts: impl ExactSizeIterator<Item = &'a Receipt>,
    ) -> Vec<OneOf<Lease>> {
        let leases: Vec<Lease> = std::iter::repeat_with(Lease::default)
            .take(receipts.len())
            .collect();
        let leases: Vec<OneOf<Lease>> = OneOf::each(leases).collect();
        let each = leases.iter().cloned();
        self.leases().extend(receipts.cloned().zip(each));
        leases
    }

    /// Ends leases: these messages are no longer extended.
    pub(super) fn end<'a>(&self, receipts: impl Iterator<Item = &'a Receipt>) {
        let mut leases = self.leases();
        for receipt in receipts {
            leases.remove(receipt);
        }
    }

    /// The receipts of all leased messages.
    pub(super) fn receipts(&self) -> Vec<Receipt> {
        self.leases().keys().cloned().collect()
    }

    /// Extends every lease at half the visibility timeout, until it is dropped. A call that hangs is given up while there
    /// is time for another, or it would be the last one.
    pub(super) async fn beat(self: Arc<Self>) {
        let mut wait = self.visibility / 2;
        loop {
            tokio::time::sleep(wait).await;
            wait = self.visibility / 2;
            let receipts = self.receipts();
            if receipts.is_empty() {
                continue;
            }
            let limit = self.visibility / 4;
            let extend = self.queue.extend(receipts, self.visibility);
            let Ok(extended) = timeout(limit, extend).await else {
                tracing::warn!(?limit, "a heartbeat did not end in time, and is repeated");
                wait = Duration::ZERO;
                continue;
            };
            match extended {
                Ok(lost) => {
                    for receipt in lost {
                        if let Some(lease) = self.leases().remove(&receipt) {
                            tracing::warn!(?receipt, "a message was lost to another worker");
                            lease.lose();
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %describe(&error), "a heartbeat failed");
                    wait = self.visibility / 8;
                }
            }
        }
    }
}
