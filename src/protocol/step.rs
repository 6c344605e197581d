//! What there is to compute for a message, and what that needs.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;

use super::cancelled::Standing;
use super::{Protocol, Reduction, Step, Task, refused};
use crate::compute::step::{Before, Failures, Input, ItemFailure, Terms};
use crate::core::error::{Error, Result as OurResult};
use crate::core::generation::RunKey;
use crate::core::id::PacketId;
use crate::core::name;
use crate::core::tree;
use crate::packet::codec::Payload;
use crate::packet::{LeftOut, Message, Packet, Place, ReduceWork, Work};
use crate::pipeline::definition::StageKind;
use crate::queue::Outgoing;
use crate::scratchpad::{GroupId, Members};
use crate::stage::{Context, OnFailure};

const GROUP_FOR_ITEMS: &str = "a group came to a stage that works on items";
const ITEMS_FOR_GROUPS: &str = "a packet of items came to a reduction";

impl Protocol {
    /// As [`step`](Self::step) for each, with one look at each run.
    pub(super) async fn packets(&self, tasks: &[Task<'_>]) -> Vec<Result<Option<Step>, Failures>> {
        self.look_up_runs(tasks).await;
        let mut steps = Vec::with_capacity(tasks.len());
        let mut last: Option<(&RunKey, Option<u64>)> = None;
        for task in tasks {
            let run = task.message.run();
            if last.is_none_or(|(last, _)| last != run) {
                last = match self.cancelled.known(run) {
                    Some(Standing::UnderWay(length)) => Some((run, length)),
                    _ => None,
                };
            }
            let is_retried = task.attempt > task.stage.options.queue.attempts;
            steps.push(match last {
                Some((_, length)) if !is_retried => self.map_step(task, length),
                _ => self.step(task).await,
            });
        }
        steps
    }

    /// Looks up all runs of which nothing is known yet, at the same time.
    async fn look_up_runs(&self, tasks: &[Task<'_>]) {
        let mut last: Option<&RunKey> = None;
        let mut unknown = BTreeSet::new();
        for task in tasks {
            let run = task.message.run();
            if last != Some(run) {
                last = Some(run);
                if self.cancelled.known(run).is_none() {
                    unknown.insert(run);
                }
            }
        }
        join_all(unknown.iter().map(|run| self.cancelled.check(run))).await;
    }

    /// What there is to compute for a message. `None`: it has nothing left to do.
    pub(super) async fn step(&self, task: &Task<'_>) -> Result<Option<Step>, Failures> {
        let (stage, message) = (task.stage, &task.message);
        let length = match self.cancelled.check(message.run()).await {
            Standing::UnderWay(length) => length,
            standing => {
                // Whatever run it is of, it came to the wrong queue, and its sender had better know.
                if standing == Standing::Unknown {
                    self.check_stage(task)?;
                }
                tracing::debug!(run = %message.run().id, work = message.name(), ?standing, "there is nothing to do for a message's run");
                return Ok(None);
            }
        };
        self.check_stage(task)?;
        if task.attempt > stage.options.queue.attempts {
            if self.is_done(task, message).await? {
                return Ok(None);
            }
            return Err(refused(format!(
                "delivered {} times and never finished",
                task.attempt
            )));
        }
        match &message.work {
            Work::Reduce(work) if stage.is_reduction() => self.group(task, work).await,
            Work::Reduce(_) => Err(refused(GROUP_FOR_ITEMS)),
            Work::Map(_) | Work::Bundle(_) => self.map_step(task, length),
        }
    }

    /// `length` is that of the run's array, as far as it is known.
    fn map_step(&self, task: &Task<'_>, length: Option<u64>) -> Result<Option<Step>, Failures> {
        let (stage, message) = (task.stage, &task.message);
        self.check_stage(task)?;
        check_length(message, length)?;
        let run = message.run().id.clone();
        let input = Input {
            message: message.clone(),
            form: self.seam.site.carrier.form(),
            context: Context::new(run, Arc::clone(&stage.name), task.attempt),
            terms: self.terms(task),
            of_items: stage.works_on_items,
        };
        match (&message.work, &self.seam.site.bundling) {
            (Work::Bundle(_), Some(bundling)) => {
                let definition = &self.seam.site.definition;
                let begun = Arc::clone(bundling).begin(definition, stage, input)?;
                Ok(Some(Step::Bundle(begun)))
            }
            (Work::Bundle(_), None) => Err(refused("this deployment knows no bundles")),
            _ => Ok(Some(Step::Map(input))),
        }
    }

    /// What becomes of a packet's items that fail.
    fn terms(&self, task: &Task<'_>) -> Terms {
        let options = &task.stage.options;
        let earlier = match &task.message.work {
            Work::Bundle(bundle) => bundle.earlier,
            Work::Map(_) | Work::Reduce(_) => None,
        };
        let before = earlier.map(|(unit, failed)| Before {
            unit,
            failed,
            ended: None,
        });
        Terms {
            attempts: options.queue.attempts,
            leaves_out: options.on_failure != OnFailure::Fail,
            backoff: self.backoff(task.stage),
            before: before.into_iter().collect(),
            whole_failed: task.attempt - 1,
        }
    }

    /// Whether all that the message causes is durable already, as far as the tree tells. If only the
    /// group's reduction is still to be asked for, asks for it.
    pub(super) async fn is_done(
        &self,
        task: &Task<'_>,
        message: &Message,
    ) -> Result<bool, Failures> {
        let (run, node) = match &message.work {
            Work::Map(work) => (&work.packet.run, work.packet.packet_id),
            Work::Bundle(bundle) => (message.run(), bundle.node(task.fan_in)),
            Work::Reduce(work) => {
                let group = GroupId::new(
                    work.run.clone(),
                    Arc::clone(&task.stage.name),
                    work.level,
                    work.group,
                );
                return Ok(self.members(&group).await? == Members::Retired);
            }
        };
        let next = task.index + 1;
        let (Some(StageKind::Reduce(_)), Some(reduction)) =
            (self.kind_of(next), self.seam.site.definition.stage(next))
        else {
            return Ok(false);
        };
        let PacketId { level, index } = node;
        let (level, index, slot) = tree::parent(level, index, task.fan_in);
        let group = GroupId::new(run.clone(), Arc::clone(&reduction.name), level, index);
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

    pub(super) async fn members(&self, group: &GroupId) -> Result<Members, Failures> {
        let scratchpad = self.seam.site.scratchpad();
        self.seam
            .scratchpad("members", || scratchpad.members(group))
            .await
            .map_err(refused)
    }

    async fn ask_for_reduction(
        &self,
        stage: usize,
        fan_in: u32,
        group: &GroupId,
    ) -> Result<(), Failures> {
        let message = Message::reduce(group, fan_in);
        let body = self.seam.site.carrier.write_message(message);
        let body = body.map_err(refused)?;
        let sent: OurResult<()> = self
            .seam
            .send(stage, vec![Outgoing::new(body).run(&group.run.id)])
            .await
            .into_iter()
            .collect();
        sent.map_err(refused)
    }

    /// Reads a group.
    async fn group(&self, task: &Task<'_>, work: &ReduceWork) -> Result<Option<Step>, Failures> {
        let group = GroupId::new(
            work.run.clone(),
            Arc::clone(&task.stage.name),
            work.level,
            work.group,
        );
        let (state, values) = match self.members(&group).await? {
            Members::Retired => return Ok(None),
            Members::Present { state, values } => (state, values),
        };
        // A group's own text has the run's generation, which is not for the reader of an error.
        let name = task.message.name();
        let size = state.expected.unwrap_or(task.fan_in);
        // A packet that the run does not have, as a stranger may write one, has taken a slot that the group does not have.
        let (values, strays): (Vec<_>, Vec<_>) =
            values.into_iter().partition(|(slot, _)| *slot < size);
        let strays = strays.len() as u32;
        let is_whole = state.arrived.saturating_sub(strays) >= size;
        if !state.is_ready(task.fan_in) || !is_whole {
            // Whoever's write makes it complete sends this message again.
            tracing::warn!(run = %group.run.id, work = name, ?state, "a group was to be reduced before it was complete");
            return Ok(None);
        }
        let in_order = values.iter().map(|(slot, _)| *slot).eq(0..size);
        if !in_order {
            // Another may just be retiring the group: the message comes back, and finds it retired.
            return Err(vec![ItemFailure::whole(format!(
                "{name}: {} of {} values could be read",
                values.len(),
                size
            ))]);
        }
        let mut whole = Packet {
            run: group.run.clone(),
            packet_id: PacketId {
                level: group.level,
                index: group.index,
            },
            value: Payload::null(),
            array_length: None,
            contains: 0,
            skipped: 0,
            left_out: LeftOut::default(),
        };
        let mut members = Vec::with_capacity(values.len());
        for (slot, bytes) in &values {
            let place = Place::Slot(&group, *slot);
            let packet = self.seam.site.carrier.read_packet(place, bytes);
            let packet = packet
                .map_err(|error| refused(Error::decode(format!("slot {slot} of {name}"), error)))?;
            if packet.run != group.run {
                return Err(refused(format!(
                    "slot {slot} of {name} has a value of another run, {}",
                    packet.run.id
                )));
            }
            whole.array_length = whole.array_length.or(packet.array_length);
            let contains = whole.contains.checked_add(packet.contains);
            let skipped = whole.skipped.checked_add(packet.skipped);
            let Some((contains, skipped)) = contains.zip(skipped) else {
                let problem = format!("the counts in {name} are more than there can be");
                return Err(refused(problem));
            };
            (whole.contains, whole.skipped) = (contains, skipped);
            whole.left_out.add(&packet.left_out);
            members.push(packet.value.clone());
        }
        let root = state.root;
        let reduction = Reduction { group, root, whole };
        Ok(Some(Step::Reduce(Box::new(reduction), members)))
    }

    /// Refuses a message of another stage of this deployment, or of the other kind, before anything is spent on it.
    fn check_stage(&self, task: &Task<'_>) -> Result<(), Failures> {
        let (stage, message) = (task.stage, &task.message);
        if *message.stage == *stage.name {
            return match (&message.work, stage.is_reduction()) {
                (Work::Reduce(_), false) => Err(refused(GROUP_FOR_ITEMS)),
                (Work::Map(_) | Work::Bundle(_), true) => Err(refused(ITEMS_FOR_GROUPS)),
                _ => Ok(()),
            };
        }
        let site = &self.seam.site;
        let queue = |stage| name::queue(&site.name, stage);
        let advice = match site.definition.position(&message.stage) {
            Some(_) => format!("send it to queue `{}`", queue(&message.stage)),
            None => format!("deployment `{}` has no such stage", site.name),
        };
        Err(refused(format!(
            "the message belongs to stage `{}`, but came to queue `{}`: {advice}",
            message.stage,
            queue(&stage.name),
        )))
    }
}

/// Refuses a message that declares another length of its run's array than is on record, as far as both are known.
fn check_length(message: &Message, length: Option<u64>) -> Result<(), Failures> {
    let Work::Map(work) = &message.work else {
        return Ok(());
    };
    match (work.packet.array_length, length) {
        (Some(declared), Some(length)) if declared != length => Err(refused(format!(
            "arrayLength is {declared}, but run {} has {length} items",
            work.packet.run.id
        ))),
        _ => Ok(()),
    }
}

impl Step {
    /// Tells the function which attempt it is, once that is known.
    pub(super) fn set_attempt(&mut self, task: &Task<'_>) {
        if let Self::Map(input) = self {
            let run = task.message.run().id.clone();
            input.context = Context::new(run, Arc::clone(&task.stage.name), task.attempt);
            input.terms.before = task.before.clone();
            input.terms.whole_failed = task.attempt - 1;
        }
    }
}
