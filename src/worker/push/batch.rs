//! Holds the messages of one call while they are worked on, and remembers the fate of each.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Engine, Fate, Inner};
use crate::core::clock::after;
use crate::core::error::{Result, describe};
use crate::core::flag::Flag;
use crate::pipeline::definition::StageDefinition;
use crate::protocol::{Answer, Owner, Received, bury, nack};
use crate::queue::hand_back::release_all;
use crate::queue::{Queue, Receipt};
use crate::stage::Execution;

/// Negative acknowledgements and burials at once.
const ANSWERED_AT_ONCE: usize = 16;

pub(super) struct Batch {
    queue: Arc<dyn Queue>,
    stage: Arc<str>,
    messages: Vec<Received>,
    /// `None` as long as nothing is decided.
    fates: Mutex<Vec<Option<Fate>>>,
    closing: Flag,
    /// When nothing more may begin.
    until: Instant,
}

impl Batch {
    pub(super) fn new(
        queue: Arc<dyn Queue>,
        stage: &Arc<str>,
        messages: Vec<Received>,
        until: Instant,
    ) -> Self {
        Self {
            until,
            queue,
            stage: Arc::clone(stage),
            fates: Mutex::new(vec![None; messages.len()]),
            messages,
            closing: Flag::default(),
        }
    }

    /// Nothing more begins from here on.
    pub(super) fn close(&self) {
        self.closing.raise();
    }

    fn decide(&self, places: impl IntoIterator<Item = usize>, fate: Fate) {
        let mut fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
        for place in places {
            if let Some(undecided) = fates.get_mut(place) {
                *undecided = Some(fate.clone());
            }
        }
    }

    /// The places of messages whose fate is not decided.
    fn undecided(&self) -> Vec<usize> {
        let fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
        let places = fates.iter().enumerate();
        let undecided = places.filter(|(_, fate)| fate.is_none());
        undecided.map(|(place, _)| place).collect()
    }

    /// The fate of each message.
    pub(super) fn fates(&self) -> Vec<Fate> {
        let fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
        let decided = |fate: &Option<Fate>| fate.clone().unwrap_or(Fate::Leave { delay: None });
        fates.iter().map(decided).collect()
    }

    async fn answer(&self, answers: Vec<(usize, Answer)>) {
        let (mut places, mut unbegun) = (Vec::new(), Vec::new());
        let mut failed = Vec::<BoxFuture<'_, ()>>::new();
        for (place, answer) in answers {
            let Some(Received { delivery, .. }) = self.messages.get(place) else {
                continue;
            };
            match answer {
                // The caller's service acknowledges it: a request saved.
                Answer::Ack => self.decide([place], Fate::Acknowledge),
                Answer::HandBack => {
                    places.push(place);
                    unbegun.push(delivery.receipt.clone());
                }
                Answer::Nack(delay) => failed.push(Box::pin(async move {
                    let nacked = nack(self.queue.as_ref(), delivery, delay).await;
                    let delay = Some(delay);
                    self.decide_failed(place, nacked.map(|()| Fate::Leave { delay }));
                })),
                Answer::Bury(reason) => failed.push(Box::pin(async move {
                    let buried = bury(self.queue.as_ref(), delivery, &reason).await;
                    self.decide_failed(place, buried.map(|()| Fate::Acknowledge));
                })),
            }
        }
        let failed = futures::stream::iter(failed).buffer_unordered(ANSWERED_AT_ONCE);
        tokio::join!(failed.collect::<()>(), self.hand_back(places, unbegun));
    }

    fn decide_failed(&self, place: usize, fate: Result<Fate>) {
        let fate = fate.unwrap_or_else(|error| {
            let problem = describe(&error);
            tracing::error!(stage = %self.stage, problem, "a message could not be answered; it comes back");
            Fate::Leave { delay: None }
        });
        self.decide([place], fate);
    }

    /// Makes messages that have not begun visible at once, for whoever has time for them.
    async fn hand_back(&self, places: Vec<usize>, unbegun: Vec<Receipt>) {
        let fate = match release_all(self.queue.as_ref(), unbegun).await {
            Ok(()) => Fate::Leave {
                delay: Some(Duration::ZERO),
            },
            Err(error) => {
                tracing::warn!(stage = %self.stage, error = %describe(&error), "messages could not be handed back; they come back after their visibility timeout");
                Fate::Leave { delay: None }
            }
        };
        self.decide(places, fate);
    }
}

/// A batch's messages from one on.
struct Part<'a> {
    batch: &'a Batch,
    first: usize,
    /// What the only message weighs, if as many are begun as may run at once.
    weight: Option<Weight<'a>>,
}

/// How much of what may run at once is taken.
#[derive(Default)]
struct Places {
    taken: AtomicUsize,
    freed: Notify,
}

