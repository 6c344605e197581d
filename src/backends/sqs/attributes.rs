//! A message's attributes as message attributes of SQS, and back.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_sqs::error::BuildError;
use aws_sdk_sqs::types::MessageAttributeValue;
use serde_json::{Map, Value};

use super::body::{REASON, is_allowed};
use crate::queue::Attributes;

/// The service's limit of attributes per message.
pub(super) const MAX_ATTRIBUTES: usize = 10;
/// The message attribute that holds all attributes, as a JSON object of strings, if they cannot be
/// sent one by one.
pub(super) const PACKED: &str = "catchment.attributes";
/// The service's limit of a name, in bytes.
const MAX_NAME: usize = 256;
const STRING: &str = "String";

/// Names and values as they are sent. Empty, and without an allocation, for a message without
/// attributes.
pub(super) type Encoded = Vec<(String, String)>;

/// The attributes one by one if the service takes each of them and there are at most `limit`; all
/// of them packed into one otherwise.
pub(super) fn encode(attributes: &Attributes, limit: usize) -> Encoded {
    if attributes.len() <= limit && attributes.iter().all(|(name, value)| is_plain(name, value)) {
        let owned = attributes.iter();
        return owned
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
    }
    vec![(PACKED.to_owned(), pack(attributes))]
}

/// The attributes of a received message. Values that are not text are left out.
pub(crate) fn decode(received: impl IntoIterator<Item = (String, Option<String>)>) -> Attributes {
    let mut attributes = Attributes::new();
    for (name, value) in received {
        let Some(value) = value else { continue };
        match name.as_str() {
            REASON => {}
            PACKED => match serde_json::from_str::<BTreeMap<String, String>>(&value) {
                Ok(packed) => attributes.extend(packed),
                Err(_) => attributes.insert(name, value),
            },
            _ => attributes.insert(name, value),
        }
    }
    attributes
}

/// [`decode`], for what the client received.
pub(super) fn received(values: Option<HashMap<String, MessageAttributeValue>>) -> Attributes {
    let values = values.into_iter().flatten();
    decode(values.map(|(name, value)| (name, value.string_value)))
}

/// In the client's form; `None` if there are none.
pub(super) fn values(
    encoded: Encoded,
) -> Result<Option<HashMap<String, MessageAttributeValue>>, BuildError> {
    if encoded.is_empty() {
        return Ok(None);
    }
    let values = encoded.into_iter().map(|(name, value)| {
        let built = MessageAttributeValue::builder().data_type(STRING);
        Ok((name, built.string_value(value).build()?))
    });
    values.collect::<Result<_, _>>().map(Some)
}

/// The bytes that count towards a message's size: names, types and values.
pub(super) fn size(encoded: &Encoded) -> usize {
    let sizes = encoded.iter();
    sizes
        .map(|(name, value)| name.len() + STRING.len() + value.len())
        .sum()
}

/// Whether the service takes the attribute as it is, and it cannot be mistaken for one of ours.
fn is_plain(name: &str, value: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let is_reserved = name == REASON
        || name == PACKED
        || lower.starts_with("aws.")
        || lower.starts_with("amazon.");
    let is_dotted = name.starts_with('.') || name.ends_with('.') || name.contains("..");
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(is_name)
        && !is_reserved
        && !is_dotted
        && !value.is_empty()
        && value.chars().all(is_allowed)
}

/// JSON in characters that SQS takes. The two that JSON does not escape by itself can only stand
/// inside its strings.
fn pack(attributes: &Attributes) -> String {
    let fields = attributes.iter();
    let fields: Map<String, Value> = fields
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let text = Value::Object(fields).to_string();
    text.replace('\u{fffe}', "\\ufffe")
        .replace('\u{ffff}', "\\uffff")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(encoded: Encoded) -> Attributes {
        let received = encoded.into_iter();
        decode(received.map(|(name, value)| (name, Some(value))))
    }

    fn of(pairs: &[(&str, &str)]) -> Attributes {
        pairs.iter().copied().collect()
    }

    #[test]
    fn plain_attributes_are_sent_one_by_one() {
        let attributes = of(&[("traceparent", "00-ab-cd-01"), ("a_b-C.9", "größer")]);
        let encoded = encode(&attributes, 2);
        assert_eq!(encoded.len(), 2);
        assert_eq!(size(&encoded), 7 + 6 + 8 + 11 + 6 + 11);
        assert_eq!(back(encoded), attributes);
        assert_eq!(encode(&Attributes::new(), 10), []);
    }

    #[test]
    fn others_are_packed_into_one_and_come_back() {
        let long = "n".repeat(257);
        for pair in [
            ("", "no name"),
            ("a b", "a space"),
            ("größe", "not ASCII"),
            (".a", "a dot"),
            ("a..b", "two dots"),
            ("aws.x", "reserved"),
            ("Amazon.x", "reserved"),
            (REASON, "ours"),
            (PACKED, "ours"),
            (long.as_str(), "long"),
            ("empty", ""),
            ("control", "\0\u{1b}\n"),
            ("noncharacters", "\u{fffe}\u{ffff}\"\\"),
        ] {
            let attributes = of(&[("plain", "yes"), pair]);
            let encoded = encode(&attributes, MAX_ATTRIBUTES);
            assert_eq!(encoded.len(), 1, "{pair:?}");
            assert!(is_plain("packed", &encoded[0].1), "{pair:?}");
            assert_eq!(back(encoded), attributes);
        }
        let many: Attributes = (0..11).map(|n| (format!("a{n}"), "x")).collect();
        let encoded = encode(&many, MAX_ATTRIBUTES);
        assert_eq!(encoded.len(), 1);
        assert_eq!(back(encoded), many);
    }

    #[test]
    fn attributes_of_other_senders_arrive_as_they_are() {
        let text = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        let received = [
            text("key", "value"),
            text(PACKED, "not json"),
            text(REASON, "why it was buried"),
            ("binary".to_owned(), None),
        ];
        let expected = of(&[("key", "value"), (PACKED, "not json")]);
        assert_eq!(decode(received), expected);
    }
}
