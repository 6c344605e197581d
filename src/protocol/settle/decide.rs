//! Deciding what messages cause, by how their work ended.

use std::sync::Arc;

use super::{Effect, Failed, InFlight, Slot};
use crate::compute::step::{Computed, Failures, Output, Stopped};
use crate::core::generation::RunKey;
use crate::core::id::PacketId;
use crate::core::tree;
use crate::packet::codec::{self, Payload};
use crate::packet::{Bundle, LeftOut, MapWork, Message, Packet, Work, length};
use crate::pipeline::definition::StageKind;
use crate::protocol::bundle::Unpack;
use crate::protocol::{Answer, Outcome, Owner, Protocol, Reduction, Task, Then, refused};
use crate::scratchpad::{GroupId, Members};

/// Messages, by what is to become of them.
pub(super) struct Decided<'a> {
    /// Answers to those that cause nothing.
    pub(super) answers: Vec<(usize, Answer)>,
    pub(super) causing: Vec<Caused<'a>>,
    pub(super) failed: Vec<Failed<'a>>,
}

/// A message and what it causes.
pub(super) struct Caused<'a> {
    pub(super) message: InFlight<'a>,
    pub(super) effect: Effect,
}

impl Protocol {
    /// Decides what messages cause. Those that another worker has by now are left to it.
    pub(super) async fn decide<'a>(
        &self,
        outcomes: Vec<(Task<'a>, Outcome)>,
        owner: &impl Owner,
    ) -> Decided<'a> {
        let mut decided = Decided {
            answers: Vec::with_capacity(outcomes.len()),
            causing: Vec::with_capacity(outcomes.len()),
            failed: Vec::new(),
        };
        let mut unbegun = Vec::new();
        for (task, outcome) in outcomes {
            if owner.is_lost(task.place) {
                continue;
            }
            match outcome {
                Outcome::Done => decided.answers.push((task.place, Answer::Ack)),
                Outcome::NotBegun => unbegun.push(task),
                Outcome::Failed(failures) => decided.failed.push(Failed { task, failures }),
                Outcome::GoesBack(failures, wait) => {
                    let place = task.place;
                    match self.go_back(&task, failures, wait).await {
                        Ok(answer) => decided.answers.push((place, answer)),
                        Err(failures) => decided.failed.push(Failed { task, failures }),
                    }
                }
                Outcome::Computed(then, computed) => {
                    let effect = self.effect(&task, &then, computed).await;
                    let message = InFlight { task, then };
                    match effect {
                        Ok(effect) => decided.causing.push(Caused { message, effect }),
                        Err(failures) => decided.failed.push(message.failed(failures)),
                    }
                }
            }
        }
        self.withdraw(unbegun.iter()).await;
        let unbegun = unbegun.into_iter();
        let unbegun = unbegun.map(|task| (task.place, Answer::HandBack));
        decided.answers.extend(unbegun);
        decided
    }

    async fn effect(
        &self,
        task: &Task<'_>,
        then: &Then,
        computed: Computed,
    ) -> Result<Effect, Failures> {
        let output = match (then, computed) {
            (_, Ok(output)) => output,
            (Then::Bundle(packets, _), Err(Stopped::Failed(failures))) => {
                return self.unpack(task, packets.as_ref(), failures).await;
            }
            (_, Err(Stopped::Failed(failures))) => return Err(failures),
            (_, Err(Stopped::Again)) => {
                return Err(refused(
                    "its items were not tried again: please report this",
                ));
            }
        };
        match (then, &task.message.work) {
            (Then::Map(_), Work::Map(work)) => self.mapped(task, work, output).await,
            (Then::Bundle(..), Work::Bundle(bundle)) if bundle.sizes.len() == 1 => {
                self.mapped(task, &bundle.whole, output).await
            }
            (Then::Bundle(..), Work::Bundle(bundle)) => self.bundled(task, bundle, output.value),
            (Then::Reduce(reduction), _) => self.reduced(task, reduction, output.value).await,
            (Then::Map(_) | Then::Bundle(..), _) => Err(refused("its work is of another kind")),
        }
    }

    /// A packet has been mapped.
    async fn mapped(
        &self,
        task: &Task<'_>,
        work: &MapWork,
        output: Output,
    ) -> Result<Effect, Failures> {
        let has_limit = task.stage.options.on_failure.has_limit();
        // An earlier delivery may have left items out, and ended before it was known whether that is tolerated.
        if !output.skipped.is_empty() || (has_limit && output.left_out > 0) {
            self.skip(task, work, &output.skipped).await?;
        }
        let left_out = output.left_out;
        // The counts are those that the message declares.
        let contains = work.packet.contains.checked_sub(left_out);
        let skipped = work.packet.skipped.checked_add(left_out);
        let Some((contains, skipped)) = contains.zip(skipped) else {
            return Err(refused(
                "packetContains or packetSkipped does not agree with the items of packetValue",
            ));
        };
        let mut listed = work.packet.left_out.clone();
        let items = output.units_left_out.iter();
        let items = items.filter_map(|unit| task.item(*unit));
        listed.add(&LeftOut::of(
            &task.stage.name,
            work.packet.packet_id.index,
            items,
        ));
        let counters = &self.seam.site.counters;
        counters.left_out(task.index, left_out);
        counters.mapped(task.index, contains);
        let packet = Packet {
            run: work.packet.run.clone(),
            packet_id: work.packet.packet_id,
            value: output.value,
            array_length: work.packet.array_length,
            contains,
            skipped,
            left_out: listed,
        };
        let next = task.index + 1;
        match self.kind_of(next) {
            Some(StageKind::Map(_)) => {
                let work = MapWork {
                    packet,
                    offset: work.offset,
                    yields: output.yields,
                };
                self.message(next, task.fan_in, work)
            }
            Some(StageKind::Reduce(_)) => self.arrival(next, task.fan_in, packet),
            // After a reduction, which was held against the run before. That this message is what became of it is its own word.
            None => Ok(match self.check_whole(packet).await? {
                Some(packet) => Effect::Complete(packet),
                None => Effect::Nothing,
            }),
        }
    }

    /// A bundle came to a value.
    fn bundled(
        &self,
        task: &Task<'_>,
        bundle: &Bundle,
        value: Payload,
    ) -> Result<Effect, Failures> {
        let packet = Packet {
            packet_id: bundle.node(task.fan_in),
            ..bundle.whole.packet.around(value)
        };
        let tree = self.tree_of(task)?;
        let counters = &self.seam.site.counters;
        counters.mapped_by_all(task.index..tree, packet.contains);
        counters.reduced_unasked(tree);
        self.arrival(tree, task.fan_in, packet)
    }

    /// The place of the reduction at which a bundle's packets arrive. It may go through several map stages in one pass.
    fn tree_of(&self, task: &Task<'_>) -> Result<usize, Failures> {
        let definition = &self.seam.site.definition;
        let reduction = definition.reduction_from(task.index);
        reduction.ok_or_else(|| refused("no reduction follows"))
    }

    /// A bundle came to no value: its packets go on one by one, unless it has failed as any other message.
    async fn unpack(
        &self,
        task: &Task<'_>,
        packets: &dyn Unpack,
        failures: Failures,
    ) -> Result<Effect, Failures> {
        let Some(unpacked) = packets.unpack(&failures) else {
            return Err(failures);
        };
        if let Some(name) = unpacked.failed {
            self.note_attempt(task, name, &failures).await;
        }
        let tree = self.tree_of(task)?;
        let counters = &self.seam.site.counters;
        let items = unpacked.done.iter().map(|packet| packet.contains).sum();
        counters.mapped_by_all(task.index..tree, items);
        let done = unpacked.done.into_iter();
        let done = done.map(|packet| self.slot(tree, task.fan_in, packet));
        let done: Result<_, Failures> = done.collect();
        Ok(Effect::Unpack(done?, unpacked.again))
    }

    /// A group has been reduced.
    async fn reduced(
        &self,
        task: &Task<'_>,
        reduction: &Reduction,
        value: Payload,
    ) -> Result<Effect, Failures> {
        self.seam.site.counters.reduced(task.index);
        let packet = reduction.whole.around(value);
        if !reduction.root {
            return self.arrival(task.index, task.fan_in, packet);
        }
        let Some(packet) = self.check_whole(packet).await? else {
            return Ok(Effect::Nothing);
        };
        self.check_tolerance(task, &packet)?;
        let next = task.index + 1;
        if self.kind_of(next).is_none() {
            return Ok(Effect::Complete(packet));
        }
        let value = codec::list_of_one(&packet.value);
        let work = MapWork {
            packet: Packet {
                packet_id: PacketId::leaf(0),
                value,
                ..packet
            },
            offset: 0,
            yields: None,
        };
        self.message(next, task.fan_in, work)
    }

    /// The last line of defence: the root, and whatever completes the run, must stand for the whole array. `None` if the run's
    /// id has become another one's.
    async fn check_whole(&self, packet: Packet) -> Result<Option<Packet>, Failures> {
        // Before the status, which then says whether the run was over.
        let signed_length = self.signed_length(&packet.run).await?;
        let scratchpad = self.seam.site.scratchpad();
        let status = self
            .seam
            .scratchpad("status", || scratchpad.status(&packet.run.id));
        let Some(snapshot) = status.await.map_err(refused)? else {
            return Ok(Some(packet));
        };
        if snapshot.record.generation != packet.run.generation {
            return Ok(None);
        }
        let Some(array_length) = snapshot.record.array_length else {
            return Err(refused("the root was sealed before the array was measured"));
        };
        if packet.contains.checked_add(packet.skipped) != Some(array_length) {
            return Err(refused(crate::Error::Integrity {
                run: packet.run.id,
                contains: packet.contains,
                skipped: packet.skipped,
                array_length,
            }));
        }
        if let Some(declared) = packet.array_length
            && declared != array_length
        {
            return Err(refused(format!(
                "arrayLength is {declared} in the partial results of run {}, and {array_length} on record",
                packet.run.id
            )));
        }
        // Of a run that is over nothing is kept, and nothing is written.
        if let Some(kept) = signed_length
            && snapshot.result.is_none()
            && !snapshot.cancelled
        {
            let carrier = &self.seam.site.carrier;
            let checked = carrier.check_length(&packet.run, array_length, &kept);
            checked.map_err(refused)?;
        }
        Ok(Some(Packet {
            array_length: Some(array_length),
            ..packet
        }))
    }

    /// What the run's submitter has signed of its length. `None` if nothing is signed.
    async fn signed_length(&self, run: &RunKey) -> Result<Option<Members>, Failures> {
        let site = &self.seam.site;
        match site.definition.reductions().next() {
            Some(first) if site.carrier.signs() => self
                .members(&length::group(run, &first.name))
                .await
                .map(Some),
            _ => Ok(None),
        }
    }

    /// Holds the items that were left out against the policies once more: the length of a stream was unknown before, and a
    /// later stage may have left out items since.
    fn check_tolerance(&self, task: &Task<'_>, packet: &Packet) -> Result<(), Failures> {
        let before = self.seam.site.definition.stages().iter();
        let before = before.take(task.index);
        for stage in before.filter(|stage| !stage.is_reduction()) {
            let policy = stage.options.on_failure;
            if policy.has_limit() && !policy.tolerates(packet.skipped, packet.array_length) {
                return Err(refused(format!(
                    "{} of {} items were left out, more than stage `{}` tolerates",
                    packet.skipped,
                    packet.array_length.unwrap_or_default(),
                    stage.name
                )));
            }
        }
        Ok(())
    }

    /// A partial result on its way into its slot of the tree.
    fn arrival(&self, stage: usize, fan_in: u32, packet: Packet) -> Result<Effect, Failures> {
        let (slot, packet) = self.slot(stage, fan_in, packet)?;
        Ok(Effect::Arrive(slot, packet))
    }

    fn slot(&self, stage: usize, fan_in: u32, packet: Packet) -> Result<(Slot, Packet), Failures> {
        let Some(definition) = self.seam.site.definition.stage(stage) else {
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
        let Some(definition) = self.seam.site.definition.stage(stage) else {
            return Err(refused(format!("there is no stage {stage}")));
        };
        Ok(Effect::Send(Message {
            stage: Arc::clone(&definition.name),
            fan_in,
            work: Work::Map(work),
        }))
    }
}
