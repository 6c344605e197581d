//! How an array is cut into packets: pure arithmetic.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Up to this many items, each has a packet of its own. A longer array is cut into about this many
/// packets, which keeps a thousand workers busy.
const PACKETS: u64 = 1_000;
/// The largest number of items per packet, unless `packet_size` sets another.
const LARGEST: u64 = 1_024;

/// How an array is cut into packets. Repeating a submission makes the same packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum PacketPlan {
    /// Every packet but the last has this many items.
    Fixed(u32),
    /// The length is not known beforehand: a packet that begins at item `n` has as many items as if
    /// `n` were the length.
    Growing,
}

/// Default number of items per packet for an array of this length.
fn size_for(length: u64) -> u32 {
    // At most LARGEST, which is a u32.
    length.div_ceil(PACKETS).clamp(1, LARGEST) as u32
}

impl PacketPlan {
    pub(crate) fn new(packet_size: Option<u32>, length: Option<u64>) -> Self {
        match (packet_size, length) {
            (Some(size), _) => Self::Fixed(size),
            (None, Some(length)) => Self::Fixed(size_for(length)),
            (None, None) => Self::Growing,
        }
    }

    /// The number of items of the packet that begins at item `offset`, unless it is the last
    /// packet.
    pub(crate) fn size_at(&self, offset: u64) -> u32 {
        match self {
            Self::Fixed(size) => (*size).max(1),
            Self::Growing => size_for(offset),
        }
    }

    /// The number of packets of an array of this length, if no packet is cut short to fit a
    /// message.
    pub(crate) fn packets(&self, length: u64) -> u64 {
        match self {
            Self::Fixed(size) => length.div_ceil(u64::from((*size).max(1))),
            Self::Growing => {
                let mut offset = 0;
                let mut packets = 0;
                while offset < length {
                    let size = u64::from(self.size_at(offset));
                    // From here on all packets have the same size.
                    if size == LARGEST {
                        return packets + (length - offset).div_ceil(LARGEST);
                    }
                    offset += size;
                    packets += 1;
                }
                packets
            }
        }
    }

    /// The number of items in the given packets of an array of this length. `packets` must be in
    /// ascending order.
    pub(crate) fn items(&self, packets: impl IntoIterator<Item = u64>, length: u64) -> u64 {
        let (mut index, mut offset, mut items) = (0u64, 0u64, 0u64);
        for packet in packets {
            while index < packet && offset < length {
                let size = u64::from(self.size_at(offset));
                let steps = match self {
                    Self::Fixed(_) => packet - index,
                    Self::Growing if size == LARGEST => packet - index,
                    Self::Growing => 1,
                };
                index += steps;
                offset = offset.saturating_add(size.saturating_mul(steps));
            }
            let size = u64::from(self.size_at(offset));
            items += size.min(length.saturating_sub(offset));
        }
        items
    }
}

/// A packet among the items that a submission has pulled and keeps in one list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The packet's index.
    pub(crate) packet: u64,
    /// The index in the array of its first item.
    pub(crate) offset: u64,
    /// Its items in the list.
    pub(crate) items: Range<usize>,
    /// Their bytes, counted from the start of the list: it ends with the number of bytes up to its end.
    pub(crate) bytes: Range<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_packets_are_aimed_at() {
        for (length, size, packets) in [
            (0, 1, 0),
            (1, 1, 1),
            (1_000, 1, 1_000),
            (1_001, 2, 501),
            (1_000_000, 1_000, 1_000),
            (10_000_000, 1_024, 9_766),
        ] {
            let plan = PacketPlan::new(None, Some(length));
            assert_eq!(plan, PacketPlan::Fixed(size));
            assert_eq!(plan.packets(length), packets);
        }
    }

    #[test]
    fn a_stream_grows_its_packets() {
        let plan = PacketPlan::new(None, None);
        for length in [0, 1, 999, 1_000, 1_001, 5_432, 2_000_000, 20_000_000] {
            let (mut offset, mut packets) = (0, 0);
            while offset < length {
                offset += u64::from(plan.size_at(offset));
                packets += 1;
            }
            assert_eq!(plan.packets(length), packets, "{length}");
        }
        assert_eq!(plan.size_at(999), 1);
        assert_eq!(plan.size_at(10_000_000), 1_024);
        // Full packets, preceded by some seven thousand smaller ones.
        assert!((976_562..985_000).contains(&plan.packets(1_000_000_000)));
    }

    #[test]
    fn packets_know_their_items() {
        for plan in [PacketPlan::Fixed(7), PacketPlan::Growing] {
            for length in [0u64, 1, 6, 7, 8, 4_321, 1_500_000] {
                let packets = plan.packets(length);
                assert_eq!(plan.items(0..packets, length), length, "{plan:?} {length}");
                let odd = plan.items((0..packets).filter(|n| n % 2 == 1), length);
                let even = plan.items((0..packets).filter(|n| n % 2 == 0), length);
                assert_eq!(odd + even, length);
            }
        }
    }
}
