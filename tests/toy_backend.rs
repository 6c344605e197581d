//! Somebody else's broker in a page: a queue in a list, held to the suite that every queue is held to. CONTRIBUTING points
//! here: this file is all that a backend of yours needs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use catchment::backends::memory::MemoryScratchpad;
use catchment::queue::{
    BuriedMessage, Cursor, Delivery, Depth, Outgoing, Page, Queue, QueueOptions, Queues, Receipt,
};
use catchment::testing::queue::{Capabilities, conformance};
use catchment::{Backend, Pipeline, Result};
use tokio::time::{Instant, sleep};

/// Queues by name.
#[derive(Debug, Default)]
struct Toy {
    queues: Mutex<HashMap<String, Arc<ToyQueue>>>,
}

#[derive(Debug)]
struct ToyQueue {
    visibility: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last receipt that was given out.
    receipts: u64,
    messages: Vec<Message>,
    dead: Vec<BuriedMessage>,
}

#[derive(Debug)]
struct Message {
    sent: Outgoing,
    /// Of the last delivery. A later one makes it stale.
    receipt: Option<Receipt>,
    receive_count: u32,
    visible_at: Instant,
    /// Hidden because it was sent back with a delay, rather than because somebody has it.
    delayed: bool,
}

#[async_trait]
impl Queues for Toy {
    async fn open(&self, name: &str, options: &QueueOptions) -> Result<Arc<dyn Queue>> {
        let mut queues = self.queues.lock().unwrap();
        let queue = queues.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(ToyQueue {
                visibility: options.visibility_timeout,
                state: Mutex::default(),
            })
        });
        Ok(queue.clone())
    }
}

impl State {
    fn take(&mut self, max: usize, visibility: Duration) -> Vec<Delivery> {
        let now = Instant::now();
        let ready = self
            .messages
            .iter_mut()
            .filter(|message| message.visible_at <= now);
        let mut taken = Vec::new();
        for message in ready.take(max) {
            self.receipts += 1;
            let receipt = Receipt::from(self.receipts);
            message.receipt = Some(receipt.clone());
            message.receive_count += 1;
            message.visible_at = now + visibility;
            message.delayed = false;
            let Outgoing {
                body, attributes, ..
            } = message.sent.clone();
            let delivery = Delivery::new(body, receipt, message.receive_count);
            taken.push(delivery.attributes(attributes));
        }
        taken
    }

    /// The message that this receipt still holds.
    fn held(&mut self, receipt: &Receipt) -> Option<usize> {
        let now = Instant::now();
        self.messages.iter().position(|message| {
            message.receipt.as_ref() == Some(receipt)
                && message.visible_at > now
                && !message.delayed
        })
    }
}

#[async_trait]
impl Queue for ToyQueue {
    async fn send(&self, messages: Vec<Outgoing>) -> Result<()> {
        let messages = messages.into_iter().map(|sent| Message {
            sent,
            receipt: None,
            receive_count: 0,
            visible_at: Instant::now(),
            delayed: false,
        });
        self.state.lock().unwrap().messages.extend(messages);
        Ok(())
    }

    /// A toy looks every ten milliseconds. A service has long polls.
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let begin = Instant::now();
        loop {
            let taken = self.state.lock().unwrap().take(max, self.visibility);
            let left = wait.saturating_sub(begin.elapsed());
            if !taken.is_empty() || left.is_zero() {
                return Ok(taken);
            }
            sleep(left.min(Duration::from_millis(10))).await;
        }
    }

    async fn acknowledge(&self, receipts: Vec<Receipt>) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        for receipt in receipts {
            if let Some(place) = state.held(&receipt) {
                state.messages.remove(place);
            }
        }
        Ok(())
    }

    async fn release(&self, receipt: Receipt, after: Duration) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        if let Some(place) = state.held(&receipt) {
            state.messages[place].visible_at = Instant::now() + after;
            state.messages[place].delayed = true;
        }
        Ok(())
    }

    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Result<Vec<Receipt>> {
        let mut state = self.state.lock().unwrap();
        let stale = receipts
            .into_iter()
            .filter(|receipt| match state.held(receipt) {
                Some(place) => {
                    state.messages[place].visible_at = Instant::now() + by;
                    false
                }
                None => true,
            });
        Ok(stale.collect())
    }

    async fn bury(&self, delivery: Delivery, reason: &str) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        if let Some(place) = state.held(&delivery.receipt) {
            let message = state.messages.remove(place);
            let dead = BuriedMessage::new(message.sent.body, reason, delivery.receipt);
            state.dead.push(dead.attributes(message.sent.attributes));
        }
        Ok(())
    }

    async fn dead_letters(
        &self,
        cursor: Option<&Cursor>,
        max: usize,
    ) -> Result<Page<BuriedMessage>> {
        if let Some(cursor) = cursor {
            // It makes none, so this one belongs to another list.
            cursor.decode::<()>("toy")?;
        }
        let state = self.state.lock().unwrap();
        let first = state.dead.iter().take(max).cloned();
        Ok(Page::new(first.collect(), None).truncated(state.dead.len() > max))
    }

    async fn redrive(&self, messages: Vec<BuriedMessage>) -> Result<()> {
        let is_there = |message: &BuriedMessage| self.state.lock().unwrap().dead.contains(message);
        let there: Vec<_> = messages.into_iter().filter(is_there).collect();
        self.send(there.iter().map(Outgoing::from).collect())
            .await?;
        self.discard(there).await
    }

    async fn discard(&self, messages: Vec<BuriedMessage>) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        state.dead.retain(|dead| !messages.contains(dead));
        Ok(())
    }

    async fn depth(&self) -> Result<Depth> {
        let state = self.state.lock().unwrap();
        let now = Instant::now();
        let hidden = state
            .messages
            .iter()
            .filter(|message| message.visible_at > now);
        let (delayed, in_flight): (Vec<_>, Vec<_>) = hidden.partition(|message| message.delayed);
        let ready = state.messages.len() - delayed.len() - in_flight.len();
        Ok(Depth::new()
            .ready(ready as u64)
            .in_flight(in_flight.len() as u64)
            .delayed(delayed.len() as u64)
            .dead(state.dead.len() as u64))
    }
}

#[tokio::test(start_paused = true)]
async fn the_toy_keeps_the_contract() {
    conformance(Arc::new(Toy::default()), &Capabilities::new()).await;
}

#[tokio::test]
async fn a_pipeline_runs_over_the_toy() {
    let backend = Backend::new(Arc::new(Toy::default()), Arc::new(MemoryScratchpad::new()));
    let sum = Pipeline::new()
        .map(|n: u64| n * 2)
        .reduce(|| 0, |a, b| a + b);
    let sum = sum.deploy("toy", backend).unwrap();
    let worker = sum.worker().start();
    let run = sum.submit(1..=10_000).await.unwrap();
    assert_eq!(run.result().await.unwrap(), 100_010_000);
    worker.shutdown().await;
}
