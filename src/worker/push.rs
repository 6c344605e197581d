//! The twin of the worker that pulls: messages are pushed by a service, which is told what to do
//! with each.

mod batch;
mod deadline;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Instant, timeout_at};

use crate::compute::step::Limits;
use crate::core::cores::cores;
use crate::core::error::{Error, Result, describe};
use crate::core::name;
use crate::core::runtime;
use crate::pipeline::definition::StageDefinition;
use crate::protocol::seam::Seam;
use crate::protocol::site::Site;
use crate::protocol::{Protocol, Received};
use crate::queue::{Delivery, Queue};

use batch::Batch;
use deadline::{Cause, Deadline};

const CANCEL_CHECK: Duration = Duration::from_secs(2);

/// What to tell the service that pushed a delivery, from [`Handler::handle`].
///
/// Dead letters are the handler's part: a message that failed for good, used up its attempts or
/// cannot be read has been moved to the stage's dead-letter queue with its error, and is
/// [`Acknowledge`](Self::Acknowledge) like one that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// Acknowledge it: the message is done with. Everything it causes is durable, or it is in the
    /// dead-letter queue. If the acknowledgement gets lost, the message comes back and nothing
    /// counts twice.
    Acknowledge,
    /// Do not acknowledge it: it must come back.
    Leave {
        /// The delay with which the handler has [released](crate::queue::Queue::release) the message:
        /// a failed attempt's backoff, or none for a message that had not begun when the deadline
        /// came. Pass it on only if the service
        /// takes delays with the answer. `None`: the message could not be answered in time, and
        /// comes back after its visibility timeout.
        delay: Option<Duration>,
    },
}

/// One stage of a deployment, for messages that a service pushes: AWS Lambda's event source
/// mappings, a push subscription, a test. From [`Deployment::handler`](crate::Deployment::handler).
///
/// It does with a delivery what a [worker](crate::Worker) does with a message, by the same code.
/// Handlers and workers may serve the same queue. Make one per process: calls may overlap, and the
/// stage's [`concurrency`](crate::Stage::concurrency) and [`rate_limit`](crate::Stage::rate_limit)
/// hold for all of them together. Cloning it is cheap and gives the same handler.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use catchment::backends::memory::{MemoryQueues, MemoryScratchpad};
/// use catchment::queue::{QueueOptions, Queues};
/// use catchment::{Backend, Fate, Pipeline, Stage};
///
/// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
/// // Backend::memory(), with its queues at hand: they play the service that pushes.
/// let queues = Arc::new(MemoryQueues::new());
/// let backend = Backend::new(queues.clone(), Arc::new(MemoryScratchpad::new()));
/// let adder = Pipeline::new()
///     .map(|n: i64| n * 2).with(Stage::named("times_two"))
///     .reduce(|| 0, |a, b| a + b).with(Stage::named("sum"));
/// let adder = adder.deploy("adder", backend)?;
/// let run = adder.submit([1, 2, 3, 4, 5]).await?;
///
/// let times_two = adder.handler("times_two")?;
/// let queue = queues.open(times_two.queue_name(), &QueueOptions::default()).await?;
/// let deliveries = queue.receive(10, Duration::ZERO).await?;
/// let fates = times_two.handle(deliveries.clone(), Duration::from_secs(30)).await;
/// for (delivery, fate) in deliveries.into_iter().zip(fates) {
///     if fate == Fate::Acknowledge {
///         queue.acknowledge(vec![delivery.receipt]).await?;
///     } // otherwise it comes back by itself
/// }
///
/// let worker = adder.worker().stages(["sum"]).start();
/// assert_eq!(run.result().await?, 30);
/// # worker.shutdown().await;
/// # Ok(()) }
/// ```
///
/// There are no heartbeats: the queue's [visibility timeout](crate::Stage::visibility_timeout) must
/// be longer than the time each call has. Attempts are counted by what began, as for workers: a
/// delivery whose [`receive_count`](Delivery::receive_count) is 1 is the first, and the beginning of
/// any other is written down in the scratchpad.
#[derive(Clone)]
#[must_use = "a handler does nothing until it is given deliveries"]
pub struct Handler {
    inner: Arc<Inner>,
    margin: Option<Duration>,
    cause: Cause,
}

