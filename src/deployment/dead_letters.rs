//! The dead letters of a deployment, of all its runs: listed, put back and removed.

use std::collections::HashSet;
use std::sync::Arc;

use super::Deployment;
use super::dead_letter::{DeadLetter, Discarded, LetterId, Redriving};
use super::listing::Listing;
use crate::core::error::Result;
use crate::core::runtime;

impl<I, R> Deployment<I, R> {
    /// The dead letters of this deployment, of all runs, stage after stage: what to look at when something failed. In
    /// pages of 100 unless [set otherwise](Listing::limit), and of fewer if their messages are large: those of a page take
    /// less than twice [`PAGE_BYTES`](crate::queue::PAGE_BYTES), unless one alone is larger.
    ///
    /// A queue service that cannot go on where it left off, such as Amazon SQS, returns some of a stage's letters, up to
    /// the page's limit, and says by [`truncated`](crate::Page::truncated) that there may be more: set a higher limit, or
    /// [redrive](Self::redrive) or [discard](Self::discard_these) these first. [`next`](crate::Page::next) then leads to
    /// the next stage.
    ///
    /// # Errors
    /// [`Error::Backend`](crate::Error::Backend) if a queue cannot be read.
    pub fn dead_letters(&self) -> Listing<DeadLetter> {
        let site = Arc::clone(&self.site);
        Listing::new(move |cursor, limit| {
            let site = Arc::clone(&site);
            async move {
                let letters = site.dead_letters(None, cursor.as_ref(), limit).await?;
                Ok(letters.map(|(_, letter)| letter))
            }
        })
    }

    /// Puts the dead letters of all runs back on their queues, as [`Run::redrive`](crate::Run::redrive) does with those of
    /// one, and returns how many went back. Messages that belong to no run go back, too. It does not wait for dead letters
    /// that are only on record yet.
    ///
    /// ```
    /// use catchment::{Backend, Pipeline, permanent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let numbers = Pipeline::new()
    ///     .try_map(|text: String| text.parse::<u64>().map_err(permanent))
    ///     .reduce(|| 0, |a, b| a + b);
    /// let numbers = numbers.deploy("numbers", Backend::memory())?;
    /// let worker = numbers.worker().start();
    /// for id in ["monday", "tuesday"] {
    ///     let run = numbers.submit_as(id, ["two".to_owned()]).await?;
    ///     assert!(run.result().await.is_err());
    /// }
    /// worker.shutdown().await; // the messages have been buried then
    /// assert_eq!(numbers.redrive().await?, 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Backend`](crate::Error::Backend) if a queue or the scratchpad cannot be reached; repeating the call does
    /// the rest.
    pub async fn redrive(&self) -> Result<usize> {
        runtime::check()?;
        let mut redriving = Redriving::new(HashSet::new());
        self.site.redrive(None, &mut redriving).await?;
        Ok(redriving.count)
    }

    /// Removes the dead letters of all runs for good. What that means for a run, and what a call that breaks off leaves
    /// behind, is said at [`Run::discard`](crate::Run::discard).
    ///
    /// ```
    /// use catchment::{Backend, Pipeline, permanent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let numbers = Pipeline::new()
    ///     .try_map(|text: String| text.parse::<u64>().map_err(permanent))
    ///     .reduce(|| 0, |a, b| a + b);
    /// let numbers = numbers.deploy("numbers", Backend::memory())?;
    /// let worker = numbers.worker().start();
    /// for id in ["monday", "tuesday"] {
    ///     let run = numbers.submit_as(id, ["two".to_owned()]).await?;
    ///     assert!(run.result().await.is_err());
    /// }
    /// worker.shutdown().await; // the messages have been buried then
    /// let outcome = numbers.discard().await?;
    /// assert_eq!((outcome.discarded, outcome.more), (2, false));
    /// assert!(numbers.dead_letters().await?.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Backend`](crate::Error::Backend) if a queue cannot be reached; repeating the call does the rest.
    pub async fn discard(&self) -> Result<Discarded> {
        runtime::check()?;
        self.site.discard(None).await
    }

    /// Removes some dead letters for good, of any run and of none. Those that are gone already are passed over.
    ///
    /// ```
    /// use catchment::{Backend, LetterId, Pipeline, permanent};
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
    /// // An id is text, and may have come from another process.
    /// let text = numbers.dead_letters().limit(1).await?[0].id().to_string();
    /// let outcome = numbers.discard_these([text.parse::<LetterId>()?]).await?;
    /// assert_eq!((outcome.discarded, outcome.passed_over), (1, 0));
    /// let again = numbers.discard_these([text.parse::<LetterId>()?]).await?;
    /// assert_eq!((again.discarded, again.passed_over), (0, 1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Run::discard_these`](crate::Run::discard_these).
    pub async fn discard_these(
        &self,
        letters: impl IntoIterator<Item = LetterId>,
    ) -> Result<Discarded> {
        runtime::check()?;
        self.site.discard_these(None, letters).await
    }
}
