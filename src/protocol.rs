//! The steps of a message, once, for every kind of worker. Each step is idempotent, and the answer to
//! acknowledge comes only after everything that the message causes is durable.

mod cancelled;
mod failure;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::codec;
use crate::definition::{StageDefinition, StageKind};
use crate::packet::{MapWork, Message, Packet, PacketId, ReduceWork, Work};
use crate::queue::{Delivery, Receipt};
use crate::scratchpad::{Arrival, GroupId, GroupState, Members};
use crate::seam::{Partial, Seam};
use crate::stage::{CombineStep, Context, Input, ItemFailure, Limits, MapStep, OnFailure};
use crate::tree;

use cancelled::Cancelled;
pub(crate) use failure::now;

/// What is to be done with a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// All that it causes is durable.
    Acknowledge,
    /// It failed and has attempts left.
    Release(Duration),
    /// It is a dead letter, for this reason.
    Bury(String),
}

/// What went wrong with a message: at least one entry.
type Failures = Vec<ItemFailure>;

pub(crate) struct Protocol {
    seam: Seam,
    cancelled: Cancelled,
}

/// The message at hand.
struct Task<'a> {
    index: usize,
    stage: &'a StageDefinition,
    fan_in: u32,
    attempt: u32,
    limits: &'a Limits,
    /// Called when the user's function is done with it, and only reading and writing are left.
    worked: &'a (dyn Fn() + Sync),
}

impl Protocol {
    pub(crate) fn new(seam: Seam, cancel_check: Duration) -> Self {
        Self {
            seam,
            cancelled: Cancelled::new(cancel_check),
        }
    }

    pub(crate) async fn acknowledge(&self, stage: usize, receipt: Receipt) -> Result<(), String> {
        self.seam.acknowledge(stage, receipt).await
    }

    /// Does all of a message's work, and tells by `worked` when what is left of it is only reading and writing. Dropped
    /// anywhere, it has done what a crash there would leave: nothing that redelivery does not mend.
    pub(crate) async fn handle(
        &self,
        index: usize,
        delivery: &Delivery,
        limits: &Limits,
        worked: &(dyn Fn() + Sync),
    ) -> Answer {
        let Some(stage) = self.seam.shared.definition.stage(index) else {
            return Answer::Release(Duration::ZERO);
        };
        let message = match Message::decode(&delivery.body) {
            Ok(message) => message,
            Err(problem) => return self.unreadable(stage, delivery, problem),
        };
        if self.cancelled.check(&self.seam, message.array_id()).await {
            tracing::debug!(array_id = %message.array_id(), work = message.name(), "run is over");
            return Answer::Acknowledge;
        }
        let task = Task {
            index,
            stage,
            fan_in: message.fan_in,
            attempt: delivery.receive_count.max(1),
            limits,
            worked,
        };
        match self.work(&task, &message).await {
            Ok(()) => Answer::Acknowledge,
            Err(failures) => self.failed(&task, &message, failures).await,
        }
    }

    async fn work(&self, task: &Task<'_>, message: &Message) -> Result<(), Failures> {
        let stage = task.stage;
        if *message.stage != *stage.name {
            return Err(refused(format!(
                "the message is for stage `{}`, but came to the queue of stage `{}`",
                message.stage, stage.name
            )));
        }
        if task.attempt > stage.options.queue.attempts {
            // Acknowledgements may have been lost time and again: what is done is no failure.
            if self.is_done(task, message).await? {
                return Ok(());
            }
            return Err(refused(format!(
                "delivered {} times and never finished: each time the worker died, lost the message or handed it back",
                task.attempt
            )));
        }
        match (&message.work, &stage.kind) {
            (Work::Map(work), StageKind::Map(step)) => self.map(task, work, step.as_ref()).await,
            (Work::Reduce(work), StageKind::Reduce(step)) => {
                self.reduce(task, work, step.as_ref()).await
            }
            (Work::Map(_), _) => Err(refused("a packet of items came to a reduction")),
            (Work::Reduce(_), _) => Err(refused("a group came to a stage that works on items")),
        }
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
        self.send_message(stage, &Message::reduce(group, fan_in))
            .await
    }

    /// Runs the function over the items → the next stage, or this packet's slot in the tree.
    async fn map(
        &self,
        task: &Task<'_>,
        work: &MapWork,
        step: &dyn MapStep,
    ) -> Result<(), Failures> {
        let policy = task.stage.options.on_failure;
        let may_skip = policy != OnFailure::Fail;
        let last = task.attempt >= task.stage.options.queue.attempts;
        let input = |lenient| Input {
            work,
            context: Context::new(
                work.packet.array_id.clone(),
                Arc::clone(&task.stage.name),
                task.attempt,
            ),
            limits: task.limits,
            lenient,
            of_items: task.stage.works_on_items,
        };
        let output = match step.run(input(may_skip && last)).await {
            Err(failures) if may_skip && !last && failures.iter().any(|f| f.permanent) => {
                step.run(input(true)).await?
            }
            outcome => outcome?,
        };
        (task.worked)();
        if !output.skipped.is_empty() {
            self.skip(task, work, &output.skipped).await?;
        }
        let skipped = output.skipped.len() as u64;
        let packet = Packet {
            value: output.value,
            contains: work.packet.contains.saturating_sub(skipped),
            skipped: work.packet.skipped + skipped,
            ..work.packet.clone()
        };
        let next = task.index + 1;
        match self.kind_of(next) {
            Some(StageKind::Map(_)) => {
                let work = MapWork {
                    packet,
                    offset: work.offset,
                    yields: output.yields,
                };
                self.send(next, task.fan_in, Work::Map(work)).await
            }
            Some(StageKind::Reduce(_)) => self.arrive(next, task.fan_in, &packet).await,
            None => self.complete(&packet).await,
        }
    }

