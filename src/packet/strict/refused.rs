//! Why a value is refused, and what to do about it.

/// A value that would not be read back as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "JSON has no number for {0}; write a string, or None for a number that is missing, or use Codec::Postcard (feature `postcard`)"
    )]
    NotFinite(f64),
    #[error(
        "JSON writes the inside of this Some as null, which is read as None; use an enum of your own instead of the inner Option or unit, or Codec::Postcard (feature `postcard`)"
    )]
    NullInSome,
    #[error(
        "the value is nested more than {0} levels deep, and would not be read back; flatten it, for instance into a list whose entries refer to each other by index"
    )]
    Nesting(u16),
    #[error(
        "JSON has only text as keys of a map ({0}); use a list of pairs, a map in a map, keys that are written as text, or Codec::Postcard (feature `postcard`)"
    )]
    Key(String),
    #[error(
        "the field `{0}` is left out, and Codec::Postcard has no field names to notice that by; remove `skip_serializing_if`, or use Codec::Json"
    )]
    SkippedField(&'static str),
    #[error(
        "Codec::Postcard writes a length first, and this list or map does not know its length, as with `flatten`; remove `flatten`, or use Codec::Json"
    )]
    NoLength,
    #[error(
        "the type announced {announced} entries and wrote {written}; correct its implementation of Serialize"
    )]
    Length { announced: usize, written: usize },
    #[error("Codec::Postcard cannot read a RawValue back; use a String, or Codec::Json")]
    RawValue,
}
