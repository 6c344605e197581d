//! Whether a value comes back from the wire as it was, for tests of an application's types.

use std::fmt::{self, Debug};

use bytes::Bytes;
use serde::Serialize;

use crate::core::error::{Error, describe};
use crate::packet::codec::{self, Codec, Payload};
use crate::stage::Data;

/// Writes `value` and reads it back in every codec of this build, as an item and as a result.
///
/// Serde lets a type write itself in ways from which it cannot be read, and a codec cannot see all of them: an `untagged` enum whose
/// variants look alike, a field that is only skipped when it is written. A deployment refuses what it can see (the run
/// fails, and the error names the part of the value). This function finds the rest, if a test calls it with values
/// of every kind: empty, full, and each variant.
///
/// A value that is not equal to itself, such as NaN, is compared by its bytes.
///
/// # Errors
/// Names every codec in which the value does not come back. [`travels_in`] tries a single codec, if the pipeline
/// uses only that one.
///
/// ```
/// use std::collections::BTreeMap;
/// use catchment::testing::travels;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// struct Sample {
///     name: String,
///     scores: BTreeMap<String, f64>,
/// }
///
/// let mut sample = Sample { name: "a".into(), scores: [("mean".into(), 1.5)].into() };
/// travels(&sample).unwrap();
///
/// sample.scores.insert("worst".into(), f64::NAN);
/// let error = travels(&sample).unwrap_err().to_string();
/// assert!(error.starts_with("Json: cannot encode the value: at `scores[\"worst\"]`: JSON has no number for NaN"));
/// ```
pub fn travels<T: Data + PartialEq + Debug>(value: &T) -> Result<(), TravelError> {
    let codecs = [
        Codec::Json,
        #[cfg(feature = "postcard")]
        Codec::Postcard,
    ];
    let tries = codecs.map(|codec| travels_in(codec, value));
    let misfits: Vec<_> = tries.into_iter().filter_map(Result::err).collect();
    match misfits.is_empty() {
        true => Ok(()),
        false => Err(TravelError { misfits }),
    }
}

/// Writes `value` and reads it back in one codec, as [`travels`] does in all.
///
/// # Errors
/// The value is refused, cannot be read, or comes back as another.
///
/// ```
/// use catchment::Codec;
/// use catchment::testing::travels_in;
///
/// travels_in(Codec::Json, &Some(7)).unwrap();
/// assert!(travels_in(Codec::Json, &Some(())).is_err()); // JSON has one `null` for both `None` and `()`
/// ```
pub fn travels_in<T: Data + PartialEq + Debug>(codec: Codec, value: &T) -> Result<(), Misfit> {
    let misfit = |kind| Misfit { codec, kind };
    let refused = |error| misfit(MisfitKind::Refused(error));
    let unreadable = |error| misfit(MisfitKind::Unreadable(error));
    let alone = codec::write(value, codec, "the value").map_err(refused)?;
    // The second shows whether the first was read up to its end.
    let twice = codec::write(&[value, value][..], codec, "a list of the value").map_err(refused)?;

    let result: T = codec::decode(&alone, "the value").map_err(unreadable)?;
    let items: Vec<T> = codec::decode(&twice, "a list of the value").map_err(unreadable)?;
    if items.len() != 2 {
        return Err(misfit(MisfitKind::Altered(Difference {
            at: String::new(),
            sent: "2 items".into(),
            back: format!("{} items", items.len()),
        })));
    }
    let is_same = |back: &T| match is_equal_to_itself(value) {
        true => back == value,
        false => matches!(codec::write(back, codec, ""), Ok(again) if again == alone),
    };
    match items.iter().chain([&result]).find(|back| !is_same(back)) {
        None => Ok(()),
        Some(back) => Err(misfit(MisfitKind::Altered(Difference::of(value, back)))),
    }
}

/// The bytes that a deployment writes for `value` as a result.
///
/// # Errors
/// [`Error::Encode`] if the value would not be read back.
///
/// ```
/// use catchment::Codec;
/// use catchment::testing::written;
///
/// assert_eq!(written(Codec::Json, &[Some(1), None])?, "[1,null]");
/// # Ok::<(), catchment::Error>(())
/// ```
pub fn written<T: Serialize + ?Sized>(codec: Codec, value: &T) -> Result<Bytes, Error> {
    match codec::write(value, codec, "the value")? {
        Payload::Encoded(_, bytes) => Ok(bytes),
        _ => Err(Error::encode("the value", "it was not encoded")),
    }
}

fn is_equal_to_itself<T: PartialEq>(value: &T) -> bool {
    let same = value;
    value == same
}

/// The codecs in which a value does not come back as it was: at least one.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.misfits.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
#[non_exhaustive]
pub struct TravelError {
    /// One entry for each such codec.
    pub misfits: Vec<Misfit>,
}

