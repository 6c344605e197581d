//! The steps of a message, once, for every kind of worker. Each step is idempotent, and the answer to
//! acknowledge comes only after everything that the message causes is durable.

mod cancelled;
mod failure;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;

use crate::codec::Payload;
use crate::cpu::Ended;
use crate::definition::{StageDefinition, StageKind};
use crate::error::describe;
use crate::local::OneOf;
use crate::packet::{ArrayId, MapWork, Message, Packet, PacketId, Parcel, ReduceWork, Work};
use crate::queue::{Delivery, Receipt};
use crate::scratchpad::{Arrival, GroupId, Members};
use crate::seam::{Partial, Seam};
use crate::stage::{
    Computation, Computed, Context, Execution, Failures, Input, ItemFailure, Leniency, Limits,
    OnFailure, Output,
};
use crate::tree;

use cancelled::Cancelled;
pub(crate) use failure::now;

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

    /// Does what was answered to messages, by their places.
    fn put_away(&self, answers: Vec<(usize, Answer)>) -> impl Future<Output = ()> + Send;
}

pub(crate) struct Protocol {
    seam: Seam,
    cancelled: Cancelled,
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
    whole: Parcel,
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

/// What a message causes.
enum Effect {
    Arrive(Slot, Parcel),
    Send(Message),
    Complete(Parcel),
}

/// Where a partial result goes.
struct Slot {
    stage: usize,
    fan_in: u32,
    group: GroupId,
    slot: u32,
}

impl Protocol {
    pub(crate) fn new(seam: Seam, cancel_check: Duration) -> Self {
        Self {
            seam,
            cancelled: Cancelled::new(cancel_check),
        }
    }

