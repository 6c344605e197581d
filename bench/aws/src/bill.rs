//! Requests, bytes, billed units and dollars.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::prices;

/// What something took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bill {
    /// By kind, such as `SQS SendMessageBatch`.
    pub(crate) requests: BTreeMap<String, u64>,
    /// Bodies of the requests, as they go over the wire.
    pub(crate) bytes: u64,
    /// Of SQS: one for each 64 KB of a request's or an answer's messages, at least one a request.
    pub(crate) sqs_units: f64,
    pub(crate) write_units: f64,
    pub(crate) read_units: f64,
}

impl Bill {
    pub(crate) fn total(&self) -> u64 {
        self.requests.values().sum()
    }

    /// How many requests there were of the kinds that end so.
    pub(crate) fn of(&self, kinds: &[&str]) -> u64 {
        let is_asked = |kind: &str| {
            let name = kind.split(' ').nth(1).unwrap_or_default();
            kinds.contains(&name)
        };
        let counts = self.requests.iter().filter(|(kind, _)| is_asked(kind));
        counts.map(|(_, count)| count).sum()
    }

    pub(crate) fn dollars(&self) -> f64 {
        (self.sqs_units * prices::SQS_REQUESTS
            + self.write_units * prices::WRITE_UNITS
            + self.read_units * prices::READ_UNITS)
            / 1e6
    }

    /// A request leaves: it costs a unit at least, whatever comes of it.
    pub(crate) fn leaves(&mut self, kind: &str, bytes: u64) {
        *self.requests.entry(kind.to_owned()).or_default() += 1;
        self.bytes += bytes;
        *self.units(kind) += 1.0;
    }

    /// Its answer is here, and tells what it really cost.
    pub(crate) fn answered(&mut self, kind: &str, request: &Value, answer: &Value) {
        let units = match kind.starts_with("SQS") {
            true => {
                let payload = messages(request).max(messages(answer));
                payload.div_ceil(prices::SQS_CHUNK).max(1) as f64
            }
            false => capacity(answer).unwrap_or(1.0),
        };
        *self.units(kind) += units - 1.0;
    }

    pub(crate) fn units(&mut self, kind: &str) -> &mut f64 {
        match kind {
            "DynamoDB PutItem"
            | "DynamoDB UpdateItem"
            | "DynamoDB DeleteItem"
            | "DynamoDB BatchWriteItem" => &mut self.write_units,
            kind if kind.starts_with("DynamoDB") => &mut self.read_units,
            _ => &mut self.sqs_units,
        }
    }
}

/// Bytes of the messages in a request or an answer.
fn messages(body: &Value) -> u64 {
    let of = |message: &Value| {
        let text = message.get("MessageBody").or_else(|| message.get("Body"));
        text.and_then(Value::as_str)
            .map_or(0, |text| text.len() as u64)
    };
    let several = body.get("Entries").or_else(|| body.get("Messages"));
    match several.and_then(Value::as_array) {
        Some(messages) => messages.iter().map(of).sum(),
        None => of(body),
    }
}

/// What DynamoDB says that a request consumed; of several tables, the sum.
fn capacity(answer: &Value) -> Option<f64> {
    let units = |consumed: &Value| consumed.get("CapacityUnits")?.as_f64();
    let consumed = answer.get("ConsumedCapacity")?;
    match consumed.as_array() {
        Some(tables) => Some(tables.iter().filter_map(units).sum()),
        None => units(consumed),
    }
}
