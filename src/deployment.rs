//! A pipeline under a name, over a backend: what is submitted to, worked on and looked into.

mod backend;
mod backend_url;
pub(crate) mod dead_letter;
mod dead_letters;
mod deploy;
pub(crate) mod listing;
#[cfg(feature = "postgres")]
pub(crate) mod outbox;
pub(crate) mod run;
mod share;
#[cfg(feature = "signed")]
mod signed;
mod submit;
mod take_up;
mod try_submit;

use std::marker::PhantomData;
use std::sync::Arc;

use crate::core::error::{Error, Result};
use crate::core::id::RunId;
use crate::core::name;
use crate::core::provision::Change;
use crate::core::requests::Requests;
use crate::core::runtime;
use crate::packet::carrier::Carrier;
use crate::pipeline::Extract;
use crate::pipeline::definition::Definition;
use crate::protocol::bundle::Bundling;
use crate::protocol::site::Site;
use crate::scratchpad::{RunFilter, RunSummary};
use crate::stage::Data;
use crate::worker::{Handler, Worker};
use listing::Listing;
use run::Run;
use take_up::TakeUp;

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
    pub(crate) site: Arc<Site>,
    pub(crate) backend: Backend,
    extract: Extract<R>,
    take_up: TakeUp,
    types: PhantomData<fn(I)>,
}

impl<I, R> Clone for Deployment<I, R> {
    fn clone(&self) -> Self {
        Self {
            site: Arc::clone(&self.site),
            backend: self.backend.clone(),
            extract: self.extract,
            take_up: self.take_up,
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
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

impl<I, R> Deployment<I, R> {
    pub(crate) fn new(
        name: &str,
        definition: Definition,
        backend: Backend,
        carrier: Carrier,
        bundling: Option<Arc<dyn Bundling>>,
        extract: Extract<R>,
        take_up: TakeUp,
    ) -> Self {
        let site = Site::new(
            name,
            definition,
            Arc::clone(&backend.queues),
            Arc::clone(&backend.scratchpad),
            carrier,
            bundling,
        )
        .with_outbox(backend.outbox());
        Self {
            site: Arc::new(site),
            backend,
            extract,
            take_up,
            types: PhantomData,
        }
    }

    /// The name it was deployed under.
    pub fn name(&self) -> &str {
        &self.site.name
    }

    /// The requests that this deployment's [backend](Backend::requests) has made of a service, in this process.
    pub fn requests(&self) -> Requests {
        self.backend.requests()
    }

    /// The stages' names, in order.
    pub fn stages(&self) -> impl Iterator<Item = &str> {
        let stages = self.site.definition.stages();
        stages.iter().map(|stage| &*stage.name)
    }

    /// Makes the queues, dead-letter queues and tables that are missing, updates the settings that differ
    /// where that is safe, touches nothing else, and says what it did. Safe to repeat, and to do from many processes at
    /// once. A memory backend needs none of it.
    ///
    /// # Errors
    /// [`Error::Backend`] with the service's reason.
    pub async fn provision(&self) -> Result<Vec<Change>> {
        runtime::check()?;
        let Site {
            name,
            definition,
            queues,
            scratchpad,
            ..
        } = self.site.as_ref();
        let mut changes = Vec::new();
        for stage in definition.stages() {
            let queue = name::queue(name, &stage.name);
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
    /// [`Error::InvalidArgument`] (`name`) if that is not this deployment's name, and [`Error::Backend`] with the service's reason.
    pub async fn deprovision(&self, name: &str) -> Result<Vec<Change>> {
        if name != self.name() {
            return Err(Error::invalid_argument(
                "name",
                format!(
                    "deprovisioning removes everything of deployment `{}`: it asks for that name, and was given `{name}`",
                    self.name()
                ),
            ));
        }
        runtime::check()?;
        let Site {
            definition,
            queues,
            scratchpad,
            outbox,
            ..
        } = self.site.as_ref();
        let mut changes = Vec::new();
        // First, so that nothing of it becomes a run any more.
        if let Some(outbox) = outbox {
            changes.extend(outbox.deprovision().await?);
        }
        for stage in definition.stages() {
            let queue = name::queue(name, &stage.name);
            changes.extend(queues.deprovision(&queue).await?);
        }
        changes.extend(scratchpad.deprovision().await?);
        Ok(changes)
    }

    /// A worker for this deployment's stages, with its options to set. Over PostgreSQL it also makes runs of what
    /// applications have written into the outbox, whichever stages it serves.
    pub fn worker(&self) -> Worker {
        Worker::new(Arc::clone(&self.site), (self.take_up)(&self.site))
    }

    /// One stage as a handler for messages that a service pushes: the counterpart of a [worker](Self::worker), which pulls.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the deployment has no such stage; the error lists those it has.
    pub fn handler(&self, stage: &str) -> Result<Handler> {
        Handler::new(&self.site, stage)
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
        let (site, filter) = (Arc::clone(&self.site), Arc::new(filter));
        Listing::new(move |cursor, limit| {
            let (site, filter) = (Arc::clone(&site), Arc::clone(&filter));
            async move {
                let scratchpad = site.scratchpad();
                scratchpad.list_runs(&filter, cursor.as_ref(), limit).await
            }
        })
    }
}

impl<I: Data, R: Send + 'static> Deployment<I, R> {
    /// A handle on a run that was submitted here or elsewhere. Nothing is asked yet: an id that nobody
    /// knows is an error of the handle's calls.
    pub fn attach(&self, id: impl Into<RunId>) -> Run<R> {
        Run::new(Arc::clone(&self.site), id.into(), self.extract)
    }
}
