//! What a stranger has read on the queues, and what can be told of a message by it. The rules are those that stand at
//! [`Stranger`](super::Stranger), written down apart from the code that they test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

/// Messages that are remembered. What is not is never said to be a copy.
const REMEMBERED: usize = 4_096;

pub(super) type Fields = Map<String, Value>;

/// The id and the generation of a run.
type Key = (String, String);

/// A message that was read on a queue.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) queue: Arc<str>,
    pub(super) body: Bytes,
    pub(super) fields: Fields,
}

/// What is known of a run.
#[derive(Debug)]
struct Facts {
    /// Only its submitter writes to the first queue, so that what is read there is not made of a forgery.
    first_queue: Arc<str>,
    fan_in: Option<u64>,
    length: Option<u64>,
    /// How many packets it has, if the last one has been read.
    packets: Option<u64>,
}

/// The counts and values of a packet.
type Content = (Option<u64>, u64, Option<Value>);

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) messages: Vec<Seen>,
    /// Queues of map stages after a reduction.
    pub(super) finishes: BTreeSet<String>,
    runs: BTreeMap<Key, Facts>,
    /// Those that each id has had, in their order.
    generations: BTreeMap<String, Vec<String>>,
    /// Runs that only forgeries know.
    inventions: BTreeSet<Key>,
    contents: BTreeMap<(Arc<str>, Key, String), Content>,
    types: BTreeMap<Arc<str>, BTreeSet<&'static str>>,
}

impl Known {
    /// Takes note of a message that the library has sent. `None` if there is nothing to learn from it.
    pub(super) fn note(&mut self, queue: &Arc<str>, body: &Bytes) -> Option<Seen> {
        let fields: Fields = serde_json::from_slice(body).ok()?;
        let key = key_of(&fields);
        if self.inventions.contains(&key) {
            // It was made of a forgery.
            return None;
        }
        let generations = self.generations.entry(key.0.clone()).or_default();
        if !generations.contains(&key.1) {
            generations.push(key.1.clone());
        }
        let facts = self.runs.entry(key.clone()).or_insert_with(|| Facts {
            first_queue: Arc::clone(queue),
            fan_in: number(&fields, "fanIn"),
            length: None,
            packets: None,
        });
        if facts.first_queue == *queue {
            facts.length = number(&fields, "arrayLength").or(facts.length);
            let end = number(&fields, "packetOffset").unwrap_or(0)
                + number(&fields, "packetContains").unwrap_or(0);
            if facts.length == Some(end) {
                facts.packets = index_of(&fields).map(|index| index + 1);
            }
        }
        if let Some(values) = values_of(&fields) {
            let types = self.types.entry(Arc::clone(queue)).or_default();
            types.extend(values.iter().map(type_of));
        }
        if self.messages.len() < REMEMBERED {
            if let Some(packet) = fields.get("packetId").and_then(Value::as_str) {
                let place = (Arc::clone(queue), key, packet.to_owned());
                self.contents
                    .entry(place)
                    .or_insert_with(|| content_of(&fields));
            }
            self.messages.push(Seen {
                queue: Arc::clone(queue),
                body: body.clone(),
                fields: fields.clone(),
            });
        }
        Some(Seen {
            queue: Arc::clone(queue),
            body: body.clone(),
            fields,
        })
    }

    /// Takes note of a forgery.
    pub(super) fn invented(&mut self, fields: &Fields) {
        let key = key_of(fields);
        if !self.runs.contains_key(&key) {
            self.inventions.insert(key);
        }
    }

    /// The number of packets of the run of a message.
    pub(super) fn packets(&self, fields: &Fields) -> Option<u64> {
        self.runs.get(&key_of(fields))?.packets
    }

    /// Whether nothing but a signature could tell this message on this queue from its run's own.
    pub(super) fn is_impersonation(&self, queue: &Arc<str>, fields: &Fields) -> bool {
        self.is_for(queue, fields)
            && self.is_of_the_run(fields)
            && match self.finishes.contains(&**queue) {
                true => adds_up(fields, Some(1)) && self.is_whole(fields),
                false => adds_up(fields, None),
            }
            && self.has_the_types(queue, fields)
            && !self.is_as_read(queue, fields)
    }

    /// Whether it is a packet for the stage of this queue, which takes packets.
    fn is_for(&self, queue: &Arc<str>, fields: &Fields) -> bool {
        let text = |name| fields.get(name).and_then(Value::as_str);
        let name = text("deployment").zip(text("stage"));
        number(fields, "version") == Some(1)
            && text("kind") == Some("map")
            && name.is_some_and(|(deployment, stage)| **queue == *format!("{deployment}--{stage}"))
            && (self.types.contains_key(queue) || self.finishes.contains(&**queue))
    }

