//! The steps of a message, once, for every kind of worker. Each step is idempotent, and the answer to
//! acknowledge comes only after everything that the message causes is durable.

mod again;
mod answer;
mod at_work;
pub(crate) mod attempt_log;
mod beginning;
pub(crate) mod bundle;
mod cancelled;
mod compute;
mod contradiction;
mod failure;
mod foreign;
pub(crate) mod reason;
mod received;
pub(crate) mod seam;
mod settle;
pub(crate) mod site;
mod step;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use tokio::sync::{Mutex, RwLock, RwLockReadGuard};

use crate::compute::pass::{CutOff, Pass};
use crate::compute::step::{Before, Computed, Failures, Input, ItemFailure, Limits};
use crate::core::error::{BoxError, text_for_strangers};
use crate::core::one_of::OneOf;
use crate::packet::carrier::Carrier;
use crate::packet::codec::Payload;
use crate::packet::{Malformed, Message, Packet};
use crate::pipeline::definition::{StageDefinition, StageKind};
use crate::queue::{Delivery, Receipt};
use crate::scratchpad::GroupId;
pub(crate) use answer::{Answer, bury, nack};
use bundle::{Begun, Unpack};
use cancelled::Cancelled;
pub(crate) use received::Received;
use seam::Seam;

/// The owner of the messages that are handled: a worker that leased them, or a handler they were pushed to.
pub(crate) trait Owner: Sync {
    /// The user's function is done with this many `messages`: what is left is reading and writing. What it has made of
    /// them for another map stage has this many `bytes`, as far as that is known.
    fn worked(&self, messages: usize, bytes: usize);

    /// Whether the message at this place now belongs to another worker.
    fn is_lost(&self, place: usize) -> bool;

    /// Completes once nothing more may begin: messages that have not begun are handed back. Never, by default.
    fn closing(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Whether [`closing`](Self::closing) has completed.
    fn is_closing(&self) -> bool {
        false
    }

    /// Whether the message at this place may be kept for this long, while its items wait for another attempt.
    fn may_keep(&self, place: usize, wait: Duration) -> bool;

    /// A message is kept while its items wait for another attempt, or has been.
    fn keeps(&self, _is_kept: bool) {}

    /// This many items of the only message are done or wait, so that others may take their places.
    fn left(&self, _items: usize) {}

    /// Carries out answers, each for the message at its place.
    fn answer(&self, answers: Vec<(usize, Answer)>) -> impl Future<Output = ()> + Send;
}

pub(crate) struct Protocol {
    seam: Seam,
    cancelled: Arc<Cancelled>,
    /// Held while a message is at work that may have ended a process before.
    suspects: Arc<Mutex<()>>,
    /// Held by whatever is at work, and for itself alone by a message that would be given up if its process ended once
    /// more: nothing else can have been the cause then.
    quiet: Arc<RwLock<()>>,
}

/// A message at hand.
struct Task<'a> {
    /// Its place among those that are handled together.
    place: usize,
    index: usize,
    stage: &'a StageDefinition,
    fan_in: u32,
    received: &'a Received,
    /// Whether the beginning of a redelivery is written down.
    notes_beginning: bool,
    /// Which attempt at the message as a whole it is.
    attempt: u32,
    /// What is on record of its items.
    before: Vec<Before>,
    message: OneOf<Message>,
}

/// A group that is being reduced.
struct Reduction {
    group: GroupId,
    root: bool,
    /// What comes of it, but for the value.
    whole: Packet,
}

/// What is to be computed for a message.
enum Step {
    Map(Input),
    Bundle(Begun),
    Reduce(Box<Reduction>, Vec<Payload>),
}

/// What is to be done with what was computed.
enum Then {
    Map(Arc<Pass>),
    /// The pass is that of a packet by itself.
    Bundle(Box<dyn Unpack>, Option<Arc<Pass>>),
    Reduce(Box<Reduction>),
}

impl Protocol {
    pub(crate) fn new(seam: Seam, cancel_check: Duration) -> Self {
        let site = &seam.site;
        let leaves_the_process = matches!(site.carrier, Carrier::Wire { .. });
        let scratchpad = Arc::clone(&site.scratchpad);
        let cancelled = Cancelled::new(cancel_check, leaves_the_process, scratchpad);
        Self {
            seam,
            cancelled: Arc::new(cancelled),
            suspects: Arc::default(),
            quiet: Arc::default(),
        }
    }

