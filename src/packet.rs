//! The wire format: what travels on queues and rests in the scratchpad, JSON unless told otherwise.

pub(crate) mod carrier;
pub(crate) mod codec;
#[cfg(feature = "postcard")]
mod compact;
pub(crate) mod local;
pub(crate) mod tickets;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::core::error::{Error, Result};
use crate::core::group::GroupId;
use crate::core::id::{ArrayId, PacketId};
use crate::core::tree::{MAX_FAN_IN, MAX_LEVEL, MIN_FAN_IN};
use codec::{Codec, Payload};

/// The version of the wire format that this library writes, and the only one it reads.
pub(crate) const VERSION: u32 = 1;

/// The unit that travels: a slice of consecutive items, or a partial result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packet {
    /// The run.
    pub(crate) array_id: ArrayId,
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
}

impl Packet {
    /// The same packet with another value.
    pub(crate) fn around(&self, value: Payload) -> Self {
        Self {
            array_id: self.array_id.clone(),
            value,
            ..*self
        }
    }

    /// Encodes the packet for a scratchpad.
    pub(crate) fn write(&self, codec: Codec) -> Result<Bytes> {
        join(&Wire::of_packet(self), codec, Some(&self.value))
    }

    /// Reads a packet in any codec. The value is a slice of `bytes`, not a copy.
    pub(crate) fn read(bytes: &Bytes) -> Result<Self> {
        Wire::parse(bytes)
            .and_then(|(wire, value)| wire.packet(value))
            .map_err(|problem| Error::decode("a stored packet", problem))
    }
}

/// A message on a stage's queue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    /// The stage it is for.
    pub(crate) stage: Arc<str>,
    /// Members a group, as it was when the run began.
    pub(crate) fan_in: u32,
    pub(crate) work: Work,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Work {
    Map(MapWork),
    Reduce(ReduceWork),
}

/// A packet for a map stage.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MapWork {
    pub(crate) packet: Packet,
    /// The index in the array of the packet's first item.
    pub(crate) offset: u64,
    /// How many values each source item has become, in order. Absent: one each.
    pub(crate) yields: Option<Vec<u32>>,
    /// Inside the process, a full group's packets may travel together, as the node above them: the items of each. Empty
    /// where it is one packet, which is all that leaves the process.
    pub(crate) together: Vec<u32>,
    /// Attempts at it that failed in another message: when it travelled together with others.
    pub(crate) tried: u32,
}

impl MapWork {
    /// Which of the packets that travel together an item of the array is in.
    pub(crate) fn packet_of(&self, item: u64) -> Option<usize> {
        let mut end = self.offset;
        self.together.iter().position(|items| {
            end += u64::from(*items);
            item < end
        })
    }

    /// Its name within its stage, for records of failures.
    pub(crate) fn name(&self, fan_in: u32) -> String {
        let index = self.packet.packet_id.index;
        match self.together.len() as u64 {
            0 => format!("packet {index}"),
            count => {
                let first = index * u64::from(fan_in);
                format!("packets {first} to {}", first + count - 1)
            }
        }
    }
}

/// A complete group for a reducing stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReduceWork {
    pub(crate) array_id: ArrayId,
    pub(crate) level: u32,
    pub(crate) group: u64,
}

impl Message {
    /// Asks for the reduction of a group that is complete.
    pub(crate) fn reduce(group: &GroupId, fan_in: u32) -> Self {
        Self {
            stage: Arc::clone(&group.stage),
            fan_in,
            work: Work::Reduce(ReduceWork {
                array_id: group.array_id.clone(),
                level: group.level,
                group: group.index,
            }),
        }
    }

    /// Bytes of its value, as far as that is known.
    pub(crate) fn size(&self) -> usize {
        match &self.work {
            Work::Map(map) => map.packet.value.size(),
            Work::Reduce(_) => 0,
        }
    }

    /// Attempts at it that failed in another message.
    pub(crate) fn tried(&self) -> u32 {
        match &self.work {
            Work::Map(map) => map.tried,
            Work::Reduce(_) => 0,
        }
    }

    pub(crate) fn array_id(&self) -> &ArrayId {
        match &self.work {
            Work::Map(map) => &map.packet.array_id,
            Work::Reduce(reduce) => &reduce.array_id,
        }
    }

    /// The message's name within its stage, for records of failures.
    pub(crate) fn name(&self) -> String {
        match &self.work {
            Work::Map(map) => map.name(self.fan_in),
            Work::Reduce(reduce) => format!("group {}/{}", reduce.level, reduce.group),
        }
    }

