//! Queues in memory, as far away and with the same limits as Amazon SQS.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use catchment::Result;
use catchment::backends::memory::MemoryQueues;
use catchment::queue::{
    BuriedMessage, Cursor, Delivery, Depth, Outgoing, Page, Queue, QueueOptions, Queues, Receipt,
};

use crate::service::{Service, Wire};

/// Messages and bytes of a request.
const MOST_MESSAGES: usize = 10;
const MOST_BYTES: usize = 1024 * 1024;
/// Requests that the library's SQS backend has under way at once for one call.
const SIDE_BY_SIDE: usize = 8;

#[derive(Debug)]
pub(crate) struct FarQueues {
    memory: MemoryQueues,
    wire: Wire,
}

impl FarQueues {
    pub(crate) fn new(wire: Wire) -> Self {
        let memory = MemoryQueues::new().max_body(MOST_BYTES);
        Self { memory, wire }
    }
}

#[async_trait]
impl Queues for FarQueues {
    async fn open(&self, name: &str, options: &QueueOptions) -> Result<Arc<dyn Queue>> {
        let open = self.memory.open(name, options);
        Ok(Arc::new(FarQueue {
            memory: self.wire.request(Service::Sqs, "GetQueueUrl", open).await?,
            wire: self.wire.clone(),
            is_busy: AtomicBool::new(false),
        }))
    }
}

#[derive(Debug)]
struct FarQueue {
    memory: Arc<dyn Queue>,
    wire: Wire,
    /// Whether the last poll was full.
    is_busy: AtomicBool,
}

impl FarQueue {
    async fn request<T>(&self, kind: &'static str, effect: impl Future<Output = T>) -> T {
        self.wire.request(Service::Sqs, kind, effect).await
    }
}

/// As few requests as the limits allow.
fn split(messages: Vec<Outgoing>) -> Vec<Vec<Outgoing>> {
    let mut requests: Vec<Vec<Outgoing>> = Vec::new();
    let mut bytes = 0;
    for message in messages {
        bytes += message.size();
        match requests.last_mut() {
            Some(request) if request.len() < MOST_MESSAGES && bytes <= MOST_BYTES => {
                request.push(message);
            }
            _ => {
                bytes = message.size();
                requests.push(vec![message]);
            }
        }
    }
    requests
}

#[async_trait]
impl Queue for FarQueue {
    async fn send(&self, messages: Vec<Outgoing>) -> Result<()> {
        let requests = split(messages).into_iter();
        let requests =
            requests.map(|part| self.request("SendMessageBatch", self.memory.send(part)));
        Wire::side_by_side(SIDE_BY_SIDE, requests).await.map(drop)
    }

    /// As the library's backend: a poll that was likely to wait hides what it brings in a second request.
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let max = max.min(MOST_MESSAGES);
        let poll = self.memory.receive(max, wait);
        let received = self.request("ReceiveMessage", poll).await?;
        let is_full = received.len() >= max;
        if !self.is_busy.swap(is_full, Ordering::Relaxed) && !received.is_empty() {
            self.request("ChangeMessageVisibilityBatch", async {}).await;
        }
        Ok(received)
    }

    async fn acknowledge(&self, receipts: Vec<Receipt>) -> Result<()> {
        let requests = receipts.chunks(MOST_MESSAGES).map(|part| {
            let acknowledge = self.memory.acknowledge(part.to_vec());
            self.request("DeleteMessageBatch", acknowledge)
        });
        let requests: Vec<_> = requests.collect();
        Wire::side_by_side(SIDE_BY_SIDE, requests).await.map(drop)
    }

    async fn release(&self, receipts: Vec<Receipt>, after: Duration) -> Result<()> {
        let requests = receipts.chunks(MOST_MESSAGES).map(|part| {
            let release = self.memory.release(part.to_vec(), after);
            self.request("ChangeMessageVisibilityBatch", release)
        });
        let requests: Vec<_> = requests.collect();
        Wire::side_by_side(SIDE_BY_SIDE, requests).await.map(drop)
    }

    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Result<Vec<Receipt>> {
        let requests = receipts.chunks(MOST_MESSAGES).map(|part| {
            let extend = self.memory.extend(part.to_vec(), by);
            self.request("ChangeMessageVisibilityBatch", extend)
        });
        let requests: Vec<_> = requests.collect();
        let stale = Wire::side_by_side(SIDE_BY_SIDE, requests).await?;
        Ok(stale.into_iter().flatten().collect())
    }

    async fn bury(&self, delivery: Delivery, reason: &str) -> Result<()> {
        let bury = self.memory.bury(delivery, reason);
        self.request("SendMessage", bury).await
    }

    async fn dead_letters(&self, cursor: Option<&Cursor>, max: usize) -> Result<Page<BuriedMessage>> {
        self.memory.dead_letters(cursor, max).await
    }

    async fn redrive(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>> {
        self.memory.redrive(messages).await
    }

    async fn discard(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>> {
        self.memory.discard(messages).await
    }

    async fn depth(&self) -> Result<Depth> {
        self.memory.depth().await
    }

    fn batch(&self) -> Option<usize> {
        Some(MOST_MESSAGES)
    }

    // Not asked for `room`: SQS takes any amount.

    fn max_body(&self) -> Option<usize> {
        self.memory.max_body()
    }
}
