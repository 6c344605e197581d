//! Stages as AWS Lambda functions: an event's records go to the push handler, and the answer names
//! those that must come back.

mod records;
mod runtime;

use std::ffi::OsString;
use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};

use crate::core::error::{Error, Result};
use crate::deployment::Deployment;
use crate::worker::Handler;

use records::Records;

/// Names the stage that a function serves.
const STAGE_VARIABLE: &str = "CATCHMENT_STAGE";

/// One stage of a deployment as an AWS Lambda function behind an SQS event source mapping, from
/// [`Deployment::lambda`](crate::Deployment::lambda) or
/// [`lambda_from_env`](crate::Deployment::lambda_from_env). Make it once a container, outside of
/// the handler; cloning it is cheap and gives the same function.
///
/// ```no_run
/// use catchment::{Backend, BoxError, Pipeline, Stage};
///
/// #[tokio::main]
/// async fn main() -> Result<(), BoxError> {
///     let adder = Pipeline::new().map(|n: i64| n * 2).with(Stage::named("times_two")).reduce(|| 0, |a, b| a + b);
///     # #[cfg(feature = "aws")]
///     let adder = adder.deploy("adder", Backend::aws_from_env().await)?;
///     # #[cfg(not(feature = "aws"))]
///     # let adder = adder.deploy("adder", Backend::memory())?;
///     adder.lambda_from_env()?.run().await?; // the stage that CATCHMENT_STAGE names
///     Ok(())
/// }
/// ```
///
/// It does with each record what a [worker](crate::Worker) does with a message, by the same code,
/// and answers with `batchItemFailures` for exactly the records that must come back:
///
/// | a record that | is | reported |
/// | --- | --- | --- |
/// | is done, all that it causes being durable | left to the mapping to delete | no |
/// | failed (error, panic, timeout) and has attempts left | hidden for the stage's backoff | yes |
/// | failed for good, used up its attempts, or cannot be read | in the dead-letter queue, with its error | no |
/// | was not begun before the deadline came near | visible again at once: no attempt | yes |
/// | was begun, and cut off by the deadline | as one that failed: a failed attempt | yes |
/// | has no body or no receipt handle | left alone: it comes back after the visibility timeout | yes |
///
/// Attempts are counted by what began, as they are for workers: both may serve one queue. A record
/// that was throttled before the function saw it has lost none.
///
/// **The mapping** must have `ReportBatchItemFailures` among its `FunctionResponseTypes`: without
/// it Lambda takes an answer that lists failures for a success, and deletes all records, those that
/// failed included. It leaves the visibility of reported records as it is, so that the backoff set
/// here stands. The queue's visibility timeout
/// ([`Stage::visibility_timeout`](crate::Stage::visibility_timeout)) must be longer than the
/// function's timeout; AWS advises six times as long. There are no heartbeats here.
///
/// **The deadline.** Work must end a [margin](Self::margin) before the function's deadline.
/// Unfinished records are answered in that time, so that an answer is always given, and one slow
/// record does not cost the others. An asynchronous function is dropped; a CPU-bound one cannot be
/// stopped: its thread goes on, as long as the container lives, and its outcome is ignored. Nothing
/// limits the number of such threads: give a function that may never return a limit of its own. An
/// outage of the backend that lasts until then costs an attempt, too.
///
/// **A panic** is its record's failure only where panics unwind, as they do by default. `cargo
/// lambda build --release` aborts instead, and the whole batch comes back, unless `Cargo.toml` has
/// `panic = "unwind"` under `[profile.release]`: put it there. [`run`](Self::run) warns of it.
///
/// **Freezing.** Nothing is left running when a response is returned: every outcome it reports is
/// already durable.
///
/// A stage's [`concurrency`](crate::Stage::concurrency) and
/// [`rate_limit`](crate::Stage::rate_limit) hold for each container; the mapping's maximum
/// concurrency limits those.
#[derive(Clone)]
#[must_use = "a function does nothing until it is run, or given an event"]
pub struct LambdaFunction {
    handler: Handler,
}

impl std::fmt::Debug for LambdaFunction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LambdaFunction")
            .field("handler", &self.handler)
            .finish()
    }
}

