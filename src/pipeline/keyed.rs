//! Reductions of the items of each key: [`Pipeline::group_by`], and what may follow it.
//!
//! The engine sees a reduction like any other. Its partial results are tables ([`table`]), which are maps of the user's own
//! types as long as nothing leaves the process. The map stage that follows begins with a function that makes pairs of the
//! table ([`reduction::Spread`]).

mod groups;
mod hash;
mod merge;
mod reduction;
mod table;

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use self::reduction::{ByKey, CombineByKey, FoldEach, PerKey, ReduceEach, Spread};
use self::table::Table;
use super::{Keyed, Pipeline, Unreduced};
use crate::compute::map::Chain;
use crate::core::error::BoxError;
use crate::stage::kernel::CombineKernel;
use crate::stage::{Combine, Data};

pub use groups::Groups;
pub(super) use table::Table as Values;

/// Items of type `O` with keys of type `K`, about to be reduced for each key: made by [`Pipeline::group_by`].
#[must_use = "a pipeline that is grouped needs a reduction: `reduce`, `fold`, `count`, `collect` or `combine`"]
pub struct Grouped<I, O, K, F> {
    pipeline: Pipeline<I, O>,
    key: F,
    keys: PhantomData<fn() -> K>,
}

impl<I, O, K, F> fmt::Debug for Grouped<I, O, K, F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut grouped = formatter.debug_struct("Grouped");
        grouped
            .field("pipeline", &self.pipeline)
            .finish_non_exhaustive()
    }
}

impl<I: Data, O: Data, S> Pipeline<I, O, S> {
    /// Groups items by a key, so that the reduction that follows reduces the items of each key by themselves.
    ///
    /// After that reduction the pipeline carries pairs of key and value, which can be mapped, filtered, reduced and grouped
    /// again: inside one process in the order of the keys. If nothing follows, the answer is [`Groups`].
    ///
    /// Each item counts once, and a key's items are combined in their order. The key should follow from the item alone.
    ///
    /// ```
    /// use catchment::Pipeline;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let words = Pipeline::new()
    ///     .flat_map(|line: String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    ///     .group_by(|word| word.clone())
    ///     .count();
    /// let lines = ["drop by drop", "drop"].map(String::from);
    /// assert_eq!(words.run(lines.clone()).await?.get(&"drop".to_owned()).await?, Some(3));
    ///
    /// let frequent = words.filter(|(_, count)| *count > 1).map(|(word, _)| word).collect();
    /// assert_eq!(frequent.run(lines).await?, ["drop"]);
    /// # Ok(()) }
    /// ```
    ///
    /// A deployment writes the values of all keys as one partial result, which has to fit in a message of its backend.
    pub fn group_by<K, F>(self, key: F) -> Grouped<I, O, K, F>
    where
        S: Unreduced,
        K: Data + Ord + Hash,
        F: Fn(&O) -> K + Send + Sync + 'static,
    {
        Grouped {
            pipeline: self.retyped(),
            key,
            keys: PhantomData,
        }
    }
}

