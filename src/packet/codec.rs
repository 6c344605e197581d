//! How values become bytes, and which of them need not: JSON by default, so that a person can read a queue with any tool.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Malformed;
#[cfg(feature = "postcard")]
use super::bounded;
use super::escape;
use super::handle::Handle;
use super::strict::{self, Unwritable};
use crate::core::error::{BoxError, Error, Result};
use crate::core::panic::panicked;

/// How values are written in messages and partial results. A worker reads each message in the codec it was written in,
/// so that a deployment may change it while runs are under way.
///
/// # A value comes back as it was, or is refused
/// A value that its codec would not give back is refused where it is written. [`submit`](crate::Deployment::submit) returns
/// [`Error::Encode`]; a function's output, a partial result or a result fails its item without another attempt,
/// as the stage's policy says. The error names the part of the value and a way out: `cannot encode packet 0, item 1:
/// at scores["mean"]: JSON has no number for NaN; write a string, or None for a number that is missing, or use Codec::Postcard
/// (feature `postcard`)`.
///
/// | refused | `Json` | `Postcard` |
/// | --- | --- | --- |
/// | NaN and infinities | yes | |
/// | `Some` of what is written as `null`: `Some(None)`, `Some(())` | yes | |
/// | a map whose keys are not text, numbers, `bool`s, `char`s or unit variants | yes | |
/// | a field that `skip_serializing_if` leaves out | | yes |
/// | a list or map of unknown length, as `flatten` makes it | | yes |
/// | nested values | more than 126 lists, maps and structs, 125 in an item | more than 256 values of any kind, 255 in an item |
///
/// # What nothing can notice
/// Serde lets a type write itself in a way from which it cannot be read, and the codec does not see that:
///
/// - An `untagged` enum is read as the first variant that fits, whichever was written.
/// - Inside of types that are `untagged`, tagged internally or flattened, serde reads no `i128`, no `u128` and no keys of maps but
///   text. The value cannot be read, or is read as another variant.
/// - Flattened maps must not have keys that are names of the struct's fields, and `flatten` of an `Option` reads `None` as `Some`
///   if all fields of the inside have defaults.
/// - In postcard, a field with `skip_serializing` alone, or a variant with `skip` that is not the last, shifts what comes after it.
/// - Postcard cannot read types that have to be asked what they are: `untagged`, tagged internally or adjacently, `flatten`, and
///   `serde_json::Value`. The stage that reads them fails; a result cannot be read.
///
/// `testing::travels` (feature `testing`) finds all of these in a test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// Text that a person can read with any tool, and another language can write.
    #[default]
    Json,
    /// The compact binary format of the crate `postcard`.
    #[cfg(feature = "postcard")]
    Postcard,
}

/// What is made of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Bytes that can leave the process.
    Wire(Codec),
    /// The value itself, which stays in the process.
    Local,
}

/// A list of items, or a partial result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Payload {
    Encoded(Codec, Bytes),
    /// The value itself, in a run inside the process.
    Local(Handle),
}

impl Payload {
    /// Stands for nothing: what carries no value, or none yet.
    pub(crate) fn null() -> Self {
        Self::Encoded(Codec::Json, Bytes::from_static(b"null"))
    }

    pub(crate) fn json(bytes: Bytes) -> Self {
        Self::Encoded(Codec::Json, bytes)
    }

    /// Its memory in bytes, about.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Encoded(_, bytes) => bytes.len(),
            Self::Local(value) => value.bytes(),
        }
    }
}

/// Writes a value as bytes, if it is read back as it is. `what` names it in the error.
pub(crate) fn write<T: Serialize + ?Sized>(
    value: &T,
    codec: Codec,
    what: impl Display,
) -> Result<Payload> {
    let written = write_strictly(value, codec);
    written.map_err(|unwritable| unwritable.into_error(what.to_string()))
}

/// As [`write`], for a caller that finds the value's name in the error. A value whose `Serialize` panics cannot be written.
pub(crate) fn write_strictly<T: Serialize + ?Sized>(
    value: &T,
    codec: Codec,
) -> Result<Payload, Unwritable> {
    let written = catch_unwind(AssertUnwindSafe(|| write_checked(value, codec)));
    written.unwrap_or_else(|panic| Err(Unwritable::from(format!("writing it {}", panicked(panic)))))
}

fn write_checked<T: Serialize + ?Sized>(value: &T, codec: Codec) -> Result<Payload, Unwritable> {
    let bytes = match codec {
        Codec::Json => strict::checked(value, |value: &strict::Checked<'_, T, strict::Json>| {
            escape::to_vec(value)
        })?,
        #[cfg(feature = "postcard")]
        Codec::Postcard => {
            strict::checked(value, |value: &strict::Checked<'_, T, strict::Postcard>| {
                postcard::to_allocvec(value)
            })?
        }
    };
    Ok(Payload::Encoded(codec, bytes.into()))
}

/// A value as it travels: inside the process as it is, which cannot fail. `what` names it in the error.
pub(crate) fn encode<T>(value: T, form: Form, what: impl Display) -> Result<Payload>
where
    T: Serialize + Send + Sync + 'static,
{
    match form {
        Form::Local => Ok(Payload::Local(Handle::of_value(value))),
        Form::Wire(codec) => write(&value, codec, what),
    }
}

