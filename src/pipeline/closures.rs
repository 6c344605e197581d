//! The builder's closures as kernels, with the fast paths that the engine takes for them.

use std::future::Future;
use std::marker::PhantomData;

use crate::core::error::BoxError;
use crate::stage::kernel::{AsyncKernel, CombineKernel, MapKernel};
use crate::stage::{Context, Data, Emitter, Execution, Items};

/// A closure with its input and output types. `fn(I) -> O` keeps it `Send` and `Sync`
/// whatever those types are.
pub(crate) struct Closure<F, I, O>(F, PhantomData<fn(I) -> O>);

macro_rules! closure {
    ($($name:ident),*) => {$(
        pub(crate) struct $name<F, I, O>(Closure<F, I, O>);
        impl<F, I, O> $name<F, I, O> {
            pub(crate) fn new(function: F) -> Self {
                Self(Closure(function, PhantomData))
            }
        }
    )*};
}
closure!(MapFn, TryMapFn, FilterMapFn, FlatMapFn, Async);

impl<F, I: Data, O: Data> MapKernel for MapFn<F, I, O>
where
    F: Fn(I) -> O + Send + Sync + 'static,
{
    type Input = I;
    type Output = O;

    const NAME: &'static str = "map";
    const MAY_FAIL: bool = false;

    fn map(&self, item: I, _: &Context, output: &mut Emitter<'_, O>) -> Result<(), BoxError> {
        output.push(self.0.0(item));
        Ok(())
    }

    fn map_all(&self, items: Items<'_, I>, outputs: &mut Vec<O>, _: &mut Vec<u32>) -> bool {
        items.map_into(outputs, &self.0.0);
        true
    }
}

impl<F, I: Data, O: Data, E: Into<BoxError>> MapKernel for TryMapFn<F, I, (O, E)>
where
    F: Fn(I, &Context) -> Result<O, E> + Send + Sync + 'static,
    E: 'static,
{
    type Input = I;
    type Output = O;

    const NAME: &'static str = "try_map";

    fn map(&self, item: I, context: &Context, output: &mut Emitter<'_, O>) -> Result<(), BoxError> {
        output.push(self.0.0(item, context).map_err(Into::into)?);
        Ok(())
    }
}

impl<F, I: Data, O: Data> MapKernel for FilterMapFn<F, I, O>
where
    F: Fn(I) -> Option<O> + Send + Sync + 'static,
{
    type Input = I;
    type Output = O;

    const NAME: &'static str = "filter_map";
    const MAY_FAIL: bool = false;

    fn map(&self, item: I, _: &Context, output: &mut Emitter<'_, O>) -> Result<(), BoxError> {
        output.extend(self.0.0(item));
        Ok(())
    }

    fn map_all(&self, items: Items<'_, I>, outputs: &mut Vec<O>, counts: &mut Vec<u32>) -> bool {
        items.map_into(counts, |item| {
            let output = self.0.0(item);
            let count = u32::from(output.is_some());
            if let Some(output) = output {
                outputs.push(output);
            }
            count
        });
        true
    }
}

impl<F, I: Data, V> MapKernel for FlatMapFn<F, I, V>
where
    F: Fn(I) -> V + Send + Sync + 'static,
    V: IntoIterator + 'static,
    V::Item: Data,
{
    type Input = I;
    type Output = V::Item;

    const NAME: &'static str = "flat_map";
    const MAY_FAIL: bool = false;

    fn map(&self, item: I, _: &Context, output: &mut Emitter<'_, V::Item>) -> Result<(), BoxError> {
        output.extend(self.0.0(item));
        Ok(())
    }

    fn map_all(
        &self,
        items: Items<'_, I>,
        outputs: &mut Vec<V::Item>,
        counts: &mut Vec<u32>,
    ) -> bool {
        items.map_into(counts, |item| {
            let before = outputs.len();
            outputs.extend(self.0.0(item));
            let count = outputs.len() - before;
            u32::try_from(count).unwrap_or(u32::MAX)
        });
        true
    }
}

impl<F, I: Data, O: Data, Fut, E> AsyncKernel for Async<F, I, (Fut, O, E)>
where
    F: Fn(I, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    type Input = I;
    type Output = O;

    const NAME: &'static str = "then";

    fn map(
        &self,
        item: I,
        context: &Context,
        output: &mut Emitter<'_, O>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        let future = self.0.0(item, context.clone());
        async move {
            output.push(future.await.map_err(Into::into)?);
            Ok(())
        }
    }
}

/// A predicate borrows its item, so it cannot be a [`Closure`].
pub(crate) struct FilterFn<F, I>(F, PhantomData<fn(I)>);

impl<F, I> FilterFn<F, I> {
    pub(crate) fn new(keep: F) -> Self {
        Self(keep, PhantomData)
    }
}

impl<F, I: Data> MapKernel for FilterFn<F, I>
where
    F: Fn(&I) -> bool + Send + Sync + 'static,
{
    type Input = I;
    type Output = I;

    const NAME: &'static str = "filter";
    const MAY_FAIL: bool = false;

    fn map(&self, item: I, _: &Context, output: &mut Emitter<'_, I>) -> Result<(), BoxError> {
        if self.0(&item) {
            output.push(item);
        }
        Ok(())
    }

    fn map_all(&self, items: Items<'_, I>, outputs: &mut Vec<I>, counts: &mut Vec<u32>) -> bool {
        items.map_into(counts, |item| {
            let keep = self.0(&item);
            if keep {
                outputs.push(item);
            }
            u32::from(keep)
        });
        true
    }
}

/// Passes items on: the map stage of a pipeline that begins with a reduction.
pub(crate) struct Identity<T>(PhantomData<fn(T)>);