struct Inner {
    site: Arc<Site>,
    /// The stage's position in the pipeline.
    stage: usize,
    name: Arc<str>,
    queue_name: String,
    engine: Mutex<Arc<Engine>>,
}

/// What serves one call after the other.
struct Engine {
    protocol: Protocol,
    limits: Limits,
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Handler")
            .field("stage", &self.inner.name)
            .field("queue", &self.inner.queue_name)
            .field("margin", &self.margin)
            .finish_non_exhaustive()
    }
}

impl Handler {
    /// # Errors
    /// [`Error::InvalidArgument`] if the deployment has no such stage.
    pub(crate) fn new(site: &Arc<Site>, stage: &str) -> Result<Self> {
        let position = site.position("a handler", stage)?;
        let Some(definition) = site.definition.stage(position) else {
            return Err(site.no_stage(position));
        };
        let protocol = Protocol::new(Seam::new(Arc::clone(site), &[]), CANCEL_CHECK);
        let engine = Engine::new(protocol, site, position, definition);
        Ok(Self {
            inner: Arc::new(Inner {
                site: Arc::clone(site),
                stage: position,
                name: Arc::clone(&definition.name),
                queue_name: name::queue(&site.name, &definition.name),
                engine: Mutex::new(Arc::new(engine)),
            }),
            margin: None,
            cause: Cause::default(),
        })
    }

    /// Sets how long before the deadline work must end, so that unfinished messages can be answered
    /// (default: a tenth of the time the call has, at least a second, at most ten). Never more than
    /// half of that time is kept free.
    pub fn margin(mut self, margin: Duration) -> Self {
        self.margin = Some(margin);
        self
    }

    /// Sets what the error of an attempt that was cut off says: what the deadline is called, and
    /// the `remedy` if it is too short (default: "the handler's deadline", "give the handler more
    /// time").
    pub fn deadline_named(mut self, name: impl Into<String>, remedy: impl Into<String>) -> Self {
        self.cause = Cause {
            name: name.into(),
            remedy: remedy.into(),
        };
        self
    }

    /// The stage it serves.
    pub fn stage(&self) -> &str {
        &self.inner.name
    }

    /// The queue whose messages it is for, `{deployment}--{stage}`.
    pub fn queue_name(&self) -> &str {
        &self.inner.queue_name
    }

    /// Works on deliveries, and answers with the fate of each, in the order given, before the
    /// deadline: `remaining` after the first poll, on tokio's clock. [`Duration::MAX`] is no
    /// deadline.
    ///
    /// When the [margin](Self::margin) before the deadline begins, nothing more begins:
    ///
    /// | a message that | is | its fate |
    /// | --- | --- | --- |
    /// | succeeded, everything it causes being durable | left to the caller | `Acknowledge` |
    /// | failed (error, panic, timeout) and has attempts left | released with the stage's backoff | `Leave` with that delay |
    /// | failed for good, used up its attempts, or cannot be read | in the dead-letter queue with its error | `Acknowledge` |
    /// | had not begun when the margin began | released at once: no attempt | `Leave` with a delay of zero |
    /// | had begun, and did not end within the margin | stopped: a failed attempt | as one that failed |
    /// | could not be answered in time, or only with an error | left alone | `Leave` without a delay |
    ///
    /// An asynchronous function is dropped when it is stopped. A CPU-bound one cannot be stopped:
    /// its thread goes on, and its outcome is ignored. The next calls use other threads, and nothing
    /// limits how many go on in this way, as [`Worker::max_lost_threads`](crate::Worker::max_lost_threads)
    /// does for a worker: a function that may never return belongs in a worker, or needs a limit of
    /// its own. An outage of the backend that lasts until then costs an attempt, too.
    ///
    /// Nothing goes on after it returns, except for such threads: a process may be frozen then.
    /// Dropping the future loses nothing: messages that were not acknowledged come back, and
    /// nothing counts twice. The same delivery may be given any number of times.
    ///
    /// If the stage's queue cannot be opened, every fate is `Leave` without a delay, and the error
    /// is logged; [`try_handle`](Self::try_handle) returns it.
    pub async fn handle(&self, deliveries: Vec<Delivery>, remaining: Duration) -> Vec<Fate> {
        let count = deliveries.len();
        let fates = self.try_handle(deliveries, remaining).await;
        fates.unwrap_or_else(|error| {
            tracing::error!(stage = %self.inner.name, messages = count, error = %describe(&error), "messages could not be handled; they come back");
            vec![Fate::Leave { delay: None }; count]
        })
    }