/// Reads a value; one that stayed in the process is cloned. `what` names it in the error.
pub(crate) fn decode<T>(payload: &Payload, what: impl Display) -> Result<T>
where
    T: DeserializeOwned + Clone + 'static,
{
    match payload {
        Payload::Encoded(codec, bytes) => read(*codec, bytes, &what),
        Payload::Local(value) => value.value().ok_or_else(|| of_another_type(&what)),
    }
}

fn of_another_type(what: &dyn Display) -> Error {
    Error::decode(what.to_string(), Malformed::OtherType)
}

/// Reads bytes. If the type's `Deserialize` panics, they cannot be read.
pub(super) fn read<T: DeserializeOwned>(
    codec: Codec,
    bytes: &[u8],
    what: &dyn Display,
) -> Result<T> {
    let read = catch_unwind(|| read_as(codec, bytes));
    read.unwrap_or_else(|panic| Err(Malformed::Panicked(panicked(panic)).into()))
        .map_err(|source| Error::decode(what.to_string(), source))
}

fn read_as<T: DeserializeOwned>(codec: Codec, bytes: &[u8]) -> Result<T, BoxError> {
    match codec {
        Codec::Json => Ok(serde_json::from_slice(bytes)?),
        #[cfg(feature = "postcard")]
        Codec::Postcard => match bounded::read(bytes)? {
            (value, []) => Ok(value),
            (_, rest) => Err(Malformed::LeftOver(rest.len()).into()),
        },
    }
}

/// Reads a list of values. The second field of an error is the position of the first value that
/// cannot be read, where it is one of the values and not the list that is broken, and the codec tells.
pub(crate) fn decode_list<T>(
    payload: &Payload,
    what: impl Display,
) -> Result<Vec<T>, (Error, Option<usize>)>
where
    T: DeserializeOwned + Clone + 'static,
{
    let decoded = match payload {
        Payload::Local(list) => list.list().ok_or_else(|| of_another_type(&what)),
        Payload::Encoded(..) => decode(payload, &what),
    };
    decoded.map_err(|error| {
        let position = match payload {
            Payload::Encoded(Codec::Json, bytes) => {
                let values = serde_json::from_slice::<Vec<&serde_json::value::RawValue>>(bytes);
                values.ok().and_then(|values| {
                    let mut values = values.iter();
                    values.position(|value| {
                        read::<T>(Codec::Json, value.get().as_bytes(), &what).is_err()
                    })
                })
            }
            _ => None,
        };
        (error, position)
    })
}

/// The list that has one value.
pub(crate) fn list_of_one(value: &Payload) -> Payload {
    match value {
        Payload::Encoded(Codec::Json, bytes) => {
            Payload::json([b"[", bytes.as_ref(), b"]"].concat().into())
        }
        // A list begins with its length.
        #[cfg(feature = "postcard")]
        Payload::Encoded(codec, bytes) => {
            Payload::Encoded(*codec, [&[1], bytes.as_ref()].concat().into())
        }
        // It is read as one.
        Payload::Local(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "postcard")]
    const CODECS: [Codec; 2] = [Codec::Json, Codec::Postcard];
    #[cfg(not(feature = "postcard"))]
    const CODECS: [Codec; 1] = [Codec::Json];

    #[test]
    fn floats_come_back_bit_for_bit() {
        let mut random = fastrand::Rng::with_seed(7);
        for codec in CODECS {
            for _ in 0..20_000 {
                let value = f64::from_bits(random.u64(..));
                if value.is_finite() {
                    let written = write(&value, codec, "a float").unwrap();
                    let back: f64 = decode(&written, "a float").unwrap();
                    assert_eq!(back.to_bits(), value.to_bits(), "{value:e}");
                }
            }
        }
    }

    #[test]
    fn the_value_that_cannot_be_read_is_found() {
        let list = |text: &'static str| Payload::json(text.into());
        let (error, position) = decode_list::<i64>(&list("[1,2,\"x\",4]"), "packet 3").unwrap_err();
        assert_eq!(position, Some(2));
        assert!(error.to_string().contains("packet 3"));
        assert_eq!(decode_list::<i64>(&list("{}"), "x").unwrap_err().1, None);
    }

    #[test]
    fn one_value_makes_a_list() {
        let forms = CODECS.map(Form::Wire).into_iter().chain([Form::Local]);
        for form in forms {
            let value = encode(7i64, form, "x").unwrap();
            let list = list_of_one(&value);
            assert_eq!(decode_list::<i64>(&list, "x").unwrap(), [7], "{form:?}");
        }
    }

    #[cfg(feature = "postcard")]
    #[test]
    fn what_is_left_over_is_an_error() {
        let mut bytes = postcard::to_allocvec(&7i64).unwrap();
        bytes.push(0);
        let payload = Payload::Encoded(Codec::Postcard, bytes.into());
        let error = decode::<i64>(&payload, "packet 3").unwrap_err();
        assert!(crate::core::error::describe(&error).contains("left over"));
    }
}
