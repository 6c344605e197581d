//! Packets inside the process: items stay as they are, and the packets of one call share their memory.

use super::{BATCH_BYTES, BATCH_MESSAGES, Cutter, Leaves, Position};
use crate::core::cut::Cut;
use crate::core::error::Result;
use crate::packet::Message;
use crate::packet::carrier::Carrier;
use crate::packet::codec::Payload;
use crate::packet::handle::Handle;
use crate::packet::measure::Measure;
use crate::protocol::bundle::Packer;
use crate::queue::Outgoing;
use crate::stage::Data;

/// Packets per block while the queue is full: a waiting worker is not kept waiting by larger blocks.
const WHILE_FULL: u64 = 64;

/// Leaves the items of a run inside the process as they are, and sends their packets in blocks.
pub(super) struct Kept<T> {
    carrier: Carrier,
    leaves: Leaves,
    items: Vec<T>,
    /// Where the items are cut into packets.
    cuts: Vec<Cut>,
    measure: Measure,
    /// Size of the items that are in packets.
    bytes: usize,
    /// Bundles packets, if this submission may.
    packer: Option<Box<dyn Packer>>,
    /// Number of items in the last block.
    usual: usize,
}

impl<T> Kept<T> {
    pub(super) fn new(carrier: &Carrier, leaves: Leaves, packer: Option<Box<dyn Packer>>) -> Self {
        Self {
            carrier: carrier.clone(),
            leaves,
            items: Vec::new(),
            cuts: Vec::new(),
            measure: Measure::new(),
            bytes: 0,
            packer,
            usual: 0,
        }
    }
}

impl<T: Data> Cutter<T> for Kept<T> {
    fn items(&mut self) -> &mut Vec<T> {
        &mut self.items
    }

    fn items_in_packets(&self) -> usize {
        self.cuts.last().map_or(0, |last| last.items.end)
    }

    fn cut(&mut self, at: Position) -> Result<usize> {
        let begin = self.items_in_packets();
        let items = self.items.get(begin..).unwrap_or_default();
        // An item takes something, if only the time to count it.
        let (count, bytes) = (items.len(), self.measure.list(items).max(items.len()));
        self.cuts.push(Cut {
            packet: at.packet,
            offset: at.offset,
            items: begin..self.items.len(),
            bytes: self.bytes..self.bytes + bytes,
        });
        self.bytes += bytes;
        Ok(count)
    }

    fn packets(&self) -> usize {
        self.cuts.len()
    }

    fn is_full(&self, queue_was_full: bool) -> bool {
        let Some(last) = self.cuts.last() else {
            return false;
        };
        let is_large = self.bytes >= BATCH_BYTES;
        if let Some(packer) = &self.packer
            && let Some(is_full) = packer.is_full(&self.cuts, is_large, queue_was_full)
        {
            return is_full;
        }
        // Blocks end at the same packets whatever came before, so that a short one does not make the next longer.
        let block = match queue_was_full {
            false => BATCH_MESSAGES as u64,
            true => WHILE_FULL,
        };
        is_large || (last.packet + 1).is_multiple_of(block)
    }

    fn take(&mut self) -> Result<Vec<Outgoing>> {
        if self.cuts.is_empty() {
            return Ok(Vec::new());
        }
        let rest = self.items.split_off(self.items_in_packets());
        let items = std::mem::replace(&mut self.items, rest);
        // The next block is likely to have as many.
        if self.packer.is_some() {
            self.items.reserve(self.usual.min(items.len()));
            self.usual = items.len();
        }
        let cuts = std::mem::take(&mut self.cuts);
        let held = std::mem::take(&mut self.bytes);
        let messages = self.messages(&Handle::of_list(items, held), &cuts);
        // Their memory is the next block's.
        self.cuts = cuts;
        self.cuts.clear();
        let bodies = self.carrier.write_block(messages, held);
        bodies.into_iter().map(|body| Ok(body?.into())).collect()
    }
}

impl<T: Data> Kept<T> {
    fn messages(&mut self, list: &Handle, cuts: &[Cut]) -> Vec<Message> {
        let mut messages = Vec::with_capacity(cuts.len());
        let mut rest = cuts;
        while let Some((message, left)) = self.next_message(list, rest) {
            messages.push(message);
            rest = left;
        }
        messages
    }

    /// The message of the next packets, which is one packet's or a bundle, and the packets after those.
    fn next_message<'a>(&mut self, list: &Handle, cuts: &'a [Cut]) -> Option<(Message, &'a [Cut])> {
        let first = cuts.first()?;
        let packer = self.packer.as_deref_mut();
        let bundled = packer.and_then(|packer| packer.next(cuts));
        let bundled = bundled.filter(|count| (1..=cuts.len()).contains(count));
        let (packets, rest) = cuts.split_at_checked(bundled.unwrap_or(1))?;
        let last = packets.last()?;
        let items = first.items.start..last.items.end;
        let count = items.len();
        let value = Payload::Local(list.part(items, last.bytes.end - first.bytes.start));
        let mut message = self.leaves.message(value, position(first), count);
        if bundled.is_some()
            && let Some(packer) = &self.packer
        {
            packer.pack(&mut message, packets);
        }
        Some((message, rest))
    }
}

fn position(cut: &Cut) -> Position {
    Position {
        packet: cut.packet,
        offset: cut.offset,
    }
}
