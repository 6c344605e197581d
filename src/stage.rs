//! Stages: their options, and the two traits that users implement for stages with state of their
//! own.

pub(crate) mod kernel;
mod label;
mod options;
mod problem;
mod share;

use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::error::BoxError;
use crate::core::id::RunId;

pub(crate) use label::{ItemType, Labeller};
pub use options::{OnFailure, Stage};
pub(crate) use options::{Place, RateLimit, StageOptions};

/// A value that a pipeline can carry from stage to stage: any type that serde can write and read
/// back, that can be cloned, owns its data and may be shared between threads. Implemented for every
/// such type.
///
/// # Inside one process
/// In [`Pipeline::run`](crate::Pipeline::run) a value travels as it is. Each delivery of a packet
/// gets a clone of its items, since it need not be the last, and so does each reader of a partial
/// result and of the result. Nothing is encoded, so no limit of a format holds. A value's
/// `Serialize` has one use there: of values that own memory on the heap, some are visited to
/// estimate how much is in flight. Whatever it answers, the values stay as they are.
///
/// # Deployed
/// A [`Deployment`](crate::Deployment) encodes every value in its [`Codec`](crate::Codec), over
/// [`Backend::memory`](crate::Backend::memory) too. A value is then what its own `Serialize` and
/// `Deserialize` make of it, and some attributes of serde cannot keep it:
///
/// - `#[serde(untagged)]`, an internal tag (`tag = ".."` without `content`) and `#[serde(flatten)]`
///   have serde read a value before its type is known. No `u128` or `i128` can be read inside of
///   them: an untagged `enum Amount { N(u128), F(f64) }` writes `N(1)` and comes back as `F(1.0)`.
///   Nor can the keys of a map that are numbers or `bool`, which JSON writes as text.
/// - Of two untagged variants that are written alike, the first one is read.
/// - A field under `#[serde(skip)]` has its default value when it is read.
///
/// ```
/// use catchment::Pipeline;
///
/// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
/// // JSON has no infinity, and writes `None` in its place. Here nothing is written.
/// let largest = Pipeline::new()
///     .map(|n: f64| Some(1.0 / n))
///     .reduce(|| None, |a, b| if a > b { a } else { b });
/// assert_eq!(largest.run([1.0, 0.0, 2.0]).await?, Some(f64::INFINITY));
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel between stages",
    label = "this value would have to be written to a queue and read back",
    note = "derive `Clone`, `serde::Serialize` and `serde::Deserialize` for it; it must own its data and be `Send` and `Sync`"
)]
pub trait Data: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Data for T {}

/// Where the engine runs a stage's function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// On the runtime's asynchronous threads, the items of one packet concurrently. For I/O.
    Async,
    /// On threads for blocking work, one item at a time, so that heartbeats never starve. The
    /// future should be ready at once. For CPU-bound work.
    Blocking,
}

/// The current invocation of a stage's function: its run, stage, item and attempt number. The run
/// and the item together are an idempotency key for side effects.
#[derive(Clone, Debug)]
pub struct Context {
    shared: Arc<Shared>,
    pub(crate) item: Option<u64>,
}

#[derive(Debug)]
struct Shared {
    run: RunId,
    stage: Arc<str>,
    attempt: u32,
}

impl Context {
    pub(crate) fn new(run: RunId, stage: Arc<str>, attempt: u32) -> Self {
        Self {
            shared: Arc::new(Shared {
                run,
                stage,
                attempt,
            }),
            item: None,
        }
    }

    pub(crate) fn at(&self, item: Option<u64>) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            item,
        }
    }

    /// The run.
    pub fn run(&self) -> &RunId {
        &self.shared.run
    }

    /// The stage's name.
    pub fn stage(&self) -> &str {
        &self.shared.stage
    }

    /// The index in the array, from 0, of the current item or of the item it came from. `None` when
    /// partial results are combined, and after a reduction.
    pub fn item(&self) -> Option<u64> {
        self.item
    }

    /// The attempt number: 1 for the message's first delivery.
    pub fn attempt(&self) -> u32 {
        self.shared.attempt
    }
}

/// Collects the values that a [`Map`] makes of an item.
#[derive(Debug)]
pub struct Emitter<'a, T> {
    pub(crate) values: &'a mut Vec<T>,
}

