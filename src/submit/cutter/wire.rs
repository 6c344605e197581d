//! Packets that are encoded: each becomes a message that fits its queue.

use std::sync::Arc;

use bytes::Bytes;

use super::growth::Growth;
use super::{BATCH_BYTES, Cutter, Leaves, Position};
use crate::core::error::{Error, Oversized, Result};
use crate::core::fingerprint::Fingerprint;
use crate::packet::carrier::Carrier;
use crate::packet::codec::{self, Codec, Payload};
use crate::packet::fingerprint::Fingerprinter;
use crate::queue::{Outgoing, Queue};
use crate::stage::Data;

/// Full requests per call, for a queue whose service has a maximum of messages per request.
const REQUESTS_AT_ONCE: usize = 8;

/// When there are enough messages for a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    messages: usize,
    bytes: usize,
}

impl Batch {
    /// For a queue with this [`batch`](crate::queue::Queue::batch), or with these
    /// [`messages_per_call`](crate::queue::Queue::messages_per_call) where it has none.
    pub(super) fn new(batch: Option<usize>, messages_per_call: usize) -> Self {
        match batch {
            Some(batch) => Self {
                messages: REQUESTS_AT_ONCE * batch,
                bytes: REQUESTS_AT_ONCE * BATCH_BYTES,
            },
            None => Self {
                messages: messages_per_call.max(1),
                bytes: BATCH_BYTES,
            },
        }
    }
}

/// The largest message that the queues of a run take.
pub(super) struct Limit {
    /// In bytes.
    most: usize,
    size: Box<SentSize>,
    /// If packets go through more queues than the first. They are taken to have its limit.
    growth: Option<Growth>,
}

/// See [`Queue::sent_size`].
type SentSize = dyn Fn(&Bytes, usize) -> usize + Send + Sync;

impl Limit {
    pub(super) fn of(queue: &Arc<dyn Queue>, growth: Option<Growth>) -> Self {
        let most = queue.max_body().unwrap_or(usize::MAX);
        let queue = Arc::clone(queue);
        Self {
            most,
            size: Box::new(move |body, more| queue.sent_size(body, more)),
            growth,
        }
    }

    /// Checks the message of a packet of `items` items, which has `spare` bytes more if there is more than one. Returns
    /// the size it may come to as an error if that is too large.
    fn check(&self, body: &Bytes, items: usize, spare: usize) -> std::result::Result<(), usize> {
        let grown = self.growth.map_or(0, |growth| growth.bytes(items));
        let (more, most) = match (items, self.growth) {
            // An item has to go as it is.
            (0 | 1, _) => (grown, self.most),
            (_, None) => (spare, self.most),
            (_, Some(_)) => (spare + grown, Growth::under(self.most)),
        };
        match (self.size)(body, more) {
            size if size > most => Err(size),
            _ => Ok(()),
        }
    }
}

/// Encodes each packet when it is cut.
pub(super) struct Wire<T> {
    carrier: Carrier,
    leaves: Leaves,
    codec: Codec,
    limit: Limit,
    /// What the longest length of an array would add to a message. A run that is submitted again may have a length by
    /// then, and its packets must be the same: there is always room for the longest.
    spare: usize,
    batch: Batch,
    items: Vec<T>,
    messages: Vec<Outgoing>,
    bytes: usize,
    /// Of the packets that were cut.
    fingerprinter: Fingerprinter,
}

impl<T> Wire<T> {
    pub(super) fn new(
        carrier: &Carrier,
        leaves: Leaves,
        codec: Codec,
        limit: Limit,
        batch: Batch,
    ) -> Self {
        let [longest, own] = [Some(u64::MAX), leaves.array_length];
        let spare = length_bytes(codec, longest) - length_bytes(codec, own);
        Self {
            carrier: carrier.clone(),
            leaves,
            codec,
            limit,
            spare,
            batch,
            items: Vec::new(),
            messages: Vec::new(),
            bytes: 0,
            fingerprinter: Fingerprinter::new(),
        }
    }
}

impl<T: Data> Cutter<T> for Wire<T> {
    fn items(&mut self) -> &mut Vec<T> {
        &mut self.items
    }

    fn items_in_packets(&self) -> usize {
        0
    }

    /// Halves the packet until the message fits the queue's limit.
    fn cut(&mut self, at: Position) -> Result<usize> {
        let mut count = self.items.len();
        loop {
            let (items, _) = self.items.split_at(count);
            let value = encode_items(items, self.codec, at)?;
            let message = self.leaves.message(value, at, count);
            let body = self.carrier.write_message(message)?;
            let Err(size) = self.limit.check(&body, count, self.spare) else {
                let added = self.fingerprinter.add(items);
                added.map_err(|source| Error::encode(name_packet(at, count), source))?;
                self.items.drain(..count);
                self.bytes += body.len();
                let message = Outgoing::new(body).run(&self.leaves.run.id);
                self.messages.push(message);
                return Ok(count);
            };
            if count <= 1 {
                let what = name_packet(at, count);
                return Err(Error::too_large(
                    Oversized::Item,
                    what,
                    size,
                    self.limit.most,
                ));
            }
            count /= 2;
        }
    }

