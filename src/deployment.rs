//! A pipeline under a name, over a backend: what is submitted to, worked on and looked into.

mod backend;
pub(crate) mod dead_letter;
mod deploy;
pub(crate) mod listing;
pub(crate) mod run;

use std::marker::PhantomData;
use std::sync::Arc;

use futures::{Stream, StreamExt};

use crate::core::error::{Error, Result};
use crate::core::id::RunId;
use crate::core::provision::Change;
use crate::core::requests::Requests;
use crate::packet::carrier::Carrier;
use crate::pipeline::Extract;
use crate::pipeline::definition::{Definition, queue_name};
use crate::protocol::site::Site;
use crate::scratchpad::{RunFilter, RunSummary};
use crate::stage::Data;
use crate::submit::{FromIterator, FromStream, Submission};
use crate::worker::Worker;
use dead_letter::DeadLetter;
use listing::Listing;
use run::Run;

pub use backend::Backend;

/// A pipeline deployed under a name, taking items of type `I` and answering with `R`. Cloning it gives
/// another handle on the same deployment.
///
/// ```
/// use catchment::{Backend, Pipeline};
///
/// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
/// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
/// let adder = adder.deploy("adder", Backend::memory())?;
/// adder.provision().await?;
/// let run = adder.submit([1, 2, 3, 4, 5]).await?;
/// let worker = adder.worker().start();
/// assert_eq!(run.result().await?, 30);
/// worker.shutdown().await;
/// # Ok(()) }
/// ```
pub struct Deployment<I, R> {
    shared: Arc<Site>,
    backend: Backend,
    extract: Extract<R>,
    types: PhantomData<fn(I)>,
}

impl<I, R> Clone for Deployment<I, R> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            backend: self.backend.clone(),
            extract: self.extract,
            types: PhantomData,
        }
    }
}

