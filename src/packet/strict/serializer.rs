//! The adaptor around a format's serializer.

use std::fmt::Display;

use serde::{Serialize, Serializer};

use super::compound::{Compound, Kind};
use super::trace::Step;
use super::{Here, Place, Refused, Rules};

/// The name under which `serde_json` passes JSON text through a serializer.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// Forwards to `inner`, and refuses what the rules `R` refuse.
pub(super) struct Strict<'a, S, R> {
    pub(super) inner: S,
    pub(super) here: Here<'a, R>,
}

impl<'a, S: Serializer, R: Rules> Strict<'a, S, R> {
    /// Refuses a value that the format writes as it writes `None`, inside of a `Some`.
    #[inline]
    fn empty(&self) -> Result<(), S::Error> {
        if R::NULL_IS_NONE && self.here.place == Place::InSome {
            return Err(self.here.refuse(Refused::NullInSome));
        }
        Ok(())
    }

    /// Refuses a list or map without a length, if the format begins with it.
    #[inline]
    fn length(&self, length: Option<usize>) -> Result<(), S::Error> {
        if R::LENGTH_FIRST && length.is_none() {
            return Err(self.here.refuse(Refused::NoLength));
        }
        Ok(())
    }
}

macro_rules! forward {
    ($($method:ident($kind:ty))*) => {$(
        #[inline]
        fn $method(self, value: $kind) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        }
    )*};
}

impl<'a, S: Serializer, R: Rules> Serializer for Strict<'a, S, R> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Compound<'a, S::SerializeSeq, R>;
    type SerializeTuple = Compound<'a, S::SerializeTuple, R>;
    type SerializeTupleStruct = Compound<'a, S::SerializeTupleStruct, R>;
    type SerializeTupleVariant = Compound<'a, S::SerializeTupleVariant, R>;
    type SerializeMap = Compound<'a, S::SerializeMap, R>;
    type SerializeStruct = Compound<'a, S::SerializeStruct, R>;
    type SerializeStructVariant = Compound<'a, S::SerializeStructVariant, R>;

    forward! {
        serialize_bool(bool)
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_i128(i128)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64)
        serialize_u128(u128)
        serialize_char(char)
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        if R::FINITE && !value.is_finite() {
            return Err(self.here.refuse(Refused::NotFinite(value.into())));
        }
        if R::WIDENS_FLOATS && value.abs().to_bits() == TWICE_ROUNDED {
            return self.inner.serialize_f64(value.into());
        }
        self.inner.serialize_f32(value)
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        if R::FINITE && !value.is_finite() {
            return Err(self.here.refuse(Refused::NotFinite(value)));
        }
        self.inner.serialize_f64(value)
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<S::Ok, S::Error> {
        if R::NULL_IS_NONE && self.here.place == Place::RawInSome && value == "null" {
            return Err(self.here.refuse(Refused::NullInSome));
        }
        self.inner.serialize_str(value)
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<S::Ok, S::Error> {
        // Formats without bytes write a list of numbers.
        self.here.nested::<S::Error>(1)?;
        self.inner.serialize_bytes(value)
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.empty()?;
        self.inner.serialize_none()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let inside = self.here.level(Place::InSome)?;
        self.inner.serialize_some(&inside.with(value))
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.empty()?;
        self.inner.serialize_unit()
    }

    #[inline]
    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.empty()?;
        self.inner.serialize_unit_struct(name)
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let inside = self.here.level(self.here.place)?;
        self.inner
            .serialize_newtype_struct(name, &inside.with(value))
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let inside = self.here.nested(1)?;
        self.inner
            .serialize_newtype_variant(name, index, variant, &inside.with(value))
            .map_err(|error| self.here.trace.pass(Step::Variant(variant), error))
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.length(length)?;
        let inside = self.here.nested(1)?;
        let list = self.inner.serialize_seq(length)?;
        Ok(Compound::new(list, inside, Kind::Announced(length)))
    }

    #[inline]
    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, S::Error> {
        let inside = self.here.nested(1)?;
        let tuple = self.inner.serialize_tuple(length)?;
        Ok(Compound::new(tuple, inside, Kind::Plain))
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        let inside = self.here.nested(1)?;
        let tuple = self.inner.serialize_tuple_struct(name, length)?;
        Ok(Compound::new(tuple, inside, Kind::Plain))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let inside = self.here.nested(2)?;
        let tuple = self
            .inner
            .serialize_tuple_variant(name, index, variant, length)?;
        Ok(Compound::new(tuple, inside, Kind::Variant(variant)))
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.length(length)?;
        let inside = self.here.nested(1)?;
        let map = self.inner.serialize_map(length)?;
        Ok(Compound::new(map, inside, Kind::Announced(length)))
    }

    #[inline]
    fn serialize_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        let mut inside = self.here.nested(1)?;
        if name == RAW_VALUE {
            if !R::NAMED_FIELDS {
                return Err(self.here.refuse(Refused::RawValue));
            }
            if self.here.place == Place::InSome {
                inside.place = Place::RawInSome;
            }
        }
        let fields = self.inner.serialize_struct(name, length)?;
        Ok(Compound::new(fields, inside, Kind::Plain))
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let inside = self.here.nested(2)?;
        let fields = self
            .inner
            .serialize_struct_variant(name, index, variant, length)?;
        Ok(Compound::new(fields, inside, Kind::Variant(variant)))
    }

    #[inline]
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// The bits of the one `f32`, 7.038531e-26, whose shortest text is another `f32` when it is read as
/// an `f64` first, as `untagged`, `flatten` and internally tagged types read numbers. The text of
/// the same number as an `f64` is read right in either way.
const TWICE_ROUNDED: u32 = 0x15ae_43fd;
