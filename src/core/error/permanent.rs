//! Errors that repeating cannot cure.

use super::text::chain;
use super::{BoxError, Error};

/// Marks an error as permanent: repeating the work would fail in the same way, so the item's
/// remaining attempts are not used. Other items of its packet are not affected.
///
/// A function that has both kinds of errors returns [`BoxError`]: `?` converts an error that is
/// marked, and any other, which is tried again. The mark is found through error types that wrap the
/// error and return it from [`source`](std::error::Error::source).
///
/// ```
/// use std::io;
/// use catchment::{BoxError, Error, Pipeline, permanent};
///
/// /// Fails now and then.
/// async fn price_of(article: u32) -> Result<u64, io::Error> {
/// #   static FIRST: std::sync::Once = std::sync::Once::new();
/// #   let mut fails = false;
/// #   FIRST.call_once(|| fails = true);
/// #   if fails { return Err(io::ErrorKind::ConnectionReset.into()); }
///     // …
/// #   Ok(u64::from(article) * 10)
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
/// let total = Pipeline::new()
///     .then(|line: String| async move {
///         let article: u32 = line.parse().map_err(permanent)?; // the text stays as it is
///         if article == 0 {
///             Err(permanent("there is no article 0"))?;
///         }
///         let price = price_of(article).await?;                // another attempt may succeed
///         Ok::<_, BoxError>(price)
///     })
///     .reduce(|| 0, |a, b| a + b);
/// assert_eq!(total.run(["1", "2"].map(String::from)).await?, 30);
///
/// let error = total.run(["1", "two"].map(String::from)).await.unwrap_err();
/// let Error::Failed { failure, .. } = error else { panic!("{error}") };
/// assert_eq!((failure.item, failure.attempts.len()), (Some(1), 1));
/// # Ok(()) }
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

/// The error itself, or the one that it marks.
pub(super) fn unmarked<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    match error.downcast_ref::<Mark>() {
        Some(Mark(marked)) => marked.as_ref(),
        None => error,
    }
}

/// Whether the error or anything it wraps was marked by [`permanent`], or is a value that cannot be written.
pub(crate) fn is_permanent(error: &BoxError) -> bool {
    chain(error.as_ref()).any(|error| {
        let unwritable = || matches!(error.downcast_ref(), Some(Error::Encode { .. }));
        error.is::<Permanent>() || error.is::<Mark>() || unwritable()
    })
}
