//! Holds an event's records while they are worked on, and remembers what became of each.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lambda_events::sqs::SqsBatchResponse;
use futures::StreamExt;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use tokio::sync::watch;

use super::records::{Record, Records};
use super::{Engine, Inner};
use crate::core::error::{Result, describe};
use crate::protocol::site::Site;
use crate::protocol::{Answer, Owner, Received, bury, nack};
use crate::queue::requeue::send_copies;
use crate::queue::{Delivery, Queue};
use crate::stage::Execution;

/// Negative acknowledgements and burials at once.
const ANSWERED_AT_ONCE: usize = 16;

pub(super) struct Batch {
    queue: Arc<dyn Queue>,
    stage: Arc<str>,
    messages: Vec<Received>,
    records: Vec<Record>,
    fates: Mutex<Vec<Fate>>,
    closing: watch::Sender<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing is decided yet.
    Held,
    /// The mapping is to delete it: it is done, buried, or on its queue as a fresh copy.
    Gone,
    /// It comes back.
    Back,
}

impl Batch {
    pub(super) fn new(
        site: &Site,
        queue: Arc<dyn Queue>,
        stage: &Arc<str>,
        records: Records,
    ) -> Self {
        let Records { deliveries, all } = records;
        Self {
            queue,
            stage: Arc::clone(stage),
            fates: Mutex::new(vec![Fate::Held; deliveries.len()]),
            messages: deliveries
                .into_iter()
                .map(|delivery| Received::new(site, delivery))
                .collect(),
            records: all,
            closing: watch::Sender::new(false),
        }
    }

    /// Nothing more is begun from here on.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }

    fn decide(&self, places: impl IntoIterator<Item = usize>, fate: Fate) {
        let mut fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
        for place in places {
            if let Some(held) = fates.get_mut(place) {
                *held = fate;
            }
        }
    }

    /// The places of those that nothing is decided for.
    fn held(&self) -> Vec<usize> {
        let fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
        let places = fates.iter().enumerate();
        let held = places.filter(|(_, fate)| **fate == Fate::Held);
        held.map(|(place, _)| place).collect()
    }

    /// The records that must come back.
    pub(super) fn response(&self) -> SqsBatchResponse {
        let fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
        let is_gone = |place: usize| fates.get(place) == Some(&Fate::Gone);
        let mut response = SqsBatchResponse::default();
        let mut told = HashSet::new();
        for Record { id, place } in &self.records {
            if !place.is_some_and(is_gone) && told.insert(id.as_str()) {
                // One without an id makes the mapping keep the whole batch: doing the others again changes nothing.
                response.add_failure(id.as_str());
            }
        }
        response
    }

    async fn answer(&self, answers: Vec<(usize, Answer)>) {
        let (mut places, mut unbegun) = (Vec::new(), Vec::new());
        let mut others = Vec::<BoxFuture<'_, ()>>::new();
        for (place, answer) in answers {
            let Some(Received { delivery, .. }) = self.messages.get(place) else {
                continue;
            };
            match answer {
                // Whoever takes the answer deletes it: a request saved.
                Answer::Ack => self.decide([place], Fate::Gone),
                Answer::Requeue => {
                    places.push(place);
                    unbegun.push(delivery.clone());
                }
                Answer::Nack(delay) => others.push(Box::pin(async move {
                    let nacked = nack(self.queue.as_ref(), delivery, delay).await;
                    self.decide_failed(place, nacked.map(|()| Fate::Back));
                })),
                Answer::Bury(reason) => others.push(Box::pin(async move {
                    let buried = bury(self.queue.as_ref(), delivery, &reason).await;
                    self.decide_failed(place, buried.map(|()| Fate::Gone));
                })),
            }
        }
        let failed = futures::stream::iter(others).buffer_unordered(ANSWERED_AT_ONCE);
        tokio::join!(failed.collect::<()>(), self.requeue(places, unbegun));
    }

