//! The steps of a message, once, for every kind of worker. Each step is idempotent, and the answer to
//! acknowledge comes only after everything that the message causes is durable.

mod batcher;
mod cancelled;
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
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;

use crate::compute::pool::Ended;
use crate::compute::step::{Computation, Computed, Failures, Input, ItemFailure, Limits, Output};
use crate::core::error::BoxError;
use crate::core::one_of::OneOf;
use crate::packet::codec::Payload;
use crate::packet::{MapWork, Message, Packet};
use crate::pipeline::definition::{StageDefinition, StageKind};
use crate::queue::{Delivery, Receipt};
use crate::scratchpad::GroupId;
use crate::stage::{Context, Execution};
use seam::Seam;

use cancelled::Cancelled;

/// Bytes of groups' members that are read before they are combined, one group at least.
const MEMBERS_AT_ONCE: usize = 4 * 1024 * 1024;

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
    Reduce(Box<Reduction>, Vec<Payload>),
}

/// What is to be done with what was computed.
enum Then {
    Map,
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
                attempt: delivery.receive_count.max(1) + message.tried(),
                message,
            }),
            Err(malformed) => Err(self.unreadable(stage, delivery, &malformed)),
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

    /// Takes the next messages as far as they can be computed together, and looks up what that needs. What needs no
    /// computing has its outcome.
    async fn prepare<'a>(
        &self,
        tasks: &mut VecDeque<Task<'a>>,
    ) -> (Vec<(Task<'a>, Step)>, Vec<(Task<'a>, Outcome)>) {
        let (mut ready, mut ended) = (Vec::with_capacity(tasks.len()), Vec::new());
        let mut room = MEMBERS_AT_ONCE;
        let mut count = tasks.len();
        let is_reduction = tasks.front().is_some_and(|task| task.stage.is_reduction());
        if is_reduction {
            // The first tells how large they are.
            count = 1;
        }
        while count > 0 {
            let batch: Vec<Task<'a>> = tasks.drain(..count.min(tasks.len())).collect();
            let steps = match is_reduction {
                true => join_all(batch.iter().map(|task| self.step(task))).await,
                false => self.packets(&batch).await,
            };
            let mut largest = 0;
            for (task, step) in batch.into_iter().zip(steps) {
                match step {
                    Ok(Some(Step::Reduce(reduction, members))) if members.len() == 1 => {
                        let value = members.into_iter().next();
                        let value = value.unwrap_or_else(Payload::null);
                        let then = Then::Reduce(reduction);
                        ended.push((task, Outcome::Computed(then, Ok(Output::plain(value)))));
                    }
                    Ok(Some(step)) => {
                        if let Step::Reduce(_, members) = &step {
                            let size: usize = members.iter().map(Payload::size).sum();
                            largest = largest.max(size);
                            room = room.saturating_sub(size);
                        }
                        ready.push((task, step));
                    }
                    Ok(None) => ended.push((task, Outcome::Done)),
                    Err(failures) => ended.push((task, Outcome::Failed(failures))),
                }
            }
            count = match is_reduction {
                // As long as nobody knows how large they are, one after the other.
                true => room.checked_div(largest).unwrap_or(1).min(tasks.len()),
                false => 0,
            };
        }
        (ready, ended)
    }

    /// Computes, and has settled what has ended while the rest goes on.
    async fn compute<'a>(
        &'a self,
        stage: &'a StageDefinition,
        ready: Vec<(Task<'a>, Step)>,
        limits: &Limits,
        holder: &'a impl Holder,
        settling: &mut FuturesUnordered<BoxFuture<'a, ()>>,
    ) {
        let form = self.seam.shared.carrier.form();
        let mut waiting = Vec::with_capacity(ready.len());
        let mut jobs: Vec<Arc<Computation>> = Vec::with_capacity(ready.len());
        let mut unbegun = Vec::new();
        for (task, step) in ready {
            let context = || {
                let run = task.message.run().clone();
                Context::new(run, Arc::clone(&stage.name), task.attempt)
            };
            let (then, input) = match step {
                Step::Map(input) => (Then::Map, Ok(input)),
                Step::Reduce(reduction, members) => (Then::Reduce(reduction), Err(members)),
            };
            let runs_here = stage.execution == Execution::Async;
            if let Some(pace) = &limits.pace
                && !(runs_here && input.is_ok())
            {
                let items = match &input {
                    Ok(input) => input.work().map_or(1, |work| values(work, stage)),
                    Err(_) => 1,
                };
                tokio::select! {
                    biased;
                    () = pace.wait(items) => {}
                    () = holder.closing() => {}
                }
            }
            if holder.is_closing() {
                unbegun.push((task, Outcome::NotBegun));
                continue;
            }
            let computed = match (&stage.kind, input) {
                (StageKind::Map(map), Ok(input)) if runs_here => map.run(input, limits).await,
                (StageKind::Map(map), Ok(input)) => {
                    jobs.push(map.job(input));
                    waiting.push(Some((task, then)));
                    continue;
                }
                (StageKind::Reduce(reduce), Err(members)) if runs_here => {
                    reduce.run(members, context(), form, limits).await
                }
                (StageKind::Reduce(reduce), Err(members)) => {
                    jobs.push(reduce.job(members, context(), form));
                    waiting.push(Some((task, then)));
                    continue;
                }
                (StageKind::Map(_), Err(_)) => {
                    Err(refused("a group came to a stage that works on items"))
                }
                (StageKind::Reduce(_), Ok(_)) => {
                    Err(refused("a packet of items came to a reduction"))
                }
            };
            holder.worked(1);
            settling.push(Box::pin(
                self.settle(vec![(task, Outcome::Computed(then, computed))], holder),
            ));
        }
        if holder.is_closing() {
            // What it has queued meanwhile would be begun after it gave back the rest.
            let queued = waiting.drain(..).flatten();
            unbegun.extend(queued.map(|(task, _)| (task, Outcome::NotBegun)));
            jobs.clear();
        }
        if !unbegun.is_empty() {
            settling.push(Box::pin(self.settle(unbegun, holder)));
        }
        let mut running = limits.cpu.run(limits.stage, jobs, limits.timeout);
        loop {
            let ended = tokio::select! {
                biased;
                ended = running.next() => ended,
                Some(()) = settling.next() => continue,
            };
            if ended.is_empty() {
                return;
            }
            holder.worked(ended.len());
            let mut outcomes = Vec::with_capacity(ended.len());
            for (place, ended) in ended {
                let Some((task, then)) = waiting.get_mut(place).and_then(Option::take) else {
                    continue;
                };
                outcomes.push((
                    task,
                    match ended {
                        Ended::Done(computed) => Outcome::Computed(then, computed),
                        Ended::NotBegun => Outcome::NotBegun,
                    },
                ));
            }
            settling.push(Box::pin(self.settle(outcomes, holder)));
        }
    }

    fn kind_of(&self, stage: usize) -> Option<&StageKind> {
        let stage = self.seam.shared.definition.stage(stage)?;
        Some(&stage.kind)
    }
}

/// How many values a packet has for a stage.
fn values(work: &MapWork, stage: &StageDefinition) -> u64 {
    match &work.yields {
        Some(yields) => yields.iter().map(|count| u64::from(*count)).sum(),
        None if stage.works_on_items => work.packet.contains,
        None => 1,
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

/// A failure that another attempt cannot change. An error of the backend is one: if it was retryable, the call has been
/// repeated already.
fn refused(error: impl Into<BoxError>) -> Failures {
    vec![ItemFailure::permanent(error)]
}