impl<I, R> Deployment<I, R> {
    /// One stage as an AWS Lambda function behind an SQS event source mapping: a
    /// [handler](Self::handler) for the records of its events.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the deployment has no such stage; the error lists those it
    /// has.
    pub fn lambda(&self, stage: &str) -> Result<LambdaFunction> {
        if !self.stages().any(|known| known == stage) {
            let problem = format!(
                "a Lambda function is to serve stage `{stage}`, but deployment `{}` has the stages {}",
                self.name(),
                known_stages(self)
            );
            return Err(Error::invalid_argument("stage", problem));
        }
        let handler = self.handler(stage)?;
        Ok(LambdaFunction {
            handler: handler.deadline_named(
                "the Lambda function's deadline",
                "raise the function's timeout",
            ),
        })
    }

    /// [`lambda`](Self::lambda), of the stage that the environment variable `CATCHMENT_STAGE`
    /// names: one program serves for every function of a deployment.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the variable is not set or names no stage of the deployment;
    /// the error lists those it has.
    pub fn lambda_from_env(&self) -> Result<LambdaFunction> {
        from_variable(self, std::env::var_os(STAGE_VARIABLE))
    }
}

fn known_stages<I, R>(deployment: &Deployment<I, R>) -> String {
    deployment.stages().collect::<Vec<_>>().join(", ")
}

fn from_variable<I, R>(
    deployment: &Deployment<I, R>,
    value: Option<OsString>,
) -> Result<LambdaFunction> {
    let unusable = |problem: &str| {
        Error::invalid_argument(
            STAGE_VARIABLE,
            format!(
                "the environment variable {STAGE_VARIABLE} {problem}: set it to the stage that this function serves, one of {}",
                known_stages(deployment)
            ),
        )
    };
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Err(unusable("is not set"));
    };
    match value.to_str() {
        Some(stage) if deployment.stages().any(|known| known == stage) => deployment.lambda(stage),
        _ => Err(unusable(&format!(
            "is {value:?}, which is no stage of deployment `{}`",
            deployment.name()
        ))),
    }
}

impl LambdaFunction {
    /// How long before the function's deadline work must end, so that unfinished records can be
    /// answered (default: a tenth of the time the invocation has, at least a second, at most ten).
    /// Never more than half of that time is kept free.
    pub fn margin(mut self, margin: Duration) -> Self {
        self.handler = self.handler.margin(margin);
        self
    }

    /// The stage it serves.
    pub fn stage(&self) -> &str {
        self.handler.stage()
    }

    /// The queue whose messages it is for, `{deployment}--{stage}`: what the event source mapping
    /// must read.
    pub fn queue_name(&self) -> &str {
        self.handler.queue_name()
    }

    /// Works on an event's records, and answers with those that must come back, well before
    /// `remaining` is over: for tests, and for runtimes other than [`run`](Self::run)'s.
    /// `remaining` is counted on tokio's clock from now.
    ///
    /// The same event may come twice, and one record several times: nothing counts twice.
    ///
    /// # Errors
    /// Nothing has been done then, and all records come back: [`Error::InvalidArgument`] if a
    /// record comes from another stage's queue, since the mapping is not this function's;
    /// [`Error::NotProvisioned`] and [`Error::Backend`] if the queue cannot be opened.
    pub async fn handle(&self, event: SqsEvent, remaining: Duration) -> Result<SqsBatchResponse> {
        records::check_source(&event, self)?;
        let Records { deliveries, all } = Records::read(event, self.stage());
        let fates = self.handler.try_handle(deliveries, remaining).await?;
        Ok(records::response(&all, &fates))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Backend, Pipeline, Stage};

    #[test]
    fn the_environment_names_the_stage() {
        let adder = Pipeline::new()
            .map(|n: i64| n * 2)
            .with(Stage::named("times_two"))
            .reduce(|| 0, |a, b| a + b)
            .with(Stage::named("sum"));
        let adder = adder.deploy("adder", Backend::memory()).unwrap();
        let of = |value: Option<&str>| from_variable(&adder, value.map(Into::into));
        let function = of(Some("sum")).unwrap();
        assert_eq!(
            (function.stage(), function.queue_name()),
            ("sum", "adder--sum")
        );
        let missing = "the environment variable CATCHMENT_STAGE is not set: set it to the stage that this function serves, one of times_two, sum";
        assert_eq!(of(None).unwrap_err().to_string(), missing);
        assert_eq!(of(Some("")).unwrap_err().to_string(), missing);
        assert_eq!(
            of(Some("api")).unwrap_err().to_string(),
            "the environment variable CATCHMENT_STAGE is \"api\", which is no stage of deployment `adder`: set it to the stage that this function serves, one of times_two, sum"
        );
        assert_eq!(
            adder.lambda("sums").unwrap_err().to_string(),
            "a Lambda function is to serve stage `sums`, but deployment `adder` has the stages times_two, sum"
        );
    }
}