impl<I, R> std::fmt::Debug for Deployment<I, R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Deployment")
            .field("name", &self.name())
            .field("stages", &self.stages().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl<I, R> Deployment<I, R> {
    pub(crate) fn new(
        name: &str,
        definition: Definition,
        mut backend: Backend,
        carrier: Carrier,
        extract: Extract<R>,
    ) -> Self {
        if let Some(scratchpad) = backend.scratchpad.bind(name) {
            backend.scratchpad = scratchpad;
        }
        let site = Site::new(
            name,
            definition,
            Arc::clone(&backend.queues),
            Arc::clone(&backend.scratchpad),
            carrier,
        );
        Self {
            shared: Arc::new(site),
            backend,
            extract,
            types: PhantomData,
        }
    }

    /// The name it was deployed under.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    #[cfg(feature = "lambda")]
    pub(crate) fn shared(&self) -> &Arc<Site> {
        &self.shared
    }

    /// The requests that this deployment's [backend](Backend::requests) has made of a service, in this process.
    pub fn requests(&self) -> Requests {
        self.backend.requests()
    }

    #[cfg(all(feature = "lambda", feature = "dynamodb"))]
    pub(crate) fn definition(&self) -> &Definition {
        &self.shared.definition
    }

    #[cfg(all(feature = "lambda", feature = "dynamodb"))]
    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The stages' names, in order.
    pub fn stages(&self) -> impl Iterator<Item = &str> {
        let stages = self.shared.definition.stages();
        stages.iter().map(|stage| &*stage.name)
    }

    /// Makes the queues, dead-letter queues and tables that are missing, updates the settings that differ
    /// where that is safe, touches nothing else, and says what it did. Safe to repeat, and to do from many processes at
    /// once. A memory backend needs none of it.
    ///
    /// # Errors
    /// [`Error::Backend`] with the service's reason.
    pub async fn provision(&self) -> Result<Vec<Change>> {
        let Site {
            name,
            definition,
            queues,
            scratchpad,
            ..
        } = self.shared.as_ref();
        let mut changes = Vec::new();
        for stage in definition.stages() {
            let queue = queue_name(name, &stage.name);
            let options = &stage.options.queue;
            changes.extend(queues.provision(&queue, options).await?);
        }
        changes.extend(scratchpad.provision().await?);
        Ok(changes)
    }

    /// Removes the deployment's queues, dead-letter queues and tables **with everything in them**: runs under way,
    /// results and dead letters. Asks for the deployment's name, so that nobody does it by accident.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where `name` is not this deployment's, and [`Error::Backend`] with the service's reason.
    pub async fn deprovision(&self, name: &str) -> Result<Vec<Change>> {
        if name != self.name() {
            return Err(Error::InvalidArgument {
                problem: format!(
                    "deprovisioning removes everything of deployment `{}`: it asks for that name, and was given `{name}`",
                    self.name()
                ),
            });
        }
        let Site {
            definition,
            queues,
            scratchpad,
            ..
        } = self.shared.as_ref();
        let mut changes = Vec::new();
        for stage in definition.stages() {
            let queue = queue_name(name, &stage.name);
            changes.extend(queues.deprovision(&queue).await?);
        }
        changes.extend(scratchpad.deprovision().await?);
        Ok(changes)
    }

    /// A worker for this deployment's stages, with its options to set.
    pub fn worker(&self) -> Worker {
        Worker::new(Arc::clone(&self.shared))
    }

    /// The runs that were submitted to this deployment, newest first, in pages of 100 unless
    /// [set otherwise](Listing::limit). What a page costs, and how far a list may be behind, is said by the backend.
    ///
    /// ```
    /// use catchment::{Backend, Pipeline, RunFilter, RunState};
    /// use futures::TryStreamExt;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// let adder = adder.deploy("adder", Backend::memory())?;
    /// let done = adder.submit_as("done", [1, 2, 3]).await?;
    /// let cancelled = adder.submit_as("cancelled", [4, 5]).await?;
    /// cancelled.cancel().await?;
    /// let worker = adder.worker().start();
    /// done.result().await?;
    ///
    /// let page = adder.runs(RunFilter::new().state(RunState::Done)).await?;
    /// assert_eq!((page.len(), page[0].record.run.as_str()), (1, "done"));
    /// // Or all pages, one after the other:
    /// let runs: Vec<_> = adder.runs(RunFilter::new()).stream().try_collect().await?;
    /// assert_eq!(runs.len(), 2);
    /// worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Backend`] if the scratchpad cannot be reached, or cannot list runs.
    pub fn runs(&self, filter: RunFilter) -> Listing<RunSummary> {
        let (shared, filter) = (Arc::clone(&self.shared), Arc::new(filter));
        Listing::new(move |cursor, limit| {
            let (shared, filter) = (Arc::clone(&shared), Arc::clone(&filter));
            async move {
                let scratchpad = shared.scratchpad();
                scratchpad.list_runs(&filter, cursor.as_ref(), limit).await
            }
        })
    }

    /// The dead letters of this deployment, of all runs, stage after stage: what to look at when something failed. In
    /// pages of 100 unless [set otherwise](Listing::limit).
    ///
    /// A queue service that cannot go on where it left off, such as Amazon SQS, returns some of a stage's letters, up to
    /// the page's limit, and says by [`truncated`](crate::Page::truncated) that there may be more: set a higher limit, or
    /// redrive or discard these first. [`next`](crate::Page::next) then leads to the next stage.
    ///
    /// # Errors
    /// [`Error::Backend`] if a queue cannot be read.
    pub fn dead_letters(&self) -> Listing<DeadLetter> {
        let shared = Arc::clone(&self.shared);
        Listing::new(move |cursor, limit| {
            let shared = Arc::clone(&shared);
            async move {
                let letters = shared.dead_letters(None, cursor.as_ref(), limit).await?;
                Ok(letters.map(|(_, letter)| letter))
            }
        })
    }
}

impl<I: Data, R: Send + 'static> Deployment<I, R> {
    /// A handle on a run that was submitted here or elsewhere. Nothing is asked yet: an id that nobody
    /// knows is an error of the handle's calls.
    pub fn attach(&self, id: impl Into<RunId>) -> Run<R> {
        Run::new(Arc::clone(&self.shared), id.into(), self.extract)
    }

    /// Submits an array under a new random id. Returns once every packet is on a queue.
    ///
    /// Items are pulled as the queue takes them. An iterator whose length is known
    /// ([`size_hint`](Iterator::size_hint) exact) makes packets for that length.
    ///
    /// # Errors
    /// [`Error::Encode`] and [`Error::TooLarge`] name the packet; [`Error::Backend`] where the service
    /// could not be reached. The run is cancelled then; to be able to go on where a submission broke off,
    /// give it an id with [`submit_as`](Self::submit_as).
    pub async fn submit<V>(&self, items: V) -> Result<Run<R>>
    where
        V: IntoIterator<Item = I>,
    {
        let submission = self.begin(RunId::random(), items).await?;
        self.send_or_cancel(submission).await
    }

    /// Submits an array under an id of the caller's. Submitting the same array under the same id again, from
    /// anywhere, is the same run: it sends nothing if everything was sent, and completes what broke off
    /// if not. Packet i must have the same items each time, which is the caller's to keep.
    ///
    /// ```
    /// # use catchment::{Backend, Pipeline};
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// let adder = adder.deploy("adder", Backend::memory())?;
    /// let _worker = adder.worker().start();
    /// let run = adder.submit_as("invoices/2026-11-21", 1..=5).await?;
    /// let same = adder.submit_as("invoices/2026-11-21", 1..=5).await?;
    /// assert_eq!((run.result().await?, same.result().await?), (30, 30));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`submit`](Self::submit), but the run stays open, and repeating the call completes it.
    /// [`Error::Submission`] where the id was used for an array of another length,
    /// [`Error::InvalidRunId`] for an id that not every backend could keep.
    pub async fn submit_as<V>(&self, id: impl Into<RunId>, items: V) -> Result<Run<R>>
    where
        V: IntoIterator<Item = I>,
    {
        let submission = self.begin(id.into(), items).await?;
        self.send(submission).await
    }

    /// As [`submit`](Self::submit), for input that comes as a stream. Work begins while it is still
    /// open; the length is told to the run at its end.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_stream<V>(&self, items: V) -> Result<Run<R>>
    where
        V: Stream<Item = I>,
    {
        let submission = self.begin_stream(RunId::random(), items).await?;
        self.send_or_cancel(submission).await
    }

    /// As [`submit_as`](Self::submit_as), for input that comes as a stream.
    ///
    /// # Errors
    /// As [`submit_as`](Self::submit_as).
    pub async fn submit_stream_as<V>(&self, id: impl Into<RunId>, items: V) -> Result<Run<R>>
    where
        V: Stream<Item = I>,
    {
        let submission = self.begin_stream(id.into(), items).await?;
        self.send(submission).await
    }

    pub(crate) async fn begin<V>(
        &self,
        id: RunId,
        items: V,
    ) -> Result<Submission<FromIterator<V::IntoIter>>>
    where
        V: IntoIterator<Item = I>,
    {
        let items = items.into_iter();
        let length = match items.size_hint() {
            (low, Some(high)) if low == high => Some(low as u64),
            _ => None,
        };
        Submission::begin(&self.shared, id, FromIterator(items.fuse()), length).await
    }

    pub(crate) async fn begin_stream<V>(
        &self,
        id: RunId,
        items: V,
    ) -> Result<Submission<FromStream<V>>>
    where
        V: Stream<Item = I>,
    {
        Submission::begin(&self.shared, id, FromStream(Box::pin(items.fuse())), None).await
    }

    async fn send<S: crate::submit::Source<Item = I>>(
        &self,
        submission: Submission<S>,
    ) -> Result<Run<R>> {
        let run = self.attach(submission.run());
        submission.send().await?;
        Ok(run)
    }

    /// Nobody knows the id of a submission that failed, so nobody could complete it.
    async fn send_or_cancel<S: crate::submit::Source<Item = I>>(
        &self,
        submission: Submission<S>,
    ) -> Result<Run<R>> {
        let run = self.attach(submission.run());
        match submission.send().await {
            Ok(()) => Ok(run),
            Err(error) => {
                if let Err(problem) = run.cancel().await {
                    tracing::warn!(run = %run.id(), %problem, "could not cancel a run whose submission failed");
                }
                Err(error)
            }
        }
    }
}
