//! Stages as AWS Lambda functions: event → protocol → which records must come back.

mod batch;
mod deadline;
mod records;
mod runtime;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use futures::future::BoxFuture;
use tokio::time::{Instant, timeout_at};

use crate::compute::step::Limits;
use crate::core::cores::cores;
use crate::core::error::{Error, Result};
use crate::deployment::Deployment;
use crate::pipeline::definition::queue_name;
use crate::protocol::Protocol;
use crate::protocol::seam::Seam;
use crate::protocol::site::Site;
use crate::queue::Queue;

use batch::Batch;
use deadline::Deadline;
use records::Records;

/// Names the stage that a function serves.
const STAGE_VARIABLE: &str = "CATCHMENT_STAGE";
const CANCEL_CHECK: Duration = Duration::from_secs(2);

/// One stage of a deployment as an AWS Lambda function behind an SQS event source mapping, from
/// [`Deployment::lambda`](crate::Deployment::lambda) or [`lambda_from_env`](crate::Deployment::lambda_from_env).
/// Make it once a container, outside of the handler; cloning it is cheap and gives the same function.
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
/// It does with each record what a [worker](crate::Worker) does with a message, by the same code, and answers with
/// `batchItemFailures` for exactly the records that must come back:
///
/// | a record that | is | reported |
/// | --- | --- | --- |
/// | is done, all that it causes being durable | left to the mapping to delete | no |
/// | failed (error, panic, timeout) and has attempts left | hidden for the stage's backoff | yes |
/// | failed for good, used up its attempts, or cannot be read | in the dead-letter queue, with its error | no |
/// | was not begun before the deadline came near | on its queue again as a fresh copy: no attempt | no |
/// | was begun, and cut off by the deadline | as one that failed: a failed attempt | yes |
/// | has no body or no receipt handle | left alone: it comes back after the visibility timeout | yes |
///
/// Attempts are counted by the records' `ApproximateReceiveCount`, as they are for workers: both may serve one queue.
///
/// **The mapping** must have `ReportBatchItemFailures` among its `FunctionResponseTypes`: without it Lambda takes an answer
/// that lists failures for a success, and deletes all records, those that failed included. It leaves the
/// visibility of reported records as it is, so that the backoff set here stands. The queue's visibility timeout
/// ([`Stage::visibility_timeout`](crate::Stage::visibility_timeout)) must be longer than the function's timeout; AWS advises six times as long. There are no
/// heartbeats here.
///
/// **The deadline.** Work must end a [margin](Self::margin) before the function's deadline. What is left then is handed back in that time, so that
/// an answer is always given, and one slow record does not cost the others. An asynchronous function is dropped; a CPU-bound one cannot be
/// stopped: its thread goes on, as long as the container lives, and its outcome is ignored. An outage of the backend that lasts
/// until then costs an attempt, too.
///
/// **A panic** is its record's failure only where panics unwind, as they do by default. `cargo lambda build --release` aborts instead,
/// and the whole batch comes back, unless `Cargo.toml` has `panic = "unwind"` under `[profile.release]`: put it there.
/// [`run`](Self::run) warns of it.
///
/// **A frozen container** has nothing to finish: what an answer says has happened before it is given, and acknowledgements
/// do not wait for each other.
///
/// A stage's [`concurrency`](crate::Stage::concurrency) and [`rate_limit`](crate::Stage::rate_limit) hold for each container; the mapping's maximum concurrency limits those.
#[derive(Clone)]
#[must_use = "a function does nothing until it is run, or given an event"]
pub struct LambdaFunction {
    inner: Arc<Inner>,
    margin: Option<Duration>,
}

struct Inner {
    shared: Arc<Site>,
    /// The stage's place in the pipeline.
    stage: usize,
    name: Arc<str>,
    queue_name: String,
    engine: Mutex<Arc<Engine>>,
}

/// What serves one invocation after the other.
struct Engine {
    protocol: Protocol,
    limits: Limits,
}

impl std::fmt::Debug for LambdaFunction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LambdaFunction")
            .field("stage", &self.inner.name)
            .field("queue", &self.inner.queue_name)
            .field("margin", &self.margin)
            .finish_non_exhaustive()
    }
}

impl<I, R> Deployment<I, R> {
    /// One stage as an AWS Lambda function behind an SQS event source mapping: what a worker does with a message, done with the
    /// records of an event.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (`stage`) if there is no such stage; it names those that there are.
    pub fn lambda(&self, stage: &str) -> Result<LambdaFunction> {
        LambdaFunction::new(self.shared(), stage)
    }

    /// [`lambda`](Self::lambda), of the stage that the environment variable `CATCHMENT_STAGE` names: one program serves
    /// for every function of a deployment.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (`CATCHMENT_STAGE`) if the variable is not set or does not name a stage; it names those that there are.
    pub fn lambda_from_env(&self) -> Result<LambdaFunction> {
        LambdaFunction::from_env(self.shared())
    }
}

