//! The fields of messages and stored packets, whichever codec writes them.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::codec::{Codec, Payload};
#[cfg(feature = "postcard")]
use super::compact;
use super::{LeftOut, Malformed, Packet, json};
use crate::core::error::{Error, Result};
use crate::core::generation::{Generation, RunKey};
use crate::core::id::{PacketId, RunId};

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Map,
    Reduce,
}

/// Every field of a message or a stored packet, in the order in which they are written. One flat structure, so that
/// a message is read in a single pass.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wire<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<Kind>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(super) deployment: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(super) stage: Option<Cow<'a, str>>,
    #[serde(rename = "arrayId")]
    pub(super) run: RunId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) generation: Option<Generation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fan_in: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) level: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) packet_id: Option<PacketId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) packet_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) array_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) packet_contains: Option<u64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) packet_skipped: u64,
    #[serde(default, skip_serializing_if = "LeftOut::is_empty")]
    pub(super) packet_left_out: LeftOut,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) packet_yields: Option<Cow<'a, [u32]>>,
    /// Only read: `json` writes it by copying, since it is JSON already.
    #[serde(borrow, default, skip_serializing, deserialize_with = "even_null")]
    pub(super) packet_value: Option<&'a RawValue>,
}

/// A `null` value is a value, not a missing field.
fn even_null<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl<'a> Wire<'a> {
    pub(super) fn new(run: RunKey) -> Self {
        Self {
            version: None,
            kind: None,
            deployment: None,
            stage: None,
            run: run.id,
            generation: Some(run.generation),
            fan_in: None,
            level: None,
            group: None,
            packet_id: None,
            packet_offset: None,
            array_length: None,
            packet_contains: None,
            packet_skipped: 0,
            packet_left_out: LeftOut::default(),
            packet_yields: None,
            packet_value: None,
        }
    }

    pub(super) fn of_packet(packet: &Packet) -> Self {
        Self {
            packet_id: Some(packet.packet_id),
            array_length: packet.array_length,
            packet_contains: Some(packet.contains),
            packet_skipped: packet.skipped,
            packet_left_out: packet.left_out.clone(),
            ..Self::new(packet.run.clone())
        }
    }

    /// Reads the fields, and the value if there is one. The only place where a message or a stored packet is read.
    pub(super) fn parse(bytes: &'a Bytes) -> Result<(Self, Option<Payload>), Malformed> {
        #[cfg(feature = "postcard")]
        if bytes.first() == Some(&compact::MARK) {
            return compact::parse(bytes);
        }
        json::parse(bytes)
    }

    /// Writes the fields followed by the value, in the value's codec if there is a value. The only place where a message or a
    /// stored packet is written.
    pub(super) fn write(&self, codec: Codec, value: Option<&Payload>) -> Result<Bytes> {
        let (codec, value) = match value {
            None => (codec, None),
            Some(Payload::Encoded(codec, bytes)) => (*codec, Some(bytes)),
            Some(Payload::Local(_)) => {
                return Err(Error::encode(
                    "a packet",
                    "its value is not to leave the process",
                ));
            }
        };
        match (codec, value) {
            (Codec::Json, Some(value)) => json::splice(self, value),
            (Codec::Json, None) => serde_json::to_vec(self)
                .map(Bytes::from)
                .map_err(|source| Error::encode("a message", source)),
            #[cfg(feature = "postcard")]
            (Codec::Postcard, value) => compact::write(self, value),
        }
    }

    /// A copy that borrows nothing, without the value.
    pub(super) fn into_owned(self) -> Wire<'static> {
        Wire {
            version: self.version,
            kind: self.kind,
            deployment: self.deployment.map(|name| Cow::Owned(name.into_owned())),
            stage: self.stage.map(|stage| Cow::Owned(stage.into_owned())),
            run: self.run,
            generation: self.generation,
            fan_in: self.fan_in,
            level: self.level,
            group: self.group,
            packet_id: self.packet_id,
            packet_offset: self.packet_offset,
            array_length: self.array_length,
            packet_contains: self.packet_contains,
            packet_skipped: self.packet_skipped,
            packet_left_out: self.packet_left_out,
            packet_yields: self
                .packet_yields
                .map(|yields| Cow::Owned(yields.into_owned())),
            packet_value: None,
        }
    }

    /// Which run it belongs to.
    pub(super) fn key(&self) -> Result<RunKey, Malformed> {
        let generation = self
            .generation
            .ok_or(Malformed::MissingField("generation"))?;
        Ok(RunKey::new(&self.run, generation))
    }

    /// The packet that these fields and `value` make.
    pub(super) fn packet(&self, value: Option<Payload>) -> Result<Packet, Malformed> {
        use Malformed::MissingField;
        if self.packet_left_out.is_too_long()
            || self.packet_left_out.len() as u64 > self.packet_skipped
        {
            return Err(Malformed::LeftOut(self.packet_left_out.len()));
        }
        Ok(Packet {
            run: self.key()?,
            packet_id: self.packet_id.ok_or(MissingField("packetId"))?,
            value: value.ok_or(MissingField("packetValue"))?,
            array_length: self.array_length,
            contains: self.packet_contains.ok_or(MissingField("packetContains"))?,
            skipped: self.packet_skipped,
            left_out: self.packet_left_out.clone(),
        })
    }
}
