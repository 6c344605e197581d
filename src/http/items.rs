//! The items of a JSON array, one at a time.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::DeserializeOwned;

/// Items that are read from the text as they are pulled, so that a submission holds its body and not its items too.
pub(super) struct Items<I> {
    body: Bytes,
    place: Place,
    left: usize,
    types: PhantomData<fn() -> I>,
}

impl<I> Items<I> {
    /// How many items are still to be read.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Bytes of the whole body.
    pub(super) fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Where in the body the next item is.
    pub(super) fn offset(&self) -> usize {
        self.place.offset
    }

    /// The items that are still to be read, of which none are left here.
    pub(super) fn take(&mut self) -> Self {
        Self {
            body: self.body.split_off(0),
            place: self.place,
            left: std::mem::take(&mut self.left),
            types: PhantomData,
        }
    }
}

/// Where in an array the reader is.
#[derive(Clone, Copy)]
struct Place {
    offset: usize,
    /// Items behind it.
    items: usize,
}

impl<I: DeserializeOwned> Items<I> {
    /// Reads every item once, so that an array with a bad one is refused before any of it is submitted.
    ///
    /// # Errors
    /// What is wrong, and with which item.
    pub(super) fn check(body: Bytes) -> Result<Self, String> {
        check_text(&body)?;
        let first = open(&body)?;
        let mut place = first;
        while next::<I>(&body, &mut place)?.is_some() {}
        Ok(Self {
            body,
            place: first,
            left: place.items,
            types: PhantomData,
        })
    }
}

impl<I: DeserializeOwned> Iterator for Items<I> {
    type Item = I;