impl LambdaFunction {
    pub(crate) fn new(shared: &Arc<Site>, stage: &str) -> Result<Self> {
        let place = shared.position("a Lambda function", stage)?;
        let definition = &shared.definition;
        let Some(current) = definition.stage(place) else {
            return Err(shared.no_stage(place));
        };
        let engine = Engine {
            protocol: Protocol::new(Seam::new(Arc::clone(shared), &[]), CANCEL_CHECK),
            limits: Limits::new(place, &current.options, definition.cpu(cores(), false)),
        };
        Ok(Self {
            inner: Arc::new(Inner {
                shared: Arc::clone(shared),
                stage: place,
                name: Arc::clone(&current.name),
                queue_name: queue_name(&shared.name, &current.name),
                engine: Mutex::new(Arc::new(engine)),
            }),
            margin: None,
        })
    }

    pub(crate) fn from_env(shared: &Arc<Site>) -> Result<Self> {
        Self::from_variable(shared, std::env::var_os(STAGE_VARIABLE))
    }

    fn from_variable(shared: &Arc<Site>, value: Option<std::ffi::OsString>) -> Result<Self> {
        let stages = shared.definition.stages().iter();
        let known: Vec<&str> = stages.map(|stage| &*stage.name).collect();
        let known = known.join(", ");
        let unusable = |problem: &str| {
            Error::invalid_argument(
                STAGE_VARIABLE,
                format!(
                    "the environment variable {STAGE_VARIABLE} {problem}: set it to the stage that this function serves, one of {known}"
                ),
            )
        };
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return Err(unusable("is not set"));
        };
        match value.to_str() {
            Some(stage) if shared.definition.position(stage).is_some() => Self::new(shared, stage),
            _ => Err(unusable(&format!(
                "is {value:?}, which is no stage of deployment `{}`",
                shared.name
            ))),
        }
    }

    /// How long before the function's deadline work must end, so that what is left can be handed back (default: a tenth of
    /// the time the invocation has, at least a second, at most ten). Never more than half of that time is kept free.
    pub fn margin(mut self, margin: Duration) -> Self {
        self.margin = Some(margin);
        self
    }

    /// The stage it serves.
    pub fn stage(&self) -> &str {
        &self.inner.name
    }

    /// The queue whose messages it is for, `{deployment}-{stage}`: what the event source mapping must read.
    pub fn queue_name(&self) -> &str {
        &self.inner.queue_name
    }

    /// Works on an event's records, and answers with those that must come back, well before `remaining` is over: for
    /// tests, and for runtimes other than [`run`](Self::run)'s. `remaining` is counted on tokio's clock from now.
    ///
    /// The same event may come twice, and one record several times: nothing counts twice.
    ///
    /// # Errors
    /// Nothing has been done then, and all records come back: [`Error::InvalidArgument`] (`event`) if a record comes from another stage's queue, since the mapping is
    /// not this function's; [`Error::NotProvisioned`] and [`Error::Backend`] where the queue cannot be opened.
    pub async fn handle(&self, event: SqsEvent, remaining: Duration) -> Result<SqsBatchResponse> {
        let deadline = Deadline::new(Instant::now(), remaining, self.margin);
        let inner = self.inner.as_ref();
        records::check_source(&event, inner)?;
        let records = Records::read(event, &inner.name);
        let batch = Batch::new(inner.queue(deadline.cut_off).await?, &inner.name, records);
        let engine = inner.engine();
        let mut work: BoxFuture<'_, ()> = Box::pin(inner.work(&engine, &batch));
        if timeout_at(deadline.cut_off, &mut work).await.is_err() {
            batch.close();
            engine.limits.cpu.give_back();
            if timeout_at(deadline.settled, &mut work).await.is_err() {
                drop(work);
                let engine = inner.renew(&engine);
                let problem = deadline.problem();
                let stop = inner.stop(&engine, &batch, &problem);
                if timeout_at(deadline.stopped, stop).await.is_err() {
                    tracing::warn!(stage = %inner.name, "handing back took too long; the visibility timeout does it");
                }
            }
        }
        Ok(batch.response())
    }
}

impl Inner {
    fn engine(&self) -> Arc<Engine> {
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&engine)
    }

    /// Another engine for what comes next: calls that are under way would be in its way, and threads that are stuck in
    /// a function would be missing.
    fn renew(&self, old: &Engine) -> Arc<Engine> {
        let seam = Seam::new(Arc::clone(&self.shared), &[]);
        let limits = match self.shared.definition.stage(self.stage) {
            Some(stage) => Limits::new(
                self.stage,
                &stage.options,
                self.shared.definition.cpu(cores(), false),
            ),
            None => return self.engine(),
        };
        let engine = Arc::new(Engine {
            protocol: old.protocol.over(seam),
            limits,
        });
        let mut current = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::clone(&engine);
        engine
    }

    async fn queue(&self, until: Instant) -> Result<Arc<dyn Queue>> {
        match timeout_at(until, self.shared.queue(self.stage)).await {
            Ok(queue) => queue.cloned(),
            Err(elapsed) => Err(Error::Backend {
                service: "the queue",
                operation: format!("opening `{}` before the deadline", self.queue_name),
                retryable: true,
                source: elapsed.into(),
            }),
        }
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
        let of = |value: Option<&str>| {
            LambdaFunction::from_variable(adder.shared(), value.map(Into::into))
        };
        let function = of(Some("sum")).unwrap();
        assert_eq!(
            (function.stage(), function.queue_name()),
            ("sum", "adder-sum")
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