impl<T> Emitter<'_, T> {
    /// Adds one value.
    pub fn push(&mut self, value: T) {
        self.values.push(value);
    }
}

impl<T> Extend<T> for Emitter<'_, T> {
    fn extend<V: IntoIterator<Item = T>>(&mut self, values: V) {
        self.values.extend(values);
    }
}

/// A stage that works on items: asynchronous, fallible, with state of its own. For a function
/// without state there are [`Pipeline::map`](crate::Pipeline::map), [`then`](crate::Pipeline::then)
/// and the other methods that take a closure.
///
/// It may run more than once for the same item, after a failure or on another worker; only one of
/// the outcomes counts. Its future may be dropped at any await and must be safe to drop there.
///
/// ```
/// use catchment::{BoxError, Context, Emitter, Map, Pipeline};
///
/// /// Splits text into words no longer than the limit.
/// struct Words { limit: usize }
///
/// impl Map for Words {
///     type Input = String;
///     type Output = String;
///
///     async fn map(
///         &self,
///         text: String,
///         _context: &Context,
///         words: &mut Emitter<'_, String>,
///     ) -> Result<(), BoxError> {
///         words.extend(text.split_whitespace().filter(|w| w.len() <= self.limit).map(str::to_owned));
///         Ok(())
///     }
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
/// let count = Pipeline::new().stage(Words { limit: 4 }).count();
/// assert_eq!(count.run(["rain falls".to_string(), "downhill".to_string()]).await?, 1);
/// # Ok(()) }
/// ```
pub trait Map: Send + Sync + 'static {
    /// The type of an item.
    type Input: Data;
    /// The type of the values made of an item, of which there may be any number.
    type Output: Data;

    /// Works on one item. Values emitted before an error are discarded.
    fn map(
        &self,
        item: Self::Input,
        context: &Context,
        output: &mut Emitter<'_, Self::Output>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Where it runs: [`Execution::Async`] by default.
    fn execution(&self) -> Execution {
        Execution::Async
    }
}

/// The outputs of one packet, in item order, for [`Combine::fold`].
#[derive(Debug)]
pub struct Items<'a, T> {
    pub(crate) values: &'a mut std::vec::IntoIter<T>,
    /// How many of `values` belong to this packet.
    pub(crate) left: usize,
    pub(crate) progress: &'a Progress,
}

impl<T> Iterator for Items<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        let value = self.values.next()?;
        self.progress.set(self.progress.begun() + 1);
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }

    #[inline]
    fn fold<B, F: FnMut(B, T) -> B>(self, initial: B, mut step: F) -> B {
        let whole = self.fold_while(initial, |folded, item| {
            Ok::<_, std::convert::Infallible>(step(folded, item))
        });
        let Ok(whole) = whole;
        whole
    }
}

/// These are the innermost loops. They move the iterator into a local, because the atomic store to
/// `progress` would otherwise force a reload through the reference on every item. If the function
/// panics, the remaining items are put back.
impl<T> Items<'_, T> {
    /// Like `try_fold`, but consumes `self`.
    #[inline]
    pub(crate) fn fold_while<B, E>(
        self,
        initial: B,
        mut step: impl FnMut(B, T) -> Result<B, E>,
    ) -> Result<B, E> {
        let mut begun = self.progress.begun();
        let mut values = Borrowed::take(self.values);
        let mut folded = initial;
        for item in values.own.by_ref().take(self.left) {
            begun += 1;
            self.progress.set(begun);
            folded = step(folded, item)?;
        }
        Ok(folded)
    }

    /// Appends `function(item)` for every item.
    #[inline]
    pub(crate) fn map_into<O>(self, outputs: &mut Vec<O>, mut function: impl FnMut(T) -> O) {
        let mut begun = self.progress.begun();
        let mut values = Borrowed::take(self.values);
        outputs.extend(values.own.by_ref().take(self.left).map(move |item| {
            begun += 1;
            self.progress.set(begun);
            function(item)
        }));
    }
}

/// An iterator that was moved into a local, and goes back when the local is dropped.
struct Borrowed<'a, T> {
    place: &'a mut std::vec::IntoIter<T>,
    own: std::vec::IntoIter<T>,
}

impl<'a, T> Borrowed<'a, T> {
    #[inline]
    fn take(place: &'a mut std::vec::IntoIter<T>) -> Self {
        let own = std::mem::take(place);
        Self { place, own }
    }
}

