//! The steps of a message, once, for every kind of worker. Each step is idempotent, and the answer to
//! acknowledge comes only after everything that the message causes is durable.

mod batcher;
pub(crate) mod bundle;
mod cancelled;
mod compute;
mod failure;
pub(crate) mod reason;
pub(crate) mod requeue;
pub(crate) mod seam;
mod settle;
pub(crate) mod site;
mod step;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use crate::compute::step::{Computed, Failures, Input, ItemFailure, Limits};
use crate::core::one_of::OneOf;
use crate::packet::codec::Payload;
use crate::packet::{Message, Packet};
use crate::pipeline::definition::{StageDefinition, StageKind};
use crate::queue::{Delivery, Receipt};
use crate::scratchpad::GroupId;
use bundle::{Begun, Unpack};
use seam::Seam;

use cancelled::Cancelled;

/// What is to be done with a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// All that it causes is durable.
    Acknowledge,
    /// It failed and has attempts left.
    Release(Duration),
    /// It is a dead letter, for this reason.
    Bury(String),
    /// It was not begun.
    PutBack,
}

/// Whoever holds the messages that are handled.
pub(crate) trait Holder: Sync {
    /// The user's function is done with so many of them: what is left is reading and writing.
    fn worked(&self, messages: usize);

    /// Whether a message, by its place, is somebody else's by now.
    fn is_lost(&self, place: usize) -> bool;

    /// Completes once nothing more is to be begun: what has not been is put back. Never, unless its holder says so.
    fn closing(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    fn is_closing(&self) -> bool {
        false
    }

    /// Does what was answered to messages, by their places.
    fn put_away(&self, answers: Vec<(usize, Answer)>) -> impl Future<Output = ()> + Send;
}

pub(crate) struct Protocol {
    seam: Seam,
    cancelled: Arc<Cancelled>,
}

/// A message at hand.
struct Task<'a> {
    /// Its place among those that are handled together.
    place: usize,
    index: usize,
    stage: &'a StageDefinition,
    fan_in: u32,
    attempt: u32,
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
    Map,
    Bundle(Box<dyn Unpack>),
    Reduce(Box<Reduction>),
}

impl Protocol {
    pub(crate) fn new(seam: Seam, cancel_check: Duration) -> Self {
        Self {
            seam,
            cancelled: Arc::new(Cancelled::new(cancel_check)),
        }
    }

    /// The same with another way to the backend, and what it knows of runs.
    #[cfg(feature = "lambda")]
    pub(crate) fn over(&self, seam: Seam) -> Self {
        Self {
            seam,
            cancelled: Arc::clone(&self.cancelled),
        }
    }

    pub(crate) async fn acknowledge(
        &self,
        stage: usize,
        receipts: Vec<Receipt>,
    ) -> Result<(), String> {
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

    /// Does all of some messages' work, each for itself, and has them put away as they end. Dropped anywhere, it has done
    /// what a crash there would leave: nothing that redelivery does not mend.
    pub(crate) async fn handle(
        &self,
        index: usize,
        deliveries: &[Delivery],
        limits: &Limits,
        holder: &impl Holder,
    ) {
        let Some(stage) = self.seam.shared.definition.stage(index) else {
            let answers =
                (0..deliveries.len()).map(|place| (place, Answer::Release(Duration::ZERO)));
            return holder.put_away(answers.collect()).await;
        };
        let mut settling = FuturesUnordered::<BoxFuture<'_, ()>>::new();
        let mut tasks = VecDeque::with_capacity(deliveries.len());
        let mut answers = Vec::new();
        for (place, delivery) in deliveries.iter().enumerate() {
            match self.task(index, stage, place, delivery) {
                Ok(task) => tasks.push_back(task),
                Err(answer) => answers.push((place, answer)),
            }
        }
        if !answers.is_empty() {
            holder.worked(answers.len());
            settling.push(Box::pin(holder.put_away(answers)));
        }
        while !tasks.is_empty() {
            if holder.is_closing() {
                let unbegun = tasks.drain(..).map(|task| (task, Outcome::NotBegun));
                settling.push(Box::pin(self.settle(unbegun.collect(), holder)));
                break;
            }
            let (ready, ended) = self.prepare(&mut tasks).await;
            if !ended.is_empty() {
                holder.worked(ended.len());
                settling.push(Box::pin(self.settle(ended, holder)));
            }
            self.compute(stage, ready, limits, holder, &mut settling)
                .await;
        }
        while settling.next().await.is_some() {}
    }

    fn task<'a>(
        &self,
        index: usize,
        stage: &'a StageDefinition,
        place: usize,
        delivery: &Delivery,
    ) -> Result<Task<'a>, Answer> {
        match self.seam.shared.carrier.read_message(&delivery.body) {
            Ok(message) => Ok(Task {
                place,
                index,
                stage,
                fan_in: message.fan_in,
                attempt: delivery.receive_count.max(1) + message.earlier_attempts(),
                message,
            }),
            Err(problem) => Err(self.unreadable(stage, delivery, problem)),
        }
    }

    /// What becomes of a message whose work was stopped before its end: that was a failed attempt.
    #[cfg(feature = "lambda")]
    pub(crate) async fn stopped(&self, index: usize, delivery: &Delivery, problem: &str) -> Answer {
        let Some(stage) = self.seam.shared.definition.stage(index) else {
            return Answer::Release(Duration::ZERO);
        };
        match self.task(index, stage, 0, delivery) {
            Ok(task) => {
                let failures = vec![ItemFailure::whole(problem)];
                self.failed(&task, &task.message, failures).await
            }
            Err(answer) => answer,
        }
    }

    fn kind_of(&self, stage: usize) -> Option<&StageKind> {
        let stage = self.seam.shared.definition.stage(stage)?;
        Some(&stage.kind)
    }
}

/// How a message's work ended.
enum Outcome {
    /// There was nothing left to do.
    Done,
    /// It is to be put back.
    NotBegun,
    /// It could not be computed.
    Failed(Failures),
    /// It was computed.
    Computed(Then, Computed),
}

/// What repeating cannot mend.
fn refused(problem: impl Into<String>) -> Failures {
    vec![ItemFailure::permanent(problem)]
}

/// The backend will not have it: what may pass has been retried already.
fn seam(problem: String) -> Failures {
    refused(problem)
}
