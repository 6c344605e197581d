//! How many values a list has, without reading any of them.

use super::codec::{Codec, Payload};

/// The most values of a compact list that may take no bytes, as those of type `()` do.
#[cfg(feature = "postcard")]
const WITHOUT_BYTES: u64 = 1 << 16;

/// The number of values of an encoded list; `None` if it is no list, and for values that never left the process. A list whose
/// values cannot be read may have another number: reading them says so.
pub(crate) fn count_values(payload: &Payload) -> Option<u64> {
    match payload {
        Payload::Encoded(Codec::Json, bytes) => count_json(bytes),
        // A list begins with its length.
        #[cfg(feature = "postcard")]
        Payload::Encoded(Codec::Postcard, bytes) => {
            let (count, rest) = postcard::take_from_bytes::<u64>(bytes).ok()?;
            // That is its own word, and each value takes a byte at least.
            let most = WITHOUT_BYTES.max(rest.len() as u64);
            (count <= most).then_some(count)
        }
        Payload::Local(_) => None,
    }
}

fn count_json(text: &[u8]) -> Option<u64> {
    let list = text.trim_ascii().strip_prefix(b"[")?.strip_suffix(b"]")?;
    if list.trim_ascii().is_empty() {
        return Some(0);
    }
    let (mut depth, mut commas) = (0u64, 0u64);
    let mut rest = list.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => skip_text(&mut rest),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => commas += 1,
            _ => {}
        }
    }
    Some(commas + 1)
}

/// Moves behind the quotation mark that ends a text.
fn skip_text<'a>(rest: &mut impl Iterator<Item = &'a u8>) {
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(rest.next()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_whatever_is_in_them() {
        for (json, count) in [
            ("[]", Some(0)),
            (" [ ] ", Some(0)),
            ("[1]", Some(1)),
            ("[1, 2,3]", Some(3)),
            (r#"["a,b","\"],[",{"c":[1,2],"d,":3},[[],[]]]"#, Some(4)),
            (r#"["\\",1]"#, Some(2)),
            ("1", None),
            ("[1]]", None),
            ("null", None),
        ] {
            assert_eq!(count_json(json.as_bytes()), count, "{json}");
            if let Ok(serde_json::Value::Array(values)) = serde_json::from_str(json) {
                assert_eq!(Some(values.len() as u64), count);
            }
        }
    }

    #[cfg(feature = "postcard")]
    #[test]
    fn a_compact_list_says_how_long_it_is() {
        use crate::packet::codec::{Form, encode};
        let form = Form::Wire(Codec::Postcard);
        let list = encode(vec![7u64; 300], form, "it").unwrap();
        assert_eq!(count_values(&list), Some(300));
        let list = encode(vec![(); 300], form, "it").unwrap();
        assert_eq!(count_values(&list), Some(300));
    }

    #[cfg(feature = "postcard")]
    #[test]
    fn a_compact_list_without_bytes_for_its_values_is_none() {
        for count in [1 << 17, u64::from(u32::MAX), u64::MAX] {
            let bytes = postcard::to_allocvec(&count).unwrap();
            let list = Payload::Encoded(Codec::Postcard, bytes.into());
            assert_eq!(count_values(&list), None, "{count}");
        }
    }
}
