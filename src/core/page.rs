//! Pages: a list in pieces, each with a cursor that leads to the next.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};

/// The end of a page, from which its list goes on. Opaque text that only the list that returned it can read: it may be
/// kept, passed to another process and sent over HTTP.
///
/// A backend makes one of a position of its own by [`encode`](Self::encode), and reads it by [`decode`](Self::decode).
///
/// ```
/// use catchment::Cursor;
///
/// let cursor = Cursor::encode("letters", &("map", 7))?;
/// // It goes on where it left off, also if only its text has survived.
/// let cursor = Cursor::new(cursor.as_str());
/// assert_eq!(cursor.decode::<(String, u32)>("letters")?, ("map".to_owned(), 7));
/// assert!(cursor.decode::<(String, u32)>("runs").is_err());
/// # Ok::<(), catchment::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    /// A cursor of the text of another. Nothing is checked until a list reads it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its text: letters, digits, `-` and `.` if it was [encoded](Self::encode), so that a URL needs no escapes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A cursor of the list of this name (letters, digits and `-`), with a position in it.
    ///
    /// # Errors
    /// [`Error::Encode`] if JSON cannot express the position.
    pub fn encode(list: &str, position: &impl Serialize) -> Result<Self> {
        use fmt::Write;

        let position = serde_json::to_vec(position)
            .map_err(|source| Error::encode("the position of a cursor", source))?;
        let mut text = format!("{list}.");
        for byte in position {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Ok(Self(text))
    }

    /// The position in the list of this name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the cursor belongs to another list, or is not a cursor at all.
    pub fn decode<T: DeserializeOwned>(&self, list: &str) -> Result<T> {
        let digits = self.0.strip_prefix(list);
        let digits = digits.and_then(|rest| rest.strip_prefix('.'));
        let position = digits.and_then(bytes);
        let position = position.and_then(|position| serde_json::from_slice(&position).ok());
        position.ok_or_else(|| {
            let quoted: String = self.0.chars().take(40).collect();
            Error::invalid_argument("cursor", format!(
                    "{quoted:?} is not a cursor of this list: pass the `next` of one of its own pages, or none to begin"
                ))
        })
    }
}

/// Its text.
impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The bytes of pairs of hexadecimal digits.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pairs = digits.as_bytes().chunks(2);
    let values = pairs.map(|pair| match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    });
    values.collect()
}

/// A piece of a list. It reads as a slice of its items.
///
/// A page may have fewer items than were asked for, even none, and still not be the last: only a page without
/// [`next`](Self::next) ends the list.
///
/// ```
/// use catchment::Page;
///
/// let page = Page::new(vec![1, 2], None);
/// assert_eq!((page.len(), page[1]), (2, 2));
/// assert!(page.next.is_none() && !page.truncated);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Leads to the next page. `None` on the last.
    pub next: Option<Cursor>,
    /// Whether there may be more that no cursor leads to, since the service cannot go on where it left off: ask for
    /// more at once, or deal with these first.
    pub truncated: bool,
}

impl<T> Page<T> {
    /// A page with these items, and the cursor of the next.
    pub fn new(items: Vec<T>, next: Option<Cursor>) -> Self {
        Self {
            items,
            next,
            truncated: false,
        }
    }

    /// Sets whether there may be more that no cursor leads to.
    #[must_use]
    pub fn truncated(mut self, truncated: bool) -> Self {
        self.truncated = truncated;
        self
    }

    /// Its items.
    pub fn as_slice(&self) -> &[T] {
        &self.items
    }

    /// The page with each item replaced by what `change` makes of it.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(change).collect(),
            next: self.next,
            truncated: self.truncated,
        }
    }
}

/// An empty last page.
impl<T> Default for Page<T> {
    fn default() -> Self {
        Self::new(Vec::new(), None)
    }
}

impl<T> std::ops::Deref for Page<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T> IntoIterator for Page<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Page<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_by_its_own_list_only() {
        let cursor = Cursor::encode("runs-1", &(7_u64, "a/b=+,ä")).unwrap();
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
        assert!(cursor.as_str().bytes().all(safe), "{cursor}");
        let position: (u64, String) = cursor.decode("runs-1").unwrap();
        assert_eq!(position, (7, "a/b=+,ä".to_owned()));
        for list in ["runs", "runs-11", ""] {
            let refused = cursor.decode::<(u64, String)>(list);
            assert!(
                matches!(refused, Err(Error::InvalidArgument { .. })),
                "{list}"
            );
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "", "runs", "runs.", "runs.5", "runs.zz", "runs.+5", "runs.ä", "runs.22",
        ] {
            let refused = Cursor::new(text).decode::<u64>("runs");
            assert!(
                matches!(refused, Err(Error::InvalidArgument { .. })),
                "{text}"
            );
        }
        let long = Cursor::new("ä".repeat(10_000)).decode::<u64>("runs");
        assert!(long.unwrap_err().to_string().len() < 500);
    }
}
