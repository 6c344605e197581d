//! The JSON codec's messages and packets. A value is JSON already, so it is copied, never parsed and written again.

use bytes::Bytes;

use super::Malformed;
use super::codec::Payload;
use super::wire::Wire;
use crate::core::error::{Error, Result};

/// The text between the other fields and a value that comes last.
const FIELD: &[u8] = b",\"packetValue\":";

/// Writes the fields as a JSON object with `packetValue` last. The value is JSON already, so it
/// is copied, not parsed.
pub(super) fn splice(wire: &Wire<'_>, value: &[u8]) -> Result<Bytes> {
    let mut bytes = Vec::with_capacity(256 + FIELD.len() + value.len());
    serde_json::to_writer(&mut bytes, wire)
        .map_err(|source| Error::encode("a packet's header", source))?;
    bytes.pop();
    bytes.extend_from_slice(FIELD);
    bytes.extend_from_slice(value);
    bytes.push(b'}');
    Ok(bytes.into())
}

/// Reads the fields, and the value if there is one.
pub(super) fn parse(bytes: &Bytes) -> Result<(Wire<'_>, Option<Payload>), Malformed> {
    if let Some(read) = parse_numbers(bytes) {
        return Ok(read);
    }
    let wire: Wire<'_> = serde_json::from_slice(bytes)?;
    let value = wire
        .packet_value
        .map(|value| Payload::json(bytes.slice_ref(value.get().as_bytes())));
    Ok((wire, value))
}

/// Like [`parse`], if a long value that contains only numbers comes last, as [`splice`] writes it. The value is not scanned
/// here, since decoding it does that. Without a quotation mark in it, no other field can follow.
fn parse_numbers(bytes: &Bytes) -> Option<(Wire<'static>, Option<Payload>)> {
    const LONG: usize = 1_024;
    if bytes.len() < LONG {
        return None;
    }
    let head = bytes.get(..LONG)?;
    let fields = head.windows(FIELD.len()).position(|part| part == FIELD)?;
    let begin = fields + FIELD.len();
    let (value, end) = bytes
        .get(begin..)?
        .split_at_checked(bytes.len() - begin - 1)?;
    if end != b"}" || value.contains(&b'"') {
        return None;
    }
    let fields = [bytes.get(..fields)?, b"}"].concat();
    let wire: Wire<'_> = serde_json::from_slice(&fields).ok()?;
    if wire.packet_value.is_some() {
        return None;
    }
    let value = Payload::json(bytes.slice_ref(value));
    Some((wire.into_owned(), Some(value)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::packet::Packet;
    use crate::packet::codec::Payload;

    /// Long values of numbers are read in another way, and must mean the same.
    #[test]
    fn a_long_value_means_the_same_wherever_it_stands() {
        let numbers = serde_json::to_string(&(0..1_000).collect::<Vec<_>>()).unwrap();
        let read = |text: String| Packet::read(&Bytes::from(text));
        let whole = |value: &str| {
            format!(
                r#"{{"arrayId":"a,","generation":"6b1f00c2a47e9020","packetId":"0/3","packetContains":9,"packetSkipped":1,"packetValue":{value}}}"#
            )
        };
        let packet = read(whole(&numbers)).unwrap();
        assert_eq!(packet.value, Payload::json(numbers.clone().into()));
        assert_eq!((packet.contains, packet.skipped), (9, 1));
        // Fields after the value, before it, and spaces.
        let others = [
            format!(
                r#"{{"arrayId":"a,","generation":"6b1f00c2a47e9020","packetId":"0/3","packetContains":9,"packetValue":{numbers},"packetSkipped":1}}"#
            ),
            format!(
                r#"{{"packetValue":{numbers},"arrayId":"a,","generation":"6b1f00c2a47e9020","packetId":"0/3","packetContains":9,"packetSkipped":1}}"#
            ),
            whole(&numbers)
                .replace(",\"p", " , \"p")
                .replace(':', " : ")
                + " ",
        ];
        for text in others {
            assert_eq!(read(text.clone()).unwrap(), packet, "{text:.200}");
        }
        // Broken bytes are an error here or when the value is decoded.
        for value in [&numbers[1..], &numbers[..numbers.len() - 1], "", "]"] {
            let filled = format!("{value}{:2000}", "");
            match read(whole(&filled)) {
                Err(_) => {}
                Ok(packet) => {
                    let numbers = crate::packet::codec::decode_list::<u64>(&packet.value, "it");
                    assert!(numbers.is_err(), "{value:.20}");
                }
            }
        }
        // Twice is once too often.
        let twice = format!(r#"{{"packetValue":1,{}"#, &whole(&numbers)[1..]);
        assert!(read(twice).is_err());
    }
}
