//! The loops themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::queue::Queue;
use super::table::Table;
use crate::wire::MOST_WAITING;

/// What is to be done, and how far it is.
pub(super) struct Work {
    pub(super) queue: Arc<Queue>,
    pub(super) table: Arc<Table>,
    pub(super) messages: u64,
    pub(super) arrivals: u64,
    pub(super) counts: BTreeMap<String, u64>,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) updated: AtomicU64,
}

/// How many of `whole` fall to the part `place` of `parts`: evenly, and all of them in the end.
fn share(whole: u64, place: u64, parts: u64) -> u64 {
    let until = |place: u64| whole * place / parts.max(1);
    until(place + 1) - until(place)
}

impl Work {
    fn count(&self, kind: &str) -> u64 {
        self.counts.get(kind).copied().unwrap_or(0)
    }

    pub(super) async fn produce(self: Arc<Self>) -> Result<()> {
        let batches = self.count("SQS SendMessageBatch");
        loop {
            let place = self.sent.fetch_add(1, Ordering::Relaxed);
            if place >= batches {
                return Ok(());
            }
            let messages = share(self.messages, place, batches);
            let before = self.messages * place / batches;
            while before >= self.received.load(Ordering::Relaxed) + MOST_WAITING {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            self.queue.send(messages).await?;
        }
    }

    /// Returns when it had done its part. A poll that waits in vain after that is not cut off: the service might answer it
    /// with a message of the next run.
    pub(super) async fn consume(self: Arc<Self>) -> Result<Instant> {
        let receives = self.count("SQS ReceiveMessage").max(1);
        let most = self.messages.div_ceil(receives).clamp(1, 10) as i32;
        let mut held: Vec<String> = Vec::new();
        let mut end = Instant::now();
        while self.received.load(Ordering::Relaxed) < self.messages {
            let receipts = self.queue.receive(most).await?;
            let new = receipts.len() as u64;
            let before = self.received.fetch_add(new, Ordering::Relaxed);
            // What falls to these messages.
            let due = |kind| {
                let until = |messages: u64| self.count(kind) * messages / self.messages;
                until(before + new) - until(before)
            };
            if due("SQS ChangeMessageVisibilityBatch") > 0 && new > 0 {
                self.queue.hide(&receipts).await?;
            }
            for _ in 0..due("DynamoDB UpdateItem") {
                let place = self.updated.fetch_add(1, Ordering::Relaxed);
                let writes = self.count("DynamoDB UpdateItem");
                let slots = share(self.arrivals, place, writes);
                let first = self.arrivals * place / writes;
                self.table.arrive(first, slots).await?;
            }
            for _ in 0..due("DynamoDB PutItem") {
                self.table.put().await?;
            }
            for place in 0..due("DynamoDB Query") {
                self.table.query(before + place).await?;
            }
            for _ in 0..due("DynamoDB GetItem") {
                self.table.get().await?;
            }
            held.extend(receipts);
            let deletes = due("SQS DeleteMessageBatch") as usize;
            if deletes > 0 {
                self.delete(&mut held, deletes).await?;
            }
            if new > 0 {
                end = Instant::now();
            }
        }
        if !held.is_empty() {
            let deletes = held.len().div_ceil(10);
            self.delete(&mut held, deletes).await?;
            end = Instant::now();
        }
        Ok(end)
    }

    /// What is held, in so many requests.
    async fn delete(&self, held: &mut Vec<String>, requests: usize) -> Result<()> {
        let together = held.len().div_ceil(requests.max(1)).clamp(1, 10);
        for receipts in std::mem::take(held).chunks(together) {
            self.queue.delete(receipts).await?;
        }
        Ok(())
    }
}
