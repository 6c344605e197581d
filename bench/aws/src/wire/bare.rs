//! The other side: nothing but the SDK's client in loops.
//!
//! What is fair? The same work on the wire, and nothing besides it:
//!
//! - as many messages as the library's run, with the same body;
//! - as many requests of each kind as the library was counted to make in the run just before, so that batches are as full
//!   as its batches were: what is compared is the time around the requests, not how many there are, which is what the
//!   price is about. Receives are asked for by as many messages as the library got on average; how many that takes is up
//!   to the queue, and said in the table;
//! - the same writes and reads: a write adds as many partial results of the same size to a group as the library's writes
//!   did, under the same condition; a query reads a group;
//! - so many loops that send beside as many that receive, write, read and delete, one request after the other, as soon as
//!   the last is answered. There is nothing to compute, nothing to decide and no failure to provide for.

mod queue;
mod table;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use aws_config::SdkConfig;
use tokio::task::JoinSet;

use super::Array;
use super::library::Sample;
use crate::emulators::unique;
use queue::Queue;
use table::Table;
use work::Work;

pub(crate) struct Bare {
    array: Array,
    queue: Arc<Queue>,
    table: Arc<Table>,
    requests: Requests,
}

/// How many requests there were.
#[derive(Clone, Default)]
struct Requests(Arc<AtomicU64>);

impl Requests {
    fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bare {
    pub(crate) async fn new(array: Array, sample: Sample, config: &SdkConfig) -> Result<Self> {
        let name = unique("bare");
        let requests = Requests::default();
        let (body, partial) = (sample.message, sample.partial);
        let groups = array.groups();
        Ok(Self {
            array,
            queue: Arc::new(Queue::new(&name, body, requests.clone(), config).await?),
            table: Arc::new(Table::new(name, partial, groups, requests.clone(), config).await?),
            requests,
        })
    }

    /// Returns what it took, and how many requests there were.
    pub(crate) async fn run(
        &self,
        counts: &BTreeMap<String, u64>,
        loops: usize,
    ) -> Result<(Duration, u64)> {
        for kind in counts.keys() {
            if !KINDS.contains(&kind.as_str()) {
                bail!("the library made requests that the loops do not know: {kind}");
            }
        }
        self.table.begin();
        self.requests.0.store(0, Ordering::Relaxed);
        let work = Arc::new(Work {
            queue: Arc::clone(&self.queue),
            table: Arc::clone(&self.table),
            messages: self.array.messages(),
            // Every packet and every group but the root's goes into a slot.
            arrivals: self.array.messages() - 1,
            counts: counts.clone(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            updated: AtomicU64::new(0),
        });
        let begin = Instant::now();
        // A task each, so that they have the machine's cores, as the library's tasks have.
        let (mut producers, mut consumers) = (JoinSet::new(), JoinSet::new());
        for _ in 0..loops {
            producers.spawn(Arc::clone(&work).produce());
            consumers.spawn(Arc::clone(&work).consume());
        }
        while let Some(produced) = producers.join_next().await {
            produced??;
        }
        let mut end = begin;
        while let Some(consumed) = consumers.join_next().await {
            end = end.max(consumed??);
        }
        let requests = self.requests.0.load(Ordering::Relaxed);
        Ok((end.duration_since(begin), requests))
    }

    pub(crate) async fn remove(&self) -> Result<()> {
        self.queue.remove().await?;
        self.table.remove().await
    }
}

const KINDS: [&str; 9] = [
    "SQS GetQueueUrl",
    "SQS SendMessageBatch",
    "SQS ReceiveMessage",
    "SQS DeleteMessageBatch",
    "SQS ChangeMessageVisibilityBatch",
    "DynamoDB UpdateItem",
    "DynamoDB PutItem",
    "DynamoDB Query",
    "DynamoDB GetItem",
];
