//! The builder: a typed chain in, a checked definition out.

mod closures;
pub(crate) mod definition;

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::compute::map::MapHolder;
use crate::compute::sink::{Discard, Encode, Fold, Only, Sink};
use crate::compute::step::MapTail;
use crate::core::error::{BoxError, Error, Result};
use crate::packet::Packet;
use crate::packet::codec::{self, Codec};
use crate::stage::kernel::{CombineKernel, MapKernel, User};
use crate::stage::{Combine, Context, Data, Execution, Map, Stage};
use closures::{
    Async, Collect, Count, FilterFn, FilterMapFn, FlatMapFn, FoldFn, Identity, MapFn, Tally,
    TryMapFn, TryReduceFn,
};
use definition::{Definition, DraftStage, StageKind};

/// The state of a [`Pipeline`] that carries items, before a reduction.
#[derive(Debug)]
pub enum Many {}

/// The state of a [`Pipeline`] that carries one value, after a reduction.
#[derive(Debug)]
pub enum One {}

/// A state in which there are items to filter or to reduce: [`Many`]. Sealed.
#[diagnostic::on_unimplemented(
    message = "a reduction has left one value here: there is nothing to filter or to reduce",
    label = "this needs items",
    note = "`map` finishes the one value; `flat_map` makes items of it again"
)]
pub trait Unreduced: private::Sealed {}
impl Unreduced for Many {}

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
    /// Adds a pure, CPU-bound function. It runs on threads for blocking work, one item of a packet
    /// at a time, so that heartbeats never starve. After a reduction it finishes the one value.
    ///
    /// A panic fails the attempt; see [`try_map`](Self::try_map) for functions that may fail.
    pub fn map<U, F>(self, function: F) -> Pipeline<I, U, S>
    where
        U: Data,
        F: Fn(O) -> U + Send + Sync + 'static,
    {
        self.map_by(MapFn::new(function))
    }

    /// Like [`map`](Self::map), for a function that may fail. An error fails the attempt, and the
    /// packet is tried again unless the error is marked by [`permanent`](crate::permanent).
    ///
    /// Accepts any error that `?` converts into `Box<dyn Error>`: error types, `String`, `&str`.
    pub fn try_map<U, E, F>(self, function: F) -> Pipeline<I, U, S>
    where
        U: Data,
        E: Into<BoxError> + 'static,
        F: Fn(O) -> Result<U, E> + Send + Sync + 'static,
    {
        self.map_by(TryMapFn::new(move |item: O, _: &Context| function(item)))
    }

    /// Like [`try_map`](Self::try_map), for a function that needs its [`Context`].
    pub fn try_map_with<U, E, F>(self, function: F) -> Pipeline<I, U, S>
    where
        U: Data,
        E: Into<BoxError> + 'static,
        F: Fn(O, &Context) -> Result<U, E> + Send + Sync + 'static,
    {
        self.map_by(TryMapFn::new(function))
    }

    /// Adds an asynchronous, I/O-bound function. The items of one packet run concurrently, up to
    /// the stage's [`concurrency`](Stage::concurrency). It may fail like that of
    /// [`try_map`](Self::try_map).
    ///
    /// ```
    /// use catchment::Pipeline;
    /// let sizes = Pipeline::new()
    ///     .then(|path: String| async move { tokio::fs::metadata(path).await.map(|m| m.len()) })
    ///     .reduce(|| 0, |a, b| a + b);
    /// ```
    pub fn then<U, E, Fut, F>(self, function: F) -> Pipeline<I, U, S>
    where
        U: Data,
        E: Into<BoxError> + 'static,
        Fut: Future<Output = Result<U, E>> + Send + 'static,
        F: Fn(O) -> Fut + Send + Sync + 'static,
    {
        self.map_by(Async::new(move |item: O, _: Context| function(item)))
    }

    /// Like [`then`](Self::then), for a function that needs its [`Context`]: the run's id and the
    /// item's index are an idempotency key for side effects.
    pub fn then_with<U, E, Fut, F>(self, function: F) -> Pipeline<I, U, S>
    where
        U: Data,
        E: Into<BoxError> + 'static,
        Fut: Future<Output = Result<U, E>> + Send + 'static,
        F: Fn(O, Context) -> Fut + Send + Sync + 'static,
    {
        self.map_by(Async::new(function))
    }

    /// Yields any number of values per item, like [`Iterator::flat_map`]. They stay in the item's
    /// packet, in order. After a reduction, the values become items again (one packet) and can be
    /// reduced again.
    pub fn flat_map<V, F>(self, function: F) -> Pipeline<I, V::Item>
    where
        V: IntoIterator + 'static,
        V::Item: Data,
        F: Fn(O) -> V + Send + Sync + 'static,
    {
        let pipeline: Pipeline<I, V::Item, S> = self.map_by(FlatMapFn::new(function));
        Pipeline {
            stages: pipeline.stages,
            last: pipeline.last,
            problem: pipeline.problem,
            codec: pipeline.codec,
            types: PhantomData,
        }
    }

    /// Adds a map stage with state of its own.
    pub fn stage<M>(self, map: M) -> Pipeline<I, M::Output, S>
    where
        M: Map<Input = O>,
    {
        self.map_by(User(map))
    }

    fn map_by<K>(mut self, map: K) -> Pipeline<I, K::Output, S>
    where
        K: MapKernel<Input = O>,
    {
        self.close(|| Arc::new(Encode));
        self.followed_by(Last::Map(Arc::new(MapHolder(Arc::new(map))), Stage::new()))
    }

    /// Sets options of the stage just added. Repeated calls accumulate; a later value replaces an
    /// earlier one.
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

    /// Sets how values are written in messages and partial results ([JSON](Codec::Json) by
    /// default).
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
}

