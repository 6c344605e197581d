//! A serializer that writes nothing: it adds up how much memory the visited values take.

use std::fmt;

use serde::ser::{self, Serialize, Serializer};

/// What a string, a list or a map takes itself, beside its contents.
const HEADER: usize = 24;
/// What an entry of a map takes beside its key and its value.
const ENTRY: usize = 8;
/// What a value takes of which there is nothing to see: an absent one, a variant's name, one that is written as text.
const OPAQUE: usize = 8;
/// Most elements that are measured of a list, and of each list inside one of those. Of a list nested deeper, it is one.
const ELEMENTS: [usize; 3] = [64, 16, 4];
/// Values nested deeper are not visited: a recursive type must not use up the stack.
const DEPTH: u32 = 200;

/// Adds up memory, in bytes. Of a long list, some elements stand for all. It allocates nothing and never fails.
pub(super) struct Counter {
    bytes: usize,
    depth: u32,
    /// How many lists the current value is in.
    lists: usize,
    /// Whether anything was visited but numbers, structs and tuples: then the next value of the type may be larger.
    may_differ: bool,
}

/// An error of a type's own `Serialize`.
#[derive(Debug)]
pub(super) struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the value refused to be written")
    }
}

impl std::error::Error for Refused {}

impl ser::Error for Refused {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl Counter {
    pub(super) fn new() -> Self {
        Self {
            bytes: 0,
            depth: 0,
            lists: 0,
            may_differ: false,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    fn add(&mut self, bytes: usize) -> Result<(), Refused> {
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }

    /// As [`add`](Self::add), for what the next value of the type may have more of.
    #[inline]
    fn add_some(&mut self, bytes: usize) -> Result<(), Refused> {
        self.may_differ = true;
        self.add(bytes)
    }

    /// Visits a value inside of the current one. One that refuses does not keep the rest from being visited.
    #[inline]
    fn visit<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        if self.depth < DEPTH {
            self.depth += 1;
            let _ = value.serialize(&mut *self);
            self.depth -= 1;
        }
        Ok(())
    }
}

/// The elements of a list or the entries of a map, of which some are measured.
pub(super) struct Elements<'a> {
    counter: &'a mut Counter,
    /// The counter's bytes before the first element.
    before: usize,
    /// Most elements that are measured before they become rarer.
    most: usize,
    seen: usize,
    measured: usize,
    /// One of this many elements is measured.
    one_of: usize,
    /// Whether the current element is.
    is_measured: bool,
}

impl<'a> Elements<'a> {
    /// Of `count` elements, if that is known.
    fn begin(counter: &'a mut Counter, count: Option<usize>) -> Self {
        let most = ELEMENTS.get(counter.lists).copied().unwrap_or(1);
        counter.lists += 1;
        counter.may_differ = false;
        counter.bytes = counter.bytes.saturating_add(HEADER);
        Self {
            before: counter.bytes,
            counter,
            most,
            seen: 0,
            measured: 0,
            one_of: count.map_or(1, |count| count.div_ceil(most).max(1)),
            is_measured: false,
        }
    }

    /// Goes on to the next element.
    #[inline]
    fn next(&mut self) {
        self.is_measured = self.seen.is_multiple_of(self.one_of);
        self.seen += 1;
        if self.is_measured {
            self.measured += 1;
            if self.measured > self.most {
                // There are more than were announced.
                self.one_of = self.one_of.saturating_mul(2);
            }
        }
    }

    #[inline]
    fn visit<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        match self.is_measured {
            true => self.counter.visit(value),
            false => Ok(()),
        }
    }

    /// Lets the measured elements stand for all.
    fn end(self) -> Result<(), Refused> {
        let Self {
            counter,
            before,
            seen,
            measured,
            ..
        } = self;
        counter.lists -= 1;
        counter.may_differ = true;
        let bytes = counter.bytes.saturating_sub(before);
        let all = bytes
            .checked_div(measured)
            .map_or(0, |mean| mean.saturating_mul(seen));
        counter.bytes = before.saturating_add(all.max(bytes));
        Ok(())
    }
}

impl ser::SerializeSeq for Elements<'_> {
    type Ok = ();
    type Error = Refused;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.next();
        self.visit(value)
    }

    fn end(self) -> Result<(), Refused> {
        self.end()
    }
}

