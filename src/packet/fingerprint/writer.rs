//! The form in which items are hashed: a serde format that is only written.

use std::fmt::Display;

use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use twox_hash::xxhash3_128::Hasher;

/// What follows. A number is as long as its kind says, least significant byte first. A length has one byte up to 253;
/// any other is the byte 254 and eight bytes.
mod kind {
    /// `()`, a unit struct, `None`.
    pub(super) const NOTHING: u8 = 0x00;
    pub(super) const FALSE: u8 = 0x01;
    pub(super) const TRUE: u8 = 0x02;
    /// Eight bytes: any integer that fits an `i64`, whatever its type.
    pub(super) const INTEGER: u8 = 0x03;
    /// Sixteen bytes: any other that fits an `i128`.
    pub(super) const LARGE: u8 = 0x04;
    /// Sixteen bytes: any other `u128`.
    pub(super) const HUGE: u8 = 0x05;
    /// Eight bytes: the bits of the `f64`.
    pub(super) const FLOAT: u8 = 0x06;
    /// The length, and UTF-8.
    pub(super) const TEXT: u8 = 0x07;
    /// The length, and the bytes.
    pub(super) const BYTES: u8 = 0x08;
    /// The value.
    pub(super) const SOME: u8 = 0x09;
    /// The values up to `END`: a sequence, a tuple, a tuple struct.
    pub(super) const LIST: u8 = 0x0a;
    pub(super) const END: u8 = 0x0b;
    /// The number of entries in eight bytes, and the sum of their hashes in sixteen.
    pub(super) const MAP: u8 = 0x0c;
    /// For each field its name (as `TEXT` without the kind) and its value, up to the byte 255.
    pub(super) const STRUCT: u8 = 0x0d;
    /// Its name (as `TEXT` without the kind), and its value, `LIST` or `STRUCT`.
    pub(super) const VARIANT: u8 = 0x0e;
    /// Its name (as `TEXT` without the kind).
    pub(super) const UNIT_VARIANT: u8 = 0x0f;
}

/// Instead of a length up to this one, or of a longer one.
const LONGEST: u8 = 253;
const LONGER: u8 = 254;
/// Instead of the length of a field's name, after the last field.
const NO_FIELD: u8 = 255;

/// A value's own error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Problem(String);

impl Error for Problem {
    fn custom<T: Display>(problem: T) -> Self {
        Self(problem.to_string())
    }
}

/// Writes values one after the other.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn written(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn count(&mut self, kind: u8, count: usize) {
        self.eight(kind, (count as u64).to_le_bytes());
    }

    /// In one call, because it is the most frequent one.
    #[inline]
    fn eight(&mut self, kind: u8, number: [u8; 8]) {
        let [a, b, c, d, e, f, g, h] = number;
        self.0.extend_from_slice(&[kind, a, b, c, d, e, f, g, h]);
    }

    fn sixteen(&mut self, kind: u8, number: [u8; 16]) {
        self.0.push(kind);
        self.0.extend_from_slice(&number);
    }

    /// The length, and the bytes.
    #[inline]
    fn text(&mut self, text: &[u8]) {
        match u8::try_from(text.len()) {
            Ok(length @ ..=LONGEST) => self.0.push(length),
            _ => self.count(LONGER, text.len()),
        }
        self.0.extend_from_slice(text);
    }

    fn named(&mut self, kind: u8, name: &str) {
        self.0.push(kind);
        self.text(name.as_bytes());
    }
}

type Written<T = ()> = Result<T, Problem>;

