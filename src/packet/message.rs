//! Messages on the queues of stages: a packet to map, or a group to reduce.

use std::sync::Arc;

use bytes::Bytes;

use super::codec::{Codec, Payload};
use super::malformed::Foreign;
use super::wire::{Kind, Wire};
use super::{Malformed, Packet};
use crate::core::error::{Error, Result};
use crate::core::generation::RunKey;
use crate::core::group::GroupId;
use crate::core::id::PacketId;
use crate::core::name;
use crate::core::tree::{self, MAX_FAN_IN, MAX_LEVEL, MIN_FAN_IN};

/// The version of the wire format that this library writes, and the only one it reads.
pub(super) const VERSION: u32 = 1;

/// A message on a stage's queue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    /// The stage it is for.
    pub(crate) stage: Arc<str>,
    /// Group size when the run began.
    pub(crate) fan_in: u32,
    pub(crate) work: Work,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Work {
    Map(MapWork),
    Reduce(ReduceWork),
    /// Never leaves the process: no codec writes or reads it.
    Bundle(Bundle),
}

/// A packet for a map stage.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MapWork {
    pub(crate) packet: Packet,
    /// The index in the array of the packet's first item.
    pub(crate) offset: u64,
    /// Number of values made of each source item, in order; `None` if one each.
    pub(crate) yields: Option<Vec<u32>>,
}

impl MapWork {
    /// Its name within its stage, for records of failures.
    pub(crate) fn name(&self) -> String {
        format!("packet {}", self.packet.packet_id.index)
    }
}

/// Neighbouring packets in one message: those of a full group, or a single one that has failed as part of such a message.
/// Only the run that makes bundles works on them and takes them apart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bundle {
    /// The items of all packets as one packet, with the id of the first.
    pub(crate) whole: MapWork,
    /// Number of items of each packet.
    pub(crate) sizes: Arc<[u32]>,
    /// Of a packet by itself: the item that failed as part of such a message, by its place, and how often it has.
    pub(crate) earlier: Option<(usize, u32)>,
}

impl Bundle {
    /// The node of the tree that its packets come to: that of their group, or the packet's own.
    pub(crate) fn node(&self, fan_in: u32) -> PacketId {
        let first = self.whole.packet.packet_id;
        match self.sizes.len() {
            1 => first,
            _ => {
                let (level, index, _) = tree::parent(first.level, first.index, fan_in);
                PacketId { level, index }
            }
        }
    }

    fn name(&self) -> String {
        let first = self.whole.packet.packet_id.index;
        match self.sizes.len() as u64 {
            0 | 1 => self.whole.name(),
            count => format!("packets {first} to {}", first + count - 1),
        }
    }
}

/// A complete group for a reducing stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReduceWork {
    pub(crate) run: RunKey,
    pub(crate) level: u32,
    pub(crate) group: u64,
}

impl Message {
    /// The message that requests the reduction of a complete group.
    pub(crate) fn reduce(group: &GroupId, fan_in: u32) -> Self {
        Self {
            stage: Arc::clone(&group.stage),
            fan_in,
            work: Work::Reduce(ReduceWork {
                run: group.run.clone(),
                level: group.level,
                group: group.index,
            }),
        }
    }

    /// Size of its value in bytes, as far as that is known.
    pub(crate) fn size(&self) -> usize {
        match &self.work {
            Work::Map(map) => map.packet.value.size(),
            Work::Bundle(bundle) => bundle.whole.packet.value.size(),
            Work::Reduce(_) => 0,
        }
    }

    pub(crate) fn run(&self) -> &RunKey {
        match &self.work {
            Work::Map(map) => &map.packet.run,
            Work::Bundle(bundle) => &bundle.whole.packet.run,
            Work::Reduce(reduce) => &reduce.run,
        }
    }

    /// The message's name within its stage, for records of failures.
    pub(crate) fn name(&self) -> String {
        match &self.work {
            Work::Map(map) => map.name(),
            Work::Bundle(bundle) => bundle.name(),
            Work::Reduce(reduce) => format!("group {}/{}", reduce.level, reduce.group),
        }
    }

