//! The adaptor around what a format's serializer makes for lists, maps and structs.

use serde::Serialize;
use serde::ser::{
    self, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};

use super::trace::{Step, Trace};
use super::{Here, Refused, Rules};

/// Forwards entries to `inner`, and names the one that cannot be written.
pub(crate) struct Compound<'a, C, R> {
    inner: C,
    /// Of the entries.
    here: Here<'a, R>,
    written: usize,
    kind: Kind,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Plain,
    /// A list or a map, and the length that its type announced.
    Announced(Option<usize>),
    Variant(&'static str),
}

impl<'a, C, R: Rules> Compound<'a, C, R> {
    #[inline]
    pub(super) fn new(inner: C, here: Here<'a, R>, kind: Kind) -> Self {
        Self {
            inner,
            here,
            written: 0,
            kind,
        }
    }

    /// The position of the next entry.
    #[inline]
    fn next(&mut self) -> usize {
        let next = self.written;
        self.written += 1;
        next
    }

    /// Refuses entries that are not as many as announced, if the announcement was written.
    #[inline]
    fn complete<E: ser::Error>(&self) -> Result<(), E> {
        match self.kind {
            // `serde_json` ends an empty list as soon as it begins.
            Kind::Announced(Some(announced))
                if announced != self.written && (R::LENGTH_FIRST || announced == 0) =>
            {
                Err(self.here.refuse(Refused::Length {
                    announced,
                    written: self.written,
                }))
            }
            _ => Ok(()),
        }
    }
}

/// Records the step at which `error` passes. Takes no reference to the adaptor, whose fields then
/// stay in registers.
#[cold]
fn pass<E>(trace: &Trace, kind: Kind, step: Step, error: E) -> E {
    let error = trace.pass(step, error);
    match kind {
        Kind::Variant(variant) => trace.pass(Step::Variant(variant), error),
        _ => error,
    }
}

impl<C: SerializeSeq, R: Rules> SerializeSeq for Compound<'_, C, R> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        let index = self.next();
        let (trace, kind) = (self.here.trace, self.kind);
        self.inner
            .serialize_element(&self.here.with(value))
            .map_err(|error| pass(trace, kind, Step::Index(index), error))
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        self.complete::<C::Error>()?;
        self.inner.end()
    }
}

impl<C: SerializeTuple, R: Rules> SerializeTuple for Compound<'_, C, R> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        let position = self.next();
        let (trace, kind) = (self.here.trace, self.kind);
        self.inner
            .serialize_element(&self.here.with(value))
            .map_err(|error| pass(trace, kind, Step::Position(position), error))
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}

impl<C: SerializeTupleStruct, R: Rules> SerializeTupleStruct for Compound<'_, C, R> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        let position = self.next();
        let (trace, kind) = (self.here.trace, self.kind);
        self.inner
            .serialize_field(&self.here.with(value))
            .map_err(|error| pass(trace, kind, Step::Position(position), error))
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}

impl<C: SerializeTupleVariant, R: Rules> SerializeTupleVariant for Compound<'_, C, R> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        let position = self.next();
        let (trace, kind) = (self.here.trace, self.kind);
        self.inner
            .serialize_field(&self.here.with(value))
            .map_err(|error| pass(trace, kind, Step::Position(position), error))
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}

impl<C: SerializeMap, R: Rules> SerializeMap for Compound<'_, C, R> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.next();
        let here = self.here;
        self.inner
            .serialize_key(&here.with(key))
            .map_err(|error| bad_key(here, error))
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        let (trace, entry) = (self.here.trace, self.written.saturating_sub(1));
        self.inner
            .serialize_value(&self.here.with(value))
            .map_err(|error| trace.pass(Step::Entry(entry), error))
    }

    #[inline]
    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), C::Error> {
        self.serialize_key(key)?;
        let (trace, entry) = (self.here.trace, self.written.saturating_sub(1));
        self.inner
            .serialize_value(&self.here.with(value))
            .map_err(|error| trace.pass_key(key, entry, error))
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        self.complete::<C::Error>()?;
        self.inner.end()
    }
}

/// The format's own error for a key says neither why nor what to do.
#[cold]
fn bad_key<R: Rules, E: ser::Error>(here: Here<'_, R>, error: E) -> E {
    if R::TEXT_KEYS && !here.trace.is_refused() {
        return here.refuse(Refused::Key(error.to_string()));
    }
    error
}

impl<C: SerializeStruct, R: Rules> SerializeStruct for Compound<'_, C, R> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), C::Error> {
        let (trace, kind) = (self.here.trace, self.kind);
        self.inner
            .serialize_field(name, &self.here.with(value))
            .map_err(|error| pass(trace, kind, Step::Field(name), error))
    }

    #[inline]
    fn skip_field(&mut self, name: &'static str) -> Result<(), C::Error> {
        if !R::NAMED_FIELDS {
            return Err(self.here.refuse(Refused::SkippedField(name)));
        }
        self.inner.skip_field(name)
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}

impl<C: SerializeStructVariant, R: Rules> SerializeStructVariant for Compound<'_, C, R> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), C::Error> {
        let (trace, kind) = (self.here.trace, self.kind);
        self.inner
            .serialize_field(name, &self.here.with(value))
            .map_err(|error| pass(trace, kind, Step::Field(name), error))
    }

    #[inline]
    fn skip_field(&mut self, name: &'static str) -> Result<(), C::Error> {
        if !R::NAMED_FIELDS {
            let error = self.here.refuse(Refused::SkippedField(name));
            return Err(match self.kind {
                Kind::Variant(variant) => self.here.trace.pass(Step::Variant(variant), error),
                _ => error,
            });
        }
        self.inner.skip_field(name)
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}
