//! JSON as text that every queue takes.
//!
//! Services whose protocol is or was XML take the characters of XML 1.0 alone. JSON escapes control
//! characters anyway; of the others, XML lacks only U+FFFE and U+FFFF, which stand in strings alone,
//! where JSON may write them as `\ufffe` and `\uffff`: three bytes more for each, instead of a third
//! more for the whole message, which would have to become base64.
//!
//! JSON text that a type hands over as it is (`RawValue`) is not touched, since it would be read back
//! as another text.

use std::io::{Result, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Writes a value as compact JSON, the characters that XML lacks as escapes.
pub(super) fn to_vec<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let bytes = serde_json::to_vec(value)?;
    match is_xml(&bytes) {
        true => Ok(bytes),
        false => to_vec_escaped(value),
    }
}

/// Bytes that are scanned at once, which the compiler does with vector instructions. Scanning the
/// finished text costs a twentieth of writing it; checking each string before it is written would
/// cost half of it.
const BLOCK: usize = 256;

/// Whether the text has neither U+FFFE nor U+FFFF.
fn is_xml(text: &[u8]) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let (block, after) = rest.split_at(rest.len().min(BLOCK));
        // The first of the three bytes of every character from U+F000 on. Few texts have any.
        let may_have = block.iter().fold(false, |any, byte| any | (*byte == 0xef));
        // A character may begin at the block's end.
        if may_have && has_any(rest.get(..BLOCK + 2).unwrap_or(rest)) {
            return false;
        }
        rest = after;
    }
    true
}

/// Whether the text has U+FFFE or U+FFFF.
fn has_any(text: &[u8]) -> bool {
    let pairs = text.iter().zip(text.iter().skip(1));
    let triples = pairs.zip(text.iter().skip(2));
    triples.fold(false, |any, ((first, second), third)| {
        any | ((*first == 0xef) & (*second == 0xbf) & (*third >= 0xbe))
    })
}

#[cold]
fn to_vec_escaped<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Escape))?;
    Ok(bytes)
}

/// The compact form, but for the two characters.
struct Escape;

impl Formatter for Escape {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> Result<()>
    where
        W: Write + ?Sized,
    {
        for part in fragment.split_inclusive(['\u{fffe}', '\u{ffff}']) {
            let (plain, escape) = match part.strip_suffix('\u{fffe}') {
                Some(plain) => (plain, r"\ufffe"),
                None => match part.strip_suffix('\u{ffff}') {
                    Some(plain) => (plain, r"\uffff"),
                    None => (part, ""),
                },
            };
            writer.write_all(plain.as_bytes())?;
            writer.write_all(escape.as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::de::DeserializeOwned;
    use serde_json::value::RawValue;

    use super::*;

    /// What XML 1.0 allows in a document.
    fn is_allowed(c: char) -> bool {
        matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
    }

    /// Writes the value, and checks that XML allows the text and that the value comes back.
    fn written<T>(value: &T) -> String
    where
        T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let text = String::from_utf8(to_vec(value).unwrap()).unwrap();
        assert!(text.chars().all(is_allowed), "{text}");
        assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value);
        text
    }

    #[test]
    fn every_character_is_written_as_xml_allows_it_and_comes_back() {
        for c in '\0'..=char::MAX {
            let text = written(&c);
            match c {
                '\u{fffe}' | '\u{ffff}' => assert_eq!(text, format!(r#""\u{:04x}""#, c as u32)),
                c => assert_eq!(text.as_bytes(), serde_json::to_vec(&c).unwrap(), "{c:?}"),
            }
        }
    }

    #[test]
    fn each_such_character_takes_three_bytes_more_wherever_it_stands() {
        for text in [
            "\u{ffff}",
            "a\u{fffe}",
            "\u{fffe}b\n\u{ffff}\u{ffff}\u{fffd}c",
            "\\\u{ffff}\"",
        ] {
            let such = |text: &str| text.matches(['\u{fffe}', '\u{ffff}']).count();
            let value = BTreeMap::from([(text.to_owned(), (text.to_owned(), 1.5, [true]))]);
            let plain = serde_json::to_string(&value).unwrap();
            assert_eq!(written(&value).len(), plain.len() + 3 * such(&plain));
        }
    }

    /// At every place of a block, its end included.
    #[test]
    fn a_character_is_found_wherever_it_stands() {
        for such in ['\u{fffe}', '\u{ffff}'] {
            for before in (0..20)
                .chain(BLOCK - 8..BLOCK + 8)
                .chain(2 * BLOCK - 8..2 * BLOCK + 8)
            {
                for after in [0, 1, 5, BLOCK] {
                    let text = format!("{}{such}{}", "x".repeat(before), "\u{ff21}".repeat(after));
                    assert!(!is_xml(text.as_bytes()), "{before} {after}");
                    written(&text);
                    let other = text.replace(such, "\u{fffd}");
                    assert!(is_xml(other.as_bytes()), "{before} {after}");
                }
            }
        }
    }

    #[test]
    fn nothing_else_is_written_in_another_way() {
        let value = serde_json::json!({
            "a": [null, -1, 1.0e300, "größer 🌊 \u{feff}\u{ff21}", {}, []],
            "b\u{7f}": { "": "\u{1}\u{2028}" },
        });
        assert_eq!(to_vec(&value).unwrap(), serde_json::to_vec(&value).unwrap());
        let raw = RawValue::from_string("[ \"\u{ffff}\" ]".to_owned()).unwrap();
        assert_eq!(to_vec(&raw).unwrap(), raw.get().as_bytes());
    }
}