impl<I: Data, O: Data, S> Pipeline<I, O, S> {
    /// Keeps the items for which `keep` returns true, like [`Iterator::filter`]. An item that is
    /// left out still counts as processed.
    pub fn filter<F>(self, keep: F) -> Pipeline<I, O, S>
    where
        S: Unreduced,
        F: Fn(&O) -> bool + Send + Sync + 'static,
    {
        self.map_by(FilterFn::new(keep))
    }

    /// Maps and filters in one stage, like [`Iterator::filter_map`].
    pub fn filter_map<U, F>(self, function: F) -> Pipeline<I, U, S>
    where
        S: Unreduced,
        U: Data,
        F: Fn(O) -> Option<U> + Send + Sync + 'static,
    {
        self.map_by(FilterMapFn::new(function))
    }

    /// Combines all items into one value, like rayon's `reduce`.
    ///
    /// `operator` should be associative; it need not be commutative, since values combine in item
    /// order. `identity` gives the result of empty input, and should be neutral: it may be combined
    /// with the first item of any packet.
    ///
    /// The tree's shape follows from the input's length, the packet size and the fan-in
    /// alone: the same input gives the same bits, floating point too, however many workers ran.
    pub fn reduce<ID, OP>(self, identity: ID, operator: OP) -> Pipeline<I, O, One>
    where
        S: Unreduced,
        ID: Fn() -> O + Send + Sync + 'static,
        OP: Fn(O, O) -> O + Send + Sync + 'static,
    {
        self.reduce_by(TryReduceFn::new(identity, move |a, b| Ok(operator(a, b))))
    }

    /// Like [`reduce`](Self::reduce), for an operator that may fail.
    pub fn try_reduce<E, ID, OP>(self, identity: ID, operator: OP) -> Pipeline<I, O, One>
    where
        S: Unreduced,
        E: Into<BoxError> + 'static,
        ID: Fn() -> O + Send + Sync + 'static,
        OP: Fn(O, O) -> Result<O, E> + Send + Sync + 'static,
    {
        self.reduce_by(TryReduceFn::new(identity, move |a, b| {
            operator(a, b).map_err(Into::into)
        }))
    }

