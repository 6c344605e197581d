//! How a message that was read becomes a forgery.

use std::sync::Arc;

use serde_json::{Value, json};

use super::known::{Fields, Known, Seen, index_of, number, values_of};

/// Numbers at which something may begin or end: of types, of what other languages hold exactly, and of the wire format.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    3,
    66,
    1_000,
    (1 << 31) - 1,
    u32::MAX as u64,
    1 << 32,
    (1 << 53) - 1,
    1 << 53,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Fields that hold a number, or have one in them.
const NUMBERS: [&str; 11] = [
    "version",
    "fanIn",
    "packetId",
    "packetOffset",
    "arrayLength",
    "packetContains",
    "packetSkipped",
    "packetLeftOut",
    "packetYields",
    "level",
    "group",
];

pub(super) const COPY: &str = "copies";
pub(super) const IMPERSONATION: &str = "impersonations";

/// A kind of forgery, and how it is made.
type Kind = (&'static str, fn(&mut Draft<'_>));

pub(super) const KINDS: [Kind; 20] = [
    (COPY, |_| {}),
    ("copies on another queue", |draft| draft.elsewhere()),
    ("numbers at an edge", |draft| draft.edge()),
    ("two numbers at an edge", |draft| {
        draft.edge();
        draft.edge();
    }),
    ("counts that overflow together", |draft| draft.overflow()),
    ("ids of other runs", |draft| draft.another_run()),
    ("ids of no run", |draft| {
        draft.set("arrayId", json!("nobody"))
    }),
    ("other generations", |draft| draft.another_generation()),
    ("other deployments", |draft| draft.another_deployment()),
    ("other stages", |draft| draft.another_stage()),
    ("the other kind", |draft| draft.another_kind()),
    ("other values", |draft| draft.other_values()),
    ("as many other values", |draft| draft.as_many()),
    ("other yields", |draft| draft.other_yields()),
    ("lists of left-out items", |draft| draft.left_out()),
    ("other fan-ins", |draft| draft.another_fan_in()),
    ("packets past the end", |draft| draft.past_the_end()),
    ("groups that are not asked for", |draft| draft.group()),
    ("missing fields", |draft| draft.missing()),
    ("results of nothing", |draft| draft.result()),
];

/// A message that is being forged.
pub(super) struct Draft<'a> {
    pub(super) queue: Arc<str>,
    pub(super) fields: Fields,
    random: &'a mut fastrand::Rng,
    known: &'a Known,
}

impl<'a> Draft<'a> {
    pub(super) fn new(base: &Seen, random: &'a mut fastrand::Rng, known: &'a Known) -> Self {
        Self {
            queue: Arc::clone(&base.queue),
            fields: base.fields.clone(),
            random,
            known,
        }
    }

    /// Whether it is forged once more, in another way.
    pub(super) fn again(&mut self) -> bool {
        self.random.u32(0..4) == 0
    }

    pub(super) fn one_of(&mut self, count: usize) -> usize {
        self.random.usize(..count.max(1))
    }

    fn set(&mut self, name: &str, value: Value) {
        self.fields.insert(name.to_owned(), value);
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        match from.len() {
            0 => None,
            count => from.get(self.random.usize(..count)).copied(),
        }
    }

    fn number(&mut self) -> u64 {
        self.pick(&EDGES).unwrap_or_default()
    }

