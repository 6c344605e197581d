//! What a map stage calls its items: in failures, dead letters and log lines.

use std::any::Any;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::list::List;
use crate::core::excerpt::Excerpt;
use crate::core::panic::panicked;
use crate::packet::codec::{Codec, Form};
use crate::packet::strict::{self, Checked, Json};
use crate::stage::{Context, Data, ItemType, Labeller};

/// Most characters of a value that is its item's label.
const LONGEST_VALUE: usize = 60;
/// Most bytes that are written of such a value: each character as the longest escape, in quotes.
const MOST_BYTES: usize = 6 * LONGEST_VALUE + 2;

/// A stage's items, their type erased.
#[derive(Clone, Copy)]
pub(super) struct Naming {
    pub(super) item: ItemType,
    /// The label of a list's first value: by the function, or else as JSON.
    label: fn(List, Option<&Labeller>) -> Option<String>,
}

impl Naming {
    pub(super) fn of<T: Data>() -> Self {
        Self {
            item: ItemType::of::<T>(),
            label: label::<T>,
        }
    }
}

fn label<T: Data>(value: List, labeller: Option<&Labeller>) -> Option<String> {
    let values = value.take::<T>().ok()?;
    let value = values.first()?;
    match labeller {
        Some(labeller) => labeller.label(value as &dyn Any),
        None => beginning(value),
    }
}

/// What one stage calls its items.
#[derive(Clone)]
pub(super) struct Labels {
    naming: Naming,
    labeller: Option<Labeller>,
    has_warned: Arc<AtomicBool>,
}

impl Labels {
    pub(super) fn new(naming: Naming, labeller: Option<Labeller>) -> Self {
        Self {
            naming,
            labeller,
            has_warned: Arc::default(),
        }
    }

    /// The label of the only value of a list. If the function of the stage's option panics, there is none. Without the
    /// option it is the beginning of the value as JSON, if that is what the deployment writes or if nothing is written.
    pub(super) fn label(&self, value: List, context: &Context, form: Form) -> Option<String> {
        if self.labeller.is_none() && !shows_values(form) {
            return None;
        }
        let label = || (self.naming.label)(value, self.labeller.as_ref());
        let panic = match catch_unwind(AssertUnwindSafe(label)) {
            Ok(label) => return label,
            Err(panic) => panicked(panic),
        };
        if self.labeller.is_some() && !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                stage = context.stage(),
                error = panic,
                "the function given to `Stage::label` failed: items of this stage may be reported without a label"
            );
        }
        None
    }

    /// The label of a value that cannot be read: the beginning of its JSON, unless the stage has a function for labels,
    /// which may be there to keep values out of failures.
    pub(super) fn label_of_unread(&self, json: &[u8]) -> Option<String> {
        match self.labeller {
            Some(_) => None,
            None => beginning_of(
                json.get(..MOST_BYTES).unwrap_or(json),
                json.len() > MOST_BYTES,
            ),
        }
    }
}

/// Whether a person may read values of this form.
fn shows_values(form: Form) -> bool {
    match form {
        Form::Local | Form::Wire(Codec::Json) => true,
        #[cfg(feature = "postcard")]
        Form::Wire(Codec::Postcard) => false,
    }
}

/// The beginning of a value's JSON. `Serialize` is its author's: it may go on for ever, so the writer refuses what comes
/// after the beginning. It may nest without writing anything, which strict writing limits.
fn beginning<T: Data>(value: &T) -> Option<String> {
    let mut beginning = Limited(Vec::with_capacity(MOST_BYTES));
    let written = strict::checked(value, |value: &Checked<'_, T, Json>| {
        serde_json::to_writer(&mut beginning, value)
    });
    beginning_of(&beginning.0, written.is_err())
}

/// Takes so many bytes and no more.
struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(MOST_BYTES - self.0.len());
        self.0.extend_from_slice(bytes.split_at(fits).0);
        // Nothing written ends the writing with an error.
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A label of JSON, of which `is_cut` says whether more would follow. A string stands without its quotes.
fn beginning_of(json: &[u8], is_cut: bool) -> Option<String> {
    let text = match std::str::from_utf8(json) {
        Ok(text) => text,
        // The last character was cut.
        Err(error) => std::str::from_utf8(json.get(..error.valid_up_to())?).ok()?,
    };
    let string = text.starts_with('"').then(|| string(text)).flatten();
    let text = string.as_deref().unwrap_or(text);
    if is_cut && string.is_none() && !text.contains(char::is_alphanumeric) {
        // Brackets alone say nothing.
        return None;
    }
    let mut excerpt = Excerpt::of(text, LONGEST_VALUE);
    if is_cut {
        excerpt.cut();
    }
    excerpt.finish()
}

/// The string that this JSON is, or begins.
fn string(json: &str) -> Option<String> {
    if let Ok(whole) = serde_json::from_str(json) {
        return Some(whole);
    }
    // It may have been cut within an escape, which has up to six characters, or twelve as a pair of surrogates.
    let ends = (json.len().saturating_sub(12)..=json.len()).rev();
    ends.filter_map(|end| json.get(..end))
        .find_map(|begun| serde_json::from_str(&format!("{begun}\"")).ok())
}

#[cfg(test)]
mod tests;
