//! The wire format: what travels on queues and is stored in scratchpads, in JSON by default.

#[cfg(feature = "postcard")]
mod bounded;
pub(crate) mod carrier;
pub(crate) mod codec;
#[cfg(feature = "postcard")]
mod compact;
pub(crate) mod count;
pub(crate) mod each;
mod escape;
pub(crate) mod fingerprint;
pub(crate) mod handle;
mod json;
#[cfg(feature = "signed")]
pub(crate) mod keys;
mod left_out;
pub(crate) mod length;
mod malformed;
pub(crate) mod measure;
mod message;
mod seal;
pub(crate) mod strict;
pub(crate) mod tickets;
mod wire;

use bytes::Bytes;

use crate::core::error::{Error, Result};
use crate::core::generation::RunKey;
use crate::core::id::PacketId;
use codec::{Codec, Payload};
pub(crate) use left_out::{LeftOut, Lost};
pub(crate) use malformed::{Contradiction, Foreign, Malformed};
pub(crate) use message::{Bundle, MapWork, Message, ReduceWork, Work, unit_of};
pub(crate) use seal::Place;
use wire::Wire;

/// The unit that travels: a slice of consecutive items, or a partial result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packet {
    /// The run.
    pub(crate) run: RunKey,
    /// The packet's position in the tree.
    pub(crate) packet_id: PacketId,
    /// A list of items, or a partial result.
    pub(crate) value: Payload,
    /// Number of items in the whole array; `None` while a stream is still open.
    pub(crate) array_length: Option<u64>,
    /// Number of source items it stands for.
    pub(crate) contains: u64,
    /// Number of source items left out of it under a skip policy.
    pub(crate) skipped: u64,
    /// Which items these are, at most the first hundred.
    pub(crate) left_out: LeftOut,
}

impl Packet {
    /// The same packet with another value.
    pub(crate) fn around(&self, value: Payload) -> Self {
        Self {
            run: self.run.clone(),
            value,
            left_out: self.left_out.clone(),
            ..*self
        }
    }

    /// Encodes the packet for a scratchpad.
    pub(crate) fn write(&self, codec: Codec) -> Result<Bytes> {
        Wire::of_packet(self).write(codec, Some(&self.value))
    }

    /// Reads a packet in any codec. The value is a slice of `bytes`, not a copy.
    pub(crate) fn read(bytes: &Bytes) -> Result<Self> {
        Wire::parse(bytes)
            .and_then(|(wire, value)| wire.packet(value))
            .map_err(|malformed| Error::decode("a stored packet", malformed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of this fan-in.
    pub(super) fn run(fan_in: u32) -> RunKey {
        let generation = format!("6b1f00c2a47e9{fan_in:03x}");
        RunKey::new("a", generation.parse().unwrap())
    }

    pub(super) fn packet() -> Packet {
        Packet {
            run: run(32),
            packet_id: PacketId::leaf(3),
            value: Payload::json(Bytes::from_static(b"[1,\"two\",{\"three\":3}]")),
            array_length: Some(50),
            contains: 3,
            skipped: 0,
            left_out: LeftOut::default(),
        }
    }

    #[test]
    fn a_stored_packet_comes_back() {
        let packet = Packet {
            array_length: None,
            skipped: 2,
            left_out: LeftOut::of("parse", 3, [7, 9]),
            ..packet()
        };
        assert_eq!(
            Packet::read(&packet.write(Codec::Json).unwrap()).unwrap(),
            packet
        );
    }

    #[test]
    fn null_is_a_value() {
        let packet = Packet {
            value: Payload::null(),
            ..packet()
        };
        assert_eq!(
            Packet::read(&packet.write(Codec::Json).unwrap()).unwrap(),
            packet
        );
    }
}