    /// The message's name for records of failures of stage `stage`, on whose queue it was. A message that is not that stage's has
    /// a name that none of the stage's own messages has.
    pub(crate) fn name_at(&self, stage: &str) -> String {
        match *self.stage == *stage {
            true => self.name(),
            false => format!("{} of stage {}", self.name(), self.stage),
        }
    }

    /// Writes a message of this deployment.
    pub(crate) fn encode(&self, codec: Codec, deployment: &str) -> Result<Bytes> {
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
                ..Wire::new(reduce.run.clone())
            },
            Work::Bundle(_) => {
                return Err(Error::encode("a bundle", "it never leaves the process"));
            }
        };
        wire.version = Some(VERSION);
        wire.deployment = Some(deployment.into());
        wire.stage = Some(self.stage.as_ref().into());
        wire.fan_in = Some(self.fan_in);
        let value = match &self.work {
            Work::Map(map) => Some(&map.packet.value),
            Work::Reduce(_) | Work::Bundle(_) => None,
        };
        wire.write(codec, value)
    }

    /// Reads a message of this deployment. A packet's value is a slice of `body`, not a copy.
    ///
    /// # Errors
    /// [`Malformed::Foreign`] if it is another deployment's.
    pub(crate) fn decode(body: &Bytes, deployment: &str) -> Result<Self, Malformed> {
        let (wire, value) = Wire::parse(body)?;
        match wire.version {
            Some(VERSION) => {}
            Some(other) => return Err(Malformed::Version(other)),
            None => return Err(Malformed::MissingField("version")),
        }
        let owner = wire.deployment.as_deref();
        let owner = owner.ok_or(Malformed::MissingField("deployment"))?;
        if owner == deployment {
            return Self::of_wire(wire, value);
        }
        name::check(owner).map_err(|problem| Malformed::Name("deployment", problem))?;
        let owner = owner.to_owned();
        Err(Malformed::Foreign(Box::new(Foreign {
            deployment: owner,
            message: Self::of_wire(wire, value)?,
        })))
    }

    /// What the fields and the value say, whichever deployment's message it is.
    fn of_wire(wire: Wire<'_>, value: Option<Payload>) -> Result<Self, Malformed> {
        let fan_in = wire.fan_in.ok_or(Malformed::MissingField("fanIn"))?;
        if !(MIN_FAN_IN..=MAX_FAN_IN).contains(&fan_in) {
            return Err(Malformed::FanIn(fan_in));
        }
        let run = wire.key()?;
        if run.generation.fan_in() != fan_in {
            return Err(Malformed::OtherFanIn(fan_in, run.generation));
        }
        let stage = wire.stage.as_deref();
        let stage = stage.ok_or(Malformed::MissingField("stage"))?;
        name::check(stage).map_err(|problem| Malformed::Name("stage", problem))?;
        let stage = Arc::from(stage);
        let work = match wire.kind {
            Some(Kind::Map) => Work::Map(MapWork {
                packet: match wire.packet(value)? {
                    leaf if leaf.packet_id.level == 0 => leaf,
                    other => return Err(Malformed::NotALeaf(other.packet_id)),
                },
                offset: wire.packet_offset.unwrap_or_default(),
                yields: wire.packet_yields.map(|yields| yields.into_owned()),
            }),
            Some(Kind::Reduce) => Work::Reduce(ReduceWork {
                level: match wire.level.ok_or(Malformed::MissingField("level"))? {
                    level @ 1..=MAX_LEVEL => level,
                    other => return Err(Malformed::Level(other)),
                },
                group: wire.group.ok_or(Malformed::MissingField("group"))?,
                run,
            }),
            None => return Err(Malformed::MissingField("kind")),
        };
        Ok(Self {
            stage,
            fan_in,
            work,
        })
    }
}

/// The index of the source item that the value at `position` came from, given the number of values made of each.
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

#[cfg(test)]
mod tests {
    use super::super::tests::{packet, run};
    use super::*;