    /// Whether its run, its fan-in and its packet are those of a run.
    fn is_of_the_run(&self, fields: &Fields) -> bool {
        let key = key_of(fields);
        let Some(facts) = self.runs.get(&key) else {
            return false;
        };
        let generations = self.generations.get(&key.0);
        let latest = generations.and_then(|generations| generations.last());
        let Some(index) = index_of(fields) else {
            return false;
        };
        latest == Some(&key.1)
            && number(fields, "fanIn") == facts.fan_in
            && facts.packets.is_none_or(|packets| index < packets)
    }

    /// Whether its values are of the types that were read on this queue, if any were.
    fn has_the_types(&self, queue: &Arc<str>, fields: &Fields) -> bool {
        let Some(types) = self.types.get(queue).filter(|types| !types.is_empty()) else {
            return true;
        };
        let mut values = values_of(fields).into_iter().flatten();
        values.all(|value| types.contains(type_of(value)))
    }

    /// Whether it stands for the run's whole input.
    fn is_whole(&self, fields: &Fields) -> bool {
        let length = self
            .runs
            .get(&key_of(fields))
            .and_then(|facts| facts.length);
        let declared = number(fields, "arrayLength");
        let contains = number(fields, "packetContains").unwrap_or(0);
        let items = contains.checked_add(number(fields, "packetSkipped").unwrap_or(0));
        index_of(fields) == Some(0)
            && number(fields, "packetOffset").unwrap_or(0) == 0
            && declared.is_some()
            && declared == items
            && (length.is_none() || length == declared)
    }

    /// Whether its content is what was read.
    fn is_as_read(&self, queue: &Arc<str>, fields: &Fields) -> bool {
        let packet = fields.get("packetId").and_then(Value::as_str);
        let place = (
            Arc::clone(queue),
            key_of(fields),
            packet.unwrap_or_default().to_owned(),
        );
        self.contents.get(&place) == Some(&content_of(fields))
    }
}

/// Whether the numbers of a packet agree with each other and with its values: one for each item, or for each of `sources`.
fn adds_up(fields: &Fields, sources: Option<u64>) -> bool {
    let absent = |name| !fields.contains_key(name);
    let named = |name| number(fields, name);
    let (Some(contains), Some(values)) = (named("packetContains"), values_of(fields)) else {
        return false;
    };
    let optional = |name| match absent(name) {
        true => Some(0),
        false => named(name),
    };
    let (Some(skipped), Some(offset)) = (optional("packetSkipped"), optional("packetOffset"))
    else {
        return false;
    };
    let Some(items) = contains.checked_add(skipped) else {
        return false;
    };
    let Some(end) = offset.checked_add(items) else {
        return false;
    };
    if !absent("arrayLength") && named("arrayLength").is_none_or(|length| end > length) {
        return false;
    }
    let count = values.len() as u64;
    match (fields.get("packetYields"), sources) {
        (None, Some(sources)) => count == sources,
        (None, None) => skipped == 0 && count == contains,
        (Some(Value::Array(yields)), _) => {
            let sum: Option<u64> = yields.iter().map(Value::as_u64).sum();
            yields.len() as u64 == sources.unwrap_or(items) && sum == Some(count)
        }
        (Some(_), _) => false,
    }
}

fn content_of(fields: &Fields) -> Content {
    let skipped = number(fields, "packetSkipped").unwrap_or(0);
    let values = fields.get("packetValue").cloned();
    (number(fields, "packetContains"), skipped, values)
}

fn key_of(fields: &Fields) -> Key {
    (id_of(fields), text_of(fields, "generation"))
}

pub(super) fn id_of(fields: &Fields) -> String {
    text_of(fields, "arrayId")
}

fn text_of(fields: &Fields, name: &str) -> String {
    let text = fields.get(name).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

pub(super) fn number(fields: &Fields, name: &str) -> Option<u64> {
    fields.get(name)?.as_u64()
}

pub(super) fn index_of(fields: &Fields) -> Option<u64> {
    let id = fields.get("packetId")?.as_str()?;
    id.strip_prefix("0/")?.parse().ok()
}

pub(super) fn values_of(fields: &Fields) -> Option<&Vec<Value>> {
    fields.get("packetValue")?.as_array()
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
