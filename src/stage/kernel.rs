//! A stage's function as the engine runs it. The builder's closures implement these traits
//! directly, with the fast paths that only they can promise; a user's [`Map`] or [`Combine`] is
//! wrapped in [`User`], which has none of them.

use std::future::Future;

use super::{Combine, Context, Data, Emitter, Execution, Items, Map};
use crate::core::error::BoxError;
use crate::core::ready::ready;

/// A CPU-bound function of a map stage. The methods it shares with [`Map`] are documented there.
pub(crate) trait MapKernel: Send + Sync + 'static {
    type Input: Data;
    type Output: Data;

    /// The method of the builder that adds it.
    const NAME: &'static str;

    /// Whether it may fail other than by a panic.
    const MAY_FAIL: bool = true;

    fn map(
        &self,
        item: Self::Input,
        context: &Context,
        output: &mut Emitter<'_, Self::Output>,
    ) -> Result<(), BoxError>;

    /// Bulk form of `map` for functions that never fail and ignore the context. Returns `false`, consuming nothing, if
    /// this function is not of that kind. One that does not make one output of each item adds the number of outputs of
    /// each to `counts`, once the item is done.
    fn map_all(
        &self,
        _items: Items<'_, Self::Input>,
        _outputs: &mut Vec<Self::Output>,
        _counts: &mut Vec<u32>,
    ) -> bool {
        false
    }
}

/// An asynchronous function of a map stage.
pub(crate) trait AsyncKernel: Send + Sync + 'static {
    type Input: Data;
    type Output: Data;

    /// The method of the builder that adds it.
    const NAME: &'static str;

    fn map(
        &self,
        item: Self::Input,
        context: &Context,
        output: &mut Emitter<'_, Self::Output>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// A reduction. The methods it shares with [`Combine`] are documented there.
pub(crate) trait CombineKernel: Send + Sync + 'static {
    type Input: Data;
    type Output: Data;

    fn identity(&self) -> Self::Output;

    fn fold(
        &self,
        items: Items<'_, Self::Input>,
        context: &Context,
    ) -> impl Future<Output = Result<Self::Output, BoxError>> + Send;

    fn combine(
        &self,
        group: Vec<Self::Output>,
        context: &Context,
    ) -> impl Future<Output = Result<Self::Output, BoxError>> + Send;

    fn execution(&self) -> Execution;

    /// Whether `fold` finishes one item before pulling the next, so that an error or panic can be
    /// attributed to the last item pulled.
    fn folds_stepwise(&self) -> bool {
        false
    }

    /// Whether it may read its context.
    fn looks_at_context(&self) -> bool {
        true
    }
}

/// A user's [`Map`] or [`Combine`], of which nothing is known beyond the public trait.
pub(crate) struct User<F>(pub(crate) F);

impl<M: Map> MapKernel for User<M> {
    type Input = M::Input;
    type Output = M::Output;

    const NAME: &'static str = "stage";

    fn map(
        &self,
        item: M::Input,
        context: &Context,
        output: &mut Emitter<'_, M::Output>,
    ) -> Result<(), BoxError> {
        ready(self.0.map(item, context, output))
    }
}

impl<M: Map> AsyncKernel for User<M> {
    type Input = M::Input;
    type Output = M::Output;

    const NAME: &'static str = "stage";

    fn map(
        &self,
        item: M::Input,
        context: &Context,
        output: &mut Emitter<'_, M::Output>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        self.0.map(item, context, output)
    }
}

impl<C: Combine> CombineKernel for User<C> {
    type Input = C::Input;
    type Output = C::Output;

    fn identity(&self) -> C::Output {
        self.0.identity()
    }

    fn fold(
        &self,
        items: Items<'_, C::Input>,
        context: &Context,
    ) -> impl Future<Output = Result<C::Output, BoxError>> + Send {
        self.0.fold(items, context)
    }

    fn combine(
        &self,
        group: Vec<C::Output>,
        context: &Context,
    ) -> impl Future<Output = Result<C::Output, BoxError>> + Send {
        self.0.combine(group, context)
    }

    fn execution(&self) -> Execution {
        self.0.execution()
    }
}
