//! One stage as a worker serves it: what waits, what runs, and how much of both there may be.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::definition::StageDefinition;
use crate::error::describe;
use crate::heartbeat::{Heartbeat, Hold};
use crate::packet::{Message, Work};
use crate::queue::{Delivery, Queue};
use crate::rate::Pace;
use crate::stage::{Backoff, Execution, Limits};

/// How long one receive waits for a message: what Amazon SQS allows at most.
const LONG_POLL: Duration = Duration::from_secs(20);
const RECEIVE_BACKOFF: Backoff =
    Backoff::exponential(Duration::from_millis(500), Duration::from_secs(30));

pub(super) struct Lane {
    /// The stage's place in the pipeline.
    pub(super) stage: usize,
    pub(super) queue: Arc<dyn Queue>,
    /// Where this stage's outputs go, if to a queue: when that is full, this stage waits.
    next: Option<Arc<dyn Queue>>,
    pub(super) heartbeat: Arc<Heartbeat>,
    pub(super) limits: Arc<Limits>,
    pub(super) cpu_bound: bool,
    /// Whether its messages are packets of the array's items, and count by them.
    by_items: bool,
    concurrency: usize,
    prefetch: usize,
    waiting: VecDeque<Held>,
    receiving: bool,
    /// Messages at work, and the weight they have.
    running: usize,
    weight: usize,
}

/// A received message that has not been begun.
pub(super) struct Held {
    pub(super) delivery: Delivery,
    pub(super) hold: Arc<Hold>,
    /// What it counts for: its items where an asynchronous function works on those, else 1.
    pub(super) weight: usize,
}

impl Lane {
    pub(super) fn new(
        stage: usize,
        definition: &StageDefinition,
        queue: Arc<dyn Queue>,
        next: Option<Arc<dyn Queue>>,
        prefetch: usize,
    ) -> Self {
        let options = &definition.options;
        Self {
            stage,
            next,
            heartbeat: Heartbeat::new(Arc::clone(&queue), options.queue.visibility_timeout),
            queue,
            limits: Arc::new(Limits {
                timeout: options.timeout,
                items: Semaphore::new(options.concurrency.min(Semaphore::MAX_PERMITS)),
                concurrency: options.concurrency,
                pace: options.rate_limit.map(Pace::new),
            }),
            cpu_bound: definition.execution == Execution::Blocking,
            by_items: definition.execution == Execution::Async && definition.works_on_items,
            concurrency: options.concurrency,
            prefetch,
            waiting: VecDeque::new(),
            receiving: false,
            running: 0,
            weight: 0,
        }
    }

    /// The next message to work on, if there is one and the stage has room for it.
    pub(super) fn take(&mut self) -> Option<Held> {
        if self.running > 0 && self.weight >= self.concurrency {
            return None;
        }
        while let Some(held) = self.waiting.pop_front() {
            if !held.hold.is_lost() {
                self.running += 1;
                self.weight += held.weight;
                return Some(held);
            }
        }
        None
    }

    pub(super) fn finished(&mut self, weight: usize) {
        self.running -= 1;
        self.weight -= weight;
    }

    pub(super) fn accept(&mut self, deliveries: Vec<Delivery>) {
        self.receiving = false;
        for delivery in deliveries {
            let hold = self.heartbeat.hold(&delivery.receipt);
            let weight = match self.by_items {
                true => items(&delivery),
                false => 1,
            };
            self.waiting.push_back(Held {
                delivery,
                hold,
                weight,
            });
        }
    }

    /// Everything that has not been begun.
    pub(super) fn give_up_waiting(&mut self) -> impl Iterator<Item = Held> + '_ {
        self.waiting.drain(..)
    }

    /// A receive to wait for, where one is due: one at a time, and only for what there is room for.
    pub(super) fn receive(&mut self) -> Option<BoxFuture<'static, Vec<Delivery>>> {
        if self.receiving || self.waiting.len() > self.prefetch / 2 {
            return None;
        }
        self.receiving = true;
        let room = self.prefetch - self.waiting.len();
        let queue = Arc::clone(&self.queue);
        let next = self.next.clone();
        let receive = async move {
            let mut attempt = 0;
            loop {
                let received = async {
                    if let Some(next) = &next {
                        next.room().await?;
                    }
                    queue.receive(room, LONG_POLL).await
                };
                match received.await {
                    Ok(deliveries) => return deliveries,
                    Err(error) => {
                        attempt += 1;
                        let wait = RECEIVE_BACKOFF.draw(attempt);
                        tracing::warn!(attempt, ?wait, error = %describe(&error), "receiving failed");
                        tokio::time::sleep(wait).await;
                    }
                }
            }
        };
        Some(receive.boxed())
    }
}

/// How many items a message has. One that cannot be read fails soon enough.
fn items(delivery: &Delivery) -> usize {
    match Message::decode(&delivery.body).map(|message| message.work) {
        Ok(Work::Map(map)) => usize::try_from(map.packet.contains).unwrap_or(1).max(1),
        Ok(Work::Reduce(_)) | Err(_) => 1,
    }
}
