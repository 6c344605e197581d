//! The ids of runs and packets.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::error::{Error, Result};

/// The id of a run: a random UUID, or a key of the caller's. `From` takes any text; the first call that uses an id no backend
/// could keep returns [`Error::InvalidRunId`]. `parse` returns that error at once.
///
/// A key has 1 to 128 characters, each an ASCII letter or digit or one of `- _ . : / @ = + ,`, so
/// that every backend can use it in a key of its own. Submitting the same key twice is one run. The id is written
/// `arrayId` in messages, stored records and HTTP answers.
///
/// ```
/// use catchment::{Error, RunId};
/// let id = RunId::from("invoices/2026-11-21");
/// assert_eq!(id.as_str(), "invoices/2026-11-21");
///
/// let refused = "invoices of November".parse::<RunId>();
/// assert!(matches!(&refused, Err(Error::InvalidRunId { id, .. }) if id == "invoices of November"));
/// assert_eq!(
///     refused.unwrap_err().to_string(),
///     "run id \"invoices of November\" cannot be used: only ASCII letters, digits and - _ . : / @ = + , are allowed"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(Arc<str>);

const MAX_RUN_ID: usize = 128;

impl RunId {
    /// A new random id (UUID version 4).
    pub fn random() -> Self {
        Self(Uuid::new_v4().to_string().into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks that every backend can store it.
    pub(crate) fn validate(&self) -> Result<()> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:/@=+,".contains(c);
        let problem = if self.0.is_empty() {
            "it is empty"
        } else if self.0.len() > MAX_RUN_ID {
            "it has more than 128 characters"
        } else if !self.0.chars().all(allowed) {
            "only ASCII letters, digits and - _ . : / @ = + , are allowed"
        } else {
            return Ok(());
        };
        Err(Error::InvalidRunId {
            id: self.0.chars().take(MAX_RUN_ID).collect(),
            problem,
        })
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl AsRef<str> for RunId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&RunId> for RunId {
    fn from(id: &RunId) -> Self {
        id.clone()
    }
}

impl From<&str> for RunId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl From<String> for RunId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl From<&String> for RunId {
    fn from(id: &String) -> Self {
        Self(id.as_str().into())
    }
}

impl FromStr for RunId {
    type Err = Error;

    /// Checks the text, unlike `From`.
    ///
    /// # Errors
    /// [`Error::InvalidRunId`] if it is empty, longer than 128 characters, or has a character that is not allowed.
    fn from_str(id: &str) -> Result<Self> {
        let id = Self::from(id);
        id.validate()?;
        Ok(id)
    }
}

impl From<Uuid> for RunId {
    fn from(id: Uuid) -> Self {
        Self(id.to_string().into())
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = Self(Arc::deserialize(deserializer)?);
        id.validate().map_err(serde::de::Error::custom)?;
        Ok(id)
    }
}

/// The position of a packet in the tree of its run. Written `level/index`: `0/7` is leaf 7, which
/// is packet 7 of the array; `2/0` is the partial result of the first group of level 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PacketId {
    /// 0 for a leaf.
    pub(crate) level: u32,
    /// From the left, counted from 0.
    pub(crate) index: u64,
}

impl PacketId {
    pub(crate) fn leaf(index: u64) -> Self {
        Self { level: 0, index }
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.level, self.index)
    }
}

impl Serialize for PacketId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PacketId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        let parsed = text
            .split_once('/')
            .and_then(|(level, index)| Some((level.parse().ok()?, index.parse().ok()?)));
        match parsed {
            Some((level, index)) => Ok(Self { level, index }),
            None => Err(serde::de::Error::custom(format_args!(
                "packetId {text:?} is not of the form level/index"
            ))),
        }
    }
}