impl<T> Identity<T> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Data> MapKernel for Identity<T> {
    type Input = T;
    type Output = T;

    const NAME: &'static str = "map";
    const MAY_FAIL: bool = false;

    fn map(&self, item: T, _: &Context, output: &mut Emitter<'_, T>) -> Result<(), BoxError> {
        output.push(item);
        Ok(())
    }

    fn map_all(&self, items: Items<'_, T>, outputs: &mut Vec<T>, _: &mut Vec<u32>) -> bool {
        items.map_into(outputs, |item| item);
        true
    }
}

/// `try_reduce`, and `reduce` with an operator that never fails.
pub(crate) struct TryReduceFn<T, ID, OP> {
    identity: ID,
    operator: OP,
    types: PhantomData<fn(T) -> T>,
}

impl<T, ID, OP> TryReduceFn<T, ID, OP> {
    pub(crate) fn new(identity: ID, operator: OP) -> Self {
        Self {
            identity,
            operator,
            types: PhantomData,
        }
    }
}

impl<T: Data, ID, OP> CombineKernel for TryReduceFn<T, ID, OP>
where
    ID: Fn() -> T + Send + Sync + 'static,
    OP: Fn(T, T) -> Result<T, BoxError> + Send + Sync + 'static,
{
    type Input = T;
    type Output = T;

    fn identity(&self) -> T {
        (self.identity)()
    }

    async fn fold(&self, items: Items<'_, T>, _: &Context) -> Result<T, BoxError> {
        items.fold_while(self.identity(), &self.operator)
    }

    async fn combine(&self, group: Vec<T>, _: &Context) -> Result<T, BoxError> {
        let mut group = group.into_iter();
        let first = group.next().unwrap_or_else(|| self.identity());
        group.try_fold(first, &self.operator)
    }

    fn folds_stepwise(&self) -> bool {
        true
    }

    fn looks_at_context(&self) -> bool {
        false
    }

    fn execution(&self) -> Execution {
        Execution::Blocking
    }
}

/// `fold`: reduces to another type.
pub(crate) struct FoldFn<T, A, ID, S, M> {
    identity: ID,
    step: S,
    merge: M,
    types: PhantomData<fn(T) -> A>,
}

impl<T, A, ID, S, M> FoldFn<T, A, ID, S, M> {
    pub(crate) fn new(identity: ID, step: S, merge: M) -> Self {
        Self {
            identity,
            step,
            merge,
            types: PhantomData,
        }
    }
}

impl<T: Data, A: Data, ID, S, M> CombineKernel for FoldFn<T, A, ID, S, M>
where
    ID: Fn() -> A + Send + Sync + 'static,
    S: Fn(A, T) -> A + Send + Sync + 'static,
    M: Fn(A, A) -> A + Send + Sync + 'static,
{
    type Input = T;
    type Output = A;

    fn identity(&self) -> A {
        (self.identity)()
    }

    async fn fold(&self, items: Items<'_, T>, _: &Context) -> Result<A, BoxError> {
        Ok(items.fold(self.identity(), &self.step))
    }

    async fn combine(&self, group: Vec<A>, _: &Context) -> Result<A, BoxError> {
        let whole = group.into_iter().reduce(&self.merge);
        Ok(whole.unwrap_or_else(|| self.identity()))
    }

    fn folds_stepwise(&self) -> bool {
        true
    }

    fn looks_at_context(&self) -> bool {
        false
    }

    fn execution(&self) -> Execution {
        Execution::Blocking
    }
}

/// `collect`: every output, in input order.
pub(crate) struct Collect<T>(PhantomData<fn(T)>);

impl<T> Collect<T> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Data> CombineKernel for Collect<T> {
    type Input = T;
    type Output = Vec<T>;

    fn identity(&self) -> Vec<T> {
        Vec::new()
    }

    async fn fold(&self, items: Items<'_, T>, _: &Context) -> Result<Vec<T>, BoxError> {
        let mut all = Vec::new();
        items.map_into(&mut all, |item| item);
        Ok(all)
    }

    async fn combine(&self, group: Vec<Vec<T>>, _: &Context) -> Result<Vec<T>, BoxError> {
        Ok(group.into_iter().flatten().collect())
    }

    fn looks_at_context(&self) -> bool {
        false
    }

    fn execution(&self) -> Execution {
        Execution::Blocking
    }
}

/// `count`: the number of outputs.
pub(crate) struct Count<T>(PhantomData<fn(T)>);

impl<T> Count<T> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Data> CombineKernel for Count<T> {
    type Input = T;
    type Output = u64;

    fn identity(&self) -> u64 {
        0
    }

    async fn fold(&self, items: Items<'_, T>, _: &Context) -> Result<u64, BoxError> {
        Ok(items.count() as u64)
    }

    async fn combine(&self, group: Vec<u64>, _: &Context) -> Result<u64, BoxError> {
        Ok(group.into_iter().sum())
    }

    fn looks_at_context(&self) -> bool {
        false
    }

    fn execution(&self) -> Execution {
        Execution::Blocking
    }
}

/// The reduction of a pipeline without one: its packets count their items and carry no value.
pub(crate) struct Tally;

impl CombineKernel for Tally {
    type Input = ();
    type Output = ();

    fn identity(&self) {}

    async fn fold(&self, _: Items<'_, ()>, _: &Context) -> Result<(), BoxError> {
        Ok(())
    }

    async fn combine(&self, _: Vec<()>, _: &Context) -> Result<(), BoxError> {
        Ok(())
    }

    fn execution(&self) -> Execution {
        Execution::Async
    }
}
