//! The one public error type.

mod permanent;
#[cfg(test)]
mod tests;
mod text;
mod withheld;

use super::failure::Failure;
use super::id::RunId;
pub(crate) use permanent::is_permanent;
pub use permanent::{Permanent, permanent};
pub(crate) use text::describe;
#[cfg(feature = "http")]
pub(crate) use withheld::kind_for_strangers;
pub(crate) use withheld::text_for_strangers;

/// A boxed error, as functions of an application may return: anything that converts with `?`,
/// a `String` or a `&str` included.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A result with this library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. [`is_retryable`](Error::is_retryable) tells "try again" from "never".
///
/// Match a variant with `..`, because a variant can get more fields. A backend of your own makes the errors that the contracts
/// ask for with the functions below, such as [`Error::unavailable`].
///
/// ```
/// use catchment::Error;
///
/// fn advice(error: &Error) -> &str {
///     match error {
///         Error::TooLarge { limit, .. } if *limit < 1_000_000 => "use a queue for larger messages",
///         Error::InvalidArgument { argument: "stage", .. } => "name a stage of the pipeline",
///         error if error.is_retryable() => "try again",
///         _ => "look into it",
///     }
/// }
/// let error = Error::unavailable("sqs", "SendMessageBatch on queue `adder--sum`", "the connection was reset");
/// assert_eq!(advice(&error), "try again");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pipeline cannot be deployed as it is written.
    #[error("pipeline cannot be deployed: {problem}")]
    #[non_exhaustive]
    InvalidPipeline {
        /// What is wrong, where, and what to do about it.
        problem: String,
    },

    /// A call was given something that it cannot use.
    #[error("{problem}")]
    #[non_exhaustive]
    InvalidArgument {
        /// The name of the parameter, or of the environment variable. Each function that returns this error lists its names.
        argument: &'static str,
        /// What is wrong, and what to give instead.
        problem: String,
    },

    /// The id of a run has a form that not every backend could keep.
    #[error("run id {id:?} cannot be used: {problem}")]
    #[non_exhaustive]
    InvalidRunId {
        /// The id as it was given, up to 128 characters of it.
        id: String,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// Nothing is known of this run: it was never submitted here, or its time is up.
    #[error(
        "no run {run}: it was not submitted to this deployment, or was kept for its time and removed"
    )]
    #[non_exhaustive]
    NoSuchRun {
        /// The id that was asked for.
        run: RunId,
    },

    /// The input does not fit what is already known of the run.
    #[error("cannot submit run {run}: {problem}")]
    #[non_exhaustive]
    Submission {
        /// The run.
        run: RunId,
        /// What does not fit.
        problem: String,
    },

    /// The input of a run ended with an error: its iterator or stream returned one instead of an item.
    /// [`Pipeline::try_run`](crate::Pipeline::try_run) and
    /// [`Deployment::try_submit`](crate::Deployment::try_submit) take such inputs.
    #[error("cannot read item {item} of the input")]
    #[non_exhaustive]
    Input {
        /// The index in the input, from 0, of the item that could not be read.
        item: u64,
        /// The input's own error.
        #[source]
        source: BoxError,
    },

    /// The run failed: some work used up its attempts, or failed with a permanent error.
    /// After the cause is fixed, [`Run::redrive`](crate::Run::redrive) completes it.
    #[error("run {run} failed: {failure}")]
    #[non_exhaustive]
    Failed {
        /// The run.
        run: RunId,
        /// The first failure.
        failure: Box<Failure>,
    },

    /// The run was cancelled.
    #[error("run {run} was cancelled")]
    #[non_exhaustive]
    Cancelled {
        /// The run.
        run: RunId,
    },

    /// The root of the tree does not stand for as many items as the array has. This is the last
    /// line of defence and should never be seen: please report it.
    #[error(
        "run {run}: the result stands for {contains} items and {skipped} were skipped, but the array has {array_length}"
    )]
    #[non_exhaustive]
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

    /// There is no tokio runtime that the call can use: it was made outside of one, or in one without timers; or it blocks
    /// its thread, and was made inside of one. Nothing has been done.
    #[error("no tokio runtime that can be used: {problem}")]
    #[non_exhaustive]
    NoRuntime {
        /// What is wrong, and what to do about it.
        problem: String,
    },

    /// A worker has ended because too many of its threads are lost: they run functions that were given up after their
    /// stage's timeout and have not returned. It has released the messages that it held. Only the end of the process ends
    /// such threads, so let a supervisor start a new one.
    /// [`Worker::max_lost_threads`](crate::Worker::max_lost_threads) sets the limit.
    #[error(
        "{lost} threads are lost in functions that do not return, of stage `{}`, and at most {limit} may be: find out why they do not return, and start a new process, since only its end ends such threads",
        .stages.join("`, `")
    )]
    #[non_exhaustive]
    LostThreads {
        /// The names of the stages whose functions have not returned.
        stages: Vec<String>,
        /// The number of lost threads.
        lost: usize,
        /// The number of threads that may be lost.
        limit: usize,
    },

    /// A value could not be written in the wire format.
    #[error("cannot encode {what}")]
    #[non_exhaustive]
    Encode {
        /// Which value.
        what: String,
        /// The codec's own error.
        #[source]
        source: BoxError,
    },

    /// Bytes from a queue or a store could not be read.
    #[error("cannot decode {what}")]
    #[non_exhaustive]
    Decode {
        /// Which bytes.
        what: String,
        /// The codec's own error.
        #[source]
        source: BoxError,
    },

    /// A message or a stored value is larger than the backend takes.
    #[error("{what} has {size} bytes, the limit is {limit}: {}", .kind.advice())]
    #[non_exhaustive]
    TooLarge {
        /// The kind of data.
        kind: Oversized,
        /// Which item, message or value.
        what: String,
        /// Its size, in bytes.
        size: usize,
        /// The backend's limit, in bytes.
        limit: usize,
    },

    /// A queue or a table that the deployment needs does not exist.
    #[error(
        "{resource} does not exist in {place}: make it with `Deployment::provision()`, or check the deployment's name and the region"
    )]
    #[non_exhaustive]
    NotProvisioned {
        /// Which queue or table.
        resource: String,
        /// Where it was looked for: the region, and the endpoint if one was set.
        place: String,
    },

    /// A service that the backend uses refused a call or could not be reached.
    #[error("{service}: {operation} failed")]
    #[non_exhaustive]
    Backend {
        /// Which service.
        service: &'static str,
        /// What was asked of it, and of which queue or table. HTTP clients and the records of runs have the first word of
        /// it, and nothing of `source`, which is in the log.
        operation: String,
        /// Whether the same call may succeed later.
        retryable: bool,
        /// The service's or its client's own error.
        #[source]
        source: BoxError,
    },
}

