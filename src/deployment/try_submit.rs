//! Submitting input that may turn out to be unreadable.

use futures::Stream;

use super::Deployment;
use super::run::Run;
use crate::core::error::{BoxError, Result};
use crate::core::id::RunId;
use crate::stage::Data;
use crate::submit::{TryIterSource, TryStreamSource};

impl<I: Data, R: Send + 'static> Deployment<I, R> {
    /// Submits an iterator of results, such as the lines of a file, as [`submit`](Self::submit) does plain items. The first
    /// error ends the submission: nothing more is pulled, and the run is cancelled. Workers may have processed items before
    /// the error.
    ///
    /// ```
    /// use std::io::BufRead;
    /// use catchment::{Backend, Error, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let words = Pipeline::new()
    ///     .map(|line: String| line.split_whitespace().count())
    ///     .reduce(|| 0, |a, b| a + b);
    /// let words = words.deploy("words", Backend::memory())?;
    /// let _worker = words.worker().start();
    /// let file: &[u8] = b"one two\nthree\n";
    /// let run = words.try_submit(file.lines()).await?;
    /// assert_eq!(run.result().await?, 3);
    ///
    /// let file: &[u8] = b"one two\nthree\n\xff is no text\n";
    /// let error = words.try_submit(file.lines()).await.unwrap_err();
    /// assert!(matches!(error, Error::Input { item: 2, .. }));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) with the number and the error of the item that could not be read, and as
    /// [`submit`](Self::submit).
    pub async fn try_submit<V, E>(&self, items: V) -> Result<Run<R>>
    where
        V: IntoIterator<Item = Result<I, E>>,
        E: Into<BoxError>,
    {
        self.submit_from(None, TryIterSource::new(items)).await
    }

    /// Submits an iterator of results under an id of the caller's, as [`submit_as`](Self::submit_as) does plain items. The
    /// first error ends the submission and leaves the run open: submitting the items under the id again, from the first one
    /// on, completes it, and sends nothing again that is on record as sent. Until then, waiters for a run that the broken
    /// submission began see it fail with the input's error.
    ///
    /// ```
    /// use catchment::{Backend, Error, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// let adder = adder.deploy("adder", Backend::memory())?;
    /// let _worker = adder.worker().start();
    /// let broken = [Ok(1), Ok(2), Err("the disk was unplugged"), Ok(4)];
    /// let error = adder.try_submit_as("numbers", broken).await.unwrap_err();
    /// assert!(matches!(error, Error::Input { item: 2, .. }));
    ///
    /// let whole = [1, 2, 3, 4].map(Ok::<_, std::io::Error>);
    /// let run = adder.try_submit_as("numbers", whole).await?;
    /// assert_eq!(run.result().await?, 20);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`try_submit`](Self::try_submit) and [`submit_as`](Self::submit_as).
    pub async fn try_submit_as<V, E>(&self, id: impl Into<RunId>, items: V) -> Result<Run<R>>
    where
        V: IntoIterator<Item = Result<I, E>>,
        E: Into<BoxError>,
    {
        let items = TryIterSource::new(items);
        self.submit_from(Some(id.into()), items).await
    }

    /// Submits a stream of results, as [`try_submit`](Self::try_submit) does an iterator of them.
    ///
    /// ```
    /// use catchment::{Backend, Error, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// let adder = adder.deploy("adder", Backend::memory())?;
    /// let pages = futures::stream::iter([Ok(1), Ok(2), Err("the connection was reset")]);
    /// let error = adder.try_submit_stream(pages).await.unwrap_err();
    /// assert_eq!(error.to_string(), "cannot read item 2 of the input");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`try_submit`](Self::try_submit).
    pub async fn try_submit_stream<V, E>(&self, items: V) -> Result<Run<R>>
    where
        V: Stream<Item = Result<I, E>>,
        E: Into<BoxError>,
    {
        self.submit_from(None, TryStreamSource::new(items)).await
    }

    /// Submits a stream of results under an id of the caller's, as [`try_submit_as`](Self::try_submit_as) does an iterator of
    /// them.
    ///
    /// ```
    /// use catchment::{Backend, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// let adder = adder.deploy("adder", Backend::memory())?;
    /// let _worker = adder.worker().start();
    /// let broken = futures::stream::iter([Ok(1), Err("the connection was reset"), Ok(3)]);
    /// assert!(adder.try_submit_stream_as("pages", broken).await.is_err());
    ///
    /// let whole = futures::stream::iter([1, 2, 3].map(Ok::<_, std::io::Error>));
    /// let run = adder.try_submit_stream_as("pages", whole).await?;
    /// assert_eq!(run.result().await?, 12);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`try_submit_as`](Self::try_submit_as).
    pub async fn try_submit_stream_as<V, E>(&self, id: impl Into<RunId>, items: V) -> Result<Run<R>>
    where
        V: Stream<Item = Result<I, E>>,
        E: Into<BoxError>,
    {
        let items = TryStreamSource::new(items);
        self.submit_from(Some(id.into()), items).await
    }
}
