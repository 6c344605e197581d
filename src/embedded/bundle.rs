//! Bundles: the packets of a full group as one message, made, worked on and taken apart here, inside the process only.
//!
//! A bundle stands for the node above its packets, `1/g`. Its work folds each packet and combines the partial results as
//! the group's reduction would, and the outcome goes into the slot of node `1/g`; the group itself never comes to be. That
//! is sound because a full group is never the root, is complete without having been told its size, and its node has the
//! same value however it is made: the tree has the same shape, and a sum of floats the same bits.
//!
//! If several CPU-bound map stages come before the reduction, the bundle goes through all of them in one pass, and their
//! queues are passed by. A function of a later stage that fails is tried again at its own stage.
//!
//! If a function or the reduction is slow, or something fails, the bundle is unpacked: partial results of packets that
//! are done go into their slots, the others are sent again one by one, and the group is reduced, or fails, at its own
//! stage. Only the packet that failed has one attempt less.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::packer::Groups;
use crate::compute::group::GroupPass;
use crate::compute::map::Row;
use crate::compute::step::{Computation, Failures, Input, ItemFailure};
use crate::core::id::PacketId;
use crate::packet::codec::Payload;
use crate::packet::{Bundle, MapWork, Message, Packet, Work};
use crate::pipeline::definition::{Definition, StageDefinition, StageKind};
use crate::protocol::bundle::{Begun, Bundling, Packer, Unpack, Unpacked};

/// The bundles of one run.
#[derive(Default)]
pub(super) struct Bundles {
    /// Groups that were too slow to stay together, for the submitter.
    split: AtomicUsize,
    /// The stages that a bundle goes through in one pass; `None` if they work on single packets.
    row: OnceLock<Option<Arc<Row>>>,
}

impl Bundles {
    pub(super) fn split(&self) -> usize {
        self.split.load(Ordering::Relaxed)
    }

    /// The map stages before the reduction as one, if they work on whole groups.
    pub(super) fn row(&self, definition: &Definition) -> Option<&Arc<Row>> {
        let row = self.row.get_or_init(|| {
            let stages = definition.before_reduction();
            let stages = stages.map(|stage| match &stage.kind {
                StageKind::Map(step) => Some((Arc::clone(&stage.name), Arc::clone(step))),
                StageKind::Reduce(_) => None,
            });
            let stages: Option<Vec<_>> = stages.collect();
            Row::new(&stages?).map(Arc::new)
        });
        row.as_ref()
    }
}

impl Bundling for Bundles {
    fn packer(
        self: Arc<Self>,
        definition: &Definition,
        packets: Option<u64>,
    ) -> Option<Box<dyn Packer>> {
        let groups = Groups::new(self, definition, packets)?;
        Some(Box::new(groups))
    }

    fn begin(
        self: Arc<Self>,
        definition: &Definition,
        stage: &StageDefinition,
        input: Input,
    ) -> Result<Begun, Failures> {
        let refused = |problem| Err(vec![ItemFailure::permanent(problem)]);
        let (StageKind::Map(map), Work::Bundle(bundle)) = (&stage.kind, &input.message.work) else {
            return refused("a bundle came to a stage that does not map");
        };
        if bundle.sizes.len() == 1 {
            // It failed as part of a bundle, and is worked on as any other packet.
            let pass = map.pass(input);
            return Ok(Begun {
                job: pass.round(),
                packets: Box::new(Single),
                pass: Some(pass),
            });
        }
        let Some(row) = self.row(definition) else {
            return refused("a bundle came to a stage that works on single packets");
        };
        let pass = row.group(input.clone(), Arc::clone(&bundle.sizes));
        let job: Arc<Computation> = Arc::clone(&pass) as _;
        let packets = Box::new(Group {
            bundles: self,
            pass,
            input,
            attempts: stage.options.queue.attempts,
        });
        Ok(Begun {
            pass: None,
            job,
            packets,
        })
    }
}

