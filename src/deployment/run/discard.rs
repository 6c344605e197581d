//! Dead letters of a run, removed for good.

use std::time::Duration;

use super::Run;
use crate::core::error::Result;
use crate::core::runtime;
use crate::deployment::dead_letter::{Discarded, LetterId};

impl<R> Run<R> {
    /// Removes all of this run's dead letters for good.
    ///
    /// **The run stays failed**: the items of these messages can never be part of its result, and no redrive brings them
    /// back. Its failures stay on record as evidence until the record of the run expires. A run that is to end without
    /// these items needs [`OnFailure::Skip`](crate::OnFailure::Skip) or [`Tolerate`](crate::OnFailure::Tolerate) from the
    /// beginning.
    ///
    /// The queue is the only place that changes, so a call that breaks off, or whose future is dropped, has discarded
    /// some letters, and repeating it does the rest. A call ends within about a minute, however many letters there are:
    /// [`more`](Discarded::more) says that another call is needed. Letters that are buried meanwhile may be discarded or
    /// not.
    ///
    /// ```
    /// use catchment::{Backend, Pipeline, RunState, permanent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let numbers = Pipeline::new()
    ///     .try_map(|text: String| text.parse::<u64>().map_err(permanent))
    ///     .reduce(|| 0, |a, b| a + b);
    /// let numbers = numbers.deploy("numbers", Backend::memory())?;
    /// let worker = numbers.worker().start();
    /// let run = numbers.submit(["1", "two", "three"].map(String::from)).await?;
    /// assert!(run.result().await.is_err());
    /// worker.shutdown().await; // the messages have been buried then
    /// let outcome = run.discard().await?;
    /// assert_eq!((outcome.discarded, outcome.more), (2, false));
    /// assert!(run.dead_letters().await?.is_empty());
    /// // What went wrong stays on record.
    /// assert_eq!(run.status().await?.state, RunState::Failed);
    /// assert_eq!(run.failures().await?.len(), 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Backend`](crate::Error::Backend) if a queue cannot be reached; repeating the call does the rest.
    /// [`Error::NoSuchRun`](crate::Error::NoSuchRun) if there are no dead letters and the run is unknown.
    pub async fn discard(&self) -> Result<Discarded> {
        self.run.validate()?;
        runtime::check()?;
        let whose = self.site.whose(&self.run).await?;
        let outcome = self.site.discard(Some(&whose)).await?;
        if outcome == Discarded::default() {
            self.snapshot(Duration::ZERO).await?;
        }
        Ok(outcome)
    }

    /// Removes some of this run's dead letters for good, as [`discard`](Self::discard) does with all of them. Letters of
    /// other runs, and those that are gone already, are passed over.
    ///
    /// ```
    /// use catchment::{Backend, Pipeline, RunState, permanent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let numbers = Pipeline::new()
    ///     .try_map(|text: String| text.parse::<u64>().map_err(permanent))
    ///     .reduce(|| 0, |a, b| a + b);
    /// let numbers = numbers.deploy("numbers", Backend::memory())?;
    /// let worker = numbers.worker().start();
    /// let run = numbers.submit(["1", "two", "three"].map(String::from)).await?;
    /// assert!(run.result().await.is_err());
    /// worker.shutdown().await; // the messages have been buried then
    /// let letters = run.dead_letters().await?;
    /// let hopeless = letters.iter().filter(|letter| letter.item == Some(1));
    /// let outcome = run.discard_these(hopeless.map(|letter| letter.id())).await?;
    /// assert_eq!((outcome.discarded, outcome.passed_over), (1, 0));
    /// assert_eq!(run.dead_letters().await?.len(), 1);
    /// assert_eq!(run.status().await?.state, RunState::Failed);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) (`letter`) if a letter is another deployment's, or of a stage that this one
    /// does not have: then nothing is discarded. [`Error::Backend`](crate::Error::Backend) if a queue cannot be reached;
    /// repeating the call does the rest.
    pub async fn discard_these(
        &self,
        letters: impl IntoIterator<Item = LetterId>,
    ) -> Result<Discarded> {
        runtime::check()?;
        self.site.discard_these(Some(&self.run), letters).await
    }
}