impl<I, O, K, F> Grouped<I, O, K, F>
where
    I: Data,
    O: Data,
    K: Data + Ord + Hash,
    F: Fn(&O) -> K + Send + Sync + 'static,
{
    /// Combines the items of each key into one value, as [`Pipeline::reduce`] does it with all items.
    ///
    /// ```
    /// # use catchment::Pipeline;
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let largest = Pipeline::new().group_by(|n: &u64| n % 2).reduce(|| 0, u64::max);
    /// let largest: Vec<(u64, u64)> = largest.run(1..=6).await?.collect().await?;
    /// assert_eq!(largest, [(0, 6), (1, 5)]);
    /// # Ok(()) }
    /// ```
    pub fn reduce<ID, OP>(self, identity: ID, operator: OP) -> Pipeline<I, (K, O), Keyed>
    where
        ID: Fn() -> O + Send + Sync + 'static,
        OP: Fn(O, O) -> O + Send + Sync + 'static,
    {
        self.each(ReduceEach {
            identity,
            operator: move |earlier, later| Ok(operator(earlier, later)),
            types: PhantomData,
        })
    }

    /// Like [`reduce`](Self::reduce), for an operator that may fail.
    ///
    /// ```
    /// # use catchment::{Pipeline, permanent};
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let sums = Pipeline::new()
    ///     .group_by(|n: &u8| n % 2)
    ///     .try_reduce(|| 0, |a, b| a.checked_add(b).ok_or_else(|| permanent("more than 255")));
    /// assert_eq!(sums.run([100, 101, 102]).await?.get(&0).await?, Some(202));
    /// assert!(sums.run([200, 101, 100]).await.is_err());
    /// # Ok(()) }
    /// ```
    pub fn try_reduce<E, ID, OP>(self, identity: ID, operator: OP) -> Pipeline<I, (K, O), Keyed>
    where
        E: Into<BoxError> + 'static,
        ID: Fn() -> O + Send + Sync + 'static,
        OP: Fn(O, O) -> Result<O, E> + Send + Sync + 'static,
    {
        self.each(ReduceEach {
            identity,
            operator: move |earlier, later| operator(earlier, later).map_err(Into::into),
            types: PhantomData,
        })
    }

    /// Reduces the items of each key to another type, as [`Pipeline::fold`] does it with all items.
    ///
    /// ```
    /// # use catchment::Pipeline;
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let totals = Pipeline::new()
    ///     .group_by(|(customer, _): &(String, u64)| customer.clone())
    ///     .fold(|| 0, |sum, (_, amount)| sum + amount, |a, b| a + b);
    /// let orders = [("ann", 5), ("bob", 2), ("ann", 7)].map(|(who, amount)| (who.to_owned(), amount));
    /// assert_eq!(totals.run(orders).await?.get(&"ann".to_owned()).await?, Some(12));
    /// # Ok(()) }
    /// ```
    pub fn fold<A, ID, STEP, MERGE>(
        self,
        identity: ID,
        step: STEP,
        merge: MERGE,
    ) -> Pipeline<I, (K, A), Keyed>
    where
        A: Data,
        ID: Fn() -> A + Send + Sync + 'static,
        STEP: Fn(A, O) -> A + Send + Sync + 'static,
        MERGE: Fn(A, A) -> A + Send + Sync + 'static,
    {
        self.each(FoldEach {
            identity,
            step,
            merge,
            types: PhantomData,
        })
    }

    /// Collects the items of each key into a list, in input order.
    ///
    /// ```
    /// # use catchment::Pipeline;
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let parities = Pipeline::new().group_by(|n: &u64| n % 2).collect().run(1..=5).await?;
    /// assert_eq!(parities.get(&1).await?, Some(vec![1, 3, 5]));
    /// # Ok(()) }
    /// ```
    pub fn collect(self) -> Pipeline<I, (K, Vec<O>), Keyed> {
        let push = |mut all: Vec<O>, item| {
            all.push(item);
            all
        };
        let append = |mut all: Vec<O>, mut more: Vec<O>| {
            all.append(&mut more);
            all
        };
        self.fold(Vec::new, push, append)
    }

    /// Counts the items of each key.
    ///
    /// ```
    /// # use catchment::Pipeline;
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let parities = Pipeline::new().group_by(|n: &u64| n % 2).count().run(1..=5).await?;
    /// assert_eq!(parities.get(&1).await?, Some(3));
    /// # Ok(()) }
    /// ```
    pub fn count(self) -> Pipeline<I, (K, u64), Keyed> {
        self.fold(|| 0, |count, _| count + 1, |some, more| some + more)
    }

    /// Reduces the items of each key by a [`Combine`]. Its `fold` gets the items of one key in a packet, and its `combine`
    /// the values of one key in a group.
    ///
    /// ```
    /// use catchment::{BoxError, Combine, Context, Items, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// struct Largest;
    ///
    /// impl Combine for Largest {
    ///     type Input = u64;
    ///     type Output = u64;
    ///
    ///     fn identity(&self) -> u64 {
    ///         0
    ///     }
    ///
    ///     async fn fold(&self, items: Items<'_, u64>, _: &Context) -> Result<u64, BoxError> {
    ///         Ok(items.max().unwrap_or(0))
    ///     }
    ///
    ///     async fn combine(&self, group: Vec<u64>, _: &Context) -> Result<u64, BoxError> {
    ///         Ok(group.into_iter().max().unwrap_or(0))
    ///     }
    /// }
    ///
    /// let largest = Pipeline::new().group_by(|n: &u64| n % 2).combine(Largest).run([3, 8, 5]).await?;
    /// assert_eq!(largest.get(&1).await?, Some(5));
    /// # Ok(()) }
    /// ```
    pub fn combine<C>(self, combine: C) -> Pipeline<I, (K, C::Output), Keyed>
    where
        C: Combine<Input = O>,
    {
        let Self { pipeline, key, .. } = self;
        pipeline.reduce_to_table(CombineByKey {
            key,
            combine,
            types: PhantomData,
        })
    }

    fn each<P>(self, per_key: P) -> Pipeline<I, (K, P::Value), Keyed>
    where
        P: PerKey<Item = O>,
    {
        let Self { pipeline, key, .. } = self;
        pipeline.reduce_to_table(ByKey::new(key, per_key))
    }
}

impl<I: Data, O: Data> Pipeline<I, O> {
    fn reduce_to_table<K, V, C>(self, combine: C) -> Pipeline<I, (K, V), Keyed>
    where
        K: Data + Ord + Hash,
        V: Data,
        C: CombineKernel<Input = O, Output = Table<K, V>>,
    {
        let mut pipeline = self.reduce_by(combine);
        let spread = Chain::in_turn(Arc::new(Spread::<K, V>::new()));
        pipeline.draft.spreads_by(spread);
        pipeline.retyped()
    }
}
