//! Reductions by key, as kernels of the engine: a packet's items are folded into a table, and a group's tables are merged.

use std::hash::Hash;
use std::marker::PhantomData;

use super::hash::Hashed;
use super::merge::merge;
use super::table::{Map, Table};
use crate::core::error::BoxError;
use crate::stage::kernel::{CombineKernel, MapKernel};
use crate::stage::{Combine, Context, Data, Emitter, Execution, Items, Progress};

/// What is done with the items of one key.
pub(super) trait PerKey: Send + Sync + 'static {
    type Item: Data;
    type Value: Data;

    /// The value of a key after one more item.
    fn step(&self, value: Option<Self::Value>, item: Self::Item) -> Result<Self::Value, BoxError>;

    /// Combines two values of a key, the earlier one first.
    fn merge(&self, earlier: Self::Value, later: Self::Value) -> Result<Self::Value, BoxError>;
}

/// A reduction of the items of each key.
pub(super) struct ByKey<K, F, P> {
    key: F,
    per_key: P,
    types: PhantomData<fn() -> K>,
}

impl<K, F, P> ByKey<K, F, P> {
    pub(super) fn new(key: F, per_key: P) -> Self {
        Self {
            key,
            per_key,
            types: PhantomData,
        }
    }
}

impl<K, F, P> CombineKernel for ByKey<K, F, P>
where
    K: Data + Ord + Hash,
    P: PerKey,
    F: Fn(&P::Item) -> K + Send + Sync + 'static,
{
    type Input = P::Item;
    type Output = Table<K, P::Value>;

    fn identity(&self) -> Self::Output {
        Table::new(vec![Map::default()])
    }

    async fn fold(&self, items: Items<'_, P::Item>, _: &Context) -> Result<Self::Output, BoxError> {
        let mut map = Map::default();
        items.fold_while((), |(), item| {
            let place = map.entry(Hashed::new((self.key)(&item))).or_insert(None);
            *place = Some(self.per_key.step(place.take(), item)?);
            Ok::<(), BoxError>(())
        })?;
        Ok(Table::new(vec![map]))
    }

    async fn combine(
        &self,
        group: Vec<Self::Output>,
        _: &Context,
    ) -> Result<Self::Output, BoxError> {
        merge(group, |earlier, later| self.per_key.merge(earlier, later))
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

/// `reduce` and `try_reduce` of each key.
pub(super) struct ReduceEach<T, ID, OP> {
    pub(super) identity: ID,
    pub(super) operator: OP,
    pub(super) types: PhantomData<fn() -> T>,
}

impl<T, ID, OP> PerKey for ReduceEach<T, ID, OP>
where
    T: Data,
    ID: Fn() -> T + Send + Sync + 'static,
    OP: Fn(T, T) -> Result<T, BoxError> + Send + Sync + 'static,
{
    type Item = T;
    type Value = T;

    fn step(&self, value: Option<T>, item: T) -> Result<T, BoxError> {
        (self.operator)(value.unwrap_or_else(&self.identity), item)
    }

    fn merge(&self, earlier: T, later: T) -> Result<T, BoxError> {
        (self.operator)(earlier, later)
    }
}

/// `fold` of each key.
pub(super) struct FoldEach<T, A, ID, STEP, MERGE> {
    pub(super) identity: ID,
    pub(super) step: STEP,
    pub(super) merge: MERGE,
    pub(super) types: PhantomData<fn(T) -> A>,
}

impl<T, A, ID, STEP, MERGE> PerKey for FoldEach<T, A, ID, STEP, MERGE>
where
    T: Data,
    A: Data,
    ID: Fn() -> A + Send + Sync + 'static,
    STEP: Fn(A, T) -> A + Send + Sync + 'static,
    MERGE: Fn(A, A) -> A + Send + Sync + 'static,
{
    type Item = T;
    type Value = A;

    fn step(&self, value: Option<A>, item: T) -> Result<A, BoxError> {
        Ok((self.step)(value.unwrap_or_else(&self.identity), item))
    }

    fn merge(&self, earlier: A, later: A) -> Result<A, BoxError> {
        Ok((self.merge)(earlier, later))
    }
}

/// A user's [`Combine`], by key: it gets all items of a key in a packet at once, and all values of a key in a group.
pub(super) struct CombineByKey<K, F, C> {
    pub(super) key: F,
    pub(super) combine: C,
    pub(super) types: PhantomData<fn() -> K>,
}

impl<K, F, C> CombineKernel for CombineByKey<K, F, C>
where
    K: Data + Ord + Hash,
    C: Combine,
    F: Fn(&C::Input) -> K + Send + Sync + 'static,
{
    type Input = C::Input;
    type Output = Table<K, C::Output>;

    fn identity(&self) -> Self::Output {
        Table::new(vec![Map::default()])
    }

    async fn fold(
        &self,
        items: Items<'_, C::Input>,
        context: &Context,
    ) -> Result<Self::Output, BoxError> {
        let mut by_key: Map<K, Vec<C::Input>> = Map::default();
        for item in items {
            let place = by_key.entry(Hashed::new((self.key)(&item))).or_insert(None);
            place.get_or_insert_default().push(item);
        }
        let mut map = Map::with_capacity_and_hasher(by_key.len(), Default::default());
        for (key, values) in by_key {
            let values = values.unwrap_or_default();
            // Which item of the packet is at work, the function has no part in.
            let (left, progress) = (values.len(), Progress::default());
            let values = &mut values.into_iter();
            let items = Items {
                values,
                left,
                progress: &progress,
            };
            map.insert(key, Some(self.combine.fold(items, context).await?));
        }
        Ok(Table::new(vec![map]))
    }

    async fn combine(
        &self,
        group: Vec<Self::Output>,
        context: &Context,
    ) -> Result<Self::Output, BoxError> {
        let mut by_key: Map<K, Vec<C::Output>> = Map::default();
        for map in group.into_iter().flat_map(Table::maps) {
            for (key, value) in map.iter() {
                let place = by_key.entry(key.clone()).or_insert(None);
                place.get_or_insert_default().extend(value.clone());
            }
        }
        let mut map = Map::with_capacity_and_hasher(by_key.len(), Default::default());
        for (key, values) in by_key {
            let values = values.unwrap_or_default();
            map.insert(key, Some(self.combine.combine(values, context).await?));
        }
        Ok(Table::new(vec![map]))
    }

    fn execution(&self) -> Execution {
        self.combine.execution()
    }
}

/// Makes items of a table: its pairs, in the order of their keys.
pub(super) struct Spread<K, V>(PhantomData<fn(K, V)>);

impl<K, V> Spread<K, V> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K: Data + Ord + Hash, V: Data> MapKernel for Spread<K, V> {
    type Input = Table<K, V>;
    type Output = (K, V);

    const NAME: &'static str = "group_by";
    const MAY_FAIL: bool = false;

    fn map(
        &self,
        table: Table<K, V>,
        _: &Context,
        output: &mut Emitter<'_, (K, V)>,
    ) -> Result<(), BoxError> {
        output.extend(table.into_sorted());
        Ok(())
    }
}
