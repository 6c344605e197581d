//! Submitting to a deployment.

use std::time::Duration;

use futures::Stream;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::Deployment;
use super::run::Run;
#[cfg(feature = "http")]
use crate::core::error::Error;
use crate::core::error::{Result, describe};
use crate::core::id::RunId;
use crate::core::runtime;
use crate::stage::Data;
#[cfg(feature = "http")]
use crate::submit::{GivenUp, Limits, Pulse};
use crate::submit::{IterSource, Opening, Source, StreamSource};

/// How long to try to cancel a run that could not be submitted, while the caller waits for the error.
const CANCEL_WITHIN: Duration = Duration::from_secs(5);

impl<I: Data, R: Send + 'static> Deployment<I, R> {
    /// Submits an array under a new random id. Returns once every packet is on a queue.
    ///
    /// Items are pulled as the queue takes them. An iterator whose length is known
    /// ([`size_hint`](Iterator::size_hint) exact) makes packets for that length.
    ///
    /// Input that may turn out to be unreadable, such as the lines of a file, goes into [`try_submit`](Self::try_submit).
    ///
    /// If the future is dropped before it ends, the run is cancelled by a task of the runtime, because its id is not known anywhere.
    ///
    /// # Errors
    /// [`Error::Encode`] and [`Error::TooLarge`] name the packet; [`Error::Backend`] if the service
    /// could not be reached. The run is cancelled then; to be able to complete a submission that broke off,
    /// give it an id with [`submit_as`](Self::submit_as). [`Error::NoRuntime`], before anything is done, outside of a tokio
    /// runtime that has timers.
    ///
    /// [`Error::Encode`]: crate::Error::Encode
    /// [`Error::TooLarge`]: crate::Error::TooLarge
    /// [`Error::Backend`]: crate::Error::Backend
    /// [`Error::NoRuntime`]: crate::Error::NoRuntime
    pub async fn submit<V>(&self, items: V) -> Result<Run<R>>
    where
        V: IntoIterator<Item = I>,
    {
        self.submit_from(None, IterSource::new(items)).await
    }

    /// Submits an array under an id of the caller's. Submitting the same array under the same id again, from
    /// anywhere, is the same run: it sends nothing if everything was sent, and completes a submission that broke off.
    ///
    /// An id stands for its items: all are pulled again, compared with what was sent, and refused if they are others or
    /// have another order. They must serialize the same each time; the order of a map's entries makes no difference,
    /// but that of a [`HashSet`](std::collections::HashSet) does. A submission records what it has sent every second,
    /// every thousand packets, and when it fails or is dropped: what a process had sent after that when it was killed is not compared.
    /// Of two submissions of other items at the same time, one is refused, and the run's result is not to be relied on.
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
    /// // An id stands for its items.
    /// assert!(adder.submit_as("invoices/2026-11-21", 2..=6).await.is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`submit`](Self::submit), but the run stays open, and repeating the call completes it.
    /// [`Error::Submission`] if the id was used for other items, or for an array of another length,
    /// [`Error::InvalidRunId`] for an id that not every backend could keep.
    ///
    /// [`Error::Submission`]: crate::Error::Submission
    /// [`Error::InvalidRunId`]: crate::Error::InvalidRunId
    pub async fn submit_as<V>(&self, id: impl Into<RunId>, items: V) -> Result<Run<R>>
    where
        V: IntoIterator<Item = I>,
    {
        self.submit_from(Some(id.into()), IterSource::new(items))
            .await
    }

    /// Submits the items of a stream, as [`submit`](Self::submit) does those of an iterator. Work begins while the
    /// stream is still open; the run's length is recorded at its end.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_stream<V>(&self, items: V) -> Result<Run<R>>
    where
        V: Stream<Item = I>,
    {
        self.submit_from(None, StreamSource::new(items)).await
    }

    /// Submits the items of a stream under an id of the caller's, as [`submit_as`](Self::submit_as) does those of an
    /// iterator.
    ///
    /// # Errors
    /// As [`submit_as`](Self::submit_as).
    pub async fn submit_stream_as<V>(&self, id: impl Into<RunId>, items: V) -> Result<Run<R>>
    where
        V: Stream<Item = I>,
    {
        self.submit_from(Some(id.into()), StreamSource::new(items))
            .await
    }

    /// Begins to submit: the run exists, and nothing is sent yet.
    pub(crate) async fn begin<S>(&self, id: RunId, source: S) -> Result<Opening<S>>
    where
        S: Source<Item = I>,
    {
        runtime::check()?;
        Opening::begin(&self.site, id, source).await
    }

    /// Submits under `id`, or else under a new id. If that fails, a run under a new id is cancelled.
    pub(super) async fn submit_from<S>(&self, id: Option<RunId>, source: S) -> Result<Run<R>>
    where
        S: Source<Item = I>,
    {
        let is_new = id.is_none();
        let run = self.attach(id.unwrap_or_else(RunId::random));
        let mut dropped = Dropped(is_new.then(|| self.attach(run.id())));
        let opened = self.begin(run.id().clone(), source).await;
        let sent = match opened {
            Ok(opening) => opening.send().await,
            Err(error) => {
                // It has not begun.
                dropped.0 = None;
                return Err(error);
            }
        };
        dropped.0 = None;
        if is_new && sent.is_err() {
            withdraw(&run).await;
        }
        sent.map(|()| run)
    }

    /// Submits under `id`, or else under a new id, and gives up if there is no progress within `limits`. If that fails or
    /// is given up, a run under a new id is cancelled.
    #[cfg(feature = "http")]
    pub(crate) async fn submit_within<S>(
        &self,
        limits: Limits,
        id: Option<RunId>,
        source: S,
    ) -> std::result::Result<Result<Run<R>>, GivenUp>
    where
        S: Source<Item = I>,
    {
        if let Err(error) = runtime::check() {
            return Ok(Err(error));
        }
        let is_new = id.is_none();
        let run = self.attach(id.unwrap_or_else(RunId::random));
        // Also if a function of the application panics while items are read or written.
        let mut dropped = Dropped(is_new.then(|| self.attach(run.id())));
        // A call that is dropped may have begun the run; one that returns an error has not.
        let mut may_have_begun = true;
        let pulse = Pulse::new(limits);
        let sent = pulse.watch(async {
            match self.begin(run.id().clone(), source).await {
                Ok(opening) => {
                    pulse.beat();
                    opening.watched_by(&pulse).send().await
                }
                Err(error) => {
                    may_have_begun = false;
                    Err(error)
                }
            }
        });
        let sent = sent.await;
        dropped.0 = None;
        if is_new && may_have_begun && !matches!(sent, Ok(Ok(()))) {
            withdraw(&run).await;
        }
        sent.map(|sent| match sent {
            // An array that is on no queue was not submitted.
            Ok(()) if pulse.is_cancelled() => Err(Error::Cancelled {
                run: run.id().clone(),
            }),
            sent => sent.map(|()| run),
        })
    }
}

/// Cancels a run if its submission is dropped: its caller never learned its id.
struct Dropped<R: Send + 'static>(Option<Run<R>>);

impl<R: Send + 'static> Drop for Dropped<R> {
    fn drop(&mut self) {
        // Outside of a runtime nothing can be called any more.
        if let Some(run) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move { withdraw(&run).await });
        }
    }
}

/// Cancels a run that could not be submitted: its caller never learned its id, and so cannot complete it. Best effort.
async fn withdraw<R>(run: &Run<R>) {
    let problem = match timeout(CANCEL_WITHIN, run.cancel()).await {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => describe(&error),
        Err(_) => "the backend takes too long".to_owned(),
    };
    tracing::warn!(run = %run.id(), problem, "could not cancel a run whose submission failed");
}