    fn fingerprint(&self) -> Option<Fingerprint> {
        Some(self.fingerprinter.fingerprint())
    }

    fn packets(&self) -> usize {
        self.messages.len()
    }

    fn is_full(&self, _queue_was_full: bool) -> bool {
        self.messages.len() >= self.batch.messages || self.bytes >= self.batch.bytes
    }

    fn take(&mut self) -> Result<Vec<Outgoing>> {
        self.bytes = 0;
        Ok(std::mem::take(&mut self.messages))
    }
}

/// The bytes that the array's length takes in a message.
fn length_bytes(codec: Codec, length: Option<u64>) -> usize {
    let Some(length) = length else {
        return 0;
    };
    match codec {
        Codec::Json => r#""arrayLength":,"#.len() + length.to_string().len(),
        // Seven bits in each.
        #[cfg(feature = "postcard")]
        Codec::Postcard => (64 - length.leading_zeros()).div_ceil(7).max(1) as usize,
    }
}

fn name_packet(at: Position, count: usize) -> String {
    let Position { packet, offset } = at;
    match count {
        0 | 1 => format!("packet {packet} (item {offset})"),
        count => format!(
            "packet {packet} (items {offset} to {})",
            offset + count as u64 - 1
        ),
    }
}

/// Encodes the items of a packet. An error names the item that cannot be encoded.
pub(crate) fn encode_items<T: Data>(items: &[T], codec: Codec, at: Position) -> Result<Payload> {
    codec::write_strictly(items, codec).map_err(|mut unwritable| {
        let what = match unwritable.take_index() {
            Some(index) => format!("packet {}, item {}", at.packet, at.offset + index as u64),
            None => name_packet(at, items.len()),
        };
        unwritable.into_error(what)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::error::Error as _;
    use std::sync::Arc;

    use super::*;
    use crate::core::one_of::OneOf;
    use crate::packet::{Message, Work};

    fn carrier(codec: Codec) -> Carrier {
        Carrier::wire(codec, "adder")
    }

    fn wire<T: Data>(max_body: Option<usize>, batch: Option<usize>) -> Wire<T> {
        let leaves = Leaves {
            run: crate::core::generation::RunKey::new(
                "run",
                crate::core::generation::Generation::random(2),
            ),
            stage: Arc::from("map"),
            fan_in: 2,
            array_length: None,
        };
        let limit = up_to(max_body);
        Wire::new(
            &carrier(Codec::Json),
            leaves,
            Codec::Json,
            limit,
            Batch::new(batch, 10),
        )
    }

    /// The limit of a queue that sends a body as it is.
    fn up_to(max_body: Option<usize>) -> Limit {
        Limit {
            most: max_body.unwrap_or(usize::MAX),
            size: Box::new(|body, more| body.len() + more),
            growth: None,
        }
    }

    /// A body that is sent as base64 is a third longer, whatever the codec: there are more packets.
    #[test]
    fn what_counts_is_what_is_really_sent() {
        let mut wire = wire(None, None);
        wire.limit = Limit {
            most: 4_000,
            size: Box::new(|body, more| 7 + (body.len() + more).div_ceil(3) * 4),
            growth: None,
        };
        wire.items().extend((0..10).map(|_| "x".repeat(600)));
        let packets = cut_all(wire);
        // Five items come to about 3,200 bytes, which fit as they are.
        assert!(packets.iter().all(|(_, _, items)| items.len() <= 4));
    }

    /// Cuts all items, and returns the packets: their indices, their offsets and their items.
    fn cut_all(mut wire: Wire<String>) -> Vec<(u64, u64, Vec<String>)> {
        let mut at = Position::default();
        while wire.pulled() > 0 {
            let items = wire.cut(at).unwrap();
            at.advance(items);
        }
        assert_eq!(wire.packets() as u64, at.packet);
        let messages = wire.take().unwrap();
        assert_eq!(wire.packets(), 0);
        let packets = messages.into_iter().map(|message| {
            let message: OneOf<Message> = carrier(Codec::Json)
                .read_message("map", &message.body)
                .unwrap();
            let Work::Map(work) = &message.work else {
                panic!("not a message for a map stage");
            };
            let items: Vec<String> = codec::decode(&work.packet.value, "items").unwrap();
            assert_eq!(work.packet.contains, items.len() as u64);
            assert_eq!(work.packet.packet_id.level, 0);
            (work.packet.packet_id.index, work.offset, items)
        });
        packets.collect()
    }

    #[test]
    fn what_was_pulled_is_one_packet_if_it_fits() {
        let items = Vec::from(["a", "b", "c"].map(str::to_owned));
        for max_body in [None, Some(10_000)] {
            let mut wire = wire(max_body, None);
            wire.items().extend(items.clone());
            assert_eq!(cut_all(wire), [(0, 0, items.clone())]);
        }
    }

    #[test]
    fn a_packet_that_does_not_fit_is_halved_and_the_rest_is_the_next() {
        let items: Vec<String> = (0..8).map(|n| format!("{n}{}", "x".repeat(300))).collect();
        let mut wire = wire(Some(1_000), None);
        wire.items().extend(items.clone());
        let packets = cut_all(wire);
        // Two items fit. 8 are halved twice, as are the 6 that are left, which makes it 1; the 5 after it once; and so on.
        let begins: Vec<_> = packets.iter().map(|(n, offset, _)| (*n, *offset)).collect();
        assert_eq!(begins, [(0, 0), (1, 2), (2, 3), (3, 5), (4, 6)]);
        let all: Vec<_> = packets
            .into_iter()
            .flat_map(|(_, _, items)| items)
            .collect();
        assert_eq!(all, items);
    }

    /// Messages of a run have its length once that is known: from then on too, packet i is packet i.
    #[test]
    fn packets_are_the_same_whether_the_length_is_known_or_not() {
        #[cfg(feature = "postcard")]
        const CODECS: [Codec; 2] = [Codec::Json, Codec::Postcard];
        #[cfg(not(feature = "postcard"))]
        const CODECS: [Codec; 1] = [Codec::Json];
        for codec in CODECS {
            for max_body in 500..600 {
                let packets = [None, Some(0), Some(127), Some(128), Some(u64::MAX)].map(|length| {
                    let mut leaves = wire::<String>(None, None).leaves;
                    leaves.array_length = length;
                    let carrier = carrier(codec);
                    let batch = Batch::new(None, 10);
                    let limit = up_to(Some(max_body));
                    let mut wire = Wire::new(&carrier, leaves, codec, limit, batch);
                    wire.items().extend((0..24).map(|n| "x".repeat(n)));
                    let mut packets = Vec::new();
                    let mut at = Position::default();
                    while wire.pulled() > 0 {
                        packets.push(wire.cut(at).unwrap());
                        at.advance(packets[packets.len() - 1]);
                    }
                    let messages = wire.take().unwrap();
                    let is_too_large = |message: &Outgoing| message.body.len() > max_body;
                    assert!(!messages.iter().any(is_too_large), "{codec:?}");
                    (packets, wire.fingerprint())
                });
                assert!(
                    packets.iter().all(|other| *other == packets[0]),
                    "{max_body}"
                );
            }
        }
    }

    #[test]
    fn an_item_that_does_not_fit_is_named_and_stays() {
        let mut wire = wire(Some(1_000), None);
        let items = ["x".repeat(2_000), "b".to_owned()];
        wire.items().extend(items);
        let at = Position {
            packet: 3,
            offset: 7,
        };
        let error = wire.cut(at).unwrap_err();
        assert!(
            matches!(&error, Error::TooLarge { what, limit: 1_000, .. } if what == "packet 3 (item 7)"),
            "{error}"
        );
        assert_eq!((wire.pulled(), wire.packets()), (2, 0));
    }

    #[test]
    fn an_item_that_cannot_be_encoded_is_named_and_the_cause_is_kept() {
        let mut wire = wire(None, None);
        // JSON has no keys that are pairs.
        let bad = BTreeMap::from([((1u8, 2u8), 3u8)]);
        wire.items().extend([BTreeMap::new(), bad]);
        let at = Position {
            packet: 3,
            offset: 7,
        };
        let error = wire.cut(at).unwrap_err();
        assert_eq!(error.to_string(), "cannot encode packet 3, item 8");
        let source = error.source().unwrap().to_string();
        assert!(source.contains("list of pairs"), "{source}");
    }

    #[test]
    fn there_is_enough_for_a_call_by_messages_or_by_bytes() {
        // Messages of a call, and bytes, by the queue's batch.
        for (batch, messages, bytes) in [(None, 10, 256 * 1024), (Some(5), 40, 2 * 1024 * 1024)] {
            let mut small = wire(None, batch);
            let mut at = Position::default();
            for n in 1..=messages {
                assert!(!small.is_full(false), "{batch:?}: {n}");
                small.items().push(n);
                at.advance(small.cut(at).unwrap());
            }
            assert!(small.is_full(false), "{batch:?}");
            assert_eq!(small.take().unwrap().len(), messages);
            assert!(!small.is_full(false), "{batch:?}");

            let mut large = wire(None, batch);
            large.items().push("x".repeat(bytes));
            large.cut(Position::default()).unwrap();
            assert!(large.is_full(false), "{batch:?}");
        }
    }
}