    /// Reduces to another type: `step` adds the items of one packet to an accumulator, and `merge`
    /// combines accumulators. `merge` should be associative, and `step(a, x)` should equal
    /// `merge(a, step(identity(), x))`.
    ///
    /// ```
    /// # use catchment::Pipeline;
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let (sum, count) = Pipeline::new()
    ///     .map(|n: f64| n)
    ///     .fold(|| (0.0, 0u64), |(s, c), n| (s + n, c + 1), |(s, c), (t, d)| (s + t, c + d))
    ///     .run([1.0, 2.0, 6.0])
    ///     .await?;
    /// assert_eq!((sum / 3.0, count), (3.0, 3));
    /// # Ok(()) }
    /// ```
    pub fn fold<A, ID, STEP, MERGE>(
        self,
        identity: ID,
        step: STEP,
        merge: MERGE,
    ) -> Pipeline<I, A, One>
    where
        S: Unreduced,
        A: Data,
        ID: Fn() -> A + Send + Sync + 'static,
        STEP: Fn(A, O) -> A + Send + Sync + 'static,
        MERGE: Fn(A, A) -> A + Send + Sync + 'static,
    {
        self.reduce_by(FoldFn::new(identity, step, merge))
    }

    /// Collects all items into a list, in input order. The list has to fit in memory and in one
    /// message of the backend.
    pub fn collect(self) -> Pipeline<I, Vec<O>, One>
    where
        S: Unreduced,
    {
        self.reduce_by(Collect::new())
    }

    /// Counts the items.
    pub fn count(self) -> Pipeline<I, u64, One>
    where
        S: Unreduced,
    {
        self.reduce_by(Count::new())
    }

    /// Adds a reduction with state of its own, which combines a whole group at once.
    pub fn combine<C>(self, combine: C) -> Pipeline<I, C::Output, One>
    where
        S: Unreduced,
        C: Combine<Input = O>,
    {
        self.reduce_by(User(combine))
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

/// The result type of a pipeline: the value for [`One`], the number of items processed for
/// [`Many`]. Sealed.
pub trait Answer<O>: private::Sealed {
    /// The answer's type.
    type Value: Send + 'static;
    #[doc(hidden)]
    fn close<I: Data>(pipeline: Pipeline<I, O, Self>) -> private::Closed<Self::Value>
    where
        Self: Sized;
}

mod private {
    use super::{DraftStage, Extract};

    pub trait Sealed {}
    impl Sealed for super::Many {}
    impl Sealed for super::One {}

    /// A pipeline with its types erased, and the function that reads its result.
    pub struct Closed<R> {
        pub(crate) stages: Vec<DraftStage>,
        pub(crate) extract: Extract<R>,
    }
}

impl<O: Data> Answer<O> for Many {
    type Value = u64;

    fn close<I: Data>(mut pipeline: Pipeline<I, O, Many>) -> private::Closed<u64> {
        pipeline.close_with_identity(|| Arc::new(Discard));
        let step = Fold(Arc::new(Tally));
        pipeline.stages.push(DraftStage {
            options: Stage::new(),
            kind: StageKind::Reduce(Arc::new(step)),
            execution: Execution::Async,
        });
        private::Closed {
            stages: pipeline.stages,
            extract: |packet: &Packet| Ok(packet.contains),
        }
    }
}

impl<O: Data> Answer<O> for One {
    type Value = O;

    fn close<I: Data>(mut pipeline: Pipeline<I, O, One>) -> private::Closed<O> {
        pipeline.close(|| Arc::new(Only));
        private::Closed {
            stages: pipeline.stages,
            extract: |packet: &Packet| codec::decode(&packet.value, "the result"),
        }
    }
}

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
