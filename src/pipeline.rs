//! A typed chain of stages: [`Pipeline`], its states ([`Many`], [`One`]) and what they allow.

mod closures;
pub(crate) mod definition;
mod draft;
mod keyed;
mod maps;
mod reductions;
mod state;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::compute::map::Chain;
use crate::compute::sink::{Encode, Fold, Sink};
use crate::core::error::{Error, Result};
use crate::packet::Packet;
use crate::packet::codec::Codec;
use crate::progress::Progress;
use crate::stage::kernel::{AsyncKernel, CombineKernel, MapKernel};
use crate::stage::{Data, Stage};
use closures::Identity;
use definition::{Definition, StageKind};
use draft::Draft;

pub use keyed::{Grouped, Groups};
pub use state::{Answer, Keyed, Many, One, State, Unreduced};

/// A map/reduce pipeline that turns items of type `I` into values of type `O`. `S` is
/// [`Many`] before a reduction and [`One`] after it, or [`Keyed`] after one [by key](Self::group_by).
///
/// Functions in a row are one stage, and a stage is a queue: a packet's items go through `map`, `filter`, `map` without a
/// queue in between. A stage ends at a reduction, where CPU-bound functions (`map`, `try_map`, `filter`, `filter_map`,
/// `flat_map`) meet asynchronous ones (`then`), and where [`with`](Self::with) stands. Stages without a name are called
/// `map-0`, `reduce-1` and so on, by their position.
///
/// Closures may run on any worker, concurrently,
/// and more than once for the same item: they are `Fn + Send + Sync + 'static`, and share state as
/// threads do.
///
/// ```
/// use catchment::{Pipeline, Stage};
///
/// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
/// let adder = Pipeline::new()
///     .map(|n: i64| n * 2).with(Stage::named("times_two"))
///     .reduce(|| 0, |sum, n| sum + n);
/// assert_eq!(adder.run(1..=5).await?, 30);
/// # Ok(()) }
/// ```
#[must_use = "a pipeline does nothing until it is run or deployed"]
pub struct Pipeline<I, O = I, S = Many> {
    draft: Draft,
    types: PhantomData<fn(I) -> (O, S)>,
}

impl<I, O, S> Clone for Pipeline<I, O, S> {
    fn clone(&self) -> Self {
        Self {
            draft: self.draft.clone(),
            types: PhantomData,
        }
    }
}

impl<I, O, S> std::fmt::Debug for Pipeline<I, O, S> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Pipeline")
            .field("stages", &self.draft.len())
            .finish_non_exhaustive()
    }
}

impl<I: Data> Pipeline<I> {
    /// A pipeline without stages. The type of its items follows from the first stage's function.
    ///
    /// ```
    /// use catchment::Pipeline;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let count = Pipeline::<u64>::new().count();
    /// assert_eq!(count.run([7, 8, 9]).await?, 3);
    /// # Ok(()) }
    /// ```
    pub fn new() -> Self {
        Self {
            draft: Draft::new(Chain::in_turn(Arc::new(Identity::<I>::new()))),
            types: PhantomData,
        }
    }
}

impl<I: Data> Default for Pipeline<I> {
    fn default() -> Self {
        Self::new()
    }
}

impl<I: Data, O: Data, S> Pipeline<I, O, S> {
    fn map_by<K>(self, map: K) -> Pipeline<I, K::Output, S::Mapped>
    where
        S: State,
        K: MapKernel<Input = O>,
    {
        self.extended_by(Chain::in_turn(Arc::new(map)))
    }

    fn then_by<K>(self, map: K) -> Pipeline<I, K::Output, S::Mapped>
    where
        S: State,
        K: AsyncKernel<Input = O>,
    {
        self.extended_by(Chain::side_by_side(Arc::new(map)))
    }

    /// Adds a function whose inputs are this pipeline's outputs.
    fn extended_by<U>(mut self, next: Chain) -> Pipeline<I, U, S::Mapped>
    where
        S: State,
    {
        self.draft.map(next, || Arc::new(Encode::<O>::new()));
        self.retyped()
    }

    /// The same pipeline, now that its outputs are of another type or in another state.
    fn retyped<U, T>(self) -> Pipeline<I, U, T> {
        Pipeline {
            draft: self.draft,
            types: PhantomData,
        }
    }