/// The places that a message has. They are free when it is dropped.
struct Weight<'a> {
    places: &'a Places,
    left: AtomicUsize,
}

impl<'a> Weight<'a> {
    fn take(places: &'a Places, weight: usize) -> Self {
        places.taken.fetch_add(weight, Ordering::Relaxed);
        Self {
            places,
            left: AtomicUsize::new(weight),
        }
    }

    /// Frees this many places, or as many as are left.
    fn free(&self, items: usize) {
        let left = self.left.load(Ordering::Relaxed);
        let items = items.min(left);
        self.left.store(left - items, Ordering::Relaxed);
        self.places.taken.fetch_sub(items, Ordering::Relaxed);
        self.places.freed.notify_one();
    }
}

impl Drop for Weight<'_> {
    fn drop(&mut self) {
        self.free(usize::MAX);
    }
}

impl<'a> Part<'a> {
    fn all(batch: &'a Batch) -> Self {
        Self {
            batch,
            first: 0,
            weight: None,
        }
    }
}

impl Owner for Part<'_> {
    fn worked(&self, _messages: usize, _bytes: usize) {
        self.left(usize::MAX);
    }

    fn left(&self, items: usize) {
        if let Some(weight) = &self.weight {
            weight.free(items);
        }
    }

    /// Until nothing more may begin.
    fn may_keep(&self, _place: usize, wait: Duration) -> bool {
        after(Instant::now(), wait) < self.batch.until
    }

    /// The queue's visibility timeout is longer than the call.
    fn is_lost(&self, _place: usize) -> bool {
        false
    }

    async fn closing(&self) {
        self.batch.closing.raised().await;
    }

    fn is_closing(&self) -> bool {
        self.batch.closing.is_raised()
    }

    async fn answer(&self, answers: Vec<(usize, Answer)>) {
        let answers = answers.into_iter();
        let answers = answers.map(|(place, answer)| (self.first + place, answer));
        self.batch.answer(answers.collect()).await;
    }
}

impl Inner {
    /// Works on all of a batch: together if a CPU-bound function takes one after the other,
    /// otherwise each by itself, as many at once as the stage may.
    pub(super) async fn work(&self, engine: &Engine, batch: &Batch) {
        let Some(stage) = self.site.definition.stage(self.stage) else {
            return;
        };
        let Engine { protocol, limits } = engine;
        if stage.execution == Execution::Blocking && limits.pace.is_none() {
            let all = Part::all(batch);
            let messages = batch.messages.as_slice();
            return protocol.handle(self.stage, messages, limits, &all).await;
        }
        self.work_on_each(engine, batch, stage).await;
    }

    async fn work_on_each(&self, engine: &Engine, batch: &Batch, stage: &StageDefinition) {
        let Engine { protocol, limits } = engine;
        let most = match stage.execution {
            Execution::Blocking => limits.cpu.runners().min(limits.concurrency),
            Execution::Async => limits.concurrency,
        };
        let all = Part::all(batch);
        let places = &Places::default();
        let mut running = FuturesUnordered::<BoxFuture<'_, ()>>::new();
        let mut waiting = batch.messages.iter().enumerate().peekable();
        loop {
            while (places.taken.load(Ordering::Relaxed) < most || running.is_empty())
                && let Some((first, message)) = waiting.next()
            {
                let weight = Some(Weight::take(places, message.weight(stage)));
                running.push(Box::pin(async move {
                    let part = Part {
                        batch,
                        first,
                        weight,
                    };
                    let message = std::slice::from_ref(message);
                    protocol.handle(self.stage, message, limits, &part).await;
                }));
            }
            tokio::select! {
                biased;
                () = all.closing(), if waiting.peek().is_some() => {
                    let unbegun = waiting.by_ref();
                    let unbegun = unbegun.map(|(place, _)| (place, Answer::HandBack)).collect();
                    running.push(Box::pin(async move {
                        batch.answer(unbegun).await;
                    }));
                }
                Some(()) = running.next() => {}
                () = places.freed.notified(), if waiting.peek().is_some() => {}
                else => return,
            }
        }
    }

    /// Answers the messages that have begun and not ended: their attempt failed.
    pub(super) async fn stop(&self, engine: &Engine, batch: &Batch, problem: &str) {
        let undecided = batch.undecided();
        tracing::warn!(stage = %self.name, messages = undecided.len(), problem, "the deadline is near: unfinished messages are stopped");
        let mut stopped = Vec::<BoxFuture<'_, ()>>::with_capacity(undecided.len());
        for place in undecided {
            let Some(message) = batch.messages.get(place) else {
                continue;
            };
            stopped.push(Box::pin(async move {
                let answer = engine.protocol.cut_off(self.stage, message, problem).await;
                batch.answer(vec![(place, answer)]).await;
            }));
        }
        join_all(stopped).await;
    }
}
