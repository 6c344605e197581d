//! A typed chain of stages: [`Pipeline`], its states ([`Many`], [`One`]) and what they allow.

mod closures;
pub(crate) mod definition;
mod maps;
mod reductions;
mod state;

use std::marker::PhantomData;
use std::sync::Arc;

use crate::compute::map::MapHolder;
use crate::compute::sink::{Encode, Fold, Sink};
use crate::compute::step::MapTail;
use crate::core::error::{Error, Result};
use crate::packet::Packet;
use crate::packet::codec::Codec;
use crate::stage::kernel::{CombineKernel, MapKernel};
use crate::stage::{Data, Stage};
use closures::Identity;
use definition::{Definition, DraftStage, StageKind};

pub use state::{Answer, Many, One, Unreduced};

/// A map/reduce pipeline that turns items of type `I` into values of type `O`. `S` is
/// [`Many`] before a reduction and [`One`] after it.
///
/// Each call adds a stage with a queue of its own. Closures may run on any worker, concurrently,
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
    stages: Vec<DraftStage>,
    last: Last<O>,
    problem: Option<String>,
    pub(crate) codec: Codec,
    types: PhantomData<fn(I) -> S>,
}

/// The stage added last, whose outputs have no destination yet.
enum Last<O> {
    None(fn() -> Arc<dyn MapTail<O>>),
    Map(Arc<dyn MapTail<O>>, Stage),
    Reduced(DraftStage),
}

impl<O> Clone for Last<O> {
    fn clone(&self) -> Self {
        match self {
            Self::None(identity) => Self::None(*identity),
            Self::Map(tail, options) => Self::Map(Arc::clone(tail), options.clone()),
            Self::Reduced(stage) => Self::Reduced(stage.clone()),
        }
    }
}

impl<I, O, S> Clone for Pipeline<I, O, S> {
    fn clone(&self) -> Self {
        Self {
            stages: self.stages.clone(),
            last: self.last.clone(),
            problem: self.problem.clone(),
            codec: self.codec,
            types: PhantomData,
        }
    }
}

impl<I, O, S> std::fmt::Debug for Pipeline<I, O, S> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let last = usize::from(!matches!(self.last, Last::None(_)));
        formatter
            .debug_struct("Pipeline")
            .field("stages", &(self.stages.len() + last))
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
            stages: Vec::new(),
            last: Last::None(|| Arc::new(MapHolder(Arc::new(Identity::<I>::new())))),
            problem: None,
            codec: Codec::default(),
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
    fn map_by<K>(mut self, map: K) -> Pipeline<I, K::Output, S>
    where
        K: MapKernel<Input = O>,
    {
        self.close(|| Arc::new(Encode));
        self.followed_by(Last::Map(Arc::new(MapHolder(Arc::new(map))), Stage::new()))
    }

    /// Sets options of the stage just added. Repeated calls accumulate; a later value replaces an earlier one.
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
        match &mut self.last {
            Last::None(_) => {
                self.problem = Some("`with` stands before the first stage, so there is no stage that its options could belong to".into());
            }
            Last::Map(_, earlier) => *earlier = options.over(std::mem::take(earlier)),
            Last::Reduced(stage) => {
                stage.options = options.over(std::mem::take(&mut stage.options));
            }
        }
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
        self.codec = codec;
        self
    }

    /// Records the last stage, now that the destination of its outputs is known.
    fn close(&mut self, sink: impl Fn() -> Arc<dyn Sink<O>>) {
        match &self.last {
            Last::None(_) => {}
            Last::Map(tail, options) => self.stages.push(DraftStage {
                options: options.clone(),
                kind: StageKind::Map(tail.finish(sink())),
                execution: tail.execution(),
            }),
            Last::Reduced(stage) => self.stages.push(stage.clone()),
        }
    }

    fn followed_by<U, T>(self, last: Last<U>) -> Pipeline<I, U, T> {
        Pipeline {
            stages: self.stages,
            last,
            problem: self.problem,
            codec: self.codec,
            types: PhantomData,
        }
    }

    fn reduce_by<K>(mut self, combine: K) -> Pipeline<I, K::Output, One>
    where
        K: CombineKernel<Input = O>,
    {
        let step = Arc::new(Fold(Arc::new(combine)));
        self.close_with_identity(|| step.clone());
        let execution = Sink::<O>::execution(step.as_ref());
        self.followed_by(Last::Reduced(DraftStage {
            options: Stage::new(),
            kind: StageKind::Reduce(step),
            execution,
        }))
    }

    /// Like `close`; a pipeline without any stage gets one that passes items on unchanged.
    fn close_with_identity(&mut self, sink: impl Fn() -> Arc<dyn Sink<O>>) {
        if let Last::None(identity) = &self.last {
            self.last = Last::Map(identity(), Stage::new());
        }
        self.close(sink);
    }
}

/// Reads a run's answer from the packet that is its result.
pub(crate) type Extract<R> = fn(&Packet) -> Result<R>;

impl<I: Data, O: Data, S: Answer<O>> Pipeline<I, O, S> {
    /// Checks the pipeline under `name`, and returns how to read its answer.
    pub(crate) fn define(&self, name: &str) -> Result<(Definition, Extract<S::Value>)> {
        if let Some(problem) = &self.problem {
            return Err(Error::InvalidPipeline {
                problem: problem.clone(),
            });
        }
        let closed = S::close(self.clone());
        Ok((Definition::check(name, closed.stages)?, closed.extract))
    }
}
