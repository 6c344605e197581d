//! What a message causes, made durable before it is acknowledged.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::future::join_all;

use super::seam::Partial;
use super::{Answer, Holder, Outcome, Protocol, Task, Then, refused};
use crate::compute::step::{Failures, Output};
use crate::core::error::{Error, Result as OurResult};
use crate::core::id::PacketId;
use crate::core::tree;
use crate::packet::codec::Payload;
use crate::packet::tickets::MESSAGE_BYTES;
use crate::packet::{MapWork, Message, Packet, Work};
use crate::pipeline::definition::StageKind;
use crate::queue::Outgoing;
use crate::scratchpad::{Arrival, GroupId};
use crate::stage::OnFailure;

/// What a message causes.
enum Effect {
    Arrive(Slot, Packet),
    Send(Message),
    /// Of packets that travelled together: partial results of the first, and messages for the others.
    Apart(Vec<(Slot, Packet)>, Vec<Message>),
    Complete(Packet),
}

/// Where a partial result goes.
struct Slot {
    stage: usize,
    fan_in: u32,
    group: GroupId,
    slot: u32,
}

impl Slot {
    fn filled(self, value: Bytes) -> Partial {
        let Self {
            stage,
            fan_in,
            group,
            slot,
        } = self;
        Partial {
            arrival: Arrival { group, slot, value },
            stage,
            fan_in,
        }
    }
}

