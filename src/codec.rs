//! How values become bytes: JSON, so that a person can read a queue with any tool.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Writes a value. `what` names it in the error.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, what: &str) -> Result<Bytes> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|source| Error::encode(what, source))
}

/// Reads a value. `what` names it in the error.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| Error::decode(what, source))
}

/// Reads a list of values. The second field of an error is the position of the first value that
/// cannot be read, where it is one of the values and not the list that is broken.
pub(crate) fn decode_list<T: DeserializeOwned>(
    bytes: &[u8],
    what: &str,
) -> Result<Vec<T>, (Error, Option<usize>)> {
    decode(bytes, what).map_err(|error| {
        let position = serde_json::from_slice::<Vec<&serde_json::value::RawValue>>(bytes)
            .ok()
            .and_then(|values| {
                values
                    .iter()
                    .position(|value| serde_json::from_str::<T>(value.get()).is_err())
            });
        (error, position)
    })
}

/// How many values a list has; 1 where it is no list, which is found out when it is read.
pub(crate) fn count(bytes: &[u8]) -> u64 {
    serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(bytes)
        .map_or(1, |values| values.len() as u64)
}

/// The list that has one value, which is encoded already.
pub(crate) fn list_of_one(value: &[u8]) -> Bytes {
    [b"[", value, b"]"].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_come_back_bit_for_bit() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let value = f64::from_bits(random.u64(..));
            if value.is_finite() {
                let bytes = encode(&value, "a float").unwrap();
                let back: f64 = decode(&bytes, "a float").unwrap();
                assert_eq!(back.to_bits(), value.to_bits(), "{value:e}");
            }
        }
    }

    #[test]
    fn the_value_that_cannot_be_read_is_found() {
        let (error, position) = decode_list::<i64>(b"[1,2,\"x\",4]", "packet 3").unwrap_err();
        assert_eq!(position, Some(2));
        assert!(error.to_string().contains("packet 3"));
        assert_eq!(decode_list::<i64>(b"{}", "x").unwrap_err().1, None);
    }

    #[test]
    fn one_value_makes_a_list() {
        assert_eq!(decode::<Vec<i64>>(&list_of_one(b"7"), "x").unwrap(), [7]);
    }
}
