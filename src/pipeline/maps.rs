//! The stages that work on items, one after the other.

use std::future::Future;

use super::closures::{Async, FilterFn, FilterMapFn, FlatMapFn, MapFn, TryMapFn};
use super::{Pipeline, State, Unreduced};
use crate::core::error::BoxError;
use crate::stage::kernel::User;
use crate::stage::{Context, Data, Execution, Map};

impl<I: Data, O: Data, S: State> Pipeline<I, O, S> {
    /// Adds a pure, CPU-bound function. It runs on threads for blocking work, one item of a packet
    /// at a time, so that heartbeats never starve. After a reduction it finishes the one value.
    ///
    /// A panic fails the attempt; see [`try_map`](Self::try_map) for functions that may fail.
    ///
    /// ```
    /// use catchment::Pipeline;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let doubled = Pipeline::new().map(|n: i64| n * 2).collect();
    /// assert_eq!(doubled.run([1, 2, 3]).await?, [2, 4, 6]);
    /// # Ok(()) }
    /// ```
    pub fn map<U, F>(self, function: F) -> Pipeline<I, U, S::Mapped>
    where
        U: Data,
        F: Fn(O) -> U + Send + Sync + 'static,
    {
        self.map_by(MapFn::new(function))
    }

    /// Like [`map`](Self::map), for a function that may fail. An error fails this attempt at the item,
    /// which is tried again unless the error is marked by [`permanent`](crate::permanent). Other items
    /// of its packet are not affected.
    ///
    /// Mark every error that repeating cannot help, such as that of a text which is no number. Without the mark such an
    /// item has all of its [attempts](crate::Stage::attempts) before it fails or is left out, and the run waits for them: up
    /// to 0.75 seconds by default, 15 in a deployment.
    ///
    /// Accepts any error that `?` converts into `Box<dyn Error>`: error types, `String`, `&str`.
    ///
    /// ```
    /// use catchment::{Error, Pipeline, permanent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let sum = Pipeline::new()
    ///     .try_map(|text: String| text.parse::<u64>().map_err(permanent))
    ///     .reduce(|| 0, |a, b| a + b);
    /// assert_eq!(sum.run(["1".to_owned(), "2".to_owned()]).await?, 3);
    /// let error = sum.run(["1".to_owned(), "two".to_owned()]).await.unwrap_err();
    /// assert!(matches!(error, Error::Failed { .. }));
    /// # Ok(()) }
    /// ```
    pub fn try_map<U, E, F>(self, function: F) -> Pipeline<I, U, S::Mapped>
    where
        U: Data,
        E: Into<BoxError> + 'static,
        F: Fn(O) -> Result<U, E> + Send + Sync + 'static,
    {
        self.map_by(TryMapFn::new(move |item: O, _: &Context| function(item)))
    }

    /// Like [`try_map`](Self::try_map), for a function that needs its [`Context`].
    ///
    /// ```
    /// use catchment::Pipeline;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let numbered = Pipeline::new()
    ///     .try_map_with(|word: String, context| match context.item() {
    ///         Some(index) => Ok(format!("{index}: {word}")),
    ///         None => Err("not an item of the input"),
    ///     })
    ///     .collect();
    /// assert_eq!(numbered.run(["a".to_owned(), "b".to_owned()]).await?, ["0: a", "1: b"]);
    /// # Ok(()) }
    /// ```
    pub fn try_map_with<U, E, F>(self, function: F) -> Pipeline<I, U, S::Mapped>
    where
        U: Data,
        E: Into<BoxError> + 'static,
        F: Fn(O, &Context) -> Result<U, E> + Send + Sync + 'static,
    {
        self.map_by(TryMapFn::new(function))
    }

    /// Adds an asynchronous, I/O-bound function. The items of one packet run concurrently, up to the
    /// stage's [`concurrency`](crate::Stage::concurrency). It may fail like that of [`try_map`](Self::try_map).
    ///
    /// ```
    /// use catchment::Pipeline;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let sizes = Pipeline::new()
    ///     .then(|path: String| async move { tokio::fs::metadata(path).await.map(|file| file.len()) })
    ///     .reduce(|| 0, |a, b| a + b);
    /// assert!(sizes.run(["Cargo.toml".to_owned(), "README.md".to_owned()]).await? > 0);
    /// # Ok(()) }
    /// ```
    pub fn then<U, E, Fut, F>(self, function: F) -> Pipeline<I, U, S::Mapped>
    where
        U: Data,
        E: Into<BoxError> + 'static,
        Fut: Future<Output = Result<U, E>> + Send + 'static,
        F: Fn(O) -> Fut + Send + Sync + 'static,
    {
        self.then_by(Async::new(move |item: O, _: Context| function(item)))
    }