    /// Replaces the way to the backend, for a push handler whose calls are stuck in the old one. What is known of runs is
    /// kept.
    pub(crate) fn with_seam(&self, seam: Seam) -> Self {
        Self {
            seam,
            cancelled: Arc::clone(&self.cancelled),
            suspects: Arc::clone(&self.suspects),
            quiet: Arc::clone(&self.quiet),
        }
    }

    pub(crate) async fn acknowledge(
        &self,
        stage: usize,
        receipts: Vec<Receipt>,
    ) -> crate::core::error::Result<()> {
        self.seam.acknowledge(stage, receipts).await
    }

    /// So many of a stage's messages have been received: until they are worked off, what they cause may come soon.
    pub(crate) fn expect(&self, stage: usize, messages: usize) {
        self.seam.expect(stage, messages);
    }

    /// So many of those have been worked off, or given up.
    pub(crate) fn expect_no_longer(&self, stage: usize, messages: usize) {
        self.seam.expect_no_longer(stage, messages);
    }

    /// What waits for more of its kind goes at once from here on.
    pub(crate) fn hurry(&self) {
        self.seam.hurry();
    }

    /// Does all the work of some messages, each by itself, and has their owner answer them as they end. Dropped anywhere, it has
    /// done what a crash there would leave: nothing that a redelivery does not repair.
    pub(crate) async fn handle(
        &self,
        index: usize,
        messages: &[Received],
        limits: &Limits,
        owner: &impl Owner,
    ) {
        let Some(stage) = self.seam.site.definition.stage(index) else {
            let answers = (0..messages.len()).map(|place| (place, Answer::Nack(Duration::ZERO)));
            return owner.answer(answers.collect()).await;
        };
        let mut settling = FuturesUnordered::<BoxFuture<'_, ()>>::new();
        let Intake {
            fresh: mut tasks,
            mut redelivered,
            ended,
            refused,
        } = self.take_in(index, stage, messages).await;
        if !refused.is_empty() {
            owner.worked(refused.len(), 0);
            settling.push(Box::pin(self.refuse_all(stage, refused, owner)));
        }
        if !ended.is_empty() {
            owner.worked(ended.len(), 0);
            settling.push(Box::pin(self.settle(ended, owner)));
        }
        loop {
            if tasks.is_empty() {
                // No more than run at once: a message that ends its process has few others that began with it.
                let next = redelivered.len().min(limits.cpu.runners().max(1));
                tasks.extend(redelivered.drain(..next));
            }
            if tasks.is_empty() {
                break;
            }
            if owner.is_closing() {
                let unbegun = tasks.drain(..).chain(redelivered.drain(..));
                let unbegun = unbegun.map(|task| (task, Outcome::NotBegun));
                settling.push(Box::pin(self.settle(unbegun.collect(), owner)));
                break;
            }
            let (ready, ended) = self.prepare(&mut tasks).await;
            if !ended.is_empty() {
                owner.worked(ended.len(), 0);
                settling.push(Box::pin(self.settle(ended, owner)));
            }
            self.compute(stage, ready, limits, owner, &mut settling)
                .await;
        }
        while settling.next().await.is_some() {}
    }

