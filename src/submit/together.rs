//! Inside the process: packets whose items stay as they are share their memory, and those of a full group may travel as
//! one message.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::cutter::{BATCH_BYTES, BATCH_MESSAGES, Cutter, Leaves, Position, encode_items};
use crate::core::cores::cores;
use crate::core::error::Result;
use crate::core::id::PacketId;
use crate::core::tree;
use crate::packet::codec::{Codec, Payload};
use crate::packet::local;
use crate::packet::tickets::MESSAGE_BYTES;
use crate::packet::{Message, Work};
use crate::protocol::site::Site;
use crate::queue::Outgoing;
use crate::stage::Data;

/// Packets that go on the queue at once where it is full: whoever waits is not kept waiting by more of them.
const WHILE_FULL: u64 = 64;
/// Largest total size of a group that is sent as one message.
const GROUP_BYTES: usize = 256 * 1024;
/// Minimum number of groups per core before grouping pays.
const MANY_GROUPS: u64 = 4;
/// Packets, about, that go on the queue at once where those of a group go together; and while it is full.
const PACKETS: u64 = 32;
const PACKETS_WHILE_FULL: u64 = 256;
/// After a group had to be split, send this many groups ungrouped before trying again.
const ALONE: u64 = 2;

/// Where the items that were pulled are cut into packets.
#[derive(Default)]
pub(super) struct Cuts {
    cuts: Vec<Cut>,
    /// Items up to the end of the last packet.
    end: usize,
    /// The number of packets in a full group, where those may go together.
    group: Option<u64>,
    /// The first packet that may: of a stream nobody knows whether there will be many.
    from: u64,
    /// What the packets of the group at hand take.
    group_bytes: usize,
    /// Groups whose packets did not stay together, when last looked.
    apart: usize,
    /// Items that the last block had.
    usual: usize,
}

/// A packet among the items that were pulled.
struct Cut {
    packet: u64,
    offset: u64,
    items: Range<usize>,
    bytes: usize,
}

impl Cut {
    fn position(&self) -> Position {
        Position {
            packet: self.packet,
            offset: self.offset,
        }
    }
}

impl Cuts {
    /// For so many packets, if that is known.
    pub(super) fn new(packets: Option<u64>, fan_in: u32, may_go_together: bool) -> Self {
        let fan_in = u64::from(fan_in);
        // Where there are but a few groups for each core, packets by themselves keep all of them busy.
        let many = MANY_GROUPS * cores() as u64;
        let together = may_go_together && packets.is_none_or(|packets| packets / fan_in >= many);
        Self {
            group: together.then_some(fan_in),
            from: packets.map_or(many * fan_in, |_| 0),
            ..Self::default()
        }
    }

    /// How many packets there are.
    pub(super) fn len(&self) -> usize {
        self.cuts.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cuts.is_empty()
    }

    /// Items that are in packets.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// The next packet goes up to here.
    fn push(&mut self, packet: u64, offset: u64, end: usize, bytes: usize) {
        if self.group.is_some_and(|group| packet.is_multiple_of(group)) {
            self.group_bytes = 0;
        }
        self.group_bytes += bytes;
        self.cuts.push(Cut {
            packet,
            offset,
            items: self.end..end,
            bytes,
        });
        self.end = end;
    }

    /// Whether there are enough for a call on the queue.
    pub(super) fn is_full(&self, bytes: usize, queue_was_full: bool) -> bool {
        let (Some(first), Some(last)) = (self.cuts.first(), self.cuts.last()) else {
            return false;
        };
        // Where the group at hand begins, if its packets may still go together.
        let group = self.group.filter(|group| {
            let begin = last.packet - last.packet % group;
            begin >= first.packet.max(self.from) && self.group_bytes <= GROUP_BYTES
        });
        if group.is_some_and(|group| !(last.packet + 1).is_multiple_of(group)) {
            return false;
        }
        // Whole groups. Blocks end at the same places whatever came before, so that a short one does not make the next longer.
        let groups = |packets: u64, group: u64| (packets / group).max(1) * group;
        let block = match (group, queue_was_full) {
            (None, false) => BATCH_MESSAGES as u64,
            (None, true) => WHILE_FULL,
            (Some(group), false) => groups(PACKETS, group),
            (Some(group), true) => groups(PACKETS_WHILE_FULL, group),
        };
        (last.packet + 1).is_multiple_of(block) || bytes >= BATCH_BYTES
    }

    /// Where a group begins whose packets may go together: its packets, and those behind it.
    fn full_group<'a>(&self, cuts: &'a [Cut]) -> Option<(&'a [Cut], &'a [Cut])> {
        let (group, first) = (self.group?, cuts.first()?.packet);
        if !first.is_multiple_of(group) || first < self.from {
            return None;
        }
        let (group, rest) = cuts.split_at_checked(usize::try_from(group).ok()?)?;
        let bytes: usize = group.iter().map(|cut| cut.bytes).sum();
        (bytes <= GROUP_BYTES).then_some((group, rest))
    }

    /// Given how many groups' packets did not stay together so far: if there are more than there were, packets travel by
    /// themselves for a while. Others were sent before it was known how long they take.
    fn notice(&mut self, apart: usize) {
        if let Some(group) = self.group
            && let Some(first) = self.cuts.first()
            && self.apart < apart
        {
            let alone = ALONE * (apart - self.apart) as u64;
            self.apart = apart;
            self.from = self.from.max(first.packet + alone * group);
        }
    }
}

