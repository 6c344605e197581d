//! From a pipeline to its result, inside this process.

use std::sync::Arc;

use super::bundle::Bundles;
use crate::core::error::Result;
use crate::core::runtime;
use crate::deployment::run::Run;
use crate::deployment::{Backend, Deployment};
use crate::packet::carrier::Carrier;
use crate::pipeline::{Answer, Pipeline};
use crate::stage::Data;
use crate::submit::{IterSource, StreamSource};

impl<I: Data, O: Data, S: Answer<O>> Pipeline<I, O, S> {
    /// Runs the pipeline inside this process over a backend of its own: queues, scratchpad and
    /// workers live as long as the run. Memory is bounded by what is in flight, not by the input.
    ///
    /// Nothing leaves the process, so values are not encoded, whatever [`codec`](Self::codec) the pipeline has: NaN, map
    /// keys that are tuples and `Some(None)` work. A deployment encodes, over [`Backend::memory`] too: a test of what a
    /// service will do deploys.
    ///
    /// Each delivery of a packet gets a clone of its items.
    ///
    /// Items that [`on_failure`](crate::Stage::on_failure) leaves out are logged as one warning with their number;
    /// [`run_outcome`](Self::run_outcome) returns them. Input that may turn out to be unreadable, such as the lines of a
    /// file, goes into [`try_run`](Self::try_run).
    ///
    /// Dropping the future stops the run.
    ///
    /// ```
    /// use catchment::Pipeline;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// assert_eq!(adder.run(1..=5).await?, 30);
    /// // Without a reduction, the number of items processed.
    /// let printer = Pipeline::new().map(|n: i64| println!("{n}"));
    /// assert_eq!(printer.run(1..=5).await?, 5);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidPipeline`](crate::Error::InvalidPipeline), as [`deploy`](Self::deploy); [`Error::Failed`](crate::Error::Failed), at once, when an item
    /// cannot be processed; [`Error::NoRuntime`](crate::Error::NoRuntime) outside of a tokio runtime that has timers;
    /// [`Error::LostThreads`](crate::Error::LostThreads) if too many functions do not return, four per core.
    pub async fn run<V>(&self, items: V) -> Result<S::Value>
    where
        V: IntoIterator<Item = I>,
    {
        value(super::run(self.embedded()?, IterSource::new(items)).await?).await
    }

    /// As [`run`](Self::run), for programs without a tokio runtime: it brings its own, of one thread, and blocks the caller
    /// until the run has ended. CPU-bound functions have their threads as in [`run`](Self::run).
    ///
    /// ```
    /// use catchment::Pipeline;
    ///
    /// fn main() -> Result<(), catchment::Error> {
    ///     let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    ///     assert_eq!(adder.run_blocking(1..=5)?, 30);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run), and [`Error::NoRuntime`](crate::Error::NoRuntime) inside of a tokio runtime, a thread of which
    /// it would block.
    pub fn run_blocking<V>(&self, items: V) -> Result<S::Value>
    where
        V: IntoIterator<Item = I>,
    {
        block_on(self.run(items))
    }

    /// As [`run`](Self::run), for input that comes as a stream.
    ///
    /// ```
    /// use catchment::Pipeline;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// assert_eq!(adder.run_stream(futures::stream::iter(1..=5)).await?, 30);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_stream<V>(&self, items: V) -> Result<S::Value>
    where
        V: futures::Stream<Item = I>,
    {
        value(super::run(self.embedded()?, StreamSource::new(items)).await?).await
    }

    /// As [`run`](Self::run), over queues and a scratchpad that may misbehave.
    #[doc(hidden)]
    #[cfg(feature = "testing")]
    pub async fn run_over<V>(&self, backend: Backend, items: V) -> Result<S::Value>
    where
        V: IntoIterator<Item = I>,
    {
        let items = IterSource::new(items);
        value(super::run(self.embedded_over(backend)?, items).await?).await
    }

    pub(super) fn embedded(&self) -> Result<Deployment<I, S::Value>> {
        self.embedded_over(Backend::memory())
    }

    fn embedded_over(&self, backend: Backend) -> Result<Deployment<I, S::Value>> {
        let bundles = Arc::<Bundles>::default();
        self.carried("embedded", backend, Carrier::local(), Some(bundles))
    }
}

/// The value of a run that is done. A warning says how many items were left out of it.
pub(super) async fn value<R>(run: Run<R>) -> Result<R> {
    let outcome = run.counted().await?;
    if outcome.skipped > 0 {
        tracing::warn!(
            skipped = outcome.skipped,
            items = outcome.items,
            "items were left out of the result: the method of the same name that ends in `_outcome`, such as `Pipeline::run_outcome`, returns them with their errors"
        );
    }
    Ok(outcome.value)
}

/// Waits for a run on a runtime of its own.
///
/// # Errors
/// [`Error::NoRuntime`](crate::Error::NoRuntime) inside of a runtime.
pub(super) fn block_on<T>(run: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = runtime::own()?;
    let result = runtime.block_on(run);
    // A blocking task that a function has left does not keep the caller.
    runtime.shutdown_background();
    result
}