    /// Sets options of the stage built so far, and ends it: the next function begins a stage with a queue of its own.
    /// Repeated calls accumulate; a later value replaces an earlier one.
    ///
    /// ```
    /// use catchment::{Backend, Pipeline, Stage};
    ///
    /// let sizes = Pipeline::new()
    ///     .map(|text: String| text.len())
    ///     .with(Stage::named("measure").attempts(3))
    ///     .reduce(|| 0, |a, b| a + b)
    ///     .with(Stage::named("total").fan_in(8));
    /// let sizes = sizes.deploy("sizes", Backend::memory())?;
    /// assert_eq!(sizes.stages().collect::<Vec<_>>(), ["measure", "total"]);
    /// # Ok::<(), catchment::Error>(())
    /// ```
    pub fn with(mut self, options: Stage) -> Self {
        self.draft.with(options);
        self
    }

    /// Sets how a deployment writes values in messages and partial results ([JSON](Codec::Json) by default). Inside one
    /// process, in [`run`](Self::run), nothing is written.
    ///
    /// ```
    /// use catchment::{Codec, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let double = Pipeline::new().map(|n: i64| n * 2).collect().codec(Codec::Json);
    /// assert_eq!(double.run([1, 2]).await?, [2, 4]);
    /// # Ok(()) }
    /// ```
    pub fn codec(mut self, codec: Codec) -> Self {
        self.draft.codec = codec;
        self
    }

    /// Calls `callback` with the run's [progress](Progress) while [`run`](Self::run) or one of its kind is under way: every
    /// 250 ms, unless [set otherwise](Self::progress_every), and once at the end, when everything is done or the run has
    /// failed. A later call replaces the callback.
    ///
    /// It is called by the task that drives the run, so it should return quickly, and a run's calls never overlap. If the
    /// run's future is dropped, there is no last call. A panic in the callback is logged and does not touch the run; it is
    /// not called again in that run.
    ///
    /// No number exceeds its total. Work that is delivered twice, which happens if a function outlasts the visibility timeout
    /// of its stage unnoticed, may be counted early.
    ///
    /// A deployment never calls it, because its workers may be other processes: there, [`Run::progress`](crate::Run::progress)
    /// is the way.
    ///
    /// ```
    /// use catchment::{Pipeline, Stage};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let adder = Pipeline::new()
    ///     .map(|n: i64| n * 2).with(Stage::named("double"))
    ///     .reduce(|| 0, |a, b| a + b).with(Stage::named("sum"))
    ///     .on_progress(|progress| println!("{progress}"));
    /// // The last line: double 100 of 100 · sum 5 of 5 groups
    /// assert_eq!(adder.run(1..=100).await?, 10_100);
    /// # Ok(()) }
    /// ```
    pub fn on_progress(mut self, callback: impl Fn(&Progress) + Send + Sync + 'static) -> Self {
        self.draft.listener.set_callback(callback);
        self
    }

    /// Sets the time between two calls of the callback of [`on_progress`](Self::on_progress): 250 ms by default, at least
    /// 1 ms.
    ///
    /// ```
    /// use std::time::Duration;
    /// use catchment::Pipeline;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let adder = Pipeline::new()
    ///     .map(|n: i64| n * 2)
    ///     .reduce(|| 0, |a, b| a + b)
    ///     .on_progress(|progress| eprintln!("{progress}"))
    ///     .progress_every(Duration::from_secs(5));
    /// assert_eq!(adder.run(1..=5).await?, 30);
    /// # Ok(()) }
    /// ```
    pub fn progress_every(mut self, interval: Duration) -> Self {
        self.draft.listener.set_interval(interval);
        self
    }

    fn reduce_by<K>(mut self, combine: K) -> Pipeline<I, K::Output, One>
    where
        K: CombineKernel<Input = O>,
    {
        let step = Arc::new(Fold::new(combine));
        let execution = step.execution();
        let kind = StageKind::Reduce(Arc::clone(&step) as _);
        self.draft.reduce(kind, execution, step);
        self.retyped()
    }
}

/// Reads a run's answer from the packet that is its result.
pub(crate) type Extract<R> = fn(&Packet) -> Result<R>;

impl<I: Data, O: Data, S: Answer<O>> Pipeline<I, O, S> {
    /// Checks the pipeline under `name`, and returns how to read its answer.
    pub(crate) fn define(&self, name: &str) -> Result<(Definition, Extract<S::Value>)> {
        if let Some(problem) = &self.draft.problem {
            return Err(Error::InvalidPipeline {
                problem: problem.clone(),
            });
        }
        let listener = self.draft.listener.clone();
        let closed = S::close(self.clone());
        let definition = Definition::check(name, closed.stages, listener)?;
        Ok((definition, closed.extract))
    }

    pub(crate) fn codec_of_values(&self) -> Codec {
        self.draft.codec
    }
}
