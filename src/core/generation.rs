//! The generation of a run: what tells it from every other run that has had its id.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::error::{Error, Result};
use super::id::RunId;

/// The last bits hold the fan-in, which is at most 1,000.
const FAN_IN_BITS: u32 = 12;
const FAN_IN_MASK: u64 = (1 << FAN_IN_BITS) - 1;
/// Hexadecimal digits of the text.
const DIGITS: usize = 16;

/// A token that is drawn when a run begins, and that all of its messages, partial results, failures and dead letters bear. An
/// id may be used again once its run's record has gone: what is left of the first run on a queue or in a store then bears
/// another generation, and changes nothing.
///
/// The text is 16 lowercase hexadecimal digits. The last three are the run's fan-in, so that a message cannot claim another
/// one; the other 13 are random.
///
/// ```
/// use catchment::scratchpad::Generation;
///
/// let drawn = Generation::random(32);
/// assert!(drawn.to_string().ends_with("020"));
/// assert_eq!(drawn.to_string().parse::<Generation>()?, drawn);
/// assert_ne!(drawn, Generation::random(32));
/// # Ok::<(), catchment::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(u64);

impl Generation {
    /// A new random generation of a run whose groups have this many members.
    pub fn random(fan_in: u32) -> Self {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        Self((high ^ low) & !FAN_IN_MASK | u64::from(fan_in) & FAN_IN_MASK)
    }

    /// Members per group of the run.
    pub fn fan_in(self) -> u32 {
        // At most twelve bits.
        (self.0 & FAN_IN_MASK) as u32
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl FromStr for Generation {
    type Err = Error;

    /// Reads the text of a generation. Each has one text only.
    ///
    /// # Errors
    /// [`Error::Decode`] if the text is not one of 16 lowercase hexadecimal digits.
    fn from_str(text: &str) -> Result<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_text = text.len() == DIGITS && text.bytes().all(is_digit);
        let number = is_text.then(|| u64::from_str_radix(text, 16).ok());
        number.flatten().map(Self).ok_or_else(|| {
            let problem = "it is not of 16 lowercase hexadecimal digits";
            Error::decode("the generation of a run", problem)
        })
    }
}

impl Serialize for Generation {
    /// A text that a person can read, or eight bytes.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(self),
            false => self.0.to_le_bytes().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Generation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        if !deserializer.is_human_readable() {
            return <[u8; 8]>::deserialize(deserializer)
                .map(|bytes| Self(u64::from_le_bytes(bytes)));
        }
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(|_| {
            D::Error::custom("a generation is a text of 16 lowercase hexadecimal digits")
        })
    }
}

/// One run and no other: its id and its generation. The methods of a scratchpad that take a [`RunId`] mean the run that has
/// this id now; those that take a key change and read nothing of a run of another generation.
///
/// Its text is unique among all runs that there have ever been, so that a backend can use it in keys of its own:
/// `{id}#{generation}`.
///
/// ```
/// use catchment::scratchpad::RunKey;
///
/// let run = RunKey::new("daily", "6b1f00c2a47e9020".parse()?);
/// assert_eq!(run.to_string(), "daily#6b1f00c2a47e9020");
/// assert_eq!(run.generation.fan_in(), 32);
/// # Ok::<(), catchment::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct RunKey {
    /// The id, as its submitter gave it.
    pub id: RunId,
    /// Which of the runs that have had this id.
    pub generation: Generation,
}

impl RunKey {
    /// The run of this id and generation.
    pub fn new(id: impl Into<RunId>, generation: Generation) -> Self {
        Self {
            id: id.into(),
            generation,
        }
    }
}

impl fmt::Display for RunKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}#{}", self.id, self.generation)
    }
}

/// The run of this id of the first generation that there can be.
#[cfg(test)]
impl From<&str> for RunKey {
    fn from(id: &str) -> Self {
        Self::new(id, Generation::default())
    }
}

impl From<&RunKey> for RunKey {
    fn from(key: &RunKey) -> Self {
        key.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_has_one_text_and_knows_the_fan_in() {
        for fan_in in [2, 32, 1_000] {
            let drawn = Generation::random(fan_in);
            assert_eq!(drawn.fan_in(), fan_in);
            assert_eq!(drawn.to_string().parse::<Generation>().unwrap(), drawn);
        }
        for text in [
            "",
            "6b1f00c2a47e902",
            "6B1F00C2A47E9020",
            "+b1f00c2a47e9020",
            "6b1f00c2a47e90200",
        ] {
            assert!(text.parse::<Generation>().is_err(), "{text}");
        }
    }
}
