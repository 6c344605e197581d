//! Heartbeats: what a worker holds is kept hidden from others for as long as it works on it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::crew::Stop;
use crate::core::error::describe;
use crate::core::one_of::OneOf;
use crate::queue::{Queue, Receipt};

/// The messages of one stage that a worker holds, waiting and at work.
pub(crate) struct Heartbeat {
    queue: Arc<dyn Queue>,
    visibility: Duration,
    held: Mutex<BTreeMap<Receipt, OneOf<Hold>>>,
}

/// One held message.
#[derive(Default)]
pub(crate) struct Hold {
    lost: AtomicBool,
    work: OnceLock<Stop>,
}

impl Hold {
    /// Whether the message is somebody else's by now.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Tells which work to stop when the message is lost.
    pub(crate) fn begin(&self, work: Stop) {
        let work = self.work.get_or_init(|| work);
        if self.is_lost() {
            work.stop();
        }
    }

    fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
        if let Some(work) = self.work.get() {
            work.stop();
        }
    }
}

impl Heartbeat {
    pub(crate) fn new(queue: Arc<dyn Queue>, visibility: Duration) -> Arc<Self> {
        Arc::new(Self {
            queue,
            visibility,
            held: Mutex::default(),
        })
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeMap<Receipt, OneOf<Hold>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds messages, by their receipts.
    pub(crate) fn hold<'a>(
        &self,
        receipts: impl ExactSizeIterator<Item = &'a Receipt>,
    ) -> Vec<OneOf<Hold>> {
        let holds: Vec<Hold> = std::iter::repeat_with(Hold::default)
            .take(receipts.len())
            .collect();
        let holds: Vec<OneOf<Hold>> = OneOf::each(holds).collect();
        let each = holds.iter().cloned();
        self.held().extend(receipts.cloned().zip(each));
        holds
    }

    pub(crate) fn let_go<'a>(&self, receipts: impl Iterator<Item = &'a Receipt>) {
        let mut held = self.held();
        for receipt in receipts {
            held.remove(receipt);
        }
    }

    /// Every receipt that is held.
    pub(crate) fn receipts(&self) -> Vec<Receipt> {
        self.held().keys().cloned().collect()
    }

    /// Extends what is held, at half the visibility timeout, until it is dropped.
    pub(crate) async fn beat(self: Arc<Self>) {
        let mut wait = self.visibility / 2;
        loop {
            tokio::time::sleep(wait).await;
            wait = self.visibility / 2;
            let receipts = self.receipts();
            if receipts.is_empty() {
                continue;
            }
            match self.queue.extend(receipts, self.visibility).await {
                Ok(lost) => {
                    for receipt in lost {
                        if let Some(hold) = self.held().remove(&receipt) {
                            tracing::warn!(?receipt, "a message was lost to another worker");
                            hold.lose();
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