    fn decide_failed(&self, place: usize, fate: Result<Fate>) {
        let fate = fate.unwrap_or_else(|error| {
            let problem = describe(&error);
            tracing::error!(stage = %self.stage, problem, "a message could not be answered; it comes back");
            Fate::Back
        });
        self.decide([place], fate);
    }

    async fn requeue(&self, places: Vec<usize>, unbegun: Vec<Delivery>) {
        if unbegun.is_empty() {
            return;
        }
        let fate = match send_copies(self.queue.as_ref(), &unbegun).await {
            Ok(()) => Fate::Gone,
            Err(error) => {
                tracing::warn!(stage = %self.stage, error = %describe(&error), "messages could not be requeued; they come back after their visibility timeout");
                Fate::Back
            }
        };
        self.decide(places, fate);
    }
}

/// A batch's records from one on.
struct Part<'a> {
    batch: &'a Batch,
    first: usize,
}

impl Owner for Part<'_> {
    fn worked(&self, _messages: usize) {}

    /// The queue's visibility timeout outlasts the function.
    fn is_lost(&self, _place: usize) -> bool {
        false
    }

    async fn closing(&self) {
        let mut closing = self.batch.closing.subscribe();
        if closing.wait_for(|closing| *closing).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn is_closing(&self) -> bool {
        *self.batch.closing.borrow()
    }

    async fn answer(&self, answers: Vec<(usize, Answer)>) {
        let answers = answers.into_iter();
        let answers = answers.map(|(place, answer)| (self.first + place, answer));
        self.batch.answer(answers.collect()).await;
    }
}

impl Inner {
    /// Works on all of a batch: together where a CPU-bound function takes one after the other, else each by itself, as
    /// many at once as the stage may.
    pub(super) async fn work(&self, engine: &Engine, batch: &Batch) {
        let Some(stage) = self.shared.definition.stage(self.stage) else {
            return;
        };
        let Engine { protocol, limits } = engine;
        let is_cpu_bound = stage.execution == Execution::Blocking;
        let messages = batch.messages.as_slice();
        if is_cpu_bound && limits.pace.is_none() {
            let part = Part { batch, first: 0 };
            return protocol.handle(self.stage, messages, limits, &part).await;
        }
        let most = match is_cpu_bound {
            true => limits.cpu.runners().min(limits.concurrency),
            false => limits.concurrency,
        };
        let all = Part { batch, first: 0 };
        let mut running = FuturesUnordered::<BoxFuture<'_, usize>>::new();
        let mut weight = 0;
        let mut waiting = messages.iter().enumerate().peekable();
        loop {
            while (weight < most || running.is_empty())
                && let Some((first, message)) = waiting.next()
            {
                let own = message.weight(stage);
                weight += own;
                running.push(Box::pin(async move {
                    let part = Part { batch, first };
                    let message = std::slice::from_ref(message);
                    protocol.handle(self.stage, message, limits, &part).await;
                    own
                }));
            }
            tokio::select! {
                biased;
                () = all.closing(), if waiting.peek().is_some() => {
                    let mut unbegun = Vec::new();
                    for (place, _) in waiting.by_ref() {
                        unbegun.push((place, Answer::Requeue));
                    }
                    running.push(Box::pin(async move {
                        batch.answer(unbegun).await;
                        0
                    }));
                }
                Some(own) = running.next() => weight -= own,
                else => return,
            }
        }
    }

    /// Hands back what was begun and has not ended.
    pub(super) async fn stop(&self, engine: &Engine, batch: &Batch, problem: &str) {
        let held = batch.held();
        tracing::warn!(stage = %self.name, messages = held.len(), problem, "the function's deadline is near: unfinished messages are handed back");
        let mut stopped = Vec::<BoxFuture<'_, ()>>::with_capacity(held.len());
        for place in held {
            let Some(message) = batch.messages.get(place) else {
                continue;
            };
            stopped.push(Box::pin(async move {
                let answer = engine.protocol.stopped(self.stage, message, problem).await;
                batch.answer(vec![(place, answer)]).await;
            }));
        }
        join_all(stopped).await;
    }
}