    /// Another message that was read.
    fn another(&mut self) -> Option<&'a Seen> {
        let known = self.known;
        let count = known.messages.len();
        known.messages.get(self.random.usize(..count.max(1)))
    }

    fn elsewhere(&mut self) {
        if let Some(other) = self.another() {
            self.queue = Arc::clone(&other.queue);
        }
    }

    fn edge(&mut self) {
        let Some(name) = self.pick(&NUMBERS) else {
            return;
        };
        let number = self.number();
        let value = match name {
            "packetId" if self.random.u32(0..4) == 0 => json!(format!("{number}/0")),
            "packetId" => json!(format!("0/{number}")),
            "packetYields" => json!([number]),
            "packetLeftOut" => json!({ "words": [[number, 0]] }),
            _ => json!(number),
        };
        self.set(name, value);
    }

    fn overflow(&mut self) {
        let high = u64::MAX - self.random.u64(0..3);
        let low = self.random.u64(0..5);
        let (contains, skipped) = match self.random.bool() {
            true => (high, low),
            false => (low, high),
        };
        self.set("packetContains", json!(contains));
        self.set("packetSkipped", json!(skipped));
        if self.random.bool() {
            let offset = self.number();
            self.set("packetOffset", json!(offset));
        }
    }

    fn another_run(&mut self) {
        if let Some(id) = self.another().and_then(|other| other.fields.get("arrayId")) {
            self.set("arrayId", id.clone());
        }
    }

    /// One of another run, of an earlier run, or made up.
    fn another_generation(&mut self) {
        let known = self
            .another()
            .and_then(|other| other.fields.get("generation"));
        match known.filter(|_| self.random.bool()) {
            Some(generation) => self.set("generation", generation.clone()),
            None => {
                let fan_in = number(&self.fields, "fanIn").unwrap_or_default() & 0xfff;
                let drawn = self.random.u64(..) & !0xfff | fan_in;
                self.set("generation", json!(format!("{drawn:016x}")));
            }
        }
    }

    fn another_deployment(&mut self) {
        let other = self
            .another()
            .and_then(|other| other.fields.get("deployment"));
        match other.filter(|_| self.random.bool()) {
            Some(deployment) => self.set("deployment", deployment.clone()),
            None => self.set("deployment", json!("nowhere")),
        }
    }

    fn another_stage(&mut self) {
        let Some(other) = self.another() else {
            return;
        };
        if let Some(stage) = other.fields.get("stage") {
            self.set("stage", stage.clone());
        }
        if self.random.bool() {
            self.queue = Arc::clone(&other.queue);
        }
    }

    fn another_kind(&mut self) {
        let is_map = self.fields.get("kind") == Some(&json!("map"));
        if is_map {
            self.set("kind", json!("reduce"));
            self.set("level", json!(1));
            self.set("group", json!(0));
        } else {
            self.set("kind", json!("map"));
            self.set("packetId", json!("0/0"));
            self.set("packetContains", json!(0));
            self.set("packetValue", json!([]));
        }
        if self.random.bool() {
            self.another_stage();
        }
    }

    fn other_values(&mut self) {
        let mut values = values_of(&self.fields).cloned().unwrap_or_default();
        let value = match self.random.u32(0..8) {
            0 => json!(null),
            1 => json!({}),
            2 => json!("text"),
            3 => {
                values.pop();
                json!(values)
            }
            4 => {
                values.reverse();
                values.push(json!({ "nested": [1, [2, [3]]] }));
                json!(values)
            }
            5 => json!(vec![json!(7); 1_000]),
            6 => json!([[[[[[[[]]]]]]]]),
            _ => {
                let more = values.first().cloned().unwrap_or(json!(666));
                values.push(more);
                json!(values)
            }
        };
        self.set("packetValue", value);
    }

    /// Values that could be the stage's, and as many of them: what only a signature could tell.
    fn as_many(&mut self) {
        let mut values = values_of(&self.fields).cloned().unwrap_or_default();
        for value in &mut values {
            *value = match value {
                Value::String(text) => json!(format!("{text}!")),
                Value::Number(_) => json!(self.random.u64(0..100)),
                _ => json!(null),
            };
        }
        self.set("packetValue", json!(values));
    }

    fn other_yields(&mut self) {
        let count = self.random.usize(0..6);
        let drawn = (0..count).map(|_| match self.random.u32(0..4) {
            0 => u64::from(u32::MAX),
            1 => 1 << 32,
            other => u64::from(other - 2),
        });
        let mut yields: Vec<u64> = drawn.collect();
        if self.random.u32(0..8) == 0 {
            yields = vec![0; 1_000];
        }
        self.set("packetYields", json!(yields));
        if self.random.bool() {
            let skipped = self.random.u64(0..6);
            self.set("packetSkipped", json!(skipped));
        }
    }

    fn left_out(&mut self) {
        let (packet, item) = (self.number(), self.number());
        let count = self.random.usize(0..4);
        let mut listed = vec![json!([packet, item]); count];
        if self.random.u32(0..8) == 0 {
            listed = (0..200).map(|item| json!([0, item])).collect();
        }
        let stage = self.fields.get("stage").and_then(Value::as_str);
        let stage = stage.unwrap_or_default().to_owned();
        self.set("packetLeftOut", json!({ stage: listed }));
        if self.random.bool() {
            let skipped = self.number();
            self.set("packetSkipped", json!(skipped));
        }
    }

    fn another_fan_in(&mut self) {
        let fan_in = match self.random.bool() {
            true => self.random.u64(2..8),
            false => self.number(),
        };
        self.set("fanIn", json!(fan_in));
        // A generation's last digits are the fan-in: then they agree with each other.
        let generation = self.fields.get("generation").and_then(Value::as_str);
        if let Some(start) = generation.and_then(|generation| generation.get(..13))
            && self.random.bool()
        {
            let generation = format!("{start}{:03x}", fan_in & 0xfff);
            self.set("generation", json!(generation));
        }
    }

    fn past_the_end(&mut self) {
        let end = self.known.packets(&self.fields);
        let index = match end.filter(|_| self.random.u32(0..4) > 0) {
            Some(end) => end + self.random.u64(0..5),
            None => self.number(),
        };
        if index_of(&self.fields).is_some() {
            self.set("packetId", json!(format!("0/{index}")));
            return;
        }
        self.set("group", json!(index));
    }

    fn group(&mut self) {
        let level = match self.random.bool() {
            true => self.random.u64(1..4),
            false => self.number(),
        };
        let group = match self.random.bool() {
            true => self.random.u64(0..4),
            false => self.number(),
        };
        self.set("level", json!(level));
        self.set("group", json!(group));
    }

    fn missing(&mut self) {
        let names: Vec<String> = self.fields.keys().cloned().collect();
        if let Some(name) = names.get(self.random.usize(..names.len().max(1))) {
            match self.random.u32(0..4) {
                0 => self.set(name, json!(null)),
                _ => drop(self.fields.remove(name)),
            }
        }
    }

    /// To a stage after a reduction, if there is one.
    fn result(&mut self) {
        let Some(finish) = self.known.finishes.iter().next() else {
            return self.edge();
        };
        let Some((deployment, stage)) = finish.split_once("--") else {
            return;
        };
        self.queue = Arc::from(finish.as_str());
        self.set("deployment", json!(deployment));
        self.set("stage", json!(stage));
        self.set("kind", json!("map"));
        self.set("packetId", json!("0/0"));
        self.set("packetOffset", json!(0));
        let contains = match self.random.bool() {
            true => self.random.u64(0..3),
            false => self.number(),
        };
        self.set("packetContains", json!(contains));
        if self.random.bool() {
            self.set("arrayLength", json!(contains));
        }
        self.set("packetValue", json!(["-666"]));
    }
}