    pub(crate) async fn acknowledge(
        &self,
        stage: usize,
        receipts: Vec<Receipt>,
    ) -> Result<(), String> {
        self.seam.acknowledge(stage, receipts).await
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
            match self.seam.shared.carrier.read_message(&delivery.body) {
                Ok(message) => tasks.push_back(Task {
                    place,
                    index,
                    stage,
                    fan_in: message.fan_in,
                    attempt: delivery.receive_count.max(1),
                    message,
                }),
                Err(problem) => answers.push((place, self.unreadable(stage, delivery, problem))),
            }
        }
        if !answers.is_empty() {
            holder.worked(answers.len());
            settling.push(Box::pin(holder.put_away(answers)));
        }
        while !tasks.is_empty() {
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
        for (task, step) in ready {
            let context = || {
                let array_id = task.message.array_id().clone();
                Context::new(array_id, Arc::clone(&stage.name), task.attempt)
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
                pace.wait(items).await;
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

    /// Makes durable what messages cause, and has them put away.
    async fn settle(&self, outcomes: Vec<(Task<'_>, Outcome)>, holder: &impl Holder) {
        let mut answers = Vec::with_capacity(outcomes.len());
        let mut causing = Vec::with_capacity(outcomes.len());
        let mut failing = Vec::new();
        for (task, outcome) in outcomes {
            if holder.is_lost(task.place) {
                continue;
            }
            match outcome {
                Outcome::Done => answers.push((task.place, Answer::Acknowledge)),
                Outcome::NotBegun => answers.push((task.place, Answer::PutBack)),
                Outcome::Failed(failures) => failing.push((task, failures)),
                Outcome::Computed(_, Err(failures)) => failing.push((task, failures)),
                Outcome::Computed(then, Ok(output)) => {
                    match self.effect(&task, &then, output).await {
                        Ok(effect) => causing.push((task, then, effect)),
                        Err(failures) => failing.push((task, failures)),
                    }
                }
            }
        }
        let (mut arriving, mut packets) = (
            Vec::with_capacity(causing.len()),
            Vec::with_capacity(causing.len()),
        );
        let (mut following, mut messages) = (Vec::new(), Vec::new());
        let mut results = Vec::with_capacity(causing.len());
        for (task, then, effect) in causing {
            match effect {
                Effect::Arrive(slot, packet) => {
                    arriving.push((task, then, slot));
                    packets.push(packet);
                }
                Effect::Send(message) => {
                    following.push((task, then));
                    messages.push(message);
                }
                Effect::Complete(packet) => {
                    let completed = self.complete(&packet).await;
                    results.push((task, then, completed));
                }
            }
        }
        let carrier = &self.seam.shared.carrier;
        let (mut tasks, mut partials) = (
            Vec::with_capacity(arriving.len()),
            Vec::with_capacity(arriving.len()),
        );
        let written = carrier.write_packets(packets);
        for ((task, then, place), value) in arriving.into_iter().zip(written) {
            match value {
                Ok(value) => {
                    let Slot {
                        stage,
                        fan_in,
                        group,
                        slot,
                    } = place;
                    partials.push(Partial {
                        arrival: Arrival { group, slot, value },
                        stage,
                        fan_in,
                    });
                    tasks.push((task, then));
                }
                Err(error) => failing.push((task, refused(error.to_string()))),
            }
        }
        let arrived = self.seam.arrive(partials).await;
        results.extend(
            tasks
                .into_iter()
                .zip(arrived)
                .map(|((task, then), result)| (task, then, result.map_err(seam))),
        );
        let (mut sending, mut bodies) = (Vec::new(), Vec::new());
        let written = carrier.write_messages(messages);
        for ((task, then), body) in following.into_iter().zip(written) {
            match body {
                Ok(body) => {
                    sending.push((task, then));
                    bodies.push(body);
                }
                Err(error) => failing.push((task, refused(error.to_string()))),
            }
        }
        if let Some(next) = sending.first().map(|(task, _)| task.index + 1) {
            let sent = self.seam.send(next, bodies).await;
            results.extend(
                sending
                    .into_iter()
                    .zip(sent)
                    .map(|((task, then), result)| (task, then, result.map_err(seam))),
            );
        }
        let mut retiring = Vec::new();
        for (task, then, result) in results {
            match (result, then) {
                (Ok(()), Then::Map) => answers.push((task.place, Answer::Acknowledge)),
                (Ok(()), Then::Reduce(reduction)) => {
                    retiring.push(async move { (self.retire(&reduction.group).await, task) });
                }
                (Err(failures), _) => failing.push((task, failures)),
            }
        }
        for (result, task) in join_all(retiring).await {
            match result {
                Ok(()) => answers.push((task.place, Answer::Acknowledge)),
                Err(failures) => failing.push((task, failures)),
            }
        }
        if !failing.is_empty() {
            let failed = failing.into_iter().map(|(task, failures)| async move {
                let answer = self.failed(&task, &task.message, failures).await;
                (task.place, answer)
            });
            answers.extend(join_all(failed).await);
        }
        holder.put_away(answers).await;
    }

    /// As [`step`](Self::step) for each, with one look at each run.
    async fn packets(&self, tasks: &[Task<'_>]) -> Vec<Result<Option<Step>, Failures>> {
        let mut steps = Vec::with_capacity(tasks.len());
        let mut last: Option<&ArrayId> = None;
        for task in tasks {
            let array_id = task.message.array_id();
            if last != Some(array_id) {
                last = (self.cancelled.known(array_id) == Some(false)).then_some(array_id);
            }
            let is_plain = last.is_some() && task.attempt <= task.stage.options.queue.attempts;
            steps.push(match is_plain {
                true => self.map_step(task),
                false => self.step(task).await,
            });
        }
        steps
    }

    /// What there is to compute for a message. `None`: it has nothing left to do.
    async fn step(&self, task: &Task<'_>) -> Result<Option<Step>, Failures> {
        let (stage, message) = (task.stage, &task.message);
        if self.cancelled.check(&self.seam, message.array_id()).await {
            tracing::debug!(array_id = %message.array_id(), work = message.name(), "run is over");
            return Ok(None);
        }
        check_stage(task)?;
        if task.attempt > stage.options.queue.attempts {
            // Acknowledgements may have been lost time and again: what is done is no failure.
            if self.is_done(task, message).await? {
                return Ok(None);
            }
            return Err(refused(format!(
                "delivered {} times and never finished: each time the worker died, lost the message or handed it back",
                task.attempt
            )));
        }
        match &message.work {
            Work::Reduce(work) if stage.is_reduction() => self.group(task, work).await,
            Work::Reduce(_) => Err(refused("a group came to a stage that works on items")),
            Work::Map(_) => self.map_step(task),
        }
    }

    fn map_step(&self, task: &Task<'_>) -> Result<Option<Step>, Failures> {
        let (stage, message) = (task.stage, &task.message);
        check_stage(task)?;
        if stage.is_reduction() {
            return Err(refused("a packet of items came to a reduction"));
        }
        let last = task.attempt >= stage.options.queue.attempts;
        let leniency = match stage.options.on_failure {
            OnFailure::Fail => Leniency::Never,
            _ if last => Leniency::Always,
            _ => Leniency::WhenPermanent,
        };
        let array_id = message.array_id().clone();
        Ok(Some(Step::Map(Input {
            message: message.clone(),
            form: self.seam.shared.carrier.form(),
            context: Context::new(array_id, Arc::clone(&stage.name), task.attempt),
            leniency,
            of_items: stage.works_on_items,
        })))
    }

    /// Whether all that the message causes is durable already, as far as the tree tells. If only the
    /// group's reduction is still to be asked for, asks for it.
    async fn is_done(&self, task: &Task<'_>, message: &Message) -> Result<bool, Failures> {
        let work = match &message.work {
            Work::Map(work) => work,
            Work::Reduce(work) => {
                let group = GroupId {
                    array_id: work.array_id.clone(),
                    stage: Arc::clone(&task.stage.name),
                    level: work.level,
                    index: work.group,
                };
                return Ok(self.members(&group).await? == Members::Retired);
            }
        };
        let next = task.index + 1;
        let (Some(StageKind::Reduce(_)), Some(reduction)) =
            (self.kind_of(next), self.seam.shared.definition.stage(next))
        else {
            return Ok(false);
        };
        let PacketId { level, index } = work.packet.packet_id;
        let (level, index, slot) = tree::parent(level, index, task.fan_in);
        let group = GroupId {
            array_id: work.packet.array_id.clone(),
            stage: Arc::clone(&reduction.name),
            level,
            index,
        };
        match self.members(&group).await? {
            Members::Retired => Ok(true),
            Members::Present { state, values } => {
                let arrived = values.iter().any(|(taken, _)| *taken == slot);
                if arrived && state.is_ready(task.fan_in) {
                    self.ask_for_reduction(next, task.fan_in, &group).await?;
                }
                Ok(arrived)
            }
        }
    }

    async fn members(&self, group: &GroupId) -> Result<Members, Failures> {
        let scratchpad = self.seam.shared.scratchpad();
        self.seam
            .scratchpad("members", || scratchpad.members(group))
            .await
            .map_err(seam)
    }

    async fn ask_for_reduction(
        &self,
        stage: usize,
        fan_in: u32,
        group: &GroupId,
    ) -> Result<(), Failures> {
        let message = Message::reduce(group, fan_in);
        let body = self.seam.shared.carrier.write_message(message);
        let body = body.map_err(|error| refused(error.to_string()))?;
        let sent: Result<(), String> = self
            .seam
            .send(stage, vec![body])
            .await
            .into_iter()
            .collect();
        sent.map_err(seam)
    }

    /// Reads a group.
    async fn group(&self, task: &Task<'_>, work: &ReduceWork) -> Result<Option<Step>, Failures> {
        let group = GroupId {
            array_id: work.array_id.clone(),
            stage: Arc::clone(&task.stage.name),
            level: work.level,
            index: work.group,
        };
        let (state, values) = match self.members(&group).await? {
            Members::Retired => return Ok(None),
            Members::Present { state, values } => (state, values),
        };
        if !state.is_ready(task.fan_in) {
            // Whoever's write makes it complete sends this message again.
            tracing::warn!(%group, ?state, "a group was to be reduced before it was complete");
            return Ok(None);
        }
        let in_order = values.iter().map(|(slot, _)| *slot).eq(0..state.arrived);
        if !in_order {
            // Another may just be retiring the group: the message comes back, and finds it retired.
            return Err(vec![ItemFailure::whole(format!(
                "group {group}: {} of {} values could be read",
                values.len(),
                state.arrived
            ))]);
        }
        let mut whole = Parcel {
            array_id: group.array_id.clone(),
            packet_id: PacketId {
                level: group.level,
                index: group.index,
            },
            value: Payload::null(),
            array_length: None,
            contains: 0,
            skipped: 0,
        };
        let mut members = Vec::with_capacity(values.len());
        for (slot, bytes) in &values {
            let packet = self
                .seam
                .shared
                .carrier
                .read_packet(bytes)
                .map_err(|error| refused(format!("group {group}, slot {slot}: {error:?}")))?;
            whole.array_length = whole.array_length.or(packet.array_length);
            whole.contains = whole.contains.saturating_add(packet.contains);
            whole.skipped = whole.skipped.saturating_add(packet.skipped);
            members.push(packet.value.clone());
        }
        let root = state.root;
        let reduction = Reduction { group, root, whole };
        Ok(Some(Step::Reduce(Box::new(reduction), members)))
    }

    /// What is to become of what was computed.
    async fn effect(
        &self,
        task: &Task<'_>,
        then: &Then,
        output: Output,
    ) -> Result<Effect, Failures> {
        let next = task.index + 1;
        match (then, &task.message.work) {
            (Then::Map, Work::Map(work)) => {
                if !output.skipped.is_empty() {
                    self.skip(task, work, &output.skipped).await?;
                }
                let skipped = output.skipped.len() as u64;
                let packet = Packet {
                    array_id: work.packet.array_id.clone(),
                    packet_id: work.packet.packet_id,
                    value: output.value,
                    array_length: work.packet.array_length,
                    contains: work.packet.contains.saturating_sub(skipped),
                    skipped: work.packet.skipped + skipped,
                };
                match self.kind_of(next) {
                    Some(StageKind::Map(_)) => self.message(
                        next,
                        task.fan_in,
                        MapWork {
                            packet,
                            offset: work.offset,
                            yields: output.yields,
                        },
                    ),
                    Some(StageKind::Reduce(_)) => self.arrival(next, task.fan_in, packet),
                    None => Ok(Effect::Complete(packet)),
                }
            }
            (Then::Reduce(reduction), _) => {
                let packet = reduction.whole.around(output.value);
                if !reduction.root {
                    return self.arrival(task.index, task.fan_in, packet);
                }
                let packet = self.check_root(task, packet).await?;
                let StageKind::Reduce(step) = &task.stage.kind else {
                    return Err(refused("a group came to a stage that works on items"));
                };
                match self.kind_of(next) {
                    None => Ok(Effect::Complete(packet)),
                    Some(_) => {
                        let list = step.list_of_one(&packet.value);
                        let packet = Packet {
                            packet_id: PacketId::leaf(0),
                            value: list.map_err(|error| refused(describe(&error)))?,
                            ..packet
                        };
                        let work = MapWork {
                            packet,
                            offset: 0,
                            yields: None,
                        };
                        self.message(next, task.fan_in, work)
                    }
                }
            }
            (Then::Map, Work::Reduce(_)) => {
                Err(refused("a group came to a stage that works on items"))
            }
        }
    }

    async fn retire(&self, group: &GroupId) -> Result<(), Failures> {
        let scratchpad = self.seam.shared.scratchpad();
        self.seam
            .scratchpad("retire", || scratchpad.retire(group))
            .await
            .map_err(seam)
    }

    /// The last line of defence: the root must stand for the whole array.
    async fn check_root(&self, task: &Task<'_>, packet: Parcel) -> Result<Parcel, Failures> {
        let scratchpad = self.seam.shared.scratchpad();
        let status = self
            .seam
            .scratchpad("status", || scratchpad.status(&packet.array_id));
        let Some(snapshot) = status.await.map_err(seam)? else {
            return Ok(packet);
        };
        let Some(array_length) = snapshot.record.array_length else {
            return Err(refused("the root was sealed before the array was measured"));
        };
        if packet.contains.saturating_add(packet.skipped) != array_length {
            return Err(refused(
                crate::Error::Integrity {
                    array_id: packet.array_id,
                    contains: packet.contains,
                    skipped: packet.skipped,
                    array_length,
                }
                .to_string(),
            ));
        }
        // A share can only be judged now where the input was a stream.
        let before = self.seam.shared.definition.stages().iter();
        let before = before.take(task.index);
        for stage in before.filter(|stage| !stage.is_reduction()) {
            let policy = stage.options.on_failure;
            if matches!(policy, OnFailure::TolerateShare(_))
                && !policy.tolerates(packet.skipped, Some(array_length))
            {
                return Err(refused(format!(
                    "{} of {array_length} items were left out, more than stage `{}` tolerates",
                    packet.skipped, stage.name
                )));
            }
        }
        Ok(Packet {
            array_length: Some(array_length),
            ..packet
        })
    }

    fn kind_of(&self, stage: usize) -> Option<&StageKind> {
        let stage = self.seam.shared.definition.stage(stage)?;
        Some(&stage.kind)
    }

    /// A partial result on its way into its slot of the tree.
    fn arrival(&self, stage: usize, fan_in: u32, packet: Parcel) -> Result<Effect, Failures> {
        let Some(definition) = self.seam.shared.definition.stage(stage) else {
            return Err(refused(format!("there is no stage {stage}")));
        };
        let PacketId { level, index } = packet.packet_id;
        let (level, index, slot) = tree::parent(level, index, fan_in);
        let group = GroupId {
            array_id: packet.array_id.clone(),
            stage: Arc::clone(&definition.name),
            level,
            index,
        };
        let slot = Slot {
            stage,
            fan_in,
            group,
            slot,
        };
        Ok(Effect::Arrive(slot, packet))
    }

    /// A packet on its way to the next stage.
    fn message(&self, stage: usize, fan_in: u32, work: MapWork) -> Result<Effect, Failures> {
        let Some(definition) = self.seam.shared.definition.stage(stage) else {
            return Err(refused(format!("there is no stage {stage}")));
        };
        Ok(Effect::Send(Message {
            stage: Arc::clone(&definition.name),
            fan_in,
            work: Work::Map(work),
        }))
    }

    async fn complete(&self, packet: &Parcel) -> Result<(), Failures> {
        let result = self.seam.shared.carrier.write_packet(packet.clone());
        let result = result.map_err(|error| refused(error.to_string()))?;
        let scratchpad = self.seam.shared.scratchpad();
        let complete = self.seam.scratchpad("complete", || {
            scratchpad.complete(&packet.array_id, result.clone())
        });
        if complete.await.map_err(seam)? {
            tracing::debug!(array_id = %packet.array_id, items = packet.contains, "run is done");
        }
        Ok(())
    }
}

fn check_stage(task: &Task<'_>) -> Result<(), Failures> {
    let (stage, message) = (task.stage, &task.message);
    if *message.stage == *stage.name {
        return Ok(());
    }
    Err(refused(format!(
        "the message is for stage `{}`, but came to the queue of stage `{}`",
        message.stage, stage.name
    )))
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

/// What repeating cannot mend.
fn refused(problem: impl Into<String>) -> Failures {
    vec![ItemFailure::permanent(problem)]
}

/// The backend will not have it: what may pass has been retried already.
fn seam(problem: String) -> Failures {
    refused(problem)
}
