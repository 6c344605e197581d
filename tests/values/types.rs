//! A recursive type with every shape that serde knows, and floats that are equal if their bits are.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Every shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Value {
    Unit,
    Nothing(()),
    UnitStruct(Unit),
    Bool(bool),
    Small(i8, u16),
    Signed(i64),
    Unsigned(u64),
    Signed128(i128),
    Unsigned128(u128),
    Single(Single),
    Double(Double),
    Char(char),
    Text(String),
    Bytes(Bytes),
    Option(Option<Box<Value>>),
    Options(Option<Option<Option<u8>>>),
    OptionOfUnit(Option<()>),
    OptionOfUnitStruct(Option<Unit>),
    OptionOfNewtype(Option<Newtype<Option<u8>>>),
    OptionOfFloat(Option<Double>),
    OptionOfJson(Option<serde_json::Value>),
    List(Vec<Value>),
    Units(Vec<()>),
    Tuple(Box<(Value, u8, Value)>),
    TupleVariant(Box<Value>, i64),
    StructVariant { a: Box<Value>, b: Option<u8> },
    Struct(Box<Struct>),
    Pair(Box<Pair>),
    Newtype(Box<Newtype<Value>>),
    Array([u8; 3]),
    Result(Result<Box<Value>, String>),
    Duration(Duration),
    Map(BTreeMap<String, Value>),
    Hashed(HashMap<u32, Box<Value>>),
    ByChar(BTreeMap<char, u8>),
    ByInteger(BTreeMap<i64, u8>),
    ByBool(BTreeMap<bool, u8>),
    ByUnitVariant(BTreeMap<Color, u8>),
    ByNewtype(BTreeMap<Newtype<u32>, u8>),
    ByInteger128(BTreeMap<u128, i128>),
    ByFloat(BTreeMap<Double, u8>),
    BySingle(BTreeMap<Single, u8>),
    ByTuple(BTreeMap<(u8, u8), u8>),
    ByList(BTreeMap<Vec<u8>, u8>),
    ByBytes(BTreeMap<Bytes, u8>),
    ByOption(BTreeMap<Option<u8>, u8>),
    ByUnit(BTreeMap<(), u8>),
    Internal(Internal),
    Adjacent(Adjacent),
    Untagged(Untagged),
    Flat(Flat),
    Skips(Skips),
    Json(serde_json::Value),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Unit;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Newtype<T>(pub(crate) T);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pair(pub(crate) Value, pub(crate) Single);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Struct {
    pub(crate) value: Value,
    pub(crate) option: Option<Newtype<Double>>,
    #[serde(skip)]
    pub(crate) cache: (),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Color {
    DarkRed,
    #[serde(rename = "null")]
    Null,
}

/// What stands inside of types that serde reads into a buffer first: tagged internally, not tagged,
/// or flattened. By serde's documentation, 128-bit integers and keys that are not text cannot be read out of that buffer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Buffered {
    Unit,
    Signed(i64),
    Unsigned(u64),
    Single(Single),
    Double(Double),
    Char(char),
    Text(String),
    Bytes(Bytes),
    Option(Option<Box<Buffered>>),
    OptionOfUnit(Option<()>),
    List(Vec<Buffered>),
    Struct { a: Box<Buffered>, b: Option<Single> },
    Map(BTreeMap<String, Buffered>),
    ByColor(BTreeMap<Color, u8>),
    Internal(Box<Internal>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub(crate) enum Internal {
    Unit,
    Struct { a: Buffered, b: Option<Double> },
    Wrapped(Inner),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", content = "c")]
pub(crate) enum Adjacent {
    Unit,
    Newtype(Box<Value>),
    OptionOfUnit(Option<()>),
    Tuple(Box<Value>, Single),
    Struct { a: Box<Value> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Untagged {
    Nothing,
    Integer(i64),
    Double(Double),
    Text(String),
    List(Vec<Untagged>),
    Struct { untagged: Box<Buffered> },
    Option { option: Option<Single> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flat {
    pub(crate) id: u8,
    #[serde(flatten)]
    pub(crate) inner: Inner,
    /// By serde's documentation, its keys must not be names of the fields.
    #[serde(flatten)]
    pub(crate) rest: BTreeMap<String, Buffered>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Inner {
    pub(crate) x: Single,
    pub(crate) y: Option<Double>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Skips {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) a: Option<Option<u8>>,
    pub(crate) b: u8,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) list: Vec<Value>,
}

macro_rules! float {
    ($name:ident, $float:ty) => {
        /// Equal if all bits are.
        #[derive(Clone, Copy, Debug, Serialize, Deserialize)]
        pub(crate) struct $name(pub(crate) $float);

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.to_bits() == other.0.to_bits()
            }
        }

        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.0.total_cmp(&other.0)
            }
        }
    };
}

float!(Single, f32);
float!(Double, f64);

/// Bytes that are written as such, and not as a list of numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct AsBytes;
        impl<'de> Visitor<'de> for AsBytes {
            type Value = Bytes;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = list.next_element()? {
                    bytes.push(byte);
                }
                Ok(Bytes(bytes))
            }
        }
        from.deserialize_byte_buf(AsBytes)
    }
}
