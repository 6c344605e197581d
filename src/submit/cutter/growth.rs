//! What a packet's message grows by between the stages that follow, and the room that is left for it when it is cut.

use crate::core::attempts::LISTED;
use crate::packet::codec::Codec;
use crate::pipeline::definition::{Definition, StageDefinition};
use crate::stage::OnFailure;

/// Of the largest message, a packet of several items has one part in this many if it goes through more queues: outputs may
/// be larger than the items that they are made of.
const HEAD_ROOM: usize = 4;

/// Digits of the longest number.
const DIGITS: usize = 20;

/// What the stages after the first may add to a packet's message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    codec: Codec,
    /// Bytes by which the longest name of a stage is longer than that of the first.
    name: usize,
    /// Stages that may leave items out, and the bytes of their names. Only those are listed by stage and item.
    stages: (usize, usize),
}

impl Growth {
    /// Of packets that begin at stage `first`. `None` if they go through no other queue.
    pub(super) fn of(
        definition: &Definition,
        first: &StageDefinition,
        codec: Codec,
    ) -> Option<Self> {
        let maps = definition
            .stages()
            .iter()
            .take_while(|stage| !stage.is_reduction());
        let longest = maps.clone().skip(1).map(|stage| stage.name.len()).max()?;
        let leave_out = maps.filter(|stage| stage.options.on_failure != OnFailure::Fail);
        let names = leave_out.map(|stage| stage.name.len());
        Some(Self {
            codec,
            name: longest.saturating_sub(first.name.len()),
            stages: (names.clone().count(), names.sum()),
        })
    }

    /// The most bytes that the message of `items` items grows by if each item stays as it is or is left out.
    pub(super) fn bytes(&self, items: usize) -> usize {
        let fields = match self.codec {
            // A count of 0 or 1 for each item, and the number of skipped ones.
            Codec::Json => {
                r#""packetYields":[],"packetSkipped":,"#.len() + 2 * items + items.to_string().len()
            }
            // A byte for each count, and up to five for each of their number, for one more byte of the name's
            // length, and for the number of skipped ones.
            #[cfg(feature = "postcard")]
            Codec::Postcard => items + 3 * 5,
        };
        fields + self.list(items) + self.name
    }

    /// The most bytes of the list of items that were left out: two numbers for each.
    fn list(&self, items: usize) -> usize {
        let (stages, names) = self.stages;
        let listed = items.min(LISTED);
        match self.codec {
            _ if stages == 0 => 0,
            Codec::Json => {
                r#""packetLeftOut":{},"#.len()
                    + r#""":[],"#.len() * stages
                    + names
                    + (r"[,],".len() + 2 * DIGITS) * listed
            }
            // Two lengths for each stage, and up to ten bytes for each number.
            #[cfg(feature = "postcard")]
            Codec::Postcard => 1 + 3 * stages + names + 2 * 10 * listed,
        }
    }

    /// The largest message of a packet with several items, under this limit.
    pub(super) fn under(limit: usize) -> usize {
        limit / HEAD_ROOM
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::packet::codec::{Payload, write};
    use crate::packet::{LeftOut, Message, Work};
    use crate::submit::cutter::{Leaves, Position};

    #[cfg(feature = "postcard")]
    const CODECS: [Codec; 2] = [Codec::Json, Codec::Postcard];
    #[cfg(not(feature = "postcard"))]
    const CODECS: [Codec; 1] = [Codec::Json];

    fn leaves(stage: &str) -> Leaves {
        Leaves {
            run: "run".into(),
            stage: Arc::from(stage),
            fan_in: 2,
            array_length: None,
        }
    }

    fn size(codec: Codec, stage: &str, items: &[u8], of: usize, yields: Option<Vec<u32>>) -> usize {
        let value: Payload = write(items, codec, "items").unwrap();
        let mut message: Message = leaves(stage).message(value, Position::default(), of);
        if let Work::Map(work) = &mut message.work {
            work.yields = yields;
            let skipped = (of - items.len()) as u64;
            work.packet.skipped = skipped;
            let lost = (0..skipped).map(|item| u64::MAX - item);
            work.packet.left_out = LeftOut::of(stage, u64::MAX, lost);
            work.packet.contains = items.len() as u64;
        }
        message.encode(codec, "adder").unwrap().len()
    }

    /// Items of one digit are the smallest there are: what their absence is told by takes more than they did.
    #[test]
    fn items_that_stay_or_are_left_out_take_no_more_than_was_reserved() {
        let long = "x".repeat(200);
        for (codec, name) in CODECS
            .into_iter()
            .flat_map(|codec| [(codec, "b"), (codec, &long)])
        {
            let growth = Growth {
                codec,
                name: name.len() - 1,
                stages: (1, name.len()),
            };
            let mut closest = usize::MAX;
            for items in [
                1, 2, 9, 10, 11, 99, 100, 101, 127, 128, 129, 1_000, 16_384, 20_000,
            ] {
                let all = vec![7; items];
                let room = size(codec, "a", &all, items, None) + growth.bytes(items);
                for left in [0, 1, 2, 9, 10, items / 2, items - 1, items] {
                    let left = left.min(items);
                    let (kept, counts) = (&all[left..], |n| u32::from(n >= left));
                    let yields = (0..items).map(counts).collect();
                    let grown = size(codec, name, kept, items, Some(yields));
                    assert!(grown <= room, "{codec:?} {items} {left}: {grown}, {room}");
                    closest = closest.min(room - grown);
                }
            }
            assert!(
                closest < 20,
                "no more is reserved than it takes: {codec:?} {closest}"
            );
        }
    }
}
