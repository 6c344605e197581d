//! What a template is written from: maps keep the order in which they are written.

use serde::ser::{Serialize, SerializeMap, Serializer};

#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Number(u64),
    Flag(bool),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Node {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Node {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Node {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Node {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<Vec<Node>> for Node {
    fn from(items: Vec<Node>) -> Self {
        Self::List(items)
    }
}

impl From<Vec<(String, Node)>> for Node {
    fn from(entries: Vec<(String, Node)>) -> Self {
        Self::Map(entries)
    }
}

/// A map, its keys in this order.
macro_rules! map {
    ($($key:expr => $value:expr),* $(,)?) => {
        $crate::template::node::Node::Map(vec![
            $((::std::string::String::from($key), $crate::template::node::Node::from($value))),*
        ])
    };
}

/// A list.
macro_rules! list {
    ($($item:expr),* $(,)?) => {
        $crate::template::node::Node::List(vec![$($crate::template::node::Node::from($item)),*])
    };
}

pub(super) use {list, map};

/// A resource's main identifier.
pub(super) fn reference(id: &str) -> Node {
    map! { "Ref" => id }
}

/// A resource's ARN.
pub(super) fn arn(id: &str) -> Node {
    map! { "Fn::GetAtt" => list![id, "Arn"] }
}

/// The ARNs of a table's indexes.
pub(super) fn index_arns(table: &str) -> Node {
    substitute(format!("${{{table}.Arn}}/index/*"))
}

/// Text with `${…}` in it.
pub(super) fn substitute(text: impl Into<String>) -> Node {
    map! { "Fn::Sub" => text.into() }
}

pub(super) fn resource(kind: &str, properties: Node) -> Node {
    map! { "Type" => kind, "Properties" => properties }
}
