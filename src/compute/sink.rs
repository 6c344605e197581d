//! The destination of a packet's outputs: values for the next stage, a partial result, or nothing.

use std::sync::Arc;

use super::group::GroupSink;
use crate::core::error::BoxError;
use crate::packet::codec::{self, Form, Payload};
use crate::stage::kernel::CombineKernel;
use crate::stage::{Context, Data, Execution, Items, Progress};
use async_trait::async_trait;

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

    /// Its reduction of a whole group's outputs, if it has one that a CPU-bound function's thread may run.
    fn group(&self) -> Option<&dyn GroupSink<O>> {
        None
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
    pub(super) fn whole(error: impl Into<BoxError>) -> Self {
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
    pub(super) async fn fold(
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

    fn group(&self) -> Option<&dyn GroupSink<C::Input>> {
        // An async reduction might block here, and one that reads its context would see the map stage.
        let allows = self.0.execution() == Execution::Blocking && !self.0.looks_at_context();
        allows.then_some(self as &dyn GroupSink<C::Input>)
    }

    fn execution(&self) -> Execution {
        self.0.execution()
    }

    fn steps(&self) -> bool {
        self.0.folds_stepwise()
    }
}