/// One codec in which a value does not come back as it was.
#[derive(Debug, thiserror::Error)]
#[error("{codec:?}: {kind}")]
#[non_exhaustive]
pub struct Misfit {
    /// The codec.
    pub codec: Codec,
    /// What happens.
    pub kind: MisfitKind,
}

/// What happens to a value that does not come back as it was.
#[derive(Debug)]
#[non_exhaustive]
pub enum MisfitKind {
    /// It is refused where it is written: a run with this value fails, and the error names the part and a way out.
    Refused(Error),
    /// It is written and cannot be read: a run with this value fails in the next stage, or its result cannot be read.
    Unreadable(Error),
    /// It comes back as another value. Nothing at run time can notice.
    Altered(Difference),
}

impl fmt::Display for MisfitKind {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) | Self::Unreadable(error) => to.write_str(&describe(error)),
            Self::Altered(difference) => write!(to, "{difference}"),
        }
    }
}

/// The first difference between a value and what came back, as both print with `{:#?}`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Difference {
    /// The lines around the difference, outermost first: `Sample.scores`.
    pub at: String,
    /// The line of the value that was written.
    pub sent: String,
    /// The line of the value that came back.
    pub back: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, sent, back } = self;
        match at.is_empty() {
            true => write!(to, "`{sent}` came back as `{back}`"),
            false => write!(to, "at `{at}`: `{sent}` came back as `{back}`"),
        }
    }
}

impl Difference {
    fn of(sent: &impl Debug, back: &impl Debug) -> Self {
        let (sent, back) = (format!("{sent:#?}"), format!("{back:#?}"));
        let (mut sent, mut back) = (sent.lines(), back.lines());
        // The lines that are open around the current one, each with its indentation.
        let mut around: Vec<(usize, &str)> = Vec::new();
        loop {
            let (ours, theirs) = (sent.next(), back.next());
            let line = ours.unwrap_or_default();
            let indentation = line.len() - line.trim_start().len();
            around.retain(|(outer, _)| *outer < indentation);
            if ours != theirs || ours.is_none() {
                let names = around.iter().map(|(_, line)| *line);
                return Self {
                    at: names.collect::<Vec<_>>().join("."),
                    sent: clean(line).to_owned(),
                    back: clean(theirs.unwrap_or_default()).to_owned(),
                };
            }
            around.push((indentation, name(line)));
        }
    }
}

fn clean(line: &str) -> &str {
    line.trim().trim_end_matches(',')
}

/// What a line that opens a part says of it: `scores` in `scores: {`, `Some` in `Some(`.
fn name(line: &str) -> &str {
    let line = line.trim().trim_end_matches(['{', '(', '[', ' ']);
    line.split_once(": ")
        .map_or(line, |(name, _)| name)
        .trim_end_matches(':')
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Alike {
        Whole(Option<u8>),
        Part { inner: f64 },
        Other { inner: f64, more: Option<u8> },
    }

    #[test]
    fn what_serde_alters_is_named() {
        travels_in(Codec::Json, &Alike::Part { inner: 1.0 }).unwrap();
        let value = vec![(
            1,
            Alike::Other {
                inner: 1.0,
                more: None,
            },
        )];
        let error = travels_in(Codec::Json, &value).unwrap_err();
        assert!(matches!(error.kind, MisfitKind::Altered(_)), "{error}");
        assert!(
            error
                .to_string()
                .contains("`Other {` came back as `Part {`"),
            "{error}"
        );
    }

    #[test]
    fn the_place_of_a_difference_is_named() {
        let sent = vec![("a", Some(1)), ("b", Some(2))];
        let back = vec![("a", Some(1)), ("b", Some(3))];
        let difference = Difference::of(&sent, &back);
        assert!(difference.at.ends_with("Some"), "{difference}");
        assert_eq!(
            (difference.sent.as_str(), difference.back.as_str()),
            ("2", "3")
        );
    }

    #[test]
    fn what_cannot_be_read_is_told_from_what_is_refused() {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        struct OneWay {
            #[serde(skip_serializing)]
            secret: u8,
        }
        let error = travels_in(Codec::Json, &OneWay { secret: 1 }).unwrap_err();
        assert!(matches!(error.kind, MisfitKind::Unreadable(_)), "{error}");
        let error = travels_in(Codec::Json, &f64::NAN).unwrap_err();
        assert!(matches!(error.kind, MisfitKind::Refused(_)), "{error}");
    }

    #[cfg(feature = "postcard")]
    #[test]
    fn what_shifts_its_neighbour_is_found() {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        struct Shifts {
            #[serde(skip_serializing, default)]
            cached: u8,
            number: u8,
        }
        let value = Shifts {
            cached: 0,
            number: 7,
        };
        let error = travels(&value).unwrap_err();
        assert_eq!(error.misfits.len(), 1, "{error}");
        travels_in(Codec::Postcard, &f64::NAN).unwrap();
    }
}
