//! Reading a list of which some values cannot be read.

use std::fmt::Display;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::codec::{Codec, Payload, decode, decode_list, read};
use crate::core::error::{Error, Result};

/// A value that cannot be read.
#[derive(Debug)]
pub(crate) struct Unread {
    pub(crate) error: Error,
    /// Its text.
    pub(crate) json: Bytes,
}

/// Reads each value of a list by itself, for a list that could not be read as a whole.
///
/// # Errors
/// The error of the whole list, if it is no list, or if its codec does not say where a value ends: only JSON does.
pub(crate) fn decode_each<T>(
    payload: &Payload,
    what: impl Display,
) -> Result<Vec<Result<T, Unread>>>
where
    T: DeserializeOwned + Clone + 'static,
{
    let Payload::Encoded(Codec::Json, bytes) = payload else {
        let values = decode_list(payload, what).map_err(|(error, _)| error)?;
        return Ok(values.into_iter().map(Ok).collect());
    };
    let Ok(texts) = serde_json::from_slice::<Vec<&RawValue>>(bytes) else {
        return decode::<Vec<T>>(payload, what).map(|values| values.into_iter().map(Ok).collect());
    };
    let each = texts.into_iter().map(|text| {
        let json = text.get().as_bytes();
        read(Codec::Json, json, &what).map_err(|error| Unread {
            error,
            json: bytes.slice_ref(json),
        })
    });
    Ok(each.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each<T>(json: &'static str) -> Result<Vec<Result<T, Unread>>>
    where
        T: DeserializeOwned + Clone + 'static,
    {
        decode_each(&Payload::json(json.into()), "an item")
    }

    #[test]
    fn the_values_that_can_be_read_are_read() {
        let mut values = each::<u8>(r#" [1, "two" ,3,{"deep":[[]]}, 300] "#).unwrap();
        assert_eq!(values.len(), 5);
        let mut unread = |place| values.remove(place).unwrap_err();
        let (large, object, text) = (unread(4), unread(3), unread(1));
        let text = (text.error.to_string(), text.json);
        assert_eq!(
            text,
            ("cannot decode an item".into(), Bytes::from(r#""two""#))
        );
        assert_eq!(object.json, r#"{"deep":[[]]}"#);
        assert_eq!(large.json, "300");
        let read: Vec<u8> = values.into_iter().map(Result::unwrap).collect();
        assert_eq!(read, [1, 3]);
    }

    #[test]
    fn a_list_that_is_broken_itself_is_an_error() {
        for broken in ["[1,", "{}", "", "[1] 2", "null"] {
            assert!(each::<u8>(broken).is_err(), "{broken}");
        }
        assert!(each::<u8>("[]").unwrap().is_empty());
    }

    /// A value that is nested too deeply is left to its own reader, and its neighbours are read.
    #[test]
    fn depth_is_the_fault_of_its_value() {
        let deep = format!("[1,{}{}]", "[".repeat(10_000), "]".repeat(10_000));
        let values = decode_each::<serde_json::Value>(&Payload::json(deep.into()), "an item");
        let [one, deep] = values.unwrap().try_into().unwrap();
        assert_eq!(one.unwrap(), 1);
        assert!(deep.is_err());
    }

    #[test]
    fn a_panic_is_the_fault_of_its_value() {
        #[derive(Clone, Debug)]
        struct Fussy;
        impl<'de> serde::Deserialize<'de> for Fussy {
            fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
                let number = u8::deserialize(reader)?;
                assert!(number != 2, "not this one");
                Ok(Self)
            }
        }
        let values = each::<Fussy>("[1,2,3]").unwrap();
        let failed: Vec<bool> = values.iter().map(Result::is_err).collect();
        assert_eq!(failed, [false, true, false]);
    }

    #[cfg(feature = "postcard")]
    #[test]
    fn a_codec_that_does_not_say_where_values_end_is_read_as_a_whole() {
        let bytes = postcard::to_allocvec(&(2u8, 7u8, 300u16)).unwrap();
        let payload = |bytes: &[u8]| Payload::Encoded(Codec::Postcard, bytes.to_vec().into());
        assert!(decode_each::<u8>(&payload(&bytes), "an item").is_err());
        let whole = decode_each::<u8>(&payload(&[2, 7, 8]), "an item").unwrap();
        assert_eq!(whole.len(), 2);
    }
}