    pub(crate) fn encode(&self, codec: Codec) -> Result<Bytes> {
        let mut wire = match &self.work {
            Work::Map(map) => Wire {
                kind: Some(Kind::Map),
                packet_offset: Some(map.offset),
                packet_yields: map.yields.as_deref().map(Into::into),
                ..Wire::of_packet(&map.packet)
            },
            Work::Reduce(reduce) => Wire {
                kind: Some(Kind::Reduce),
                level: Some(reduce.level),
                group: Some(reduce.group),
                ..Wire::new(reduce.array_id.clone())
            },
        };
        wire.version = Some(VERSION);
        wire.stage = Some(self.stage.as_ref().into());
        wire.fan_in = Some(self.fan_in);
        let value = match &self.work {
            Work::Map(map) => Some(&map.packet.value),
            Work::Reduce(_) => None,
        };
        join(&wire, codec, value)
    }

    /// Reads a message. A packet's value is a slice of `body`, not a copy. The error is a sentence.
    pub(crate) fn decode(body: &Bytes) -> Result<Self, String> {
        let (wire, value) = Wire::parse(body)?;
        match wire.version {
            Some(VERSION) => {}
            Some(other) => {
                return Err(format!(
                    "version {other} of the wire format, but this library reads version {VERSION}"
                ));
            }
            None => return Err(missing("version")),
        }
        let fan_in = wire.fan_in.ok_or_else(|| missing("fanIn"))?;
        if !(MIN_FAN_IN..=MAX_FAN_IN).contains(&fan_in) {
            return Err(format!(
                "fanIn {fan_in} is not in {MIN_FAN_IN}..={MAX_FAN_IN}"
            ));
        }
        let stage = wire.stage.as_deref().ok_or_else(|| missing("stage"))?;
        let stage = Arc::from(stage);
        let work = match wire.kind {
            Some(Kind::Map) => Work::Map(MapWork {
                packet: match wire.packet(value)? {
                    leaf if leaf.packet_id.level == 0 => leaf,
                    other => {
                        return Err(format!(
                            "packetId {} is no leaf's, as that of a packet of items is",
                            other.packet_id
                        ));
                    }
                },
                offset: wire.packet_offset.unwrap_or_default(),
                yields: wire.packet_yields.map(|yields| yields.into_owned()),
                together: Vec::new(),
                tried: 0,
            }),
            Some(Kind::Reduce) => Work::Reduce(ReduceWork {
                level: match wire.level.ok_or_else(|| missing("level"))? {
                    level @ 1..=MAX_LEVEL => level,
                    other => return Err(format!("level {other} is not in 1..={MAX_LEVEL}")),
                },
                group: wire.group.ok_or_else(|| missing("group"))?,
                array_id: wire.array_id,
            }),
            None => return Err(missing("kind")),
        };
        Ok(Self {
            stage,
            fan_in,
            work,
        })
    }
}

/// Which source item a value came from, given how many values each has become.
pub(crate) fn unit_of(yields: &[u32], position: usize) -> usize {
    let mut end = 0usize;
    yields
        .iter()
        .take_while(|count| {
            end = end.saturating_add(**count as usize);
            end <= position
        })
        .count()
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Map,
    Reduce,
}

/// Every field that travels, in the order in which they are written. One flat structure, so that
/// a message is read in a single pass.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<Kind>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    stage: Option<Cow<'a, str>>,
    array_id: ArrayId,
    #[serde(skip_serializing_if = "Option::is_none")]
    fan_in: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet_id: Option<PacketId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    array_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet_contains: Option<u64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    packet_skipped: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet_yields: Option<Cow<'a, [u32]>>,
    /// Written by [`splice`], since it is JSON already.
    #[serde(borrow, default, skip_serializing, deserialize_with = "even_null")]
    packet_value: Option<&'a RawValue>,
}

/// A value that is `null` is a value, and not a missing field.
fn even_null<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn missing(field: &str) -> String {
    format!("the field `{field}` is missing")
}

impl<'a> Wire<'a> {
    fn new(array_id: ArrayId) -> Self {
        Self {
            version: None,
            kind: None,
            stage: None,
            array_id,
            fan_in: None,
            level: None,
            group: None,
            packet_id: None,
            packet_offset: None,
            array_length: None,
            packet_contains: None,
            packet_skipped: 0,
            packet_yields: None,
            packet_value: None,
        }
    }

