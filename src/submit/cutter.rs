//! Cutting: items become packets, and packets become the messages of the first stage's queue.
//!
//! There are two ways: [`Wire`] encodes each packet as it is cut, into a message that fits its queue; [`Kept`] leaves
//! the items of a run inside the process as they are, whatever their type, and has the packets of one call share their
//! memory.

mod growth;
mod kept;
mod wire;

use std::sync::Arc;

use crate::core::error::Result;
use crate::core::fingerprint::Fingerprint;
use crate::core::generation::RunKey;
use crate::core::id::PacketId;
use crate::packet::codec::{Form, Payload};
use crate::packet::{LeftOut, MapWork, Message, Packet, Work};
use crate::pipeline::definition::StageDefinition;
use crate::protocol::site::Site;
use crate::queue::{Outgoing, Queue};
use crate::scratchpad::RunRecord;
use crate::stage::Data;
use growth::Growth;
use kept::Kept;
use wire::{Batch, Limit, Wire};

/// Messages per call inside the process, and bytes per call on any queue without a batch size of its own.
pub(super) const BATCH_MESSAGES: usize = 10;
pub(super) const BATCH_BYTES: usize = 256 * 1024;

/// Where a packet begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// The packet's index.
    pub(crate) packet: u64,
    /// The index in the array of the packet's first item.
    pub(crate) offset: u64,
}

impl Position {
    /// Moves to the next packet, after one of `items` items.
    pub(crate) fn advance(&mut self, items: usize) {
        self.offset += items as u64;
        self.packet += 1;
    }
}

/// Cuts a run's items into packets, and keeps those until they are sent together.
pub(crate) trait Cutter<T>: Send {
    /// The items that were pulled and are not yet written: first those of waiting packets, then those of the next
    /// packet, to which a source appends.
    fn items(&mut self) -> &mut Vec<T>;

    /// How many of the [`items`](Self::items) are those of waiting packets.
    fn items_in_packets(&self) -> usize;

    /// Number of items pulled for the next packet.
    fn pulled(&mut self) -> usize {
        self.items().len() - self.items_in_packets()
    }

    /// Makes a packet of the items pulled for it, or of the first of them if all would not fit, and returns their
    /// number.
    ///
    /// # Errors
    /// [`Error::Encode`](crate::Error::Encode) and [`Error::TooLarge`](crate::Error::TooLarge) name the packet, from a
    /// cutter that encodes.
    fn cut(&mut self, at: Position) -> Result<usize>;

    /// The hash of all packets that were cut, by which a repeated submission is compared with this one. `None` if there
    /// is none, because a run inside the process is never submitted again.
    fn fingerprint(&self) -> Option<Fingerprint> {
        None
    }

    /// Number of waiting packets.
    fn packets(&self) -> usize;

    /// Whether enough packets are waiting for a call on the queue. Larger calls may pay if the queue was full at the
    /// last one.
    fn is_full(&self, queue_was_full: bool) -> bool;

    /// Takes the messages of the waiting packets.
    fn take(&mut self) -> Result<Vec<Outgoing>>;
}

/// The cutter for a run with this record, whose items go to stage `first`.
pub(super) fn choose<T: Data>(
    site: &Arc<Site>,
    queue: &Arc<dyn Queue>,
    record: &RunRecord,
    first: &StageDefinition,
) -> Box<dyn Cutter<T>> {
    let leaves = Leaves::new(record, first);
    match site.carrier.form() {
        Form::Local => {
            let bundling = site.bundling.clone();
            let packer =
                bundling.and_then(|bundling| bundling.packer(&site.definition, record.packets));
            Box::new(Kept::new(&site.carrier, leaves, packer))
        }
        Form::Wire(codec) => {
            let growth = Growth::of(&site.definition, first, codec);
            let limit = Limit::of(queue, growth);
            let batch = Batch::new(queue.batch(), queue.messages_per_call());
            Box::new(Wire::new(&site.carrier, leaves, codec, limit, batch))
        }
    }
}

/// Makes the messages of a run's packets.
pub(crate) struct Leaves {
    run: RunKey,
    stage: Arc<str>,
    /// Members per group of the reduction.
    pub(crate) fan_in: u32,
    array_length: Option<u64>,
}

impl Leaves {
    fn new(record: &RunRecord, first: &StageDefinition) -> Self {
        Self {
            run: record.key(),
            stage: Arc::clone(&first.name),
            fan_in: record.fan_in,
            array_length: record.array_length,
        }
    }

    /// The message of the packet at this position, of `items` items.
    pub(crate) fn message(&self, value: Payload, at: Position, items: usize) -> Message {
        Message {
            stage: Arc::clone(&self.stage),
            fan_in: self.fan_in,
            work: Work::Map(MapWork {
                packet: Packet {
                    run: self.run.clone(),
                    packet_id: PacketId::leaf(at.packet),
                    value,
                    array_length: self.array_length,
                    contains: items as u64,
                    skipped: 0,
                    left_out: LeftOut::default(),
                },
                offset: at.offset,
                yields: None,
            }),
        }
    }
}