impl ser::SerializeMap for Elements<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        self.next();
        if self.is_measured {
            self.counter.add(ENTRY)?;
        }
        self.visit(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.visit(value)
    }

    fn end(self) -> Result<(), Refused> {
        self.end()
    }
}

/// The fields of a struct, a tuple or a variant, each of which is measured.
macro_rules! fields {
    ($($of:ident, $method:ident($($key:ident)?));*;) => {$(
        impl ser::$of for &mut Counter {
            type Ok = ();
            type Error = Refused;

            #[inline]
            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($key: &'static str,)?
                value: &T,
            ) -> Result<(), Refused> {
                $(let _ = $key;)?
                self.visit(value)
            }

            #[inline]
            fn end(self) -> Result<(), Refused> {
                Ok(())
            }
        }
    )*};
}

fields! {
    SerializeTuple, serialize_element();
    SerializeTupleStruct, serialize_field();
    SerializeTupleVariant, serialize_field();
    SerializeStruct, serialize_field(_key);
    SerializeStructVariant, serialize_field(_key);
}

/// A number and the like takes the memory of its type.
macro_rules! plain {
    ($($method:ident: $of:ty),*) => {$(
        #[inline]
        fn $method(self, _: $of) -> Result<(), Refused> {
            self.add(size_of::<$of>())
        }
    )*};
}

impl<'a> Serializer for &'a mut Counter {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Elements<'a>;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Elements<'a>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    plain!(
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_f32: f32,
        serialize_f64: f64,
        serialize_char: char
    );

    #[inline]
    fn serialize_str(self, text: &str) -> Result<(), Refused> {
        self.add_some(HEADER + text.len())
    }

    #[inline]
    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Refused> {
        self.add_some(HEADER + bytes.len())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Refused> {
        self.add_some(OPAQUE)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refused> {
        self.may_differ = true;
        self.visit(value)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Refused> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Refused> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<(), Refused> {
        self.add_some(OPAQUE)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        self.visit(value)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        self.add_some(OPAQUE)?;
        self.visit(value)
    }

    fn serialize_seq(self, count: Option<usize>) -> Result<Elements<'a>, Refused> {
        Ok(Elements::begin(self, count))
    }

    #[inline]
    fn serialize_tuple(self, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Refused> {
        self.add_some(OPAQUE)?;
        Ok(self)
    }

    fn serialize_map(self, count: Option<usize>) -> Result<Elements<'a>, Refused> {
        Ok(Elements::begin(self, count))
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Refused> {
        self.add_some(OPAQUE)?;
        Ok(self)
    }

    /// Skips from one measured element to the next: of a `Vec`, the others take no time. If the elements are plain numbers,
    /// the first one is enough.
    fn collect_seq<I>(self, elements: I) -> Result<(), Refused>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        let mut elements = elements.into_iter();
        let count = match elements.size_hint() {
            (low, Some(high)) if low == high => Some(low),
            _ => None,
        };
        let mut measured = Elements::begin(self, count);
        let Some(count) = count else {
            elements.try_for_each(|element| {
                ser::SerializeSeq::serialize_element(&mut measured, &element)
            })?;
            return measured.end();
        };
        measured.is_measured = true;
        let (step, mut passed) = (measured.one_of, 0);
        while passed < count {
            let stretch = step.min(count - passed);
            let place = scatter(measured.measured, stretch);
            let Some(element) = elements.nth(place) else {
                break;
            };
            measured.visit(&element)?;
            measured.measured += 1;
            if !measured.counter.may_differ {
                break;
            }
            let rest = stretch - place - 1;
            if rest > 0 {
                elements.nth(rest - 1);
            }
            passed += stretch;
        }
        measured.seen = count;
        measured.end()
    }

    /// Text that is made for this: how long it would be is not worth making it.
    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), Refused> {
        self.add_some(size_of_val(value).max(OPAQUE))
    }

    /// Types are spared to write numbers and times as text.
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// A place in a stretch of this length: another one for each stretch, so that a pattern in the list cannot hide.
fn scatter(stretch: usize, length: usize) -> usize {
    let mixed = (stretch as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    (mixed as usize).checked_rem(length).unwrap_or(0)
}

#[cfg(test)]
mod tests;
