//! The destination of a packet's outputs: values for the next stage, a partial result, or nothing.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use super::together::{Patience, Together};
use crate::core::error::BoxError;
use crate::packet::codec::{self, Form, Payload};
use crate::stage::kernel::CombineKernel;
use crate::stage::{Context, Data, Execution, Items, Progress};
use async_trait::async_trait;
use futures::FutureExt;

/// Turns the outputs of one packet, in item order, into the value that is sent on.
#[async_trait]
pub(crate) trait Sink<O: Send + 'static>: Send + Sync {
    async fn take(
        &self,
        outputs: Vec<O>,
        context: &Context,
        form: Form,
        progress: &Progress,
    ) -> Result<Payload, SinkError>;

    /// Like `take`, for a group's packets in one message. `ends` has the end of each packet's outputs; `whole` says whether
    /// they are a whole group's.
    async fn take_together(
        &self,
        outputs: Vec<O>,
        ends: &[usize],
        whole: bool,
        context: &Context,
        form: Form,
        progress: &Progress,
    ) -> Result<Together, SinkError> {
        let _ = (outputs, ends, whole, context, form, progress);
        Ok(Together::Apart(Vec::new()))
    }

    /// Whether `take_together` can combine a whole group.
    fn combines(&self) -> bool {
        false
    }

    /// Where it runs after an asynchronous stage, which decodes its items on the runtime as well. After a
    /// CPU-bound one it runs on that stage's thread.
    fn execution(&self) -> Execution {
        Execution::Async
    }

    /// Whether a panic can be attributed to the output begun last.
    fn steps(&self) -> bool {
        false
    }
}

pub(crate) struct SinkError {
    pub(crate) error: BoxError,
    /// Whether it can be attributed to the output begun last.
    pub(crate) at_output: bool,
}

impl SinkError {
    fn whole(error: impl Into<BoxError>) -> Self {
        Self {
            error: error.into(),
            at_output: false,
        }
    }
}

/// Another map stage follows: the values are sent on as a list.
pub(crate) struct Encode;

#[async_trait]
impl<O: Data> Sink<O> for Encode {
    async fn take(
        &self,
        outputs: Vec<O>,
        _: &Context,
        form: Form,
        _: &Progress,
    ) -> Result<Payload, SinkError> {
        codec::encode(outputs, form, "a packet's outputs").map_err(SinkError::whole)
    }
}

/// The pipeline ends here with its one value.
pub(crate) struct Only;

#[async_trait]
impl<O: Data> Sink<O> for Only {
    async fn take(
        &self,
        mut outputs: Vec<O>,
        _: &Context,
        form: Form,
        _: &Progress,
    ) -> Result<Payload, SinkError> {
        match (outputs.len(), outputs.pop()) {
            (1, Some(value)) => codec::encode(value, form, "the result").map_err(SinkError::whole),
            (count, _) => Err(SinkError::whole(crate::core::error::permanent(format!(
                "the stage that finishes the result must make one value of it, and made {count}"
            )))),
        }
    }
}

/// The pipeline has no reduction: only the number of items processed counts.
pub(crate) struct Discard;

#[async_trait]
impl<O: Data> Sink<O> for Discard {
    async fn take(
        &self,
        _: Vec<O>,
        _: &Context,
        form: Form,
        _: &Progress,
    ) -> Result<Payload, SinkError> {
        codec::encode((), form, "nothing").map_err(SinkError::whole)
    }
}

/// A reduction follows: the outputs are folded into one partial result right here.
pub(crate) struct Fold<C>(pub(crate) Arc<C>);

impl<C: CombineKernel> Fold<C> {
    async fn fold(
        &self,
        values: &mut std::vec::IntoIter<C::Input>,
        count: usize,
        context: &Context,
        progress: &Progress,
    ) -> Result<C::Output, SinkError> {
        let items = Items {
            values,
            left: count,
            progress,
        };
        let partial = self.0.fold(items, context).await;
        partial.map_err(|error| SinkError {
            error,
            at_output: self.0.folds_stepwise(),
        })
    }

    /// Folds each packet of the group. If `whole`, may stop early when folding is slow, returning the partials so far.
    async fn fold_each(
        &self,
        outputs: Vec<C::Input>,
        ends: &[usize],
        whole: bool,
        context: &Context,
        progress: &Progress,
    ) -> Result<Vec<C::Output>, SinkError> {
        let mut partials = Vec::with_capacity(ends.len());
        let count = outputs.len();
        let mut values = outputs.into_iter();
        let mut begin = 0;
        let patience = Patience::new();
        for (place, end) in ends.iter().enumerate() {
            // The start of a fold does not belong to any item.
            progress.pause();
            let partial = self.fold(&mut values, end - begin, context, progress).await;
            partials.push(partial?);
            begin = *end;
            // A fold need not have taken all of its items.
            let left = values.len().saturating_sub(count - end);
            values.by_ref().take(left).for_each(drop);
            if whole && patience.is_over_at(place) {
                break;
            }
        }
        // Nor does the rest.
        progress.pause();
        Ok(partials)
    }
}

#[async_trait]
impl<C: CombineKernel> Sink<C::Input> for Fold<C> {
    async fn take(
        &self,
        outputs: Vec<C::Input>,
        context: &Context,
        form: Form,
        progress: &Progress,
    ) -> Result<Payload, SinkError> {
        let count = outputs.len();
        let mut values = outputs.into_iter();
        let partial = self.fold(&mut values, count, context, progress).await?;
        codec::encode(partial, form, "a partial result").map_err(SinkError::whole)
    }

    async fn take_together(
        &self,
        outputs: Vec<C::Input>,
        ends: &[usize],
        whole: bool,
        context: &Context,
        form: Form,
        progress: &Progress,
    ) -> Result<Together, SinkError> {
        let what = "a partial result";
        let partials = self
            .fold_each(outputs, ends, whole, context, progress)
            .await?;
        if !whole || partials.len() < ends.len() {
            let encode = |partial| codec::encode(partial, form, what);
            let each: crate::core::error::Result<_> = partials.into_iter().map(encode).collect();
            return each.map(Together::Apart).map_err(SinkError::whole);
        }
        let sent = |partial| codec::sent(partial, form, what);
        let partials: crate::core::error::Result<Vec<_>> = partials.into_iter().map(sent).collect();
        let partials = partials.map_err(SinkError::whole)?;
        // A reduction that fails does so at its own stage.
        let combine = AssertUnwindSafe(self.0.combine(partials, context));
        let value = match combine.catch_unwind().await {
            Ok(Ok(value)) => codec::encode(value, form, what).ok(),
            Ok(Err(_)) | Err(_) => None,
        };
        Ok(value.map_or(Together::Apart(Vec::new()), Together::Whole))
    }

    fn combines(&self) -> bool {
        // An async reduction might block here, and one that reads its context would see the map stage.
        self.0.execution() == Execution::Blocking && !self.0.looks_at_context()
    }

    fn execution(&self) -> Execution {
        self.0.execution()
    }

    fn steps(&self) -> bool {
        self.0.folds_stepwise()
    }
}
