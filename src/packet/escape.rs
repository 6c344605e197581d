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
    // As `serde_json::to_vec` begins.
    let mut bytes = Vec::with_capacity(128);
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Escape))?;
    Ok(bytes)
}

/// The compact form, but for the two characters.
struct Escape;

/// The first of the three bytes of every character from U+F000 to U+FFFF. Few texts have any.
const FIRST: u8 = 0xef;

impl Formatter for Escape {
    #[inline]
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> Result<()>
    where
        W: Write + ?Sized,
    {
        match fragment.as_bytes().contains(&FIRST) {
            false => writer.write_all(fragment.as_bytes()),
            true => write_escaped(writer, fragment),
        }
    }
}

#[cold]
fn write_escaped<W: Write + ?Sized>(writer: &mut W, fragment: &str) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::de::DeserializeOwned;
    use serde_json::value::RawValue;

    use super::*;

    /// What XML 1.0 allows in a document.
    fn is_xml(c: char) -> bool {
        matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
    }

    /// Writes the value, and checks that XML allows the text and that the value comes back.
    fn written<T>(value: &T) -> String
    where
        T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let text = String::from_utf8(to_vec(value).unwrap()).unwrap();
        assert!(text.chars().all(is_xml), "{text}");
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