    /// As [`handle`](Self::handle), with an error if the stage's queue cannot be opened. Nothing
    /// has been done then: leave every delivery, so that it comes back.
    ///
    /// # Errors
    /// [`Error::NotProvisioned`] if the queue does not exist, and [`Error::Backend`] if the service
    /// could not be reached before the margin began; [`Error::NoRuntime`] outside of a tokio runtime
    /// that has timers.
    pub async fn try_handle(
        &self,
        deliveries: Vec<Delivery>,
        remaining: Duration,
    ) -> Result<Vec<Fate>> {
        runtime::check()?;
        let deadline = Deadline::new(Instant::now(), remaining, self.margin);
        let inner = self.inner.as_ref();
        // The process may be frozen after the call: what failed is logged by then.
        let _watch = inner.site.attempt_log.watch();
        let queue = inner.queue(deadline.cut_off).await?;
        let messages = deliveries.into_iter();
        let messages = messages.map(|delivery| Received::new(&inner.site, &inner.name, delivery));
        let batch = Batch::new(queue, &inner.name, messages.collect(), deadline.cut_off);
        let engine = inner.engine();
        let mut work: BoxFuture<'_, ()> = Box::pin(inner.work(&engine, &batch));
        if timeout_at(deadline.cut_off, &mut work).await.is_err() {
            batch.close();
            if timeout_at(deadline.settled, &mut work).await.is_err() {
                drop(work);
                let engine = inner.renew(&engine);
                let problem = deadline.problem(&self.cause);
                let stop = inner.stop(&engine, &batch, &problem);
                if timeout_at(deadline.stopped, stop).await.is_err() {
                    tracing::warn!(stage = %inner.name, "stopping took too long; the rest comes back after its visibility timeout");
                }
            }
        }
        Ok(batch.fates())
    }
}

impl Engine {
    fn new(protocol: Protocol, site: &Site, stage: usize, definition: &StageDefinition) -> Self {
        let cpu = site.definition.cpu(cores(), false);
        Self {
            protocol,
            limits: Limits::new(stage, &definition.options, cpu),
        }
    }
}

impl Inner {
    fn engine(&self) -> Arc<Engine> {
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&engine)
    }

    /// Replaces the engine for the calls that follow: calls on the backend that are stuck would
    /// hold up theirs, and threads that are stuck in a function would be missing.
    fn renew(&self, old: &Engine) -> Arc<Engine> {
        let Some(definition) = self.site.definition.stage(self.stage) else {
            return self.engine();
        };
        let protocol = old
            .protocol
            .with_seam(Seam::new(Arc::clone(&self.site), &[]));
        let engine = Engine::new(protocol, &self.site, self.stage, definition);
        let engine = Arc::new(engine);
        let mut current = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::clone(&engine);
        engine
    }

    async fn queue(&self, until: Instant) -> Result<Arc<dyn Queue>> {
        match timeout_at(until, self.site.queue(self.stage)).await {
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