    /// Sorts messages by what is known of them before anything is looked up.
    async fn take_in<'a>(
        &self,
        index: usize,
        stage: &'a StageDefinition,
        messages: &'a [Received],
    ) -> Intake<'a> {
        let mut intake = Intake {
            fresh: VecDeque::with_capacity(messages.len()),
            redelivered: VecDeque::new(),
            ended: Vec::new(),
            refused: Vec::new(),
        };
        for (place, received) in messages.iter().enumerate() {
            match self.task(index, stage, place, received) {
                Ok(task) if task.is_redelivered() => match self.moved_away_soon(&task).await {
                    Some(failures) => intake.ended.push((task, Outcome::Failed(failures))),
                    None => intake.redelivered.push_back(task),
                },
                Ok(task) => intake.fresh.push_back(task),
                Err(malformed) => intake.refused.push((place, &received.delivery, malformed)),
            }
        }
        intake
    }

    fn task<'a>(
        &self,
        index: usize,
        stage: &'a StageDefinition,
        place: usize,
        received: &'a Received,
    ) -> Result<Task<'a>, &'a Malformed> {
        let delivery = &received.delivery;
        match &received.message {
            Ok(message) => {
                let notes_beginning = self.notes_beginnings();
                let attempt = match notes_beginning {
                    true => received.begun.get().map_or(1, |begun| begun.attempt),
                    false => delivery.receive_count.max(1),
                };
                Ok(Task {
                    place,
                    index,
                    stage,
                    fan_in: message.fan_in,
                    received,
                    notes_beginning,
                    attempt,
                    before: Vec::new(),
                    message: message.clone(),
                })
            }
            Err(malformed) => Err(malformed),
        }
    }

    /// Answers deliveries that are no messages of this deployment.
    async fn refuse_all(
        &self,
        stage: &StageDefinition,
        refused: Vec<(usize, &Delivery, &Malformed)>,
        owner: &impl Owner,
    ) {
        let answers = refused
            .into_iter()
            .map(|(place, delivery, malformed)| async move {
                (place, self.refuse(stage, delivery, malformed).await)
            });
        owner.answer(join_all(answers).await).await;
    }

    /// What becomes of a message whose work was stopped before its end: a failed attempt, with this `problem`.
    pub(crate) async fn cut_off(&self, index: usize, received: &Received, problem: &str) -> Answer {
        let Some(stage) = self.seam.site.definition.stage(index) else {
            return Answer::Nack(Duration::ZERO);
        };
        match self.task(index, stage, 0, received) {
            Ok(task) => self.cut_off_task(&task, problem).await,
            Err(malformed) => self.refuse(stage, &received.delivery, malformed).await,
        }
    }

    async fn cut_off_task(&self, task: &Task<'_>, problem: &str) -> Answer {
        let pass = task.received.pass.get();
        let failures = match pass.and_then(|pass| Some((pass, pass.cut_off(problem)?))) {
            // Of a packet, those items fail an attempt that were at work.
            Some((pass, CutOff::GoesBack)) => {
                match self.go_back(task, pass.failures(), pass.wait()).await {
                    Ok(answer) => return answer,
                    Err(failures) => failures,
                }
            }
            Some((_, CutOff::Failed(failures))) => failures,
            None => vec![ItemFailure::whole(problem)],
        };
        self.failed(task, &task.message, failures).await
    }

    /// What is held while functions are at work that nothing is known of, unless a run inside the process takes all its
    /// work with it when it ends.
    async fn among_others(&self) -> Option<RwLockReadGuard<'_, ()>> {
        match self.notes_beginnings() {
            true => Some(self.quiet.read().await),
            false => None,
        }
    }

    fn kind_of(&self, stage: usize) -> Option<&StageKind> {
        let stage = self.seam.site.definition.stage(stage)?;
        Some(&stage.kind)
    }
}

/// Messages that are about to be handled.
struct Intake<'a> {
    /// Those that come for the first time.
    fresh: VecDeque<Task<'a>>,
    redelivered: VecDeque<Task<'a>>,
    /// Those that are not worked on any more.
    ended: Vec<(Task<'a>, Outcome)>,
    /// Those that cannot be read, by their places.
    refused: Vec<(usize, &'a Delivery, &'a Malformed)>,
}

/// How a message's work ended.
enum Outcome {
    /// There was nothing left to do.
    Done,
    /// It was not begun, and is handed back.
    NotBegun,
    /// It could not be computed.
    Failed(Failures),
    /// Items of it have failed, and it goes back to its queue until they are to be tried again.
    GoesBack(Failures, Duration),
    /// It was computed.
    Computed(Then, Computed),
}

/// A failure that another attempt cannot change. An error of the backend is one: if it was retryable, the call has been
/// repeated already. The record of a run has no more of it than its clients may read.
fn refused(error: impl Into<BoxError>) -> Failures {
    vec![ItemFailure::permanent(text_for_strangers(
        error.into().as_ref(),
    ))]
}
