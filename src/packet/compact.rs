//! The compact codec's messages and packets: a mark, the fields, and the value up to the end.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::codec::{Codec, Payload};
use super::wire::{Kind, Wire};
use super::{LeftOut, Malformed};
use crate::core::error::{Error, Result};
use crate::core::generation::Generation;
use crate::core::id::{PacketId, RunId};

/// The first byte. JSON text never begins with it.
pub(super) const MARK: u8 = 1;

/// All fields of [`Wire`], present or not: this codec has no names to leave out.
#[derive(Serialize, Deserialize)]
struct Fields<'a> {
    version: Option<u32>,
    kind: Option<Kind>,
    #[serde(borrow)]
    deployment: Option<&'a str>,
    #[serde(borrow)]
    stage: Option<&'a str>,
    run: RunId,
    generation: Option<Generation>,
    fan_in: Option<u32>,
    level: Option<u32>,
    group: Option<u64>,
    packet_id: Option<(u32, u64)>,
    packet_offset: Option<u64>,
    array_length: Option<u64>,
    packet_contains: Option<u64>,
    packet_skipped: u64,
    packet_left_out: LeftOut,
    packet_yields: Option<Cow<'a, [u32]>>,
    has_value: bool,
}

pub(super) fn write(wire: &Wire<'_>, value: Option<&Bytes>) -> Result<Bytes> {
    let fields = Fields {
        version: wire.version,
        kind: wire.kind,
        deployment: wire.deployment.as_deref(),
        stage: wire.stage.as_deref(),
        run: wire.run.clone(),
        generation: wire.generation,
        fan_in: wire.fan_in,
        level: wire.level,
        group: wire.group,
        packet_id: wire.packet_id.map(|id| (id.level, id.index)),
        packet_offset: wire.packet_offset,
        array_length: wire.array_length,
        packet_contains: wire.packet_contains,
        packet_skipped: wire.packet_skipped,
        packet_left_out: wire.packet_left_out.clone(),
        packet_yields: wire.packet_yields.as_deref().map(Cow::Borrowed),
        has_value: value.is_some(),
    };
    let mut bytes = Vec::with_capacity(128 + value.map_or(0, Bytes::len));
    bytes.push(MARK);
    let mut bytes = postcard::to_extend(&fields, bytes)
        .map_err(|source| Error::encode("a packet's header", source))?;
    bytes.extend_from_slice(value.map_or(&[], |value| value));
    Ok(bytes.into())
}

/// Reads the fields, and the value if there is one.
pub(super) fn parse(bytes: &Bytes) -> Result<(Wire<'_>, Option<Payload>), Malformed> {
    let fields = bytes.get(1..).unwrap_or_default();
    let (fields, rest) = postcard::take_from_bytes::<Fields<'_>>(fields)?;
    let value = match (fields.has_value, rest) {
        (true, value) => Some(Payload::Encoded(Codec::Postcard, bytes.slice_ref(value))),
        (false, []) => None,
        (false, _) => return Err(Malformed::LeftOver(rest.len())),
    };
    let wire = Wire {
        version: fields.version,
        kind: fields.kind,
        deployment: fields.deployment.map(Cow::Borrowed),
        stage: fields.stage.map(Cow::Borrowed),
        run: fields.run,
        generation: fields.generation,
        fan_in: fields.fan_in,
        level: fields.level,
        group: fields.group,
        packet_id: fields
            .packet_id
            .map(|(level, index)| PacketId { level, index }),
        packet_offset: fields.packet_offset,
        array_length: fields.array_length,
        packet_contains: fields.packet_contains,
        packet_skipped: fields.packet_skipped,
        packet_left_out: fields.packet_left_out,
        packet_yields: fields.packet_yields,
        packet_value: None,
    };
    Ok((wire, value))
}

#[cfg(test)]
mod tests {
    use crate::core::id::PacketId;
    use crate::packet::codec::Form;
    use crate::packet::codec::{Codec, Payload, encode};
    use crate::packet::tests::run;
    use crate::packet::{LeftOut, Malformed, MapWork, Message, Packet, ReduceWork, Work};

    #[test]
    fn messages_and_packets_come_back() {
        let packet = Packet {
            run: run(32),
            packet_id: PacketId::leaf(3),
            value: encode(vec![1i64, 2, 3], Form::Wire(Codec::Postcard), "x").unwrap(),
            array_length: Some(50),
            contains: 3,
            skipped: 1,
            left_out: LeftOut::of("s", 3, [4]),
        };
        let stored = packet.write(Codec::Json).unwrap();
        assert_eq!(
            Packet::read(&stored).unwrap(),
            packet,
            "a value's codec is its packet's"
        );
        let map = Work::Map(MapWork {
            packet,
            offset: 9,
            yields: Some(vec![0, 2]),
        });
        let reduce = Work::Reduce(ReduceWork {
            run: run(32),
            level: 2,
            group: 7,
        });
        for work in [map, reduce] {
            let message = Message {
                stage: "s".into(),
                fan_in: 32,
                work,
            };
            let body = message.encode(Codec::Postcard, "d").unwrap();
            assert_eq!(body.first(), Some(&1));
            assert_eq!(Message::decode(&body, "d").unwrap(), message);
            let foreign = Message::decode(&body, "other").unwrap_err();
            assert!(matches!(foreign, Malformed::Foreign(_)), "{foreign}");
            for end in 0..body.len() - 1 {
                drop(Message::decode(&body.slice(..end), "d"));
            }
        }
        assert_ne!(
            Payload::null(),
            encode((), Form::Wire(Codec::Postcard), "x").unwrap()
        );
    }
}