/// A packet that failed as part of a bundle.
struct Single;

impl Unpack for Single {
    fn unpack(&self, _: &Failures) -> Option<Unpacked> {
        None
    }
}

/// A group's packets at work.
struct Group {
    bundles: Arc<Bundles>,
    pass: Arc<GroupPass>,
    input: Input,
    /// Attempts that a message of the stage has.
    attempts: u32,
}

impl Unpack for Group {
    fn unpack(&self, failures: &Failures) -> Option<Unpacked> {
        let Work::Bundle(bundle) = &self.input.message.work else {
            return None;
        };
        if let Some(partials) = self.pass.partials() {
            self.bundles.split.fetch_add(1, Ordering::Relaxed);
            return unpack(&self.input.message, bundle, partials, None);
        }
        if self.pass.has_failed_later() {
            return unpack(&self.input.message, bundle, Vec::new(), None);
        }
        let is_last = self.attempts <= 1;
        if is_last || failures.iter().any(|failure| failure.permanent) {
            return None;
        }
        let item = failures.first().and_then(|failure| failure.item);
        let failed = item.and_then(|item| packet_of(bundle, item));
        let unpacked = unpack(&self.input.message, bundle, Vec::new(), item)?;
        Some(Unpacked {
            failed: failed.map(|packet| format!("packet {packet}")),
            ..unpacked
        })
    }
}

/// The packet of a bundle that has this item of the array.
fn packet_of(bundle: &Bundle, item: u64) -> Option<u64> {
    let mut end = bundle.whole.offset;
    let place = bundle.sizes.iter().position(|items| {
        end += u64::from(*items);
        item < end
    })?;
    Some(bundle.whole.packet.packet_id.index + place as u64)
}

/// Each packet by itself: the first ones with their partial results, messages for the others. The first attempt at item
/// `failed` has failed. `None` if the items are not in this process, as a bundle's always are.
fn unpack(
    message: &Message,
    bundle: &Bundle,
    partials: Vec<Payload>,
    failed: Option<u64>,
) -> Option<Unpacked> {
    let whole = &bundle.whole.packet;
    let Payload::Local(list) = &whole.value else {
        return None;
    };
    let items = list.items()?;
    let bytes_per_item = list.bytes().checked_div(items.len()).unwrap_or(0);
    let mut partials = partials.into_iter();
    let (mut done, mut again) = (Vec::new(), Vec::new());
    let (mut begin, mut offset) = (items.start, bundle.whole.offset);
    for (index, size) in (whole.packet_id.index..).zip(bundle.sizes.iter()) {
        let end = begin + *size as usize;
        let packet = |value| Packet {
            packet_id: PacketId::leaf(index),
            contains: u64::from(*size),
            ..whole.around(value)
        };
        match partials.next() {
            Some(partial) => done.push(packet(partial)),
            None => {
                let bytes = bytes_per_item * *size as usize;
                let packet = packet(Payload::Local(list.part(begin..end, bytes)));
                again.push(Message {
                    stage: Arc::clone(&message.stage),
                    fan_in: message.fan_in,
                    work: single(packet, offset, *size, failed),
                });
            }
        }
        (begin, offset) = (end, offset + u64::from(*size));
    }
    Some(Unpacked {
        done,
        again,
        failed: None,
    })
}

/// A packet by itself. If the item that failed is one of its items, it is a bundle of one, which remembers that.
fn single(packet: Packet, offset: u64, size: u32, failed: Option<u64>) -> Work {
    let place = failed.and_then(|item| item.checked_sub(offset));
    let place = place.filter(|place| *place < u64::from(size));
    let work = MapWork {
        packet,
        offset,
        yields: None,
    };
    match place.and_then(|place| usize::try_from(place).ok()) {
        None => Work::Map(work),
        Some(place) => Work::Bundle(Bundle {
            whole: work,
            sizes: Arc::new([size]),
            earlier: Some((place, 1)),
        }),
    }
}