    fn next(&mut self) -> Option<I> {
        match next(&self.body, &mut self.place) {
            Ok(item) => {
                self.left -= usize::from(item.is_some());
                item
            }
            // The submission sees that there are fewer than there should be, and fails.
            Err(problem) => {
                tracing::error!(problem, "an item was read once, and cannot be read again");
                None
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// JSON is UTF-8. A reader that skips a string, or wants its bytes, would not notice.
fn check_text(body: &[u8]) -> Result<(), String> {
    let Err(error) = std::str::from_utf8(body) else {
        return Ok(());
    };
    let offset = error.valid_up_to();
    let byte = name(body, offset);
    Err(format!(
        "the body is not UTF-8: {byte} is at offset {offset}"
    ))
}

/// Finds where the array begins.
fn open(body: &[u8]) -> Result<Place, String> {
    const EXAMPLE: &str = "send a JSON array of items, such as [1, 2, 3]";
    let offset = skip_space(body, 0);
    match body.get(offset) {
        Some(b'[') => Ok(Place {
            offset: offset + 1,
            items: 0,
        }),
        Some(_) => Err(format!(
            "the body is not a JSON array, it begins with {}: {EXAMPLE}",
            name(body, offset)
        )),
        None => Err(format!("the body is empty: {EXAMPLE}")),
    }
}

/// Reads the next item, or the end of the array and of the body.
fn next<I: DeserializeOwned>(body: &[u8], place: &mut Place) -> Result<Option<I>, String> {
    let index = place.items;
    let mut offset = skip_space(body, place.offset);
    match (body.get(offset), index.checked_sub(1)) {
        (Some(b']'), _) => {
            let rest = skip_space(body, offset + 1);
            return match body.get(rest) {
                Some(_) => Err(format!("the array is followed by {}", name(body, rest))),
                None => Ok(None),
            };
        }
        (Some(b','), Some(_)) => offset += 1,
        (Some(_), Some(before)) => {
            return Err(format!(
                "item {before} is followed by {}, where a comma or ] should be",
                name(body, offset)
            ));
        }
        _ => {}
    }
    let rest = body.get(offset..).unwrap_or_default();
    let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<I>();
    match values.next() {
        Some(Ok(item)) => {
            place.offset = offset + values.byte_offset();
            place.items += 1;
            Ok(Some(item))
        }
        Some(Err(error)) if !error.is_eof() => Err(format!("item {index}: {}", reason(&error))),
        _ => Err(format!(
            "the array is not closed: the body ends at item {index}"
        )),
    }
}

/// Without the position, which would count from the item on.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}

fn skip_space(body: &[u8], from: usize) -> usize {
    let rest = body.get(from..).unwrap_or_default();
    let space = rest.iter().take_while(|byte| b" \t\r\n".contains(byte));
    from + space.count()
}

/// The character at this offset.
fn name(body: &[u8], offset: usize) -> String {
    match body.get(offset) {
        Some(byte) if byte.is_ascii_graphic() => format!("`{}`", char::from(*byte)),
        Some(byte) => format!("the byte {byte:#04x}"),
        None => "the end".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<I: DeserializeOwned>(body: &'static str) -> Result<Vec<I>, String> {
        let items = Items::check(Bytes::from_static(body.as_bytes()))?;
        let length = items.size_hint();
        let items: Vec<I> = items.collect();
        assert_eq!(length, (items.len(), Some(items.len())));
        Ok(items)
    }

    #[test]
    fn good_arrays_are_read_whole() {
        assert_eq!(read::<i64>("[]"), Ok(vec![]));
        assert_eq!(read::<i64>(" [ ] \n"), Ok(vec![]));
        assert_eq!(read::<i64>("[1,-2 , 3\n]"), Ok(vec![1, -2, 3]));
        assert_eq!(
            read::<Option<bool>>("[null,true]"),
            Ok(vec![None, Some(true)])
        );
        let strings = read::<String>(r#"["a]", "b\",", "ä"]"#).unwrap();
        assert_eq!(strings, ["a]", "b\",", "ä"]);
        assert_eq!(read::<Vec<u8>>("[[1,2],[]]"), Ok(vec![vec![1, 2], vec![]]));
    }

    #[test]
    fn bad_ones_are_refused_with_the_reason() {
        for (body, reason) in [
            (
                "",
                "the body is empty: send a JSON array of items, such as [1, 2, 3]",
            ),
            (
                " \n",
                "the body is empty: send a JSON array of items, such as [1, 2, 3]",
            ),
            (
                "{}",
                "the body is not a JSON array, it begins with `{`: send a JSON array of items, such as [1, 2, 3]",
            ),
            (
                "\u{feff}[1]",
                "the body is not a JSON array, it begins with the byte 0xef: send a JSON array of items, such as [1, 2, 3]",
            ),
            ("[", "the array is not closed: the body ends at item 0"),
            ("[1", "the array is not closed: the body ends at item 1"),
            ("[1,", "the array is not closed: the body ends at item 1"),
            ("[1,]", "item 1: expected value"),
            ("[,1]", "item 0: expected value"),
            (
                "[1 2]",
                "item 0 is followed by `2`, where a comma or ] should be",
            ),
            ("[1]]", "the array is followed by `]`"),
            ("[1] [2]", "the array is followed by `[`"),
            (
                "[1,2,3,\"4\"]",
                "item 3: invalid type: string \"4\", expected i64",
            ),
            (
                "[1.5]",
                "item 0: invalid type: floating point `1.5`, expected i64",
            ),
            (
                "[1,9223372036854775808]",
                "item 1: invalid value: integer `9223372036854775808`, expected i64",
            ),
            ("[1e999]", "item 0: number out of range"),
            ("[1x]", "item 0: trailing characters"),
            (
                "1\n2\n",
                "the body is not a JSON array, it begins with `1`: send a JSON array of items, such as [1, 2, 3]",
            ),
            ("[nul]", "item 0: expected ident"),
        ] {
            assert_eq!(read::<i64>(body), Err(reason.to_owned()), "{body}");
        }
    }

    #[test]
    fn an_item_that_nests_too_deep_is_refused() {
        let body = format!("[{}", "[".repeat(1_000_000));
        let problem = Items::<serde_json::Value>::check(body.into()).err();
        assert_eq!(problem.as_deref(), Some("item 0: recursion limit exceeded"));
    }
}