    /// Like [`then`](Self::then), for a function that needs its [`Context`]: the run's id and the
    /// item's index are an idempotency key for side effects.
    ///
    /// ```
    /// use catchment::Pipeline;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let keys = Pipeline::new()
    ///     .then_with(|cents: u64, context| async move {
    ///         let key = format!("{}/{:?}", context.run(), context.item());
    ///         charge(&key, cents).await.map(|()| cents)
    ///     })
    ///     .reduce(|| 0, |a, b| a + b);
    /// assert_eq!(keys.run([250, 499]).await?, 749);
    /// # async fn charge(_key: &str, _cents: u64) -> std::io::Result<()> { Ok(()) }
    /// # Ok(()) }
    /// ```
    pub fn then_with<U, E, Fut, F>(self, function: F) -> Pipeline<I, U, S::Mapped>
    where
        U: Data,
        E: Into<BoxError> + 'static,
        Fut: Future<Output = Result<U, E>> + Send + 'static,
        F: Fn(O, Context) -> Fut + Send + Sync + 'static,
    {
        self.then_by(Async::new(function))
    }

    /// Yields any number of values per item, like [`Iterator::flat_map`]. They stay in the item's packet, in order.
    /// After a reduction, the values become items again (one packet) and can be reduced again.
    ///
    /// ```
    /// use catchment::Pipeline;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let words = Pipeline::new()
    ///     .flat_map(|line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    ///     .collect();
    /// assert_eq!(words.run(["a b".to_owned(), "c".to_owned()]).await?, ["a", "b", "c"]);
    /// # Ok(()) }
    /// ```
    pub fn flat_map<V, F>(self, function: F) -> Pipeline<I, V::Item>
    where
        V: IntoIterator + 'static,
        V::Item: Data,
        F: Fn(O) -> V + Send + Sync + 'static,
    {
        let pipeline: Pipeline<I, V::Item, S::Mapped> = self.map_by(FlatMapFn::new(function));
        pipeline.retyped()
    }

    /// Adds a map stage with state of its own. [`Map`] has an example with state.
    ///
    /// ```
    /// use catchment::{BoxError, Context, Emitter, Map, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// struct Scale(f64);
    ///
    /// impl Map for Scale {
    ///     type Input = f64;
    ///     type Output = f64;
    ///
    ///     async fn map(
    ///         &self,
    ///         item: f64,
    ///         _: &Context,
    ///         output: &mut Emitter<'_, f64>,
    ///     ) -> Result<(), BoxError> {
    ///         output.push(item * self.0);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let scaled = Pipeline::new().stage(Scale(0.5)).collect();
    /// assert_eq!(scaled.run([1.0, 3.0]).await?, [0.5, 1.5]);
    /// # Ok(()) }
    /// ```
    pub fn stage<M>(self, map: M) -> Pipeline<I, M::Output, S::Mapped>
    where
        M: Map<Input = O>,
    {
        match map.execution() {
            Execution::Async => self.then_by(User(map)),
            Execution::Blocking => self.map_by(User(map)),
        }
    }

    /// Keeps the items for which `keep` returns true, like [`Iterator::filter`]. An item that is left out still
    /// counts as processed.
    ///
    /// ```
    /// use catchment::Pipeline;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let even = Pipeline::new().filter(|n: &u64| n % 2 == 0).collect();
    /// assert_eq!(even.run(1..=5).await?, [2, 4]);
    /// # Ok(()) }
    /// ```
    pub fn filter<F>(self, keep: F) -> Pipeline<I, O, S::Mapped>
    where
        S: Unreduced,
        F: Fn(&O) -> bool + Send + Sync + 'static,
    {
        self.map_by(FilterFn::new(keep))
    }

    /// Maps and filters in one stage, like [`Iterator::filter_map`].
    ///
    /// ```
    /// use catchment::Pipeline;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let numbers = Pipeline::new().filter_map(|text: String| text.parse::<u64>().ok()).collect();
    /// assert_eq!(numbers.run(["1".to_owned(), "two".to_owned()]).await?, [1]);
    /// # Ok(()) }
    /// ```
    pub fn filter_map<U, F>(self, function: F) -> Pipeline<I, U, S::Mapped>
    where
        S: Unreduced,
        U: Data,
        F: Fn(O) -> Option<U> + Send + Sync + 'static,
    {
        self.map_by(FilterMapFn::new(function))
    }
}