    fn of_packet(packet: &Packet) -> Self {
        Self {
            packet_id: Some(packet.packet_id),
            array_length: packet.array_length,
            packet_contains: Some(packet.contains),
            packet_skipped: packet.skipped,
            ..Self::new(packet.array_id.clone())
        }
    }

    /// The fields, and the value where there is one.
    fn parse(bytes: &'a Bytes) -> Result<(Self, Option<Payload>), String> {
        #[cfg(feature = "postcard")]
        if bytes.first() == Some(&compact::MARK) {
            return compact::parse(bytes);
        }
        if let Some(read) = Self::parse_numbers(bytes) {
            return Ok(read);
        }
        let wire: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let value = wire
            .packet_value
            .map(|value| Payload::json(bytes.slice_ref(value.get().as_bytes())));
        Ok((wire, value))
    }

    /// As [`parse`](Self::parse), where a long value of nothing but numbers comes last, as [`splice`] writes it: it is not gone over
    /// here, since whoever decodes it does that. Without a quotation mark in it, no other field can follow.
    fn parse_numbers(bytes: &Bytes) -> Option<(Self, Option<Payload>)> {
        const LONG: usize = 1_024;
        if bytes.len() < LONG {
            return None;
        }
        let head = bytes.get(..LONG)?;
        let fields = head.windows(FIELD.len()).position(|part| part == FIELD)?;
        let begin = fields + FIELD.len();
        let (value, end) = bytes
            .get(begin..)?
            .split_at_checked(bytes.len() - begin - 1)?;
        if end != b"}" || value.contains(&b'"') {
            return None;
        }
        let fields = [bytes.get(..fields)?, b"}"].concat();
        let wire: Wire<'_> = serde_json::from_slice(&fields).ok()?;
        if wire.packet_value.is_some() {
            return None;
        }
        let value = Payload::json(bytes.slice_ref(value));
        Some((wire.into_owned(), Some(value)))
    }

    /// The same without a value, in memory of its own.
    fn into_owned(self) -> Wire<'static> {
        Wire {
            version: self.version,
            kind: self.kind,
            stage: self.stage.map(|stage| Cow::Owned(stage.into_owned())),
            array_id: self.array_id,
            fan_in: self.fan_in,
            level: self.level,
            group: self.group,
            packet_id: self.packet_id,
            packet_offset: self.packet_offset,
            array_length: self.array_length,
            packet_contains: self.packet_contains,
            packet_skipped: self.packet_skipped,
            packet_yields: self
                .packet_yields
                .map(|yields| Cow::Owned(yields.into_owned())),
            packet_value: None,
        }
    }

    fn packet(&self, value: Option<Payload>) -> Result<Packet, String> {
        Ok(Packet {
            array_id: self.array_id.clone(),
            packet_id: self.packet_id.ok_or_else(|| missing("packetId"))?,
            value: value.ok_or_else(|| missing("packetValue"))?,
            array_length: self.array_length,
            contains: self
                .packet_contains
                .ok_or_else(|| missing("packetContains"))?,
            skipped: self.packet_skipped,
        })
    }
}

/// Writes the fields with the value behind them, in the value's codec where there is one.
fn join(wire: &Wire<'_>, codec: Codec, value: Option<&Payload>) -> Result<Bytes> {
    let (codec, value) = match value {
        None => (codec, None),
        Some(Payload::Encoded(codec, bytes)) => (*codec, Some(bytes)),
        Some(Payload::Local(_) | Payload::Part(..)) => {
            return Err(Error::encode(
                "a packet",
                "its value is not to leave the process",
            ));
        }
    };
    match (codec, value) {
        (Codec::Json, Some(value)) => splice(wire, value),
        (Codec::Json, None) => serde_json::to_vec(wire)
            .map(Bytes::from)
            .map_err(|source| Error::encode("a message", source)),
        #[cfg(feature = "postcard")]
        (Codec::Postcard, value) => compact::write(wire, value),
    }
}

/// What comes before a value that is last.
const FIELD: &[u8] = b",\"packetValue\":";