    #[test]
    fn a_map_message_reads_as_the_design_says() {
        let message = Message {
            stage: "times_two".into(),
            fan_in: 32,
            work: Work::Map(MapWork {
                packet: packet(),
                offset: 9,
                yields: None,
            }),
        };
        let body = message.encode(Codec::Json, "adder").unwrap();
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            r#"{"version":1,"kind":"map","deployment":"adder","stage":"times_two","arrayId":"a","generation":"6b1f00c2a47e9020","fanIn":32,"packetId":"0/3","packetOffset":9,"arrayLength":50,"packetContains":3,"packetValue":[1,"two",{"three":3}]}"#
        );
        assert_eq!(Message::decode(&body, "adder").unwrap(), message);
    }

    #[test]
    fn a_reduce_message_comes_back() {
        let message = Message {
            stage: "sum".into(),
            fan_in: 2,
            work: Work::Reduce(ReduceWork {
                run: run(2),
                level: 2,
                group: 7,
            }),
        };
        assert_eq!(
            Message::decode(&message.encode(Codec::Json, "d").unwrap(), "d").unwrap(),
            message
        );
    }

    #[test]
    fn a_message_of_another_deployment_is_none_of_ours_and_names_its_owner() {
        let message = Message {
            stage: "sum".into(),
            fan_in: 2,
            work: Work::Reduce(ReduceWork {
                run: run(2),
                level: 1,
                group: 0,
            }),
        };
        let body = message.encode(Codec::Json, "orders").unwrap();
        let refused = Message::decode(&body, "orders-eu").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "it belongs to stage `sum` of deployment `orders`"
        );
        let Malformed::Foreign(foreign) = refused else {
            panic!("{refused}");
        };
        assert_eq!(foreign.message, message);
        assert_eq!(message.name_at("sum"), "group 1/0");
        assert_eq!(message.name_at("parse"), "group 1/0 of stage sum");
    }

    #[test]
    fn what_is_wrong_with_bad_bytes_is_named() {
        let decode = |body: &str| Message::decode(&Bytes::from(body.to_owned()), "d").unwrap_err();
        let problem = |body: &str| decode(body).to_string();
        assert!(matches!(
            decode(r#"{"arrayId":"a"}"#),
            Malformed::MissingField("version")
        ));
        assert!(problem("not json").contains("line 1"));
        assert!(problem(r#"{"arrayId":"a"}"#).contains("version"));
        assert!(problem(r#"{"arrayId":"a","version":2}"#).contains("version 2"));
        assert!(problem(r#"{"arrayId":"a b","version":1}"#).contains("cannot be used"));
        assert!(problem(r#"{"arrayId":"a","version":1}"#).contains("`deployment`"));
        let body = r#"{"arrayId":"a","version":1,"deployment":"a#b","stage":"s"}"#;
        assert!(problem(body).contains("`deployment` is no name"));
        let body = r#"{"arrayId":"a","version":1,"deployment":"d","stage":"s","fanIn":2}"#;
        assert!(problem(body).contains("`generation` is missing"));
        let body = r#"{"arrayId":"a","generation":"6B1F00C2A47E9002","version":1}"#;
        assert!(problem(body).contains("16 lowercase hexadecimal digits"));
        let body = r#"{"arrayId":"a","generation":"6b1f00c2a47e9020","version":1,"deployment":"d","stage":"s","fanIn":2}"#;
        assert_eq!(
            problem(body),
            "fanIn 2 is not that of generation 6b1f00c2a47e9020, which is 32"
        );
        let body = r#"{"arrayId":"a","generation":"6b1f00c2a47e9002","version":1,"deployment":"d","stage":"a#b","fanIn":2}"#;
        assert!(problem(body).contains("`stage` is no name"));
        let body =
            r#"{"arrayId":"a","version":1,"deployment":"d","stage":"s","fanIn":1,"kind":"reduce"}"#;
        assert!(problem(body).contains("fanIn 1"));
        let body = r#"{"arrayId":"a","version":1,"deployment":"d","stage":"s","generation":"6b1f00c2a47e9002","fanIn":2,"kind":"map","packetId":"0/0","packetContains":1}"#;
        assert!(problem(body).contains("packetValue"));
    }

    #[test]
    fn values_know_their_items() {
        let yields = [0, 2, 0, 1];
        assert_eq!([0, 1, 2].map(|at| unit_of(&yields, at)), [1, 1, 3]);
    }
}
