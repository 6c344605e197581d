//! Errors that repeating cannot cure.

use super::text::chain;
use super::{BoxError, Error};

/// Marks an error as permanent: repeating the work would fail in the same way, so the remaining
/// attempts are not used.
///
/// ```
/// use catchment::{Pipeline, permanent};
///
/// let parse = Pipeline::new()
///     .try_map(|line: String| line.parse::<i64>().map_err(permanent));
/// ```
pub fn permanent(error: impl Into<BoxError>) -> Permanent {
    Permanent(Mark(error.into()))
}

/// An error marked by [`permanent`].
#[derive(Debug)]
pub struct Permanent(Mark);

/// Stands in the source chain, so that the mark is still found when another error type wraps it.
#[derive(Debug)]
struct Mark(BoxError);

impl std::fmt::Display for Permanent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.0.fmt(formatter)
    }
}

impl std::error::Error for Permanent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

impl std::error::Error for Mark {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// Whether the error or anything it wraps was marked by [`permanent`], or is a value that cannot be written.
pub(crate) fn is_permanent(error: &BoxError) -> bool {
    chain(error.as_ref()).any(|error| {
        let unwritable = || matches!(error.downcast_ref(), Some(Error::Encode { .. }));
        error.is::<Permanent>() || error.is::<Mark>() || unwritable()
    })
}
