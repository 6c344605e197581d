//! Strict writing: refuses a value that a reader would not get back as it was.
//!
//! Formats lose things without an error. JSON writes NaN, `None`, `()` and `Some(None)` as the same
//! `null`; postcard reads every byte after a skipped field as something else; a reader stops at a
//! nesting that the writer accepted. Every value of a user is therefore written through one adaptor
//! around the format's own serializer, which checks as it forwards. It allocates only when it
//! refuses.

mod compound;
mod refused;
mod serializer;
#[cfg(test)]
mod tests;
mod trace;

use std::marker::PhantomData;

use serde::{Serialize, Serializer, ser};

pub(crate) use refused::Refused;
use serializer::Strict;
use trace::Trace;
pub(crate) use trace::Unwritable;

/// What a format cannot write so that it is read back. Constants, so that the checks that a format
/// does not need compile to nothing.
pub(crate) trait Rules: Copy {
    /// Whether the format has no NaN and no infinities.
    const FINITE: bool;
    /// Whether `None` and every empty value are written alike, so that `Some` of one reads as `None`.
    const NULL_IS_NONE: bool;
    /// Whether an `f32` may be read through an `f64`.
    const WIDENS_FLOATS: bool;
    /// Whether the fields of a struct are written with their names, so that one may be left out.
    const NAMED_FIELDS: bool;
    /// Whether a list and a map begin with their length.
    const LENGTH_FIRST: bool;
    /// Whether only text can be the key of a map.
    const TEXT_KEYS: bool;
    /// The deepest nesting of lists, maps and structs that the format's reader accepts.
    const NESTING: u16;
    /// The deepest nesting of values of any kind, which bounds the stack that writing and reading
    /// take.
    const LEVELS: u16;
}

/// The rules of JSON, with the deepest nesting that may be written.
#[derive(Clone, Copy)]
pub(crate) struct JsonUpTo<const NESTING: u16>;

/// The deepest nesting of a value in JSON. `serde_json` reads 127 levels, one of which is the list
/// that the engine may put around a reduced value.
pub(crate) const JSON_NESTING: u16 = 126;

/// The rules of JSON that `serde_json` reads.
pub(crate) type Json = JsonUpTo<JSON_NESTING>;

impl<const NESTING: u16> Rules for JsonUpTo<NESTING> {
    const FINITE: bool = true;
    const NULL_IS_NONE: bool = true;
    const WIDENS_FLOATS: bool = true;
    const NAMED_FIELDS: bool = true;
    const LENGTH_FIRST: bool = false;
    const TEXT_KEYS: bool = true;
    const NESTING: u16 = NESTING;
    const LEVELS: u16 = MOST_LEVELS;
}

/// The rules of the crate `postcard`.
#[cfg(feature = "postcard")]
#[derive(Clone, Copy)]
pub(crate) struct Postcard;

#[cfg(feature = "postcard")]
impl Rules for Postcard {
    const FINITE: bool = false;
    const NULL_IS_NONE: bool = false;
    const WIDENS_FLOATS: bool = false;
    const NAMED_FIELDS: bool = false;
    const LENGTH_FIRST: bool = true;
    const TEXT_KEYS: bool = false;
    // Its reader counts nothing, and is held to the stack that it may take: see `bounded.rs`.
    const NESTING: u16 = u16::MAX;
    const LEVELS: u16 = MOST_LEVELS;
}

/// Nested values of any kind. An ordinary thread's stack of 2 MiB bears several times as many in a
/// build without optimisation, unless the types are very wide.
const MOST_LEVELS: u16 = 256;

/// Writes `value` by `write`, which is given a value that checks itself by the rules `R` when it is
/// serialized.
pub(crate) fn checked<R, T, W, E>(
    value: &T,
    write: impl FnOnce(&Checked<'_, T, R>) -> Result<W, E>,
) -> Result<W, Unwritable>
where
    R: Rules,
    T: Serialize + ?Sized,
    E: std::error::Error + Send + Sync + 'static,
{
    let trace = Trace::default();
    let here = Here {
        trace: &trace,
        nesting: 0,
        levels: 0,
        place: Place::Plain,
        rules: PhantomData,
    };
    let written = write(&Checked { value, here });
    written.map_err(|error| trace.unwritable(error))
}

/// A value at its place in the whole. Serializing it checks it.
pub(crate) struct Checked<'a, T: ?Sized, R> {
    value: &'a T,
    here: Here<'a, R>,
}

impl<T: Serialize + ?Sized, R: Rules> Serialize for Checked<'_, T, R> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Strict {
            inner: serializer,
            here: self.here,
        })
    }
}

/// Where the writer is.
#[derive(Clone, Copy)]
struct Here<'a, R> {
    trace: &'a Trace,
    /// Lists, maps and structs around the value.
    nesting: u16,
    /// Values of any kind around the value.
    levels: u16,
    place: Place,
    rules: PhantomData<R>,
}

/// What is directly around a value, if that matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Plain,
    /// The value is the inside of a `Some`, perhaps within newtypes.
    InSome,
    /// The value is JSON text within a `Some`.
    RawInSome,
}

impl<'a, R: Rules> Here<'a, R> {
    /// The value `value`, at this place.
    #[inline]
    fn with<'b, T: ?Sized>(self, value: &'b T) -> Checked<'b, T, R>
    where
        'a: 'b,
    {
        Checked { value, here: self }
    }

    /// The place within a list, map or struct that takes `nesting` levels of the reader's.
    #[inline]
    fn nested<E: ser::Error>(self, nesting: u16) -> Result<Self, E> {
        let nesting = self.nesting + nesting;
        if nesting > R::NESTING {
            return Err(self.refuse(Refused::Nesting(R::NESTING)));
        }
        let place = Place::Plain;
        Self { nesting, ..self }.level(place)
    }

    /// The place within a `Some` or a newtype, which the format may write as its inside alone.
    #[inline]
    fn level<E: ser::Error>(self, place: Place) -> Result<Self, E> {
        let levels = self.levels + 1;
        if levels > R::LEVELS {
            return Err(self.refuse(Refused::Nesting(R::LEVELS)));
        }
        Ok(Self {
            levels,
            place,
            ..self
        })
    }

    /// Records why the value is refused. The error only stops the serializer.
    #[cold]
    fn refuse<E: ser::Error>(self, refused: Refused) -> E {
        self.trace.refuse(refused);
        E::custom("refused")
    }
}
