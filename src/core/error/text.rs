//! The text of an error and of what it wraps. Their methods are their authors', and may panic or have no end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::core::panic::drop_contained;
use crate::core::printable::into_printable;

/// Causes that are looked at. An error may be its own cause.
const MOST_CAUSES: usize = 64;

/// Bytes of an error's text that are read. Some have all of the data in it that they are about.
pub(super) const LONGEST_TEXT: usize = 64 * 1024;

/// The error and what it wraps. Its methods are its author's, and may panic.
pub(super) fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    let cause = |error: &&'a (dyn std::error::Error + 'static)| {
        catch_unwind(AssertUnwindSafe(|| error.source())).unwrap_or_else(|panic| {
            drop_contained(panic);
            None
        })
    };
    std::iter::successors(Some(error), cause).take(1 + MOST_CAUSES)
}

/// The error and what it wraps, on one line, each text once. It is [printable](crate::core::printable).
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut whole = String::new();
    for (place, error) in chain(error).enumerate() {
        let text = text_of(error);
        if place == 0 {
            whole = text;
        } else if !whole.ends_with(&text) {
            whole.push_str(": ");
            whole.push_str(&text);
        }
    }
    into_printable(whole)
}

/// An error's own text. `Display` is its author's: it may panic, report an error of its own or have no end.
fn text_of(error: &dyn std::error::Error) -> String {
    struct Bounded(String);
    impl std::fmt::Write for Bounded {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            let room = LONGEST_TEXT - self.0.len();
            let fits = text.floor_char_boundary(room);
            self.0.push_str(text.split_at(fits).0);
            match fits == text.len() {
                true => Ok(()),
                false => Err(std::fmt::Error),
            }
        }
    }
    let mut text = Bounded(String::new());
    let write = || std::fmt::Write::write_fmt(&mut text, format_args!("{error}"));
    match catch_unwind(AssertUnwindSafe(write)) {
        Ok(Ok(())) => return text.0,
        Ok(Err(std::fmt::Error)) => {}
        Err(panic) => drop_contained(panic),
    }
    match text.0.is_empty() {
        true => "an error whose text cannot be written".to_owned(),
        false => text.0 + "…",
    }
}
