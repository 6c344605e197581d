//! The reductions, each of which leaves one value.

use super::closures::{Collect, Count, FoldFn, TryReduceFn};
use super::{One, Pipeline, Unreduced};
use crate::core::error::BoxError;
use crate::stage::kernel::User;
use crate::stage::{Combine, Data};

impl<I: Data, O: Data, S> Pipeline<I, O, S> {
    /// Combines all items into one value, like rayon's `reduce`.
    ///
    /// `operator` should be associative; it need not be commutative, since values combine in item
    /// order. `identity` gives the result of empty input, and should be neutral: it may be combined
    /// with the first item of any packet.
    ///
    /// The tree's shape follows from the input's length, the packet size and the fan-in
    /// alone: the same input gives the same bits, floating point too, however many workers ran.
    ///
    /// ```
    /// use catchment::Pipeline;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let joined = Pipeline::new().map(|n: u64| n.to_string()).reduce(String::new, |a, b| a + &b);
    /// assert_eq!(joined.run(1..=3).await?, "123");
    /// assert_eq!(joined.run([]).await?, "");
    /// # Ok(()) }
    /// ```
    pub fn reduce<ID, OP>(self, identity: ID, operator: OP) -> Pipeline<I, O, One>
    where
        S: Unreduced,
        ID: Fn() -> O + Send + Sync + 'static,
        OP: Fn(O, O) -> O + Send + Sync + 'static,
    {
        self.reduce_by(TryReduceFn::new(identity, move |a, b| Ok(operator(a, b))))
    }

    /// Like [`reduce`](Self::reduce), for an operator that may fail.
    ///
    /// ```
    /// use catchment::{Pipeline, Stage, permanent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let sum = Pipeline::new()
    ///     .map(|n: u8| n)
    ///     .with(Stage::new().packet_size(1))
    ///     .try_reduce(|| 0, |a, b| a.checked_add(b).ok_or_else(|| permanent("more than 255")));
    /// assert_eq!(sum.run([100, 100]).await?, 200);
    /// assert!(sum.run([200, 100]).await.is_err());
    /// # Ok(()) }
    /// ```
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

    /// Collects all items into a list, in input order. The list has to fit in memory and in one message of the backend.
    ///
    /// ```
    /// use catchment::Pipeline;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let squares = Pipeline::new().map(|n: u64| n * n).collect();
    /// assert_eq!(squares.run(1..=3).await?, [1, 4, 9]);
    /// # Ok(()) }
    /// ```
    pub fn collect(self) -> Pipeline<I, Vec<O>, One>
    where
        S: Unreduced,
    {
        self.reduce_by(Collect::new())
    }

    /// Counts the items.
    ///
    /// ```
    /// use catchment::Pipeline;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let odd = Pipeline::new().filter(|n: &u64| n % 2 == 1).count();
    /// assert_eq!(odd.run(1..=5).await?, 3);
    /// # Ok(()) }
    /// ```
    pub fn count(self) -> Pipeline<I, u64, One>
    where
        S: Unreduced,
    {
        self.reduce_by(Count::new())
    }

    /// Adds a reduction with state of its own, which combines a whole group at once.
    ///
    /// ```
    /// use catchment::{BoxError, Combine, Context, Items, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// struct Largest;
    ///
    /// impl Combine for Largest {
    ///     type Input = u64;
    ///     type Output = Option<u64>;
    ///
    ///     fn identity(&self) -> Option<u64> {
    ///         None
    ///     }
    ///
    ///     async fn fold(&self, items: Items<'_, u64>, _: &Context) -> Result<Option<u64>, BoxError> {
    ///         Ok(items.max())
    ///     }
    ///
    ///     async fn combine(
    ///         &self,
    ///         group: Vec<Option<u64>>,
    ///         _: &Context,
    ///     ) -> Result<Option<u64>, BoxError> {
    ///         Ok(group.into_iter().flatten().max())
    ///     }
    /// }
    ///
    /// let largest = Pipeline::new().combine(Largest);
    /// assert_eq!(largest.run([3, 7, 5]).await?, Some(7));
    /// assert_eq!(largest.run([]).await?, None);
    /// # Ok(()) }
    /// ```
    pub fn combine<C>(self, combine: C) -> Pipeline<I, C::Output, One>
    where
        S: Unreduced,
        C: Combine<Input = O>,
    {
        self.reduce_by(User(combine))
    }
}