impl<T> Drop for Borrowed<'_, T> {
    #[inline]
    fn drop(&mut self) {
        std::mem::swap(self.place, &mut self.own);
    }
}

impl<T> ExactSizeIterator for Items<'_, T> {}

/// The progress of one packet's work, so that a panic or a timeout can name its item.
#[derive(Debug, Default)]
pub(crate) struct Progress(std::sync::atomic::AtomicUsize);

impl Progress {
    /// Flag: the current work does not belong to the item begun last.
    const PAUSED: usize = 1 << (usize::BITS - 1);

    /// Records that `begun` items have been begun. Only one thread writes, so no atomic addition is
    /// needed.
    #[inline]
    pub(crate) fn set(&self, begun: usize) {
        self.0.store(begun, std::sync::atomic::Ordering::Relaxed);
    }

    pub(crate) fn reset(&self) {
        self.0.store(0, std::sync::atomic::Ordering::Relaxed);
    }

    /// Until the next item begins, work does not belong to the item begun last.
    pub(crate) fn pause(&self) {
        self.set(self.begun() | Self::PAUSED);
    }

    /// How many items have been begun.
    #[inline]
    pub(crate) fn begun(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::Relaxed) & !Self::PAUSED
    }

    /// The position of the current item in its packet.
    pub(crate) fn at(&self) -> Option<usize> {
        let begun = self.0.load(std::sync::atomic::Ordering::Relaxed);
        match begun & Self::PAUSED {
            0 => begun.checked_sub(1),
            _ => None,
        }
    }
}

/// A reduction: asynchronous, fallible, with state of its own. For one without state there are
/// [`Pipeline::reduce`](crate::Pipeline::reduce), [`fold`](crate::Pipeline::fold),
/// [`collect`](crate::Pipeline::collect) and [`count`](crate::Pipeline::count).
///
/// # Algebra
/// [`combine`](Combine::combine) should be associative over neighbours: combining `[a, b]` and then
/// the outcome with `c` gives the same as combining `[a, b, c]` at once. It need not be
/// commutative: values always arrive in item order. The result does not depend on the number of
/// workers, even if `combine` is not associative (floating-point sums): it is the same bit for bit
/// for the same input, packet size and fan-in, since the tree's shape follows from those alone.
///
/// ```
/// use catchment::{BoxError, Combine, Context, Items, Pipeline};
///
/// /// Merges sorted runs, a whole group in one pass.
/// struct MergeSort;
///
/// impl Combine for MergeSort {
///     type Input = u32;
///     type Output = Vec<u32>;
///
///     fn identity(&self) -> Vec<u32> { Vec::new() }
///
///     async fn fold(&self, items: Items<'_, u32>, _: &Context) -> Result<Vec<u32>, BoxError> {
///         let mut sorted: Vec<u32> = items.collect();
///         sorted.sort_unstable();
///         Ok(sorted)
///     }
///
///     async fn combine(&self, group: Vec<Vec<u32>>, _: &Context) -> Result<Vec<u32>, BoxError> {
///         let mut merged = group.concat();
///         merged.sort(); // finds the sorted runs and merges them
///         Ok(merged)
///     }
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
/// let sorted = Pipeline::new().map(|n: u32| n % 7).combine(MergeSort).run(0..9).await?;
/// assert_eq!(sorted, [0, 0, 1, 1, 2, 3, 4, 5, 6]);
/// # Ok(()) }
/// ```
pub trait Combine: Send + Sync + 'static {
    /// The output type of the stage before.
    type Input: Data;
    /// The type of a partial result, and of the result.
    type Output: Data;

    /// The result if there is nothing to combine: for empty input, or if every item was filtered
    /// out.
    fn identity(&self) -> Self::Output;

    /// Makes a partial result of one packet's outputs, of which there may be none.
    fn fold(
        &self,
        items: Items<'_, Self::Input>,
        context: &Context,
    ) -> impl Future<Output = Result<Self::Output, BoxError>> + Send;

    /// Combines a group: neighbouring partial results, at least one, in item order.
    fn combine(
        &self,
        group: Vec<Self::Output>,
        context: &Context,
    ) -> impl Future<Output = Result<Self::Output, BoxError>> + Send;

    /// Where it runs: [`Execution::Async`] by default.
    fn execution(&self) -> Execution {
        Execution::Async
    }
}
