//! Attributes of items, and the expressions that write them.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;

pub(super) type Item = HashMap<String, AttributeValue>;

pub(super) fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(super) fn number(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// As text where it is text, which any tool shows.
pub(super) fn bytes(bytes: &Bytes) -> AttributeValue {
    match std::str::from_utf8(bytes) {
        Ok(text) => AttributeValue::S(text.to_owned()),
        Err(_) => AttributeValue::B(Blob::new(bytes.to_vec())),
    }
}

pub(super) fn get_bytes(value: &AttributeValue) -> Option<Bytes> {
    match value {
        AttributeValue::S(text) => Some(Bytes::from(text.clone())),
        AttributeValue::B(blob) => Some(Bytes::copy_from_slice(blob.as_ref())),
        _ => None,
    }
}

pub(super) fn get_text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

pub(super) fn get_text_of_number<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_n().ok().map(String::as_str)
}

pub(super) fn get_number<T: std::str::FromStr>(item: &Item, name: &str) -> Option<T> {
    get_text_of_number(item, name)?.parse().ok()
}

pub(super) fn get_flag(item: &Item, name: &str) -> bool {
    item.get(name)
        .and_then(|value| value.as_bool().ok().copied())
        .unwrap_or(false)
}

/// The names and values that an expression refers to. Names always go this way: many are reserved words.
#[derive(Debug, Default)]
pub(super) struct Terms {
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Terms {
    pub(super) fn name(&mut self, name: &str) -> String {
        let term = format!("#{name}");
        self.names.insert(term.clone(), name.to_owned());
        term
    }

    pub(super) fn value(&mut self, value: AttributeValue) -> String {
        let term = format!(":{}", self.values.len());
        self.values.insert(term.clone(), value);
        term
    }

    /// `name = value`, as in an update or a condition.
    pub(super) fn equal(&mut self, name: &str, value: AttributeValue) -> String {
        format!("{} = {}", self.name(name), self.value(value))
    }

    /// `name < value`, for a condition.
    pub(super) fn less(&mut self, name: &str, value: AttributeValue) -> String {
        format!("{} < {}", self.name(name), self.value(value))
    }

    /// An assignment that leaves what is there.
    pub(super) fn keep(&mut self, name: &str, value: AttributeValue) -> String {
        let (name, value) = (self.name(name), self.value(value));
        format!("{name} = if_not_exists({name}, {value})")
    }

    /// Whether a list or a set has this many entries.
    pub(super) fn has_size(&mut self, name: &str, count: usize) -> String {
        format!("size({}) = {}", self.name(name), self.value(number(count)))
    }

    pub(super) fn exists(&mut self, name: &str) -> String {
        format!("attribute_exists({})", self.name(name))
    }

    pub(super) fn lacks(&mut self, name: &str) -> String {
        format!("attribute_not_exists({})", self.name(name))
    }

    /// The service refuses an empty map.
    pub(super) fn into_parts(self) -> (Option<HashMap<String, String>>, Option<Item>) {
        (
            Some(self.names).filter(|names| !names.is_empty()),
            Some(self.values).filter(|values| !values.is_empty()),
        )
    }
}
