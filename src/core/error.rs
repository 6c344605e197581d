//! The one public error type.

use super::failure::Failure;
use super::id::RunId;

/// A boxed error, as functions of an application may return: anything that converts with `?`,
/// a `String` or a `&str` included.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A result with this library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. [`is_retryable`](Error::is_retryable) tells "try again" from "never".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pipeline cannot be deployed as it is written.
    #[error("pipeline cannot be deployed: {problem}")]
    InvalidPipeline {
        /// What is wrong, where, and what to do about it.
        problem: String,
    },

    /// A call on a deployment was given something it does not know.
    #[error("{problem}")]
    InvalidArgument {
        /// What is wrong, and what to give instead.
        problem: String,
    },

    /// The id of a run has a form that not every backend could keep.
    #[error("run id {id:?} cannot be used: {problem}")]
    InvalidRunId {
        /// The id as it was given.
        id: String,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// Nothing is known of this run: it was never submitted here, or its time is up.
    #[error(
        "no run {run}: it was not submitted to this deployment, or was kept for its time and removed"
    )]
    NoSuchRun {
        /// The id that was asked for.
        run: RunId,
    },

    /// The input does not fit what is already known of the run.
    #[error("cannot submit run {run}: {problem}")]
    Submission {
        /// The run.
        run: RunId,
        /// What does not fit.
        problem: String,
    },

    /// The run failed: some work used up its attempts, or failed with a permanent error.
    /// After the cause is mended, [`Run::redrive`](crate::Run::redrive) completes it.
    #[error("run {run} failed: {failure}")]
    Failed {
        /// The run.
        run: RunId,
        /// The first failure.
        failure: Box<Failure>,
    },

    /// The run was cancelled.
    #[error("run {run} was cancelled")]
    Cancelled {
        /// The run.
        run: RunId,
    },

    /// The root of the tree does not stand for as many items as the array has. This is the last
    /// line of defence and should never be seen: please report it.
    #[error(
        "run {run}: the result stands for {contains} items and {skipped} were skipped, but the array has {array_length}"
    )]
    Integrity {
        /// The run.
        run: RunId,
        /// Items the result stands for.
        contains: u64,
        /// Items left out under a skip policy.
        skipped: u64,
        /// Items submitted.
        array_length: u64,
    },

    /// A value could not be written in the wire format.
    #[error("cannot encode {what}")]
    Encode {
        /// Which value.
        what: String,
        /// The codec's own error.
        #[source]
        source: BoxError,
    },

    /// Bytes from a queue or a store could not be read.
    #[error("cannot decode {what}")]
    Decode {
        /// Which bytes.
        what: String,
        /// The codec's own error.
        #[source]
        source: BoxError,
    },

    /// A message or a stored value is larger than the backend takes.
    #[error("{what} has {size} bytes, the limit is {limit}: {advice}")]
    TooLarge {
        /// Which packet.
        what: String,
        /// Its size, in bytes.
        size: usize,
        /// The backend's limit, in bytes.
        limit: usize,
        /// What to do about it.
        advice: &'static str,
    },

    /// A queue or a table that the deployment needs does not exist.
    #[error(
        "{resource} does not exist in {place}: make it with `Deployment::provision()`, or check the deployment's name and the region"
    )]
    NotProvisioned {
        /// Which queue or table.
        resource: String,
        /// Where it was looked for: the region, and the endpoint where one was set.
        place: String,
    },

    /// A service behind the backend refused or could not be reached.
    #[error("{service}: {operation} failed")]
    Backend {
        /// Which service.
        service: &'static str,
        /// What was asked of it, and of which queue or table.
        operation: String,
        /// Whether the same call may work later.
        retryable: bool,
        /// The service's or its client's own error.
        #[source]
        source: BoxError,
    },
}

impl Error {
    /// True where the same call may succeed later: an outage, throttling, a conflict.
    /// False where repeating it would give the same answer for ever.
    ///
    /// ```
    /// # use catchment::Error;
    /// let error = Error::InvalidPipeline { problem: "two stages are named `parse`".into() };
    /// assert!(!error.is_retryable());
    /// ```
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Backend {
                retryable: true,
                ..
            }
        )
    }

    pub(crate) fn decode(what: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Decode {
            what: what.into(),
            source: source.into(),
        }
    }

    pub(crate) fn encode(what: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Encode {
            what: what.into(),
            source: source.into(),
        }
    }
}

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

/// Whether the error or anything it wraps was marked by [`permanent`].
pub(crate) fn is_permanent(error: &BoxError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
    while let Some(error) = cause {
        if error.is::<Permanent>() || error.is::<Mark>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The error and what it wraps, on one line, each text once.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.ends_with(&inner) {
            text.push_str(": ");
            text.push_str(&inner);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_survives_wrapping() {
        let wrapped = anyhow::Error::new(permanent("no such column")).context("row 3");
        assert!(is_permanent(&wrapped.into()));
        assert!(is_permanent(&permanent("gone").into()));
        assert!(!is_permanent(&"busy".into()));
    }

    #[test]
    fn a_description_says_each_cause_once() {
        let error: BoxError = permanent("no such column").into();
        assert_eq!(describe(error.as_ref()), "no such column");
        let error = Error::decode("packet 3", "expected a number");
        assert_eq!(
            describe(&error),
            "cannot decode packet 3: expected a number"
        );
    }
}
