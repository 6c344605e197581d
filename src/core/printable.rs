//! Text from outside, for people: without characters that a terminal or a log would obey.
//!
//! This is the one place that decides which characters those are. Whatever puts text of a message, a client, a service or
//! a user's error into a text that is shown goes through it.

use std::borrow::Cow;

/// The text with each character that is not safe to print as an escape, such as `\u{1b}` and `\n`. It is on one line then,
/// and escaping it again changes nothing.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_printable(character) {
            true => escaped.push(character),
            false => escaped.extend(character.escape_default()),
        }
    }
    Cow::Owned(escaped)
}

/// As [`printable`], of a text that is owned already.
pub(crate) fn into_printable(text: String) -> String {
    match printable(&text) {
        Cow::Owned(escaped) => escaped,
        Cow::Borrowed(_) => text,
    }
}

/// Control characters move a terminal's cursor or end a line; the others reorder the text around them, or end a line too.
pub(crate) fn is_printable(character: char) -> bool {
    let reorders_or_breaks = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    );
    !character.is_control() && !reorders_or_breaks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        for (text, shown) in [
            ("two words, ä and 🌧", "two words, ä and 🌧"),
            ("", ""),
            ("a\r\nb\tc", "a\\r\\nb\\tc"),
            ("\u{1b}[2J\u{7}\u{7f}\0", "\\u{1b}[2J\\u{7}\\u{7f}\\u{0}"),
            // The control sequence introducer in one character.
            ("\u{9b}2J", "\\u{9b}2J"),
            ("\u{202e}cod.exe", "\\u{202e}cod.exe"),
            ("a\u{2028}b", "a\\u{2028}b"),
            ("C:\\new", "C:\\new"),
        ] {
            assert_eq!(printable(text), shown);
            assert_eq!(into_printable(text.to_owned()), shown);
            assert_eq!(printable(shown), shown, "twice is once");
        }
        assert!(matches!(printable("plain"), Cow::Borrowed(_)));
    }
}
