//! The beginning of a text that a user's code writes, on one line.

use std::fmt::{self, Write};

use super::printable::is_printable;

/// Collects a text up to a number of characters, and refuses the rest, so that writing a long text ends early. Control
/// characters become escapes: a line break in the text of a failure would look like the end of a line in a log.
pub(crate) struct Excerpt {
    text: String,
    /// Characters that still fit.
    room: usize,
    is_cut: bool,
}

impl Excerpt {
    /// Of at most `longest` characters.
    pub(crate) fn new(longest: usize) -> Self {
        Self {
            text: String::new(),
            room: longest,
            is_cut: false,
        }
    }

    /// The beginning of `text`.
    pub(crate) fn of(text: &str, longest: usize) -> Self {
        let mut excerpt = Self::new(longest);
        // It ends early if the text is longer.
        let _ = excerpt.write_str(text);
        excerpt
    }

    /// Marks the text as incomplete: `…` takes the place of what is missing.
    pub(crate) fn cut(&mut self) {
        if !self.is_cut && self.room == 0 {
            self.text.pop();
        }
        self.is_cut = true;
        self.room = 0;
    }

    /// The text, followed by `…` if it was cut; `None` if it has nothing to see.
    pub(crate) fn finish(self) -> Option<String> {
        if self.text.trim().is_empty() {
            return None;
        }
        Some(match self.is_cut {
            true => self.text + "…",
            false => self.text,
        })
    }

    fn push(&mut self, character: char) -> fmt::Result {
        if self.room == 0 {
            self.cut();
            return Err(fmt::Error);
        }
        self.room -= 1;
        self.text.push(character);
        Ok(())
    }
}

impl Write for Excerpt {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match is_printable(character) {
                true => self.push(character)?,
                false => character
                    .escape_default()
                    .try_for_each(|part| self.push(part))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(text: &str, longest: usize) -> Option<String> {
        Excerpt::of(text, longest).finish()
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(excerpt("rain", 4).as_deref(), Some("rain"));
        assert_eq!(excerpt("räin ", 4).as_deref(), Some("räi…"));
        assert_eq!(excerpt("🌧🌧🌧", 2).as_deref(), Some("🌧…"));
    }

    #[test]
    fn a_text_stays_on_one_line() {
        assert_eq!(excerpt("a\nb\u{1b}c", 99).as_deref(), Some("a\\nb\\u{1b}c"));
    }

    #[test]
    fn an_empty_text_is_none() {
        assert_eq!(excerpt("", 4), None);
        assert_eq!(excerpt("  ", 4), None);
    }

    #[test]
    fn writing_ends_where_the_text_is_cut() {
        let mut excerpt = Excerpt::new(3);
        assert!(excerpt.write_str("abc").is_ok());
        assert!(excerpt.write_str("d").is_err());
        assert!(excerpt.write_str("").is_ok());
        assert!(excerpt.write_str("e").is_err());
        assert_eq!(excerpt.finish().as_deref(), Some("ab…"));
    }
}
