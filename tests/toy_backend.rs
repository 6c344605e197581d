//! Somebody else's broker in a page: a queue in a list, held to the suite that every queue is held to. CONTRIBUTING points
//! here: this file is all that a backend of yours needs.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use catchment::backends::memory::MemoryScratchpad;
use catchment::queue::{
    BuriedMessage, Cursor, Delivery, Depth, Outgoing, PAGE_BYTES, Page, Queue, QueueOptions,
    Queues, Receipt,
};
use catchment::testing::queue::{Capabilities, conformance};
use catchment::{Backend, Pipeline, Result, Stage};
use tokio::time::{Instant, sleep};

/// Queues by name.
#[derive(Debug, Default)]
struct Toy {
    queues: Mutex<HashMap<String, Arc<Mutex<State>>>>,
}

#[derive(Debug)]
struct ToyQueue {
    visibility: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The last receipt that was issued.
    receipts: u64,
    messages: Vec<Message>,
    dead: Vec<BuriedMessage>,
}

#[derive(Debug)]
struct Message {
    sent: Outgoing,
    receive_count: u32,
    visible_at: Instant,
    /// Of the last delivery, which a later one makes stale; `None` before the first one and after a release.
    receipt: Option<Receipt>,
}

impl State {
    fn take(&mut self, max: usize, visibility: Duration) -> Vec<Delivery> {
        let now = Instant::now();
        let messages = self.messages.iter_mut();
        let ready = messages.filter(|message| message.visible_at <= now);
        let take = |message: &mut Message| {
            self.receipts += 1;
            let receipt = Receipt::from(self.receipts);
            message.receipt = Some(receipt.clone());
            message.receive_count += 1;
            message.visible_at = now + visibility;
            Delivery::new(message.sent.clone(), receipt, message.receive_count)
        };
        ready.take(max).map(take).collect()
    }

    /// The place of the message that this receipt still holds.
    fn held(&self, receipt: &Receipt) -> Option<usize> {
        let now = Instant::now();
        let is_held = |message: &Message| {
            message.receipt.as_ref() == Some(receipt) && message.visible_at > now
        };
        self.messages.iter().position(is_held)
    }

    fn remove(&mut self, receipt: &Receipt) -> Option<Message> {
        let place = self.held(receipt)?;
        Some(self.messages.remove(place))
    }

    fn hide(&mut self, receipt: &Receipt, by: Duration) -> Option<&mut Message> {
        let place = self.held(receipt)?;
        let message = &mut self.messages[place];
        message.visible_at = Instant::now() + by;
        Some(message)
    }
}

#[async_trait]
impl Queues for Toy {
    async fn open(&self, name: &str, options: &QueueOptions) -> Result<Arc<dyn Queue>> {
        let mut queues = self.queues.lock().unwrap();
        Ok(Arc::new(ToyQueue {
            visibility: options.visibility_timeout,
            state: queues.entry(name.to_owned()).or_default().clone(),
        }))
    }
}

#[async_trait]
impl Queue for ToyQueue {
    async fn send(&self, messages: Vec<Outgoing>) -> Result<()> {
        let messages = messages.into_iter().map(|sent| Message {
            sent,
            receive_count: 0,
            visible_at: Instant::now(),
            receipt: None,
        });
        self.state.lock().unwrap().messages.extend(messages);
        Ok(())
    }

    /// A toy polls every ten milliseconds. A service has long polls.
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
            state.remove(&receipt);
        }
        Ok(())
    }

    async fn release(&self, receipts: Vec<Receipt>, after: Duration) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        for receipt in receipts {
            if let Some(message) = state.hide(&receipt, after) {
                message.receipt = None;
            }
        }
        Ok(())
    }

    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Result<Vec<Receipt>> {
        let mut state = self.state.lock().unwrap();
        let receipts = receipts.into_iter();
        Ok(receipts
            .filter(|receipt| state.hide(receipt, by).is_none())
            .collect())
    }

    async fn bury(&self, delivery: Delivery, reason: &str) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        if let Some(message) = state.remove(&delivery.receipt) {
            let dead = BuriedMessage::new(message.sent, reason, delivery.receipt);
            state.dead.push(dead);
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
        let mut bytes = 0;
        let first = state.dead.iter().take_while(|dead| {
            let is_first = bytes == 0;
            bytes += dead.size();
            is_first || bytes <= PAGE_BYTES
        });
        let page = Page::new(first.take(max).cloned().collect(), None);
        let is_truncated = page.len() < state.dead.len();
        Ok(page.truncated(is_truncated))
    }

    async fn discard(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>> {
        let mut state = self.state.lock().unwrap();
        let receipts = messages.into_iter().map(|message| message.receipt);
        let mut wanted: HashSet<Receipt> = receipts.collect();
        state.dead.retain(|dead| !wanted.remove(&dead.receipt));
        Ok(wanted.into_iter().collect())
    }

    async fn depth(&self) -> Result<Depth> {
        let state = self.state.lock().unwrap();
        let mut depth = Depth::new().dead(state.dead.len() as u64);
        for message in &state.messages {
            match message.receipt {
                _ if message.visible_at <= Instant::now() => depth.ready += 1,
                Some(_) => depth.in_flight += 1,
                None => depth.delayed += 1,
            }
        }
        Ok(depth)
    }
}

#[tokio::test(start_paused = true)]
async fn the_toy_keeps_the_contract() {
    conformance(Arc::new(Toy::default()), &Capabilities::new()).await;
}

#[tokio::test]
async fn a_pipeline_runs_over_the_toy() {
    let backend = Backend::new(Toy::default(), MemoryScratchpad::new());
    let sum = Pipeline::new()
        .map(|n: u64| n * 2)
        .reduce(|| 0, |a, b| a + b);
    let sum = sum.deploy("toy", backend).unwrap();
    let worker = sum.worker().start();
    let run = sum.submit(1..=10_000).await.unwrap();
    assert_eq!(run.result().await.unwrap(), 100_010_000);
    worker.shutdown().await;
}

/// Nothing of this is the broker's part: a message on another deployment's queue is buried there, and its own run fails.
#[tokio::test(start_paused = true)]
async fn a_message_of_another_deployment_is_refused_over_the_toy_too() {
    let toy = Arc::new(Toy::default());
    let backend = Backend::new(toy.clone(), MemoryScratchpad::new());
    let deployed = |name| {
        let stage = Stage::named("count");
        let counted = Pipeline::new().map(|n: u64| n).with(stage).count();
        counted.deploy(name, backend.clone()).unwrap()
    };
    let (owner, other) = (deployed("toy"), deployed("other"));
    let run = owner.submit(1..=1).await.unwrap();
    let open = async |name| toy.open(name, &QueueOptions::default()).await.unwrap();
    let strayed = open("toy--count").await;
    let strayed = strayed.receive(1, Duration::ZERO).await.unwrap().remove(0);
    let body = strayed.body.clone();
    open("other--count")
        .await
        .send(vec![body.into()])
        .await
        .unwrap();
    let worker = other.worker().start();
    let error = run.result().await.unwrap_err().to_string();
    assert!(
        error.contains("belongs to stage `count` of deployment `toy`"),
        "{error}"
    );
    let letters = other.dead_letters().await.unwrap();
    assert_eq!((letters.len(), &letters[0].run), (1, &None));
    worker.shutdown().await;
}