/// Writes the fields as a JSON object with `packetValue` last. The value is JSON already, so it
/// is copied, not parsed.
fn splice(wire: &Wire<'_>, value: &[u8]) -> Result<Bytes> {
    let mut bytes = Vec::with_capacity(256 + FIELD.len() + value.len());
    serde_json::to_writer(&mut bytes, wire)
        .map_err(|source| Error::encode("a packet's header", source))?;
    bytes.pop();
    bytes.extend_from_slice(FIELD);
    bytes.extend_from_slice(value);
    bytes.push(b'}');
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Long values of numbers are read in another way, and must mean the same.
    #[test]
    fn a_long_value_means_the_same_wherever_it_stands() {
        let numbers = serde_json::to_string(&(0..1_000).collect::<Vec<_>>()).unwrap();
        let read = |text: String| Packet::read(&Bytes::from(text));
        let whole = |value: &str| {
            format!(
                r#"{{"arrayId":"a,","packetId":"0/3","packetContains":9,"packetSkipped":1,"packetValue":{value}}}"#
            )
        };
        let packet = read(whole(&numbers)).unwrap();
        assert_eq!(packet.value, Payload::json(numbers.clone().into()));
        assert_eq!((packet.contains, packet.skipped), (9, 1));
        // Fields behind the value, before it, and spaces.
        let others = [
            format!(
                r#"{{"arrayId":"a,","packetId":"0/3","packetContains":9,"packetValue":{numbers},"packetSkipped":1}}"#
            ),
            format!(
                r#"{{"packetValue":{numbers},"arrayId":"a,","packetId":"0/3","packetContains":9,"packetSkipped":1}}"#
            ),
            whole(&numbers)
                .replace(",\"p", " , \"p")
                .replace(':', " : ")
                + " ",
        ];
        for text in others {
            assert_eq!(read(text.clone()).unwrap(), packet, "{text:.200}");
        }
        // What is broken is an error here or where the value is decoded.
        for value in [&numbers[1..], &numbers[..numbers.len() - 1], "", "]"] {
            let filled = format!("{value}{:2000}", "");
            match read(whole(&filled)) {
                Err(_) => {}
                Ok(packet) => {
                    let numbers = crate::packet::codec::decode_list::<u64>(&packet.value, "it");
                    assert!(numbers.is_err(), "{value:.20}");
                }
            }
        }
        // Twice is once too often.
        let twice = format!(r#"{{"packetValue":1,{}"#, &whole(&numbers)[1..]);
        assert!(read(twice).is_err());
    }

    fn packet() -> Packet {
        Packet {
            array_id: "a".into(),
            packet_id: PacketId::leaf(3),
            value: Payload::json(Bytes::from_static(b"[1,\"two\",{\"three\":3}]")),
            array_length: Some(50),
            contains: 3,
            skipped: 0,
        }
    }

    #[test]
    fn a_map_message_reads_as_the_design_says() {
        let message = Message {
            stage: "times_two".into(),
            fan_in: 32,
            work: Work::Map(MapWork {
                packet: packet(),
                offset: 9,
                yields: None,
                together: Vec::new(),
                tried: 0,
            }),
        };
        let body = message.encode(Codec::Json).unwrap();
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            r#"{"version":1,"kind":"map","stage":"times_two","arrayId":"a","fanIn":32,"packetId":"0/3","packetOffset":9,"arrayLength":50,"packetContains":3,"packetValue":[1,"two",{"three":3}]}"#
        );
        assert_eq!(Message::decode(&body).unwrap(), message);
    }

    #[test]
    fn a_reduce_message_comes_back() {
        let message = Message {
            stage: "sum".into(),
            fan_in: 2,
            work: Work::Reduce(ReduceWork {
                array_id: "a".into(),
                level: 2,
                group: 7,
            }),
        };
        assert_eq!(
            Message::decode(&message.encode(Codec::Json).unwrap()).unwrap(),
            message
        );
    }

    #[test]
    fn a_stored_packet_comes_back() {
        let packet = Packet {
            array_length: None,
            skipped: 2,
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

    #[test]
    fn what_is_wrong_with_bad_bytes_is_named() {
        let problem = |body: &str| Message::decode(&Bytes::from(body.to_owned())).unwrap_err();
        assert!(problem("not json").contains("line 1"));
        assert!(problem(r#"{"arrayId":"a"}"#).contains("version"));
        assert!(problem(r#"{"arrayId":"a","version":2}"#).contains("version 2"));
        assert!(problem(r#"{"arrayId":"a b","version":1}"#).contains("cannot be used"));
        let body = r#"{"arrayId":"a","version":1,"stage":"s","fanIn":1,"kind":"reduce"}"#;
        assert!(problem(body).contains("fanIn 1"));
        let body = r#"{"arrayId":"a","version":1,"stage":"s","fanIn":2,"kind":"map","packetId":"0/0","packetContains":1}"#;
        assert!(problem(body).contains("packetValue"));
    }

    #[test]
    fn values_know_their_items() {
        let yields = [0, 2, 0, 1];
        assert_eq!([0, 1, 2].map(|at| unit_of(&yields, at)), [1, 1, 3]);
    }
}
