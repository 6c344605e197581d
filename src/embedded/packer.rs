//! Which packets are sent as a bundle: those of full groups, if there are many groups and their functions are quick.

use std::sync::Arc;

use super::bundle::Bundles;
use crate::core::cores::cores;
use crate::core::cut::Cut;
use crate::packet::{Bundle, Message, Work};
use crate::pipeline::definition::{Definition, StageDefinition};
use crate::protocol::bundle::Packer;
use crate::stage::OnFailure;

/// Largest total size of a group that is sent as one message.
const GROUP_BYTES: usize = 256 * 1024;
/// Minimum number of groups per core before bundling pays: with fewer, single packets keep all cores busy.
const GROUPS_PER_CORE: u64 = 4;
/// Packets per block, about, if they are bundled; and while the queue is full.
const PACKETS: u64 = 32;
const PACKETS_WHILE_FULL: u64 = 256;
/// After a group had to be split, send this many groups packet by packet before trying again.
const ALONE: u64 = 2;

/// The groups of one submission.
pub(super) struct Groups {
    bundles: Arc<Bundles>,
    /// Packets per group.
    group: u64,
    /// The first packet that may be bundled: of a stream, nobody knows at first whether there will be many.
    from: u64,
    /// Groups that had been split when last checked.
    split: usize,
}

impl Groups {
    /// `None` if the first stage and its reduction do not allow bundles, or if there are too few packets.
    pub(super) fn new(
        bundles: Arc<Bundles>,
        definition: &Definition,
        packets: Option<u64>,
    ) -> Option<Self> {
        let reduction = definition.reductions().next()?;
        let group = u64::from(reduction.options.fan_in);
        let many = GROUPS_PER_CORE * cores() as u64;
        let are_many = packets.is_none_or(|packets| packets / group >= many);
        let stages = definition.before_reduction();
        let may_bundle = stages
            .into_iter()
            .all(|map| may_bundle(definition.stage(0), map, reduction));
        (are_many && may_bundle && bundles.row(definition).is_some()).then(|| Self {
            split: bundles.split(),
            bundles,
            group,
            from: packets.map_or(many * group, |_| 0),
        })
    }
}

/// Whether a bundle's work at a map stage is the same as that of its packets: an item that fails fails the run, but not at
/// its first attempt, and no stage has a pace to keep, or works on less at once than the first one.
fn may_bundle(
    first: Option<&StageDefinition>,
    map: &StageDefinition,
    reduction: &StageDefinition,
) -> bool {
    let (map, reduce) = (&map.options, &reduction.options);
    let at_once = first.map_or(usize::MAX, |first| first.options.concurrency);
    map.on_failure == OnFailure::Fail
        && map.queue.attempts > 1
        && map.rate_limit.is_none()
        && map.concurrency >= at_once
        && reduce.rate_limit.is_none()
        && reduce.concurrency >= at_once
}

/// Bytes of neighbouring packets.
fn bytes(packets: &[Cut]) -> usize {
    let begin = packets.first().map_or(0, |first| first.bytes.start);
    packets.last().map_or(0, |last| last.bytes.end) - begin
}

impl Packer for Groups {
    fn is_full(&self, waiting: &[Cut], is_large: bool, queue_was_full: bool) -> Option<bool> {
        let (first, last) = (waiting.first()?, waiting.last()?);
        let begin = last.packet - last.packet % self.group;
        if begin < first.packet.max(self.from) {
            return None;
        }
        let before = usize::try_from(begin - first.packet).ok()?;
        if bytes(waiting.get(before..)?) > GROUP_BYTES {
            return None;
        }
        if !(last.packet + 1).is_multiple_of(self.group) {
            // Its group is not full yet.
            return Some(false);
        }
        // Whole groups. Blocks end at the same packets whatever came before, so that a short one does not make the next
        // longer.
        let packets = match queue_was_full {
            false => PACKETS,
            true => PACKETS_WHILE_FULL,
        };
        let block = (packets / self.group).max(1) * self.group;
        Some(is_large || (last.packet + 1).is_multiple_of(block))
    }

    fn next(&mut self, waiting: &[Cut]) -> Option<usize> {
        let first = waiting.first()?.packet;
        // More groups have been split; others were sent before it was known how long they take.
        let split = self.bundles.split();
        if split > self.split {
            let alone = ALONE * (split - self.split) as u64;
            self.split = split;
            self.from = self.from.max(first + alone * self.group);
        }
        if first < self.from || !first.is_multiple_of(self.group) {
            return None;
        }
        let count = usize::try_from(self.group).ok()?;
        (bytes(waiting.get(..count)?) <= GROUP_BYTES).then_some(count)
    }

    fn pack(&self, message: &mut Message, packets: &[Cut]) {
        if let Work::Map(whole) = &message.work {
            message.work = Work::Bundle(Bundle {
                whole: whole.clone(),
                // The items of a bundle fit into GROUP_BYTES.
                sizes: packets.iter().map(|cut| cut.items.len() as u32).collect(),
                earlier: None,
            });
        }
    }
}