/// Leaves the items of a run inside the process as they are.
pub(super) struct Kept<T> {
    site: Arc<Site>,
    leaves: Leaves,
    items: Vec<T>,
    cuts: Cuts,
    bytes: usize,
}

impl<T> Kept<T> {
    /// For a run of `packets` packets, if that is known.
    pub(super) fn new(
        site: &Arc<Site>,
        leaves: Leaves,
        packets: Option<u64>,
        may_go_together: bool,
    ) -> Self {
        Self {
            site: Arc::clone(site),
            cuts: Cuts::new(packets, leaves.fan_in, may_go_together),
            leaves,
            items: Vec::new(),
            bytes: 0,
        }
    }
}

impl<T: Data> Cutter<T> for Kept<T> {
    fn items(&mut self) -> &mut Vec<T> {
        &mut self.items
    }

    fn items_in_packets(&self) -> usize {
        self.cuts.end()
    }

    fn cut(&mut self, at: Position) -> Result<usize> {
        let items = self.items.get(self.cuts.end()..).unwrap_or_default();
        // An item takes something, if only the time to count it.
        let (count, bytes) = (items.len(), local::size(items).max(items.len()));
        self.bytes += bytes;
        let end = self.items.len();
        self.cuts.push(at.packet, at.offset, end, bytes);
        Ok(count)
    }

    fn packets(&self) -> usize {
        self.cuts.len()
    }

    fn is_full(&self, queue_was_full: bool) -> bool {
        self.cuts.is_full(self.bytes, queue_was_full)
    }

    fn take(&mut self) -> Result<Vec<Outgoing>> {
        if self.cuts.is_empty() {
            return Ok(Vec::new());
        }
        self.cuts
            .notice(self.site.went_apart.load(Ordering::Relaxed));
        let rest = self.items.split_off(self.cuts.end);
        let items = std::mem::replace(&mut self.items, rest);
        // The next block is likely to have as many.
        if self.cuts.group.is_some() {
            self.items.reserve(self.cuts.usual.min(items.len()));
            self.cuts.usual = items.len();
        }
        let cuts = std::mem::take(&mut self.cuts.cuts);
        self.cuts.end = 0;
        let held = std::mem::take(&mut self.bytes);
        self.write_block(items, &cuts, held)
    }
}

impl<T: Data> Kept<T> {
    /// Messages of the packets that have come together, whose items take `held` bytes.
    fn write_block(&self, items: Vec<T>, cuts: &[Cut], mut held: usize) -> Result<Vec<Outgoing>> {
        let mut messages = Vec::with_capacity(cuts.len());
        let kept = local::keep(items);
        let mut rest = cuts;
        while let Some((cut, others)) = rest.split_first() {
            if let Ok(kept) = &kept
                && let Some((group, others)) = self.cuts.full_group(rest)
            {
                messages.push(self.group_message(kept, group));
                rest = others;
                continue;
            }
            rest = others;
            let value = match &kept {
                Ok(kept) => Payload::Part(Arc::clone(kept), cut.items.clone()),
                // A float that JSON cannot write is an error in its packet, if not before.
                Err(all) => {
                    let items = all.get(cut.items.clone()).unwrap_or_default();
                    let value = encode_items(items, Codec::default(), cut.position())?;
                    held += value.size();
                    value
                }
            };
            let count = cut.items.len();
            messages.push(self.leaves.message(value, cut.position(), count));
        }
        held += MESSAGE_BYTES * messages.len();
        let bodies = self.site.carrier.write_block(messages, held);
        bodies.into_iter().map(|body| Ok(body?.into())).collect()
    }

    /// The packets of a full group as the node above them, which its reduction would make. A full group is never the root, and
    /// is complete without having been told its size.
    fn group_message(&self, kept: &Arc<dyn Any + Send + Sync>, group: &[Cut]) -> Message {
        let first = group.first();
        let (begin, at) = first.map_or((0, Position::default()), |first| {
            (first.items.start, first.position())
        });
        let end = group.last().map_or(begin, |last| last.items.end);
        let value = Payload::Part(Arc::clone(kept), begin..end);
        let mut message = self.leaves.message(value, at, end - begin);
        if let Work::Map(work) = &mut message.work {
            let (level, index, _) = tree::parent(0, at.packet, self.leaves.fan_in);
            work.packet.packet_id = PacketId { level, index };
            // Their items fit into GROUP_BYTES.
            work.together = group.iter().map(|cut| cut.items.len() as u32).collect();
        }
        message
    }
}
