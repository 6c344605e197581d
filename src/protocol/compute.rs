//! Looking up what messages need and running the functions of their stage, for many messages at once.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use super::beginning::{Beginnings, May};
use super::bundle::Begun;
use super::{Outcome, Owner, Protocol, Step, Task, Then, refused};
use crate::compute::pool::Ended;
use crate::compute::step::{Computation, Computed, Failures, Limits, Output, Stopped};
use crate::packet::MapWork;
use crate::packet::codec::Payload;
use crate::pipeline::definition::{StageDefinition, StageKind};
use crate::stage::{Context, Execution};

/// Bytes of groups' members that are read before they are combined, one group at least.
const MEMBERS_AT_ONCE: usize = 4 * 1024 * 1024;

/// Messages with all that their computation needs, and those that need none.
#[derive(Default)]
struct Prepared<'a> {
    ready: Vec<(Task<'a>, Step)>,
    ended: Vec<(Task<'a>, Outcome)>,
}

impl<'a> Prepared<'a> {
    fn add(&mut self, task: Task<'a>, step: Result<Option<Step>, Failures>) {
        match step {
            Ok(Some(Step::Reduce(reduction, members))) if members.len() == 1 => {
                let value = members.into_iter().next().unwrap_or_else(Payload::null);
                let computed = Ok(Output::plain(value));
                let outcome = Outcome::Computed(Then::Reduce(reduction), computed);
                self.ended.push((task, outcome));
            }
            Ok(Some(step)) => self.ready.push((task, step)),
            Ok(None) => self.ended.push((task, Outcome::Done)),
            Err(failures) => self.ended.push((task, Outcome::Failed(failures))),
        }
    }
}

/// Work that has been begun.
enum Started {
    /// It is a job for the threads for CPU-bound work.
    Job(Then, Arc<Computation>),
    /// It has ended.
    Computed(Then, Computed),
    /// It was dropped: its run is cancelled, or done.
    Over,
    /// It cannot be done.
    Refused(&'static str),
}

/// Jobs and the messages that wait for them, by the same index.
struct Batch<'a> {
    jobs: Vec<Arc<Computation>>,
    waiting: Vec<Option<(Task<'a>, Then)>>,
}

impl Protocol {
    /// Looks up what the next messages need for their computation, as many of them as can be computed together. Returns
    /// those that are ready, and the outcomes of those that need no computation.
    pub(super) async fn prepare<'a>(
        &self,
        tasks: &mut VecDeque<Task<'a>>,
    ) -> (Vec<(Task<'a>, Step)>, Vec<(Task<'a>, Outcome)>) {
        let is_reduction = tasks.front().is_some_and(|task| task.stage.is_reduction());
        let Prepared { ready, ended } = match is_reduction {
            true => self.prepare_groups(tasks).await,
            false => self.prepare_packets(std::mem::take(tasks).into()).await,
        };
        (ready, ended)
    }

    async fn prepare_packets<'a>(&self, tasks: Vec<Task<'a>>) -> Prepared<'a> {
        let steps = self.packets(&tasks).await;
        let mut prepared = Prepared {
            ready: Vec::with_capacity(tasks.len()),
            ended: Vec::new(),
        };
        for (task, step) in tasks.into_iter().zip(steps) {
            prepared.add(task, step);
        }
        prepared
    }

    /// Reads as many groups as fit into [`MEMBERS_AT_ONCE`]. The size of the first one tells how many those may be.
    async fn prepare_groups<'a>(&self, tasks: &mut VecDeque<Task<'a>>) -> Prepared<'a> {
        let mut prepared = Prepared::default();
        let (mut room, mut count) = (MEMBERS_AT_ONCE, 1);
        while count > 0 {
            let batch: Vec<Task<'a>> = tasks.drain(..count.min(tasks.len())).collect();
            let steps = join_all(batch.iter().map(|task| self.step(task))).await;
            let mut largest = 0;
            for (task, step) in batch.into_iter().zip(steps) {
                if let Ok(Some(Step::Reduce(_, members))) = &step
                    && members.len() != 1
                {
                    let size: usize = members.iter().map(Payload::size).sum();
                    largest = largest.max(size);
                    room = room.saturating_sub(size);
                }
                prepared.add(task, step);
            }
            // While their size is unknown, one after the other.
            count = room.checked_div(largest).unwrap_or(1).min(tasks.len());
        }
        prepared
    }

    /// Computes, and begins to settle what has ended while the rest goes on.
    pub(super) async fn compute<'a>(
        &'a self,
        stage: &'a StageDefinition,
        ready: Vec<(Task<'a>, Step)>,
        limits: &'a Limits,
        owner: &'a impl Owner,
        settling: &mut FuturesUnordered<BoxFuture<'a, ()>>,
    ) {
        let mut unbegun = Vec::new();
        let mut paced = Vec::with_capacity(ready.len());
        for (task, step) in ready {
            keep_pace(stage, &step, limits, owner).await;
            if owner.is_lost(task.place) {
                // It waited for its turn, and is another worker's by now.
                owner.worked(1, 0);
            } else if owner.is_closing() {
                unbegun.push((task, Outcome::NotBegun));
            } else {
                paced.push((task, step));
            }
        }
        if !unbegun.is_empty() {
            settling.push(Box::pin(self.settle(unbegun, owner)));
        }
        let Beginnings {
            begun,
            suspects,
            ended,
        } = self.begin_again(paced).await;
        if !ended.is_empty() {
            owner.worked(ended.len(), 0);
            settling.push(Box::pin(self.settle(ended, owner)));
        }
        // An asynchronous packet is not at work while its items wait, and begins each by itself.
        let begins_itself = stage.execution == Execution::Async && !stage.is_reduction();
        match self.notes_beginnings() && !begins_itself {
            _ if begun.is_empty() => {}
            true => {
                self.run_among_others(stage, begun, limits, owner, settling)
                    .await;
            }
            false => {
                self.run(stage, begun, limits, owner, settling, false).await;
            }
        }
        for suspect in suspects {
            self.run_alone(stage, suspect, limits, owner, settling)
                .await;
        }
    }

    /// Runs the function of one message that has outlived a process, while no other such message of this worker is under
    /// way, and settles it.
    async fn run_alone<'a>(
        &'a self,
        stage: &'a StageDefinition,
        (mut task, mut step, is_exclusive): (Task<'a>, Step, bool),
        limits: &'a Limits,
        owner: &'a impl Owner,
        settling: &mut FuturesUnordered<BoxFuture<'a, ()>>,
    ) {
        let mut turn = Box::pin(async {
            let alone = self.suspects.lock().await;
            let (quiet, others) = match is_exclusive {
                true => (Some(self.quiet.write().await), None),
                false => (None, self.among_others().await),
            };
            (alone, quiet, others)
        });
        let turn = loop {
            tokio::select! {
                biased;
                () = owner.closing() => break None,
                turn = &mut turn => break Some(turn),
                Some(()) = settling.next() => {}
            }
        };
        if turn.is_none() || owner.is_closing() {
            let unbegun = vec![(task, Outcome::NotBegun)];
            settling.push(Box::pin(self.settle(unbegun, owner)));
            return;
        }
        if owner.is_lost(task.place) {
            owner.worked(1, 0);
        } else if let May::NotBegin(outcome) = self.note_beginning(&mut task, None).await {
            owner.worked(1, 0);
            settling.push(Box::pin(self.settle(vec![(task, outcome)], owner)));
        } else {
            step.set_attempt(&task);
            let mut work = Box::pin(self.work_alone(stage, task, step, limits, owner));
            loop {
                tokio::select! {
                    biased;
                    () = &mut work => break,
                    Some(()) = settling.next() => {}
                }
            }
        }
    }

    /// As [`run`](Self::run), once no message is at work that has to be alone.
    async fn run_among_others<'a>(
        &'a self,
        stage: &'a StageDefinition,
        begun: Vec<(Task<'a>, Step)>,
        limits: &'a Limits,
        owner: &'a impl Owner,
        settling: &mut FuturesUnordered<BoxFuture<'a, ()>>,
    ) {
        let mut others = Box::pin(self.among_others());
        let others = loop {
            tokio::select! {
                biased;
                others = &mut others => break Some(others),
                () = owner.closing() => break None,
                Some(()) = settling.next() => {}
            }
        };
        if others.is_none() {
            let unbegun = begun.into_iter();
            let unbegun = unbegun.map(|(task, _)| (task, Outcome::NotBegun));
            settling.push(Box::pin(self.settle(unbegun.collect(), owner)));
            return;
        }
        self.run(stage, begun, limits, owner, settling, false).await;
    }

    /// Works on a message that has outlived a process, to its end: a packet's items one at a time.
    async fn work_alone(
        &self,
        stage: &StageDefinition,
        task: Task<'_>,
        step: Step,
        limits: &Limits,
        owner: &impl Owner,
    ) {
        if let (StageKind::Map(map), Step::Map(input)) = (&stage.kind, &step)
            && stage.works_on_items
        {
            let pass = map.pass(input.clone());
            task.received.pass.get_or_init(|| Arc::clone(&pass));
            let then = Then::Map(pass);
            let at_work = self.at_work(&task, limits, owner, true);
            return self.one_by_one(task, then, at_work).await;
        }
        let mut settling = FuturesUnordered::new();
        let begun = vec![(task, step)];
        self.run(stage, begun, limits, owner, &mut settling, true)
            .await;
        while settling.next().await.is_some() {}
    }

    /// Runs the functions of messages, and begins to settle what has ended while the rest goes on.
    async fn run<'a>(
        &'a self,
        stage: &'a StageDefinition,
        begun: Vec<(Task<'a>, Step)>,
        limits: &'a Limits,
        owner: &'a impl Owner,
        settling: &mut FuturesUnordered<BoxFuture<'a, ()>>,
        is_alone: bool,
    ) {
        let mut batch = Batch {
            jobs: Vec::with_capacity(begun.len()),
            waiting: Vec::with_capacity(begun.len()),
        };
        for (task, step) in begun {
            match self.begin(stage, &task, step, limits, owner).await {
                Started::Job(then, job) => {
                    batch.jobs.push(job);
                    batch.waiting.push(Some((task, then)));
                }
                Started::Computed(then, Err(Stopped::Again)) => {
                    let at_work = self.at_work(&task, limits, owner, is_alone);
                    settling.push(Box::pin(self.go_on(task, then, at_work)));
                }
                Started::Computed(then, computed) => {
                    owner.worked(1, 0);
                    let outcome = vec![(task, Outcome::Computed(then, computed))];
                    settling.push(Box::pin(self.settle(outcome, owner)));
                }
                Started::Over => {
                    owner.worked(1, 0);
                    let outcome = vec![(task, Outcome::Done)];
                    settling.push(Box::pin(self.settle(outcome, owner)));
                }
                Started::Refused(problem) => {
                    owner.worked(1, 0);
                    let outcome = vec![(task, Outcome::Failed(refused(problem)))];
                    settling.push(Box::pin(self.settle(outcome, owner)));
                }
            }
        }
        if owner.is_closing() {
            // The owner has given back the rest by now, and would begin what is queued after that.
            let queued = batch.waiting.drain(..).flatten();
            let unbegun: Vec<_> = queued.map(|(task, _)| (task, Outcome::NotBegun)).collect();
            batch.jobs.clear();
            if !unbegun.is_empty() {
                settling.push(Box::pin(self.settle(unbegun, owner)));
            }
        }
        self.run_jobs(batch, limits, owner, settling, is_alone)
            .await;
    }

    /// Begins the work on a message. An asynchronous function has ended when this returns.
    async fn begin(
        &self,
        stage: &StageDefinition,
        task: &Task<'_>,
        step: Step,
        limits: &Limits,
        owner: &impl Owner,
    ) -> Started {
        let is_async = stage.execution == Execution::Async;
        match (&stage.kind, step) {
            (_, Step::Bundle(Begun { job, packets, pass })) => {
                Started::Job(Then::Bundle(packets, pass), job)
            }
            (StageKind::Map(map), Step::Map(input)) => {
                let pass = map.pass(input);
                task.received.pass.get_or_init(|| Arc::clone(&pass));
                match is_async {
                    true => {
                        let host = self.at_work(task, limits, owner, false);
                        let note = |failures| self.note(task, failures).boxed();
                        tokio::select! {
                            biased;
                            computed = pass.side_by_side(limits, &host, &note) => {
                                Started::Computed(Then::Map(pass), computed)
                            }
                            () = self.cancelled.when(task.message.run()) => Started::Over,
                        }
                    }
                    false => {
                        let job = pass.round();
                        Started::Job(Then::Map(pass), job)
                    }
                }
            }
            (StageKind::Reduce(reduce), Step::Reduce(reduction, members)) => {
                let run = task.message.run().id.clone();
                let context = Context::new(run, Arc::clone(&stage.name), task.attempt);
                let form = self.seam.site.carrier.form();
                let then = Then::Reduce(reduction);
                match is_async {
                    true => tokio::select! {
                        biased;
                        computed = reduce.run(members, context, form, limits) => {
                            Started::Computed(then, computed)
                        }
                        () = self.cancelled.when(task.message.run()) => Started::Over,
                    },
                    false => Started::Job(then, reduce.job(members, context, form)),
                }
            }
            (StageKind::Map(_), Step::Reduce(..)) => {
                Started::Refused("a group came to a stage that works on items")
            }
            (StageKind::Reduce(_), Step::Map(_)) => {
                Started::Refused("a packet of items came to a reduction")
            }
        }
    }

    /// Waits for jobs, and begins to settle those that have ended.
    async fn run_jobs<'a>(
        &'a self,
        batch: Batch<'a>,
        limits: &'a Limits,
        owner: &'a impl Owner,
        settling: &mut FuturesUnordered<BoxFuture<'a, ()>>,
        is_alone: bool,
    ) {
        let Batch { jobs, mut waiting } = batch;
        let mut running = limits.cpu.run(limits.stage, jobs, limits.timeout);
        let mut is_closed = false;
        loop {
            let ended = tokio::select! {
                biased;
                ended = running.next() => ended,
                () = owner.closing(), if !is_closed => {
                    is_closed = true;
                    running.cancel_queued();
                    continue;
                }
                Some(()) = settling.next() => continue,
            };
            if ended.is_empty() {
                return;
            }
            owner.worked(ended.len(), self.bytes_sent_on(limits.stage, &ended));
            let mut outcomes = Vec::with_capacity(ended.len());
            for (place, ended) in ended {
                if let Some((task, then)) = waiting.get_mut(place).and_then(Option::take) {
                    let outcome = match ended {
                        Ended::Done(Err(Stopped::Again)) if then.pass().is_some() => {
                            let mut at_work = self.at_work(&task, limits, owner, is_alone);
                            at_work.has_left = true;
                            settling.push(Box::pin(self.go_on(task, then, at_work)));
                            continue;
                        }
                        Ended::Done(computed) => Outcome::Computed(then, computed),
                        Ended::NotBegun => Outcome::NotBegun,
                    };
                    outcomes.push((task, outcome));
                }
            }
            settling.push(Box::pin(self.settle(outcomes, owner)));
        }
    }

    /// Bytes of the outputs of a stage, if another map stage follows.
    fn bytes_sent_on(&self, stage: usize, ended: &[(usize, Ended<Computed>)]) -> usize {
        let Some(StageKind::Map(_)) = self.kind_of(stage + 1) else {
            return 0;
        };
        let outputs = ended.iter().map(|(_, ended)| match ended {
            Ended::Done(Ok(output)) => output.value.size(),
            Ended::Done(Err(_)) | Ended::NotBegun => 0,
        });
        outputs.sum()
    }
}

/// Waits until the stage's rate limit lets the work begin, unless the owner is closing. An asynchronous map stage paces
/// its items itself, and no stage with a rate limit has bundles.
async fn keep_pace(stage: &StageDefinition, step: &Step, limits: &Limits, owner: &impl Owner) {
    let Some(pace) = &limits.pace else {
        return;
    };
    let items = match step {
        Step::Map(_) if stage.execution == Execution::Async => return,
        Step::Map(input) => input.work().map_or(1, |work| values(work, stage)),
        Step::Bundle(_) | Step::Reduce(..) => 1,
    };
    tokio::select! {
        biased;
        () = pace.wait(items) => {}
        () = owner.closing() => {}
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
