//! Bytes as text that SQS takes, and back.

use aws_sdk_sqs::types::MessageAttributeValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// Stands before bytes that had to be encoded.
const MARK: &str = "base64:";
/// The attribute that says why a message is a dead letter.
pub(super) const REASON: &str = "reason";
/// Beside its value, an attribute counts with its name and its type.
const ATTRIBUTE: usize = REASON.len() + "String".len();

/// The body of a message: the text itself where SQS takes it, else an encoding of it.
pub(super) fn to_text(body: &Bytes) -> String {
    match std::str::from_utf8(body) {
        Ok(text) if is_plain(text) => text.to_owned(),
        _ => format!("{MARK}{}", STANDARD.encode(body)),
    }
}

/// The length of the [text](to_text) of a body that has `more` bytes of text in addition.
pub(super) fn sent_size(body: &[u8], more: usize) -> usize {
    let length = body.len() + more;
    match std::str::from_utf8(body) {
        Ok(text) if is_plain(text) => length,
        _ => MARK.len() + length.div_ceil(3) * 4,
    }
}

/// The bytes that were sent.
pub(super) fn from_text(text: String) -> Bytes {
    let decoded = text
        .strip_prefix(MARK)
        .and_then(|encoded| STANDARD.decode(encoded).ok());
    // What somebody else has sent arrives as it is, and is refused where it is read.
    decoded.map_or_else(|| text.into(), Bytes::from)
}

/// Whether the text can be sent as it is, and is not taken for an encoding.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(MARK) && text.chars().all(is_allowed)
}

/// The characters that SQS takes, which are those of XML.
pub(super) fn is_allowed(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        c => c >= ' ',
    }
}

/// A reason as an attribute, cut to the room there is; none for an empty one.
pub(super) fn reason(reason: &str, room: usize) -> Option<MessageAttributeValue> {
    let room = room.saturating_sub(ATTRIBUTE);
    let mut text = String::with_capacity(reason.len().min(room));
    for c in reason.chars() {
        let c = if is_allowed(c) { c } else { '\u{fffd}' };
        if text.len() + c.len_utf8() > room {
            break;
        }
        text.push(c);
    }
    if text.is_empty() {
        return None;
    }
    MessageAttributeValue::builder()
        .data_type("String")
        .string_value(text)
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_known_before_the_text_is_made() {
        for body in [
            &b"{\"a\":1}"[..],
            b"",
            b"\0",
            b"\xff\xfe",
            b"base64:a",
            "\u{ffff}".as_bytes(),
        ] {
            for more in 0..5 {
                let longer = Bytes::from([body, &b"12345"[..more]].concat());
                // Nothing to add to is no text, and a longer one is.
                if !body.is_empty() || more == 0 {
                    assert_eq!(
                        sent_size(body, more),
                        to_text(&longer).len(),
                        "{body:?} {more}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_body_comes_back() {
        let bodies: [&[u8]; 8] = [
            b"",
            b"{\"a\":1}",
            "gr\u{f6}\u{df}er \u{1f30a}\n".as_bytes(),
            "\u{fffe}\u{ffff}".as_bytes(),
            b"\0",
            b"\xff\xfe",
            b"base64:",
            b"base64:AAAA",
        ];
        for body in bodies {
            let body = Bytes::copy_from_slice(body);
            let text = to_text(&body);
            assert!(!text.is_empty() && text.chars().all(is_allowed), "{text:?}");
            assert_eq!(from_text(text), body);
        }
        assert_eq!(to_text(&Bytes::from_static(b"{}")), "{}", "readable");
    }

    #[test]
    fn what_others_send_arrives_as_it_is() {
        assert_eq!(from_text("base64:?".into()), "base64:?");
    }

    #[test]
    fn a_reason_fits() {
        let text = |reason_text: &str, room| {
            let attribute = reason(reason_text, room)?;
            attribute.string_value().map(str::to_owned)
        };
        assert_eq!(text("too bad", 1_000).as_deref(), Some("too bad"));
        assert_eq!(text("größer", ATTRIBUTE + 3).as_deref(), Some("gr"));
        assert_eq!(text("a\0b", 1_000).as_deref(), Some("a\u{fffd}b"));
        assert_eq!(text("", 1_000), None);
        assert_eq!(text("no room", 0), None);
    }
}