/// What is larger than a backend's limit, in [`Error::TooLarge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Oversized {
    /// An item that was submitted: a packet of this item alone is over the limit of the queue.
    Item,
    /// A message to a queue, with its attributes.
    Message,
    /// A value for a scratchpad: a partial result, or a run's result.
    Value,
}

impl Oversized {
    fn advice(self) -> &'static str {
        match self {
            Self::Item => {
                "submit references to the data instead, such as the key of a stored object, or use a smaller packet_size"
            }
            Self::Message => {
                "let the stages pass references to large data on, such as the key of a stored object, use a smaller packet_size, or queues that take larger messages"
            }
            Self::Value => {
                "let the stage make smaller partial results, or references to data stored elsewhere"
            }
        }
    }
}

impl Error {
    /// Returns true if the same call may succeed later: after an outage, throttling, a conflict.
    /// False if repeating it would give the same answer for ever.
    ///
    /// ```
    /// # use catchment::Error;
    /// assert!(Error::unavailable("sqs", "ReceiveMessage", "timed out").is_retryable());
    /// assert!(!Error::refused("sqs", "ReceiveMessage", "access denied").is_retryable());
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

    /// An [`Error::Backend`] that is retryable: the service was busy or could not be reached.
    pub fn unavailable(
        service: &'static str,
        operation: impl Into<String>,
        source: impl Into<BoxError>,
    ) -> Self {
        Self::backend(service, operation, true, source)
    }

    /// An [`Error::Backend`] that is not retryable: the service refused the call, and would again.
    pub fn refused(
        service: &'static str,
        operation: impl Into<String>,
        source: impl Into<BoxError>,
    ) -> Self {
        Self::backend(service, operation, false, source)
    }

    pub(crate) fn backend(
        service: &'static str,
        operation: impl Into<String>,
        retryable: bool,
        source: impl Into<BoxError>,
    ) -> Self {
        Self::Backend {
            service,
            operation: operation.into(),
            retryable,
            source: source.into(),
        }
    }

    /// An [`Error::NotProvisioned`]: `resource` is the queue or table, `place` where it was looked for.
    pub fn not_provisioned(resource: impl Into<String>, place: impl Into<String>) -> Self {
        Self::NotProvisioned {
            resource: resource.into(),
            place: place.into(),
        }
    }

    /// An [`Error::TooLarge`] with the size and the limit in bytes. `what` names the message or the value.
    ///
    /// ```
    /// use catchment::{Error, Oversized};
    /// let error = Error::too_large(Oversized::Message, "a message for queue `a`", 300_000, 262_144);
    /// let text = error.to_string();
    /// assert!(text.starts_with("a message for queue `a` has 300000 bytes, the limit is 262144: "));
    /// ```
    pub fn too_large(kind: Oversized, what: impl Into<String>, size: usize, limit: usize) -> Self {
        Self::TooLarge {
            kind,
            what: what.into(),
            size,
            limit,
        }
    }

    /// The same error; of an [`Error::TooLarge`] with another name of what is too large.
    pub(crate) fn of_oversized(mut self, name: impl FnOnce() -> String) -> Self {
        if let Self::TooLarge { what, .. } = &mut self {
            *what = name();
        }
        self
    }

    /// An [`Error::NoSuchRun`], for a store that has no record of this run.
    pub fn no_such_run(run: impl Into<RunId>) -> Self {
        Self::NoSuchRun { run: run.into() }
    }

    /// An [`Error::Submission`]: `problem` says what does not fit the run's record.
    pub fn submission(run: impl Into<RunId>, problem: impl Into<String>) -> Self {
        Self::Submission {
            run: run.into(),
            problem: problem.into(),
        }
    }

    /// An [`Error::InvalidPipeline`]: `problem` names what the backend's service does not take, and its limit. For
    /// [`Queues::check`](crate::queue::Queues::check) and [`Scratchpad::check`](crate::scratchpad::Scratchpad::check).
    pub fn invalid_pipeline(problem: impl Into<String>) -> Self {
        Self::InvalidPipeline {
            problem: problem.into(),
        }
    }

    pub(crate) fn invalid_argument(argument: &'static str, problem: impl Into<String>) -> Self {
        Self::InvalidArgument {
            argument,
            problem: problem.into(),
        }
    }

    /// An [`Error::Decode`]: `what` names the bytes that cannot be read.
    pub fn decode(what: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Decode {
            what: what.into(),
            source: source.into(),
        }
    }

    /// An [`Error::Encode`]: `what` names the value that cannot be written.
    pub fn encode(what: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Encode {
            what: what.into(),
            source: source.into(),
        }
    }
}
