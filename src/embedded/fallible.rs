//! From a pipeline to its result inside this process, for input that may turn out to be unreadable.

use futures::Stream;

use super::run::{block_on, value};
use crate::core::error::{BoxError, Result};
use crate::deployment::run::Outcome;
use crate::pipeline::{Answer, Pipeline};
use crate::stage::Data;
use crate::submit::{TryIterSource, TryStreamSource};

impl<I: Data, O: Data, S: Answer<O>> Pipeline<I, O, S> {
    /// As [`run`](Self::run), for an iterator of results, such as the lines of a file. The first error ends the run at once:
    /// nothing more is pulled, and what the run had done is dropped. Functions may have worked on items before the error.
    ///
    /// ```
    /// use std::io::{BufRead, BufReader};
    /// use catchment::{Error, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let words = Pipeline::new()
    ///     .map(|line: String| line.split_whitespace().count())
    ///     .reduce(|| 0, |a, b| a + b);
    /// let file = std::fs::File::open("README.md")?;
    /// assert!(words.try_run(BufReader::new(file).lines()).await? > 100);
    ///
    /// let file: &[u8] = b"one\ntwo\n\xff is no text\n"; // line 2, counted from 0, cannot be read
    /// match words.try_run(file.lines()).await {
    ///     Err(Error::Input { item, source, .. }) => {
    ///         assert_eq!(item, 2);
    ///         assert_eq!(source.to_string(), "stream did not contain valid UTF-8");
    ///     }
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) with the number and the error of the item that could not be read, and as
    /// [`run`](Self::run).
    pub async fn try_run<V, E>(&self, items: V) -> Result<S::Value>
    where
        V: IntoIterator<Item = Result<I, E>>,
        E: Into<BoxError>,
    {
        value(super::run(self.embedded()?, TryIterSource::new(items)).await?).await
    }

    /// As [`try_run`](Self::try_run), for input that comes as a stream.
    ///
    /// ```
    /// use catchment::{Error, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// let pages = futures::stream::iter([Ok(1), Ok(2), Err("the connection was reset")]);
    /// let error = adder.try_run_stream(pages).await.unwrap_err();
    /// assert!(matches!(error, Error::Input { item: 2, .. }));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`try_run`](Self::try_run).
    pub async fn try_run_stream<V, E>(&self, items: V) -> Result<S::Value>
    where
        V: Stream<Item = Result<I, E>>,
        E: Into<BoxError>,
    {
        value(super::run(self.embedded()?, TryStreamSource::new(items)).await?).await
    }

    /// As [`try_run`](Self::try_run), for programs without a tokio runtime, as [`run_blocking`](Self::run_blocking) is.
    ///
    /// ```
    /// use std::io::BufRead;
    /// use catchment::Pipeline;
    ///
    /// fn main() -> Result<(), catchment::Error> {
    ///     let words = Pipeline::new()
    ///         .map(|line: String| line.split_whitespace().count())
    ///         .reduce(|| 0, |a, b| a + b);
    ///     let file: &[u8] = b"one two\nthree\n";
    ///     assert_eq!(words.try_run_blocking(file.lines())?, 3);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`try_run`](Self::try_run) and [`run_blocking`](Self::run_blocking).
    pub fn try_run_blocking<V, E>(&self, items: V) -> Result<S::Value>
    where
        V: IntoIterator<Item = Result<I, E>>,
        E: Into<BoxError>,
    {
        block_on(self.try_run(items))
    }

    /// As [`try_run`](Self::try_run), with the items that were left out, as [`run_outcome`](Self::run_outcome) returns them.
    /// An error of the input is not left out, whatever [`on_failure`](crate::Stage::on_failure) says: it ends the run.
    ///
    /// ```
    /// use std::io::BufRead;
    /// use catchment::{OnFailure, Pipeline, Stage, permanent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let sum = Pipeline::new()
    ///     .try_map(|line: String| line.parse::<u64>().map_err(permanent))
    ///     .with(Stage::named("parse").on_failure(OnFailure::Skip))
    ///     .reduce(|| 0, |a, b| a + b);
    /// let file: &[u8] = b"1\ntwo\n3\n";
    /// let outcome = sum.try_run_outcome(file.lines()).await?;
    /// assert_eq!((outcome.value, outcome.failures[0].item), (4, Some(1)));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`try_run`](Self::try_run).
    pub async fn try_run_outcome<V, E>(&self, items: V) -> Result<Outcome<S::Value>>
    where
        V: IntoIterator<Item = Result<I, E>>,
        E: Into<BoxError>,
    {
        let run = super::run(self.embedded()?, TryIterSource::new(items)).await?;
        run.outcome().await
    }

    /// As [`try_run_outcome`](Self::try_run_outcome), for input that comes as a stream.
    ///
    /// ```
    /// use catchment::{Error, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// let pages = futures::stream::iter([1, 2, 3].map(Ok::<_, std::io::Error>));
    /// let outcome = adder.try_run_stream_outcome(pages).await?;
    /// assert_eq!((outcome.value, outcome.items), (12, 3));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`try_run`](Self::try_run).
    pub async fn try_run_stream_outcome<V, E>(&self, items: V) -> Result<Outcome<S::Value>>
    where
        V: Stream<Item = Result<I, E>>,
        E: Into<BoxError>,
    {
        let run = super::run(self.embedded()?, TryStreamSource::new(items)).await?;
        run.outcome().await
    }

    /// As [`try_run_outcome`](Self::try_run_outcome), for programs without a tokio runtime, as
    /// [`run_blocking`](Self::run_blocking) is.
    ///
    /// ```
    /// use std::io::BufRead;
    /// use catchment::Pipeline;
    ///
    /// fn main() -> Result<(), catchment::Error> {
    ///     let lines = Pipeline::new().map(|line: String| line.len()).count();
    ///     let file: &[u8] = b"one two\nthree\n";
    ///     assert_eq!(lines.try_run_blocking_outcome(file.lines())?.value, 2);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`try_run`](Self::try_run) and [`run_blocking`](Self::run_blocking).
    pub fn try_run_blocking_outcome<V, E>(&self, items: V) -> Result<Outcome<S::Value>>
    where
        V: IntoIterator<Item = Result<I, E>>,
        E: Into<BoxError>,
    {
        block_on(self.try_run_outcome(items))
    }
}