impl Protocol {
    /// Makes durable what messages cause, and has them put away.
    pub(super) async fn settle(&self, outcomes: Vec<(Task<'_>, Outcome)>, holder: &impl Holder) {
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
                Outcome::Computed(then, Err(failures)) => {
                    match self.part_after(&task, &failures).await {
                        Some(Ok(effect)) => causing.push((task, then, effect)),
                        Some(Err(failures)) => failing.push((task, failures)),
                        None => failing.push((task, failures)),
                    }
                }
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
                Effect::Apart(partials, messages) => {
                    let done = self.go_apart(task.index, partials, messages).await;
                    results.push((task, then, done));
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
        for ((task, then, slot), value) in arriving.into_iter().zip(written) {
            match value {
                Ok(value) => {
                    partials.push(slot.filled(value));
                    tasks.push((task, then));
                }
                Err(error) => failing.push((task, refused(error))),
            }
        }
        let arrived = self.seam.arrive(partials).await;
        results.extend(
            tasks
                .into_iter()
                .zip(arrived)
                .map(|((task, then), result)| (task, then, result.map_err(refused))),
        );
        let (mut sending, mut bodies) = (Vec::new(), Vec::new());
        let written = carrier.write_messages(messages);
        for ((task, then), body) in following.into_iter().zip(written) {
            match body {
                Ok(body) => {
                    sending.push((task, then));
                    bodies.push(Outgoing::new(body));
                }
                Err(error) => failing.push((task, refused(error))),
            }
        }
        if let Some(next) = sending.first().map(|(task, _)| task.index + 1) {
            let sent = self.seam.send(next, bodies).await;
            results.extend(
                sending
                    .into_iter()
                    .zip(sent)
                    .map(|((task, then), result)| (task, then, result.map_err(refused))),
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
                // Several values of one item may have failed.
                let skipped: BTreeSet<_> =
                    output.skipped.iter().map(|failed| failed.item).collect();
                let skipped = skipped.len() as u64;
                if let Some(partials) = output.apart {
                    let went_apart = &self.seam.shared.went_apart;
                    went_apart.fetch_add(1, Ordering::Relaxed);
                    return self.apart(task, work, partials, None);
                }
                let packet = Packet {
                    run: work.packet.run.clone(),
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
                            together: Vec::new(),
                            tried: 0,
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
                            value: list.map_err(refused)?,
                            ..packet
                        };
                        let work = MapWork {
                            packet,
                            offset: 0,
                            yields: None,
                            together: Vec::new(),
                            tried: 0,
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

    /// A failure of packets that travel together is one packet's: each goes on by itself, with attempts of its own. `None`
    /// where it cannot be mended so.
    async fn part_after(
        &self,
        task: &Task<'_>,
        failures: &Failures,
    ) -> Option<Result<Effect, Failures>> {
        let Work::Map(work) = &task.message.work else {
            return None;
        };
        let is_last = task.attempt >= task.stage.options.queue.attempts;
        if work.together.is_empty() || is_last || failures.iter().any(|failure| failure.permanent) {
            return None;
        }
        let item = failures.first().and_then(|failure| failure.item);
        let failed = item.and_then(|item| work.packet_of(item));
        if let Some(failed) = failed {
            let first = work.packet.packet_id.index * u64::from(task.fan_in);
            let name = format!("packet {}", first + failed as u64);
            self.note_attempt(task, name, failures).await;
        }
        Some(self.apart(task, work, Vec::new(), failed))
    }

    /// Packets that travelled together go on by themselves: the first so many with their partial results. An attempt at one of
    /// them may have failed.
    fn apart(
        &self,
        task: &Task<'_>,
        work: &MapWork,
        partials: Vec<Payload>,
        failed: Option<usize>,
    ) -> Result<Effect, Failures> {
        let Payload::Part(list, items) = &work.packet.value else {
            return Err(refused("packets that travel together stay in the process"));
        };
        let mut partials = partials.into_iter();
        let (mut arriving, mut messages) = (Vec::new(), Vec::new());
        let first = work.packet.packet_id.index * u64::from(task.fan_in);
        let (mut begin, mut offset) = (items.start, work.offset);
        for (place, count) in work.together.iter().enumerate() {
            let packet = first + place as u64;
            let now = u32::from(failed == Some(place));
            let end = begin + *count as usize;
            let partial = partials.next();
            let is_done = partial.is_some();
            let packet = Packet {
                packet_id: PacketId::leaf(packet),
                contains: u64::from(*count),
                ..work
                    .packet
                    .around(partial.unwrap_or_else(|| Payload::Part(Arc::clone(list), begin..end)))
            };
            if is_done {
                arriving.push(self.slot(task.index + 1, task.fan_in, packet)?);
            } else {
                messages.push(Message {
                    stage: Arc::clone(&task.message.stage),
                    fan_in: task.fan_in,
                    work: Work::Map(MapWork {
                        packet,
                        offset,
                        yields: None,
                        together: Vec::new(),
                        tried: task.attempt - 1 + now,
                    }),
                });
            }
            (begin, offset) = (end, offset + u64::from(*count));
        }
        Ok(Effect::Apart(arriving, messages))
    }

    async fn go_apart(
        &self,
        stage: usize,
        arriving: Vec<(Slot, Packet)>,
        messages: Vec<Message>,
    ) -> Result<(), Failures> {
        let carrier = &self.seam.shared.carrier;
        let (slots, packets): (Vec<_>, Vec<_>) = arriving.into_iter().unzip();
        let values = carrier.write_packets(packets).into_iter();
        let partials = slots.into_iter().zip(values);
        let partials = partials.map(|(slot, value)| Ok(slot.filled(value?)));
        let partials: OurResult<Vec<Partial>> = partials.collect();
        let held = MESSAGE_BYTES * messages.len();
        let bodies = carrier.write_block(messages, held).into_iter();
        let bodies: OurResult<Vec<Outgoing>> = bodies.map(|body| body.map(Outgoing::new)).collect();
        let partials = partials.map_err(refused)?;
        let bodies = bodies.map_err(refused)?;
        let mut done = self.seam.arrive(partials).await;
        done.extend(self.seam.send(stage, bodies).await);
        let done: OurResult<()> = done.into_iter().collect();
        done.map_err(refused)
    }

    async fn retire(&self, group: &GroupId) -> Result<(), Failures> {
        let scratchpad = self.seam.shared.scratchpad();
        self.seam
            .scratchpad("retire", || scratchpad.retire(group))
            .await
            .map_err(refused)
    }

    /// The last line of defence: the root must stand for the whole array.
    async fn check_root(&self, task: &Task<'_>, packet: Packet) -> Result<Packet, Failures> {
        let scratchpad = self.seam.shared.scratchpad();
        let status = self
            .seam
            .scratchpad("status", || scratchpad.status(&packet.run));
        let Some(snapshot) = status.await.map_err(refused)? else {
            return Ok(packet);
        };
        let Some(array_length) = snapshot.record.array_length else {
            return Err(refused("the root was sealed before the array was measured"));
        };
        if packet.contains.saturating_add(packet.skipped) != array_length {
            return Err(refused(Error::Integrity {
                run: packet.run,
                contains: packet.contains,
                skipped: packet.skipped,
                array_length,
            }));
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

    /// A partial result on its way into its slot of the tree.
    fn arrival(&self, stage: usize, fan_in: u32, packet: Packet) -> Result<Effect, Failures> {
        let (slot, packet) = self.slot(stage, fan_in, packet)?;
        Ok(Effect::Arrive(slot, packet))
    }

    fn slot(&self, stage: usize, fan_in: u32, packet: Packet) -> Result<(Slot, Packet), Failures> {
        let Some(definition) = self.seam.shared.definition.stage(stage) else {
            return Err(refused(format!("there is no stage {stage}")));
        };
        let PacketId { level, index } = packet.packet_id;
        let (level, index, slot) = tree::parent(level, index, fan_in);
        let group = GroupId::new(
            packet.run.clone(),
            Arc::clone(&definition.name),
            level,
            index,
        );
        let slot = Slot {
            stage,
            fan_in,
            group,
            slot,
        };
        Ok((slot, packet))
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

    async fn complete(&self, packet: &Packet) -> Result<(), Failures> {
        let result = self.seam.shared.carrier.write_packet(packet.clone());
        let result = result.map_err(refused)?;
        let scratchpad = self.seam.shared.scratchpad();
        let complete = self.seam.scratchpad("complete", || {
            scratchpad.complete(&packet.run, result.clone())
        });
        if complete.await.map_err(refused)? {
            tracing::debug!(run = %packet.run, items = packet.contains, "run is done");
        }
        Ok(())
    }
}