    /// Reads the group → combines its members in slot order → the parent's slot, or the result → retires
    /// the group.
    async fn reduce(
        &self,
        task: &Task<'_>,
        work: &ReduceWork,
        step: &dyn CombineStep,
    ) -> Result<(), Failures> {
        let group = GroupId {
            array_id: work.array_id.clone(),
            stage: Arc::clone(&task.stage.name),
            level: work.level,
            index: work.group,
        };
        let (state, values) = match self.members(&group).await? {
            Members::Retired => return Ok(()),
            Members::Present { state, values } => (state, values),
        };
        if !state.is_ready(task.fan_in) {
            // Whoever's write makes it complete sends this message again.
            tracing::warn!(%group, ?state, "a group was to be reduced before it was complete");
            return Ok(());
        }
        let packet = self.combine(task, &group, state, values, step).await?;
        if !state.root {
            self.arrive(task.index, task.fan_in, &packet).await?;
        } else {
            let packet = self.check_root(task, packet).await?;
            let next = task.index + 1;
            match self.kind_of(next) {
                None => self.complete(&packet).await?,
                Some(_) => {
                    let work = MapWork {
                        packet: Packet {
                            packet_id: PacketId::leaf(0),
                            value: codec::list_of_one(&packet.value),
                            ..packet
                        },
                        offset: 0,
                        yields: None,
                    };
                    self.send(next, task.fan_in, Work::Map(work)).await?;
                }
            }
        }
        let scratchpad = self.seam.shared.scratchpad();
        self.seam
            .scratchpad("retire", || scratchpad.retire(&group))
            .await
            .map_err(seam)
    }

    async fn combine(
        &self,
        task: &Task<'_>,
        group: &GroupId,
        state: GroupState,
        values: Vec<(u32, Bytes)>,
        step: &dyn CombineStep,
    ) -> Result<Packet, Failures> {
        let in_order = values.iter().map(|(slot, _)| *slot).eq(0..state.arrived);
        if !in_order {
            // Another may just be retiring the group: the message comes back, and finds it retired.
            return Err(vec![ItemFailure::whole(format!(
                "group {group}: {} of {} values could be read",
                values.len(),
                state.arrived
            ))]);
        }
        let mut whole = Packet {
            array_id: group.array_id.clone(),
            packet_id: PacketId {
                level: group.level,
                index: group.index,
            },
            value: Bytes::new(),
            array_length: None,
            contains: 0,
            skipped: 0,
        };
        let mut partials = Vec::with_capacity(values.len());
        for (slot, bytes) in &values {
            let packet = Packet::decode(bytes)
                .map_err(|error| refused(format!("group {group}, slot {slot}: {error:?}")))?;
            whole.array_length = whole.array_length.or(packet.array_length);
            whole.contains = whole.contains.saturating_add(packet.contains);
            whole.skipped = whole.skipped.saturating_add(packet.skipped);
            partials.push(packet.value);
        }
        let context = Context::new(
            group.array_id.clone(),
            Arc::clone(&task.stage.name),
            task.attempt,
        );
        let combined = step.combine(partials, context, task.limits).await;
        (task.worked)();
        whole.value = combined.map_err(|failure| vec![failure])?;
        Ok(whole)
    }

    /// The last line of defence: the root must stand for the whole array.
    async fn check_root(&self, task: &Task<'_>, packet: Packet) -> Result<Packet, Failures> {
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

    /// Stores a partial result in its slot; if that completes the group, asks for its reduction.
    async fn arrive(&self, stage: usize, fan_in: u32, packet: &Packet) -> Result<(), Failures> {
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
        let arrival = Arrival {
            group,
            slot,
            value: packet
                .encode()
                .map_err(|error| refused(error.to_string()))?,
        };
        let partial = Partial {
            arrival,
            stage,
            fan_in,
        };
        self.seam.arrive(partial).await.map_err(seam)
    }

    async fn send(&self, stage: usize, fan_in: u32, work: Work) -> Result<(), Failures> {
        let Some(definition) = self.seam.shared.definition.stage(stage) else {
            return Err(refused(format!("there is no stage {stage}")));
        };
        let message = Message {
            stage: Arc::clone(&definition.name),
            fan_in,
            work,
        };
        self.send_message(stage, &message).await
    }

    async fn send_message(&self, stage: usize, message: &Message) -> Result<(), Failures> {
        let body = message
            .encode()
            .map_err(|error| refused(error.to_string()))?;
        self.seam.send(stage, body).await.map_err(seam)
    }

    async fn complete(&self, packet: &Packet) -> Result<(), Failures> {
        let result = packet
            .encode()
            .map_err(|error| refused(error.to_string()))?;
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

/// What repeating cannot mend.
fn refused(problem: impl Into<String>) -> Failures {
    vec![ItemFailure::permanent(problem)]
}

/// The backend will not have it: what may pass has been retried already.
fn seam(problem: String) -> Failures {
    refused(problem)
}
