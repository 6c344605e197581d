//! From a pipeline to its result and what the result stands for, inside this process.

use super::run::block_on;
use crate::core::error::Result;
use crate::deployment::run::Outcome;
use crate::pipeline::{Answer, Pipeline};
use crate::stage::Data;
use crate::submit::{IterSource, StreamSource};

impl<I: Data, O: Data, S: Answer<O>> Pipeline<I, O, S> {
    /// As [`run`](Self::run), with the items that [`on_failure`](crate::Stage::on_failure) has left out: how many there
    /// are, and the failures of the first hundred.
    ///
    /// ```
    /// use catchment::{OnFailure, Pipeline, Stage, permanent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let sum = Pipeline::new()
    ///     .try_map(|text: String| text.parse::<u64>().map_err(permanent))
    ///     .with(Stage::named("parse").on_failure(OnFailure::Skip))
    ///     .reduce(|| 0, |a, b| a + b);
    /// let outcome = sum.run_outcome(["1", "two", "3"].map(String::from)).await?;
    /// assert_eq!((outcome.value, outcome.contains, outcome.skipped), (4, 2, 1));
    /// for failure in &outcome.failures {
    ///     println!("{failure}"); // stage `parse`, packet 1, item 1: invalid digit found in string
    /// }
    /// assert_eq!(outcome.failures[0].item, Some(1));
    /// assert_eq!(outcome.more_failures, 0); // all are listed
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_outcome<V>(&self, items: V) -> Result<Outcome<S::Value>>
    where
        V: IntoIterator<Item = I>,
    {
        let run = super::run(self.embedded()?, IterSource::new(items)).await?;
        run.outcome().await
    }

    /// As [`run_outcome`](Self::run_outcome), for input that comes as a stream.
    ///
    /// ```
    /// use catchment::Pipeline;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// let outcome = adder.run_stream_outcome(futures::stream::iter(1..=5)).await?;
    /// assert_eq!((outcome.value, outcome.items, outcome.skipped), (30, 5, 0));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_stream_outcome<V>(&self, items: V) -> Result<Outcome<S::Value>>
    where
        V: futures::Stream<Item = I>,
    {
        let run = super::run(self.embedded()?, StreamSource::new(items)).await?;
        run.outcome().await
    }

    /// As [`run_outcome`](Self::run_outcome), for programs without a tokio runtime, as
    /// [`run_blocking`](Self::run_blocking) is.
    ///
    /// ```
    /// use catchment::Pipeline;
    ///
    /// fn main() -> Result<(), catchment::Error> {
    ///     let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    ///     let outcome = adder.run_blocking_outcome(1..=5)?;
    ///     assert_eq!((outcome.value, outcome.items, outcome.skipped), (30, 5, 0));
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`run_blocking`](Self::run_blocking).
    pub fn run_blocking_outcome<V>(&self, items: V) -> Result<Outcome<S::Value>>
    where
        V: IntoIterator<Item = I>,
    {
        block_on(self.run_outcome(items))
    }
}
