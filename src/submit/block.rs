//! Inside the process: packets whose items stay as they are are sent in blocks, and those of one block share their memory.

use std::any::Any;
use std::sync::Arc;

use super::packing::encode_items;
use super::{BATCH_BYTES, BATCH_MESSAGES, Source, Submission};
use crate::core::cut::Cut;
use crate::core::error::Result;
use crate::packet::codec::{Codec, Payload};
use crate::packet::{Message, local};
use crate::protocol::bundle::Packer;

/// Packets per block while the queue is full: a waiting worker is not kept waiting by larger blocks.
const WHILE_FULL: u64 = 64;

/// Where the items that were pulled are cut into packets.
pub(super) struct Cuts {
    cuts: Vec<Cut>,
    /// Items up to the end of the last packet.
    end: usize,
    /// Bundles packets, if this submission may.
    packer: Option<Box<dyn Packer>>,
    /// Number of items in the last block.
    usual: usize,
}

impl Cuts {
    pub(super) fn new(packer: Option<Box<dyn Packer>>) -> Self {
        Self {
            cuts: Vec::new(),
            end: 0,
            packer,
            usual: 0,
        }
    }

    /// Number of packets.
    pub(super) fn len(&self) -> usize {
        self.cuts.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cuts.is_empty()
    }

    /// Number of items that are in packets.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// Makes a packet of the items up to `end`, which take `bytes`.
    fn push(&mut self, packet: u64, offset: u64, end: usize, bytes: usize) {
        let begin = self.cuts.last().map_or(0, |last| last.bytes.end);
        self.cuts.push(Cut {
            packet,
            offset,
            items: self.end..end,
            bytes: begin..begin + bytes,
        });
        self.end = end;
    }

    /// Whether there are enough packets for a call on the queue.
    pub(super) fn is_full(&self, bytes: usize, queue_was_full: bool) -> bool {
        let Some(last) = self.cuts.last() else {
            return false;
        };
        let is_large = bytes >= BATCH_BYTES;
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
}

impl<S: Source> Submission<S> {
    /// Makes a packet of the items that have been pulled.
    pub(super) fn next_cut(&mut self) {
        let items = self.items.get(self.cuts.end()..).unwrap_or_default();
        // An item takes something, if only the time to count it.
        let (count, bytes) = (items.len(), local::size(items).max(items.len()));
        self.batch_bytes += bytes;
        let end = self.items.len();
        self.cuts.push(self.packets, self.offset, end, bytes);
        self.move_on(count);
    }

    /// Writes the messages of the block's packets.
    pub(super) fn write_block(&mut self) -> Result<()> {
        let rest = self.items.split_off(self.cuts.end);
        let items = std::mem::replace(&mut self.items, rest);
        // The next block is likely to have as many.
        if self.cuts.packer.is_some() {
            self.items.reserve(self.cuts.usual.min(items.len()));
            self.cuts.usual = items.len();
        }
        let cuts = std::mem::take(&mut self.cuts.cuts);
        self.cuts.end = 0;
        let mut messages = Vec::with_capacity(cuts.len());
        match local::keep(items) {
            Ok(kept) => {
                let mut rest = cuts.as_slice();
                while let Some((message, left)) = self.next_message(&kept, rest) {
                    messages.push(message);
                    rest = left;
                }
            }
            // A float that JSON cannot write is an error in its packet, if not before.
            Err(all) => {
                for cut in &cuts {
                    let items = all.get(cut.items.clone()).unwrap_or_default();
                    let value = encode_items(items, Codec::default(), cut.packet, cut.offset)?;
                    self.batch_bytes += value.size();
                    messages.push(self.message(value, cut.packet, cut.offset, items.len()));
                }
            }
        }
        let shared = Arc::clone(&self.shared);
        for body in shared.carrier.write_block(messages, self.batch_bytes) {
            self.batch.push(body?.into());
        }
        Ok(())
    }

    /// The message of the next packets, which is one packet's or a bundle, and the packets after those.
    fn next_message<'a>(
        &mut self,
        kept: &Arc<dyn Any + Send + Sync>,
        cuts: &'a [Cut],
    ) -> Option<(Message, &'a [Cut])> {
        let first = cuts.first()?;
        let packer = self.cuts.packer.as_deref_mut();
        let bundled = packer.and_then(|packer| packer.next(cuts));
        let bundled = bundled.filter(|count| (1..=cuts.len()).contains(count));
        let (packets, rest) = cuts.split_at_checked(bundled.unwrap_or(1))?;
        let items = first.items.start..packets.last()?.items.end;
        let count = items.len();
        let value = Payload::Part(Arc::clone(kept), items);
        let mut message = self.message(value, first.packet, first.offset, count);
        if bundled.is_some()
            && let Some(packer) = &self.cuts.packer
        {
            packer.pack(&mut message, packets);
        }
        Some((message, rest))
    }
}