impl<'a> Serializer for &'a mut Writer {
    type Ok = ();
    type Error = Problem;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Entries<'a>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fn serialize_bool(self, value: bool) -> Written {
        self.0.push(match value {
            false => kind::FALSE,
            true => kind::TRUE,
        });
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Written {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Written {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Written {
        self.serialize_i64(value.into())
    }

    #[inline]
    fn serialize_i64(self, value: i64) -> Written {
        self.eight(kind::INTEGER, value.to_le_bytes());
        Ok(())
    }

    fn serialize_i128(self, value: i128) -> Written {
        match i64::try_from(value) {
            Ok(value) => self.serialize_i64(value),
            Err(_) => {
                self.sixteen(kind::LARGE, value.to_le_bytes());
                Ok(())
            }
        }
    }

    fn serialize_u8(self, value: u8) -> Written {
        self.serialize_i64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Written {
        self.serialize_i64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Written {
        self.serialize_i64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Written {
        match i64::try_from(value) {
            Ok(value) => self.serialize_i64(value),
            Err(_) => self.serialize_i128(value.into()),
        }
    }

    fn serialize_u128(self, value: u128) -> Written {
        match i128::try_from(value) {
            Ok(value) => self.serialize_i128(value),
            Err(_) => {
                self.sixteen(kind::HUGE, value.to_le_bytes());
                Ok(())
            }
        }
    }

    fn serialize_f32(self, value: f32) -> Written {
        self.serialize_f64(value.into())
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Written {
        self.eight(kind::FLOAT, value.to_bits().to_le_bytes());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Written {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Written {
        self.named(kind::TEXT, value);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Written {
        self.0.push(kind::BYTES);
        self.text(value);
        Ok(())
    }

    fn serialize_none(self) -> Written {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        self.0.push(kind::SOME);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Written {
        self.0.push(kind::NOTHING);
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Written {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Written {
        self.named(kind::UNIT_VARIANT, variant);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Written {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Written {
        self.named(kind::VARIANT, variant);
        value.serialize(self)
    }

    fn serialize_seq(self, _length: Option<usize>) -> Written<Self> {
        self.0.push(kind::LIST);
        Ok(self)
    }

    fn serialize_tuple(self, _length: usize) -> Written<Self> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_struct(self, _name: &'static str, _length: usize) -> Written<Self> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Written<Self> {
        self.named(kind::VARIANT, variant);
        self.serialize_seq(None)
    }

    fn serialize_map(self, _length: Option<usize>) -> Written<Entries<'a>> {
        Ok(Entries {
            begin: self.0.len(),
            writer: self,
            count: 0,
            sum: 0,
        })
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Written<Self> {
        self.0.push(kind::STRUCT);
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Written<Self> {
        self.named(kind::VARIANT, variant);
        self.serialize_struct(name, length)
    }
}

/// A map whose entries are being written. Each is replaced by its hash, and the sum of these is the same in any order.
pub(super) struct Entries<'a> {
    writer: &'a mut Writer,
    /// Where the entry begins that is being written.
    begin: usize,
    count: usize,
    sum: u128,
}

impl SerializeMap for Entries<'_> {
    type Ok = ();
    type Error = Problem;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Written {
        key.serialize(&mut *self.writer)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        value.serialize(&mut *self.writer)?;
        let entry = self.writer.0.get(self.begin..).unwrap_or_default();
        self.sum = self.sum.wrapping_add(Hasher::oneshot(entry));
        self.count += 1;
        self.writer.0.truncate(self.begin);
        Ok(())
    }

    fn end(self) -> Written {
        self.writer.count(kind::MAP, self.count);
        self.writer.0.extend_from_slice(&self.sum.to_le_bytes());
        Ok(())
    }
}

/// The values of a list, each after the other.
macro_rules! list {
    ($($contract:ident: $method:ident;)*) => {
        $(impl $contract for &mut Writer {
            type Ok = ();
            type Error = Problem;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
                value.serialize(&mut **self)
            }

            fn end(self) -> Written {
                self.0.push(kind::END);
                Ok(())
            }
        })*
    };
}

list! {
    SerializeSeq: serialize_element;
    SerializeTuple: serialize_element;
    SerializeTupleStruct: serialize_field;
    SerializeTupleVariant: serialize_field;
}

/// A field that is left out is neither written nor counted: the names show which are there.
macro_rules! fields {
    ($($contract:ident)*) => {
        $(impl $contract for &mut Writer {
            type Ok = ();
            type Error = Problem;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Written {
                self.text(name.as_bytes());
                value.serialize(&mut **self)
            }

            fn end(self) -> Written {
                self.0.push(NO_FIELD);
                Ok(())
            }
        })*
    };
}

fields! { SerializeStruct SerializeStructVariant }
